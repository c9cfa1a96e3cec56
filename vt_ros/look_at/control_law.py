# SPDX-License-Identifier: Apache-2.0
"""From bearings to rates of a camera: one law in angles, predicted over the dead time.

All angles are pairs, pan (to the right) and tilt (downwards), in radians; the same axes as azimuth
and elevation of a bearing, so there is neither a focal length nor a zoom in here. Times are seconds
of the clock that the images' stamps are of.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError

Pair = NDArray[np.float64]
"""Pan and tilt, shape (2,)."""

_REMEMBERED = 16.0  # seconds of commands; the longest measurement of a dead time takes 13 s

_LONGEST_TICK = 0.1  # seconds; what is longer is no reason for a jump of the rate

# Bearings of a target at rest before its first one: a tracker's first boxes differ by pixels from
# the one it was given, which would be a rate of 0.1 rad/s between two images.
_AT_REST = 3

# Bearings that come sooner count for as much less while they are few: an image that is published
# twice, its stamp 0.1 ms later, would make 0.0015 rad of noise a rate of 1 rad/s.
_APART = 0.02  # seconds

# Share of the largest acceleration with which the way to the target's place is braked; what is left
# over is for the target's own acceleration and for the camera's lag.
_BRAKING = 0.5


@dataclass(frozen=True)
class LawSettings:
    """What the law is made of.

    Attributes:
        gain: rate for each radian of bearing, 1/s.
        max_rate: of each axis, radians a second.
        max_acceleration: of each axis, radians a second squared.
        dead_zone: bearing up to which the camera stays as it is, radians.
        bandwidth: of the estimate of the target's motion, radians a second; a larger one follows
            turns sooner, and noise and what is not known of the camera's drive, too.
    """

    gain: float = 4.0
    max_rate: float = 1.0
    max_acceleration: float = 6.0
    dead_zone: float = 0.001
    bandwidth: float = 6.0


class CommandHistory:
    """By how much the commands sent so far turn the camera, were they carried out at once."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._rates: list[Pair] = []
        self._angles: list[Pair] = []

    def record(self, time: float, rates: Pair) -> None:
        """Take that `rates` are commanded from `time` on.

        Raises:
            InputError: the time is before that of the last command.
        """
        if self._times and time < self._times[-1]:
            raise InputError(f"a command of {time:g} s came after one of {self._times[-1]:g} s")
        self._angles.append(self.angle(time))
        self._times.append(time)
        self._rates.append(np.array(rates, np.float64))
        while len(self._times) > 1 and self._times[1] < time - _REMEMBERED:
            for values in (self._times, self._rates, self._angles):
                values.pop(0)

    def angle(self, time: float) -> Pair:
        """Return the commanded angle at a time; before the first command kept it is constant."""
        number = bisect_right(self._times, time) - 1
        if number < 0:
            return self._angles[0].copy() if self._angles else np.zeros(2)
        return self._angles[number] + self._rates[number] * (time - self._times[number])

    @property
    def last(self) -> tuple[float, Pair]:
        """Time and rates of the last command; zero rates before the first."""
        return (self._times[-1], self._rates[-1]) if self._times else (-math.inf, np.zeros(2))


class TargetMotion:
    """Angle and rate of the target: a line through what was seen, that forgets.

    It is the critically damped g-h filter, whose weights do not depend on noise and so not on the
    zoom. While few bearings are there it is the least-squares line through them and a few of a
    target at rest. E. Brookner, "Tracking and Kalman Filtering Made Easy" (1998), equations 1.2-16
    and 1.2-38.

    Args:
        bandwidth: see `LawSettings.bandwidth`.
        stamp: of the first angle.
        angle: the first one.
    """

    def __init__(self, bandwidth: float, stamp: float, angle: Pair) -> None:
        self._bandwidth, self._count = bandwidth, 1 + _AT_REST
        self.stamp, self._angle, self._rate = stamp, np.array(angle), np.zeros(2)

    def update(self, stamp: float, angle: Pair, weight: float) -> None:
        """Take an angle that was measured after the last one; it counts by a weight from 0 to 1."""
        dt, self._count = stamp - self.stamp, self._count + 1
        kept = math.exp(-self._bandwidth * dt)
        number, share = float(self._count), min(1.0, dt / _APART)
        g = max(1.0 - kept**2, share * 2.0 * (2.0 * number - 1.0) / (number * (number + 1.0)))
        h = max((1.0 - kept) ** 2, share * 6.0 / (number * (number + 1.0)))
        expected = self._angle + self._rate * dt
        error = weight * (angle - expected)
        self._angle, self._rate = (
            expected + min(g, 1.0) * error,
            self._rate + min(h, 1.0) / dt * error,
        )
        self.stamp = stamp

    def at(self, time: float) -> tuple[Pair, Pair]:
        """Return angle and rate at a time, at constant rate."""
        return self._angle + self._rate * (time - self.stamp), self._rate.copy()


