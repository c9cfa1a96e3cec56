# SPDX-License-Identifier: Apache-2.0
"""The programs of this package, as setup.py names them: `tracker_node`, `camera_node`, `demo`.

Nothing of ROS 2 is imported before its absence can be told in one sentence.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from importlib import import_module
from types import ModuleType

EXIT_USAGE = 2

# Modules that come with ROS 2 and with no `pip install vt_ros`.
_ROS_MODULES = frozenset(
    {
        "builtin_interfaces",
        "diagnostic_msgs",
        "geometry_msgs",
        "lifecycle_msgs",
        "rcl_interfaces",
        "rclpy",
        "sensor_msgs",
        "std_msgs",
        "std_srvs",
        "vision_msgs",
        "vt_interfaces",
    }
)


def tracker_node() -> int:
    """Run the node `tracker` in this process; also `python -m vt_ros.tracker`."""
    return run_node("vt_ros.tracker.node", "TrackerNode")


def camera_node() -> int:
    """Run the node `camera` in this process; also `python -m vt_ros.camera`."""
    return run_node("vt_ros.camera.node", "CameraNode")


def demo(argv: list[str] | None = None) -> int:
    """Run the demonstration from the command line; also `python -m vt_ros.demo`."""
    module = import_ros("vt_ros.demo.demonstration")
    if module is None:
        return EXIT_USAGE
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return int(module.main(argv))


def run_node(module: str, name: str) -> int:
    """Import a node's module, run the node, and return its exit code.

    Ctrl-C while the imports run, which takes up to a second, ends the process quietly.

    Args:
        module: holds the node.
        name: of its class; it is given a future, see `vt_ros.common.process.run`.
    """
    loaded = import_ros(module)
    if loaded is None:
        return EXIT_USAGE
    run = import_module("vt_ros.common.process").run
    return _leave(int(run(getattr(loaded, name))))


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
    """Import a module that needs ROS 2; None, and a sentence on standard error, without ROS 2."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return import_module(module)
    except ImportError as error:
        absent = (error.name or "").partition(".")[0]
        if absent not in _ROS_MODULES:
            raise
        sys.stderr.write(
            f"error: the Python module {absent} is not here, so this is no ROS 2 environment; "
            "source a ROS 2 installation with vt_ros built in it, or run `make setup` in the "
            "repository and use .venv/bin/python\n"
        )
        return None
