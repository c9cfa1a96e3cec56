#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A node that publishes how to turn the camera to the target: follow_centre.py.

`turn` (geometry_msgs/TwistStamped) is proportional to the angle between the target and the optical
axis. It is zero while the target is not measured, when no estimates come, and at the end: who obeys
it never goes on turning for a target that nobody sees. Needs camera_info.
"""

from __future__ import annotations

import math
import signal

import rclpy
from geometry_msgs.msg import TwistStamped
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from vt_ros.client import Estimate, TrackerClient, TrackerTimeoutError

GAIN = 1.5  # radians per second for each radian
PATIENCE = 0.5  # seconds without an estimate, then the camera stops


class FollowCentre(Node):
    """Turns estimates into rates about the axes of the camera's optical frame."""

    def __init__(self) -> None:
        super().__init__("follow_centre")
        self._turn = self.create_publisher(TwistStamped, "turn", 10)

    def follow(self, estimate: Estimate) -> None:
        """Publish the rates for one estimate."""
        message = TwistStamped(header=estimate.status.header)
        if estimate.measured and math.isfinite(estimate.azimuth):
            # About y (down) to look to the right, about x (right) to look up.
            message.twist.angular.y = GAIN * estimate.azimuth
            message.twist.angular.x = -GAIN * estimate.elevation
        self._turn.publish(message)

    def stop(self) -> None:
        """Publish zero rates, and see them off."""
        message = TwistStamped()
        message.header.stamp = self.get_clock().now().to_msg()
        self._turn.publish(message)
        self._turn.wait_for_all_acked(Duration(seconds=1))


def follow_until_interrupted(node: FollowCentre, tracker: TrackerClient) -> None:
    """Publish a rate for each estimate, and a zero whenever they stay away."""
    while node.context.ok():
        try:
            for estimate in tracker.estimates(timeout=PATIENCE):
                node.follow(estimate)
        except TrackerTimeoutError as error:
            node.stop()
            node.get_logger().warning(str(error), throttle_duration_sec=5.0)


def main() -> None:
    """Run the example until Ctrl+C or SIGTERM; ROS must live until the last zero is out."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = FollowCentre()
    with TrackerClient(node=node) as tracker:
        try:
            follow_until_interrupted(node, tracker)
        except KeyboardInterrupt:
            node.stop()
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
