# SPDX-License-Identifier: Apache-2.0
"""Frames as JPEG: once for all who want the same, and never that of another frame."""

from __future__ import annotations

import asyncio
import math

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from vt_interfaces.msg import TrackStatus
from vt_models.video.image_messages import ConversionError
from vt_ros.client import Estimate, State
from vt_ros.common.convert import array_to_image, array_to_jpeg
from vt_ros.console.encoder import FrameEncoder, create_workers
from vt_ros.console.frame_pairing import Frame
from vt_ros.console.link import Level

GREYS = {number: 20 * number for number in range(1, 10)}


def pixels(number):
    return np.full((90, 160, 3), GREYS[number], np.uint8)


def frame(number, message=None, estimate=None):
    message = message or array_to_image(pixels(number), Header())
    return Frame(number, number, bytes(serialize_message(message)), estimate, math.nan)


@pytest.fixture
def encoder():
    workers = create_workers()
    yield FrameEncoder(workers, compressed=False, max_megapixels=lambda: 1.0)
    workers.shutdown()


def decoded(jpeg):
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def test_jpeg_has_the_width_of_the_level_and_the_size_of_the_source_beside(encoder):
    async def work():
        return await encoder.jpeg(frame(1), Level(80, 70)), await encoder.jpeg(
            frame(2), Level(5000, 70)
        )

    (small, size), (large, _) = asyncio.run(work())
    assert size == (160, 90)
    assert decoded(small).shape == (45, 80, 3)
    assert decoded(large).shape == (90, 160, 3), "it is never made larger"


def test_jpeg_of_many_at_once_is_made_once_and_outlives_one_that_goes(encoder):
    async def work():
        level, one = Level(160, 70), frame(1)
        tasks = [asyncio.ensure_future(encoder.jpeg(one, level)) for _ in range(8)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    cancelled, *others = asyncio.run(work())
    assert isinstance(cancelled, asyncio.CancelledError)
    assert len({id(jpeg) for jpeg, _ in others}) == 1


def test_jpeg_is_of_its_own_frame_however_requests_cross(encoder):
    async def work():
        numbers = [1, 3, 2, 3, 1, 5, 4, 5]
        levels = [Level(160, 90), Level(80, 90)]
        requests = [(number, level) for number in numbers for level in levels]
        jpegs = await asyncio.gather(*(encoder.jpeg(frame(n), level) for n, level in requests))
        return zip(requests, jpegs, strict=True)

    for (number, _), (jpeg, _) in asyncio.run(work()):
        assert abs(decoded(jpeg).mean() - GREYS[number]) < 2


def test_jpeg_of_an_image_that_cannot_be_read_is_refused_in_a_sentence(encoder):
    message = array_to_image(pixels(1), Header())
    message.encoding = "16UC1"
    large = array_to_image(np.zeros((1100, 1000, 3), np.uint8), Header())
    cases = {
        "more than 8 bits": frame(1, message),
        "max_megapixels is 1": frame(2, large),
        "cannot be read": Frame(3, 3, b"\0\1\0\0 nonsense", None, math.nan),
    }
    for said, bad in cases.items():
        with pytest.raises(ConversionError, match=said):
            asyncio.run(encoder.jpeg(bad, Level(160, 70)))


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "8UC3", "mono8", "bgra8"])
def test_jpeg_has_the_colours_of_every_encoding_without_a_copy_by_ros(
    encoder, monkeypatch, encoding
):
    monkeypatch.setattr("vt_ros.console.encoder.deserialize_message", None)
    colour = [180, 60, 20]  # of what is blue in OpenCV's order, and orange in ROS's
    stored = {"mono8": [90], "bgra8": [*colour, 255]}.get(encoding, colour)
    plane = np.zeros((90, 163, len(stored)), np.uint8)
    plane[:, :160] = stored
    step = plane.strides[0]  # rows are padded
    image = Image(height=90, width=160, encoding=encoding, step=step, data=plane.tobytes())
    shown = {"rgb8": colour[::-1], "mono8": [90] * 3}.get(encoding, colour)  # as OpenCV reads

    async def work():
        one = frame(1, image)
        return [(await encoder.jpeg(one, Level(width, 95)))[0] for width in (160, 80)]

    for jpeg in asyncio.run(work()):
        assert np.abs(decoded(jpeg).astype(int) - shown).max() < 8


def test_compressed_images_and_snapshots_with_the_box(encoder):
    compressed = FrameEncoder(encoder._workers, compressed=True, max_megapixels=lambda: 1.0)
    jpeg, size = asyncio.run(
        compressed.jpeg(frame(1, array_to_jpeg(pixels(4), Header())), Level(160, 90))
    )
    assert size == (160, 90)
    assert abs(decoded(jpeg).mean() - GREYS[4]) < 2
    box = (50.0, 30.0, 40.0, 30.0)
    estimate = Estimate(
        1, "c", State.TRACKING, 0.9, 1, box, None, math.nan, math.nan, TrackStatus()
    )
    snapshot = decoded(asyncio.run(encoder.snapshot(frame(2, estimate=estimate))))
    assert snapshot.shape == (90, 160, 3)
    assert snapshot[30:61, 50][:, 1].min() > 150, "the box's left side is green"
    assert snapshot[45, 70].tolist() == [GREYS[2]] * 3, "its inside is as it was"
