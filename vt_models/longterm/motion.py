# SPDX-License-Identifier: Apache-2.0
"""Motion of the target, a constant-velocity Kalman filter in the image, and of the camera.

State: centre x, centre y, width, height in pixels and their velocities in pixels a second. All
noise is in units of the box's mean side s = sqrt(w * h), so that a filter behaves alike for a
target of ten pixels and of a hundred.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.geometry.boxes import Box

# Chosen on the true boxes of the development sequences, see docs/longterm.md.
ACCELERATION = 45.0
"""The centre's acceleration is white noise of this size, sides / s^2."""
SIZE_ACCELERATION = 8.0
"""That of width and height, sides / s^2."""
VELOCITY_DECAY = 0.5
"""Seconds in which a velocity that is not measured falls to 1 / e: a prediction comes to rest."""
START_VELOCITY = 3.0
"""Standard deviation of a new target's velocity, sides / s."""

_AXES, _RATES = np.arange(4), np.arange(4, 8)
_LEAST_NOISE = 1e-3 * np.eye(4)


class MotionFilter:
    """Constant velocity with white acceleration (Bar-Shalom, Li, Kirubarajan 2001, section 6.3.2).

    Attributes:
        mean: (8,) float64, see the module.
        state_covariance: (8, 8) float64.
    """

    def __init__(self, box: Box, covariance: NDArray[np.float64]) -> None:
        """Start at rest at `box` (x, y, w, h in pixels) with the (4, 4) covariance of a box."""
        x, y, w, h = box
        self.mean = np.array((x + 0.5 * w, y + 0.5 * h, w, h, 0.0, 0.0, 0.0, 0.0))
        self.state_covariance = np.zeros((8, 8))
        self.state_covariance[:4, :4] = covariance
        unit = w * h
        velocity = START_VELOCITY**2 * unit
        self.state_covariance[4:, 4:] = np.diag(
            (velocity, velocity, 0.1 * velocity, 0.1 * velocity)
        )

    def copy(self) -> MotionFilter:
        """Return another filter in the same state."""
        other = copy.copy(self)
        other.mean, other.state_covariance = self.mean.copy(), self.state_covariance.copy()
        return other

    @property
    def box(self) -> Box:
        """x, y, w, h in pixels."""
        cx, cy, w, h = self.mean[:4].tolist()
        return cx - 0.5 * w, cy - 0.5 * h, w, h

    @property
    def covariance(self) -> NDArray[np.float64]:
        """(4, 4) of centre x, centre y, width, height, pixels squared."""
        return self.state_covariance[:4, :4].copy()

    @property
    def side(self) -> float:
        """Mean side of the box, pixels."""
        return math.sqrt(max(self.mean[2] * self.mean[3], 1.0))

    def predict(self, seconds: float, coasting: bool = False) -> None:
        """Predict `seconds` > 0 ahead; while coasting velocities decay, those of the size at once.

        Written by the blocks of mean (p, v) and covariance [[P, C], [C', V]]: p += t v, v *= k, so
        P += t (C + C') + t^2 V, C = k (C + t V), V = k^2 V, and process noise on their diagonals.
        """
        travel, kept = seconds, 1.0
        if coasting:
            kept = math.exp(-seconds / VELOCITY_DECAY)
            travel = VELOCITY_DECAY * (1.0 - kept)
            self.mean[6:] = 0.0
        position, cross, velocity = (
            self.state_covariance[:4, :4],
            self.state_covariance[:4, 4:],
            self.state_covariance[4:, 4:],
        )
        self.mean[:4] += travel * self.mean[4:]
        self.mean[4:] *= kept
        tied = travel * velocity
        position += travel * (cross + cross.T + tied)
        cross += tied
        cross *= kept
        velocity *= kept * kept
        self._add_process_noise(seconds)
        self.state_covariance[4:, :4] = cross.T
        self._limit_size()

    def correct(self, box: Box, covariance: NDArray[np.float64]) -> None:
        """Correct the state by a measured box with its (4, 4) covariance."""
        x, y, w, h = box
        innovation = np.array((x + 0.5 * w, y + 0.5 * h, w, h)) - self.mean[:4]
        noise = covariance + _LEAST_NOISE
        rows = self.state_covariance[:4]
        gain = np.linalg.solve(rows[:, :4] + noise, rows).T
        self.mean += gain @ innovation
        # Joseph's form, (I - K H) P (I - K H)' + K R K', stays positive definite whatever the
        # rounding; without its mirror's mean the asymmetry would grow from frame to frame.
        left = self.state_covariance - gain @ rows
        covariance = left - left[:, :4] @ gain.T + gain @ noise @ gain.T
        self.state_covariance = 0.5 * (covariance + covariance.T)
        self._limit_size()

    def shift(self, motion: NDArray[np.float64]) -> None:
        """Apply the camera's motion, a (2, 3) similarity from the previous frame to this one."""
        scale = math.sqrt(abs(float(np.linalg.det(motion[:, :2]))))
        self.mean[:2] = motion[:, :2] @ self.mean[:2] + motion[:, 2]
        self.mean[2:4] *= scale
        self._limit_size()

    def rescale(self, x_ratio: float, y_ratio: float) -> None:
        """Follow a frame to another size: x times `x_ratio`, y times `y_ratio`.

        The size may become less than a pixel, so that the way back is exact.
        """
        ratios = np.array((x_ratio, y_ratio) * 4)
        self.mean *= ratios
        self.state_covariance *= np.outer(ratios, ratios)

    def slow_down(self, velocity: Sequence[float]) -> None:
        """Subtract a velocity (x, y in pixels a second) that was the camera's."""
        self.mean[4:6] -= np.asarray(velocity, np.float64)

    def keep_inside(self, frame_shape: Sequence[int]) -> None:
        """Hold the centre inside a frame of shape (H, W, ...); it stops at the edge."""
        for axis, limit in ((0, frame_shape[1]), (1, frame_shape[0])):
            inside = min(max(float(self.mean[axis]), 0.0), float(limit))
            if inside != self.mean[axis]:
                self.mean[axis], self.mean[4 + axis] = inside, 0.0

    def _limit_size(self) -> None:
        self.mean[2:4] = np.maximum(self.mean[2:4], 1.0)

    def _add_process_noise(self, seconds: float) -> None:
        """Add G G' a^2 of each axis, G = (t^2 / 2, t), to all blocks but the lower left."""
        side = self.side
        centre, size = (ACCELERATION * side) ** 2, (SIZE_ACCELERATION * side) ** 2
        strength = np.array((centre, centre, size, size))
        self.state_covariance[_AXES, _AXES] += strength * (seconds**4 / 4.0)
        self.state_covariance[_AXES, _RATES] += strength * (seconds**3 / 2.0)
        self.state_covariance[_RATES, _RATES] += strength * seconds**2


