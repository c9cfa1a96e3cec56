# SPDX-License-Identifier: Apache-2.0
"""The programs of this package, as setup.py names them: nodes, and `demo`.

Nothing of ROS 2 is imported before its absence can be told in one sentence.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from types import ModuleType

from vt_models.standard_streams import open_standard_streams

EXIT_OK, EXIT_USAGE = 0, 2

_ROS_ARGS = "--ros-args"
_USAGE = """\
usage: {program} [--ros-args [-p NAME:=VALUE] [--params-file FILE] [-r FROM:=TO]
       [--log-level LEVEL] ...]

{summary}

-r __node:=NAME and -r __ns:=/NAMESPACE rename the node, -r TOPIC:=TOPIC a topic. Parameters:
"""

# Modules that come with ROS 2 and with no `pip install vt_ros`.
_ROS_MODULES = frozenset(
    {
        "action_msgs",
        "builtin_interfaces",
        "diagnostic_msgs",
        "geometry_msgs",
        "lifecycle_msgs",
        "rcl_interfaces",
        "rclpy",
        "rosgraph_msgs",
        "sensor_msgs",
        "std_msgs",
        "std_srvs",
        "trajectory_msgs",
        "tf2_msgs",
        "vision_msgs",
        "visualization_msgs",
        "vt_interfaces",
    }
)

# Modules that an extra brings, by the extra's name.
_EXTRAS = {"aiohttp": "console"}


def tracker_node() -> int:
    """Run the node `tracker` in this process; also `python -m vt_ros.tracker`."""
    return run_node("vt_ros.tracker.node", "TrackerNode")


def camera_node() -> int:
    """Run the node `camera` in this process; also `python -m vt_ros.camera`."""
    return run_node("vt_ros.camera.node", "CameraNode")


def mavlink_camera_node() -> int:
    """Run the node `mavlink_camera` in this process; also `python -m vt_ros.mavlink_camera`."""
    return run_node("vt_ros.mavlink_camera.node", "MavlinkCameraNode")


def look_at_node() -> int:
    """Run the node `look_at` in this process; also `python -m vt_ros.look_at`."""
    return run_node("vt_ros.look_at.node", "LookAtNode")


def target_3d_node() -> int:
    """Run the node `target_3d` in this process; also `python -m vt_ros.target_3d`."""
    return run_node("vt_ros.target_3d.node", "Target3dNode")


def console_node() -> int:
    """Run the node `console` in this process; also `python -m vt_ros.console`."""
    return run_node("vt_ros.console.node", "ConsoleNode")


def demo(argv: list[str] | None = None) -> int:
    """Run the demonstration from the command line; also `python -m vt_ros.demo`."""
    module = import_ros("vt_ros.demo.demonstration")
    if module is None:
        return EXIT_USAGE
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return int(module.main(argv))


def run_node(module: str, name: str) -> int:
    """Import a node's module, run the node, and return its exit code.

    Ctrl-C while the imports run, which takes up to a second, ends the process quietly. --help
    shows the parameters; other words that are not behind --ros-args are refused.

    Args:
        module: holds the node, and the table of its parameters, `SETTINGS`.
        name: of its class; it is given a future, see `vt_ros.common.process.run`.
    """
    open_standard_streams()
    loaded = import_ros(module)
    if loaded is None:
        return EXIT_USAGE
    words = list(takewhile(lambda word: word != _ROS_ARGS, sys.argv[1:]))
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.stdout.write(_help(loaded, getattr(loaded, name)))
        return EXIT_OK
    if words:
        sys.stderr.write(
            f"error: unexpected {' '.join(words)}; what is for ROS stands behind {_ROS_ARGS}, and "
            "--help shows it\n"
        )
        return EXIT_USAGE
    run = import_module("vt_ros.common.process").run
    return _leave(int(run(getattr(loaded, name))))


def _help(module: ModuleType, node: type) -> str:
    """Return what --help shows of a node."""
    summary = (node.__doc__ or "").partition("\n")[0]
    text = _USAGE.format(program=Path(sys.argv[0]).name, summary=summary)
    return text + "".join(
        f"  {setting.name}:={json.dumps(setting.default)}\n      {setting.description}\n"
        for setting in module.SETTINGS
    )


def _leave(code: int) -> int:
    """Return the exit code; or end at once, if a thread is still busy, as one that loads a model.

    Python would go on to take itself down under that thread, and C++ code in it would abort.
    """
    if any(thread is not threading.current_thread() for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def import_ros(module: str) -> ModuleType | None:
    """Import a module of a program; None, and a sentence on standard error, without what it needs.

    That is ROS 2, and for some programs an extra.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return import_module(module)
    except ImportError as error:
        absent = (error.name or "").partition(".")[0]
        if absent in _EXTRAS:
            extra = _EXTRAS[absent]
            sys.stderr.write(
                f"error: the Python module {absent} is not here; run "
                f"`pip install 'vt_ros[{extra}]'`, or `pip install {absent}`\n"
            )
            return None
        if absent not in _ROS_MODULES:
            raise
        sys.stderr.write(
            f"error: the Python module {absent} is not here, so this is no ROS 2 environment; "
            "source a ROS 2 installation with vt_ros built in it, or run `make setup` in the "
            "repository and use .venv/bin/python\n"
        )
        return None
