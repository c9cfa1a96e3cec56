# SPDX-License-Identifier: Apache-2.0
"""A tracked bag is played through the node, which says the same of every image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("rosbags", reason="the extra bags is not installed")

from builtin_interfaces.msg import Time
from foxglove_msgs.msg import ImageAnnotations
from geometry_msgs.msg import Vector3Stamped
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import Reader
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray

from vt_interfaces.msg import TrackStatus
from vt_interfaces.srv import SetTarget
from vt_models.cli.main import main
from vt_ros.common.convert import MEASURED, PREDICTED, bounding_box_from_xywh, stamp_nanoseconds

BOX, START = (36.0, 43.0, 28.0, 28.0), 3
TYPES = {
    "status": TrackStatus,
    "detections": Detection2DArray,
    "bearing": Vector3Stamped,
    "annotations": ImageAnnotations,
}


@pytest.fixture(scope="module")
def tracked(bags, tmp_path_factory):
    """A tracked bag: a patterned square that moves; dark, then another scene, then there again."""
    rng = np.random.default_rng(3)
    scene, other = (
        cv2.resize(rng.integers(low, low + 120, (15, 20, 3), np.uint8), (160, 120))
        for low in (0, 120)
    )
    pattern = cv2.resize(rng.integers(120, 255, (4, 4, 3), np.uint8), (28, 28))
    frames = []
    for number in range(45):
        frame = scene.copy()
        x, y = 30 + 2 * (number % 25), 40 + number % 25
        frame[y : y + 28, x : x + 28] = pattern
        if number in range(12, 15):
            frame[:] = 0
        frames.append(other.copy() if number in range(18, 22) else frame)
    folder = tmp_path_factory.mktemp("replay")
    source, out = bags.of_frames(folder / "source", frames), folder / "out.mcap"
    box = ",".join(map(str, BOX))
    assert main(["track", str(source), "--box", box, "--at", "0.3", "--output", str(out)]) == 0
    return out


def messages_of(path):
    """Serialised messages by topic, as (time, bytes), in the order of the bag."""
    with Reader(path) as reader:
        return [(one.topic, time, bytes(data)) for one, time, data in reader.messages()]


def stamp_of(message):
    """Nanoseconds of the image that a message is about."""
    if isinstance(message, ImageAnnotations):
        return stamp_nanoseconds(message.texts[0].timestamp)
    return stamp_nanoseconds(message.header.stamp)


def plain(message):
    """What both must say of one image; the node also says what it took and how old it was."""
    if isinstance(message, TrackStatus):
        fields = (
            *("state", "score", "target_id", "model", "azimuth", "elevation", "bearing_sigma"),
            *("image_width", "image_height", "frames_dropped", "frames_rejected", "message"),
        )
        return [repr(getattr(message, field)) for field in fields]
    return repr(message)


@pytest.mark.ros
def test_tracked_bag_played_through_the_node_gives_the_same_states(ros, tracked):
    remaps = [word for name in ("image_raw",) for word in ("-r", f"{name}:=/camera/{name}")]
    ros.start(
        "tracker",
        *("--ros-args", *remaps),
        use_sim_time=True,
        image_qos__reliability="reliable",
    )
    collected = {name: ros.collect(kind, f"tracker/{name}") for name, kind in TYPES.items()}
    clock = ros.publisher(Clock, "/clock")
    ros.until(lambda: ros.node.count_publishers("tracker/status") == 1, "an active tracker")
    images = ros.publisher(Image, "/camera/image_raw")
    infos = ros.publisher(CameraInfo, "/camera/camera_info")

    def newest(name, stamp):
        found = collected[name][::-1]
        return next((one for one in found if stamp_of(one) == stamp), None)

    bag = messages_of(tracked)
    first_info = next(data for topic, _, data in bag if topic == "/camera/camera_info")
    infos.publish(first_info)
    number, started = 0, False
    for topic, time, data in bag:
        clock.publish(Clock(clock=Time(sec=time // 10**9, nanosec=time % 10**9)))
        if topic == "/camera/camera_info":
            infos.publish(data)
        if topic != "/camera/image_raw":
            continue
        images.publish(data)
        stamp = stamp_nanoseconds(deserialize_message(data, Image).header.stamp)
        ros.until(lambda stamp=stamp: newest("status", stamp), f"the status of image {number}")
        if number == START:
            request = SetTarget.Request(box=bounding_box_from_xywh(BOX))
            request.stamp = Time(sec=stamp // 10**9, nanosec=stamp % 10**9)
            answer = ros.call(SetTarget, "tracker/set_target", request)
            assert answer.success, answer.message
            started = True
            ros.until(lambda stamp=stamp: newest("status", stamp).target_id, "the start's status")
        number += 1
    assert started
    for name in ("detections", "annotations"):
        got = collected[name]
        ros.until(lambda got=got: len(got) == len(collected["status"]), f"all {name}")

    states = set()
    for topic, _, data in bag:
        name = topic.removeprefix("/tracker/")
        if name not in TYPES or topic == name:
            continue
        ours = deserialize_message(data, TYPES[name])
        theirs = newest(name, stamp_of(ours))
        assert theirs is not None, (topic, stamp_of(ours))
        assert plain(theirs) == plain(ours), topic
        if name == "status":
            states.add(ours.state)
    assert states == set(range(5)), "the recording shows every state"


def test_classes_of_detections_are_those_of_the_node():
    messages = pytest.importorskip("vt_models.video.bags.messages")
    assert (messages.MEASURED, messages.PREDICTED) == (MEASURED, PREDICTED)
