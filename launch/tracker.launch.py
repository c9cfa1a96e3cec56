# SPDX-License-Identifier: Apache-2.0
"""Start the tracker: `ros2 launch vt_ros tracker.launch.py image:=/camera/image_raw`.

With `source:=video.mp4` (or a folder, or a webcam's index) a camera node is started as well.
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription

CONFIG = Path(get_package_share_directory("vt_ros")) / "config"

# By name: the default, and what it is.
ARGUMENTS = {
    "namespace": ("", "Namespace of the nodes."),
    "params_file": (str(CONFIG / "tracker.yaml"), "YAML file with the parameters of the nodes."),
    "use_sim_time": ("false", "Take the time from /clock."),
    "use_respawn": ("false", "Start a node again when it has ended."),
    "log_level": ("info", "debug, info, warn, error or fatal."),
    "image": ("image_raw", "Topic of the images; camera_info is taken from beside it."),
    "image_transport": ("", "raw or compressed; empty: as in params_file."),
    "autostart": ("", "true or false; empty: as in params_file."),
    "model": ("", "Tracking model by name, or auto; empty: as in params_file."),
    "device": ("", "auto, cpu, cuda or tensorrt; empty: as in params_file."),
    "source": ("", "Video file, folder or webcam index that a camera node publishes; empty: none."),
    "loop": ("", "true or false: play the source again; empty: as in params_file."),
}


def is_true(text: str) -> bool:
    """The boolean that a launch argument stands for."""
    return text.lower() in ("true", "1", "yes", "on")


def node(name: str, given: dict[str, str], parameters: dict[str, str | bool]) -> Node:
    """One of this package's nodes.

    Args:
        name: "tracker" or "camera".
        given: all launch arguments.
        parameters: what overrides params_file.
    """
    return Node(
        package="vt_ros",
        executable=f"{name}_node",
        name=name,
        namespace=given["namespace"],
        output="screen",
        emulate_tty=True,
        parameters=[
            given["params_file"],
            {"use_sim_time": is_true(given["use_sim_time"]), **parameters},
        ],
        remappings=[("image_raw", given["image"])],
        arguments=["--ros-args", "--log-level", given["log_level"]],
        # Large images are lost between processes without it; see the file.
        additional_env={"FASTRTPS_DEFAULT_PROFILES_FILE": str(CONFIG / "fastdds.xml")},
        respawn=is_true(given["use_respawn"]),
        respawn_delay=2.0,
    )


def start(context: LaunchContext) -> list[Node]:
    """The tracker, and a camera if it has a source."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    names = ("model", "device", "image_transport")
    texts = {name: given[name] for name in names if given[name]}
    switches = {name: is_true(given[name]) for name in ("autostart",) if given[name]}
    nodes = [node("tracker", given, {**texts, **switches})]
    if given["source"]:
        loop = {"loop": is_true(given["loop"])} if given["loop"] else {}
        nodes.append(node("camera", given, {"source": given["source"], **loop}))
    return nodes


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` calls."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, (default, description) in ARGUMENTS.items()
            ),
            OpaqueFunction(function=start),
        ]
    )
