# SPDX-License-Identifier: Apache-2.0
"""Make a running tracker a MAVLink camera: `ros2 launch vt_ros mavlink_camera.launch.py`.

The argument `url` is udpout:HOST:PORT, udpin:HOST:PORT, tcp:HOST:PORT or serial:DEVICE:BAUD.
"""

from __future__ import annotations

from collections.abc import Mapping

from launch import LaunchDescription

from vt_ros.launching import SHARED, Argument, chosen, describe, node

ARGUMENTS = {
    **SHARED,
    "name": Argument("Name of the node.", "mavlink_camera"),
    "url": Argument("Ways to ground stations and autopilots."),
    "system_id": Argument("The vehicle's MAVLink system."),
    "tracker": Argument("Name of the tracker node."),
}


def start(given: dict[str, str], environment: Mapping[str, str]) -> list[object]:
    """The node, with what overrides params_file."""
    parameters = chosen(given, url=str, system_id=int, tracker=str)
    return [node("mavlink_camera", given["name"], given, environment, parameters)]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` calls."""
    return describe(ARGUMENTS, start)
