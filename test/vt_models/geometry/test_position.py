# SPDX-License-Identifier: Apache-2.0
"""From a box and a range to a position: against targets that are projected into the image."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vt_models.errors import InputError
from vt_models.geometry.camera import Camera
from vt_models.geometry.position import BoxView
from vt_models.geometry.rigid import Transform

PINHOLE = Camera(fx=500.0, fy=505.0, cx=320.0, cy=240.0)
FISHEYE = Camera(
    fx=300.0,
    fy=300.0,
    cx=320.0,
    cy=240.0,
    model="equidistant",
    distortion=(0.02, -0.005, 0.0, 0.0),
)
NOISE = np.diag((2.0, 3.0, 4.0, 5.0)) ** 2

boxes = st.tuples(
    st.floats(0.0, 500.0), st.floats(0.0, 350.0), st.floats(8.0, 140.0), st.floats(8.0, 130.0)
)
ranges = st.floats(0.3, 50.0)


def looking(pitch: float, height: float) -> Transform:
    """From the optical frame to one with z up; the camera looks along x, `pitch` downwards."""
    c, s = math.cos(pitch), math.sin(pitch)
    forward, left, up = np.array((c, 0, -s)), np.array((0.0, 1, 0)), np.array((s, 0, c))
    return Transform(np.stack((-left, -up, forward), axis=1), np.array((0.0, 0.0, height)))


def box_of(corners: np.ndarray) -> tuple[float, float, float, float]:
    """The box around points of the optical frame, as the pinhole camera sees them."""
    u = 500.0 * corners[:, 0] / corners[:, 2] + 320.0 + 0.5
    v = 505.0 * corners[:, 1] / corners[:, 2] + 240.0 + 0.5
    return u.min(), v.min(), np.ptp(u), np.ptp(v)


@given(boxes, ranges, st.sampled_from([PINHOLE, FISHEYE]))
def test_position_is_on_the_ray_at_the_range_and_its_covariance_is_one(box, distance, camera):
    view = BoxView(camera, box, NOISE)
    position = view.at_range(distance, 0.02 * distance)
    assert np.linalg.norm(position.point) == pytest.approx(distance)
    assert position.point @ view.centre == pytest.approx(distance)
    assert np.linalg.eigvalsh(position.covariance).min() > -1e-12
    assert position.covariance == pytest.approx(position.covariance.T)
    along = view.centre @ position.covariance @ view.centre
    assert math.sqrt(along) == pytest.approx(position.range_sigma, rel=1e-6)


@given(boxes, ranges)
def test_position_at_depth_has_that_depth_and_range_and_projects_to_the_centre(box, depth):
    x, y, w, h = box
    position = BoxView(PINHOLE, box, NOISE).at_depth(depth, 0.01)
    px, py, pz = position.point
    assert pz == pytest.approx(depth)
    assert np.linalg.norm(position.point) == pytest.approx(position.range)
    assert 500.0 * px / pz + 320.5 == pytest.approx(x + w / 2)
    assert 505.0 * py / pz + 240.5 == pytest.approx(y + h / 2)


def test_covariance_is_that_of_many_measured_boxes():
    chance, box = np.random.default_rng(2), (420.0, 90.0, 60.0, 80.0)
    noise = np.diag((3.0, 2.0, 1.0, 1.0)) ** 2
    expected = BoxView(PINHOLE, box, noise).at_depth(5.0, 0.1)
    points = []
    for du, dv, dz in chance.normal(0, (3.0, 2.0, 0.1), (4000, 3)):
        moved = (box[0] + du, box[1] + dv, *box[2:])
        points.append(BoxView(PINHOLE, moved, noise).at_depth(5.0 + dz, 0.1).point)
    assert np.cov(np.array(points).T) == pytest.approx(expected.covariance, rel=0.1, abs=2e-4)
    assert np.mean(points, axis=0) == pytest.approx(expected.point, abs=0.02)


@given(
    height=st.floats(0.3, 4.0),
    pitch=st.floats(-0.1, 0.3),
    ahead=st.floats(2.0, 25.0),
    aside=st.floats(-0.2, 0.2),
    tall=st.floats(0.3, 2.0),
)
def test_ground_plane_finds_a_target_that_stands_on_it(height, pitch, ahead, aside, tall):
    aside *= ahead  # further aside a box is wider than the target, whose edges lean in the image
    to_ground = looking(pitch, height)
    upright = np.array([(ahead, aside + d, z) for d in (-0.2, 0.2) for z in (0.0, tall)])
    seen = to_ground.inverse().apply(upright)
    assume(seen[:, 2].min() > 0.3)
    view = BoxView(PINHOLE, box_of(seen), 0.01 * NOISE)
    assume((to_ground.rotation @ view.bottom)[2] < -0.02)
    assume(-(to_ground.rotation @ view.centre)[2] < 0.85)  # not steeply from above
    position = view.on_ground(to_ground, 0.0, 0.001, 0.001)
    x, y, z = to_ground.apply(position.point)
    assert math.hypot(x, y) == pytest.approx(math.hypot(ahead, aside), rel=0.05)
    assert 0.0 < z < tall
    assert position.range_sigma > 0.0


def test_ground_plane_from_steeply_above_takes_the_centre():
    to_ground = looking(math.radians(80), 20.0)
    position = BoxView(PINHOLE, (300.0, 220.0, 40.0, 40.0), NOISE).on_ground(
        to_ground, 0, 0.1, 0.01
    )
    assert to_ground.apply(position.point)[2] == pytest.approx(0.0, abs=1e-9)


def test_ground_plane_error_grows_as_the_square_of_the_range():
    sigmas = []
    for ahead in (5.0, 10.0):
        seen = looking(0.0, 1.0).inverse().apply([(ahead, d, z) for d in (-1, 1) for z in (0, 1)])
        view = BoxView(PINHOLE, box_of(seen), 1e-6 * NOISE)
        sigmas.append(view.on_ground(looking(0.0, 1.0), 0.0, 0.0, 0.005).range_sigma)
    assert sigmas == pytest.approx([0.005 * 26, 0.005 * 101], rel=0.02)


def test_deviations_of_ground_plane_and_known_size_are_those_of_many_measurements():
    chance, box = np.random.default_rng(6), (300.0, 210.0, 40.0, 120.0)
    pixels = np.diag((1.0, 1.0, 2.0, 2.0)) ** 2
    pitch, height, tilt_sigma, height_sigma = 0.05, 1.5, 0.005, 0.03
    view = BoxView(PINHOLE, box, pixels)
    by_ground = view.on_ground(looking(pitch, height), 0.0, height_sigma, tilt_sigma)
    by_size = view.by_size(1.7, 0.05, vertical=True)
    ranges = []
    for du, dv, dw, dh in chance.multivariate_normal(np.zeros(4), pixels, 3000):
        x, y, w, h = box
        moved = (x + du - dw / 2, y + dv - dh / 2, w + dw, h + dh)
        other = BoxView(PINHOLE, moved, pixels)
        truth = looking(pitch + tilt_sigma * chance.normal(), height + 0.03 * chance.normal())
        ground = other.on_ground(truth, 0.0, height_sigma, tilt_sigma).range
        size = 1.7 * (1.0 + 0.05 * chance.normal())
        ranges.append((ground, other.by_size(size, 0.05, vertical=True).range))
    assert np.std(ranges, axis=0) == pytest.approx(
        (by_ground.range_sigma, by_size.range_sigma), rel=0.1
    )
    assert np.mean(ranges, axis=0) == pytest.approx((by_ground.range, by_size.range), rel=0.02)


@given(size=st.floats(0.2, 3.0), depth=st.floats(1.0, 40.0), vertical=st.booleans())
def test_known_size_gives_the_range_of_a_target_of_that_size(size, depth, vertical):
    half = 0.5 * size
    corners = np.array([(a * half, b * half, depth) for a in (-1, 1) for b in (-1, 1)])
    assume(half / depth < 0.4)
    view = BoxView(PINHOLE, box_of(corners), 0.01 * NOISE)
    assume(min(view.box[2:]) > 6.0)
    position = view.by_size(size, 0.05, vertical)
    assert position.range == pytest.approx(depth, rel=1e-6)
    assert 0.05 * depth < position.range_sigma
    assert view.size_at(position.range) == pytest.approx((size, size), rel=1e-6)


def test_inner_half_holds_what_is_seen_in_it():
    chance = np.random.default_rng(7)
    box = (200.0, 100.0, 100.0, 160.0)
    u, v, depth = (chance.uniform(*limits, 3000) for limits in ((0, 640), (0, 480), (-4, 9)))
    points = np.stack(((u - 320.5) / 500 * depth, (v - 240.5) / 505 * depth, depth), axis=1)
    inside = BoxView(PINHOLE, box, NOISE).inner_half(points)
    truly = (abs(u - 250) < 25) & (abs(v - 180) < 40) & (depth > 0)
    near_an_edge = (abs(abs(u - 250) - 25) < 1.5) | (abs(abs(v - 180) - 40) < 1.5)
    assert truly.sum() > 20
    assert (inside == truly)[~near_an_edge].all()


@pytest.mark.parametrize(
    ("box", "noise"),
    [
        ((float("nan"), 0.0, 10.0, 10.0), NOISE),
        ((0.0, 0.0, 0.0, 10.0), NOISE),
        ((0.0, 0.0, 10.0, float("inf")), NOISE),
        ((0.0, 0.0, 10.0, 10.0), np.full((4, 4), np.nan)),
        ((0.0, 0.0, 10.0, 10.0), np.diag((1.0, 1.0, -1.0, 1.0))),
    ],
)
def test_box_that_is_none_is_refused(box, noise):
    with pytest.raises(InputError, match="box"):
        BoxView(PINHOLE, box, noise)


def test_what_cannot_be_measured_is_refused_with_its_reason():
    view = BoxView(PINHOLE, (300.0, 50.0, 40.0, 40.0), NOISE)
    with pytest.raises(InputError, match="below the horizon"):
        view.on_ground(looking(0.0, 1.0), 0.0, 0.01, 0.01)
    with pytest.raises(InputError, match=r"camera is -0\.50 m above the ground"):
        view.on_ground(looking(0.0, 1.0), 1.5, 0.01, 0.01)
    with pytest.raises(InputError, match="too much for a position"):
        view.at_range(5.0, 3.0)
    with pytest.raises(InputError, match="the range is nan m"):
        view.at_range(float("nan"), 0.1)
    sideways = BoxView(FISHEYE, (795.0, 240.0, 4.0, 4.0), NOISE)
    with pytest.raises(InputError, match="too far off the optical axis"):
        sideways.at_depth(1.0, 0.01)


numbers = st.floats() | st.sampled_from([0.0, 1.0, -1.0, 1e300, 1e-300, 1e30, 40.0, 240.0])


@given(
    box=st.tuples(numbers, numbers, numbers, numbers),
    noise=st.lists(numbers, min_size=16, max_size=16) | st.just([0.0] * 16),
    distance=numbers,
    sigma=numbers,
    camera=st.sampled_from([PINHOLE, FISHEYE]),
)
def test_random_numbers_are_a_finite_position_or_refused(box, noise, distance, sigma, camera):
    try:
        view = BoxView(camera, box, np.reshape(noise, (4, 4)))
    except InputError:
        return
    methods = (
        lambda: view.at_range(distance, sigma),
        lambda: view.at_depth(distance, sigma),
        lambda: view.by_size(distance, sigma, vertical=True),
        lambda: view.on_ground(looking(0.3, 1.0), distance, sigma, sigma),
    )
    for method in methods:
        with contextlib.suppress(InputError):
            position = method()
            assert np.isfinite(position.point).all()
            assert np.isfinite(position.covariance).all()
            assert position.range > 0.0
            assert position.range_sigma >= 0.0
