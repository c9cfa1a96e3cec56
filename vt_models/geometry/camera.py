# SPDX-License-Identifier: Apache-2.0
"""From a pixel to a direction: pinhole cameras with the distortion models of ROS.

The camera's optical frame has x to the right, y down and z forward (REP 103).
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.geometry.boxes import Box

Ray = tuple[float, float, float]

PINHOLE = ""
COEFFICIENTS = {
    PINHOLE: (0,),
    "plumb_bob": (4, 5),
    "rational_polynomial": (8,),
    "equidistant": (4,),
}
"""Distortion models by their names in sensor_msgs, with how many coefficients they may have."""

_ITERATIONS, _TOLERANCE = 100, 1e-12
_LARGEST_RESIDUAL = 1e-8
_LARGEST_UNIT_ERROR = 1e-9
_SAME_RAY = 1e-6
# Pixels: far beyond any lens, and far from where differences of directions vanish in rounding.
_SHORTEST_FOCAL_LENGTH, _LARGEST_PIXEL = 0.1, 1e7
_LARGEST_COEFFICIENT = 1e6


@dataclass(frozen=True)
class Camera:
    """A calibrated camera.

    Attributes:
        fx, fy: focal lengths, pixels of the full image.
        cx, cy: principal point, pixels of the full image.
        model: a key of `COEFFICIENTS`.
        distortion: the model's coefficients; for plumb_bob k1, k2, p1, p2, k3, for
            rational_polynomial k1, k2, p1, p2, k3, k4, k5, k6, for equidistant k1 to k4.
        left, top: where the image begins in the full image (region of interest), pixels.
        binning: pixels of the full image in one of the image, in x and in y.
        skew: of the pixel axes: K's second value, pixels; 0 for nearly every camera.

    Raises:
        InputError: a value that makes no camera.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    model: str = PINHOLE
    distortion: tuple[float, ...] = ()
    left: float = 0.0
    top: float = 0.0
    binning: tuple[int, int] = (1, 1)
    skew: float = 0.0

    def __post_init__(self) -> None:
        """Check every value."""
        numbers = (self.fx, self.fy, self.cx, self.cy, self.skew, self.left, self.top)
        if not all(math.isfinite(value) for value in (*numbers, *self.distortion)):
            raise InputError(f"camera has a value that is not finite: {self}")
        if self.fx <= 0 or self.fy <= 0:
            raise InputError(
                f"focal lengths are {self.fx:g} and {self.fy:g}, expected both above 0; "
                "the camera is not calibrated"
            )
        pixels = (self.fx, self.fy, abs(self.cx), abs(self.cy), abs(self.skew))
        if min(self.fx, self.fy) < _SHORTEST_FOCAL_LENGTH or max(pixels) > _LARGEST_PIXEL:
            raise InputError(
                f"focal lengths are {self.fx:g} and {self.fy:g}, the principal point is "
                f"({self.cx:g}, {self.cy:g}), the skew is {self.skew:g}; expected "
                f"{_SHORTEST_FOCAL_LENGTH:g} to {_LARGEST_PIXEL:g} pixels; calibrate the camera "
                "again"
            )
        if self.model not in COEFFICIENTS:
            known = ", ".join(name for name in COEFFICIENTS if name)
            raise InputError(
                f"no distortion model called {reprlib.repr(self.model)}; known: {known}"
            )
        if len(self.distortion) not in COEFFICIENTS[self.model]:
            wanted = " or ".join(map(str, COEFFICIENTS[self.model]))
            raise InputError(
                f"{self.model or 'no distortion'} takes {wanted} coefficients, "
                f"got {len(self.distortion)}"
            )
        if any(abs(value) > _LARGEST_COEFFICIENT for value in self.distortion):
            raise InputError(
                f"distortion is {self.distortion}, expected numbers up to "
                f"{_LARGEST_COEFFICIENT:g}; calibrate the camera again"
            )
        if min(self.binning) < 1:
            raise InputError(f"binning is {self.binning}, expected 1 or more in x and y")

    def ray(self, u: float, v: float) -> Ray:
        """Compute the unit vector towards a pixel, in the optical frame.

        Args:
            u, v: pixels of the image; the centre of its first pixel is (0, 0), as in OpenCV.

        Raises:
            InputError: no direction is seen at this pixel, for its value or its distortion.
        """
        full_u, full_v = u * self.binning[0] + self.left, v * self.binning[1] + self.top
        y = (full_v - self.cy) / self.fy
        x = (full_u - self.cx - self.skew * y) / self.fx
        if not (math.isfinite(x) and math.isfinite(y)):
            raise InputError(f"pixel ({u:g}, {v:g}) is not finite")
        try:
            if self.model == "equidistant":
                ray = self._equidistant_ray(x, y)
            else:
                ray = _unit(*_undistorted(self.distortion, x, y), 1.0)
        except ArithmeticError as error:
            raise InputError(f"no direction at pixel ({u:g}, {v:g}): {error}") from error
        if not abs(math.hypot(*ray) - 1.0) < _LARGEST_UNIT_ERROR:  # nan is not
            raise InputError(f"no direction at pixel ({u:g}, {v:g}): it is no unit vector, {ray}")
        return ray

    def pixel(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Compute where a point in front of the camera is seen; the inverse of `ray`.

        Args:
            x, y, z: of the point, or of a direction, in the optical frame.

        Returns:
            Pixels of the image; the centre of its first pixel is (0, 0).

        Raises:
            InputError: the point is not finite, lies behind the camera, or where the distortion
                shows nothing.
        """
        if not all(map(math.isfinite, (x, y, z))) or (z <= 0.0 and self.model != "equidistant"):
            raise InputError(f"point ({x:g}, {y:g}, {z:g}) is not in front of the camera")
        if self.model == "equidistant":
            radius = math.hypot(x, y)
            angle = math.atan2(radius, z)
            scale = _equidistant(self.distortion, angle)[0] / (radius or 1.0)
            u, v = x * scale, y * scale
        else:
            u, v = x / z, y / z
            if self.distortion:
                (u, v), _ = _brown(self.distortion, u, v)
        full_u, full_v = self.fx * u + self.skew * v + self.cx, self.fy * v + self.cy
        pixel = (full_u - self.left) / self.binning[0], (full_v - self.top) / self.binning[1]
        # Beyond the lens's edge a distortion folds back: the pixel there shows another direction.
        seen, length = self.ray(*pixel), math.sqrt(x * x + y * y + z * z)
        if max(abs(a - b / length) for a, b in zip(seen, (x, y, z), strict=True)) > _SAME_RAY:
            raise InputError(f"point ({x:g}, {y:g}, {z:g}) lies beyond what the lens shows")
        return pixel

    def angular_deviation(self, box: Box, covariance: NDArray[np.float64]) -> float:
        """Compute one standard deviation of the direction to a box's centre, radians.

        The larger of the two axes of the ellipse that the centre's covariance makes on the unit
        sphere, linearised at the centre.

        Args:
            box: x, y, w, h in pixels of the image.
            covariance: (4, 4) of centre x, centre y, width, height in pixels squared.

        Raises:
            InputError: as `ray`.
        """
        u, v = centre_pixel(box)
        here = np.array(self.ray(u, v))
        step = 0.5
        jacobian = np.stack(
            (np.array(self.ray(u + step, v)) - here, np.array(self.ray(u, v + step)) - here), axis=1
        )
        jacobian /= step
        centre = np.asarray(covariance, np.float64)[:2, :2]
        if not np.isfinite(centre).all():
            return math.nan
        on_sphere = jacobian @ centre @ jacobian.T
        return math.sqrt(max(0.0, float(np.linalg.eigvalsh(on_sphere)[-1])))

    def _equidistant_ray(self, x: float, y: float) -> Ray:
        """Kannala and Brandt (2006) as OpenCV's fisheye: r = a (1 + k1 a^2 + ... + k4 a^8).

        `r` is the pixel's distance from the principal point over the focal length, `a` the angle
        from the optical axis, found by Newton's method.
        """
        radius = math.hypot(x, y)
        if radius == 0.0:
            return 0.0, 0.0, 1.0
        angle = _invert(self.distortion, radius)
        sine = math.sin(angle) / radius
        return x * sine, y * sine, math.cos(angle)


def centre_pixel(box: Box) -> tuple[float, float]:
    """Return a box's centre in coordinates of pixel centres, where the first pixel has (0, 0).

    A box counts from the image's left and top border, which lie half a pixel before that.
    """
    x, y, w, h = box
    return x + 0.5 * w - 0.5, y + 0.5 * h - 0.5


def angles_of(ray: Sequence[float]) -> tuple[float, float]:
    """Compute a direction's angles off the optical axis: to the right and downwards, radians."""
    x, y, z = ray
    return math.atan2(x, z), math.atan2(y, math.hypot(x, z))


def _unit(x: float, y: float, z: float) -> Ray:
    length = math.sqrt(x * x + y * y + z * z)
    return x / length, y / length, z / length


def _undistorted(distortion: Sequence[float], x: float, y: float) -> tuple[float, float]:
    """Undistort a point of the image plane (z = 1) by Newton's method.

    Raises:
        InputError: the distortion leads nothing there, or folds there.
    """
    if not distortion:
        return x, y
    u, v = x, y
    for _ in range(_ITERATIONS):
        (found_x, found_y), (a, b, c, d) = _brown(distortion, u, v)
        determinant = a * d - b * c
        error_x, error_y = found_x - x, found_y - y
        if not determinant > 0.0:
            break
        if max(abs(error_x), abs(error_y)) < _TOLERANCE:
            return u, v
        u -= (d * error_x - b * error_y) / determinant
        v -= (a * error_y - c * error_x) / determinant
    (found_x, found_y), (a, b, c, d) = _brown(distortion, u, v)
    if a * d - b * c > 0.0 and max(abs(found_x - x), abs(found_y - y)) <= _LARGEST_RESIDUAL:
        return u, v
    raise InputError(
        f"a pixel at ({x:g}, {y:g}) focal lengths from the centre lies where the distortion "
        f"{tuple(distortion)} cannot be inverted"
    )


def _brown(
    distortion: Sequence[float], x: float, y: float
) -> tuple[tuple[float, float], tuple[float, float, float, float]]:
    """Distort a point; also its Jacobian by rows (Brown 1966; OpenCV's calib3d, 8 values)."""
    k1, k2, p1, p2, k3, k4, k5, k6 = (*distortion, *(0.0,) * (8 - len(distortion)))
    r2 = x * x + y * y
    above, below = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)), 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    radial = above / below
    # Derivative by r2, and from it by x and y.
    slope = (k1 + r2 * (2 * k2 + 3 * r2 * k3)) - radial * (k4 + r2 * (2 * k5 + 3 * r2 * k6))
    slope *= 2 / below
    point = (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    )
    mixed = x * y * slope + 2 * p1 * x + 2 * p2 * y
    return point, (
        radial + x * x * slope + 2 * p1 * y + 6 * p2 * x,
        mixed,
        mixed,
        radial + y * y * slope + 6 * p1 * y + 2 * p2 * x,
    )


def _invert(distortion: Sequence[float], radius: float) -> float:
    """Find the angle in (0, pi] at which the equidistant polynomial has a value.

    Raises:
        InputError: it has it nowhere before it stops growing.
    """
    angle = min(radius, math.pi)
    for _ in range(_ITERATIONS):
        value, slope = _equidistant(distortion, angle)
        if slope <= 0.0:
            break
        step = (value - radius) / slope
        angle = min(max(angle - step, 0.0), math.pi)
        if abs(step) < _TOLERANCE:
            break
    value, slope = _equidistant(distortion, angle)
    if slope <= 0.0 or abs(value - radius) > 1e-9:
        raise InputError(
            f"a pixel at {radius:g} focal lengths from the centre lies beyond what equidistant "
            f"with {tuple(distortion)} reaches"
        )
    return angle


def _equidistant(distortion: Sequence[float], angle: float) -> tuple[float, float]:
    """Evaluate the equidistant polynomial and its derivative."""
    square = angle * angle
    value, slope, power = 1.0, 1.0, 1.0
    for order, coefficient in enumerate(distortion, start=1):
        power *= square
        value += coefficient * power
        slope += (2 * order + 1) * coefficient * power
    return angle * value, slope
