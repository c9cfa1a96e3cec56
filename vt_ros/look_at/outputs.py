# SPDX-License-Identifier: Apache-2.0
"""Where rates of the camera go: a topic, two joints, a MAVLink gimbal, or an ONVIF camera."""

from __future__ import annotations

import math
import threading
import time
from typing import Protocol

import numpy as np
from geometry_msgs.msg import TwistStamped
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState

from vt_ros.common.errors import describe_error
from vt_ros.look_at.control_law import Pair
from vt_ros.look_at.controller import Phase
from vt_ros.look_at.gimbal_manager import GimbalManagerClient
from vt_ros.look_at.onvif_head import OnvifHead
from vt_ros.look_at.parameters import (
    JOINT_STATE,
    JOINT_TRAJECTORY,
    MAVLINK,
    GimbalSettings,
    LookAtSettings,
    OnvifSettings,
)
from vt_ros.mavlink.links import create_link

_PATIENCE_AT_END = 0.5  # seconds for the last command to arrive
_JOINTS_TIMEOUT = 0.5  # seconds without a message of the joints, then they are not known
# Seconds that a joint trajectory reaches ahead: when commands end, the joints stop after them.
_TRAJECTORY = 0.1
# Commanded joints are no further from the measured ones, radians, lest a joint at its stop has to
# come back a long way.
_LARGEST_LEAD = 0.3
_LINK_RETRY = 1.0  # seconds
_CLIENT_TICK = 0.1  # seconds


class Output(Protocol):
    """Carries commands out. The executor's thread calls it."""

    @property
    def problem(self) -> str:
        """Why commands would not arrive; empty if they do."""

    @property
    def position(self) -> Pair | None:
        """Measured angles of pan and tilt off home, radians; None if they are not known."""

    def send(self, rates: Pair, phase: Phase) -> None:
        """Command rates of pan and tilt, radians a second, for the time until the next call."""

    def rest(self) -> None:
        """Let others command, as long as there is nothing to look at."""

    def close(self) -> None:
        """Stop the camera, and release everything."""


def create_output(node: Node, settings: LookAtSettings) -> Output:
    """Return the output that the settings name.

    Raises:
        ImportError: the package trajectory_msgs is needed, and not installed.
    """
    if settings.output == MAVLINK:
        return MavlinkOutput(node, settings)
    if settings.onvif is not None:
        return OnvifOutput(node, settings, settings.onvif)
    if settings.output == JOINT_TRAJECTORY:
        return JointTrajectoryOutput(node, settings)
    if settings.output == JOINT_STATE:
        return JointStateOutput(node, settings)
    return TwistOutput(node, settings)


class TwistOutput:
    """Angular rates as TwistStamped on `~/cmd_vel`, in a frame of choice."""

    position: Pair | None = None

    def __init__(self, node: Node, settings: LookAtSettings) -> None:
        self._node, self._mount, self._frame = node, settings.mount, settings.output_frame
        self._publisher = node.create_publisher(TwistStamped, "~/cmd_vel", 1)

    @property
    def problem(self) -> str:
        """Nobody subscribes."""
        return _nobody_subscribes(self._publisher)

    def send(self, rates: Pair, phase: Phase) -> None:  # noqa: ARG002 - a rate is a rate
        """Publish."""
        message = TwistStamped()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.header.frame_id = self._frame
        angular = message.twist.angular
        angular.x, angular.y, angular.z = map(float, self._mount.angular_velocity(rates))
        self._publisher.publish(message)

    def rest(self) -> None:
        """Publish nothing."""

    def close(self) -> None:
        """Publish zeros."""
        self.send(np.zeros(2), Phase.IDLE)
        _close(self._node, self._publisher)


