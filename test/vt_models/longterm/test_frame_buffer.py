# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.errors import InputError
from vt_models.longterm import State, create_long_term_tracker
from vt_models.longterm.frame_buffer import (
    FrameBuffer,
    StampNotHeldError,
    catch_up,
)

FRAME = 33_333_333


def test_buffer_drops_old_frames_by_time_and_by_bytes() -> None:
    buffer: FrameBuffer[str] = FrameBuffer(seconds=0.1, max_bytes=1000)
    for index in range(10):
        buffer.push(index * FRAME, f"frame {index}", 10)
    assert [payload for _, payload in buffer.after(-1)] == [f"frame {i}" for i in (6, 7, 8, 9)]
    buffer = FrameBuffer(seconds=10.0, max_bytes=35)
    for index in range(10):
        buffer.push(index * FRAME, f"frame {index}", 10)
    assert (len(buffer), buffer.nbytes, buffer.oldest, buffer.newest) == (
        3,
        30,
        7 * FRAME,
        9 * FRAME,
    )
    buffer.push(10 * FRAME, "large", 99)
    assert (len(buffer), buffer.nbytes) == (1, 99), "the newest is always held"


def test_buffer_jitter_keeps_the_frames_and_a_jump_empties_it() -> None:
    buffer: FrameBuffer[int] = FrameBuffer()
    for index in range(20):
        early = 150_000_000 if index % 5 == 4 else 0
        assert not buffer.push(index * FRAME + 10**9 - early, index, 1)
    assert len(buffer) == 20
    assert buffer.at(19 * FRAME + 850_000_000) == 19, "the frame of an early stamp is held, too"
    assert buffer.newest == 18 * FRAME + 10**9
    stamps = [stamp for stamp, _ in buffer.after(-1)]
    assert stamps == sorted(stamps)
    back = 18 * FRAME + 600_000_000  # the clock is set back by 0.4 s, and stays so
    assert [buffer.push(back + index * FRAME, 20 + index, 1) for index in range(1, 4)].count(True)
    assert all(payload >= 20 for _, payload in buffer.after(-1))
    assert buffer.push(5, 99, 1), "and by more at once"
    assert buffer.after(-1) == [(5, 99)]


def test_buffer_duplicate_stamp_replaces_the_frame() -> None:
    buffer: FrameBuffer[str] = FrameBuffer()
    buffer.push(5, "a", 1)
    buffer.push(5, "b", 1)
    assert (len(buffer), buffer.at(5), buffer.nbytes) == (1, "b", 1)
    buffer.clear()
    assert (len(buffer), buffer.nbytes, buffer.oldest) == (0, 0, None)


def test_buffer_missing_stamp_is_named_in_the_error() -> None:
    buffer: FrameBuffer[str] = FrameBuffer()
    with pytest.raises(StampNotHeldError, match="none has come"):
        buffer.at(1)
    buffer.push(2_500_000_000, "a", 1)
    with pytest.raises(StampNotHeldError, match=r"0\.000000001 is held; 1 are, from 2\.5"):
        buffer.at(1)
    with pytest.raises(InputError, match="greater than 0"):
        FrameBuffer(seconds=0.0)


@given(st.lists(st.tuples(st.integers(0, 10**10), st.integers(0, 500)), max_size=40))
def test_buffer_any_frames_stay_within_the_bounds(frames) -> None:
    buffer: FrameBuffer[int] = FrameBuffer(seconds=1.0, max_bytes=600)
    for index, (stamp, nbytes) in enumerate(frames):
        buffer.push(stamp, index, nbytes)
        held = buffer.after(-1)
        assert held == sorted(held)
        assert held[-1][0] == buffer.newest
        assert len(held) == 1 or (buffer.nbytes <= 600 and held[-1][0] - held[0][0] <= 10**9)


def along(index: int) -> tuple[float, float, float, float]:
    """Where the target is in frame `index`: 3 pixels a frame."""
    return 30.0 + 3.0 * index, 50.0, 24.0, 24.0


