# SPDX-License-Identifier: Apache-2.0
"""What holds for every registered model; a new one is tested by being registered.

Whole networks are looked at without values (on torch's meta device); what has to run runs on the
model's miniature: the same modules with few random weights, so only the plumbing is tested here.
"""

from __future__ import annotations

import dataclasses
import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from vt_models import InputError, UpdatePolicy, get_spec, list_models
from vt_models.export.parity import synthetic_sequence
from vt_models.registry import find_update_policy
from vt_models.tracker.tracker import Tracker

if TYPE_CHECKING:
    from pathlib import Path

    from vt_models.registry import ModelSpec

torch = pytest.importorskip("torch", reason="needs the training packages")

from vt_models import create_miniature, create_model
from vt_models.export.complexity import measure
from vt_models.export.exporter import export_model
from vt_models.nets import LanguageNet, SiameseNet
from vt_models.nets.builders import has_miniature, registered
from vt_models.runtime.onnx_engine import OnnxEngine
from vt_models.runtime.torch_engine import TorchEngine

OFTEN = UpdatePolicy("often", 3, -1.0)


@pytest.fixture(scope="module", params=list_models())
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    """Each model in turn."""
    return get_spec(request.param)


@pytest.fixture(scope="module")
def miniature(spec: ModelSpec) -> Any:
    """Its miniature with weights that do something."""
    torch.manual_seed(5)
    net = create_miniature(spec.name)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return net


@pytest.fixture(scope="module")
def exported(spec: ModelSpec, miniature: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature's export; that it appears at all means that it equals the torch network."""
    return export_model(miniature, spec, tmp_path_factory.mktemp("exports") / spec.name)


@pytest.fixture(params=["torch", "onnxruntime"])
def tracker(
    request: pytest.FixtureRequest, spec: ModelSpec, miniature: Any, exported: Path
) -> Tracker:
    """A tracker on either backend whose dynamic template, where there is one, changes often."""
    return make_tracker(request.param, spec, miniature, exported)


def make_tracker(backend: str, spec: ModelSpec, miniature: Any, exported: Path) -> Tracker:
    if backend == "torch":
        return Tracker(spec, TorchEngine(miniature, spec, "cpu"), words(spec), OFTEN)
    engine = OnnxEngine(exported, "cpu")
    return Tracker(engine.spec, engine, words(spec), OFTEN)


def words(spec: ModelSpec) -> Any:
    """A tokenizer of its own: a word's piece is its length."""

    def tokenizer(text: str) -> tuple[np.ndarray, np.ndarray]:
        lengths = [len(word) for word in text.split()][: spec.text_length]
        ids = np.zeros(spec.text_length, np.int64)
        ids[: len(lengths)] = lengths
        return ids, np.arange(spec.text_length) < len(lengths)

    return tokenizer if spec.language else None


def test_the_whole_network_follows_the_protocol(spec: ModelSpec) -> None:
    with torch.device("meta"):
        net: Any = create_model(spec.name)
    assert isinstance(net, LanguageNet if spec.language else SiameseNet)
    assert not net.training
    expected = ("box", "score") if spec.decoder == "box" else ("score_map", "box_map")
    assert tuple(net.output_names) == expected


def test_measure_gives_the_numbers_that_are_written_down(spec: ModelSpec) -> None:
    found = measure(spec)
    assert found.parameters > 100_000
    assert found.frame_gmacs > 0.01
    assert found.target_gmacs > 0.0
    written = json.loads((files("vt_models") / "complexity.json").read_text(encoding="utf-8"))
    remedy = "run `python -m vt_models.export.complexity`"
    assert list(written) == list_models(), remedy
    assert dataclasses.asdict(found) == pytest.approx(written[spec.name], rel=1e-9), remedy


def test_a_miniature_has_the_same_protocol_and_fewer_weights(
    spec: ModelSpec, miniature: Any
) -> None:
    with torch.device("meta"):
        net: Any = create_model(spec.name)
    assert type(net) is type(miniature)
    assert miniature.state_names == net.state_names
    assert miniature.output_names == net.output_names
    if has_miniature(registered()[spec.name]):
        count = sum(parameter.numel() for parameter in miniature.parameters())
        assert count < 0.2 * sum(parameter.numel() for parameter in net.parameters())
        assert count < 1_500_000


def test_it_tracks_on_both_backends_with_a_confidence(tracker: Tracker) -> None:
    frames, boxes = synthetic_sequence(8)
    tracker.init(frames[0], boxes[0])
    for frame in frames[1:]:
        estimate = tracker.update(frame)
        assert np.isfinite(estimate.box).all()
        assert estimate.box[2] > 0
        assert estimate.box[3] > 0
        assert 0.0 <= estimate.score <= 1.0


def test_a_second_init_equals_a_fresh_tracker(
    tracker: Tracker,
    request: pytest.FixtureRequest,
    spec: ModelSpec,
    miniature: Any,
    exported: Path,
) -> None:
    frames, boxes = synthetic_sequence(8)
    tracker.init(frames[-1], (20.0, 30.0, 60.0, 80.0), "a red car" if spec.language else None)
    for frame in frames[:5]:
        tracker.update(frame)
    tracker.init(frames[0], boxes[0])
    used = [tracker.update(frame) for frame in frames[1:]]
    fresh = make_tracker(request.node.callspec.params["tracker"], spec, miniature, exported)
    fresh.init(frames[0], boxes[0])
    assert used == [fresh.update(frame) for frame in frames[1:]]


def test_a_refused_init_keeps_the_target(tracker: Tracker) -> None:
    frames, boxes = synthetic_sequence(3)
    tracker.init(frames[0], boxes[0])
    expected = tracker.locate(frames[1], boxes[0])
    with pytest.raises(InputError):
        tracker.init(frames[1], (np.nan, 0.0, 10.0, 10.0))
    with pytest.raises(InputError):
        tracker.init(frames[1].astype(np.float32), boxes[1])
    assert tracker.locate(frames[1], boxes[0]) == expected


def test_text_is_for_models_with_language(tracker: Tracker, spec: ModelSpec) -> None:
    frames, boxes = synthetic_sequence(2)
    if not spec.language:
        with pytest.raises(InputError, match="takes no text"):
            tracker.init(frames[0], boxes[0], "a red car")
        return
    found = []
    for text in (None, "a red car", "the second horse from the left"):
        tracker.init(frames[0], boxes[0], text)
        found.append(tracker.update(frames[1]))
    assert found[0] != found[1]
    assert found[1] != found[2]


def test_update_presets_can_be_chosen_by_name(spec: ModelSpec) -> None:
    names = [policy.name for policy in spec.update_presets]
    assert len(set(names)) == len(names)
    assert "default" not in names
    assert spec.dynamic_template or not names
    for policy in spec.update_presets:
        assert find_update_policy(spec, policy.name) is policy
    if spec.dynamic_template:
        for policy in (spec.update_policy, *spec.update_presets):
            assert find_update_policy(spec, dataclasses.replace(policy)) == policy
