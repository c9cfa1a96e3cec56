# SPDX-License-Identifier: Apache-2.0
"""Places on earth (WGS84), and metres east, north and up of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vt_models.errors import InputError

Array = NDArray[np.float64]

_SEMI_MAJOR = 6_378_137.0  # metres; with the flattening it defines the ellipsoid of WGS84
_FLATTENING = 1.0 / 298.257_223_563
_ECCENTRICITY_2 = _FLATTENING * (2.0 - _FLATTENING)

# Bowring's iteration: up to 1000 km of height the third changes nothing that a double holds.
_ITERATIONS = 3


@dataclass(frozen=True)
class GeodeticPoint:
    """A place on earth.

    Attributes:
        latitude: degrees, north is positive.
        longitude: degrees, east is positive.
        altitude: metres. Above the ellipsoid, or above mean sea level: `offset` keeps the kind, as
            the geoid is level over the distances a camera sees.

    Raises:
        InputError: a number that is not finite, or no latitude or longitude.
    """

    latitude: float
    longitude: float
    altitude: float

    def __post_init__(self) -> None:
        for name, value, limit in (
            ("latitude", self.latitude, 90.0),
            ("longitude", self.longitude, 180.0),
            ("altitude", self.altitude, math.inf),
        ):
            if not (math.isfinite(value) and abs(value) <= limit):
                range_ = f" from {-limit:g} to {limit:g}" if math.isfinite(limit) else ""
                raise InputError(f"{name} is {value!r}, expected a finite number{range_}")

    def offset(self, east_north_up: ArrayLike) -> GeodeticPoint:
        """Return the place that lies so many metres to the east, to the north and up of this one.

        The three axes stand at this place and are straight, so what lies far along them is higher
        above the curved earth: 8 m at a distance of 10 km.

        Args:
            east_north_up: (3,), metres.

        Raises:
            InputError: a number that is not finite.
        """
        vector = np.asarray(east_north_up, np.float64)
        if vector.shape != (3,) or not np.isfinite(vector).all():
            raise InputError(f"offset is {vector.tolist()}, expected three finite numbers")
        return _from_earth_centred(_earth_centred(self) + _east_north_up_axes(self) @ vector)


def _earth_centred(place: GeodeticPoint) -> Array:
    """Return the place in the earth-centred, earth-fixed frame, (3,) metres."""
    latitude, longitude = math.radians(place.latitude), math.radians(place.longitude)
    normal = _SEMI_MAJOR / math.sqrt(1.0 - _ECCENTRICITY_2 * math.sin(latitude) ** 2)
    across = (normal + place.altitude) * math.cos(latitude)
    return np.array(
        (
            across * math.cos(longitude),
            across * math.sin(longitude),
            (normal * (1.0 - _ECCENTRICITY_2) + place.altitude) * math.sin(latitude),
        )
    )


def _east_north_up_axes(place: GeodeticPoint) -> Array:
    """Return the (3, 3) axes at a place, as columns in the earth-centred frame."""
    latitude, longitude = math.radians(place.latitude), math.radians(place.longitude)
    sin_lat, cos_lat = math.sin(latitude), math.cos(latitude)
    sin_lon, cos_lon = math.sin(longitude), math.cos(longitude)
    return np.array(
        (
            (-sin_lon, -sin_lat * cos_lon, cos_lat * cos_lon),
            (cos_lon, -sin_lat * sin_lon, cos_lat * sin_lon),
            (0.0, cos_lat, sin_lat),
        )
    )


def _from_earth_centred(point: Array) -> GeodeticPoint:
    """Return the place of a point in the earth-centred frame (Bowring 1976)."""
    x, y, z = map(float, point)
    across = math.hypot(x, y)
    semi_minor = _SEMI_MAJOR * (1.0 - _FLATTENING)
    second = _ECCENTRICITY_2 / (1.0 - _ECCENTRICITY_2)
    reduced = math.atan2(z, across * (1.0 - _FLATTENING))
    latitude = 0.0
    for _ in range(_ITERATIONS):
        latitude = math.atan2(
            z + second * semi_minor * math.sin(reduced) ** 3,
            across - _ECCENTRICITY_2 * _SEMI_MAJOR * math.cos(reduced) ** 3,
        )
        reduced = math.atan2((1.0 - _FLATTENING) * math.sin(latitude), math.cos(latitude))
    # Along the normal, which has no pole where a division would lose the height.
    normal = _SEMI_MAJOR / math.sqrt(1.0 - _ECCENTRICITY_2 * math.sin(latitude) ** 2)
    sin_lat, cos_lat = math.sin(latitude), math.cos(latitude)
    height = across * cos_lat + z * sin_lat - normal * (1.0 - _ECCENTRICITY_2 * sin_lat**2)
    return GeodeticPoint(math.degrees(latitude), math.degrees(math.atan2(y, x)), height)
