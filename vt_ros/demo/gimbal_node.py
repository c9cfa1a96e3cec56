# SPDX-License-Identifier: Apache-2.0
"""A simulated camera on a gimbal, with a car before it: `python -m vt_ros.demo.gimbal_node`."""

from __future__ import annotations

import math
import sys
import time

import numpy as np
from geometry_msgs.msg import TwistStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future
from rclpy.time import Time
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from vt_interfaces.msg import TrackStatus
from vt_ros.common.convert import NANOSECONDS, array_to_image, stamp_nanoseconds
from vt_ros.common.parameters import Setting, declare, value_of
from vt_ros.common.process import run
from vt_ros.demo.gimbal_scene import Direction, GimbalDrive, GimbalScene, Pillar

NARROW, WIDE = Pillar(0.2, 0.36), Pillar(0.75, 1.1)
"""The first hides the car for an instant, the second for more than a second."""
START = (-0.25, 0.06)
"""Where the car stands before it drives."""
FRAME = "gimbal_camera_optical"

_SPEED, _ACCELERATION, _END = 0.2, 0.2, 1.25  # rad/s, rad/s^2, and where it stops again
_COMMAND_TIMEOUT = 0.5  # seconds, then the drive stops by itself

_BEGIN = 1000.0  # seconds; the clock's first time must not be 0
_TICK = 0.01  # seconds
_IMAGE_TICKS = 4  # 25 images a second
_LATENCY_TICKS = 8  # that the tracker may be behind
_LONGEST_WAIT = 5.0  # seconds of real time for the tracker; an image may have been lost

SETTINGS = (
    Setting("dead_time", 0.15, "Seconds until a command moves the camera.", 0.0, 1.0),
    Setting("tracker", "tracker", "Name of the tracker node that time waits for."),
)


def car_at(driven: float) -> Direction:
    """Return where the car is, that many seconds after it has begun to drive."""
    speeding_up = min(max(driven, 0.0), _SPEED / _ACCELERATION)
    way = 0.5 * _ACCELERATION * speeding_up**2 + _SPEED * max(0.0, driven - speeding_up)
    return min(START[0] + way, _END), START[1]


class GimbalNode(Node):
    """Publishes what the camera sees, and turns it at the rates that come on `cmd_vel`.

    It makes the time, too, on `/clock`: that stands still while an image is rendered, and while the
    tracker is behind, so that a slow machine shows the same in a longer while. `~/truth` says where
    the camera looks and where the car is; `~/drive` lets the car begin.
    """

    def __init__(self, finished: Future | None = None) -> None:  # noqa: ARG002 - as `run` calls it
        super().__init__("gimbal")
        declare(self, SETTINGS)
        self._scene = GimbalScene(pillars=(NARROW, WIDE))
        self._drive = GimbalDrive(float(value_of(self, "dead_time")))
        self._ticks = self._answered = 0
        self._waiting_since = time.monotonic()
        self._commanded = self._driven_at = math.inf
        self._clock = self.create_publisher(ClockMessage, "/clock", 1)
        self._images = self.create_publisher(Image, "image_raw", 2)
        self._infos = self.create_publisher(CameraInfo, "camera_info", 2)
        self._truth = self.create_publisher(JointState, "~/truth", 10)
        self.create_subscription(TwistStamped, "cmd_vel", self._on_rates, 10)
        status = f"{value_of(self, 'tracker')}/status"
        self.create_subscription(TrackStatus, status, self._on_status, 10)
        self.create_service(Trigger, "~/drive", self._on_drive)
        self.create_timer(_TICK, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> None:
        """Nothing is left to be released."""

    @property
    def _seconds(self) -> float:
        return self._ticks * _TICK

    def _stamp(self) -> Time:
        return Time(nanoseconds=round((_BEGIN + self._seconds) * 1e9))

    def _on_rates(self, message: TwistStamped) -> None:
        """Take rates; those of another frame, or that are no numbers, are refused."""
        angular = message.twist.angular
        rates = (-angular.z, angular.y)
        if message.header.frame_id != "base_link" or not np.isfinite(rates).all():
            self.get_logger().warning(
                f"refused: {rates} rad/s in the frame {message.header.frame_id!r}, expected finite "
                "rates in base_link"
            )
            return
        self._commanded = self._seconds
        self._drive.command(self._commanded, rates)

    def _on_status(self, message: TrackStatus) -> None:
        seconds = stamp_nanoseconds(message.header.stamp) / NANOSECONDS - _BEGIN
        self._answered, self._waiting_since = round(seconds / _TICK), time.monotonic()

    def _on_drive(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._driven_at = min(self._driven_at, self._seconds)
        response.success = True
        return response

    def _tick(self) -> None:
        """Let the time go on, and publish what is seen every `_IMAGE_TICKS`."""
        # A tracker that has not begun to answer is not waited for: it gets no image meanwhile.
        is_behind = self._answered and self._ticks - self._answered > _LATENCY_TICKS
        if is_behind and time.monotonic() - self._waiting_since < _LONGEST_WAIT:
            return
        self._ticks += 1
        self._clock.publish(ClockMessage(clock=self._stamp().to_msg()))
        if self._seconds - self._commanded > _COMMAND_TIMEOUT:
            self._drive.command(self._seconds, (0.0, 0.0))
        if self._ticks % _IMAGE_TICKS:
            return
        camera, car = self._drive.angles(self._seconds), car_at(self._seconds - self._driven_at)
        header = Header(stamp=self._stamp().to_msg(), frame_id=FRAME)
        names = ["camera_pan", "camera_tilt", "car_pan", "car_tilt"]
        self._truth.publish(JointState(header=header, name=names, position=[*camera, *car]))
        frame, _ = self._scene.render(camera, car)
        width, height = self._scene.size
        focal, (cx, cy) = self._scene.focal_length, self._scene.centre
        info = CameraInfo(header=header, width=width, height=height, distortion_model="plumb_bob")
        info.d = [0.0] * 5
        info.k = [focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0]
        info.r = np.eye(3).ravel().tolist()
        info.p = [focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
        self._infos.publish(info)
        self._images.publish(array_to_image(frame, header))


if __name__ == "__main__":
    sys.exit(run(GimbalNode))
