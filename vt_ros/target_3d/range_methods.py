# SPDX-License-Identifier: Apache-2.0
"""The ways to a range: depth image, point cloud, ground plane, known size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from vt_models.geometry.depth import DepthMode, RangeGate, strong_modes, usable
from vt_models.geometry.position import BoxView, Position
from vt_models.geometry.rigid import Transform
from vt_ros.common.convert import NANOSECONDS, stamp_nanoseconds
from vt_ros.common.transforms import TransformError, TransformNotYetError, Transforms
from vt_ros.target_3d.depth_image import (
    Calibration,
    check_alignment,
    check_unit,
    inner_half,
    read_depth,
    scaled,
)
from vt_ros.target_3d.errors import NoPositionError
from vt_ros.target_3d.message_buffer import MessageBuffer
from vt_ros.target_3d.parameters import (
    DEPTH_IMAGE,
    GROUND_PLANE,
    KNOWN_SIZE,
    POINT_CLOUD,
    Target3dSettings,
)
from vt_ros.target_3d.point_cloud import read_points

DEPTH_TOPIC, POINTS_TOPIC = "depth/image_raw", "points"

_LEAST_COSINE = 1e-3  # a target at a right angle to the axis is refused by `BoxView.at_depth`
_BORDER = 2.0
"""A box that comes so near to the border of the image, in pixels, may go on beyond it."""


@dataclass(frozen=True)
class Sighting:
    """One frame in which the tracker has measured its target.

    Attributes:
        stamp: of the exposure, nanoseconds.
        frame_id: the camera's optical frame.
        size: width and height of the image, pixels.
        view: how the camera sees the box.
        settings: the parameters.
        final: what has not come yet is not waited for.
    """

    stamp: int
    frame_id: str
    size: tuple[int, int]
    view: BoxView
    settings: Target3dSettings
    final: bool


class RangeMethod(Protocol):
    """One way to a range."""

    def locate(self, sighting: Sighting) -> Position:
        """Return where the target is, in the camera's optical frame.

        Raises:
            NoPositionError, TransformError, InputError: not by this method, with the reason.
            NotYetError, TransformNotYetError: what it needs may still come.
        """

    def close(self) -> None:
        """End the subscriptions."""


def create_methods(
    node: Node, settings: Target3dSettings, transforms: Transforms, gate: RangeGate
) -> dict[str, RangeMethod]:
    """Return the methods that the parameters ask for, by name, in order of preference.

    Args:
        node: subscribes.
        settings: the parameters.
        transforms: TF.
        gate: of the target; methods that choose among surfaces share it.
    """
    create: dict[str, Callable[[], RangeMethod]] = {
        DEPTH_IMAGE: lambda: DepthImageMethod(node, settings.rectified, gate),
        POINT_CLOUD: lambda: PointCloudMethod(node, transforms, gate),
        GROUND_PLANE: lambda: GroundPlaneMethod(transforms),
        KNOWN_SIZE: KnownSizeMethod,
    }
    return {name: create[name]() for name in settings.methods}


class DepthImageMethod:
    """Takes the nearest strong mode of depth in the inner half of the box.

    Attributes:
        buffer: of the depth images.
    """

    def __init__(self, node: Node, rectified: bool, gate: RangeGate) -> None:
        self._node, self._gate = node, gate
        self.buffer = MessageBuffer(node, Image, DEPTH_TOPIC)
        self._calibration = Calibration(rectified)
        self._info = node.create_subscription(
            CameraInfo,
            f"{self.buffer.topic.rpartition('/')[0]}/camera_info",
            self._calibration.take,
            qos_profile_sensor_data,
        )

    def locate(self, sighting: Sighting) -> Position:
        """See `RangeMethod.locate`."""
        view, settings = sighting.view, sighting.settings
        message = self.buffer.find(sighting.stamp, settings.depth_sync_tolerance, sighting.final)
        check_alignment(message, sighting.frame_id, sighting.size, view, self._calibration)
        depths = read_depth(message, settings.depth_unit)
        limits = settings.nearest, settings.farthest
        inside = inner_half(depths, scaled(view.box, message.width / sighting.size[0]))
        valid = np.mean((inside >= limits[0]) & (inside <= limits[1])) if inside.size else 0.0
        if valid < settings.depth_min_valid:
            # Only now: a room beyond range.max does not matter to a target within it.
            check_unit(depths, message.encoding, settings.depth_unit, limits)
            raise NoPositionError(
                f"{valid:.0%} of the inner half of the box has a depth between {limits[0]:g} and "
                f"{limits[1]:g} m, expected {settings.depth_min_valid:.0%} (depth.min_valid)"
            )
        # Depths are along the optical axis, ranges along the ray.
        cosine = max(float(view.centre[2]), _LEAST_COSINE)
        modes = strong_modes(usable(inside, *limits) / cosine, settings.depth_min_share)
        if not modes:
            raise NoPositionError(
                f"no range holds {settings.depth_min_share:.0%} of the depths in the inner half of "
                "the box (depth.min_share)"
            )
        noise = settings.depth_noise
        mode = choose(self._gate, modes, sighting.stamp, noise * self._gate.last_range**2)
        depth = mode.range * cosine
        return view.at_depth(depth, math.hypot(noise * depth**2, mode.spread * cosine))

    def close(self) -> None:
        """End the subscriptions."""
        self.buffer.close()
        self._node.destroy_subscription(self._info)


class PointCloudMethod:
    """Takes the nearest strong mode of the ranges of points in the inner half of the box.

    Attributes:
        buffer: of the clouds.
    """

    def __init__(self, node: Node, transforms: Transforms, gate: RangeGate) -> None:
        self._transforms, self._gate = transforms, gate
        self.buffer = MessageBuffer(node, PointCloud2, POINTS_TOPIC)

    def locate(self, sighting: Sighting) -> Position:
        """See `RangeMethod.locate`."""
        settings = sighting.settings
        message = self.buffer.find(sighting.stamp, settings.cloud_sync_tolerance, sighting.final)
        points = self._to_camera(message, sighting).apply(read_points(message))
        inside = points[sighting.view.inner_half(points)]
        ranges = usable(np.linalg.norm(inside, axis=1), settings.nearest, settings.farthest)
        least = settings.cloud_min_points
        modes = []
        if len(ranges) >= least:
            share = max(settings.depth_min_share, least / len(ranges))
            modes = strong_modes(ranges, share)
        if not modes:
            raise NoPositionError(
                f"{len(ranges)} points of the cloud lie in the inner half of the box, and no "
                f"{least} of them (cloud.min_points) at one range"
            )
        mode = choose(self._gate, modes, sighting.stamp, settings.cloud_noise)
        return sighting.view.at_range(mode.range, math.hypot(settings.cloud_noise, mode.spread))

    def close(self) -> None:
        """End the subscription."""
        self.buffer.close()

    def _to_camera(self, message: PointCloud2, sighting: Sighting) -> Transform:
        """Return the transform from the cloud's frame to the camera's.

        Over the fixed frame where TF has it, so that a robot that has moved between the two stamps
        does not matter; else the two are taken to be mounted on one body.
        """
        source, stamp = message.header.frame_id, stamp_nanoseconds(message.header.stamp)
        fixed, lookup = sighting.settings.fixed_frame, self._transforms.lookup
        if source == sighting.frame_id and stamp == sighting.stamp:
            return Transform.identity()
        if fixed:
            try:
                there = lookup(fixed, source, stamp)
                return lookup(sighting.frame_id, fixed, sighting.stamp) @ there
            except TransformNotYetError:
                if not sighting.final:
                    raise
            except TransformError:  # without a fixed frame the direct way may be there
                pass
        if source == sighting.frame_id:
            return Transform.identity()
        return lookup(sighting.frame_id, source, sighting.stamp)


class GroundPlaneMethod:
    """Takes the point where the lower edge of the box meets level ground."""

    def __init__(self, transforms: Transforms) -> None:
        self._transforms = transforms

    def locate(self, sighting: Sighting) -> Position:
        """See `RangeMethod.locate`."""
        settings, (_, y, _, h) = sighting.settings, sighting.view.box
        to_ground = self._transforms.lookup(
            settings.ground_frame, sighting.frame_id, sighting.stamp
        )
        if y + h > sighting.size[1] - _BORDER:
            raise NoPositionError(
                "the lower edge of the box is at the border of the image: where the target stands "
                "is not seen"
            )
        return limited(
            sighting.view.on_ground(
                to_ground,
                settings.ground_height,
                settings.ground_height_sigma,
                settings.ground_tilt_sigma,
            ),
            settings,
        )

    def close(self) -> None:
        """Nothing is subscribed to."""


class KnownSizeMethod:
    """Takes the range at which a target of known height, or width, is as large as the box."""

    def locate(self, sighting: Sighting) -> Position:
        """See `RangeMethod.locate`."""
        settings, (x, y, w, h) = sighting.settings, sighting.view.box
        width, height = sighting.size
        cut = {
            "height": y < _BORDER or y + h > height - _BORDER,
            "width": x < _BORDER or x + w > width - _BORDER,
        }
        sizes = {"height": settings.size_height, "width": settings.size_width}
        for name, size in sizes.items():
            if size and not cut[name]:
                vertical = name == "height"
                position = sighting.view.by_size(size, settings.size_tolerance, vertical)
                return limited(position, settings)
        raise NoPositionError(
            "the box is at the border of the image, so the target's "
            f"{' and '.join(name for name, size in sizes.items() if size)} may go on beyond it"
        )

    def close(self) -> None:
        """Nothing is subscribed to."""


def choose(gate: RangeGate, modes: list[DepthMode], stamp: int, deviation: float) -> DepthMode:
    """Return the target's mode.

    Raises:
        NoPositionError: none is within reach of the last range.
    """
    last = gate.last_range
    index = gate.choose(modes, stamp / NANOSECONDS, deviation)
    if index is None:
        raise NoPositionError(
            f"the range jumped from {last:.2f} to {modes[0].range:.2f} m, farther than max_speed "
            "allows: something may be in front of the target; it counts when it stays (patience)"
        )
    return modes[index]


def limited(position: Position, settings: Target3dSettings) -> Position:
    """Return a position; raise NoPositionError if its range is beyond the limits."""
    if settings.nearest <= position.range <= settings.farthest:
        return position
    raise NoPositionError(
        f"the range is {position.range:.1f} m, expected {settings.nearest:g} to "
        f"{settings.farthest:g} m (range.min, range.max)"
    )
