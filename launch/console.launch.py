# SPDX-License-Identifier: Apache-2.0
"""Serve the operator's page for running trackers: `ros2 launch vt_ros console.launch.py`.

`trackers:=/left/tracker,/right/tracker` shows both, each on the images beside it.
"""

from __future__ import annotations

from collections.abc import Mapping

from launch import LaunchDescription

from vt_ros.launching import SHARED, Argument, chosen, describe, node

ARGUMENTS = {
    **SHARED,
    "name": Argument("Name of the node.", "console"),
    "trackers": Argument("Names of the tracker nodes, separated by commas."),
    "images": Argument("Topics of their images, separated by commas; empty: image_raw beside."),
    "image_transport": Argument("Transport of the images.", choices=("", "raw", "compressed")),
    "address": Argument("IP address to listen on; another than 127.0.0.1 needs token_file."),
    "port": Argument("TCP port to listen on."),
    "token_file": Argument("File with the token of operators."),
    "viewer_token_file": Argument("File with the token of viewers."),
}


def start(given: dict[str, str], environment: Mapping[str, str]) -> list[object]:
    """The node, with what overrides params_file."""
    parameters = chosen(
        given, image_transport=str, address=str, port=int, token_file=str, viewer_token_file=str
    )
    for name in ("trackers", "images"):
        if given[name]:
            parameters[name] = [text.strip() for text in given[name].split(",")]
    return [node("console", given["name"], given, environment, parameters)]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` calls."""
    return describe(ARGUMENTS, start)