@pytest.mark.parametrize("max_frames", [30, 5])
def test_catch_up_half_a_second_late_tracks_to_the_present(
    max_frames, scripted, paint_frame
) -> None:
    """The target moves 45 pixels, nearly twice its size, between the click and its arrival."""
    buffer: FrameBuffer[int] = FrameBuffer()
    for index in range(16):
        buffer.push(index * FRAME, index, 100)

    def decode(index):
        scripted.where = along(index)
        return paint_frame(along(index), index)

    target = create_long_term_tracker(scripted)
    target.init(decode(buffer.at(0)), along(0), stamp=0.0)
    result = catch_up(target, buffer, 0, decode, max_frames=max_frames)
    assert result.stamp == 15 * FRAME
    assert result.frames == min(max_frames, 15)
    assert result.estimate.state is State.TRACKING
    assert result.estimate.box == along(15)


def test_catch_up_tracks_frames_that_arrive_meanwhile(scripted, paint_frame) -> None:
    buffer: FrameBuffer[int] = FrameBuffer()
    buffer.push(0, 0, 1)
    buffer.push(FRAME, 1, 1)
    arrived = iter(range(2, 12))

    def decode(index):
        """The camera brings two frames for each that is tracked, until it pauses."""
        for _ in range(2):
            number = next(arrived, None)
            if number is not None:
                buffer.push(number * FRAME, number, 1)
        scripted.where = along(0)
        return paint_frame(along(0), index)

    target = create_long_term_tracker(scripted)
    target.init(paint_frame(along(0)), along(0))
    result = catch_up(target, buffer, 0, decode, max_frames=8)
    assert result.stamp == 11 * FRAME
    assert result.frames < 11


@pytest.mark.parametrize("max_frames", [20, 1, 0])
def test_catch_up_ends_although_frames_always_come_faster(
    max_frames, scripted, paint_frame
) -> None:
    """A network slower than the camera: there is a newer frame after each one that is tracked."""
    buffer: FrameBuffer[int] = FrameBuffer()
    buffer.push(FRAME, 1, 1)

    def decode(index):
        newest = buffer.after(0)[-1][1]
        assert newest < 80, "it never ends"
        buffer.push((newest + 1) * FRAME, newest + 1, 1)
        scripted.where = along(0)
        return paint_frame(along(0), index)

    target = create_long_term_tracker(scripted)
    target.init(paint_frame(along(0)), along(0))
    result = catch_up(target, buffer, 0, decode, max_frames=max_frames)
    assert 1 <= result.frames <= max(2 * max_frames, 1)
    assert target.state is State.TRACKING


def test_catch_up_after_max_seconds_tracks_only_the_newest_frame(scripted, paint_frame) -> None:
    buffer: FrameBuffer[int] = FrameBuffer()
    for index in range(1, 41):
        buffer.push(index * FRAME, index, 1)
    decoded = []

    def decode(index):
        decoded.append(index)
        scripted.where = along(0)
        return paint_frame(along(0), index)

    target = create_long_term_tracker(scripted)
    target.init(paint_frame(along(0)), along(0))
    result = catch_up(target, buffer, 0, decode, max_frames=40, max_seconds=0.0)
    assert decoded == [1, 40]
    assert (result.stamp, result.frames) == (40 * FRAME, 2)


def test_buffer_push_and_read_in_two_threads_stays_consistent() -> None:
    buffer: FrameBuffer[int] = FrameBuffer(max_bytes=50)

    def push():
        for index in range(2000):
            buffer.push(index, index, 1)

    thread = threading.Thread(target=push)
    thread.start()
    while thread.is_alive():
        held = [stamp for stamp, _ in buffer.after(-1)]
        assert held == list(range(held[0], held[-1] + 1)) if held else True
    thread.join()
    assert len(buffer) == 50
