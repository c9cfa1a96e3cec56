# SPDX-License-Identifier: Apache-2.0
"""Each way to a range on its own: clouds over a robot that moves, boxes cut off, limits."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from geometry_msgs.msg import TransformStamped
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header

from vt_models.errors import InputError
from vt_models.geometry.camera import Camera
from vt_models.geometry.depth import RangeGate
from vt_models.geometry.position import BoxView
from vt_ros.common.convert import NANOSECONDS
from vt_ros.common.transforms import TransformBuffer, TransformError
from vt_ros.target_3d.errors import NoPositionError, NotYetError
from vt_ros.target_3d.message_buffer import MessageBuffer
from vt_ros.target_3d.parameters import SETTINGS, read_settings
from vt_ros.target_3d.range_methods import (
    DEPTH_TOPIC,
    POINTS_TOPIC,
    DepthImageMethod,
    GroundPlaneMethod,
    KnownSizeMethod,
    PointCloudMethod,
    Sighting,
)

SIZE = (640, 480)
CAMERA = Camera(fx=500.0, fy=500.0, cx=319.5, cy=239.5)
STRAIGHT = (300.0, 220.0, 40.0, 40.0)  # the middle of the image
BEGIN = 1000 * NANOSECONDS


def settings(**changes):
    values = {setting.name: setting.default for setting in SETTINGS}
    values.update({name.replace("__", "."): value for name, value in changes.items()})
    return read_settings(values.__getitem__)


def sighting(box=STRAIGHT, seconds=0.5, final=True, **changes):
    view = BoxView(CAMERA, box, np.eye(4))
    stamp = BEGIN + round(seconds * NANOSECONDS)
    return Sighting(stamp, "optical", SIZE, view, settings(**changes), final)


def header(frame_id, seconds):
    message = Header(frame_id=frame_id)
    stamp = BEGIN + round(seconds * NANOSECONDS)
    message.stamp.sec, message.stamp.nanosec = divmod(stamp, NANOSECONDS)
    return message


def link(parent, child, seconds, shift, turn=(0.0, 0.0, 0.0, 1.0)):
    message = TransformStamped(header=header(parent, seconds), child_frame_id=child)
    translation, rotation = message.transform.translation, message.transform.rotation
    translation.x, translation.y, translation.z = shift
    rotation.x, rotation.y, rotation.z, rotation.w = turn
    return message


@pytest.fixture
def transforms():
    """A robot that drives 2 m/s along x of odom, its camera and lidar 1 m above the ground."""
    buffer = TransformBuffer()
    for seconds in (0.0, 1.0):
        pose = link("odom", "base_footprint", seconds, (2.0 * seconds, 0.0, 0.0))
        buffer.add(pose, static=False)
    mount = link("base_footprint", "optical", 0.0, (0.0, 0.0, 1.0), (-0.5, 0.5, -0.5, 0.5))
    buffer.add(mount, static=True)
    buffer.add(link("base_footprint", "lidar", 0.0, (0.0, 0.0, 1.0)), static=True)
    return buffer


def cloud(points, frame_id, seconds):
    values = np.asarray(points, "<f4")
    fields = [
        PointField(name=name, offset=4 * k, datatype=PointField.FLOAT32, count=1)
        for k, name in enumerate("xyz")
    ]
    return PointCloud2(
        header=header(frame_id, seconds),
        height=1,
        width=len(values),
        fields=fields,
        point_step=12,
        row_step=12 * len(values),
        data=values.tobytes(),
    )


def located(method, one):
    """A position, or None while the cloud is on its way."""
    try:
        return method.locate(one)
    except NotYetError:
        return None


@pytest.mark.ros
def test_cloud_is_carried_over_the_fixed_frame_to_the_time_of_the_image(ros, transforms):
    chance = np.random.default_rng(1)
    method = PointCloudMethod(ros.node, transforms, RangeGate(5.0, 1.0))
    with pytest.raises(NoPositionError, match="nobody publishes /points"):
        method.locate(sighting())
    publisher = ros.publisher(PointCloud2, POINTS_TOPIC)

    # The target is at x = 10 in odom. The lidar saw it from 0.8, the camera from 1.0.
    target = np.stack((np.full(50, 9.2), *chance.uniform(-0.15, 0.15, (2, 50))), axis=1)
    behind = target * (1.5, 1.0, 1.0)
    publisher.publish(cloud(np.concatenate((target, behind)), "lidar", 0.4))
    position = ros.until(lambda: located(method, sighting(final=True)), "the cloud")
    assert position.point == pytest.approx((0.0, 0.0, 9.0), abs=0.02)
    assert position.range_sigma == pytest.approx(0.03, rel=0.2)
    method.close()

    direct = PointCloudMethod(ros.node, transforms, RangeGate(5.0, 1.0))
    publisher = ros.publisher(PointCloud2, POINTS_TOPIC)
    publisher.publish(cloud(target, "lidar", 0.4))
    for fixed_frame in ("", "map"):  # none, or one that TF does not have
        one = sighting(fixed_frame=fixed_frame)
        position = ros.until(lambda one=one: located(direct, one), "the cloud")
        assert position.range == pytest.approx(9.2, abs=0.02)
    with pytest.raises(NotYetError, match="has not come to the time of the image"):
        direct.locate(sighting(final=False))
    with pytest.raises(NoPositionError, match=r"-0\.300 s off the image"):
        direct.locate(sighting(seconds=0.7))

    publisher.publish(cloud(target[:4], "lidar", 0.5))
    publisher.publish(cloud([(9.0, 9.0, 9.0)], "radar", 0.6))

    def said(seconds):
        try:
            direct.locate(sighting(seconds=seconds))
        except (NoPositionError, TransformError) as error:
            return str(error)
        return ""

    ros.until(lambda: "4 points of the cloud" in said(0.52), "the refusal of too few points")
    ros.until(lambda: "no TF has a frame 'radar'" in said(0.6), "the refusal of an unknown frame")
    direct.close()


def test_ground_plane_needs_tf_and_the_lower_edge(transforms):
    method = GroundPlaneMethod(transforms)
    box = (300.0, 200.0, 40.0, 140.0)  # its lower edge is 100 pixels below the horizon: 5 m
    position = method.locate(sighting(box))
    assert position.point[2] == pytest.approx(5.0, rel=1e-3)
    raised = method.locate(sighting(box, ground__height=0.5))
    assert raised.range == pytest.approx(position.range / 2, rel=1e-3)
    with pytest.raises(NoPositionError, match="where the target stands is not seen"):
        method.locate(sighting((300.0, 200.0, 40.0, 280.0)))
    with pytest.raises(InputError, match="below the horizon"):
        method.locate(sighting((300.0, 100.0, 40.0, 100.0)))
    with pytest.raises(NoPositionError, match=r"the range is 5\.\d m, expected 0\.1 to 4 m"):
        method.locate(sighting(box, range__max=4.0))
    with pytest.raises(TransformError, match="no TF has a frame 'floor'"):
        method.locate(sighting(box, ground__frame="floor"))


def test_known_size_takes_the_height_first_and_the_width_where_that_is_cut_off():
    method = KnownSizeMethod()
    sizes = {"size__height": 2.0, "size__width": 0.5}
    whole = method.locate(sighting((300.0, 100.0, 50.0, 200.0), **sizes))
    assert whole.range == pytest.approx(5.0, rel=0.03)
    cut = method.locate(sighting((300.0, 300.0, 50.0, 180.0), **sizes))
    assert cut.range == pytest.approx(5.0, rel=0.05)  # by the width
    with pytest.raises(NoPositionError, match="the target's height and width may go on"):
        method.locate(sighting((0.0, 300.0, 50.0, 180.0), **sizes))
    with pytest.raises(NoPositionError, match="the target's height may go on"):
        method.locate(sighting((300.0, 0.0, 50.0, 200.0), size__height=2.0))
    assert method.locate(sighting((0.0, 100.0, 50.0, 200.0), size__height=2.0)).range > 4.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods": []}, "methods is []"),
        ({"methods": ["depth_image", "depth_image"]}, "each once"),
        ({"methods": ["known_size"]}, "give one of them"),
        ({"methods": ["ground_plane"], "ground__frame": ""}, "name a TF frame"),
        ({"range__min": 100.0}, "must be less"),
        ({"tracker": ""}, "tracker is ''"),
        ({"stop__action": "navigate to pose"}, "expected the name of an action"),
        ({"output_frame": "target"}, "cannot be given relative to itself"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, said):
    with pytest.raises(InputError) as refusal:
        settings(**changes)
    assert said in str(refusal.value)


@pytest.mark.ros
def test_room_beyond_the_largest_range_does_not_matter_to_a_target_within(ros):
    method = DepthImageMethod(ros.node, False, RangeGate(5.0, 1.0))
    publisher = ros.publisher(Image, DEPTH_TOPIC)
    millimetres = np.full((480, 640), 9000, "<u2")
    millimetres[215:265, 295:345] = 2000  # 0.8 % of the image
    message = Image(header=header("optical", 0.5), height=480, width=640, encoding="16UC1")
    message.step, message.data = 1280, millimetres.tobytes()
    publisher.publish(message)
    near = sighting(range__max=4.0)
    position = ros.until(lambda: located(method, near), "the depth image")
    assert position.range == pytest.approx(2.0, rel=0.01)
    with pytest.raises(
        NoPositionError, match=r"or range\.min and range\.max are: the median .* 9 m"
    ):
        method.locate(sighting((20.0, 20.0, 40.0, 40.0), range__max=4.0))
    method.close()


@pytest.mark.ros
def test_damaged_message_gives_no_position_and_a_reason(ros):
    buffer = MessageBuffer(ros.node, Image, DEPTH_TOPIC)
    publisher = ros.publisher(Image, DEPTH_TOPIC)
    message = Image(header=header("optical", 0.5), height=10, width=10, step=20, data=bytes(200))
    publisher.publish(serialize_message(message)[:-50])

    def said():
        try:
            buffer.find(BEGIN + NANOSECONDS // 2, 0.1, True)
        except NotYetError:
            return ""
        except NoPositionError as error:
            return str(error)
        return "nothing"

    assert "a message on /depth/image_raw cannot be read: " in ros.until(said, "the message")
    buffer.close()
