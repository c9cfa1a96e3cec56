# SPDX-License-Identifier: Apache-2.0
"""The level follows the link: frames come through in time, and are no worse than they must be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from vt_ros.console.link import LinkController

WIDTH, QUALITY, TARGET = 1280, 80, 0.08


def size_of(level):
    """Bytes of a frame at a level, as JPEG of ordinary video has them."""
    return 90_000 * (level.width / WIDTH) ** 2 * (level.quality / QUALITY) ** 1.2


def run(controller, throughput, frames):
    """Send frames through a link of so many bytes a second; the seconds that each took."""
    seconds = []
    for _ in range(frames):
        size = size_of(controller.level(WIDTH, QUALITY))
        seconds.append(size / throughput)
        controller.note_frame(max(1, round(size)), seconds[-1])
    return seconds


def test_level_is_the_best_on_a_fast_link():
    controller = LinkController(TARGET)
    run(controller, 50e6, 50)
    assert controller.level(WIDTH, QUALITY).width == WIDTH
    assert controller.level(WIDTH, QUALITY).quality == QUALITY


@given(st.floats(4e4, 1e7))
def test_frames_come_through_in_time_on_any_link_that_can_take_the_smallest(throughput):
    controller = LinkController(TARGET)
    seconds = run(controller, throughput, 60)
    assert max(seconds[3:]) <= 1.6 * TARGET, "a better level may be tried, one step at a time"
    assert sum(seconds[3:]) / len(seconds[3:]) <= TARGET


def test_level_goes_down_at_once_and_up_again_slowly():
    controller = LinkController(TARGET)
    run(controller, 50e6, 20)
    run(controller, 1e5, 4)
    poor = controller.level(WIDTH, QUALITY)
    assert size_of(poor) <= 1.1e5 * TARGET
    run(controller, 50e6, 8)
    assert size_of(controller.level(WIDTH, QUALITY)) < 3 * size_of(poor)
    run(controller, 50e6, 150)
    assert controller.level(WIDTH, QUALITY).width == WIDTH


def test_level_never_asks_for_more_than_is_wanted():
    controller = LinkController(TARGET)
    run(controller, 1.0, 10)
    for width in (1, 50, 96, 4000):
        level = controller.level(width, 90)
        assert 1 <= level.width <= width
        assert 25 <= level.quality <= 90
    assert controller.level(50, 20).quality == 20
