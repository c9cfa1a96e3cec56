# SPDX-License-Identifier: Apache-2.0
"""The reader of /tf: lookups as tf2 defines them, over messages good and bad."""

from __future__ import annotations

import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from geometry_msgs.msg import Quaternion, TransformStamped, Vector3
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from tf2_msgs.msg import TFMessage

from vt_models.geometry.rigid import Transform, quaternion_of, slerp
from vt_ros.common import transforms
from vt_ros.common.convert import NANOSECONDS
from vt_ros.common.transforms import (
    Tf2Transforms,
    TransformBuffer,
    TransformError,
    TransformNotYetError,
    create_transforms,
)

SECOND = NANOSECONDS


def message(parent, child, stamp=0, shift=(0.0, 0.0, 0.0), quaternion=(0.0, 0.0, 0.0, 1.0)):
    transform = TransformStamped(child_frame_id=child)
    transform.header.frame_id = parent
    transform.header.stamp.sec, transform.header.stamp.nanosec = divmod(stamp, SECOND)
    transform.transform.translation = Vector3(x=shift[0], y=shift[1], z=shift[2])
    x, y, z, w = (float(value) for value in quaternion)
    transform.transform.rotation = Quaternion(x=x, y=y, z=z, w=w)
    return transform


def turned(degrees):
    half = np.radians(degrees) / 2
    return (0.0, 0.0, np.sin(half), np.cos(half))


@pytest.fixture
def robot():
    """odom -> base (moves 1 m/s, turns 90 degrees in 2 s) -> camera and lidar (fixed)."""
    buffer = TransformBuffer()
    buffer.add(message("base", "camera", shift=(0.1, 0.0, 0.5)), static=True)
    buffer.add(message("base", "lidar", shift=(0.0, 0.0, 1.0)), static=True)
    for second, angle in ((10, 0), (12, 90)):
        pose = message(
            "odom", "base", second * SECOND, (float(second - 10), 0.0, 0.0), turned(angle)
        )
        buffer.add(pose, static=False)
    return buffer


def test_lookup_interpolates_between_the_samples_around_the_stamp(robot):
    found = robot.lookup("odom", "camera", 11 * SECOND)
    half = np.sqrt(0.5)
    assert found.apply((0.0, 0.0, 0.0)) == pytest.approx((1 + 0.1 * half, 0.1 * half, 0.5))
    assert found.rotation[:, 0] == pytest.approx((half, half, 0.0))
    back = robot.lookup("camera", "odom", 11 * SECOND) @ found
    assert back.rotation == pytest.approx(np.eye(3))
    assert back.translation == pytest.approx(np.zeros(3), abs=1e-12)


def test_lookup_between_branches_needs_no_more_than_their_common_frame(robot):
    found = robot.lookup("camera", "lidar", 99 * SECOND)  # base is not known then, nor needed
    assert found.translation == pytest.approx((-0.1, 0.0, 0.5))
    same = robot.lookup("camera", "/camera", 0)
    assert same.translation == pytest.approx(np.zeros(3))


def test_lookup_never_extrapolates(robot):
    with pytest.raises(TransformNotYetError, match=r"odom ends 0\.500 s before the image"):
        robot.lookup("odom", "camera", 12 * SECOND + SECOND // 2)
    with pytest.raises(TransformError, match=r"odom begins 1\.000 s after the image") as refusal:
        robot.lookup("odom", "camera", 9 * SECOND)
    assert not isinstance(refusal.value, TransformNotYetError)


def test_frame_that_is_not_there_and_a_gap_between_trees_are_told_apart(robot):
    robot.add(message("map", "dock"), static=True)
    with pytest.raises(TransformError, match="no TF has a frame 'optical'"):
        robot.lookup("odom", "optical", 11 * SECOND)
    with pytest.raises(TransformError, match="no TF has a frame 'world'"):
        robot.lookup("world", "camera", 11 * SECOND)
    with pytest.raises(TransformError, match="does not connect camera and map"):
        robot.lookup("map", "camera", 11 * SECOND)


def test_circle_is_refused():
    buffer = TransformBuffer()
    buffer.add(message("a", "b"), static=True)
    buffer.add(message("b", "a"), static=True)
    with pytest.raises(TransformError, match="circle above a"):
        buffer.lookup("b", "a", 0)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (message("a", "a"), "two different frames"),
        (message("", "b"), "two different frames"),
        (message("a", "b", quaternion=(0, 0, 0, 0)), "expected the norm 1"),
        (message("a", "b" * 2000), "frame_id has 2000 characters"),
        (message("a", "b", shift=(float("nan"), 0.0, 0.0)), "expected finite numbers"),
        # Finite, but two of them in a chain were infinite, and so was the position.
        (message("a", "b", shift=(1.7e308, 0.0, 0.0)), "expected finite numbers up to 1e"),
    ],
)
def test_transform_that_makes_no_sense_changes_nothing(robot, bad, said):
    robot.add(bad, static=False)
    assert said in robot.refused
    with pytest.raises(TransformError, match="no TF has a frame 'b'"):
        robot.lookup("odom", "b", 11 * SECOND)
    assert robot.lookup("odom", "camera", 11 * SECOND)


