# SPDX-License-Identifier: Apache-2.0
"""Depth images: metres out of every encoding, and what does not fit the tracker's image."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from sensor_msgs.msg import CameraInfo, Image

from vt_models.geometry.camera import Camera
from vt_models.geometry.position import BoxView
from vt_ros.target_3d.depth_image import (
    Calibration,
    check_alignment,
    check_unit,
    inner_half,
    read_depth,
)
from vt_ros.target_3d.errors import NoPositionError

LIMITS = (0.1, 100.0)
BOX = (300.0, 200.0, 60.0, 80.0)
VIEW = BoxView(Camera(fx=500.0, fy=500.0, cx=320.0, cy=240.0), BOX, np.eye(4))


def depth_image(metres, encoding="16UC1", padding=0, big_endian=False, frame_id="optical"):
    """A depth image message, rows padded by some bytes."""
    values = metres if encoding == "32FC1" else np.rint(1000.0 * metres)
    kind = (">" if big_endian else "<") + ("f4" if encoding == "32FC1" else "u2")
    rows = np.ascontiguousarray(values.astype(kind)).view(np.uint8).reshape(len(metres), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)))
    message = Image(encoding=encoding, is_bigendian=int(big_endian), step=rows.shape[1])
    message.header.frame_id = frame_id
    message.height, message.width = metres.shape
    message.data = rows.tobytes()
    return message


@given(
    encoding=st.sampled_from(["16UC1", "mono16", "32FC1"]),
    padding=st.integers(0, 7),
    big_endian=st.booleans(),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_depth_is_in_metres_whatever_the_encoding(encoding, padding, big_endian, shape):
    metres = np.random.default_rng(sum(shape)).integers(0, 60000, shape) / 1000.0
    message = depth_image(metres, encoding, padding, big_endian)
    assert read_depth(message, 0.001) == pytest.approx(metres, abs=1e-4)
    if encoding == "16UC1":
        assert read_depth(message, 0.00025) == pytest.approx(metres / 4, abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"encoding": "bgr8"}, "encoding 'bgr8', expected 16UC1"),
        ({"encoding": ""}, "encoding ''"),
        ({"step": 5}, "step 5 holds"),
        ({"height": 7}, "fills its fields wrongly"),
        ({"width": 0}, "fills its fields wrongly"),
        ({"data": b""}, "holds 0 bytes"),
    ],
)
def test_message_that_contradicts_itself_is_refused(changes, said):
    message = depth_image(np.full((6, 8), 2.0))
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(NoPositionError, match=said):
        read_depth(message, 0.001)


def test_unit_that_is_wrong_is_noticed():
    metres = np.random.default_rng(1).uniform(0.5, 6.0, (480, 640))
    metres[::3] = 0.0
    check_unit(metres, "32FC1", 0.001, LIMITS)
    with pytest.raises(NoPositionError, match="does the driver write millimetres"):
        check_unit(1000.0 * metres, "32FC1", 0.001, LIMITS)
    with pytest.raises(NoPositionError, match=r"one step is taken for 0\.001 m: set depth\.unit"):
        check_unit(0.001 * metres, "16UC1", 0.001, LIMITS)
    with pytest.raises(NoPositionError, match="no depth at all"):
        check_unit(np.full((4, 4), np.nan), "32FC1", 0.001, LIMITS)


def camera_info(cx=320.0, width=640, height=480, scale=1.0):
    info = CameraInfo(width=width, height=height)
    f = 500.0 * scale
    info.k = [f, 0.0, cx * scale, 0.0, f, 240.0 * scale, 0.0, 0.0, 1.0]
    return info


def aligned(info=None, size=(480, 640), frame_id="optical", scale=1.0):
    calibration = Calibration(rectified=False)
    if info is not None:
        calibration.take(info)
    message = depth_image(np.full((int(size[0] * scale), int(size[1] * scale)), 2.0))
    message.header.frame_id = frame_id
    check_alignment(message, "optical", (640, 480), VIEW, calibration)


def test_aligned_depth_passes_at_any_size():
    aligned()
    aligned(camera_info())
    aligned(camera_info(width=320, height=240, scale=0.5), scale=0.5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"frame_id": "depth_optical"}, "of the frame 'depth_optical', the image of 'optical'"),
        ({"size": (400, 640)}, "640x400 pixels, the image 640x480"),
        ({"info": camera_info(cx=350.0)}, "30 pixels away"),
        ({"info": camera_info(width=848)}, "camera_info refused"),
        ({"info": CameraInfo(width=640, height=480)}, "camera_info refused"),
    ],
)
def test_depth_that_is_not_aligned_is_refused_with_the_remedy(arguments, said):
    with pytest.raises(NoPositionError, match=said):
        aligned(**arguments)


def test_inner_half_is_the_middle_and_stays_inside_the_image():
    depths = np.arange(100.0).reshape(10, 10)
    assert inner_half(depths, (2.0, 2.0, 4.0, 4.0)).tolist() == [[33.0, 34.0], [43.0, 44.0]]
    assert inner_half(depths, (4.2, 4.2, 0.3, 0.3)).size == 1
    assert inner_half(depths, (8.0, 8.0, 8.0, 8.0)).size == 0
    assert inner_half(depths, (-9.0, 2.0, 4.0, 4.0)).size == 0


@given(
    numbers=st.tuples(*(3 * [st.integers(0, 2**32 - 1) | st.integers(0, 20)])),
    encoding=st.sampled_from(["16UC1", "32FC1", "mono16"]) | st.text(max_size=6),
    data=st.binary(max_size=200),
    big_endian=st.booleans(),
)
def test_random_depth_image_is_read_or_refused(numbers, encoding, data, big_endian):
    height, width, step = numbers
    message = Image(
        height=height,
        width=width,
        step=step,
        encoding=encoding,
        is_bigendian=int(big_endian),
        data=data,
    )
    with contextlib.suppress(NoPositionError):
        assert read_depth(message, 0.001).shape == (height, width)
