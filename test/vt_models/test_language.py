# SPDX-License-Identifier: Apache-2.0
"""A text from what is typed to the box, on both backends, with the vocabulary of an export."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from vt_models import InputError, create_tracker, get_spec, list_models
from vt_models.export.parity import synthetic_sequence
from vt_models.runtime.export_directory import TOKENIZER, read_export
from vt_models.tracker.tracker import Estimate, Tracker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

torch = pytest.importorskip("torch", reason="needs the training packages")
pytest.importorskip("tokenizers", reason="needs the library of word pieces")

from vt_models import create_miniature
from vt_models.export.exporter import export_model
from vt_models.runtime.torch_engine import TorchEngine
from vt_models.text import MAX_CHARACTERS, Tokenizer, vocabulary

pytestmark = pytest.mark.train

MODELS = [name for name in list_models() if get_spec(name).language]
BACKENDS = ("torch", "onnxruntime")


@dataclasses.dataclass(frozen=True)
class Model:
    """A miniature that reads its text, and its export."""

    name: str
    net: Any
    directory: Path

    def tracker(self, backend: str) -> Tracker:
        """A new tracker."""
        if backend == "onnxruntime":
            return create_tracker(self.name, self.directory, device="cpu")
        spec = get_spec(self.name)
        engine = TorchEngine(self.net, spec, "cpu")
        return Tracker(spec, engine, Tokenizer.uncased(spec.text_length))


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    net = create_miniature(request.param)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    directory = tmp_path_factory.mktemp("exports") / request.param
    export_model(net, get_spec(request.param), directory, storage="float32")
    return Model(request.param, net, directory)


@pytest.fixture(params=BACKENDS)
def new_tracker(request: pytest.FixtureRequest, model: Model) -> Callable[[], Tracker]:
    return lambda: model.tracker(request.param)


def test_models_with_language_are_there() -> None:
    assert {"pjvlt", "pjvlt_tiny"} <= set(MODELS)


def test_an_export_has_the_vocabulary(model: Model) -> None:
    assert read_export(model.directory).files[TOKENIZER] == vocabulary()


@pytest.mark.parametrize("text", [None, "a white car", "Ünïcode \U0001f4a5 [SEP] " + "word " * 60])
def test_both_backends_track_alike(model: Model, text: str | None) -> None:
    frames, boxes = synthetic_sequence(5)
    torch_tracker, onnx_tracker = (model.tracker(backend) for backend in BACKENDS)

    for tracker in (torch_tracker, onnx_tracker):
        tracker.init(frames[0], boxes[0], text)

    for frame in frames[1:]:
        ours, theirs = torch_tracker.update(frame), onnx_tracker.update(frame)
        assert ours.box == pytest.approx(theirs.box, abs=0.02)
        assert ours.score == pytest.approx(theirs.score, abs=1e-4)


def test_the_text_counts_until_the_next_target(new_tracker: Callable[[], Tracker]) -> None:
    """Its words, not their case; and a box alone leaves nothing of it behind."""
    tracker, fresh = new_tracker(), new_tracker()

    first = follow(tracker, "a white car")
    other = follow(tracker, "the second horse from the left")
    same = follow(tracker, "A WHITE  car")
    alone = follow(tracker, None)

    assert first == same
    assert first != other
    assert alone not in (first, other)
    assert alone == follow(fresh, None)
    assert other == follow(fresh, "the second horse from the left")


@pytest.mark.parametrize("text", ["", "  \n", "\x00", "word " * MAX_CHARACTERS])
def test_a_text_that_says_nothing_or_too_much_keeps_the_target(
    new_tracker: Callable[[], Tracker], text: str
) -> None:
    frames, boxes = synthetic_sequence(2)
    tracker = new_tracker()
    tracker.init(frames[0], boxes[0], "a white car")
    expected = found(tracker.locate(frames[1], boxes[0]))

    with pytest.raises(InputError, match="text"):
        tracker.init(frames[1], boxes[1], text)

    assert tracker.box == boxes[0]
    assert found(tracker.locate(frames[1], boxes[0])) == expected


def follow(tracker: Tracker, text: str | None) -> list[Any]:
    """What a tracker finds in three frames."""
    frames, boxes = synthetic_sequence(4)
    tracker.init(frames[0], boxes[0], text)
    return [found(tracker.update(frame)) for frame in frames[1:]]


def found(estimate: Estimate) -> tuple[Any, float]:
    """Box and score."""
    return estimate.box, estimate.score
