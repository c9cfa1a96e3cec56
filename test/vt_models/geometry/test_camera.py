# SPDX-License-Identifier: Apache-2.0
"""Rays against OpenCV's projections and undistortion."""

from __future__ import annotations

import contextlib
import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.errors import InputError
from vt_models.geometry.camera import Camera, angles_of, centre_pixel

INTRINSICS = {"fx": 520.0, "fy": 515.0, "cx": 318.5, "cy": 242.25}
MATRIX = np.array([[520.0, 0.0, 318.5], [0.0, 515.0, 242.25], [0.0, 0.0, 1.0]])
DISTORTIONS = {
    "plumb_bob": (-0.31, 0.12, 0.0011, -0.0007, -0.02),
    "rational_polynomial": (0.42, -0.1, 0.0004, -0.0003, 0.01, 0.68, -0.02, 0.003),
    "equidistant": (-0.021, 0.013, -0.011, 0.002),
}
EXACT = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 200, 1e-14)


def camera(lens, **changes):
    return Camera(**{**INTRINSICS, "model": lens, "distortion": DISTORTIONS[lens]} | changes)


def project(model, ray):
    """The pixel of a direction, by OpenCV."""
    coefficients, zero = np.array(DISTORTIONS[model]), np.zeros(3)
    point = np.array([[ray]], np.float64)
    if model == "equidistant":
        pixel, _ = cv2.fisheye.projectPoints(point, zero, zero, MATRIX, coefficients)
    else:
        pixel, _ = cv2.projectPoints(point, zero, zero, MATRIX, coefficients)
    return pixel.ravel()


@pytest.mark.parametrize("model", DISTORTIONS)
@given(u=st.floats(0, 639), v=st.floats(0, 479))
def test_ray_inverts_opencvs_projection(model, u, v):
    ray = camera(model).ray(u, v)
    assert math.hypot(*ray) == pytest.approx(1.0, abs=1e-12)
    assert project(model, ray) == pytest.approx((u, v), abs=1e-4)


@pytest.mark.parametrize("model", DISTORTIONS)
def test_ray_undistortion_agrees_with_opencv(model):
    pixels = np.random.default_rng(1).uniform((0, 0), (639, 479), (200, 2))
    coefficients = np.array(DISTORTIONS[model])
    if model == "equidistant":
        points = cv2.fisheye.undistortPoints(pixels[None], MATRIX, coefficients)
    else:
        # OpenCV 4 has a second function for a number of iterations, OpenCV 5 an argument.
        exactly = getattr(cv2, "undistortPointsIter", cv2.undistortPoints)
        points = exactly(pixels[:, None], MATRIX, coefficients, R=None, P=None, criteria=EXACT)
    rays = np.array([camera(model).ray(u, v) for u, v in pixels])
    assert rays[:, :2] / rays[:, 2:] == pytest.approx(points.reshape(-1, 2), abs=1e-6)


@pytest.mark.parametrize("model", DISTORTIONS)
@given(u=st.floats(0, 639), v=st.floats(0, 479), distance=st.floats(0.1, 100.0))
def test_pixel_is_where_opencv_projects_a_point(model, u, v, distance):
    ray = np.array(camera(model).ray(u, v))
    pixel = camera(model).pixel(*(distance * ray))
    assert pixel == pytest.approx(project(model, ray), abs=1e-6)
    part = camera(model, left=100.0, top=40.0, binning=(2, 2))
    assert part.pixel(*ray) == pytest.approx(((u - 100.0) / 2, (v - 40.0) / 2), abs=1e-4)


def test_pixel_of_a_point_that_is_not_seen_is_an_input_error():
    with pytest.raises(InputError, match="not in front of the camera"):
        camera("plumb_bob").pixel(0.1, 0.1, -1.0)
    with pytest.raises(InputError, match="not in front of the camera"):
        camera("equidistant").pixel(math.nan, 0.1, 1.0)
    barrel = camera("plumb_bob", distortion=(-0.3, 0.0, 0.0, 0.0))
    with pytest.raises(InputError, match="lens"):  # it folds back beyond 1.05 focal lengths
        barrel.pixel(1.0, 1.0, 1.0)


def test_ray_without_distortion_is_a_pinholes():
    ray = Camera(**INTRINSICS).ray(318.5 + 520.0, 242.25)
    assert ray == pytest.approx((math.sqrt(0.5), 0.0, math.sqrt(0.5)))
    assert angles_of(ray) == pytest.approx((math.pi / 4, 0.0))
    assert angles_of((0.0, 0.6, 0.8)) == pytest.approx((0.0, math.atan2(0.6, 0.8)))


