# SPDX-License-Identifier: Apache-2.0
"""A stop that nobody carries out is given up: the goal that runs later may be another one."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from action_msgs.msg import GoalInfo
from action_msgs.srv import CancelGoal

from vt_ros.target_3d import navigation_stop
from vt_ros.target_3d.navigation_stop import NavigationStop

pytestmark = pytest.mark.ros


def test_stop_is_given_up_and_what_is_not_followed_is_left_alone(ros, monkeypatch):
    monkeypatch.setattr(navigation_stop, "_RETRY", 0.1)
    monkeypatch.setattr(navigation_stop, "_GIVE_UP", 0.5)
    stop = NavigationStop(ros.node, "navigate_to_pose", timeout=60.0)
    stop.on_position()
    stop.stop("the target is LOST")
    ros.until(lambda: "given up after 0.5 s: nobody offers" in stop.problem, "the end of trying")

    requests, goals = [], []

    def cancel(request, response):
        requests.append(request)
        response.goals_canceling = goals
        return response

    ros.node.create_service(CancelGoal, "navigate_to_pose/_action/cancel_goal", cancel)
    stop.stop("the target is LOST")  # no position has come since: nothing follows it
    stop.on_position()
    assert stop.problem == ""
    ros.until(lambda: ros.node.count_services("/navigate_to_pose/_action/cancel_goal"), "it")
    stop.stop("the target is LOST")
    ros.until(lambda: requests, "the request")
    ros.until(lambda: not stop._stopping, "the answer that no goal was there")
    assert stop.stops == 0
    goals.append(GoalInfo())
    stop.on_position()
    stop.stop("the target is LOST")
    ros.until(lambda: stop.stops == 1, "the stop")
    count = len(requests)  # more than one where an answer was lost, as before discovery
    stop.close()
    assert len(requests) == count
