# SPDX-License-Identifier: Apache-2.0
"""What the node target_3d says about a frame, put together from its topics."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import TwistWithCovarianceStamped
from numpy.typing import NDArray
from rclpy.node import Node
from vision_msgs.msg import Detection3DArray

from vt_interfaces.msg import PositionStatus
from vt_models.errors import InputError
from vt_models.geometry.rigid import rotation_matrix, unit_quaternion
from vt_ros.common.convert import stamp_nanoseconds
from vt_ros.common.errors import frame_id_problem, shortened

Array = NDArray[np.float64]

_FARTHEST = 1e5  # metres; no camera sees further
_FASTEST = 1e4  # metres a second
_LARGEST_VARIANCE = _FARTHEST**2
_PAIRS = 32  # halves of frames that wait for the other one


@dataclass(frozen=True)
class Velocity:
    """How fast the target moves: (3,) metres a second in a frame of TF, (3, 3) covariance."""

    frame_id: str
    vector: Array
    covariance: Array


@dataclass(frozen=True)
class Place:
    """Where the target is, in a frame of TF.

    Attributes:
        frame_id: of all but the velocity.
        point: (3,) metres.
        covariance: (3, 3) of it.
        direction: (3,) unit vector from the camera to the target, levelled.
        range: from the camera, metres; NaN if it is not known.
        velocity: None if it is not known.
    """

    frame_id: str
    point: Array
    covariance: Array
    direction: Array
    range: float
    velocity: Velocity | None


@dataclass(frozen=True)
class TargetPosition:
    """What target_3d says about a frame.

    Attributes:
        stamp: of the image, nanoseconds.
        target_id: as in TrackStatus.
        place: None if it is not known.
        problem: why that is so.
    """

    stamp: int
    target_id: int
    place: Place | None
    problem: str = ""


class TargetPositionSubscription:
    """Listens to a node target_3d until `close`.

    Args:
        node: subscribes.
        name: of the node, relative or absolute.
        take: is given every frame, in the executor's thread.
    """

    def __init__(self, node: Node, name: str, take: Callable[[TargetPosition], None]) -> None:
        self._node, self._take = node, take
        self._status: dict[int, PositionStatus] = {}
        self._detections: dict[int, Detection3DArray] = {}
        self._velocity: TwistWithCovarianceStamped | None = None
        subscribe = node.create_subscription
        self._subscriptions = (
            subscribe(TwistWithCovarianceStamped, f"{name}/velocity", self._on_velocity, 10),
            subscribe(Detection3DArray, f"{name}/detections_3d", self._on_detections, 10),
            subscribe(PositionStatus, f"{name}/status", self._on_status, 10),
        )

    def close(self) -> None:
        """End the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _on_velocity(self, message: TwistWithCovarianceStamped) -> None:
        self._velocity = message

    def _on_detections(self, message: Detection3DArray) -> None:
        self._detections[stamp_nanoseconds(message.header.stamp)] = message
        self._pair(stamp_nanoseconds(message.header.stamp))

    def _on_status(self, message: PositionStatus) -> None:
        self._status[stamp_nanoseconds(message.header.stamp)] = message
        self._pair(stamp_nanoseconds(message.header.stamp))

    def _pair(self, stamp: int) -> None:
        """Hand on a frame of which both halves have come, and forget what is too long alone."""
        if stamp in self._status and stamp in self._detections:
            status, detections = self._status.pop(stamp), self._detections.pop(stamp)
            self._take(read_position(status, detections, self._velocity))
        for half in (self._status, self._detections):
            while len(half) > _PAIRS:
                del half[next(iter(half))]


def read_position(
    status: PositionStatus,
    detections: Detection3DArray,
    velocity: TwistWithCovarianceStamped | None,
) -> TargetPosition:
    """Put together what was said about one frame; what makes no sense becomes its problem.

    Args:
        status, detections: of one stamp.
        velocity: the newest one, which may be of another.
    """
    stamp, target_id = stamp_nanoseconds(status.header.stamp), int(status.target_id)
    if not status.method or not detections.detections:
        reason = shortened(status.message) or "target_3d has no position in this frame"
        return TargetPosition(stamp, target_id, None, reason)
    if velocity is not None and stamp_nanoseconds(velocity.header.stamp) != stamp:
        velocity = None
    try:
        place = _read_place(status, detections, velocity)
    except InputError as error:
        reason = shortened(f"target_3d makes no sense: {error}")
        return TargetPosition(stamp, target_id, None, reason)
    return TargetPosition(stamp, target_id, place)


def _read_place(
    status: PositionStatus,
    detections: Detection3DArray,
    velocity: TwistWithCovarianceStamped | None,
) -> Place:
    detection, frame_id = detections.detections[0], detections.header.frame_id
    problem = frame_id_problem(frame_id)
    if problem:
        raise InputError(problem)
    if detection.id != str(status.target_id):
        raise InputError(f"the detection is of target {detection.id!r}, not of {status.target_id}")
    if len(detection.results) != 1:
        raise InputError(f"the detection has {len(detection.results)} results, expected one")
    pose = detection.results[0].pose
    position, turn = pose.pose.position, pose.pose.orientation
    point = np.array((position.x, position.y, position.z))
    if not (np.abs(point) <= _FARTHEST).all():  # nan is not
        raise InputError(f"the position is {point.tolist()}, expected numbers up to {_FARTHEST:g}")
    axes = rotation_matrix(unit_quaternion((turn.x, turn.y, turn.z, turn.w)))
    moving = None
    if velocity is not None:
        linear = velocity.twist.twist.linear
        vector = np.array((linear.x, linear.y, linear.z))
        if not (np.abs(vector) <= _FASTEST).all():
            raise InputError(f"the velocity is {vector.tolist()}, expected numbers to {_FASTEST:g}")
        covariance = _covariance("the velocity", velocity.twist.covariance)
        moving = Velocity(velocity.header.frame_id.removeprefix("/"), vector, covariance)
    return Place(
        frame_id=frame_id.removeprefix("/"),
        point=point,
        covariance=_covariance("the position", pose.covariance),
        direction=axes[:, 0],
        range=status.range if 0.0 < status.range <= 2 * _FARTHEST else math.nan,
        velocity=moving,
    )


def _covariance(of: str, values: NDArray[np.float64]) -> Array:
    """Return the upper left 3x3 block of a (36,) row-major covariance."""
    block = np.asarray(values, np.float64).reshape(6, 6)[:3, :3]
    if not (np.abs(block) <= _LARGEST_VARIANCE).all() or (np.diag(block) < 0.0).any():
        raise InputError(f"the covariance of {of} is {block.tolist()}")
    return 0.5 * (block + block.T)
