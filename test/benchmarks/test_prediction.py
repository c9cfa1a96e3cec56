# SPDX-License-Identifier: Apache-2.0
"""Prediction by the streamed protocol, on a target whose motion is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import prediction
from vt_models.datasets.sequence import VideoSequence
from vt_models.registry import get_spec
from vt_models.tracker.tracker import Estimate

FRAMES, STEP = 60, 4.0


class Exact:
    """A short-term tracker that finds a target moving to the right, in whichever frame it is."""

    def __init__(self):
        self.spec, self.calibration, self.updates = get_spec("asymtrack_lite0"), None, True

    def init(self, frame, box, text=None):
        pass

    def update(self, frame):
        number = int(frame[0, 0, 0])
        return Estimate((20.0 + STEP * number, 40.0, 30.0, 30.0), 0.95)

    def locate(self, frame, around, prior=True):  # noqa: ARG002
        return self.update(frame)

    def runner_up(self, chosen):
        pass

    def move_to(self, box):
        pass


def read_frame(number):
    """A textured scene, no two frames alike, with a checked square at the box."""
    frame = np.random.default_rng(5).integers(0, 120, (120, 320, 3), dtype=np.uint8)
    frame += np.random.default_rng(number).integers(0, 12, frame.shape, dtype=np.uint8)
    rows, columns = np.mgrid[0:30, 0:30] // 8
    x = round(20 + STEP * number)
    frame[40:70, x : x + 30] = np.where((rows + columns) % 2, 240, 30)[..., None]
    frame[0, 0, 0] = number
    return frame


@pytest.fixture
def sequence(monkeypatch):
    boxes = [(20.0 + STEP * number, 40.0, 30.0, 30.0) for number in range(FRAMES)]
    frames = [f"{number}.png" for number in range(FRAMES)]
    made = VideoSequence("steady", frames, np.array(boxes))
    monkeypatch.setattr(VideoSequence, "read_frame", lambda _, number: read_frame(number))
    return made


def test_prediction_makes_up_for_the_latency_of_a_steady_target(sequence):
    slow = prediction._stream(Exact(), sequence, 0.066)
    fast = prediction._stream(Exact(), sequence, 0.033)
    assert slow["held"] < fast["held"] < 0.8
    for each in (slow, fast):
        assert each["predicted"] > each["held"] + 0.1
        assert each["gain"] == pytest.approx(each["predicted"] - each["held"])
        assert each["predicted_inside"] >= each["held_inside"]
    assert fast["predicted"] > 0.9
