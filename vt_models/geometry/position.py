# SPDX-License-Identifier: Apache-2.0
"""From a box and a range to a position in space, with its covariance.

Positions are in the camera's optical frame, x to the right, y down, z forward (REP 103), metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.geometry.boxes import Box
from vt_models.geometry.camera import Camera, centre_pixel
from vt_models.geometry.rigid import Transform

Array = NDArray[np.float64]

_STEP = 0.5  # pixels, of numerical derivatives
_ROUNDING = 1e-6  # of a covariance that went through messages
_SMALLEST_ANGLE = 1e-9  # radians: far less than a pixel of any camera
_NEARLY_SIDEWAYS = 0.1
"""Below this cosine, 84 degrees off the axis, a depth along the axis says nothing of a range."""
_STEEP = math.sin(math.radians(60.0))
"""From this height on the lower edge of a box is not where the target stands."""
_LARGEST_RANGE = 1e6  # metres: beyond any sensor, and far from where squares overflow
_LARGEST_RELATIVE_DEVIATION = 0.5
"""A range known worse than that is no measurement, and too uncertain to be linearised."""


@dataclass(frozen=True)
class Position:
    """Where a target is.

    Attributes:
        point: (3,) metres.
        covariance: (3, 3) of it, metres squared.
        range: from the camera, metres.
        range_sigma: one standard deviation of that, metres.
    """

    point: Array
    covariance: Array
    range: float
    range_sigma: float


class BoxView:
    """The directions in which a calibrated camera sees a box.

    Args:
        camera: took the image.
        box: x, y, w, h in pixels of the image.
        covariance: (4, 4) of centre x, centre y, width, height in pixels squared.

    Attributes:
        box: as given.
        covariance: as given.
        centre: (3,) unit vector towards the box's centre.
        left, right, top, bottom: (3,) unit vectors towards the middles of its edges.
        jacobian: (3, 2) of `centre` by the pixel's coordinates.

    Raises:
        InputError: a number that is not finite, a box without area, a pixel without a direction, a
            matrix that is no covariance.
    """

    def __init__(self, camera: Camera, box: Box, covariance: Array) -> None:
        x, y, w, h = box
        if not (all(map(math.isfinite, box)) and w > 0.0 and h > 0.0):
            raise InputError(f"box is {box}, expected finite numbers, width and height above 0")
        if not np.isfinite(covariance).all():
            raise InputError("the box's covariance has a number that is not finite")
        variances = np.linalg.eigvalsh(covariance)
        if variances[0] < -_ROUNDING * max(variances[-1], 1.0):
            raise InputError(f"the box's covariance has the negative variance {variances[0]:g}")
        self.box, self.covariance = box, covariance
        self._camera = camera
        u, v = centre_pixel(box)
        self.centre = self.ray(u, v)
        self.left, self.right = self.ray(x - 0.5, v), self.ray(x + w - 0.5, v)
        self.top, self.bottom = self.ray(u, y - 0.5), self.ray(u, y + h - 0.5)
        across = self.ray(u + _STEP, v) - self.ray(u - _STEP, v)
        down = self.ray(u, v + _STEP) - self.ray(u, v - _STEP)
        self.jacobian = np.stack((across, down), axis=1) / (2.0 * _STEP)

    def ray(self, u: float, v: float) -> Array:
        """Return the (3,) unit vector towards a pixel."""
        return np.array(self._camera.ray(u, v))

    def at_range(self, distance: float, sigma: float) -> Position:
        """Return the position at a distance from the camera, p = r u.

        Errors are propagated to first order (Hartley and Zisserman 2004, section 5.2.1): that of
        the pixel across the ray, that of the range along it.

        Args:
            distance: metres.
            sigma: one standard deviation of that.

        Raises:
            InputError: it is too uncertain to be a measurement.
        """
        return self._position(distance * self.jacobian, self.centre, (distance, sigma), 1.0)

    def at_depth(self, depth: float, sigma: float) -> Position:
        """Return the position at a depth along the optical axis, as depth images hold it (REP 118).

        p = z m with m = u / u_z; errors as in `at_range`.

        Raises:
            InputError: the target is seen at a right angle to the axis, or `at_range`'s reasons.
        """
        if self.centre[2] < _NEARLY_SIDEWAYS:
            raise InputError("the target is too far off the optical axis for a depth image")
        slanted = self.centre / self.centre[2]
        across = depth * (self.jacobian - np.outer(slanted, self.jacobian[2])) / self.centre[2]
        return self._position(across, slanted, (depth, sigma), 1.0 / float(self.centre[2]))

    def _position(
        self, across: Array, along: Array, measured: tuple[float, float], slant: float
    ) -> Position:
        """Return the position at a measured length along a vector, and its covariance.

        Args:
            across: (3, 2), derivative of the position by the pixel.
            along: (3,), derivative of the position by the length.
            measured: the length, and one standard deviation of it.
            slant: norm of `along`: the range is that many times the length.
        """
        length, sigma = measured
        distance, distance_sigma = slant * length, slant * sigma
        if not (0.0 < distance < _LARGEST_RANGE and 0.0 <= distance_sigma < math.inf):
            raise InputError(
                f"the range is {distance:g} m with a deviation of {distance_sigma:g} m, expected "
                f"up to {_LARGEST_RANGE:g} m"
            )
        if distance_sigma > _LARGEST_RELATIVE_DEVIATION * distance:
            raise InputError(
                f"the range is {distance:.1f} m with a deviation of {distance_sigma:.1f} m, which "
                "is too much for a position"
            )
        covariance = across @ self.covariance[:2, :2] @ across.T
        covariance += sigma**2 * np.outer(along, along)
        if not np.isfinite(covariance).all():
            raise InputError("the box is too uncertain for a position")
        return Position(length * along, covariance, distance, distance_sigma)

    def size_at(self, distance: float) -> tuple[float, float]:
        """Return how wide and how high the box is at a distance, metres."""
        width = 2.0 * distance * math.tan(0.5 * _angle(self.left, self.right))
        return width, 2.0 * distance * math.tan(0.5 * _angle(self.top, self.bottom))

    def by_size(self, size: float, tolerance: float, vertical: bool) -> Position:
        """Return the position of a target whose height or width is known.

        It is taken to face the camera: r = s / (2 tan(a / 2)), where the box spans the angle a.

        Args:
            size: metres.
            tolerance: one standard deviation of it, as a share.
            vertical: it is the height; else the width.

        Raises:
            InputError: the box is too small, or `at_range`'s reasons.
        """
        first, second = (self.top, self.bottom) if vertical else (self.left, self.right)
        side = self.box[3] if vertical else self.box[2]
        angle = _angle(first, second)
        if angle < _SMALLEST_ANGLE:
            raise InputError(f"the box spans {angle:g} rad, which is too small for a range")
        distance = size / (2.0 * math.tan(0.5 * angle))
        index = 3 if vertical else 2
        side_sigma = math.sqrt(max(0.0, self.covariance[index, index]))
        by_angle = distance / math.sin(angle) * angle * side_sigma / side
        return self.at_range(distance, math.hypot(distance * tolerance, by_angle))

    def on_ground(
        self, to_ground: Transform, ground: float, height_sigma: float, tilt_sigma: float
    ) -> Position:
        """Return the position of a target that stands on level ground.

        The middle of the box's lower edge is where it touches the ground, and its centre lies
        upright above that. From steeply above, more than 60 degrees, the lower edge is some side of
        the target, and the centre is taken to lie on the ground.

        Args:
            to_ground: from the optical frame to one whose z axis points up.
            ground: z of the ground in that, metres.
            height_sigma: one standard deviation of the camera's height, metres.
            tilt_sigma: one standard deviation of the camera's tilt, radians.

        Raises:
            InputError: the camera is not above the ground, the ray does not lead to it, or
                `at_range`'s reasons.
        """
        height = float(to_ground.translation[2]) - ground
        if height <= 0.0:
            raise InputError(f"the camera is {height:.2f} m above the ground, expected above 0")
        towards = to_ground.rotation @ self.centre
        steep = -towards[2] > _STEEP
        foot = towards if steep else to_ground.rotation @ self.bottom
        if foot[2] >= 0.0:
            raise InputError("the box does not reach below the horizon")
        distance = height / -float(foot[2])
        pixel = self.ray(centre_pixel(self.box)[0], self.box[1] + self.box[3] - 0.5 + _STEP)
        per_pixel = _angle(self.bottom, pixel) / _STEP
        edge = np.array((0.0, 1.0, 0.0, 0.0 if steep else 0.5))
        edge_sigma = per_pixel * math.sqrt(max(0.0, edge @ self.covariance @ edge))
        # r = h / sin(d): by the height r / h, by the angle below the horizon r / tan(d).
        by_angle = math.hypot(edge_sigma, tilt_sigma) * math.hypot(foot[0], foot[1]) / -foot[2]
        sigma = distance * math.hypot(height_sigma / height, by_angle)
        if not steep:
            distance *= math.hypot(foot[0], foot[1]) / math.hypot(towards[0], towards[1])
        return self.at_range(distance, sigma)

    def inner_half(self, points: Array) -> NDArray[np.bool_]:
        """Return which points the camera sees in the inner half of the box.

        Args:
            points: (N, 3) in the optical frame.

        Returns:
            (N,). In the plane at right angles to the centre's direction the box is a rectangle; a
            distorted image bends its edges by less than the margin that the outer half is.
        """
        z = self.centre
        x = self.right - self.left
        x = x - (x @ z) * z
        x /= np.linalg.norm(x)
        axes = np.stack((x, np.cross(z, x), z), axis=1)
        edges = np.stack((self.left, self.right, self.top, self.bottom)) @ axes
        a, b = (0.5 * edges[:, :2] / edges[:, 2:]).T
        seen = points @ axes
        with np.errstate(divide="ignore", invalid="ignore"):
            p, q = seen[:, 0] / seen[:, 2], seen[:, 1] / seen[:, 2]
        return (seen[:, 2] > 0) & (p >= a[0]) & (p <= a[1]) & (q >= b[2]) & (q <= b[3])


def _angle(first: Array, second: Array) -> float:
    """Return the angle between unit vectors, exact for small ones, too (Kahan 2006)."""
    return 2.0 * math.atan2(
        float(np.linalg.norm(first - second)), float(np.linalg.norm(first + second))
    )
