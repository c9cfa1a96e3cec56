# SPDX-License-Identifier: Apache-2.0
"""Velocity of a point in space from its measured positions, by a Kalman filter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_OUTLIER = 16.27
"""99.9 % of the squared normalised innovations of an honest filter are below (chi squared, 3)."""
_MOST_OUTLIERS = 3
"""So many in a row are a manoeuvre or another place, and the filter starts anew."""
_SETTLED = 3  # positions; the second one still decides the velocity alone


class ConstantVelocityFilter:
    """Nearly constant velocity: the acceleration is white noise.

    The model and its process noise are those of Bar-Shalom, Li and Kirubarajan (2001), "Estimation
    with Applications to Tracking and Navigation", section 6.2.2; the update is in Joseph's form.

    Args:
        acceleration: power spectral density of the acceleration, m^2 / s^3.
        fastest: one standard deviation of a new target's velocity, m / s.
        longest_gap: seconds without a position after which it starts anew.

    Attributes:
        mean: (6,) position in metres and velocity in metres a second.
        covariance: (6, 6) of it.
    """

    def __init__(self, acceleration: float, fastest: float, longest_gap: float) -> None:
        self._acceleration, self._fastest = acceleration, fastest
        self._longest_gap = longest_gap
        self._seconds = 0.0
        self._positions = self._outliers = 0
        self.mean, self.covariance = np.zeros(6), np.zeros((6, 6))

    @property
    def settled(self) -> bool:
        """Enough positions have been taken for a velocity."""
        return self._positions >= _SETTLED

    def reset(self) -> None:
        """Forget the target."""
        self._positions = self._outliers = 0

    def take(self, position: Array, covariance: Array, seconds: float) -> bool:
        """Take a measured position; False if it lies too far off and does not count.

        Args:
            position: (3,) metres.
            covariance: (3, 3) of it.
            seconds: time of the measurement; one that is not after the last one starts anew.
        """
        step = seconds - self._seconds
        if not self._positions or not 0.0 < step <= self._longest_gap:
            self._start(position, covariance, seconds)
            return True
        transition = np.eye(6)
        transition[:3, 3:] = step * np.eye(3)
        noise = np.kron(((step**3 / 3, step**2 / 2), (step**2 / 2, step)), np.eye(3))
        mean = transition @ self.mean
        predicted = transition @ self.covariance @ transition.T + self._acceleration * noise
        innovation = position - mean[:3]
        total = predicted[:3, :3] + covariance
        if float(innovation @ np.linalg.solve(total, innovation)) > _OUTLIER:
            self._outliers += 1
            if self._outliers < _MOST_OUTLIERS:
                return False
            self._start(position, covariance, seconds)
            return True
        gain = np.linalg.solve(total, predicted[:3]).T
        rest = np.eye(6)
        rest[:, :3] -= gain
        self.mean = mean + gain @ innovation
        self.covariance = rest @ predicted @ rest.T + gain @ covariance @ gain.T
        self._seconds = seconds
        self._positions, self._outliers = self._positions + 1, 0
        return True

    def _start(self, position: Array, covariance: Array, seconds: float) -> None:
        self.mean = np.concatenate((position, np.zeros(3)))
        self.covariance = np.diag((*np.zeros(3), *np.full(3, self._fastest**2)))
        self.covariance[:3, :3] = covariance
        self._seconds, self._positions, self._outliers = seconds, 1, 0