_LEAST_POINTS = 10


@dataclass
class _GreyFrame:
    """A grey frame; its thumbnail is made once, when it is first needed."""

    grey: NDArray[np.uint8]
    seconds: float
    _thumbnail: NDArray[np.uint8] | None = None

    def thumbnail(self, width: int) -> NDArray[np.uint8]:
        """(h, `width`) uint8."""
        if self._thumbnail is None:
            height = max(1, round(width * self.grey.shape[0] / self.grey.shape[1]))
            self._thumbnail = cv2.resize(self.grey, (width, height), interpolation=cv2.INTER_AREA)
        return self._thumbnail


class CameraMotion:
    """Estimate the camera's motion from sparse optical flow on thumbnails.

    `push` only keeps frames; the work is done when a motion is asked for.

    Args:
        width: of the thumbnails, pixels.
        history: number of previous frames that are kept for the velocity.
    """

    def __init__(self, width: int = 192, history: int = 4) -> None:
        self._width = width
        self._scale = 1.0
        self._frames: deque[_GreyFrame] = deque(maxlen=history + 1)

    def push(self, grey: NDArray[np.uint8], seconds: float, frame_width: int) -> None:
        """Take the next frame, `seconds` after the previous one.

        Args:
            grey: (h, w) uint8, the frame at any scale; kept by reference.
            seconds: > 0.
            frame_width: pixels; motions are in pixels of a frame of this width.
        """
        if self._frames and self._frames[-1].grey.shape != grey.shape:
            self._frames.clear()
        self._frames.append(_GreyFrame(grey, seconds))
        self._scale = frame_width / self._width

    def last_step(self, avoid: Box) -> NDArray[np.float64] | None:
        """Estimate the (2, 3) similarity from the previous frame to the last, in pixels.

        Args:
            avoid: x, y, w, h of the target, whose own motion must not count.

        Returns:
            None where there are too few frames or points, or they do not agree.
        """
        if len(self._frames) < 2:
            return None
        return self._between(self._frames[-2], self._frames[-1], avoid)

    def velocity(self, box: Box) -> tuple[float, float] | None:
        """Estimate the image motion by the camera at the centre of `box`, pixels a second."""
        if len(self._frames) < 2:
            return None
        motion = self._between(self._frames[0], self._frames[-1], box)
        seconds = sum(frame.seconds for frame in self._frames) - self._frames[0].seconds
        if motion is None or seconds <= 0:
            return None
        centre = np.array((box[0] + 0.5 * box[2], box[1] + 0.5 * box[3]))
        dx, dy = ((motion[:, :2] @ centre + motion[:, 2] - centre) / seconds).tolist()
        return dx, dy

    def clear(self) -> None:
        """Forget all frames."""
        self._frames.clear()

    def _between(
        self, before: _GreyFrame, after: _GreyFrame, avoid: Box
    ) -> NDArray[np.float64] | None:
        previous, now = before.thumbnail(self._width), after.thumbnail(self._width)
        mask = np.full(previous.shape, 255, np.uint8)
        x, y, w, h = (value / self._scale for value in avoid)
        mask[max(int(y), 0) : max(int(y + h) + 1, 0), max(int(x), 0) : max(int(x + w) + 1, 0)] = 0
        points = cv2.goodFeaturesToTrack(previous, 80, 0.01, 6, mask=mask)
        if points is None or len(points) < _LEAST_POINTS:
            return None
        moved, found, _ = cv2.calcOpticalFlowPyrLK(previous, now, points, None, winSize=(15, 15))
        good = found.reshape(-1) == 1
        if good.sum() < _LEAST_POINTS:
            return None
        motion, inliers = cv2.estimateAffinePartial2D(
            points[good], moved[good], method=cv2.RANSAC, ransacReprojThreshold=1.0, maxIters=200
        )
        if motion is None or inliers.sum() < max(_LEAST_POINTS, 0.5 * good.sum()):
            return None
        motion = np.asarray(motion, np.float64)
        motion[:, 2] *= self._scale
        return motion