def test_ray_of_a_fisheye_can_point_backwards():
    ray = Camera(200.0, 200.0, 400.0, 400.0, "equidistant", (0.0,) * 4).ray(
        400.0 + 200.0 * 2.0, 400
    )
    assert ray == pytest.approx((math.sin(2.0), 0.0, math.cos(2.0)))
    assert angles_of(ray)[0] == pytest.approx(2.0)


def test_ray_with_region_of_interest_and_binning_is_of_the_full_image():
    """The image is every second pixel of a part of the full image."""
    part = camera("plumb_bob", left=100.0, top=40.0, binning=(2, 2))
    assert part.ray(50.0, 60.0) == pytest.approx(camera("plumb_bob").ray(200.0, 160.0), abs=1e-12)


@given(
    x=st.floats(100, 500), y=st.floats(100, 300), sigma_u=st.floats(0.1, 3), sigma_v=st.floats(0, 3)
)
def test_angular_deviation_follows_the_centres_covariance(x, y, sigma_u, sigma_v):
    """Compared with the angles to the pixels one deviation away."""
    view, box = camera("plumb_bob"), (x, y, 20.0, 30.0)
    covariance = np.diag((sigma_u**2, sigma_v**2, 9.0, 9.0))
    u, v = centre_pixel(box)
    here = np.array(view.ray(u, v))
    away = [np.array(view.ray(u + sigma_u, v)), np.array(view.ray(u, v + sigma_v))]
    angle = max(math.asin(np.linalg.norm(np.cross(here, ray))) for ray in away)
    assert view.angular_deviation(box, covariance) == pytest.approx(angle, rel=0.05)


def test_centre_pixel_of_the_first_pixel_is_zero():
    assert centre_pixel((0.0, 0.0, 1.0, 1.0)) == (0.0, 0.0)
    assert centre_pixel((10.0, 20.0, 4.0, 8.0)) == (11.5, 23.5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "thin_prism", "distortion": ()}, "no distortion model called 'thin_prism'"),
        ({"distortion": (0.1,) * 3}, "plumb_bob takes 4 or 5 coefficients, got 3"),
        ({"distortion": (1e9,) * 1000}, "plumb_bob takes 4 or 5 coefficients, got 1000"),
        ({"model": "x" * 10_000}, r"called 'x{,30}\.\.\.x{,30}'; known"),
        ({"fx": 0.0}, "not calibrated"),
        ({"cy": math.nan}, "not finite"),
        ({"binning": (0, 1)}, "binning"),
    ],
)
def test_camera_with_bad_values_is_an_input_error(changes, reason):
    with pytest.raises(InputError, match=reason):
        camera("plumb_bob", **changes)


def test_ray_beyond_the_polynomial_is_an_input_error():
    """A barrel distortion that folds back has no direction for pixels far outside."""
    with pytest.raises(InputError, match="cannot be inverted"):
        camera("plumb_bob").ray(3000.0, 2500.0)
    with pytest.raises(InputError, match="beyond what equidistant"):
        camera("equidistant", distortion=(-0.2, 0.0, 0.0, 0.0)).ray(2500.0, 242.0)
    with pytest.raises(InputError, match="not finite"):
        camera("plumb_bob").ray(math.nan, 0.0)


@pytest.mark.parametrize(
    "wrong", [{"fx": 1e300}, {"fx": 1e-300}, {"cx": 1e300}, {"cy": -1e12}, {"fy": 1e-3}]
)
def test_camera_with_a_number_out_of_range_is_refused(wrong) -> None:
    """Directions would be zero vectors, with a deviation of zero."""
    with pytest.raises(InputError, match="calibrate the camera again"):
        Camera(**{"fx": 500.0, "fy": 500.0, "cx": 320.0, "cy": 240.0, **wrong})


@given(
    fx=st.floats(0.1, 1e7),
    cx=st.floats(-1e7, 1e7),
    distortion=st.lists(st.floats(-1e6, 1e6), min_size=8, max_size=8),
    pixel=st.tuples(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5)),
)
def test_ray_of_any_camera_is_a_unit_vector_or_refused(fx, cx, distortion, pixel) -> None:
    for model, count in (("", 0), ("plumb_bob", 5), ("rational_polynomial", 8), ("equidistant", 4)):
        camera = Camera(fx, fx, cx, 0.0, model, tuple(distortion[:count]))
        with contextlib.suppress(InputError):
            assert np.linalg.norm(camera.ray(*pixel)) == pytest.approx(1.0)
