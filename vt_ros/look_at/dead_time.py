# SPDX-License-Identifier: Apache-2.0
"""Measures how late, how far and which way a camera turns: a small known motion, and its image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import VtModelsError
from vt_ros.look_at.control_law import CommandHistory, Pair

_STROKE = 0.3  # seconds that the camera turns one way, at least
_REST = 0.1  # seconds of stillness before the motion
_FEWEST = 12  # bearings
_GRID = 0.005  # seconds between dead times that are tried
_STEP = 0.02  # seconds to each side, in which the residual's curvature is measured
# Share of the bearings' motion that the commanded motion has to explain, or it was not seen at all.
_LEAST_EXPLAINED = 0.5
# Largest standard deviations of dead time, seconds, and response; more of either makes the camera
# swing.
_LARGEST_DEVIATION, _LARGEST_RESPONSE_DEVIATION = 0.025, 0.15
_LEAST_RESPONSE, _MOST_RESPONSE = 0.4, 1.6
_MOST_CROSS_RESPONSE = 0.4
_AXES = ("pan", "tilt")


class MeasurementError(VtModelsError):
    """The dead time could not be measured; the message says why and what to do."""


@dataclass(frozen=True)
class Measurement:
    """How a camera follows commands.

    Attributes:
        dead_time: from a command to the stamp of the first image that shows its effect, seconds.
        response: (2, 2); how far azimuth and elevation (rows) change for a commanded angle of pan
            and tilt (columns), with the other sign; the unit matrix for a perfect camera, zeros in
            the column of an axis that was not moved.
    """

    dead_time: float
    response: NDArray[np.float64]


class DeadTimeProbe:
    """One motion back and forth of each axis, and the bearings seen meanwhile.

    Args:
        begin: now, seconds.
        angle: by which to turn, radians.
        max_rate: of an axis, radians a second.
        longest: dead time that is looked for, seconds.
        axes: of pan and tilt, which are moved.
    """

    def __init__(
        self, begin: float, angle: float, max_rate: float, longest: float, axes: tuple[bool, bool]
    ) -> None:
        self._stroke = max(_STROKE, angle / max_rate)
        self._rate, self._longest, self._axes = angle / self._stroke, longest, axes
        self._begin = begin + _REST
        self._end = self._begin + 2.0 * self._stroke * sum(axes)
        self._stamps: list[float] = []
        self._bearings: list[Pair] = []

    def rates(self, now: float) -> Pair:
        """Return the rates that are wanted now."""
        rates = np.zeros(2)
        stroke = int((now - self._begin) // self._stroke)
        moved = [axis for axis in (0, 1) if self._axes[axis]]
        if 0 <= stroke < 2 * len(moved):
            rates[moved[stroke // 2]] = self._rate if stroke % 2 == 0 else -self._rate
        return rates

    def observe(self, stamp: float, bearing: Pair) -> None:
        """Take where the target was seen."""
        self._stamps.append(stamp)
        self._bearings.append(bearing)

    def is_over(self, now: float) -> bool:
        """The motion has ended, and its end has been seen whatever the dead time is."""
        return now >= self._end + self._longest

    def measure(self, history: CommandHistory) -> Measurement:
        """Fit dead time and response to the bearings, by least squares.

        The target may move at a constant rate meanwhile:
        bearing(t) = a + b t - response (commanded angle)(t - dead time).

        Args:
            history: holds the commands since the begin.

        Raises:
            MeasurementError: the bearings do not tell, or tell that the camera turns otherwise.
        """
        stamps, bearings = np.array(self._stamps), np.array(self._bearings)
        if len(stamps) < _FEWEST:
            raise MeasurementError(
                f"only {len(stamps)} bearings came, expected {_FEWEST} or more; give the tracker "
                "more images a second, or set dead_time.value and turn dead_time.measure off"
            )
        still = np.stack((np.ones_like(stamps), stamps - stamps[0]), axis=1)
        moved = [axis for axis in (0, 1) if self._axes[axis]]
        times = np.arange(stamps[0] - self._longest - 2.0 * _STEP, stamps[-1] + _STEP, _GRID)
        angles = np.array([history.angle(time) for time in times])[:, moved]

        def design_of(dead_time: float) -> NDArray[np.float64]:
            at = stamps - dead_time
            turned = np.stack([np.interp(at, times, angle) for angle in angles.T], axis=1)
            return np.hstack((still, turned))

        def fit(design: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            solution = np.linalg.lstsq(design, bearings, rcond=None)[0]
            residual = float(np.square(bearings - design @ solution).sum())
            return residual, np.asarray(solution, np.float64)

        tried = np.arange(0.0, self._longest + 0.5 * _GRID, _GRID)
        residuals = np.array([fit(design_of(dead_time))[0] for dead_time in tried])
        best = int(np.argmin(residuals))
        dead_time = float(tried[best])
        if 0 < best < len(tried) - 1:  # the vertex of the parabola through three residuals
            before, here, after = residuals[best - 1 : best + 2]
            dead_time += _GRID * 0.5 * float((before - after) / (before - 2.0 * here + after))
        design = design_of(dead_time)
        residual, solution = fit(design)
        response = np.zeros((2, 2))
        response[:, moved] = -solution[2:].T
        motion = fit(still)[0]
        explained = 1.0 - residual / motion if motion else 0.0
        if explained < _LEAST_EXPLAINED:
            raise MeasurementError(
                f"the image shows {100.0 * max(explained, 0.0):.0f} % of the commanded motion: do "
                "the commands reach the camera's drive? Is the target at rest or in steady motion, "
                "and dead_time.motion visible?"
            )
        if best == len(tried) - 1:
            raise MeasurementError(
                f"the dead time is {self._longest:g} s or more; set a larger dead_time.longest"
            )
        self._check(response, moved)
        # Standard deviations by the residual's variance and its curvature.
        variance = residual / (bearings.size - 2 * design.shape[1] - 1)
        aside = sum(fit(design_of(dead_time + step))[0] for step in (-_STEP, _STEP))
        curvature = max((aside - 2.0 * residual) / (2.0 * _STEP**2), np.finfo(float).tiny)
        deviation = float(np.sqrt(variance / curvature))
        of_response = np.sqrt(variance * np.linalg.inv(design.T @ design).diagonal()[2:].max())
        if deviation > _LARGEST_DEVIATION or of_response > _LARGEST_RESPONSE_DEVIATION:
            raise MeasurementError(
                f"the dead time is {dead_time:.3f} s give or take {deviation:.3f} s, the response "
                f"give or take {of_response:.2f}, which is not enough: the target must be at rest "
                "or in steady motion; give the tracker more images a second, or turn further "
                "(dead_time.motion)"
            )
        return Measurement(dead_time, response)

    @staticmethod
    def _check(response: NDArray[np.float64], moved: list[int]) -> None:
        """Refuse a response that no law could make up for."""
        # Before their signs, since a camera that turns in the other axis has none in its own.
        for axis in sorted(moved, key=lambda axis: -abs(response[1 - axis, axis])):
            own, other = response[axis, axis], response[1 - axis, axis]
            if abs(other) > max(_MOST_CROSS_RESPONSE, abs(own)):
                raise MeasurementError(
                    f"{_AXES[axis]} turned the camera in the other axis by {other:.2f} of what was "
                    "asked: set mount.roll, mount.pitch, mount.yaw to how the camera is mounted, "
                    "or a larger dead_time.longest"
                )
            if own < 0.0:
                raise MeasurementError(
                    f"{_AXES[axis]} turned by {own:.2f} of what was asked, the other way: set "
                    "mount.roll for a camera upside down, or turn the joint's direction around "
                    "(joints.pan_inverted, joints.tilt_inverted), or set a larger dead_time.longest"
                )
            if not _LEAST_RESPONSE <= own <= _MOST_RESPONSE:
                raise MeasurementError(
                    f"{_AXES[axis]} turned by {own:.2f} of what was asked, expected about 1: are "
                    "the rates radians a second there, and is camera_info that of this zoom?"
                )
