# SPDX-License-Identifier: Apache-2.0
"""Services that answer every request, also when a hundred clients ask at once, or one does."""

from __future__ import annotations

import inspect
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.service import Service
from rclpy.task import Future

# ROS keeps 10 requests of a service, of all its clients together, and drops the others unheard.
_REQUESTS = QoSProfile(depth=1000)

# Requests that are worked on at a time; more are refused at once. Each is a task, and rclpy looks
# at all tasks in each turn.
_MOST_OPEN = 250

# Each client receives the responses to all clients of the service, and keeps 10 of them until it
# comes to look for its own: of 100 clients in one process 84 lost theirs in a burst. What a process
# needs to look at one response grows with the clients in it, so the pace does, too.
_BURST, _SECONDS_PER_CLIENT = 8, 0.001
# Requests, and responses, that wait for their turn. Beyond, ROS drops the oldest requests, and the
# oldest responses are dropped.
_MOST_WAITING = 20_000
_SECONDS_IN_A_ROW = 0.02


def create_service_for_many(
    node: Node,
    service_type: type,
    name: str,
    callback: Callable[[Any, Any], Any],
    refuse: Callable[[Any, str], None],
) -> None:
    """Create a service of which no request is lost, and no response among those to others.

    Args:
        node: offers it.
        service_type: of the service.
        name: of the service.
        callback: given request and response, returns the response; a coroutine may wait, others
            are called meanwhile. While 250 of them wait, requests are refused.
        refuse: writes into a response that the request is refused, and the reason.
    """
    _ServiceForMany(node, service_type, name, callback, refuse)


class _ServiceForMany:
    """Takes all requests that have come whenever rclpy takes one: that takes 1 ms a request.

    A client can ask several thousand times a second.
    """

    def __init__(
        self,
        node: Node,
        service_type: type,
        name: str,
        callback: Callable[[Any, Any], Any],
        refuse: Callable[[Any, str], None],
    ) -> None:
        self._node, self._callback, self._refuse = node, callback, refuse
        self._pace = _Pace(node, name)
        self._open = 0
        self._taken: deque[tuple[Any, Any]] = deque()
        self._service: Service = node.create_service(
            service_type,
            name,
            self._on_request,
            qos_profile=_REQUESTS,
            callback_group=ReentrantCallbackGroup(),
        )

    async def _on_request(self, request: Any, response: Any) -> Any:
        result = self._begin(request, response)
        self._take_others()
        if inspect.isawaitable(result):
            result = await self._finished(result)
        turn = Future(executor=self._node.executor)
        self._pace.send(lambda: turn.set_result(None))
        await turn
        return result

    def _take_others(self) -> None:
        """Take what has come, and work on it; take again each time, so that nothing overflows."""
        kind, end = self._service.srv_type, time.monotonic() + _SECONDS_IN_A_ROW
        while True:
            with self._service.handle:
                while len(self._taken) < _MOST_WAITING:
                    request, header = self._service.handle.service_take_request(kind.Request)
                    if header is None:
                        break
                    self._taken.append((request, header))
            if not self._taken:
                return
            if time.monotonic() > end:  # the images' turn
                self._node.executor.create_task(self._take_others)
                return
            request, header = self._taken.popleft()
            result = self._begin(request, kind.Response())
            if inspect.isawaitable(result):
                self._node.executor.create_task(self._respond_later, result, header)
            else:
                self._respond(result, header)

    def _begin(self, request: Any, response: Any) -> Any:
        """Return the response, or what will give it."""
        if self._open >= _MOST_OPEN:
            self._refuse(response, f"{self._open} requests are being worked on; ask again later")
            return response
        result = self._callback(request, response)
        self._open += inspect.isawaitable(result)
        return result

    async def _finished(self, result: Awaitable[Any]) -> Any:
        try:
            return await result
        finally:
            self._open -= 1

    async def _respond_later(self, result: Awaitable[Any], header: Any) -> None:
        self._respond(await self._finished(result), header)

    def _respond(self, response: Any, header: Any) -> None:
        self._pace.send(lambda: self._service.send_response(response, header))


class _Pace:
    """Lets `_BURST` responses go at once, then one at a time, in order."""

    def __init__(self, node: Node, name: str) -> None:
        self._node, self._name = node, node.resolve_service_name(name)
        self._allowed = _BURST
        self._waiting: deque[Callable[[], None]] = deque(maxlen=_MOST_WAITING)
        self._last = 0.0
        self._timer = node.create_timer(
            1.0,
            self._allow,
            callback_group=ReentrantCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )
        self._timer.cancel()  # it runs only while less than the burst is allowed

    def send(self, response: Callable[[], None]) -> None:
        """Call something that sends a response when it may go: now, or later."""
        if self._timer.is_canceled():
            clients = max(1, self._node.count_clients(self._name))
            self._timer.timer_period_ns = round(clients * _SECONDS_PER_CLIENT * 1e9)
            self._timer.reset()
            self._last = time.monotonic()
        if self._allowed and not self._waiting:
            self._allowed -= 1
            response()
        else:
            self._waiting.append(response)

    def _allow(self) -> None:
        """Let go what may go by now: several, if the node was busy meanwhile."""
        now, period = time.monotonic(), self._timer.timer_period_ns / 1e9
        count = min(_BURST, max(1, int((now - self._last) / period)))
        self._last = now
        for _ in range(count):
            if self._waiting:
                self._waiting.popleft()()
            elif self._allowed < _BURST:
                self._allowed += 1
        if self._allowed == _BURST:
            self._timer.cancel()
