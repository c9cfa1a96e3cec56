# SPDX-License-Identifier: Apache-2.0
"""What `make demo-robot` sees: states, bearings, rates and frames, by the images' stamps."""

from __future__ import annotations

from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState

from vt_models.video.drawing import draw_target, scaled
from vt_models.video.image_messages import image_to_rgb
from vt_ros.client import Estimate, EstimateSubscription
from vt_ros.common.convert import NANOSECONDS, Pixels, stamp_nanoseconds
from vt_ros.demo.processes import NAMESPACE

_FRAME_PERIOD = 0.2  # seconds between two frames that are kept for the chart
_FRAME_SCALE = 0.5
_WAITING_IMAGES = 20  # of those whose estimate never comes, the oldest ones go


class Moment(NamedTuple):
    """What belongs to an image.

    Attributes:
        time: its stamp, seconds.
        state: of the target.
        bearing: azimuth and elevation, radians; NaN while there is none.
        camera: pan and tilt of the camera, radians.
        car: pan and tilt of the car.
    """

    time: float
    state: str
    bearing: tuple[float, float]
    camera: tuple[float, ...]
    car: tuple[float, ...]


class Rates(NamedTuple):
    """A command: seconds, and rates of pan and tilt, radians a second."""

    time: float
    pan: float
    tilt: float


class Recording:
    """What is seen and commanded, by the stamps of the images.

    Args:
        node: subscribes.

    Attributes:
        moments: in order; complete ones.
        rates: all commands.
        frames: (moment, frame) of every `_FRAME_PERIOD`, reduced, with box and state.
        dead_time: that look_at has measured, seconds; NaN before that.
        failure: why it could not be measured; empty if it could.
    """

    def __init__(self, node: Node) -> None:
        self.moments: list[Moment] = []
        self.rates: list[Rates] = []
        self.frames: list[tuple[Moment, Pixels]] = []
        self.dead_time = float("nan")
        self.failure = ""
        self._truth: dict[int, tuple[float, ...]] = {}
        self._images: dict[int, Image] = {}
        node.create_subscription(JointState, "gimbal/truth", self._on_truth, 100)
        node.create_subscription(TwistStamped, "look_at/cmd_vel", self._on_rates, 100)
        node.create_subscription(Image, "image_raw", self._on_image, qos_profile_sensor_data)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        EstimateSubscription(node, "tracker", self._on_estimate)

    def _on_truth(self, message: JointState) -> None:
        self._truth[stamp_nanoseconds(message.header.stamp)] = tuple(message.position)

    def _on_image(self, message: Image) -> None:
        self._images[stamp_nanoseconds(message.header.stamp)] = message
        while len(self._images) > _WAITING_IMAGES:
            self._images.pop(next(iter(self._images)))

    def _on_rates(self, message: TwistStamped) -> None:
        angular = message.twist.angular
        seconds = stamp_nanoseconds(message.header.stamp) / NANOSECONDS
        self.rates.append(Rates(seconds, -angular.z, angular.y))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == f"{NAMESPACE[1:]}/look_at: camera":
                values = {value.key: value.value for value in status.values}
                if "pan response" in values:
                    self.dead_time = float(values["dead time"])
                self.failure = status.message if status.level == DiagnosticStatus.ERROR else ""

    def _on_estimate(self, estimate: Estimate) -> None:
        truth = self._truth.pop(estimate.stamp, None)
        image = self._images.pop(estimate.stamp, None)
        if truth is None:
            return
        seconds = estimate.stamp / NANOSECONDS
        bearing = estimate.azimuth, estimate.elevation
        moment = Moment(seconds, estimate.state.name, bearing, truth[:2], truth[2:])
        self.moments.append(moment)
        last = self.frames[-1][0] if self.frames else None
        is_due = last is None or last.state != moment.state or seconds - last.time >= _FRAME_PERIOD
        if image is not None and is_due:
            frame = scaled(image_to_rgb(image), _FRAME_SCALE)
            if estimate.box is not None:
                draw_target(frame, estimate.box, estimate.state.name, _FRAME_SCALE)
            self.frames.append((moment, frame))
