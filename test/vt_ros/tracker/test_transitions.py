# SPDX-License-Identifier: Apache-2.0
"""Transitions that fail: FAILURE, back to where it began, and the reason for everybody to read."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import rclpy
from lifecycle_msgs.msg import State
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from vt_ros.common.diagnostic_updater import ERROR, TaskReport
from vt_ros.common.process import StartError
from vt_ros.tracker import node as tracker_node
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


def test_locked_parameters_never_change_again_once_the_node_has_been_active(node, tmp_path):
    """Any node of the network may deactivate this one: that must not unlock them."""

    def results():
        values = {
            "weights": str(tmp_path / "stranger"),
            "grounding.source": "hub:stranger/anything",
            "threads": 64,
            "frame_buffer.megabytes": 4096,
            "watchdog.exit": True,
            "hardware_id": "7",
            "locked": [""],
        }
        return [
            node.set_parameters([Parameter(name, value=value)])[0] for name, value in values.items()
        ]

    def successes():
        return [result.successful for result in results()]

    assert node.trigger_activate() == SUCCESS
    assert successes() == [False] * 5 + [True, False]
    assert "weights may not change since the node has been active" in results()[0].reason
    assert node.trigger_deactivate() == SUCCESS
    assert successes() == [False] * 5 + [True, False]
    assert node.set_parameters([node.get_parameter("weights")])[0].successful, "its own dump"


def test_change_before_the_activation_that_fails_after_it_is_undone_once(
    node, tiny_model, tmp_path, monkeypatch
):
    """What is locked by then goes back to what is at work, and is not loaded again and again."""
    loaded = []
    load = tracker_node.load_in_background

    def load_and_remember(request):
        loaded.append(request.weights)
        return load(request)

    monkeypatch.setattr(tracker_node, "load_in_background", load_and_remember)
    missing = str(tmp_path / "nowhere")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    assert node.set_parameters([Parameter("weights", value=missing)])[0].successful
    assert node.trigger_activate() == SUCCESS
    for _ in range(60):
        executor.spin_once(timeout_sec=0.05)
    executor.remove_node(node)
    assert loaded == [missing]
    assert node.get_parameter("weights").value == str(tiny_model)
    assert "nowhere" in node._state.switch_failure
    assert not node.set_parameters([Parameter("weights", value=missing)])[0].successful


@pytest.fixture
def node_with(ros, tiny_model):
    """Make a tracker in this process with further arguments."""
    made = []

    def make(*parameters):
        arguments = ["--ros-args", "-p", "autostart:=false", "-p", f"weights:={tiny_model}"]
        for one in parameters:
            arguments += ["-p", one]
        rclpy.init(args=arguments, domain_id=ros.domain)
        made.append(TrackerNode())
        return made[0]

    yield make
    for one in made:
        one.close()
        one.destroy_node()
    rclpy.shutdown()


def test_a_node_that_locks_everything_takes_what_it_has(node_with):
    node = node_with('locked:=["*"]')
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    present = node.get_parameters(["model", "target.searches", "use_sim_time"])
    assert all(result.successful for result in node.set_parameters(present))
    result = node.set_parameters([Parameter("target.searches", value=3)])[0]
    assert "target.searches may not change" in result.reason


@pytest.mark.parametrize("pattern", ["weight", "[a", "grounding.sources"])
def test_locked_that_matches_nothing_is_refused(node_with, pattern):
    """It would leave open what somebody meant to lock."""
    with pytest.raises(StartError, match=re.escape(f"locked: {pattern!r} matches no parameter")):
        node_with(f'locked:=["weights", "{pattern}"]')