class _Joints:
    """Pan and tilt as two joints: where they are, and which rates of them turn the camera."""

    def __init__(self, node: Node, settings: LookAtSettings) -> None:
        self.names = list(settings.joints.names)
        self._node, self._home = node, np.array(settings.joints.home)
        # Rates of the joints for those of the camera.
        self.from_camera = np.diag(settings.joints.signs) @ settings.mount.pan_and_tilt()
        self.angles: Pair | None = None
        self._heard = -math.inf
        self._problem = ""
        self._topic = node.resolve_topic_name("joint_states")
        self._subscription = node.create_subscription(
            JointState, "joint_states", self._take, qos_profile_sensor_data
        )

    @property
    def problem(self) -> str:
        """Why it is not known where the joints are; empty if it is."""
        if time.monotonic() - self._heard <= _JOINTS_TIMEOUT:
            return ""
        return self._problem or f"{self._topic} does not tell where {' and '.join(self.names)} are"

    @property
    def position(self) -> Pair | None:
        """Angles of the camera off home, radians; None if they are not known."""
        if self.angles is None or self.problem:
            return None
        return np.linalg.solve(self.from_camera, self.angles - self._home)

    def close(self) -> None:
        """End the subscription."""
        self._node.destroy_subscription(self._subscription)

    def _take(self, message: JointState) -> None:
        """Take where the joints are; messages of other joints are passed over."""
        if not set(self.names) <= set(message.name):
            return
        indices = [message.name.index(name) for name in self.names]
        if max(indices) >= len(message.position):
            self._problem = f"{self._topic} names {self.names} and has no position of them"
            return
        angles = np.array([message.position[index] for index in indices])
        if not np.isfinite(angles).all():
            self._problem = f"{self._topic} says {self.names} are at {angles.tolist()}"
            return
        self.angles, self._heard, self._problem = angles, time.monotonic(), ""


class JointStateOutput:
    """Velocities of two joints as JointState on `~/joint_command`."""

    def __init__(self, node: Node, settings: LookAtSettings) -> None:
        self._node, self._joints = node, _Joints(node, settings)
        self._publisher = node.create_publisher(JointState, "~/joint_command", 1)

    @property
    def problem(self) -> str:
        """Nobody subscribes."""
        return _nobody_subscribes(self._publisher)

    @property
    def position(self) -> Pair | None:
        """As `joint_states` has it."""
        return self._joints.position

    def send(self, rates: Pair, phase: Phase) -> None:  # noqa: ARG002 - a rate is a rate
        """Publish."""
        message = JointState(name=self._joints.names)
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.velocity = (self._joints.from_camera @ rates).tolist()
        self._publisher.publish(message)

    def rest(self) -> None:
        """Publish nothing."""

    def close(self) -> None:
        """Publish zeros."""
        self.send(np.zeros(2), Phase.IDLE)
        self._joints.close()
        _close(self._node, self._publisher)


class JointTrajectoryOutput:
    """Positions of two joints as JointTrajectory on `~/joint_trajectory`, from the measured on.

    Each trajectory is one point a little ahead, without velocities: a last point that moves is
    refused by ros2_control's joint_trajectory_controller.
    """

    def __init__(self, node: Node, settings: LookAtSettings) -> None:
        # Not among the packages of every ROS installation, and of no use to the other outputs.
        from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint  # noqa: PLC0415

        self._message, self._point = JointTrajectory, JointTrajectoryPoint
        self._node, self._joints, self._period = node, _Joints(node, settings), settings.period
        self._publisher = node.create_publisher(JointTrajectory, "~/joint_trajectory", 1)
        self._commanded: Pair | None = None

    @property
    def problem(self) -> str:
        """Nobody subscribes, or it is not known where the joints are."""
        return self._joints.problem or _nobody_subscribes(self._publisher)

    @property
    def position(self) -> Pair | None:
        """As `joint_states` has it."""
        return self._joints.position

    def send(self, rates: Pair, phase: Phase) -> None:  # noqa: ARG002 - a rate is a rate
        """Publish, if it is known where the joints are; else forget where they were sent."""
        measured = self._joints.angles
        if measured is None or self._joints.problem:
            self._commanded = None
            return
        if self._commanded is None:
            self._commanded = measured.copy()
        speed = self._joints.from_camera @ rates
        lead = self._commanded + speed * self._period - measured
        self._commanded = measured + np.clip(lead, -_LARGEST_LEAD, _LARGEST_LEAD)
        point = self._point(positions=(self._commanded + speed * _TRAJECTORY).tolist())
        point.time_from_start.nanosec = round(_TRAJECTORY * 1e9)
        # Without a stamp: it begins when it arrives.
        self._publisher.publish(self._message(joint_names=self._joints.names, points=[point]))

    def rest(self) -> None:
        """Publish nothing."""

    def close(self) -> None:
        """Publish where the joints were to be."""
        self.send(np.zeros(2), Phase.IDLE)
        self._joints.close()
        _close(self._node, self._publisher)


