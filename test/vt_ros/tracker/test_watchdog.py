# SPDX-License-Identifier: Apache-2.0
"""A network that never returns: it is said, requests are refused, and the process can be ended."""

from __future__ import annotations

import signal

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition

from vt_interfaces.msg import TrackStatus
from vt_interfaces.srv import SetTarget
from vt_ros.common.process import EXIT_STUCK

pytestmark = pytest.mark.ros


def get_stuck(feed):
    """Track a target into a frame in which the network never returns; a status that says so."""
    ros = feed.ros
    target = feed.set_target().target_id
    feed.until_tracked()

    def told():
        feed.send(255 - feed.scene.frame(feed.step) // 3, patience=0.1)
        status = feed.status[-1]
        return status if "stuck in a frame for" in status.message else None

    status = ros.until(told, "a status although the network does not return")
    assert (status.state, status.target_id) == (TrackStatus.STATE_LOST, target)
    assert not feed.detection(status).detections
    return status


def test_network_that_never_returns_is_said_and_left_behind(ros, stuck_model, scene):
    process = ros.start_tracker(
        stuck_model, set_target_timeout=5.0, watchdog__timeout=3.0, locked=[""]
    )
    feed, diagnostics = ros.feed(scene), ros.diagnostics()
    get_stuck(feed)
    for task in ("model", "target"):
        ros.until_diagnosed(diagnostics, task, "stuck in a frame", level=DiagnosticStatus.ERROR)
    answer = ros.call(SetTarget, "tracker/set_target", feed.request())
    assert answer.error_code == SetTarget.Response.ERROR_INTERNAL
    assert "stuck in a frame" in answer.message
    assert "watchdog.timeout 3" in answer.message

    assert not ros.change_state(Transition.TRANSITION_DEACTIVATE)
    assert ros.state() == State.PRIMARY_STATE_UNCONFIGURED, "the model was given up"
    ros.until_diagnosed(diagnostics, "lifecycle", "stuck", level=DiagnosticStatus.ERROR)
    assert ros.change_state(Transition.TRANSITION_CONFIGURE)
    assert ros.change_state(Transition.TRANSITION_ACTIVATE)
    feed.until_connected()
    assert ros.set_parameter("watchdog.exit", True).successful
    get_stuck(feed)
    assert process.wait() == EXIT_STUCK
    ros.processes.remove(process)


def test_signal_ends_a_process_whose_network_never_returns(ros, stuck_model, scene):
    process = ros.start_tracker(stuck_model, set_target_timeout=5.0, watchdog__timeout=3.0)
    get_stuck(ros.feed(scene))
    process.send(signal.SIGTERM)
    assert process.wait() == 0
    assert "ended by force" not in process.output
    ros.processes.remove(process)
