# SPDX-License-Identifier: Apache-2.0
"""Other people's trackers behind the package's interface."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from vt_models.errors import BackendError, InputError
from vt_models.evaluation import baselines
from vt_models.evaluation.baselines import BASELINES, OpenCvTracker, create_baseline, missing_reason

REPOSITORY = Path(__file__).resolve().parents[3]
BASELINE_WEIGHTS = Path(os.environ.get("VT_SHARED_DIR", REPOSITORY.parent / "shared")) / "peers"


class ScriptedCvTracker:
    """Stands in for a cv2 tracker: finds, loses, finds."""

    def __init__(self):
        self.calls = iter([(True, (1, 2, 3, 4)), (False, (0, 0, 0, 0)), (True, (5, 6, 7, 8))])

    def init(self, frame, box):
        self.frame, self.start = frame, box

    def update(self, _frame):
        return next(self.calls)


def textured_frame(shift: int) -> np.ndarray:
    """A 160 x 120 RGB frame of noise with a bright patch of 30 x 30 at (60 + shift, 40)."""
    frame = np.random.default_rng(0).integers(0, 80, (120, 160, 3), np.uint8)
    patch = np.random.default_rng(1).integers(100, 255, (30, 30, 3), np.uint8)
    frame[40:70, 60 + shift : 90 + shift] = patch
    return frame


def test_a_failure_keeps_the_last_box_with_score_zero():
    baseline = OpenCvTracker(ScriptedCvTracker)
    frame = np.zeros((10, 10, 3), np.uint8)
    baseline.init(frame, (0.0, 0.0, 5.0, 5.0))
    estimates = [baseline.update(frame) for _ in range(3)]
    assert [estimate.box for estimate in estimates] == [(1, 2, 3, 4), (1, 2, 3, 4), (5, 6, 7, 8)]
    assert [estimate.score for estimate in estimates] == [1.0, 0.0, 1.0]


def test_init_rounds_the_box_and_hands_over_bgr():
    made = []
    baseline = OpenCvTracker(lambda: made.append(ScriptedCvTracker()) or made[-1])
    frame = np.zeros((20, 20, 3), np.uint8)
    frame[..., 0] = 255
    baseline.init(frame, (1.6, 2.4, 3.5, 8.8))
    assert made[0].start == (2, 2, 4, 9)
    assert made[0].frame[0, 0].tolist() == [0, 0, 255]


def test_open_cv_tracker_init_resets_everything():
    baseline = OpenCvTracker(ScriptedCvTracker)
    frame = np.zeros((4, 4, 3), np.uint8)
    for _ in range(2):
        baseline.init(frame, (0.0, 0.0, 2.0, 2.0))
        assert baseline.update(frame).box == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("box", "started"),
    [
        ((-500.0, -500.0, 2000.0, 2000.0), (0, 0, 160, 120)),
        ((-8.0, 10.0, 300.0, 20.0), (0, 10, 160, 20)),
        ((-8.0, 10.0, 30.0, 20.0), (-8, 10, 30, 20)),
        ((5.0, 5.0, 0.3, 0.3), (5, 5, 1, 1)),
        ((159.6, 119.7, 0.4, 0.3), (159, 119, 1, 1)),
    ],
)
def test_init_hands_over_no_box_larger_than_the_frame_or_smaller_than_a_pixel(box, started):
    made = []
    baseline = OpenCvTracker(lambda: made.append(ScriptedCvTracker()) or made[-1])
    baseline.init(textured_frame(0), box)
    assert made[0].start == started


@pytest.mark.parametrize("box", [(5, 5, np.nan, 5), (5, 5, 0, 5), (900, 5, 5, 5), (0, 0, 1e9, 9)])
def test_init_refuses_boxes_that_cannot_be(box):
    with pytest.raises(InputError, match="box x="):
        OpenCvTracker(ScriptedCvTracker).init(textured_frame(0), box)


def test_numbers_that_are_not_finite_are_no_find():
    class Broken(ScriptedCvTracker):
        def update(self, _frame):
            return True, (np.nan, 2, 3, 4)

        def getTrackingScore(self):  # noqa: N802 - OpenCV's name
            return np.nan

    for has_score, box in ((False, (5.0, 5.0, 5.0, 5.0)), (True, (5.0, 5.0, 5.0, 5.0))):
        baseline = OpenCvTracker(Broken, has_score)
        baseline.init(textured_frame(0), box)
        estimate = baseline.update(textured_frame(0))
        assert (estimate.box, estimate.score) == (box, 0.0)


def test_what_opencv_cannot_do_is_an_error_of_this_package():
    class Failing(ScriptedCvTracker):
        def update(self, _frame):
            raise cv2.error("assertion failed")

    baseline = OpenCvTracker(Failing)
    baseline.init(textured_frame(0), (5.0, 5.0, 5.0, 5.0))
    with pytest.raises(BackendError, match=r"OpenCV .* failed: assertion failed"):
        baseline.update(textured_frame(0))


def test_update_before_init_is_refused():
    with pytest.raises(InputError, match=r"init\(frame, box\) first"):
        OpenCvTracker(ScriptedCvTracker).update(np.zeros((4, 4, 3), np.uint8))


@pytest.mark.parametrize("name", BASELINES)
def test_each_baseline_follows_a_patch(name):
    reason = missing_reason(name, BASELINE_WEIGHTS)
    if reason is not None:
        pytest.skip(reason)
    baseline = create_baseline(name, BASELINE_WEIGHTS)
    baseline.init(textured_frame(0), (60.0, 40.0, 30.0, 30.0))
    for shift in range(2, 11, 2):
        estimate = baseline.update(textured_frame(shift))
    x, y, w, h = estimate.box
    assert abs(x + w / 2 - 85) < 8
    assert abs(y + h / 2 - 55) < 8
    assert 0.0 <= estimate.score <= 1.0


def test_unknown_baselines_list_the_known_ones():
    with pytest.raises(InputError, match=f"'mosse'; expected one of {', '.join(BASELINES)}"):
        create_baseline("mosse")


@pytest.mark.parametrize("name", ["nanotrack", "nanotrack_v3", "vit"])
def test_missing_files_are_a_reason(name, tmp_path):
    file = BASELINES[name].files[0][1]
    assert file in (missing_reason(name) or "")
    assert f"{tmp_path / file} does not exist" in (missing_reason(name, tmp_path) or "")


def test_damaged_files_are_a_reason(tmp_path):
    (tmp_path / "vittrack.onnx").write_bytes(b"not a network")
    with pytest.raises(BackendError, match="baseline vit"):
        create_baseline("vit", tmp_path)


def test_an_opencv_without_the_tracker_is_a_reason(monkeypatch):
    monkeypatch.setattr(
        baselines, "cv2", type("Bare", (), {"__version__": "4.0", "error": cv2.error})
    )
    assert "OpenCV 4.0 has no TrackerCSRT" in (missing_reason("csrt") or "")


def test_a_tracker_without_a_score_of_its_own_is_sure_while_it_finds_something():
    """OpenCV 5 gives getTrackingScore to every tracker, CSRT's is always 0."""
    try:
        baseline = create_baseline("csrt")
    except BackendError as error:
        pytest.skip(str(error))
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 255, (120, 160, 3), np.uint8)
    baseline.init(frame, (40.0, 40.0, 40.0, 40.0))
    assert baseline.update(frame).score == 1.0
