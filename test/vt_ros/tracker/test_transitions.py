# SPDX-License-Identifier: Apache-2.0
"""Transitions that fail: FAILURE, back to where it began, and the reason for everybody to read."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import rclpy
from lifecycle_msgs.msg import State
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from vt_ros.common.diagnostic_updater import ERROR, TaskReport
from vt_ros.tracker.node import TrackerNode

pytestmark = pytest.mark.ros

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@pytest.fixture
def node(ros, tiny_model):
    """A tracker in this process, which nothing spins; it is inactive."""
    arguments = ["--ros-args", "-p", "autostart:=false", "-p", f"weights:={tiny_model}"]
    rclpy.init(args=arguments, domain_id=ros.domain)
    node = TrackerNode()
    assert node.trigger_configure() == SUCCESS
    yield node
    node.close()
    node.destroy_node()
    rclpy.shutdown()


def state_of(node):
    return node._state_machine.current_state[0]


def reason(node):
    report = TaskReport()
    node._diagnostics.report_lifecycle(report)
    assert report.level == ERROR
    return report.message


def test_configure_with_missing_weights_fails_with_a_reason(node, tmp_path):
    assert node.trigger_cleanup() == SUCCESS
    node.set_parameters([Parameter("weights", value=str(tmp_path / "nowhere"))])
    assert node.trigger_configure() == FAILURE
    assert state_of(node) == State.PRIMARY_STATE_UNCONFIGURED
    assert "cannot configure" in reason(node)
    assert "nowhere" in reason(node)


@pytest.mark.parametrize(
    ("name", "part", "before", "says"),
    [
        ("activate", "create_subscription", State.PRIMARY_STATE_INACTIVE, "cannot activate"),
        ("deactivate", "_stop", State.PRIMARY_STATE_ACTIVE, "cannot deactivate"),
        ("cleanup", "_release", State.PRIMARY_STATE_INACTIVE, "cannot clean up"),
    ],
)
def test_transition_that_breaks_leads_back_and_works_once_mended(
    node, monkeypatch, name, part, before, says
):
    """Whatever is raised inside, FAILURE leads back; once it is mended the transition works."""
    if before == State.PRIMARY_STATE_ACTIVE:
        assert node.trigger_activate() == SUCCESS

    def broken(*_, **__):
        raise OSError("the part is broken")

    with monkeypatch.context() as patch:
        patch.setattr(node, part, broken)
        assert getattr(node, f"trigger_{name}")() == FAILURE
    assert state_of(node) == before
    assert reason(node).endswith(f"{says}: OSError: the part is broken")
    assert getattr(node, f"trigger_{name}")() == SUCCESS
    report = TaskReport()
    node._diagnostics.report_lifecycle(report)
    assert report.level != ERROR
