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
from vt_ros.frames import ImageFolder, SourceError, VideoFile, open_source

WIDTH, HEIGHT, COUNT, RATE = 64, 48, 12, 25.0
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def picture(number):
    """A plain grey that tells the number of the frame, also after a lossy codec."""
    return np.full((HEIGHT, WIDTH, 3), 20 * number + 10, np.uint8)


def number_of(pixels):
    return round((float(np.mean(pixels)) - 10) / 20)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "numbers.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for number in range(COUNT):
        writer.write(picture(number))
    writer.release()
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("images")
    for number in range(COUNT):
        cv2.imwrite(str(path / f"frame{number}.png"), picture(number))
    (path / "notes.txt").write_text("not an image")
    return path


def numbers(source, most=100):
    found = []
    while len(found) < most and (frame := source.read()) is not None:
        found.append(number_of(frame))
    return found


def test_a_video_file_from_start_to_stop(video):
    assert VideoFile(video).rate == RATE
    assert numbers(VideoFile(video)) == list(range(COUNT))
    part = VideoFile(video, 3, 7)
    assert numbers(part) == [3, 4, 5, 6]
    part.rewind()
    assert numbers(part) == [3, 4, 5, 6]
    assert numbers(VideoFile(video, COUNT)) == []
    with pytest.raises(SourceError, match=f"has {COUNT} frames"):
        VideoFile(video, COUNT + 1)


def test_a_folder_in_natural_order(folder):
    assert numbers(ImageFolder(folder)) == list(range(COUNT))
    assert numbers(ImageFolder(folder, 9, 11)) == [9, 10]


def test_a_broken_image_in_a_folder_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not a picture")
    with pytest.raises(SourceError, match=r"a\.png"):
        ImageFolder(tmp_path).read()


def test_sources_that_are_not_there(tmp_path):
    texts = [tmp_path / "text.mp4", tmp_path / "text.txt"]
    for text in texts:
        text.write_text("not a video\n" * 100)
    for name in ("", tmp_path / "absent.mp4", tmp_path, *texts, "99"):
        with pytest.raises(SourceError):
            open_source(str(name))


@pytest.mark.ros
def test_plays_a_file_once_and_announces_the_end(ros, video):
    images = ros.collect(Image, "image_raw")
    positions = ros.collect(TimeReference, "camera/position")
    camera = ros.start("camera_node", source=str(video), paused=True, frame_id="optical")
    ros.until(lambda: len(images) > 2 and positions, "the first frame, again and again")
    assert {number_of(image_to_rgb(image)) for image in images} == {0}
    assert ros.call(SetBool, "camera/pause", SetBool.Request(data=False)).message == "playing"
    late = ros.collect(Empty, "camera/end_of_stream", LATCHED)
    ros.until(lambda: late, "the end of the stream")
    ros.until(lambda: len(positions) == len(images), "the last position")

    shown = [number_of(image_to_rgb(image)) for image in images]
    assert shown == sorted(shown)
    assert sorted(set(shown)) == list(range(COUNT))
    assert shown[-COUNT + 1 :] == list(range(1, COUNT)), "a frame was played twice"
    assert {image.header.frame_id for image in images} == {"optical"}
    stamps = [(image.header.stamp.sec, image.header.stamp.nanosec) for image in images]
    assert stamps == sorted(set(stamps))
    times = {
        (p.header.stamp.sec, p.header.stamp.nanosec): p.time_ref.sec + p.time_ref.nanosec * 1e-9
        for p in positions
    }
    assert [round(times[stamp] * RATE) for stamp in stamps] == shown
    assert camera.alive
    later = ros.collect(Empty, "camera/end_of_stream", LATCHED)
    ros.until(lambda: later, "the end, for somebody who comes late")


@pytest.mark.ros
def test_loops_and_keeps_a_given_rate_until_a_signal(ros, folder):
    images = ros.collect(Image, "image_raw")
    ros.start("camera_node", source=str(folder), loop=True, rate=200.0, stop_frame=3)
    ros.until(lambda: len(images) > 12, "four rounds")
    shown = [number_of(image_to_rgb(image)) for image in images[:12]]
    assert all((b - a) % 3 == 1 for a, b in itertools.pairwise(shown)), shown


@pytest.mark.ros
def test_exits_at_the_end_if_wanted(ros, video):
    images = ros.collect(Image, "image_raw")
    camera = ros.start("camera_node", source=str(video), exit_at_end=True, paused=True)
    ros.until(lambda: images, "the first frame")
    ros.call(SetBool, "camera/pause", SetBool.Request(data=False))
    assert camera.wait() == 0
    assert "end of stream" in camera.output
    ros.until(lambda: number_of(image_to_rgb(images[-1])) == COUNT - 1, "the last frame")


@pytest.mark.ros
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "no source given"),
        ("/nowhere/film.mp4", "/nowhere/film.mp4 does not exist"),
        ("99", "camera 99 cannot be opened"),
    ],
)
def test_a_source_that_is_not_there_is_one_sentence(ros, source, reason):
    camera = ros.start("camera_node", source=source)
    assert camera.wait() == 2
    assert reason in camera.output
    assert "Traceback" not in camera.output


@pytest.mark.ros
def test_a_file_that_breaks_while_playing_ends_the_process(ros, tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), picture(0))
    (tmp_path / "1.png").write_bytes(b"not a picture")
    camera = ros.start("camera_node", source=str(tmp_path))
    assert camera.wait() == 1
    assert "1.png is not an image" in camera.output
