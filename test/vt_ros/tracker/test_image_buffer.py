# SPDX-License-Identifier: Apache-2.0
"""The frames kept while something is looked for."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from vt_models.longterm.frame_buffer import FrameRing
from vt_ros.tracker.image_buffer import Arrival, Trail


def arrivals(count, begin=0, nbytes=10):
    return [(number, Arrival(number, bytes(nbytes), 0.0)) for number in range(begin, count)]


def stamps(trail, stamp):
    return [number for number, _ in trail.after(stamp)]


def filled(count, most=64, max_bytes=1 << 20, held=4):
    """A ring of the last `held` frames, and a trail since frame 3 (a second is a nanosecond)."""
    ring = FrameRing(held / 1e9, 1 << 20)
    trail = None
    for stamp, arrival in arrivals(count, begin=1):
        ring.push(stamp, arrival, len(arrival.message))
        if trail is not None:
            trail.push(stamp, arrival)
        elif stamp == 5:
            trail = Trail(ring, 3, most, max_bytes)
    return ring, trail


def test_a_trail_reaches_back_further_than_the_ring():
    ring, trail = filled(30)
    assert ring.oldest == 25
    assert stamps(trail, 3) == list(range(4, 30))
    assert stamps(trail, 27) == [28, 29]


@pytest.mark.parametrize("limits", [{"most": 8}, {"max_bytes": 80}])
def test_a_long_trail_is_thinned_out_evenly_and_ends_with_the_newest_frame(limits):
    _, trail = filled(1000, **limits)
    kept = stamps(trail, 3)
    assert len(kept) <= 8 + 5
    assert kept[0] == 4
    assert kept[-1] == 999
    assert np.diff(kept).max() <= 256


def test_a_clock_that_goes_back_begins_the_trail_anew():
    ring, trail = filled(10)
    for stamp, arrival in arrivals(4, begin=1):
        ring.push(stamp, arrival, 10)
        trail.push(stamp, arrival)
    assert stamps(trail, 0) == [1, 2, 3]
    assert stamps(trail, 3) == []
