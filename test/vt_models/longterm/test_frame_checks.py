# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import cv2
import numpy as np
import pytest

from vt_models.longterm import LongTermSettings, State, create_long_term_tracker
from vt_models.longterm.appearance import appearance_descriptor
from vt_models.longterm.frame_checks import (
    FrameMonitor,
    FrameQuality,
    frame_similarity,
    frame_statistics,
    subsample,
)

BOX = (60.0, 50.0, 24.0, 24.0)
SETTINGS = LongTermSettings()


@pytest.fixture
def monitor(paint_frame):
    monitor = FrameMonitor()
    monitor.reset(paint_frame(BOX))
    return monitor


def test_monitor_ordinary_frames_are_good(monitor, paint_frame) -> None:
    for number in range(1, 20):
        assert monitor.check(paint_frame(BOX, number), SETTINGS) is FrameQuality.GOOD


def test_monitor_dark_or_covered_frame_is_dark(monitor, paint_frame) -> None:
    frame = paint_frame(BOX, 1)
    noise = np.random.default_rng(0).integers(0, 3, frame.shape, dtype=np.uint8)
    assert monitor.check(noise, SETTINGS) is FrameQuality.DARK
    assert "dark or covered: its grey values deviate by 0." in monitor.reason
    assert "(blind_contrast 5)" in monitor.reason
    gradient = np.zeros_like(frame) + np.linspace(20, 60, frame.shape[1]).astype(np.uint8)[:, None]
    assert monitor.check(gradient + noise // 2, SETTINGS) is FrameQuality.DARK
    assert "less than 0.2 of the usual" in monitor.reason
    assert monitor.check(paint_frame(BOX, 2), SETTINGS) is FrameQuality.GOOD, (
        "uncovered is no other scene"
    )


def test_monitor_repeated_frames_are_frozen_after_the_limit(monitor, paint_frame) -> None:
    frame = paint_frame(BOX, 1)
    monitor.check(frame, SETTINGS)
    seen = [monitor.check(frame.copy(), SETTINGS) for _ in range(12)]
    assert seen == [FrameQuality.REPEATED] * 9 + [FrameQuality.FROZEN] * 3
    assert "12 times by now (frozen_frames 10)" in monitor.reason
    assert monitor.check(paint_frame(BOX, 2), SETTINGS) is FrameQuality.GOOD
    never = LongTermSettings(frozen_frames=0)
    monitor.check(frame, never)
    assert {monitor.check(frame, never) for _ in range(30)} == {FrameQuality.REPEATED}


def test_monitor_quiet_camera_at_rest_is_no_frozen_one(monitor, paint_frame) -> None:
    """Its frames differ by a grey level, too, but never did by more."""
    rng = np.random.default_rng(2)
    still = paint_frame(BOX, 1) // 2 + 20
    monitor.reset(still)
    for _ in range(30):
        frame = still + rng.integers(0, 3, still.shape, dtype=np.uint8)
        assert monitor.check(frame, SETTINGS) is FrameQuality.GOOD


def test_monitor_quiet_camera_at_rest_past_which_something_moved_is_no_frozen_one(
    monitor, paint_frame
) -> None:
    """What moved is gone; the camera's own noise is left, as small as it was."""
    rng = np.random.default_rng(5)
    still = np.full((240, 320, 3), 60, np.uint8)
    still[:, 160:] = 140
    monitor.reset(still)
    for number in range(40):
        frame = still + rng.integers(0, 3, still.shape, dtype=np.uint8)
        if number < 20:
            frame[100:150, 8 * number : 8 * number + 50] = (200, 40, 60)
        assert monitor.check(frame, SETTINGS) is FrameQuality.GOOD, number


def test_monitor_another_scene_is_one_scene_cut(monitor) -> None:
    other = np.zeros((120, 160, 3), np.uint8)
    other[:60], other[60:, :80] = (200, 30, 40), (10, 180, 90)
    other += np.random.default_rng(1).integers(0, 30, other.shape, dtype=np.uint8)
    assert monitor.check(other, SETTINGS) is FrameQuality.SCENE_CUT
    moved = other.copy()
    moved[:, 1:] = other[:, :-1]
    assert monitor.check(moved, SETTINGS) is FrameQuality.GOOD


def test_monitor_covered_lens_with_noise_is_dark_every_time(monitor, paint_frame) -> None:
    rng = np.random.default_rng(3)
    for number in range(1, 6):
        assert monitor.check(paint_frame(BOX, number), SETTINGS) is FrameQuality.GOOD
    for _ in range(12):
        dark = rng.integers(0, 4, paint_frame(BOX, 0).shape, dtype=np.uint8)
        assert monitor.check(dark, SETTINGS) is FrameQuality.DARK


def test_monitor_quieter_scene_after_a_cut_is_not_frozen(monitor, paint_frame) -> None:
    """What is left of a frame's change is judged by the noise of its own scene."""
    rng = np.random.default_rng(4)
    for number in range(1, 6):
        monitor.check(paint_frame(BOX, number), SETTINGS)
    other = rng.integers(0, 30, paint_frame(BOX, 0).shape, dtype=np.uint8)
    other[: len(other) // 2] += np.uint8(200)
    seen = [
        monitor.check(other + rng.integers(0, 3, other.shape, dtype=np.uint8), SETTINGS)
        for _ in range(15)
    ]
    assert seen == [FrameQuality.SCENE_CUT] + [FrameQuality.GOOD] * 14


def test_monitor_view_with_swapped_channels_gives_the_same_result(monitor, paint_frame) -> None:
    frame = cv2.resize(paint_frame(BOX, 1), (700, 500))
    swapped = np.ascontiguousarray(frame[..., ::-1])[..., ::-1]
    one, other = subsample(frame), subsample(swapped)
    np.testing.assert_array_equal(one.grey, other.grey)
    assert frame_similarity(frame_statistics(one), frame_statistics(one)) == pytest.approx(
        1.0, abs=1e-5
    )
    np.testing.assert_allclose(
        appearance_descriptor(frame, BOX), appearance_descriptor(swapped, BOX)
    )
    monitor.check(swapped, SETTINGS)
    assert monitor.check(swapped.copy(), SETTINGS) is not FrameQuality.SCENE_CUT


@pytest.mark.parametrize("size", [(640, 480), (480, 270), (641, 480), (640, 479), (1920, 1080)])
def test_subsample_every_size_has_the_grey_values_of_the_nearest_pixels(size) -> None:
    width, height = size
    frame = np.random.default_rng(6).integers(0, 256, (height, width, 3), dtype=np.uint8)
    step = max(size) // 240
    nearest = cv2.resize(frame, (width // step, height // step), interpolation=cv2.INTER_NEAREST)
    expected = cv2.cvtColor(nearest, cv2.COLOR_RGB2GRAY)
    swapped = np.ascontiguousarray(frame[..., ::-1])[..., ::-1]
    np.testing.assert_array_equal(subsample(frame).grey, expected)
    np.testing.assert_array_equal(subsample(swapped).grey, expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (4, 1), (2, 2), (1, 900), (900, 1)])
def test_monitor_frame_of_few_pixels_is_checked_like_any_other(size) -> None:
    monitor = FrameMonitor()
    frame = np.random.default_rng(7).integers(0, 256, (*size, 3), dtype=np.uint8)
    monitor.reset(frame)
    assert monitor.check(frame.copy(), SETTINGS) is FrameQuality.REPEATED
    monitor.check(255 - frame, SETTINGS)
    assert monitor.check(255 - frame, SETTINGS) is FrameQuality.REPEATED


def test_monitor_frame_that_changes_in_a_row_between_those_of_the_grid_is_another() -> None:
    """Of a camera without noise: what is compared is more than the subsampled grey values."""
    frame = np.random.default_rng(8).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    monitor = FrameMonitor()
    monitor.reset(frame)
    changed = frame.copy()
    changed[100, 101] ^= 255
    assert monitor.check(changed, SETTINGS) is FrameQuality.GOOD
    assert monitor.check(changed.copy(), SETTINGS) is FrameQuality.REPEATED


def test_frame_similarity_of_a_frame_to_itself_shifted_and_to_another_scene() -> None:
    rng = np.random.default_rng(9)
    coarse = rng.integers(0, 256, (2, 18, 32, 3), dtype=np.uint8)
    scene, other = (cv2.resize(each, (648, 480), interpolation=cv2.INTER_CUBIC) for each in coarse)
    now, moved, cut = (
        frame_statistics(subsample(frame))
        for frame in (scene[:, :640], scene[:, 8:], other[:, :640])
    )
    assert frame_similarity(now, moved) > 0.7
    assert frame_similarity(now, cut) < SETTINGS.cut_similarity


def test_monitor_another_size_is_resized_once(monitor, paint_frame) -> None:
    assert monitor.check(paint_frame(None, 1, (100, 100)), SETTINGS) is FrameQuality.RESIZED
    assert monitor.check(paint_frame(None, 2, (100, 100)), SETTINGS) is FrameQuality.GOOD


class RealVideo:
    """The bundled tracker on a real video, from which the camera is then disturbed."""

    def __init__(self, folder, name="otb_Girl", frames=12):
        from vt_models.api import create_tracker  # noqa: PLC0415 - slow to import
        from vt_models.datasets.folder import FolderDataset  # noqa: PLC0415

        cv2.setNumThreads(1)
        self.video = FolderDataset(folder)[FolderDataset(folder).names.index(name)]
        self.other = FolderDataset(folder)[FolderDataset(folder).names.index("tlp_Bike")]
        self.target = create_long_term_tracker(
            create_tracker("asymtrack_lite0", device="cpu", threads=1)
        )
        box = tuple(float(value) for value in self.video.boxes[0])
        self.target.init(self.video.read_frame(0), box)
        for index in range(1, frames):
            assert self.target.update(self.video.read_frame(index)).state is State.TRACKING
        self.next = frames

    def feed(self, frames):
        return [self.target.update(frame).state for frame in frames]


@pytest.fixture
def real_video(shared_dir):
    if not (shared_dir / "sequences" / "otb_Girl").is_dir():
        pytest.skip("no sequences")
    return RealVideo(shared_dir / "sequences")


def covered(frame, number):
    blurred = cv2.GaussianBlur(frame, (0, 0), 40).astype(np.float32)
    noise = np.random.default_rng(number).normal(0, 2, frame.shape)
    return np.clip(0.1 * blurred + (40, 15, 10) + noise, 0, 255).astype(np.uint8)


def disturbed(kind: str, real) -> list[np.ndarray]:
    """Thirty frames after the camera has failed."""
    numbers = range(real.next, real.next + 30)
    if kind == "covered":
        return [covered(real.video.read_frame(number), number) for number in numbers]
    if kind == "black":
        return [np.zeros_like(real.video.read_frame(0)) for _ in numbers]
    if kind == "frozen":
        return [real.video.read_frame(real.next)] * 30
    if kind == "frozen and encoded anew":
        frame, rng = real.video.read_frame(real.next).astype(np.int16), np.random.default_rng(0)
        noise = (rng.integers(-1, 2, frame.shape) for _ in numbers)
        return [np.clip(frame + levels, 0, 255).astype(np.uint8) for levels in noise]
    shape = real.video.read_frame(0).shape
    return [cv2.resize(real.other.read_frame(n), (shape[1], shape[0])) for n in numbers]


LOST_WITHIN = {
    "covered": 16,
    "black": 16,
    "frozen": 11,
    "frozen and encoded anew": 11,
    "cut": 1,
}
"""Frames: coast_frames + 1, frozen_frames + 1, and at once. docs/longterm.md states them."""


@pytest.mark.integration
@pytest.mark.parametrize("kind", LOST_WITHIN)
def test_long_term_tracker_failing_camera_is_lost_in_time_and_redetected_afterwards(
    kind, real_video
) -> None:
    states = real_video.feed(disturbed(kind, real_video))
    limit = LOST_WITHIN[kind]
    assert State.LOST in states[:limit]
    first = states.index(State.LOST)
    assert set(states[first:]) == {State.LOST}, "nothing else may be taken for the target"
    if "frozen" not in kind:
        assert State.TRACKING not in states
    after = range(real_video.next + 30, real_video.next + 50)
    back = real_video.feed([real_video.video.read_frame(n) for n in after])
    assert back[-1] is State.TRACKING
    truth = real_video.video.boxes[after[-1]]
    from vt_models.geometry.boxes import iou  # noqa: PLC0415

    assert float(iou(real_video.target.estimate.box, truth)) >= 0.5
