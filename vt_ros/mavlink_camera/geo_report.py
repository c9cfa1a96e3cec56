# SPDX-License-Identifier: Apache-2.0
"""From the target's position and the vehicle's pose to CAMERA_TRACKING_GEO_STATUS."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.geometry.geodesy import GeodeticPoint
from vt_ros.client import State
from vt_ros.common.convert import NANOSECONDS
from vt_ros.common.errors import shortened
from vt_ros.mavlink.messages import (
    Attitude,
    CameraTrackingGeoStatus,
    GlobalPositionInt,
    TrackingStatus,
)
from vt_ros.mavlink_camera.parameters import GeoSettings
from vt_ros.mavlink_camera.target_position import Place, TargetPosition
from vt_ros.mavlink_camera.vehicle_pose import UnknownPlaceError, VehiclePose

Array = NDArray[np.float64]

_MOST_POSITIONS = 32  # that wait for the vehicle's pose of their time
_MOST_AHEAD = NANOSECONDS // 2  # that a stamp may be in the future: clocks disagree a little
_DEGREES = 1e-7

_MEASURED = (State.TRACKING, State.UNCERTAIN)
_ERROR = CameraTrackingGeoStatus(tracking_status=TrackingStatus.ERROR)


class GeoReport:
    """What there is to report of where on earth the target is. Not for several threads at once.

    Args:
        settings: the parameters.
        clock: gives the time of the images' stamps, nanoseconds.
    """

    def __init__(self, settings: GeoSettings, clock: Callable[[], int]) -> None:
        self._settings, self._clock = settings, clock
        self._origin = settings.origin
        self._vehicle = VehiclePose()
        # Newest first: stamp, target id, place.
        self._positions: deque[tuple[int, int, Place]] = deque(maxlen=_MOST_POSITIONS)
        self._heard: int | None = None
        self._problem = ""  # why there is no place for the newest frame; empty: there is one

    @property
    def needs_vehicle(self) -> bool:
        """Positions are relative to the vehicle: the autopilot has to say where it is."""
        return self._origin is None

    def take_vehicle(self, message: Attitude | GlobalPositionInt) -> None:
        """Take what the vehicle's autopilot says."""
        self._vehicle.take(message, self._clock())

    def vehicle_is_heard(self) -> bool:
        """Return whether the autopilot says where the vehicle is, if that is needed."""
        return not self.needs_vehicle or self._vehicle.is_heard(self._clock())

    def take_position(self, position: TargetPosition) -> None:
        """Take what target_3d says of a frame; one without a position ends those before it."""
        now, settings, place = self._clock(), self._settings, position.place
        self._heard, self._problem = now, position.problem
        if place is not None and place.frame_id != settings.frame:
            self._problem = shortened(
                f"positions are in {place.frame_id!r}, expected {settings.frame!r}: set "
                f"output_frame of {settings.target_3d}, or geo.frame"
            )
        elif position.stamp > now + _MOST_AHEAD:
            ahead = (position.stamp - now) / NANOSECONDS
            self._problem = f"the position is {ahead:.2f} s in the future; synchronise the clocks"
        if place is None or self._problem:
            self._positions.clear()
            return
        if self._positions and position.stamp < self._positions[0][0]:
            self._positions.clear()  # a recording has begun again
        self._positions.appendleft((position.stamp, position.target_id, place))

    def is_available(self, timeout: float) -> bool:
        """Return whether target_3d and, if it is needed, the autopilot are heard.

        Args:
            timeout: seconds without a word of target_3d.
        """
        if self._heard is None or abs(self._clock() - self._heard) > timeout * NANOSECONDS:
            return False
        return self.vehicle_is_heard()

    def describe(self, state: State, target_id: int, timeout: float) -> str:
        """Return why the place of a measured target is not known; empty: nothing keeps it.

        The arguments are those of `status`.
        """
        if self._heard is None:
            return f"{self._settings.target_3d} has not been heard: is it running and active?"
        if not self.is_available(timeout):
            if self.vehicle_is_heard():
                return f"{self._settings.target_3d} is silent"
            reason = self._vehicle.refused or "no GLOBAL_POSITION_INT and ATTITUDE come"
            return f"the autopilot does not say where the vehicle is: {reason}"
        if state not in _MEASURED:
            return ""
        self.status(state, target_id, timeout)
        return self._problem

    def status(self, state: State, target_id: int, timeout: float) -> CameraTrackingGeoStatus:
        """Return where the target is, as far as it is known.

        Args:
            state: of the target, as the tracker says now.
            target_id: of the tracker's target.
            timeout: seconds since an exposure for which its position is reported.

        Returns:
            ACTIVE with a place that was measured a moment ago, IDLE without a target, or ERROR
            without a place: it is lost, predicted only, or nobody knows where it is.
        """
        if state is State.IDLE:
            return CameraTrackingGeoStatus()
        if state not in _MEASURED:
            return _ERROR
        now, problem = self._clock(), ""
        for stamp, its_target_id, place in self._positions:
            if its_target_id != target_id:
                problem = problem or "the position is of another target"
                break
            if now - stamp > timeout * NANOSECONDS:
                problem = problem or f"no position for {timeout:g} s"
                break
            try:
                status = self._place(stamp, place)
            except (UnknownPlaceError, InputError) as error:
                problem = problem or str(error)
                continue  # what the autopilot said around an earlier one may have come
            self._problem = ""
            return status
        refused = self._vehicle.refused if self.needs_vehicle else ""
        self._problem = refused or problem or self._problem
        return _ERROR

    def _place(self, stamp: int, place: Place) -> CameraTrackingGeoStatus:
        """Return the status of a place that was measured at a time.

        Raises:
            UnknownPlaceError: where the vehicle was at that time is not known.
            InputError: it is no place on earth.
        """
        origin, turn = self._frame(stamp)
        offset = turn @ place.point
        on_earth = origin.offset(offset)
        direction = turn @ place.direction
        h_acc, v_acc = self._accuracy(turn @ place.covariance @ turn.T, offset)
        velocity, vel_acc = self._velocity(place)
        return CameraTrackingGeoStatus(
            lat=round(on_earth.latitude / _DEGREES),
            lon=round(on_earth.longitude / _DEGREES),
            alt=on_earth.altitude,
            h_acc=h_acc,
            v_acc=v_acc,
            vel_n=float(velocity[1]),
            vel_e=float(velocity[0]),
            vel_d=-float(velocity[2]),
            vel_acc=vel_acc,
            dist=place.range,
            hdg=math.atan2(direction[0], direction[1]),  # from the north to the east
            tracking_status=TrackingStatus.ACTIVE,
        )

    def _frame(self, stamp: int) -> tuple[GeodeticPoint, Array]:
        """Return where the frame of positions is, and its rotation to east, north, up there."""
        if self._origin is not None:
            return self._origin, np.eye(3)
        return self._vehicle.at(stamp)

    def _accuracy(self, covariance: Array, offset: Array) -> tuple[float, float]:
        """Return one standard deviation across and in height, metres; NaN if it is not known.

        Three independent parts: of the position in its frame, of where the frame is, and of how it
        lies, which grows with the distance.
        """
        settings = self._settings
        if not settings.position_sigma:
            return math.nan, math.nan
        common = settings.position_sigma**2 + float(offset @ offset) * settings.attitude_sigma**2
        across = float(np.linalg.eigvalsh(covariance[:2, :2])[-1])
        return math.sqrt(max(across, 0.0) + common), math.sqrt(covariance[2, 2] + common)

    def _velocity(self, place: Place) -> tuple[Array, float]:
        """Return the velocity to the east, north and up, and its deviation; NaN if not known.

        That of a frame that need not point to the north, as odom, is not.
        """
        velocity = place.velocity
        if velocity is None or self.needs_vehicle or velocity.frame_id != self._settings.frame:
            return np.full(3, math.nan), math.nan
        largest = float(np.linalg.eigvalsh(velocity.covariance)[-1])
        return velocity.vector, math.sqrt(max(largest, 0.0))
