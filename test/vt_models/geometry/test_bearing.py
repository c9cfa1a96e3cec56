# SPDX-License-Identifier: Apache-2.0
"""camera_info to a camera, as sensor_msgs defines it."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from sensor_msgs.msg import CameraInfo, RegionOfInterest

from vt_models.errors import InputError
from vt_models.geometry.bearing import BearingFinder, camera_of
from vt_models.geometry.camera import centre_pixel

BOX = (100.0, 80.0, 20.0, 30.0)


def camera_info(**changes):
    info = CameraInfo(width=640, height=480, distortion_model="plumb_bob")
    info.k = [500.0, 0.0, 310.0, 0.0, 505.0, 250.0, 0.0, 0.0, 1.0]
    info.d = [-0.2, 0.05, 0.001, 0.002, 0.0]
    info.p = [480.0, 0.0, 320.0, 0.0, 0.0, 480.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    for name, value in changes.items():
        setattr(info, name, value)
    return info


def test_camera_of_with_roi_and_binning():
    roi = RegionOfInterest(x_offset=100, y_offset=40, width=400, height=300)
    part = camera_of(camera_info(roi=roi, binning_x=2, binning_y=2), (200, 150))
    whole = camera_of(camera_info(), (640, 480))
    assert part.ray(30.0, 20.0) == pytest.approx(whole.ray(160.0, 80.0), abs=1e-12)
    assert camera_of(camera_info(binning_x=2, binning_y=2), (320, 240)).ray(
        80.0, 40.0
    ) == pytest.approx(whole.ray(160.0, 80.0), abs=1e-12)


def test_camera_of_a_rectified_image_goes_by_p():
    ray = camera_of(camera_info(), (640, 480), rectified=True).ray(320.0 + 480.0, 240.0)
    assert ray == pytest.approx((math.sqrt(0.5), 0.0, math.sqrt(0.5)))


def test_camera_of_without_coefficients_is_a_pinhole_or_a_fisheye():
    flat = camera_of(camera_info(d=[], distortion_model=""), (640, 480))
    assert flat.ray(810.0, 250.0) == pytest.approx((math.sqrt(0.5), 0.0, math.sqrt(0.5)))
    zeros = {"d": [0.0] * 4, "distortion_model": "equidistant"}
    fisheye = camera_of(camera_info(**zeros), (640, 480))
    assert fisheye.ray(810.0, 250.0) == pytest.approx((math.sin(1.0), 0.0, math.cos(1.0)))


@pytest.mark.parametrize(
    ("model", "given", "meant"),
    [
        ("equidistant", [0.1, 0.0, 0.0, 0.01, 0.0], ("equidistant", (0.1, 0.0, 0.0, 0.01))),
        ("fisheye", [0.1, 0.0, 0.0, 0.01], ("equidistant", (0.1, 0.0, 0.0, 0.01))),
        ("fisheye", [0.0] * 5, ("equidistant", (0.0,) * 4)),
        ("rational_polynomial", [0.1] * 8 + [0.0] * 6, ("rational_polynomial", (0.1,) * 8)),
        ("rational_polynomial", [0.0] * 14, ("", ())),
    ],
)
def test_camera_of_coefficients_as_drivers_fill_them(model, given, meant):
    camera = camera_of(camera_info(distortion_model=model, d=given), (640, 480))
    assert (camera.model, camera.distortion) == meant


def test_camera_of_skewed_pixels():
    """u = fx x + skew y + cx, as in Hartley and Zisserman, equation 6.10."""
    skewed = [500.0, 100.0, 310.0, 0.0, 505.0, 250.0, 0.0, 0.0, 1.0]
    ray = camera_of(camera_info(k=skewed, d=[]), (640, 480)).ray(410.0, 755.0)
    assert ray == pytest.approx((0.0, math.sqrt(0.5), math.sqrt(0.5)))


@pytest.mark.parametrize(
    ("changes", "size", "reason"),
    [
        ({}, (320, 240), "for images of 640x480 .* but the images have 320x240"),
        ({"k": [0.0] * 9}, (640, 480), "not calibrated"),
        ({"k": [500.0, 0, 310, 3, 505, 250, 0, 0, 1]}, (640, 480), "zeros below its diagonal"),
        ({"distortion_model": "kannala", "d": [0.0] * 4}, (640, 480), "no distortion model called"),
        (
            {"distortion_model": "rational_polynomial", "d": [0.0] * 13 + [0.1]},
            (640, 480),
            "takes 8 coefficients, got 14",
        ),
        ({"distortion_model": "kannala"}, (640, 480), "no distortion model called 'kannala'"),
        ({"d": [0.1] * 3}, (640, 480), "takes 4 or 5 coefficients, got 3"),
        ({"binning_x": 2, "binning_y": 2}, (640, 480), "320x240 .640x480 with binning 2x2"),
    ],
)
def test_camera_of_refuses_what_does_not_fit(changes, size, reason):
    with pytest.raises(InputError, match=reason):
        camera_of(camera_info(**changes), size)


def test_bearing_finder_says_what_is_wrong_and_recovers():
    finder = BearingFinder()
    assert finder.find(BOX, None, (640, 480), rectified=False) is None
    assert not finder.calibrated
    finder.take(camera_info(k=[0.0] * 9))
    assert finder.find(BOX, None, (640, 480), rectified=False) is None
    assert "not calibrated" in finder.problem
    finder.take(camera_info())
    bearing = finder.find(BOX, np.diag((4.0, 4.0, 9.0, 9.0)), (640, 480), rectified=False)
    assert finder.problem == ""
    camera = camera_of(camera_info(), (640, 480))
    assert bearing.ray == camera.ray(*centre_pixel(BOX))
    assert bearing.sigma == pytest.approx(2.0 / 500.0, rel=0.3)
    assert math.isnan(finder.find(BOX, None, (640, 480), rectified=False).sigma)
    assert finder.find(BOX, None, (320, 240), rectified=False) is None
    assert "320x240" in finder.problem
