# SPDX-License-Identifier: Apache-2.0
"""Turn a camera to the target of a running tracker: `ros2 launch vt_ros look_at.launch.py`.

With `output:=twist` the rates are remapped to the drive by `cmd_vel:=/gimbal/cmd_vel`.
"""

from __future__ import annotations

from collections.abc import Mapping

from launch import LaunchDescription

from vt_ros.launching import SHARED, Argument, chosen, describe, node

ARGUMENTS = {
    **SHARED,
    "name": Argument("Name of the node.", "look_at"),
    "tracker": Argument("Name of the tracker node."),
    "output": Argument(
        "What is commanded.",
        choices=("", "twist", "joint_trajectory", "joint_state", "mavlink", "onvif"),
    ),
    "cmd_vel": Argument("Topic of the rates of output:=twist; empty: ~/cmd_vel."),
}


def start(given: dict[str, str], environment: Mapping[str, str]) -> list[object]:
    """The node, with what overrides params_file."""
    parameters = chosen(given, tracker=str, output=str)
    remappings = [("~/cmd_vel", given["cmd_vel"])] if given["cmd_vel"] else []
    return [
        node("look_at", given["name"], given, environment, parameters, remappings=remappings),
    ]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` calls."""
    return describe(ARGUMENTS, start)
