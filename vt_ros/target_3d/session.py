# SPDX-License-Identifier: Apache-2.0
"""What exists while the node is active: made by `activate`, closed by `deactivate`."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from contextlib import ExitStack

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo

from vt_models.errors import InputError
from vt_models.geometry.bearing import camera_of
from vt_models.geometry.constant_velocity import ConstantVelocityFilter
from vt_models.geometry.depth import RangeGate
from vt_models.geometry.position import BoxView, Position
from vt_models.geometry.rigid import Transform, facing
from vt_ros.client import Estimate, EstimateSubscription, State
from vt_ros.common.convert import NANOSECONDS
from vt_ros.common.errors import frame_id_problem, shortened
from vt_ros.common.transforms import TransformError, TransformNotYetError, create_transforms
from vt_ros.target_3d.depth_image import Calibration
from vt_ros.target_3d.errors import NoPositionError, NotYetError
from vt_ros.target_3d.navigation_stop import NavigationStop
from vt_ros.target_3d.parameters import Target3dSettings
from vt_ros.target_3d.publishers import Located, Publishers
from vt_ros.target_3d.range_methods import Sighting, create_methods

CAMERA_INFO_TOPIC = "camera_info"

_RETRY = 0.01  # seconds between two looks for what belongs to a frame
_MOST_AHEAD = 0.5  # seconds that a stamp may be in the future: clocks disagree a little
_UP_IN_CAMERA, _UP = (0.0, -1.0, 0.0), (0.0, 0.0, 1.0)


class Session:
    """Makes positions of what a tracker says, until `close`. All in the executor's thread.

    Args:
        node: subscribes and publishes.
        settings: the parameters.

    Attributes:
        settings: the live ones of them may change.
        heard: when the tracker was heard last, seconds of `time.monotonic`; -inf: never.
        counts: frames by what became of them: the name of a method, "none", "not measured".
        last: what became of the last frame: a method and its range, or why there is no position.
        located: the last frame gave a position.
        measured: the tracker had measured its target in the last frame.
        velocity_problem: why there is no velocity; empty: there is one, or none is wanted.
        stop: of the navigation; None: not asked for.
    """

    def __init__(self, node: Node, settings: Target3dSettings) -> None:
        self._node, self.settings, self._log = node, settings, node.get_logger()
        self.heard = -math.inf
        self.counts: Counter[str] = Counter()
        self.last, self.located, self.measured = "", False, False
        self.velocity_problem = "no position yet"
        self._waiting: deque[tuple[Estimate, float]] = deque()  # and since when, steady seconds
        self._last_stamp = self._last_target = 0
        self._gate = RangeGate(settings.max_speed, settings.patience)
        self._filter = ConstantVelocityFilter(
            settings.acceleration, settings.max_speed, settings.max_gap
        )
        self._calibration = Calibration(settings.rectified)
        with ExitStack() as opened:  # what was made is released again if a later part fails
            self._publishers = Publishers(node, settings.target_frame)
            opened.callback(self._publishers.close)
            self._transforms = create_transforms(node)
            opened.callback(self._transforms.close)
            self._methods = create_methods(node, settings, self._transforms, self._gate)
            for method in self._methods.values():
                opened.callback(method.close)
            info = node.create_subscription(
                CameraInfo, CAMERA_INFO_TOPIC, self._calibration.take, qos_profile_sensor_data
            )
            opened.callback(node.destroy_subscription, info)
            estimates = EstimateSubscription(node, settings.tracker, self._take)
            opened.callback(estimates.close)
            self.stop = None
            if settings.stop_action:
                self.stop = NavigationStop(node, settings.stop_action, settings.stop_timeout)
                opened.callback(self.stop.close)
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self._timer = node.create_timer(_RETRY, self._drain, clock=steady)
            opened.callback(node.destroy_timer, self._timer)
            self._timer.cancel()  # it runs only while a frame waits
            self._opened = opened.pop_all()

    def close(self) -> None:
        """End the subscriptions and publishers; a navigation that follows the target is stopped."""
        self._opened.close()

    def _take(self, estimate: Estimate) -> None:
        self.heard = time.monotonic()
        self._waiting.append((estimate, self.heard))
        self._drain()

    def _drain(self) -> None:
        """Finish the frames that wait, in order, up to one for which more may come."""
        while self._waiting:
            estimate, since = self._waiting.popleft()
            if not self._finish(estimate, time.monotonic() - since >= self.settings.wait):
                self._waiting.appendleft((estimate, since))
                break
        if not self._waiting:
            self._timer.cancel()
        elif self._timer.is_canceled():
            self._timer.reset()

    def _finish(self, estimate: Estimate, final: bool) -> bool:
        """Publish what there is to a frame; False if more may come and is waited for."""
        try:
            self._check(estimate)
            located, message = self._locate(estimate, final)
        except (NotYetError, TransformNotYetError) as error:
            if not final:
                return False
            self._give_up(estimate, str(error))
        except _REASONS as error:
            self._give_up(estimate, str(error))
        else:
            self._last_stamp = estimate.stamp
            self.measured = self.located = True
            self.counts[located.method] += 1
            self.last = f"{located.method}: {located.range:.2f} m +- {located.range_sigma:.2f}"
            self._publishers.publish_position(estimate, located, message)
            if self.stop is not None:
                self.stop.on_position()
        return True

    def _give_up(self, estimate: Estimate, reason: str) -> None:
        """Say why a frame gives no position."""
        reason = shortened(reason)
        self.measured, self.located, self.last = estimate.measured, False, reason
        self.counts["none" if estimate.measured else "not measured"] += 1
        if estimate.measured:
            self._log.warning(f"no position: {reason}", throttle_duration_sec=5.0)
        frame_id = self.settings.output_frame or estimate.frame_id
        self._publishers.publish_nothing(estimate, frame_id, reason)
        if self.stop is not None and estimate.state in (State.LOST, State.IDLE):
            self.stop.stop(f"the target is {estimate.state.name}")

    def _check(self, estimate: Estimate) -> None:
        """Raise NoPositionError if a frame can give no position, whatever the method."""
        if estimate.target_id != self._last_target or estimate.stamp < self._last_stamp:
            # Another target, or a recording that has begun again.
            self._last_target, self._last_stamp = estimate.target_id, 0
            self._gate.reset()
            self._filter.reset()
        problem = frame_id_problem(estimate.frame_id)
        if problem:
            raise NoPositionError(problem)
        if not estimate.measured:
            raise NoPositionError(
                f"the target is not measured in this frame: {estimate.state.name}"
            )
        if estimate.status.unconfirmed:
            raise NoPositionError("the target was found again and waits for ~/confirm_target")
        if not estimate.stamp:
            raise NoPositionError("the image has no stamp; let the camera driver fill it in")
        if not estimate.frame_id:
            raise NoPositionError("the image has no frame_id; let the camera driver fill it in")
        if estimate.stamp == self._last_stamp:
            raise NoPositionError("the image has the stamp of the one before")
        age = (self._node.get_clock().now().nanoseconds - estimate.stamp) / NANOSECONDS
        if age > self.settings.max_age:
            raise NoPositionError(
                f"the image is {age:.2f} s old, more than max_age {self.settings.max_age:g} s; for "
                "a recording set use_sim_time and publish /clock"
            )
        if age < -_MOST_AHEAD:
            raise NoPositionError(
                f"the image is {-age:.2f} s in the future; synchronise the clocks of the machines"
            )

    def _sight(self, estimate: Estimate, final: bool) -> Sighting:
        """Return how the camera sees the box."""
        settings, status, info = self.settings, estimate.status, self._calibration.info
        if info is None:
            topic = self._node.resolve_topic_name(CAMERA_INFO_TOPIC)
            raise NoPositionError(f"nothing has come on {topic}; remap {CAMERA_INFO_TOPIC}")
        if estimate.box is None:
            raise NoPositionError("the tracker says that it measured the target, but gives no box")
        size, covariance = (status.image_width, status.image_height), estimate.covariance
        if covariance is None:
            _, _, w, h = estimate.box
            covariance = np.diag(settings.box_sigma * np.array((w, h, w, h))) ** 2
        try:
            camera = camera_of(info, size, settings.rectified)
        except InputError as error:
            raise NoPositionError(f"camera_info refused: {error}") from error
        view = BoxView(camera, estimate.box, covariance)
        return Sighting(estimate.stamp, estimate.frame_id, size, view, settings, final)

    def _locate(self, estimate: Estimate, final: bool) -> tuple[Located, str]:
        """Return the position of a measured target, and why preferred methods gave none."""
        settings, sighting = self.settings, self._sight(estimate, final)
        # Before the methods: what TF does not have yet would make their work be done twice.
        to_output, up = Transform.identity(), _UP_IN_CAMERA
        if settings.output_frame and settings.output_frame != estimate.frame_id:
            to_output, up = self._lookup(settings.output_frame, estimate), _UP
        to_fixed = self._lookup_fixed(estimate, final)

        position, method, refusals = None, "", []
        for method, one in self._methods.items():
            try:
                position = one.locate(sighting)
                break
            except (NotYetError, TransformNotYetError) as error:
                if not final:
                    raise
                refusals.append(f"{method}: {error}")
            except _REASONS as error:
                refusals.append(f"{method}: {error}")
        message = shortened("; ".join(refusals))
        if position is None:
            raise NoPositionError(message)
        self._follow(estimate, position, to_fixed)
        width, height = sighting.view.size_at(position.range)
        located = Located(
            frame_id=settings.output_frame or estimate.frame_id,
            method=method,
            point=to_output.apply(position.point),
            covariance=to_output.rotation @ position.covariance @ to_output.rotation.T,
            axes=facing(to_output.rotation @ sighting.view.centre, up),
            size=(min(width, height), width, height),
            range=position.range,
            range_sigma=position.range_sigma,
        )
        return located, message

    def _lookup(self, frame: str, estimate: Estimate) -> Transform:
        return self._transforms.lookup(frame, estimate.frame_id, estimate.stamp)

    def _lookup_fixed(self, estimate: Estimate, final: bool) -> Transform | None:
        """Return the transform to the frame of the velocity; None if TF does not have it."""
        if not self.settings.fixed_frame:
            return None
        try:
            return self._lookup(self.settings.fixed_frame, estimate)
        except TransformNotYetError as error:
            if not final:
                raise
            self.velocity_problem = shortened(str(error))
        except TransformError as error:
            self.velocity_problem = shortened(str(error))
        return None

    def _follow(self, estimate: Estimate, position: Position, to_fixed: Transform | None) -> None:
        """Give a position to the filter, and publish the velocity once it is known."""
        if to_fixed is None:
            return
        rotation = to_fixed.rotation
        covariance = rotation @ position.covariance @ rotation.T
        taken = self._filter.take(
            to_fixed.apply(position.point), covariance, estimate.stamp / NANOSECONDS
        )
        self.velocity_problem = ""
        if taken and self._filter.settled:
            self._publishers.publish_velocity(
                estimate,
                self.settings.fixed_frame,
                self._filter.mean[3:],
                self._filter.covariance[3:, 3:],
            )


_REASONS = (NoPositionError, TransformError, InputError)
