# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.longterm.motion import CameraMotion, MotionFilter

BOX = (100.0, 80.0, 40.0, 20.0)
NOISE = np.diag((1.0, 1.0, 1.0, 1.0))


def moving(velocity: float, seconds: float, frames: int = 30) -> MotionFilter:
    motion = MotionFilter(BOX, NOISE)
    for index in range(1, frames + 1):
        motion.predict(seconds)
        motion.correct((BOX[0] + velocity * seconds * index, *BOX[1:]), NOISE)
    return motion


def test_filter_learns_a_velocity_in_pixels_a_second() -> None:
    assert moving(60.0, 1 / 30).mean[4] == pytest.approx(60.0, rel=0.05)
    assert moving(60.0, 1 / 10).mean[4] == pytest.approx(60.0, rel=0.05)


@given(st.lists(st.tuples(st.integers(1, 4000), st.integers(1, 4000)), max_size=12))
def test_rescale_through_any_sizes_and_back_changes_nothing(sizes) -> None:
    """A frame of 9 x 36 pixels between others must not leave a target of another size behind."""
    motion = moving(60.0, 1 / 30)
    box, covariance = motion.box, motion.covariance
    there = [(640, 480), *sizes, (640, 480)]
    for (w, h), (next_w, next_h) in pairwise(there):
        motion.rescale(next_w / w, next_h / h)
    assert motion.box == pytest.approx(box)
    np.testing.assert_allclose(motion.covariance, covariance, rtol=1e-6)


def test_predict_over_a_dropped_frame_moves_twice_as_far() -> None:
    one, two = moving(60.0, 1 / 30), moving(60.0, 1 / 30)
    one.predict(2 / 30)
    two.predict(1 / 30)
    assert one.box[0] - two.box[0] == pytest.approx(2.0, abs=0.2)


def test_predict_coasting_comes_to_rest_and_keeps_the_size() -> None:
    motion = moving(60.0, 1 / 30)
    size, start = motion.box[2:], motion.box[0]
    for _ in range(300):
        motion.predict(1 / 30, coasting=True)
    assert motion.box[2:] == pytest.approx(size, rel=0.05)
    assert 20.0 < motion.box[0] - start < 60.0


def test_keep_inside_holds_the_centre_in_the_frame() -> None:
    motion = moving(400.0, 1 / 30)
    for _ in range(60):
        motion.predict(1 / 30, coasting=True)
        motion.keep_inside((240, 320, 3))
    assert motion.mean[0] == 320.0
    assert motion.mean[4] == 0.0


boxes = st.tuples(*[st.floats(-50, 500)] * 2, *[st.floats(1, 300)] * 2)


@given(st.lists(st.tuples(boxes, st.floats(0.001, 2.0), st.booleans()), max_size=20))
def test_filter_any_steps_keep_the_covariance_positive_definite(steps) -> None:
    motion = MotionFilter(BOX, NOISE)
    for box, seconds, is_measured in steps:
        before = np.trace(motion.covariance)
        motion.predict(seconds, coasting=not is_measured)
        assert np.trace(motion.covariance) > before
        if is_measured:
            motion.correct(box, NOISE)
        assert np.isfinite(motion.mean).all()
        assert min(motion.box[2:]) >= 1.0
        assert np.linalg.eigvalsh(motion.covariance).min() > 0


def test_filter_long_run_keeps_the_covariance_symmetric_and_small() -> None:
    motion = MotionFilter(BOX, NOISE)
    wide = np.diag((9.0, 9.0, 30.0, 30.0)) + 0.3
    for index in range(2000):
        motion.predict(1 / 30)
        motion.correct((BOX[0] + index % 7, *BOX[1:]), wide if index % 3 else NOISE)
    np.testing.assert_array_equal(motion.state_covariance, motion.state_covariance.T)
    assert np.linalg.eigvalsh(motion.state_covariance).min() > 0
    assert np.trace(motion.covariance) < 60.0


def plain_kalman(covariance, seconds, noise, coasting=False):
    """The textbook's predict and correct on the covariance alone."""
    kept = np.exp(-seconds / 0.5) if coasting else 1.0
    f = np.eye(8)
    f[:4, 4:] = (0.5 * (1 - kept) if coasting else seconds) * np.eye(4)
    f[4:, 4:] *= kept
    side2 = BOX[2] * BOX[3]
    strength = side2 * np.array((45.0, 45.0, 8.0, 8.0)) ** 2
    g = np.vstack((np.eye(4) * seconds**2 / 2, np.eye(4) * seconds))
    covariance = f @ covariance @ f.T + g @ np.diag(strength) @ g.T
    noise = noise + 1e-3 * np.eye(4)
    gain = covariance[:, :4] @ np.linalg.inv(covariance[:4, :4] + noise)
    return covariance, covariance - gain @ covariance[:4]


@pytest.mark.parametrize("coasting", [False, True])
def test_predict_and_correct_equal_the_textbook(coasting) -> None:
    motion = moving(0.0, 1 / 30, frames=3)
    noise = np.diag((2.0, 3.0, 4.0, 5.0)) + 0.5
    predicted, corrected = plain_kalman(motion.state_covariance.copy(), 0.04, noise, coasting)
    motion.predict(0.04, coasting=coasting)
    np.testing.assert_allclose(motion.state_covariance, predicted, rtol=1e-9)
    motion.correct(motion.box, noise)
    np.testing.assert_allclose(motion.state_covariance, corrected, rtol=1e-6, atol=1e-9)


def test_predict_small_target_keeps_its_size() -> None:
    motion = MotionFilter((10.0, 10.0, 3.0, 4.0), 0.1 * NOISE)
    motion.predict(1 / 30)
    assert motion.box[2:] == pytest.approx((3.0, 4.0))


def textured(shift: float, turn: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(3)
    scene = cv2.resize(rng.integers(0, 255, (60, 90, 3), dtype=np.uint8), (720, 480))
    matrix = cv2.getRotationMatrix2D((360, 240), turn, 1.0)
    matrix[0, 2] -= shift
    return cv2.warpAffine(scene, matrix, (720, 480))[60:420, 100:620]


def test_camera_motion_ignores_the_target() -> None:
    camera = CameraMotion()
    target = (200.0, 150.0, 60.0, 60.0)
    for index in range(4):
        frame = textured(4.0 * index)
        frame[150:210, 200:260] = 255  # the target does not move with the scene
        camera.push(frame[..., 1], 1 / 30, frame.shape[1])
    step = camera.last_step(target)
    assert step is not None
    centre = np.array((230.0, 180.0))
    assert step[:, :2] @ centre + step[:, 2] - centre == pytest.approx((-4.0, 0.0), abs=0.7)
    assert camera.velocity(target) == pytest.approx((-120.0, 0.0), abs=12.0)


def test_camera_motion_without_texture_or_frames_is_none() -> None:
    camera = CameraMotion()
    assert camera.last_step(BOX) is None
    for _ in range(3):
        camera.push(np.full((100, 200), 90, np.uint8), 1 / 30, 200)
    assert camera.last_step(BOX) is None
    assert camera.velocity(BOX) is None


def test_shift_moves_and_scales_the_box() -> None:
    motion = MotionFilter(BOX, NOISE)
    motion.shift(np.array(((2.0, 0.0, 10.0), (0.0, 2.0, -5.0))))
    assert motion.box == pytest.approx((200.0 + 10.0, 160.0 - 5.0, 80.0, 40.0))
