# SPDX-License-Identifier: Apache-2.0
"""One network at several search sizes, one after another or by need: it exports and tracks."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from vt_models import InputError, WeightsError, get_spec
from vt_models.cli.export import with_search_sizes
from vt_models.export.parity import synthetic_sequence
from vt_models.registry import ModelSpec
from vt_models.runtime.export_directory import read_export
from vt_models.tracker.tracker import Tracker

if TYPE_CHECKING:
    from pathlib import Path

torch = pytest.importorskip("torch", reason="needs the training packages")

from vt_models import create_model
from vt_models.export.exporter import export_model
from vt_models.nets.graphs import Normalise
from vt_models.runtime.onnx_engine import OnnxEngine
from vt_models.runtime.torch_engine import TorchEngine

pytestmark = pytest.mark.train

SPEC = get_spec("asymtrack_nano")


@pytest.fixture(scope="module")
def net() -> Any:
    """Random weights; every cell's box is the nominal one, the score favours the bright."""
    torch.manual_seed(5)
    net = create_model(SPEC.name)
    torch.nn.init.zeros_(net.head.sides.weight)
    torch.nn.init.normal_(net.head.score.weight, std=0.5)
    return net


def assert_tracks_like_torch(engine: OnnxEngine, net: Any, spec: ModelSpec, crop: int) -> None:
    """Over five frames, the last one searched in a crop of this side."""
    assert engine.spec == spec
    trackers = [Tracker(spec, TorchEngine(net, spec, "cpu")), Tracker(engine.spec, engine)]
    frames, boxes = synthetic_sequence(6)
    found = []
    for tracker in trackers:
        tracker.init(frames[0], boxes[0])
        found.append([tracker.update(frame).box for frame in frames[1:]])
        assert tracker.last_search.crop.shape == (crop, crop, 3)
    np.testing.assert_allclose(found[0], found[1], atol=0.05)


@pytest.mark.parametrize("size", [128, 176, 224])
def test_export_at_another_search_size_tracks_like_torch(
    net: Any, tmp_path: Path, size: int
) -> None:
    spec = dataclasses.replace(SPEC, search_size=size, search_factor=size / 64)
    assert SPEC.at_search_size(size) == spec
    engine = OnnxEngine(export_model(net, spec, tmp_path / "export"), "cpu")
    assert_tracks_like_torch(engine, net, spec, crop=size)


def test_export_with_a_narrow_crop_tracks_like_torch(net: Any, tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, narrow_search_size=128, narrow_motion=10, narrow_score=0)
    export = export_model(net, spec, tmp_path / "export")
    engine = OnnxEngine(export, "cpu")
    assert_tracks_like_torch(engine, net, spec, crop=128)
    with pytest.raises(
        InputError, match=r"crop of shape \(160, 160, 3\); this export takes .* with S 128, 192"
    ):
        engine.search(np.zeros((160, 160, 3), np.uint8))

    (export / "search_narrow.onnx").unlink()
    with pytest.raises(WeightsError, match=r"search_narrow\.onnx cannot be read"):
        read_export(export)


@pytest.mark.parametrize(
    ("name", "search", "narrow", "message"),
    [
        ("asymtrack_t", 176, None, "--search-size 176: asymtrack_t takes search crops of 256"),
        ("asymtrack_t", None, 144, "--narrow-search-size 144: asymtrack_t takes search crops of"),
        ("stark_s50", None, 176, "--narrow-search-size 176: stark_s50 takes"),
        ("asymtrack_lite0", 170, None, "--search-size 170: .*a multiple of 16 from 96 to 1024"),
        ("asymtrack_lite0", 0, None, "--search-size 0: .*expected a multiple of 16"),
        ("asymtrack_lite0", 1040, None, "--search-size 1040: .*from 96 to 1024"),
        ("asymtrack_lite0", None, 100, "--narrow-search-size 100: .*a multiple of 16"),
        ("asymtrack_lite0", None, -16, "--narrow-search-size -16: .*from 96 to 1024"),
        ("asymtrack_lite0", 176, 176, "--narrow-search-size 176: .*expected less than"),
    ],
)
def test_search_sizes_that_do_not_fit_are_refused(
    name: str, search: int | None, narrow: int | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        with_search_sizes(get_spec(name), search, narrow)


def test_narrow_search_size_that_does_not_fit_the_stride_makes_no_specification() -> None:
    """So neither an export nor a tracker of it can be made, whoever asks."""
    with pytest.raises(InputError, match="a search crop of 100 pixels; expected a multiple of 16"):
        dataclasses.replace(SPEC, narrow_search_size=100)
    with pytest.raises(InputError, match="a search crop of 100 pixels; expected a multiple of 16"):
        SPEC.at_search_size(100)


def test_search_sizes_of_the_command_line() -> None:
    default = get_spec("asymtrack_lite0")
    assert with_search_sizes(default, None, None) == default
    assert with_search_sizes(default, None, 0).narrow is None
    fast = with_search_sizes(default, 176, None)
    assert (fast.search_size, fast.search_factor, fast.narrow) == (176, 2.75, None)
    both = with_search_sizes(default, 224, 144)
    assert (both.search_factor, both.narrow) == (3.5, default.at_search_size(144))


@pytest.mark.parametrize("size", [128, 176, 192, 224])
def test_nominal_box_is_the_target_s_mean_side_at_any_search_size(net: Any, size: int) -> None:
    spec = dataclasses.replace(SPEC.at_search_size(size), size_calibration=0.0)
    tracker = Tracker(spec, TorchEngine(net, spec, "cpu"))
    frames, _ = synthetic_sequence(2)
    tracker.init(frames[0], (80.0, 60.0, 50.0, 40.0))
    _, _, w, h = tracker.locate(frames[1], (80.0, 60.0, 50.0, 40.0), prior=False).box
    # A window is a whole number of pixels wide.
    assert (w, h) == pytest.approx((math.sqrt(2000),) * 2, rel=0.01)


def test_bytes_as_they_are_are_what_mean_0_and_std_1_in_255_give() -> None:
    crop = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    graph = Normalise(SPEC)
    assert graph.as_it_is
    plain = (crop.permute(0, 3, 1, 2).float() / 255.0 - graph.mean) / graph.std
    torch.testing.assert_close(graph(crop), plain)
    assert not Normalise(get_spec("asymtrack_lite0")).as_it_is
