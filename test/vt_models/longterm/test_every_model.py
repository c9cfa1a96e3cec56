# SPDX-License-Identifier: Apache-2.0
"""The long-term tracker above every registered model's miniature, descriptions included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vt_models import UpdatePolicy, get_spec, list_models
from vt_models.export.parity import synthetic_sequence
from vt_models.longterm import LongTermSettings, LongTermTracker, State, create_long_term_tracker
from vt_models.longterm.calibration import Calibration
from vt_models.tracker.tracker import Tracker

torch = pytest.importorskip("torch", reason="needs the training packages")

from vt_models import create_miniature
from vt_models.runtime.torch_engine import TorchEngine

pytestmark = pytest.mark.train

EVERY_FRAME = UpdatePolicy("every frame", 1, -1.0)
FRAMES, DARK = 8, 18


class Watched:
    """An engine that remembers when its templates were set."""

    def __init__(self, engine: TorchEngine) -> None:
        self._engine = engine
        self.first = self.dynamic = self.searches = 0
        self.texts: list[Any] = []

    def set_template(self, template: Any) -> None:
        self.first += 1
        self._engine.set_template(template)

    def set_dynamic(self, template: Any) -> None:
        self.dynamic += 1
        self._engine.set_dynamic(template)

    def set_text(self, ids: Any, mask: Any) -> None:
        self.texts.append(mask.sum())
        self._engine.set_text(ids, mask)

    def search(self, crop: Any, mask: Any = None) -> Any:
        self.searches += 1
        return self._engine.search(crop, mask)


def pieces(text: str) -> tuple[np.ndarray, np.ndarray]:
    """A word's piece is its length."""
    lengths = [len(word) for word in text.split()]
    ids = np.zeros(40, np.int64)
    ids[: len(lengths)] = lengths
    return ids, np.arange(40) < len(lengths)


@pytest.fixture(params=list_models())
def watched(request: pytest.FixtureRequest) -> tuple[Tracker, Watched]:
    """Each model's tracker, with a second template (where it has one) due in every frame."""
    spec = get_spec(request.param)
    torch.manual_seed(5)
    net = create_miniature(spec.name)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    engine = Watched(TorchEngine(net, spec, "cpu"))
    return Tracker(spec, engine, pieces if spec.language else None, EVERY_FRAME), engine


def video() -> list[np.ndarray]:
    """Ordinary frames, a covered lens, ordinary frames again."""
    frames = synthetic_sequence(FRAMES).frames
    return [*frames, *[np.zeros_like(frames[0]) + n % 2 for n in range(DARK)], *frames[:3]]


def begin(tracker: Tracker, frame: np.ndarray, settings: LongTermSettings) -> LongTermTracker:
    always_sure = Calibration(bias=60.0)  # the weights are random
    target = create_long_term_tracker(tracker, settings, always_sure)
    text = "the second car" if tracker.spec.language else None
    target.init(frame, synthetic_sequence(1).boxes[0], text, stamp=0.0)
    return target


def test_long_term_tracker_covered_lens_is_lost_without_false_tracking(
    watched: tuple[Tracker, Watched],
) -> None:
    tracker, engine = watched
    settings = LongTermSettings(searches=3)
    frames = video()
    target = begin(tracker, frames[0], settings)
    states = []
    for number, frame in enumerate(frames[1:], start=1):
        before, renewed = engine.searches, engine.dynamic
        was = target.state
        estimate = target.update(frame, number / 30)
        states.append(estimate.state)
        assert estimate.network_calls == engine.searches - before <= 3
        assert (estimate.box is None) == (estimate.state is State.LOST)
        assert 0.0 <= estimate.score <= 1.0
        if estimate.box is not None:
            assert np.isfinite(estimate.box).all()
            assert np.linalg.eigvalsh(estimate.covariance).min() > 0
        assert engine.dynamic == renewed or was is State.TRACKING, "only while TRACKING"
    dark = states[FRAMES - 1 : FRAMES - 1 + DARK]
    assert State.TRACKING not in dark
    assert dark[-1] is State.LOST
    assert engine.first == 1, "the first template is never overwritten"
    assert engine.texts == ([3] if tracker.spec.language else [])
    if tracker.spec.dynamic_template:
        assert engine.dynamic > 0


def test_template_updates_false_never_replaces_the_dynamic_template(
    watched: tuple[Tracker, Watched],
) -> None:
    tracker, engine = watched
    frames = video()[:FRAMES]
    settings = LongTermSettings(template_updates=False)
    target = begin(tracker, frames[0], settings)
    for frame in frames[1:]:
        target.update(frame)
    assert (engine.first, engine.dynamic) == (1, 0)
