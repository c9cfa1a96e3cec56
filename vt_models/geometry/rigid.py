# SPDX-License-Identifier: Apache-2.0
"""Rotations and rigid transforms in space. Quaternions are x, y, z, w, as in ROS messages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vt_models.errors import InputError

Array = NDArray[np.float64]

_LARGEST_NORM_ERROR = 1e-2  # drivers round; a quaternion of zeros means that nothing was filled in
LARGEST_TRANSLATION = 1e9
"""Metres: beyond any frame of a robot, and far from where sums of several overflow."""

_NEARLY_PARALLEL = 1e-6


@dataclass(frozen=True)
class Transform:
    """Where points of one frame are in another one: p' = R p + t.

    Attributes:
        rotation: (3, 3), R.
        translation: (3,), t, metres.
    """

    rotation: Array
    translation: Array

    @classmethod
    def from_parts(cls, quaternion: Sequence[float], translation: Sequence[float]) -> Transform:
        """Make a transform of a quaternion (x, y, z, w) and a translation in metres.

        Raises:
            InputError: a number that is not finite, a translation beyond `LARGEST_TRANSLATION`, or
                a quaternion whose norm is not 1.
        """
        shift = np.array(translation, np.float64)
        check_translation(shift)
        return cls(rotation_matrix(unit_quaternion(quaternion)), shift)

    @classmethod
    def identity(cls) -> Transform:
        """Return the transform that changes nothing."""
        return cls(np.eye(3), np.zeros(3))

    def apply(self, points: ArrayLike) -> Array:
        """Transform points, (3,) or (N, 3)."""
        return np.asarray(points, np.float64) @ self.rotation.T + self.translation

    def inverse(self) -> Transform:
        """Return the way back."""
        return Transform(self.rotation.T, -self.rotation.T @ self.translation)

    def __matmul__(self, other: Transform) -> Transform:
        """Return the transform that applies `other` first."""
        return Transform(self.rotation @ other.rotation, self.apply(other.translation))


def check_translation(translation: Array) -> None:
    """Raise InputError if a (3,) translation in metres is that of no robot's frame."""
    if not (np.abs(translation) <= LARGEST_TRANSLATION).all():  # nan is not
        raise InputError(
            f"translation is {translation.tolist()}, expected finite numbers up to "
            f"{LARGEST_TRANSLATION:g}"
        )


def unit_quaternion(quaternion: Sequence[float]) -> Array:
    """Return a quaternion x, y, z, w scaled to the norm 1.

    Raises:
        InputError: it is not finite, or far from that.
    """
    values = np.array(quaternion, np.float64)
    norm = math.hypot(*values)  # unlike the sum of squares, it does not overflow
    if not abs(norm - 1.0) <= _LARGEST_NORM_ERROR:  # nan is not
        raise InputError(f"quaternion is {values.tolist()}, expected the norm 1")
    return values / norm


def rotation_matrix(quaternion: Array) -> Array:
    """Return the (3, 3) rotation of a unit quaternion x, y, z, w (Shuster 1993)."""
    x, y, z, w = quaternion
    return np.array(
        (
            (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
            (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
            (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
        )
    )


def quaternion_of(rotation: Array) -> Array:
    """Return the unit quaternion x, y, z, w with w >= 0 of a (3, 3) rotation.

    The eigenvector of Bar-Itzhack's matrix (2000, "New method for extracting the quaternion from a
    rotation matrix") for its largest eigenvalue: stable at every angle.
    """
    (a, b, c), (d, e, f), (g, h, i) = rotation
    matrix = np.array(
        (
            (a - e - i, b + d, c + g, h - f),
            (b + d, e - a - i, f + h, c - g),
            (c + g, f + h, i - a - e, d - b),
            (h - f, c - g, d - b, a + e + i),
        )
    )
    quaternion = np.linalg.eigh(matrix)[1][:, -1]
    return quaternion if quaternion[3] >= 0.0 else -quaternion


def slerp(start: Array, end: Array, share: float) -> Array:
    """Interpolate between unit quaternions on the shorter way (Shoemake 1985).

    Args:
        start, end: x, y, z, w.
        share: 0 gives `start`, 1 `end` or its negative, the same rotation.
    """
    cosine = float(start @ end)
    if cosine < 0.0:
        end, cosine = -end, -cosine
    angle = float(np.arccos(min(cosine, 1.0)))
    if angle < _NEARLY_PARALLEL:
        mixed = (1.0 - share) * start + share * end
    else:
        mixed = np.sin((1.0 - share) * angle) * start + np.sin(share * angle) * end
    return mixed / np.linalg.norm(mixed)


def facing(direction: ArrayLike, up: ArrayLike) -> Array:
    """Return the rotation whose x axis points along a direction, levelled, and z axis upwards.

    Args:
        direction: (3,), any length.
        up: (3,) unit vector. The x axis is the direction's part at a right angle to it; along it
            there is none, and any level axis serves.

    Returns:
        (3, 3), columns are the axes x (away), y (left) and z (up).
    """
    z = np.asarray(up, np.float64)
    towards = np.asarray(direction, np.float64)
    x = towards - (towards @ z) * z
    if np.linalg.norm(x) < _NEARLY_PARALLEL * max(float(np.linalg.norm(towards)), 1e-300):
        x = np.eye(3)[np.argmin(np.abs(z))]
        x = x - (x @ z) * z
    x = x / np.linalg.norm(x)
    return np.stack((x, np.cross(z, x), z), axis=1)
