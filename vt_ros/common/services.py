# SPDX-License-Identifier: Apache-2.0
"""Services that answer every request, also when a hundred clients ask at once."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.task import Future

# ROS keeps 10 requests of a service, of all its clients together, and drops the others unheard.
_REQUESTS = QoSProfile(depth=1000)

# Each client receives the responses to all clients of the service, and keeps 10 of them until it
# comes to look for its own: of 100 clients in one process 84 lost theirs in a burst. What a process
# needs to look at one response grows with the clients in it, so the pace does, too.
_BURST, _SECONDS_PER_CLIENT = 8, 0.001


def create_service_for_many(
    node: Node, service_type: type, name: str, callback: Callable[[Any, Any], Any]
) -> None:
    """Create a service of which no request is lost, and no response among those to others.

    Args:
        node: offers it.
        service_type: of the service.
        name: of the service.
        callback: given request and response, returns the response; a coroutine may wait, others
            are called meanwhile.
    """
    pace = _Pace(node, name)

    async def answer(request: Any, response: Any) -> Any:
        result = callback(request, response)
        if inspect.isawaitable(result):
            result = await result
        await pace.turn()
        return result

    node.create_service(
        service_type,
        name,
        answer,
        qos_profile=_REQUESTS,
        callback_group=ReentrantCallbackGroup(),
    )


class _Pace:
    """Lets `_BURST` responses go at once, then one at a time, in order."""

    def __init__(self, node: Node, name: str) -> None:
        self._node, self._name = node, node.resolve_service_name(name)
        self._allowed = _BURST
        self._waiting: deque[Future] = deque()
        self._timer = node.create_timer(
            1.0,
            self._allow_one,
            callback_group=ReentrantCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )
        self._timer.cancel()  # it runs only while less than the burst is allowed

    async def turn(self) -> None:
        """Wait until the next response may go."""
        if self._timer.is_canceled():
            clients = max(1, self._node.count_clients(self._name))
            self._timer.timer_period_ns = round(clients * _SECONDS_PER_CLIENT * 1e9)
            self._timer.reset()
        if self._allowed:
            self._allowed -= 1
            return
        turn = Future(executor=self._node.executor)
        self._waiting.append(turn)
        await turn

    def _allow_one(self) -> None:
        if self._waiting:
            self._waiting.popleft().set_result(None)
            return
        self._allowed += 1
        if self._allowed == _BURST:
            self._timer.cancel()
