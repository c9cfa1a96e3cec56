# SPDX-License-Identifier: Apache-2.0
"""The past images that may be asked for, and those kept while a target is searched for."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from vt_models.longterm.frame_buffer import FrameBuffer
from vt_ros.tracker.image_buffer import (
    BufferedImage,
    FrameBacklog,
    ImageBuffer,
    ImageDecoder,
    UnreadableImageError,
)


def test_decode_refuses_a_frame_id_that_would_fill_every_message():
    message = Image(height=1, width=1, step=3, encoding="rgb8", data=bytes(3))
    message.header.frame_id = "x" * 1_000_000
    message.header.stamp.sec = 7
    with pytest.raises(UnreadableImageError, match="frame_id has 1000000 characters") as refused:
        ImageDecoder().decode(BufferedImage(1, serialize_message(message), 0.0, 7))
    assert (refused.value.header.stamp.sec, refused.value.header.frame_id) == (7, "")
    message.header.frame_id = "x" * 1024
    assert ImageDecoder().decode(BufferedImage(1, serialize_message(message), 0.0, 7))


def images(count, begin=0, nbytes=10):
    """Images whose number is their stamp (a second is a nanosecond)."""
    return [BufferedImage(number, bytes(nbytes), 0.0, number) for number in range(begin, count)]


def stamps(backlog, stamp):
    return [number for number, _ in backlog.after(stamp)]


def filled(count, max_images=64, max_bytes=1 << 20, held=4):
    """A frame buffer of the last `held` images, and a backlog since image 3."""
    recent = FrameBuffer(held / 1e9, 1 << 20)
    backlog = None
    for image in images(count, begin=1):
        recent.push(image.stamp, image, len(image.message))
        if backlog is not None:
            backlog.push(image)
        elif image.stamp == 5:
            backlog = FrameBacklog(images(4)[3], recent, max_images, max_bytes)
    return recent, backlog


def test_backlog_reaches_back_further_than_the_frame_buffer():
    recent, backlog = filled(30)
    assert recent.oldest == 25
    assert stamps(backlog, 3) == list(range(4, 30))
    assert stamps(backlog, 27) == [28, 29]


@pytest.mark.parametrize("limits", [{"max_images": 8}, {"max_bytes": 80}])
def test_backlog_over_its_limit_is_thinned_out_evenly_and_ends_with_the_newest(limits):
    _, backlog = filled(1000, **limits)
    kept = stamps(backlog, 3)
    assert len(kept) <= 8 + 5
    assert kept[0] == 4
    assert kept[-1] == 999
    assert np.diff(kept).max() <= 256


def test_backlog_when_the_clock_goes_back_begins_anew():
    recent, backlog = filled(10)
    for image in images(4, begin=1):
        backlog.push(image, recent.push(image.stamp, image, 10))
    assert stamps(backlog, 0) == [3], "the third in a row is no jitter any more"
    assert stamps(backlog, 3) == []


def test_image_buffer_keeps_what_follows_a_held_image_until_it_is_released():
    buffer = ImageBuffer(4 / 1e9, 1 << 20)
    for image in images(6, begin=1):
        buffer.push(image)
    backlog = buffer.hold(images(4)[3])
    for image in images(30, begin=6):
        buffer.push(image)
    assert stamps(backlog, 3) == list(range(4, 30))
    buffer.release(backlog)
    for image in images(60, begin=30):
        buffer.push(image)
    assert set(range(30, 55)).isdisjoint(stamps(backlog, 3))


def test_image_buffer_keeps_no_image_without_a_stamp():
    buffer = ImageBuffer(1.0, 1 << 20)
    buffer.push(BufferedImage(1, b"", 0.0))
    assert len(buffer.recent) == 0
    backlog = buffer.hold(BufferedImage(1, b"", 0.0))
    buffer.push(images(6)[5])
    assert backlog.image.number == 1
    assert not backlog._kept
