# SPDX-License-Identifier: Apache-2.0
"""What target_3d publishes about a frame: pose, detection, marker, TF, velocity, status."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import (
    Point,
    Pose,
    PoseStamped,
    PoseWithCovariance,
    PoseWithCovarianceStamped,
    Quaternion,
    Transform,
    TransformStamped,
    Twist,
    TwistWithCovariance,
    TwistWithCovarianceStamped,
    Vector3,
)
from numpy.typing import NDArray
from rclpy.node import Node
from std_msgs.msg import ColorRGBA, Header
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import (
    BoundingBox3D,
    Detection3D,
    Detection3DArray,
    ObjectHypothesisWithPose,
)
from visualization_msgs.msg import Marker

from vt_interfaces.msg import PositionStatus
from vt_models.geometry.rigid import quaternion_of
from vt_ros.client import Estimate
from vt_ros.common.convert import MEASURED

Array = NDArray[np.float64]

_UNKNOWN_ANGLE = math.pi**2 / 3.0  # variance of an angle that may be anything, rad^2
_UNKNOWN_RATE = 1e6  # variance of what is not estimated, rad^2 / s^2
_LIFETIME = Duration(nanosec=500_000_000)
_COLOUR = ColorRGBA(r=0.2, g=0.9, b=0.3, a=0.5)


@dataclass(frozen=True)
class Located:
    """A position that is to be published.

    Attributes:
        frame_id: that everything but the velocity is in.
        method: how the range was found.
        point: (3,) metres.
        covariance: (3, 3) of it, metres squared.
        axes: (3, 3), columns are the axes of the pose: x away from the camera, level, and z up.
        size: depth, width and height of the target, metres.
        range: from the camera, metres.
        range_sigma: one standard deviation of that.
    """

    frame_id: str
    method: str
    point: Array
    covariance: Array
    axes: Array
    size: tuple[float, float, float]
    range: float
    range_sigma: float


class Publishers:
    """Publishes positions.

    Args:
        node: publishes.
        target_frame: child frame on /tf; empty: none.
    """

    def __init__(self, node: Node, target_frame: str) -> None:
        self._node, self._target_frame = node, target_frame
        create = node.create_publisher
        self._pose = create(PoseStamped, "~/pose", 1)
        self._pose_with_covariance = create(PoseWithCovarianceStamped, "~/pose_with_covariance", 10)
        self._detections = create(Detection3DArray, "~/detections_3d", 10)
        self._marker = create(Marker, "~/marker", 10)
        self._velocity = create(TwistWithCovarianceStamped, "~/velocity", 10)
        self._status = create(PositionStatus, "~/status", 10)
        self._all = [
            *(self._pose, self._pose_with_covariance, self._detections),
            *(self._marker, self._velocity, self._status),
        ]
        if target_frame:
            self._tf = create(TFMessage, "/tf", 100)
            self._all.append(self._tf)
        self._marked = False

    def close(self) -> None:
        """End the publishers."""
        for publisher in self._all:
            self._node.destroy_publisher(publisher)

    def publish_position(self, estimate: Estimate, located: Located, message: str) -> None:
        """Publish where the target is.

        Args:
            estimate: what the tracker says of the frame.
            located: the position in it.
            message: for humans.
        """
        header = Header(stamp=estimate.status.header.stamp, frame_id=located.frame_id)
        x, y, z = map(float, located.point)
        quaternion = Quaternion(
            **dict(zip("xyzw", map(float, quaternion_of(located.axes)), strict=True))
        )
        pose = Pose(position=Point(x=x, y=y, z=z), orientation=quaternion)
        covariance = np.diag((0.0, 0.0, 0.0, *(3 * (_UNKNOWN_ANGLE,))))
        covariance[:3, :3] = located.covariance
        with_covariance = PoseWithCovariance(pose=pose, covariance=covariance.ravel())
        depth, width, height = located.size
        size = Vector3(x=depth, y=width, z=height)

        hypothesis = ObjectHypothesisWithPose(pose=with_covariance)
        hypothesis.hypothesis.class_id = MEASURED
        hypothesis.hypothesis.score = float(estimate.score)
        detection = Detection3D(
            header=header,
            results=[hypothesis],
            bbox=BoundingBox3D(center=pose, size=size),
            id=str(estimate.target_id),
        )
        self._pose.publish(PoseStamped(header=header, pose=pose))
        self._pose_with_covariance.publish(
            PoseWithCovarianceStamped(header=header, pose=with_covariance)
        )
        self._detections.publish(Detection3DArray(header=header, detections=[detection]))
        self._marker.publish(
            Marker(
                header=header,
                ns=located.method,
                type=Marker.CUBE,
                action=Marker.ADD,
                pose=pose,
                scale=size,
                color=_COLOUR,
                lifetime=_LIFETIME,
            )
        )
        self._marked = True
        if self._target_frame:
            transform = Transform(translation=Vector3(x=x, y=y, z=z), rotation=quaternion)
            stamped = TransformStamped(
                header=header, child_frame_id=self._target_frame, transform=transform
            )
            self._tf.publish(TFMessage(transforms=[stamped]))
        self._status.publish(
            PositionStatus(
                header=estimate.status.header,
                target_id=estimate.target_id,
                method=located.method,
                range=located.range,
                range_sigma=located.range_sigma,
                message=message,
            )
        )

    def publish_velocity(
        self, estimate: Estimate, frame_id: str, velocity: Array, covariance: Array
    ) -> None:
        """Publish how fast the target moves.

        Args:
            estimate: what the tracker says of the frame.
            frame_id: of the velocity.
            velocity: (3,) metres a second.
            covariance: (3, 3) of it.
        """
        x, y, z = map(float, velocity)
        full = np.diag((0.0, 0.0, 0.0, *(3 * (_UNKNOWN_RATE,))))
        full[:3, :3] = covariance
        twist = TwistWithCovariance(
            twist=Twist(linear=Vector3(x=x, y=y, z=z)), covariance=full.ravel()
        )
        header = Header(stamp=estimate.status.header.stamp, frame_id=frame_id)
        self._velocity.publish(TwistWithCovarianceStamped(header=header, twist=twist))

    def publish_nothing(self, estimate: Estimate, frame_id: str, message: str) -> None:
        """Publish that a frame gives no position.

        Args:
            estimate: what the tracker says of the frame.
            frame_id: that positions are in otherwise.
            message: why.
        """
        header = Header(stamp=estimate.status.header.stamp, frame_id=frame_id)
        self._detections.publish(Detection3DArray(header=header))
        if self._marked:
            self._marker.publish(Marker(header=header, action=Marker.DELETEALL))
            self._marked = False
        self._status.publish(
            PositionStatus(
                header=estimate.status.header,
                target_id=estimate.target_id,
                range=math.nan,
                range_sigma=math.nan,
                message=message,
            )
        )
