# SPDX-License-Identifier: Apache-2.0
"""The camera node in a process of its own: files, folders, pace, loop, pause, end, errors."""

from __future__ import annotations

import itertools
import shutil

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image, TimeReference
from std_msgs.msg import Empty
from std_srvs.srv import SetBool

from vt_models.video.image_messages import image_to_rgb

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
def test_camera_whose_file_is_gone_does_not_say_that_it_has_ended(ros, numbered, tmp_path):
    """A looping one would be silent from then on, with the exit code of a good end."""
    path = tmp_path / "video.avi"
    shutil.copy(numbered.video, path)
    images = ros.collect(Image, "image_raw")
    camera = ros.start("camera", source=str(path), loop=True)
    ros.until(lambda: len(images) > 2, "frames")
    path.unlink()
    assert camera.wait() == 1
    assert "[ERROR] [" in camera.output
    assert f"stopped: {path} is gone" in camera.output


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
def test_camera_plays_a_bag_with_its_stamps_and_calibration(ros, bags, tmp_path):
    frames = [np.full((48, 64, 3), 20 * number + 10, np.uint8) for number in range(6)]
    source = bags.of_frames(tmp_path / "flight", frames)
    images, infos = ros.collect(Image, "image_raw"), ros.collect(CameraInfo, "camera_info")
    positions = ros.collect(TimeReference, "camera/position")
    ros.start("camera", source=str(next(source.glob("*.mcap"))), paused=True)
    ros.until(lambda: len(images) > 1 and infos and positions, "the first image, again and again")
    ros.call(SetBool, "camera/pause", SetBool.Request(data=False))
    ros.until(lambda: number_of(image_to_rgb(images[-1])) == 5, "the last image")
    for image in images:
        tenths = number_of(image_to_rgb(image))
        stamp = image.header.stamp
        assert (stamp.sec, stamp.nanosec) == (100, tenths * 100_000_000)
        assert image.header.frame_id == "optical"
    assert {number_of(image_to_rgb(image)) for image in images} == set(range(6))
    ros.until(lambda: len(infos) == len(images) == len(positions), "all that belongs to them")
    assert infos[-1].k[0] == 200.0
    assert infos[-1].header == images[-1].header
    time = positions[-1].time_ref
    assert (time.sec, time.nanosec, positions[-1].source) == (100, 510_000_000, "bag")


@pytest.mark.ros
def test_camera_with_a_bag_of_two_image_topics_wants_one(ros, bags, tmp_path):
    data = [bags.raw(0, np.zeros((12, 16, 3), np.uint8))]
    topics = dict.fromkeys(("/left", "/right"), ("sensor_msgs/msg/Image", data))
    source = bags.write(tmp_path / "two", topics)
    camera = ros.start("camera", source=str(source))
    assert camera.wait() == 2
    assert "has images in 2 topics, /left, /right" in camera.output
    images = ros.collect(Image, "image_raw")
    ros.start("camera", source=str(source), topic="/right", paused=True)
    ros.until(lambda: images, "an image")


@pytest.mark.ros
@pytest.mark.parametrize(
    ("source", "reason", "code"),
    [
        ("", "no source given", 2),
        ("/nowhere/film.mp4", "/nowhere/film.mp4 does not exist", 2),
        # These may be there later, so a supervisor may start the node again.
        ("99", "camera 99 cannot be opened", 1),
        (99, "camera 99 cannot be opened", 1),
        ("/dev/null", "camera /dev/null cannot be opened", 1),
        ("rtsp://viewer:secret@127.0.0.1:9/cam", "rtsp://127.0.0.1:9/*** cannot be opened", 1),
    ],
)
def test_camera_without_its_source_is_one_sentence(ros, source, reason, code):
    camera = ros.start("camera", source=source)
    assert camera.wait() == code
    assert "secret" not in camera.output
    assert reason in camera.output
    assert "Traceback" not in camera.output


@pytest.mark.ros
def test_camera_whose_file_breaks_ends_with_an_error(ros, tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "1.png").write_bytes(b"not an image")
    camera = ros.start("camera", source=str(tmp_path))
    assert camera.wait() == 1
    assert "1.png: not a decodable image" in camera.output