def test_samples_are_kept_for_ten_seconds_in_order_and_once():
    buffer = TransformBuffer()
    for second in (30, 25, 27, 40, 5, 27):
        buffer.add(message("a", "b", second * SECOND, (float(second), 0.0, 0.0)), static=False)
    assert buffer.lookup("a", "b", 33 * SECOND).translation[0] == pytest.approx(33.0)
    with pytest.raises(TransformError, match="begins"):
        buffer.lookup("a", "b", 29 * SECOND)


def test_frame_with_another_parent_and_a_cleared_buffer_forget_what_was(robot):
    robot.add(message("map", "base", 11 * SECOND, (7.0, 0.0, 0.0)), static=False)
    assert robot.lookup("map", "camera", 11 * SECOND).translation == pytest.approx((7.1, 0.0, 0.5))
    robot.clear()
    with pytest.raises(TransformError, match="no TF has a frame 'map'"):
        robot.lookup("map", "camera", 11 * SECOND)
    assert robot.lookup("lidar", "camera", 0).translation == pytest.approx((0.1, 0.0, -0.5))


@given(st.integers(0, 10 * SECOND), st.floats(-179, 179), st.floats(-179, 179))
def test_interpolation_is_linear_and_spherical(stamp, first, second):
    buffer = TransformBuffer()
    buffer.add(message("a", "b", 0, (1.0, 2.0, 3.0), turned(first)), static=False)
    buffer.add(message("a", "b", 10 * SECOND, (2.0, 0.0, 3.0), turned(second)), static=False)
    found, share = buffer.lookup("a", "b", stamp), stamp / (10 * SECOND)
    assert found.translation == pytest.approx((1 + share, 2 - 2 * share, 3.0))
    expected = slerp(np.array(turned(first)), np.array(turned(second)), share)
    assert abs(quaternion_of(found.rotation) @ expected) == pytest.approx(1.0, abs=1e-9)


class StandInExtrapolationError(Exception):
    """tf2_ros.ExtrapolationException is a TransformException."""


def test_tf2_ros_is_used_where_it_is_installed(monkeypatch):
    """With a stand-in of its Buffer and TransformListener: it has no wheel, see the docs."""
    asked, closed = [], []

    class Buffer:
        def __init__(self, cache_time):
            assert cache_time == Duration(seconds=10.0)

        def lookup_transform(self, target_frame, source_frame, time):
            asked.append((target_frame, source_frame, time))
            if source_frame == "late":
                raise StandInExtrapolationError("extrapolation into the future")
            return message(target_frame, source_frame, 0, (1.0, 2.0, 3.0), turned(90))

        def clear(self):
            closed.append("cleared")

    stand_in = types.SimpleNamespace(
        Buffer=Buffer,
        TransformListener=lambda _buffer, _node: types.SimpleNamespace(
            unregister=lambda: closed.append("listener")
        ),
        ExtrapolationException=StandInExtrapolationError,
        TransformException=Exception,
    )
    monkeypatch.setattr(transforms, "tf2_ros", stand_in)
    jumps = types.SimpleNamespace(unregister=lambda: closed.append("jumps"))
    clock = types.SimpleNamespace(create_jump_callback=lambda _, post_callback: jumps)
    reader = create_transforms(types.SimpleNamespace(get_clock=lambda: clock))
    assert isinstance(reader, Tf2Transforms)
    found = reader.lookup("/odom", "camera", 5)
    assert asked == [("odom", "camera", Time(nanoseconds=5))]
    assert isinstance(found, Transform)
    assert found.apply((1.0, 0.0, 0.0)) == pytest.approx((1.0, 3.0, 3.0))
    with pytest.raises(TransformNotYetError, match="TF: extrapolation into the future"):
        reader.lookup("odom", "late", 5)
    reader.close()
    assert closed == ["jumps", "listener"]


@pytest.mark.ros
def test_reader_hears_moving_and_latched_transforms_over_dds(ros):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    static = ros.node.create_publisher(TFMessage, "/tf_static", latched)
    static.publish(TFMessage(transforms=[message("base", "camera", shift=(0.1, 0.0, 0.5))]))
    reader = transforms.TransformReader(ros.node)
    moving = ros.publisher(TFMessage, "/tf", 10)
    moving.publish(TFMessage(transforms=[message("odom", "base", 5 * SECOND, (2.0, 0.0, 0.0))]))

    def found():
        try:
            return reader.lookup("odom", "camera", 5 * SECOND)
        except TransformError:
            return None

    transform = ros.until(found, "both transforms")
    assert transform.translation == pytest.approx((2.1, 0.0, 0.5))
    reader.close()


def test_frames_without_end_do_not_fill_the_memory():
    buffer = TransformBuffer()
    buffer.add(message("odom", "base"), static=True)
    for number in range(10_100):
        buffer.add(message("odom", f"frame_{number}"), static=True)
    assert len(buffer._links) == 10_000
    assert "10000 frames already" in buffer.refused
    buffer.add(message("odom", "base", shift=(1.0, 0.0, 0.0)), static=True)
    assert buffer.lookup("odom", "base", 0).translation[0] == 1.0
