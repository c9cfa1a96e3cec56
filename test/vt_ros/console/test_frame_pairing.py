# SPDX-License-Identifier: Apache-2.0
"""An image goes with what was said about exactly that one, in whatever order both arrive."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from vt_interfaces.msg import TrackStatus
from vt_ros.client import Estimate, State
from vt_ros.console.frame_pairing import FramePairing, Timeline

PERIOD = 33_000_000


def estimate(stamp, state=State.TRACKING, target=1, message=""):
    box = None if state in (State.IDLE, State.LOST) else (1.0, 2.0, 3.0, 4.0)
    status = TrackStatus(message=message)
    return Estimate(stamp, "camera", state, 0.9, target, box, None, math.nan, math.nan, status)


def image(stamp, size=10):
    return stamp.to_bytes(8, "little") + bytes(size - 8)


@pytest.fixture
def pairing():
    """One that has heard of the tracker a moment ago."""
    pairing = FramePairing(1000, patience=2.0)
    pairing.add_image(1, image(1), 0.0)
    assert pairing.add_estimate(estimate(1), 0.0).estimate is not None
    return pairing


def test_image_waits_for_its_estimate_and_older_ones_are_dropped(pairing):
    for stamp in (PERIOD, 2 * PERIOD, 3 * PERIOD):
        assert pairing.add_image(stamp, image(stamp), 0.1) is None
    frame = pairing.add_estimate(estimate(2 * PERIOD), 0.2)
    assert (frame.stamp, frame.image) == (2 * PERIOD, image(2 * PERIOD))
    assert pairing.add_estimate(estimate(PERIOD), 0.2) is None
    assert pairing.add_estimate(estimate(3 * PERIOD), 0.2).stamp == 3 * PERIOD


def test_estimate_waits_for_its_image(pairing):
    assert pairing.add_estimate(estimate(PERIOD), 0.1) is None
    frame = pairing.add_image(PERIOD, image(PERIOD), 0.1)
    assert frame.estimate.stamp == PERIOD


def test_small_images_without_estimates_do_not_pile_up_by_the_thousand():
    """Each is compared with each estimate: a camera of 2 kB images would hold the loop up."""
    pairing = FramePairing(10_000_000, patience=2.0)
    for stamp in range(1, 1002):
        pairing.add_image(stamp, image(stamp), stamp / 30)
    assert pairing.add_estimate(estimate(1), 40.0) is None
    assert pairing.add_estimate(estimate(1000), 40.0).stamp == 1000


@given(st.data())
def test_frame_never_has_an_estimate_of_another_image(data):
    stamps = [PERIOD * number for number in range(1, 12)]
    events = [("image", s) for s in stamps] + [("estimate", s) for s in stamps]
    order = data.draw(st.permutations(events))
    pairing = FramePairing(data.draw(st.integers(10, 200)), patience=2.0)
    numbers = []
    for step, (kind, stamp) in enumerate(order):
        now = step * 0.01
        if kind == "image":
            frame = pairing.add_image(stamp, image(stamp), now)
        else:
            frame = pairing.add_estimate(estimate(stamp), now)
        if frame is None:
            continue
        numbers.append(frame.number)
        assert frame.image == image(frame.stamp)
        assert frame.estimate.stamp == frame.stamp
    assert numbers == sorted(set(numbers))


def test_images_are_shown_alone_while_the_tracker_is_silent_and_together_afterwards(pairing):
    assert pairing.add_image(PERIOD, image(PERIOD), 1.9) is None
    alone = pairing.add_image(2 * PERIOD, image(2 * PERIOD), 2.1)
    assert (alone.stamp, alone.estimate) == (2 * PERIOD, None)
    assert math.isnan(alone.unmeasured)
    again = pairing.add_estimate(estimate(2 * PERIOD), 2.2)
    assert again.number > alone.number
    assert again.estimate is not None
    assert pairing.add_image(3 * PERIOD, image(3 * PERIOD), 2.3) is None


def test_images_without_a_stamp_are_never_paired(pairing):
    assert pairing.add_image(0, image(0), 0.1) is None
    assert pairing.add_estimate(estimate(0), 0.1) is None
    assert pairing.add_image(0, image(0), 1.5) is None
    assert pairing.add_image(0, image(0), 3.0).estimate is None


def test_images_that_begin_again_wait_for_their_estimates_as_at_first(pairing):
    assert pairing.add_image(PERIOD, image(PERIOD), 60.0) is None
    assert pairing.add_estimate(estimate(PERIOD), 60.1).estimate is not None


def test_first_of_two_images_with_one_stamp_is_paired_first(pairing):
    first, second = image(PERIOD, 20), image(PERIOD, 30)
    pairing.add_image(PERIOD, first, 0.1)
    pairing.add_image(PERIOD, second, 0.1)
    assert pairing.add_estimate(estimate(PERIOD), 0.1).image == first
    assert pairing.add_estimate(estimate(PERIOD), 0.1).image == second


def test_memory_is_bounded_and_what_came_too_late_is_counted(pairing):
    for stamp in range(PERIOD, 300 * PERIOD, PERIOD):
        assert pairing.add_image(stamp, image(stamp, 100), 0.1) is None
    assert pairing.add_estimate(estimate(PERIOD), 0.1) is None, "it is gone"
    assert pairing.add_estimate(estimate(299 * PERIOD), 0.1) is not None
    assert pairing.missed == 1
    large = image(300 * PERIOD, 5000)
    pairing.add_image(300 * PERIOD, large, 0.2)
    assert pairing.add_estimate(estimate(300 * PERIOD), 0.2).image == large, "the newest is held"


def test_seconds_since_measured_count_by_stamps_and_for_each_target(pairing):
    def shown(stamp, state, target=1):
        pairing.add_image(stamp, image(stamp), 0.1)
        return pairing.add_estimate(estimate(stamp, state, target), 0.1).unmeasured

    second = 1_000_000_000
    assert shown(second, State.UNCERTAIN) == 0.0
    assert shown(second + second // 2, State.COASTING) == 0.5
    assert shown(4 * second, State.LOST) == 3.0
    assert math.isnan(shown(5 * second, State.LOST, target=2)), "never measured"
    assert math.isnan(shown(6 * second, State.IDLE, target=0))


def test_timeline_has_an_episode_for_each_change_and_forgets_the_oldest():
    timeline = Timeline()
    for now, state in enumerate((State.IDLE, State.TRACKING, State.TRACKING, State.LOST)):
        timeline.note(estimate(1, state, target=int(state is not State.IDLE)), float(now))
    timeline.note(estimate(1, State.LOST, target=2, message="target 2 set"), 4.0)
    timeline.note(None, 5.0)
    assert [(one.begin, one.state, one.target) for one in timeline.episodes] == [
        (0.0, State.IDLE, 0),
        (1.0, State.TRACKING, 1),
        (3.0, State.LOST, 1),
        (4.0, State.LOST, 2),
        (5.0, None, 0),
    ]
    assert timeline.episodes[3].reason == "target 2 set"
    timeline.note(None, 700.0)
    assert [one.begin for one in timeline.episodes] == [5.0]
    for number in range(1000):
        timeline.note(estimate(1, target=number), 701.0 + number / 100)
    assert len(timeline.episodes) <= 120
