# SPDX-License-Identifier: Apache-2.0
"""Turns of the camera in frames of robots."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from vt_ros.look_at.mount import Mount

ANGLES = st.floats(-math.pi, math.pi)
RIGHT, DOWN = np.array((1.0, 0.0)), np.array((0.0, 1.0))


def test_camera_that_looks_forward_turns_as_rep_103_says():
    assert Mount().angular_velocity(RIGHT) == pytest.approx((0.0, 0.0, -1.0))
    assert Mount().angular_velocity(DOWN) == pytest.approx((0.0, 1.0, 0.0))
    assert Mount().pan_and_tilt() == pytest.approx(np.diag((-1.0, 1.0)))


def test_camera_upside_down_turns_the_other_way():
    assert Mount(roll=math.pi).angular_velocity(RIGHT) == pytest.approx((0.0, 0.0, 1.0))
    assert Mount(roll=math.pi).angular_velocity(DOWN) == pytest.approx((0.0, -1.0, 0.0))


def test_camera_that_looks_to_the_left_tilts_about_x():
    """Down for it is a roll to the left of the robot, negative about x."""
    assert Mount(yaw=0.5 * math.pi).angular_velocity(DOWN) == pytest.approx((-1.0, 0.0, 0.0))


@given(ANGLES, ANGLES, ANGLES, st.tuples(ANGLES, ANGLES))
def test_rotation_keeps_the_speed(roll, pitch, yaw, rates):
    turned = Mount(roll, pitch, yaw).angular_velocity(np.array(rates))
    assert np.linalg.norm(turned) == pytest.approx(math.hypot(*rates), abs=1e-9)


@given(ANGLES, ANGLES, ANGLES)
def test_rotation_takes_the_optical_axis_where_the_urdf_says(roll, pitch, yaw):
    """The image's right and down span what is orthogonal to the axis of view."""
    view = np.array(
        (math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), -math.sin(pitch))
    )
    mount = Mount(roll, pitch, yaw)
    for rates in (RIGHT, DOWN):
        assert mount.angular_velocity(rates) @ view == pytest.approx(0.0, abs=1e-9)
