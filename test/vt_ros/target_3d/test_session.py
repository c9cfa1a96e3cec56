# SPDX-License-Identifier: Apache-2.0
"""What a session says before there is anything to say."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from vt_ros.target_3d.parameters import SETTINGS, read_settings
from vt_ros.target_3d.session import Session


@pytest.mark.ros
def test_no_velocity_is_claimed_before_the_first_position(ros):
    defaults = {setting.name: setting.default for setting in SETTINGS}
    session = Session(ros.node, read_settings(defaults.__getitem__))
    assert session.velocity_problem == "no position yet"
    session.close()
