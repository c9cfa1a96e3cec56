# SPDX-License-Identifier: Apache-2.0
"""A managed node under the calls of Nav2's lifecycle manager, over DDS.

As in nav2_lifecycle_manager/src/lifecycle_manager.cpp: each change_state is followed by get_state,
which must name the state that belongs to the transition; after an activation a bond must form.
"""

from __future__ import annotations

import signal
import uuid

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from lifecycle_msgs.msg import State, Transition

pytestmark = pytest.mark.ros

CONFIGURE = (Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE)
ACTIVATE = (Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE)
DEACTIVATE = (Transition.TRANSITION_DEACTIVATE, State.PRIMARY_STATE_INACTIVE)
CLEANUP = (Transition.TRANSITION_CLEANUP, State.PRIMARY_STATE_UNCONFIGURED)
SHUTDOWN = (Transition.TRANSITION_UNCONFIGURED_SHUTDOWN, State.PRIMARY_STATE_FINALIZED)


def change(ros, *steps):
    """The state after each transition; None if that was refused."""
    return [ros.state() if ros.change_state(transition) else None for transition, _ in steps]


def expected(*steps):
    return [state for _, state in steps]


def test_lifecycle_managers_commands_lead_to_the_states_that_it_expects(ros, tiny_model):
    tracker = ros.start_tracker(tiny_model, autostart=False)
    startup, pause, resume = (CONFIGURE, ACTIVATE), (DEACTIVATE,), (ACTIVATE,)
    reset, shutdown = (DEACTIVATE, CLEANUP), (DEACTIVATE, CLEANUP, SHUTDOWN)
    assert ros.state() == State.PRIMARY_STATE_UNCONFIGURED
    for command in (startup, pause, resume, reset, startup):
        assert change(ros, *command) == expected(*command)
    assert change(ros, *startup) == [None, None], "it is active already"
    assert "transition 1 refused: there is none such from the state active" in tracker.output
    assert change(ros, *shutdown) == expected(*shutdown), "and it still answers"
    assert change(ros, *reset) == [None, None], "there is no way out of finalized"
    assert tracker.stop() == 0


def test_lifecycle_manager_starts_a_node_anew_that_was_killed(ros, tiny_model):
    """It asks for the state until the new process answers, and begins as at first."""
    first = ros.start_tracker(tiny_model, autostart=False)
    assert change(ros, CONFIGURE, ACTIVATE) == expected(CONFIGURE, ACTIVATE)
    first.send(signal.SIGKILL)
    first.wait()
    # A hard reset goes on whatever does not answer; a respawned node has the old one's names.
    ros.start_tracker(tiny_model, autostart=False)
    assert ros.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert change(ros, DEACTIVATE, CLEANUP) == [None, None], "nothing to reset"
    assert change(ros, CONFIGURE, ACTIVATE) == expected(CONFIGURE, ACTIVATE)


def test_bond_forms_within_the_managers_patience_and_ends_with_the_activation(ros, tiny_model):
    status = pytest.importorskip("bond.msg", reason="bond comes with Nav2").Status
    heard = ros.collect(status, "bond")
    sister = ros.publisher(status, "bond", subscribers=1)  # this test's own; the node has none
    ros.start_tracker(tiny_model, autostart=False)
    assert change(ros, CONFIGURE, ACTIVATE) == expected(CONFIGURE, ACTIVATE)
    sister.publish(status(id="tracker", instance_id=str(uuid.uuid4()), active=True))
    own = ros.until(lambda: [one for one in heard if one.heartbeat_period], "a heartbeat")[0]
    assert (own.id, own.active) == ("tracker", True)
    assert own.heartbeat_period < own.heartbeat_timeout
    assert change(ros, DEACTIVATE) == expected(DEACTIVATE)
    ros.until(lambda: not heard[-1].active, "the end of the bond")
    heard.clear()
    assert change(ros, ACTIVATE) == expected(ACTIVATE)
    again = ros.until(lambda: heard, "the next bond")[0]
    assert again.instance_id != own.instance_id
