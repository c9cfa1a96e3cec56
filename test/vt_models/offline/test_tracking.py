# SPDX-License-Identifier: Apache-2.0
"""Which frames a machine sees that works on one while the next ones come."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.longterm import LongTermEstimate, State
from vt_models.offline.tracking import (
    RecordedFrame,
    TargetReport,
    track_frames,
    track_in_realtime,
)
from vt_models.video.image_messages import ConversionError, MessageHeader

IDLE = LongTermEstimate(None, 0.0, State.IDLE)
PIXELS = np.zeros((2, 2, 3), np.uint8)


@dataclass
class Run:
    """Notes what it is given; tracks nothing."""

    seen: list = field(default_factory=list)

    def step(self, frame, seconds, pixels, problem):
        assert (pixels is None) == bool(problem)
        self.seen.append((frame.number, round(seconds, 6), problem))
        return TargetReport("a", 0, IDLE, problem)


def recording(milliseconds, stamped=True, broken=()):
    for number, time in enumerate(milliseconds):
        stamp = 5_000_000_000 + 1_000_000 * time
        header = MessageHeader(*divmod(stamp, 1_000_000_000)) if stamped else MessageHeader()

        def read(number=number):
            if number in broken:
                raise ConversionError("encoding 'x' cannot be read")
            return PIXELS

        yield RecordedFrame(number, 7_000_000_000 + 1_000_000 * time, header, read)


@pytest.mark.parametrize("stamped", [True, False])
def test_every_frame_is_seen_with_its_seconds(stamped):
    run = Run()
    reports = list(track_frames(recording([0, 100, 250], stamped, broken=[1]), [run]))
    problem = "image refused: encoding 'x' cannot be read"
    assert run.seen == [(0, 0.0, ""), (1, 0.1, problem), (2, 0.25, "")]
    assert [(one.processed, one.rejected) for one in reports] == [(1, 0), (1, 1), (2, 1)]
    assert all(one.age is None for one in reports)


@pytest.mark.parametrize(
    ("times", "latency", "seen", "ages"),
    [
        ([0, 100, 200, 300], 0.05, [0, 1, 2, 3], [50, 50, 50, 50]),
        ([0, 100, 200, 300, 400], 0.25, [0, 2, 4], [250, 300, 350]),
        # Two wait for the first: the newer one is taken.
        ([0, 10, 20, 500], 0.1, [0, 2, 3], [100, 180, 100]),
        # What comes as the machine becomes free replaces what waits.
        ([0, 50, 100], 0.1, [0, 2], [100, 100]),
        ([], 0.1, [], []),
    ],
)
def test_the_newest_frame_waits_and_others_are_dropped(times, latency, seen, ages):
    run = Run()
    reports = list(track_in_realtime(recording(times), [run], latency))
    assert [number for number, _, _ in run.seen] == seen
    assert [round(1000 * one.age) for one in reports] == ages
    if reports:
        assert reports[-1].processed + reports[-1].dropped == len(times)


@given(
    steps=st.lists(st.integers(0, 300), max_size=40),
    latency=st.integers(1, 500),
    broken=st.sets(st.integers(0, 40)),
)
def test_age_stays_bounded_and_every_frame_is_counted(steps, latency, broken):
    times = [int(value) for value in np.cumsum(steps)]
    run = Run()
    reports = list(track_in_realtime(recording(times, broken=broken), [run], latency / 1000))
    numbers = [one.frame.number for one in reports]
    assert numbers == sorted(set(numbers))
    if times:
        last = reports[-1]
        assert last.processed + last.dropped + last.rejected == len(times)
        assert numbers[-1] == len(times) - 1, "the last frame is not replaced by any"
    # A frame waits for the one at work at most, and takes its own time.
    assert all(one.age <= 2 * latency / 1000 + 1e-9 for one in reports)


def test_without_a_latency_the_work_is_timed():
    reports = list(track_in_realtime(recording([0, 1000]), [Run()], None))
    assert all(0 < one.targets[0].seconds < 1 for one in reports)
