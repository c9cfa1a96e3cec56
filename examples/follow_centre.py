#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A node that publishes how to turn the camera to the target: follow_centre.py.

`turn` (geometry_msgs/TwistStamped) is proportional to the angle between the target and the optical
axis; it is zero while the target is not measured in the newest image. Needs camera_info.
"""

from __future__ import annotations

import math

import rclpy
from geometry_msgs.msg import TwistStamped
from rclpy.node import Node

from vt_ros.client import Estimate, TrackerClient, TrackerTimeoutError

GAIN = 1.5  # radians per second for each radian


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


def main() -> None:
    """Run the example until the images end."""
    rclpy.init()
    node = FollowCentre()
    with TrackerClient(node=node) as tracker:
        try:
            for estimate in tracker.estimates(timeout=5.0):
                node.follow(estimate)
        except TrackerTimeoutError as error:
            node.get_logger().error(str(error))
        except KeyboardInterrupt:
            pass
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
