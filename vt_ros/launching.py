# SPDX-License-Identifier: Apache-2.0
"""What the launch files share; only they import it, since `launch` comes with ROS installations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, LogInfo, OpaqueFunction, Shutdown
from launch.events import matches_action
from launch.events.process import ProcessExited, ShutdownProcess
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from vt_ros.common.resources import fast_dds_environment
from vt_ros.entry_points import EXIT_USAGE

_TRUE = ("true", "True", "1")
BOOLEANS = ("", *_TRUE, "false", "False", "0")
_RESPAWN_DELAY = 2.0

Value = bool | int | str | list[str]
"""Of a parameter."""


class Argument(NamedTuple):
    """An argument of a launch file, by default empty: as in params_file, or as a parent sets it."""

    description: str
    default: str = ""
    choices: tuple[str, ...] = ()


SHARED = {
    "namespace": Argument("Namespace of the nodes."),
    "params_file": Argument(
        "YAML file with parameters of the nodes; config/tracker.yaml of this package has all."
    ),
    "use_sim_time": Argument("Take the time from /clock.", choices=BOOLEANS),
    "use_respawn": Argument(
        "Start a node again when it has ended, but not one that refused its parameters.",
        choices=BOOLEANS,
    ),
    "log_level": Argument(
        "debug, info, warn, error or fatal; LOGGER:=LEVEL for one, as tracker:=debug."
    ),
}


def is_true(text: str) -> bool:
    """Return the boolean that one of `BOOLEANS` stands for."""
    return text in _TRUE


def describe(
    arguments: Mapping[str, Argument],
    start: Callable[[dict[str, str], Mapping[str, str]], list[Any]],
) -> LaunchDescription:
    """Return what a launch file describes.

    Args:
        arguments: by name.
        start: given the arguments' values and the environment, returns what to start.
    """

    def started(context: LaunchContext) -> list[Any]:
        given = {name: LaunchConfiguration(name).perform(context) for name in arguments}
        return start(given, context.environment)

    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    name,
                    default_value=argument.default,
                    description=argument.description,
                    choices=argument.choices or None,
                )
                for name, argument in arguments.items()
            ),
            OpaqueFunction(function=started),
        ]
    )


def chosen(given: Mapping[str, str], **kinds: type) -> dict[str, Value]:
    """Return the parameters that arguments of the same name give, those left empty left out.

    Raises:
        RuntimeError: an argument that stands for an integer is none.
    """
    parameters: dict[str, Value] = {}
    for name, kind in kinds.items():
        text = given[name]
        if kind is int and text and not text.isdecimal():
            raise RuntimeError(f"{name} is {text!r}, expected an integer")
        if text:
            parameters[name] = is_true(text) if kind is bool else kind(text)
    return parameters


def node(
    program: str,
    name: str,
    given: Mapping[str, str],
    environment: Mapping[str, str],
    parameters: Mapping[str, Value],
    *,
    remappings: Sequence[tuple[str, str]] = (),
    ends_all: bool = False,
) -> Node:
    """Return one of this package's nodes.

    Args:
        program: "tracker", "camera", "mavlink_camera", "look_at", "target_3d" or "console".
        name: of the node.
        given: all arguments of the launch file, `SHARED` among them.
        environment: that the node will have; a Fast DDS profile in it is kept.
        parameters: override params_file.
        remappings: of topics.
        ends_all: the whole launch ends when this node does, unless it is started again.
    """
    respawn = is_true(given["use_respawn"])

    def on_exit(event: ProcessExited, _context: LaunchContext) -> list[Any]:
        refused = event.returncode == EXIT_USAGE
        actions: list[Any] = []
        if respawn and refused:
            actions = [
                LogInfo(msg=f"{name} refused how it was started: it is not started again"),
                EmitEvent(event=ShutdownProcess(process_matcher=matches_action(event.action))),
            ]
        if ends_all and (refused or not respawn):
            actions.append(Shutdown(reason=f"{name} has ended"))
        return actions

    all_parameters = {**chosen(given, use_sim_time=bool), **parameters}
    level = ["--ros-args", "--log-level", given["log_level"]]
    return Node(
        package="vt_ros",
        executable=f"{program}_node",
        name=name,
        namespace=given["namespace"],
        output="screen",
        emulate_tty=True,
        parameters=[one for one in (given["params_file"], all_parameters) if one],
        remappings=list(remappings),
        arguments=level if given["log_level"] else [],
        additional_env=fast_dds_environment(environment),
        respawn=respawn,
        respawn_delay=_RESPAWN_DELAY,
        on_exit=on_exit,
    )
