# SPDX-License-Identifier: Apache-2.0
"""Where an autopilot says that the vehicle is, and how it lies, at the time of an exposure."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.geometry.geodesy import GeodeticPoint
from vt_models.geometry.rigid import rotation_matrix, slerp
from vt_ros.common.convert import NANOSECONDS
from vt_ros.mavlink.messages import Attitude, GlobalPositionInt

Array = NDArray[np.float64]

_KEPT = 5 * NANOSECONDS  # of samples; images are some tenths of a second old at most

# A vehicle that turns by 30 degrees a second does so by 15 within half a second: between samples
# further apart nothing is interpolated. Positions are sent more seldom and change more smoothly.
_ATTITUDE_GAP, _POSITION_GAP = NANOSECONDS // 2, 2 * NANOSECONDS

_REBOOT_MS = 2000  # an autopilot that counts from so much less has been started anew

_HEARD_LATELY = 2 * NANOSECONDS

_DEGREES = 1e-7
_METRES = 1e-3

# From forward, left, up to forward, right, down; and from north, east, down to east, north, up.
_BODY = np.diag((1.0, -1.0, -1.0))
_WORLD = np.array(((0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, -1.0)))


class UnknownPlaceError(RuntimeError):
    """It is not known where something is; the message says why."""


@dataclass
class _Samples:
    """Values in order of time, and between which of them may be interpolated."""

    name: str
    largest_gap: int  # nanoseconds
    stamps: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, stamp: int, value: Any) -> None:
        if self.stamps and stamp <= self.stamps[-1]:
            if stamp > self.stamps[-1] - NANOSECONDS:
                return  # of the same time, or two threads that overtook each other
            self.stamps.clear()  # the clock was set back
            self.values.clear()
        self.stamps.append(stamp)
        self.values.append(value)
        expired = bisect_left(self.stamps, stamp - _KEPT)
        del self.stamps[:expired], self.values[:expired]

    def is_heard(self, now: int) -> bool:
        return bool(self.stamps) and abs(now - self.stamps[-1]) <= _HEARD_LATELY

    def around(self, stamp: int) -> tuple[Any, Any, float]:
        """Return the samples before and after a time, and how far it is between them, 0 to 1."""
        if not self.stamps:
            raise UnknownPlaceError(f"the autopilot has sent no {self.name}")
        after = bisect_left(self.stamps, stamp)
        if after == len(self.stamps):
            late = (stamp - self.stamps[-1]) / NANOSECONDS
            raise UnknownPlaceError(f"{self.name} ends {late:.2f} s before the image")
        if self.stamps[after] == stamp:
            return self.values[after], self.values[after], 0.0
        if after == 0:
            early = (self.stamps[0] - stamp) / NANOSECONDS
            raise UnknownPlaceError(f"{self.name} begins {early:.2f} s after the image")
        gap = self.stamps[after] - self.stamps[after - 1]
        if gap > self.largest_gap:
            raise UnknownPlaceError(
                f"{self.name} has a gap of {gap / NANOSECONDS:.2f} s around the image, expected "
                f"{self.largest_gap / NANOSECONDS:g} s at most; have the autopilot send it faster"
            )
        share = (stamp - self.stamps[after - 1]) / gap
        return self.values[after - 1], self.values[after], share


class VehiclePose:
    """Keeps what an autopilot sent in the last seconds, and interpolates; never extrapolates.

    Times are those of arrival: MAVLink's own count from the autopilot's start.
    """

    def __init__(self) -> None:
        self._positions = _Samples("GLOBAL_POSITION_INT", _POSITION_GAP)
        self._attitudes = _Samples("ATTITUDE", _ATTITUDE_GAP)
        self._booted_ms: dict[type, int] = {}  # of the newest message of each kind
        self._refused: dict[type, str] = {}  # why the newest message of a kind was

    @property
    def refused(self) -> str:
        """Why the newest messages made no sense; empty: they do."""
        return "; ".join(self._refused.values())

    def take(self, message: Attitude | GlobalPositionInt, stamp: int) -> None:
        """Take what has arrived at a time (nanoseconds); what makes no sense is `refused`."""
        last = self._booted_ms.get(type(message), -1)
        if last - _REBOOT_MS < message.time_boot_ms <= last:
            return  # the same again, over another and slower link
        self._booted_ms[type(message)] = message.time_boot_ms
        self._refused.pop(type(message), None)
        if isinstance(message, Attitude):
            angles = message.roll, message.pitch, message.yaw
            if not all(math.isfinite(angle) for angle in angles):
                self._refused[type(message)] = (
                    f"ATTITUDE has the angles {angles}, expected finite numbers"
                )
                return
            self._attitudes.add(stamp, _quaternion(*angles))
            return
        if message.lat == 0 and message.lon == 0:
            self._refused[type(message)] = (
                "GLOBAL_POSITION_INT is 0, 0: the autopilot has no position yet"
            )
            return
        try:
            place = GeodeticPoint(
                message.lat * _DEGREES, message.lon * _DEGREES, message.alt * _METRES
            )
        except InputError as error:
            self._refused[type(message)] = f"GLOBAL_POSITION_INT: {error}"
            return
        self._positions.add(stamp, place)

    def is_heard(self, now: int) -> bool:
        """Return whether place and attitude have come in the last seconds."""
        return self._positions.is_heard(now) and self._attitudes.is_heard(now)

    def at(self, stamp: int) -> tuple[GeodeticPoint, Array]:
        """Return where the vehicle was and how it lay.

        Args:
            stamp: nanoseconds.

        Returns:
            The place, and the (3, 3) rotation from the vehicle's axes (forward, left, up) to east,
            north, up there.

        Raises:
            UnknownPlaceError: nothing was heard around that time.
        """
        before, after, share = self._positions.around(stamp)
        turned = (after.longitude - before.longitude + 180.0) % 360.0 - 180.0
        place = GeodeticPoint(
            before.latitude + share * (after.latitude - before.latitude),
            (before.longitude + share * turned + 180.0) % 360.0 - 180.0,
            before.altitude + share * (after.altitude - before.altitude),
        )
        start, end, share = self._attitudes.around(stamp)
        return place, _WORLD @ rotation_matrix(slerp(start, end, share)) @ _BODY


def _quaternion(roll: float, pitch: float, yaw: float) -> Array:
    """Return x, y, z, w of the turns about z, then the new y, then the new x (radians)."""
    (sr, cr), (sp, cp), (sy, cy) = (
        (math.sin(0.5 * angle), math.cos(0.5 * angle)) for angle in (roll, pitch, yaw)
    )
    return np.array(
        (
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
            cr * cp * cy + sr * sp * sy,
        )
    )
