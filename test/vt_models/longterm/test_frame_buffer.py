# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.errors import InputError
from vt_models.longterm import State, create_target
from vt_models.longterm.frame_buffer import (
    FrameRing,
    StampNotHeldError,
    catch_up,
    start_in_the_past,
)

FRAME = 33_333_333


def test_old_frames_go_by_time_and_by_bytes() -> None:
    ring: FrameRing[str] = FrameRing(seconds=0.1, max_bytes=1000)
    for index in range(10):
        ring.push(index * FRAME, f"frame {index}", 10)
    assert [payload for _, payload in ring.after(-1)] == [f"frame {i}" for i in (6, 7, 8, 9)]
    ring = FrameRing(seconds=10.0, max_bytes=35)
    for index in range(10):
        ring.push(index * FRAME, f"frame {index}", 10)
    assert (len(ring), ring.nbytes, ring.oldest, ring.newest) == (3, 30, 7 * FRAME, 9 * FRAME)
    ring.push(10 * FRAME, "large", 99)
    assert (len(ring), ring.nbytes) == (1, 99), "the newest is always held"


def test_a_backward_stamp_empties_the_ring_and_a_duplicate_replaces() -> None:
    ring: FrameRing[str] = FrameRing()
    ring.push(5, "a", 1)
    ring.push(5, "b", 1)
    assert (len(ring), ring.at(5), ring.nbytes) == (1, "b", 1)
    ring.push(3, "c", 1)
    assert ring.after(-1) == [(3, "c")]
    ring.clear()
    assert (len(ring), ring.nbytes, ring.oldest) == (0, 0, None)


def test_a_missing_stamp_is_named() -> None:
    ring: FrameRing[str] = FrameRing()
    with pytest.raises(StampNotHeldError, match="none has come"):
        ring.at(1)
    ring.push(2_500_000_000, "a", 1)
    with pytest.raises(StampNotHeldError, match=r"0\.000000001 is held; 1 are, from 2\.5"):
        ring.at(1)
    with pytest.raises(InputError, match="greater than 0"):
        FrameRing(seconds=0.0)


@given(st.lists(st.tuples(st.integers(0, 10**10), st.integers(0, 500)), max_size=40))
def test_the_bounds_always_hold(frames) -> None:
    ring: FrameRing[int] = FrameRing(seconds=1.0, max_bytes=600)
    for index, (stamp, nbytes) in enumerate(frames):
        ring.push(stamp, index, nbytes)
        held = ring.after(-1)
        assert held[-1] == (stamp, index)
        assert held == sorted(held)
        assert len(held) == 1 or (ring.nbytes <= 600 and stamp - held[0][0] <= 10**9)


def along(index: int) -> tuple[float, float, float, float]:
    """Where the target is in frame `index`: 3 pixels a frame."""
    return 30.0 + 3.0 * index, 50.0, 24.0, 24.0


@pytest.mark.parametrize("max_frames", [30, 5])
def test_an_operator_half_a_second_late_gets_the_target(max_frames, scripted, picture) -> None:
    """The target moves 45 pixels, nearly twice its size, between the click and its arrival."""
    ring: FrameRing[int] = FrameRing()
    for index in range(16):
        ring.push(index * FRAME, index, 100)

    def decode(index):
        scripted.where = along(index)
        return picture(along(index), index)

    target = create_target(scripted)
    result = start_in_the_past(target, ring, 0, along(0), decode, max_frames=max_frames)
    assert result.stamp == 15 * FRAME
    assert result.frames == min(max_frames, 15)
    assert result.estimate.state is State.TRACKING
    assert result.estimate.box == along(15)


def test_frames_that_arrive_meanwhile_are_tracked_too(scripted, picture) -> None:
    ring: FrameRing[int] = FrameRing()
    ring.push(0, 0, 1)
    ring.push(FRAME, 1, 1)
    arrived = iter(range(2, 12))

    def decode(index):
        """The camera brings two frames for each that is tracked, until it pauses."""
        for _ in range(2):
            number = next(arrived, None)
            if number is not None:
                ring.push(number * FRAME, number, 1)
        scripted.where = along(0)
        return picture(along(0), index)

    target = create_target(scripted)
    target.init(picture(along(0)), along(0))
    result = catch_up(target, ring, 0, decode, max_frames=8)
    assert result.stamp == 11 * FRAME
    assert result.frames < 11


@pytest.mark.parametrize("max_frames", [20, 1, 0])
def test_it_ends_although_frames_always_come_faster(max_frames, scripted, picture) -> None:
    """A network slower than the camera: there is a newer frame after each one that is tracked."""
    ring: FrameRing[int] = FrameRing()
    ring.push(FRAME, 1, 1)

    def decode(index):
        newest = ring.after(0)[-1][1]
        assert newest < 80, "it never ends"
        ring.push((newest + 1) * FRAME, newest + 1, 1)
        scripted.where = along(0)
        return picture(along(0), index)

    target = create_target(scripted)
    target.init(picture(along(0)), along(0))
    result = catch_up(target, ring, 0, decode, max_frames=max_frames)
    assert 1 <= result.frames <= max(2 * max_frames, 1)
    assert target.state is State.TRACKING


def test_when_time_is_over_only_the_newest_frame_is_tracked(scripted, picture) -> None:
    ring: FrameRing[int] = FrameRing()
    for index in range(1, 41):
        ring.push(index * FRAME, index, 1)
    decoded = []

    def decode(index):
        decoded.append(index)
        scripted.where = along(0)
        return picture(along(0), index)

    target = create_target(scripted)
    target.init(picture(along(0)), along(0))
    result = catch_up(target, ring, 0, decode, max_frames=40, max_seconds=0.0)
    assert decoded == [1, 40]
    assert (result.stamp, result.frames) == (40 * FRAME, 2)


def test_a_stamp_that_is_gone_keeps_the_former_target(scripted, picture) -> None:
    ring: FrameRing[int] = FrameRing()
    ring.push(7, 0, 1)
    target = create_target(scripted)
    target.init(picture(along(0)), along(0))
    with pytest.raises(StampNotHeldError):
        start_in_the_past(target, ring, 5, along(0), lambda index: picture(along(0)))
    assert target.state is State.TRACKING


def test_threads_may_push_while_one_reads() -> None:
    ring: FrameRing[int] = FrameRing(max_bytes=50)

    def push():
        for index in range(2000):
            ring.push(index, index, 1)

    thread = threading.Thread(target=push)
    thread.start()
    while thread.is_alive():
        held = [stamp for stamp, _ in ring.after(-1)]
        assert held == list(range(held[0], held[-1] + 1)) if held else True
    thread.join()
    assert len(ring) == 50
