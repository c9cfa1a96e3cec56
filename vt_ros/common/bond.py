# SPDX-License-Identifier: Apache-2.0
"""A bond with a lifecycle manager, as Nav2's expects one of every node that it has activated."""

from __future__ import annotations

import uuid
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.node import Node

try:
    from bond.msg import Status
except ImportError:  # with Nav2 and other users of bonds only
    Status = None

_PERIOD, _TIMEOUT = 0.1, 4.0  # seconds, those of Nav2's own nodes


class Bond:
    """Heartbeats on the topic `bond` while a node is active; none where `bond` is not installed.

    They come from the node's executor, so they end when that is stuck. That the other side is gone
    changes nothing here.

    Args:
        node: its name is the bond's id.
    """

    def __init__(self, node: Node) -> None:
        self._node, self._instance = node, str(uuid.uuid4())
        self._publisher: Any = None
        if Status is not None:
            self._publisher = node.create_publisher(Status, "bond", 1)
            self._timer = node.create_timer(
                _PERIOD, self._beat, clock=Clock(clock_type=ClockType.STEADY_TIME)
            )

    def close(self) -> None:
        """Say that the node is not active any more."""
        if self._publisher is not None:
            self._node.destroy_timer(self._timer)
            self._beat(active=False)
            self._publisher.wait_for_all_acked(Duration(seconds=_PERIOD))  # or it would be lost
            self._node.destroy_publisher(self._publisher)

    def _beat(self, active: bool = True) -> None:
        status = Status(
            id=self._node.get_name(),
            instance_id=self._instance,
            active=active,
            heartbeat_timeout=_TIMEOUT,
            heartbeat_period=_PERIOD,
        )
        status.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(status)