class ControlLaw:
    """Rates that bring a target to the optical axis, and keep it there.

    The commands of the past say where the camera looked when an image was taken, and where it will
    look when a command of now shows: `dead_time` later. So bearings become angles of the target in
    a frame that does not turn with the camera, are filtered and predicted there, and

        rate = gain * (target - camera) + rate of the target        at now + dead_time

    which is a Smith predictor (O. J. M. Smith, "Closer Control of Loops with Dead Time", 1957) with
    the target's rate fed forward.

    Args:
        settings: may be replaced at any time.

    Attributes:
        dead_time: seconds from a command to the first stamp of an image that shows its effect.
        response: how far the camera turns for a commanded angle, by axis; 1 for a perfect one.
        history: of the rates at which the camera turns by these commands.
    """

    def __init__(self, settings: LawSettings, dead_time: float = 0.0) -> None:
        self.settings, self.dead_time = settings, dead_time
        self.response = np.ones(2)
        self.history = CommandHistory()
        self._motion: TargetMotion | None = None

    @property
    def has_target(self) -> bool:
        """Something was observed since `forget`."""
        return self._motion is not None

    def observe(self, stamp: float, bearing: Pair, weight: float = 1.0) -> None:
        """Take where the target was seen.

        Args:
            stamp: of the image, seconds; after that of the last one.
            bearing: azimuth and elevation, radians.
            weight: how much it counts, 0 to 1.
        """
        angle = bearing + self.history.angle(stamp - self.dead_time)
        if self._motion is None:
            self._motion = TargetMotion(self.settings.bandwidth, stamp, angle)
        else:
            self._motion.update(stamp, angle, weight)

    def forget(self) -> None:
        """Forget the target; the commands of the past still count."""
        self._motion = None

    def target_rate(self) -> Pair:
        """Return the target's rate, radians a second; zeros without a target."""
        return np.zeros(2) if self._motion is None else self._motion.at(self._motion.stamp)[1]

    def rates_to_target(self, now: float) -> Pair:
        """Return the rates that are wanted now; zeros without a target."""
        if self._motion is None:
            return np.zeros(2)
        angle, rate = self._motion.at(now + self.dead_time)
        wanted = rate + self.rates_towards(angle - self.history.angle(now))
        # The zone is one of rates, so that a target that moves is followed all the same, at most
        # the dead zone behind.
        return _without(wanted, self.settings.gain * self.settings.dead_zone)

    def rates_towards(self, error: Pair) -> Pair:
        """Return the rates that make an angle vanish, braked in time.

        Proportional to the angle where that can be braked, else as from rest: v^2 = 2 a |angle|.
        """
        settings = self.settings
        size = np.abs(error)
        braked = np.sqrt(2.0 * _BRAKING * settings.max_acceleration * size)
        return np.sign(error) * np.minimum(settings.gain * size, braked)

    def steer(self, now: float, wanted: Pair) -> Pair:
        """Return the rates to command for those at which the camera is to turn, within the limits.

        Args:
            now: seconds; not before that of the last call.
            wanted: radians a second.
        """
        settings = self.settings
        last_time, last = self.history.last
        largest = settings.max_rate * np.minimum(self.response, 1.0)
        step = settings.max_acceleration * min(now - last_time, _LONGEST_TICK)
        wanted = np.clip(wanted, -largest, largest)
        rates = np.clip(wanted, last - step, last + step)
        self.history.record(now, rates)
        return rates / self.response

    def stop(self, now: float) -> Pair:
        """Return zero rates, without regard to the largest acceleration."""
        rates = np.zeros(2)
        self.history.record(now, rates)
        return rates


def _without(rates: Pair, zone: float) -> Pair:
    """Return rates that are reduced by a dead zone, to zero within it."""
    return np.sign(rates) * np.maximum(np.abs(rates) - zone, 0.0)
