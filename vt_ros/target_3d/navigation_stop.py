# SPDX-License-Identifier: Apache-2.0
"""Stops a navigation that follows the target, once the target is lost.

Nav2's tree follow_point takes poses from `goal_update` and goes on to the last of them for ever: it
has no time-out. So its goals are cancelled, by the service that every action has.
"""

from __future__ import annotations

import time
from typing import Any

from action_msgs.srv import CancelGoal
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future

_PERIOD = 0.1  # seconds between two looks
_RETRY = 1.0  # seconds until a cancellation that was not carried out is asked for again
_GIVE_UP = 30.0  # seconds; later the goal that runs is likely to be another one
_TIME_TO_SEND = 0.05  # seconds; a request of a client that is destroyed at once may never leave


class NavigationStop:
    """Cancels all goals of an action when no position has been published for some time.

    It is armed by a position: what follows something else is left alone. Once cancelled, a goal is
    for the operator, or the program that gave it, to give again.

    Args:
        node: calls.
        action: name of the action, relative or absolute.
        timeout: seconds.

    Attributes:
        problem: why the goals are not cancelled yet; empty: nothing is wrong.
        stops: how often goals were cancelled.
    """

    def __init__(self, node: Node, action: str, timeout: float) -> None:
        self._node, self._timeout = node, timeout
        self.problem, self.stops = "", 0
        self._reason = ""
        self._last_position = self._stopped = self._asked = float("-inf")
        self._armed = self._stopping = False
        self._answer: Future | None = None
        self._service = f"{action}/_action/cancel_goal"
        self._client = node.create_client(CancelGoal, self._service)
        self._timer = node.create_timer(
            _PERIOD, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def close(self) -> None:
        """Stop the navigation if it follows the target: no more positions will come."""
        if self._armed:
            self.stop("the node is not active any more")
            time.sleep(_TIME_TO_SEND)
        self._node.destroy_timer(self._timer)
        self._node.destroy_client(self._client)

    def on_position(self) -> None:
        """Note that a position has been published."""
        self._last_position = time.monotonic()
        self._armed, self._stopping, self.problem = True, False, ""

    def stop(self, reason: str) -> None:
        """Stop now, if positions have been published since the last stop."""
        if self._armed:
            self._armed, self._stopping, self._reason = False, True, reason
            self._stopped = time.monotonic()
            self._ask()

    def _look(self) -> None:
        now = time.monotonic()
        if self._armed and now - self._last_position > self._timeout:
            self.stop(f"no position for {self._timeout:g} s")
        elif self._stopping and now - self._stopped > _GIVE_UP:
            self._stopping, self.problem = False, f"given up after {_GIVE_UP:g} s: {self.problem}"
            self._node.get_logger().error(f"the navigation was not stopped, {self.problem}")
        elif self._stopping and now - self._asked > _RETRY:
            if self._answer is not None and not self._answer.done():
                self.problem = f"{self._node.resolve_service_name(self._service)} does not answer"
                self._client.remove_pending_request(self._answer)
            self._ask()

    def _ask(self) -> None:
        """Ask for all goals to be cancelled: a request without an id or a time means all."""
        self._asked = time.monotonic()
        if not self._client.service_is_ready():
            self.problem = f"nobody offers {self._node.resolve_service_name(self._service)}"
            return
        self._answer = self._client.call_async(CancelGoal.Request())
        self._answer.add_done_callback(self._on_answer)

    def _on_answer(self, answer: Future) -> None:
        response: Any = answer.result()
        if answer is not self._answer or not self._stopping:
            return
        if response.return_code == CancelGoal.Response.ERROR_REJECTED:
            self.problem = "the action refused to cancel its goals"
            return
        self._stopping, self.problem = False, ""
        count = len(response.goals_canceling)
        if not count:  # positions are published whether anything follows them or not
            self._node.get_logger().info(f"no goal was there to cancel: {self._reason}")
            return
        self.stops += 1
        self._node.get_logger().warning(f"navigation stopped ({count} goals): {self._reason}")
