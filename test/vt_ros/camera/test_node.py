# SPDX-License-Identifier: Apache-2.0
"""The camera node in a process of its own: files, folders, pace, loop, pause, end, errors."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image, TimeReference
from std_msgs.msg import Empty
from std_srvs.srv import SetBool

from vt_ros.common.convert import image_to_rgb

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def number_of(pixels):
    return round((float(np.mean(pixels)) - 10) / 20)


@pytest.mark.ros
def test_camera_plays_a_file_once_and_announces_the_end(ros, numbered):
    images = ros.collect(Image, "image_raw")
    positions = ros.collect(TimeReference, "camera/position")
    camera = ros.start("camera", source=str(numbered.video), paused=True, frame_id="optical")
    ros.until(lambda: len(images) > 2 and positions, "the first frame, again and again")
    assert {number_of(image_to_rgb(image)) for image in images} == {0}
    assert ros.call(SetBool, "camera/pause", SetBool.Request(data=False)).message == "playing"
    late = ros.collect(Empty, "camera/end_of_stream", LATCHED)
    ros.until(lambda: late, "the end of the stream")
    ros.until(lambda: len(positions) == len(images), "the last position")

    shown = [number_of(image_to_rgb(image)) for image in images]
    assert shown == sorted(shown)
    assert sorted(set(shown)) == list(range(numbered.count))
    assert shown[-numbered.count + 1 :] == list(range(1, numbered.count)), (
        "a frame was played twice"
    )
    assert {image.header.frame_id for image in images} == {"optical"}
    stamps = [(image.header.stamp.sec, image.header.stamp.nanosec) for image in images]
    assert stamps == sorted(set(stamps))
    times = {
        (p.header.stamp.sec, p.header.stamp.nanosec): p.time_ref.sec + p.time_ref.nanosec * 1e-9
        for p in positions
    }
    assert [round(times[stamp] * numbered.fps) for stamp in stamps] == shown
    assert camera.alive
    later = ros.collect(Empty, "camera/end_of_stream", LATCHED)
    ros.until(lambda: later, "the end, for somebody who comes late")


@pytest.mark.ros
def test_camera_loops_at_a_given_rate_until_a_signal(ros, numbered):
    images = ros.collect(Image, "image_raw")
    ros.start("camera", source=str(numbered.folder), loop=True, rate=200.0, stop_frame=3)
    ros.until(lambda: len(images) > 12, "four rounds")
    shown = [number_of(image_to_rgb(image)) for image in images[:12]]
    assert all((b - a) % 3 == 1 for a, b in itertools.pairwise(shown)), shown


@pytest.mark.ros
def test_camera_with_exit_at_end_exits(ros, numbered):
    images = ros.collect(Image, "image_raw")
    camera = ros.start("camera", source=str(numbered.video), exit_at_end=True, paused=True)
    ros.until(lambda: images, "the first frame")
    ros.call(SetBool, "camera/pause", SetBool.Request(data=False))
    assert camera.wait() == 0
    assert "end of stream" in camera.output
    ros.until(lambda: number_of(image_to_rgb(images[-1])) == numbered.count - 1, "the last frame")


@pytest.mark.ros
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "no source given"),
        ("/nowhere/film.mp4", "/nowhere/film.mp4 does not exist"),
        ("99", "camera 99 cannot be opened"),
    ],
)
def test_camera_without_its_source_is_one_sentence(ros, source, reason):
    camera = ros.start("camera", source=source)
    assert camera.wait() == 2
    assert reason in camera.output
    assert "Traceback" not in camera.output


@pytest.mark.ros
def test_camera_whose_file_breaks_ends_with_an_error(ros, tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "1.png").write_bytes(b"not an image")
    camera = ros.start("camera", source=str(tmp_path))
    assert camera.wait() == 1
    assert "1.png is not an image" in camera.output
