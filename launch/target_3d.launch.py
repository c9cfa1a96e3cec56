# SPDX-License-Identifier: Apache-2.0
"""Give a running tracker's target a position: `ros2 launch vt_ros target_3d.launch.py`.

    depth:=/camera/aligned_depth_to_color/image_raw camera_info:=/camera/color/camera_info

For Nav2's Following Server add `pose_topic:=dynamic_pose`, for its tree follow_point
`pose_topic:=goal_update output_frame:=map stop_action:=navigate_to_pose`.
"""

from __future__ import annotations

from collections.abc import Mapping

from launch import LaunchDescription

from vt_ros.launching import SHARED, Argument, chosen, describe, node

ARGUMENTS = {
    **SHARED,
    "name": Argument("Name of the node.", "target_3d"),
    "tracker": Argument("Name of the tracker node."),
    "camera_info": Argument("Topic of the calibration of the tracker's images."),
    "depth": Argument("Topic of the depth images; their camera_info is beside them."),
    "points": Argument("Topic of the point clouds."),
    "methods": Argument(
        "Ways to a range, separated by commas, in order of preference: depth_image, point_cloud, "
        "ground_plane, known_size."
    ),
    "output_frame": Argument("TF frame of the positions."),
    "fixed_frame": Argument("TF frame of the velocity."),
    "pose_topic": Argument("Topic of the poses: dynamic_pose or goal_update for Nav2."),
    "stop_action": Argument("Action whose goals are cancelled when the target is lost."),
}


def start(given: dict[str, str], environment: Mapping[str, str]) -> list[object]:
    """The node, with what overrides params_file."""
    parameters: dict[str, object] = chosen(given, tracker=str, output_frame=str, fixed_frame=str)
    if given["methods"]:
        parameters["methods"] = [name.strip() for name in given["methods"].split(",")]
    if given["stop_action"]:
        parameters["stop.action"] = given["stop_action"]
    topics = {
        "camera_info": given["camera_info"],
        "depth/image_raw": given["depth"],
        "points": given["points"],
        "~/pose": given["pose_topic"],
    }
    remappings = [(topic, other) for topic, other in topics.items() if other]
    return [node("target_3d", given["name"], given, environment, parameters, remappings=remappings)]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` calls."""
    return describe(ARGUMENTS, start)
