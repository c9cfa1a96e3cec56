# SPDX-License-Identifier: Apache-2.0
"""One tracker for each of several cameras: `ros2 launch vt_ros two_cameras.launch.py`.

Each runs in its camera's namespace, as /left/tracker on /left/image_raw. All arguments of
tracker.launch.py but `namespace` and `name` count for every one of them; `console:=true` is one
page for all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from launch import LaunchDescription
from launch.actions import GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

from vt_ros.launching import BOOLEANS, Argument, describe, is_true

ARGUMENTS = {
    "cameras": Argument("Namespaces of the cameras, separated by commas.", "left,right"),
    "console": Argument("Start one operator's page for all of them.", choices=BOOLEANS),
}

_NAMESPACE = re.compile(r"/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")


def start(given: dict[str, str], _environment: Mapping[str, str]) -> list[object]:
    """A tracker for each camera.

    Raises:
        RuntimeError: one of the cameras is no namespace, or is named twice.
    """
    cameras = [camera.strip() for camera in given["cameras"].split(",")]
    for camera in cameras:
        if not _NAMESPACE.fullmatch(camera):
            raise RuntimeError(
                f"cameras is {given['cameras']!r}: {camera!r} is no namespace; expected names of "
                "letters, digits and underscores, as left,right"
            )
    if len(set(cameras)) < len(cameras):  # two trackers of one name would answer for one another
        raise RuntimeError(f"cameras is {given['cameras']!r}; expected each of them once")
    included = [
        ("tracker.launch.py", {"namespace": camera, "console": "false"}) for camera in cameras
    ]
    if is_true(given["console"]):
        trackers = ",".join(f"/{camera.strip('/')}/tracker" for camera in cameras)
        included.append(("console.launch.py", {"namespace": "", "trackers": trackers}))
    # A group of its own, or the arguments of one would count for the next.
    return [
        GroupAction(
            [
                IncludeLaunchDescription(
                    PythonLaunchDescriptionSource(str(Path(__file__).with_name(file))),
                    launch_arguments=arguments.items(),
                )
            ]
        )
        for file, arguments in included
    ]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` calls."""
    return describe(ARGUMENTS, start)
