# SPDX-License-Identifier: Apache-2.0
"""Start the tracker: `ros2 launch vt_ros tracker.launch.py image:=/camera/image_raw`.

With `source:=video.mp4` (or a folder, a device, an address, a webcam's index) a camera node is
started as well, with `mavlink:=udpout:127.0.0.1:14550` the node that makes the tracker a MAVLink
camera, with `look_at:=true` the one that turns the camera to the target (its parameters are in
`params_file`). With another `name` these are called NAME_camera, NAME_mavlink_camera, NAME_look_at.
"""

from __future__ import annotations

from collections.abc import Mapping

from launch import LaunchDescription

from vt_ros.launching import BOOLEANS, SHARED, Argument, chosen, describe, is_true, node

_TRACKER = "tracker"
_SHUTDOWN = "shutdown"

ARGUMENTS = {
    **SHARED,
    "name": Argument("Name of the tracker node; params_file has its parameters by it.", _TRACKER),
    "image": Argument("Topic of the images; empty: image_raw."),
    "camera_info": Argument("Topic of the calibration; empty: camera_info beside the images."),
    "image_transport": Argument("Transport of the images.", choices=("", "raw", "compressed")),
    "autostart": Argument("Configure and activate by itself.", choices=BOOLEANS),
    "model": Argument("Tracking model by name, or auto."),
    "weights": Argument("Export directory or .safetensors file of the model."),
    "device": Argument("Where the network runs.", choices=("", "auto", "cpu", "cuda", "tensorrt")),
    "source": Argument(
        "Video file, folder, bag, device, address or webcam index that a camera node publishes; "
        "empty: no camera node."
    ),
    "loop": Argument("Play the source again.", choices=BOOLEANS),
    "on_camera_exit": Argument(
        "What follows when the camera node has ended.", _SHUTDOWN, (_SHUTDOWN, "continue")
    ),
    "look_at": Argument("Start the node that turns the camera to the target.", choices=BOOLEANS),
    "console": Argument("Start the operator's page in the browser.", choices=BOOLEANS),
    "target_3d": Argument("Start the node that gives the target a position.", choices=BOOLEANS),
    "depth": Argument("Topic of the depth images for that, aligned with the images."),
    "pose_topic": Argument("Topic of its poses: dynamic_pose or goal_update for Nav2."),
    "mavlink": Argument("URL of a ground station or an autopilot; empty: no MAVLink camera."),
}


def start(given: dict[str, str], environment: Mapping[str, str]) -> list[object]:
    """The tracker, a camera if it has a source, and a MAVLink camera if it has a URL."""
    name = given["name"] or _TRACKER
    prefix = "" if name == _TRACKER else f"{name}_"
    topics = {"image_raw": given["image"], "camera_info": given["camera_info"]}
    remappings = [(topic, other) for topic, other in topics.items() if other]
    parameters = chosen(
        given, model=str, weights=str, device=str, image_transport=str, autostart=bool
    )
    nodes = [node("tracker", name, given, environment, parameters, remappings=remappings)]
    if given["source"]:
        nodes.append(
            node(
                "camera",
                f"{prefix}camera",
                given,
                environment,
                chosen(given, source=str, loop=bool),
                remappings=remappings,
                ends_all=given["on_camera_exit"] == _SHUTDOWN,
            )
        )
    other = {"tracker": name} if prefix else {}
    if is_true(given["look_at"]):
        nodes.append(node("look_at", f"{prefix}look_at", given, environment, other))
    if is_true(given["target_3d"]):
        folder, slash, _ = given["image"].rpartition("/")
        topics = {
            "camera_info": given["camera_info"] or (slash and f"{folder}/camera_info"),
            "depth/image_raw": given["depth"],
            "~/pose": given["pose_topic"],
        }
        nodes.append(
            node(
                "target_3d",
                f"{prefix}target_3d",
                given,
                environment,
                other,
                remappings=[(topic, place) for topic, place in topics.items() if place],
            )
        )
    if is_true(given["console"]):
        parameters = chosen(given, image_transport=str)
        if prefix:
            parameters["trackers"] = [name]
        nodes.append(
            node(
                "console",
                f"{prefix}console",
                given,
                environment,
                parameters,
                remappings=remappings[:1] if given["image"] else [],
            )
        )
    if given["mavlink"]:
        parameters = {"url": given["mavlink"], **other}
        if prefix:
            parameters["geo.target_3d"] = f"{prefix}target_3d"
        nodes.append(
            node("mavlink_camera", f"{prefix}mavlink_camera", given, environment, parameters)
        )
    return nodes


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` calls."""
    return describe(ARGUMENTS, start)
