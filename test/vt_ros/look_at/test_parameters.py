# SPDX-License-Identifier: Apache-2.0
"""Parameters together: what makes sense, and what is refused."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from vt_models.errors import InputError
from vt_ros.look_at.parameters import SETTINGS, read_settings


def read(**changes):
    values = {setting.name: setting.default for setting in SETTINGS}
    values |= {name.replace("__", "."): value for name, value in changes.items()}
    return read_settings(values.__getitem__)


def test_defaults_are_read():
    settings = read()
    assert settings.controller.dead_time is None
    assert settings.controller.axes == (True, True)
    assert settings.period == 0.02
    assert read(dead_time__measure=False).controller.dead_time == 0.15
    assert read(axes="pan").controller.axes == (True, False)
    assert read(joints__pan_inverted=True).joints.signs == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tracker": "a//b"}, "tracker is 'a//b', expected the name of a node"),
        ({"lost__action": "home"}, "nobody says where the camera stands"),
        ({"dead_time__motion": 0.2, "max_rate": 0.02}, "takes 10.0 s at max_rate"),
        ({"output": "mavlink", "mount__pitch": 0.5 * math.pi}, "does not look where"),
        ({"output": "joint_state", "joints__tilt": "pan_joint"}, "expected two names"),
        ({"mavlink__url": "udp:1"}, r"^mavlink\.url is 'udp:1', expected udpout:HOST:PORT"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, words):
    with pytest.raises(InputError, match=words):
        read(**changes)


def test_camera_on_its_side_is_fine_for_joints():
    assert read(output="joint_state", mount__roll=0.5 * math.pi).output == "joint_state"
