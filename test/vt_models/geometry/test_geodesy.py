# SPDX-License-Identifier: Apache-2.0
"""Places on earth: published lengths, laws, and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.errors import InputError
from vt_models.geometry.geodesy import GeodeticPoint, _earth_centred

places = st.builds(
    GeodeticPoint, st.floats(-90.0, 90.0), st.floats(-180.0, 180.0), st.floats(-500.0, 20_000.0)
)


@pytest.mark.parametrize(
    ("latitude", "north", "east"),
    # Lengths of a degree on WGS84, metres (National Geospatial-Intelligence Agency, length of a
    # degree of latitude and longitude).
    [(0.0, 110_574.3, 111_319.5), (45.0, 111_131.8, 78_846.8), (60.0, 111_412.3, 55_800.0)],
)
def test_offset_by_a_thousandth_of_a_degree_has_the_published_length(latitude, north, east):
    start = GeodeticPoint(latitude, 10.0, 100.0)
    to_north = start.offset((0.0, 1e-3 * north, 0.0))
    assert to_north.latitude == pytest.approx(latitude + 1e-3, abs=3e-8)
    assert to_north.longitude == pytest.approx(10.0, abs=1e-9)
    to_east = start.offset((1e-3 * east, 0.0, 0.0))
    assert to_east.longitude == pytest.approx(10.0 + 1e-3, abs=3e-8)
    assert to_east.latitude == pytest.approx(latitude, abs=1e-8)
    assert start.offset((0.0, 0.0, 50.0)).altitude == pytest.approx(150.0, abs=1e-6)


@given(places)
def test_offset_of_nothing_is_the_same_place(place):
    same = place.offset((0.0, 0.0, 0.0))
    assert np.linalg.norm(_earth_centred(same) - _earth_centred(place)) < 1e-5
    assert same.altitude == pytest.approx(place.altitude, abs=1e-5)


@given(places, st.tuples(*3 * (st.floats(-5000.0, 5000.0),)))
def test_offset_is_as_long_as_it_was_asked_to_be(place, offset):
    moved = place.offset(offset)
    length = np.linalg.norm(_earth_centred(moved) - _earth_centred(place))
    assert length == pytest.approx(np.linalg.norm(offset), abs=1e-4)


def test_offset_over_the_curved_earth_gains_height():
    far = GeodeticPoint(0.0, 179.999, 0.0).offset((10_000.0, 0.0, 0.0))
    assert far.altitude == pytest.approx(10_000.0**2 / (2 * 6_378_137.0), abs=0.01)
    assert -180.0 <= far.longitude < -179.9  # across the date line


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ((90.1, 0.0, 0.0), "latitude is 90.1"),
        ((0.0, -180.5, 0.0), "longitude is -180.5"),
        ((0.0, 0.0, math.nan), "altitude is nan"),
        ((math.inf, 0.0, 0.0), "latitude is inf"),
    ],
)
def test_place_that_is_none_is_refused(values, word):
    with pytest.raises(InputError, match=word):
        GeodeticPoint(*values)


@pytest.mark.parametrize("offset", [(math.nan, 0.0, 0.0), (1.0, 2.0), (1e400, 0.0, 0.0)])
def test_offset_that_is_not_finite_is_refused(offset):
    with pytest.raises(InputError, match="expected three finite numbers"):
        GeodeticPoint(0.0, 0.0, 0.0).offset(offset)