class MavlinkOutput:
    """Rates for a MAVLink gimbal manager, on a link with a thread of its own."""

    position: Pair | None = None

    def __init__(self, node: Node, settings: LookAtSettings) -> None:
        gimbal: GimbalSettings = settings.gimbal
        self._log, self._matrix = node.get_logger(), settings.mount.pan_and_tilt()
        self._link = create_link(gimbal.link, accept_signed=True)
        self._address: tuple[str, int] | None = None
        self._client = GimbalManagerClient(gimbal, self._send_frame)
        self._manager = gimbal.manager_system, gimbal.manager_component
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="gimbal manager", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str:
        """The link is not open, or this node is not in control of the gimbal."""
        if self._link.problem:
            return f"{self._link.url}: {self._link.problem}"
        return self._client.problem

    def send(self, rates: Pair, phase: Phase) -> None:
        """Send to the manager, if this node is in control; else ask for that."""
        self._client.wanted = True
        if phase is Phase.HOMING:
            self._client.go_home()
            return
        yaw, pitch = self._matrix @ rates  # to the left, and downwards
        self._client.set_rates(float(-pitch), float(-yaw))

    def rest(self) -> None:
        """Give control back until the next target."""
        self._client.give_control_back()

    def close(self) -> None:
        """Stop the gimbal, give control back, and close the link."""
        self._client.give_control_back()
        self._stopping.set()
        self._thread.join(_PATIENCE_AT_END)

    def _send_frame(self, frame: bytes) -> None:
        if self._link.fixed or self._address is not None:
            self._link.send(frame, self._address)

    def _serve(self) -> None:
        """Hand on what arrives, ask for control, and open the link again when it has broken."""
        following = 0.0
        while not self._stopping.is_set():
            try:
                for frame, address in self._link.receive():
                    if (frame.system, frame.component) == self._manager:
                        self._address = address
                    self._client.receive(frame)
            except OSError as error:
                self._log.warning(
                    f"{self._link.url}: {describe_error(error)}; tried again every "
                    f"{_LINK_RETRY:g} s",
                    throttle_duration_sec=30.0,
                )
                self._stopping.wait(_LINK_RETRY)
                continue
            if time.monotonic() >= following:
                following = time.monotonic() + _CLIENT_TICK
                self._client.tick()
        self._link.close()


class OnvifOutput:
    """Rates as velocities of an ONVIF camera."""

    position: Pair | None = None

    def __init__(self, node: Node, settings: LookAtSettings, onvif: OnvifSettings) -> None:
        self._matrix = settings.mount.pan_and_tilt()
        self._fastest = onvif.pan_rate, onvif.tilt_rate
        self._head = OnvifHead(onvif, node.get_logger())

    @property
    def problem(self) -> str:
        """The camera does not answer, or cannot be moved."""
        return self._head.problem

    def send(self, rates: Pair, phase: Phase) -> None:
        """Have the velocities sent."""
        if phase is Phase.HOMING:
            self._head.go_home()
            return
        yaw, pitch = self._matrix @ rates  # to the left, and downwards
        pan_rate, tilt_rate = self._fastest
        self._head.set_velocity(-float(yaw) / pan_rate, -float(pitch) / tilt_rate)

    def rest(self) -> None:
        """Send nothing: what was sent last was a Stop."""

    def close(self) -> None:
        """Stop the camera."""
        self._head.close(_PATIENCE_AT_END)


def _nobody_subscribes(publisher: Publisher) -> str:
    if publisher.get_subscription_count():
        return ""
    return f"nobody subscribes {publisher.topic_name}: remap it to the camera's drive"


def _close(node: Node, publisher: Publisher) -> None:
    """Destroy a publisher when its last message has arrived, or after a little while."""
    publisher.wait_for_all_acked(Duration(seconds=_PATIENCE_AT_END))
    node.destroy_publisher(publisher)
