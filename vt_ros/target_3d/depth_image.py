# SPDX-License-Identifier: Apache-2.0
"""Depths of a region out of a depth image message, and whether it fits the tracker's image."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image

from vt_models.errors import InputError
from vt_models.geometry.bearing import camera_of
from vt_models.geometry.boxes import Box
from vt_models.geometry.camera import centre_pixel
from vt_models.geometry.position import BoxView
from vt_ros.target_3d.errors import NoPositionError

# REP 118: 16-bit integers are millimetres, floats are metres along the optical axis.
_BITS = {"16UC1": 16, "mono16": 16, "32FC1": 32}
_LOOKED_AT = 4096  # pixels of the whole image
_LEAST_PLAUSIBLE = 0.1
"""Share of the image's depths that must lie within the limits of range, or the unit is wrong."""
_LARGEST_SHIFT = 3.0  # pixels between where two calibrations see the middle of a box


def read_depth(message: Image, unit: float) -> NDArray[np.float32]:
    """Return a depth image in metres.

    Args:
        message: 16UC1 (or mono16) or 32FC1, any step, either endianness.
        unit: metres of one step of a 16-bit image.

    Returns:
        (H, W) float32; holes are 0, NaN or infinite, as the driver wrote them.

    Raises:
        NoPositionError: another encoding, or a size, step and length that disagree.
    """
    bits = _BITS.get(message.encoding)
    if bits is None:
        raise NoPositionError(
            f"the depth image has the encoding {message.encoding!r}, expected 16UC1 (millimetres) "
            "or 32FC1 (metres)"
        )
    size = bits // 8
    height, width, step = message.height, message.width, message.step
    if not (width and height) or step < width * size or len(message.data) != step * height:
        raise NoPositionError(
            f"the depth image of {width}x{height} and step {step} holds {len(message.data)} bytes; "
            "the driver fills its fields wrongly"
        )
    kind = (">" if message.is_bigendian else "<") + ("u2" if bits == 16 else "f4")
    depths = np.ndarray((height, width), kind, message.data, strides=(step, size))
    metres = depths.astype(np.float32)
    return metres * np.float32(unit) if bits == 16 else metres


def check_unit(
    depths: NDArray[np.float32], encoding: str, unit: float, limits: tuple[float, float]
) -> None:
    """Raise NoPositionError if the whole image's depths are implausible: their unit is another.

    It is for a box that has hardly a depth within the limits, and says why.

    Args:
        depths: (H, W) metres.
        encoding: of the message.
        unit: metres of one step of a 16-bit image.
        limits: nearest and farthest range, metres.
    """
    stride = max(1, math.isqrt(depths.size // _LOOKED_AT))
    sample = depths[::stride, ::stride]
    sample = sample[np.isfinite(sample) & (sample != 0.0)]
    if not sample.size:
        raise NoPositionError("the depth image has no depth at all")
    within = np.mean((sample >= limits[0]) & (sample <= limits[1]))
    if within < _LEAST_PLAUSIBLE:
        meant = (
            "32FC1 holds metres: does the driver write millimetres?"
            if encoding == "32FC1"
            else f"one step is taken for {unit:g} m: set depth.unit to the driver's"
        )
        raise NoPositionError(
            "the unit of the depth image is wrong, or range.min and range.max are: the median of "
            f"its depths is {float(np.median(sample)):.4g} m, and {within:.0%} lie between "
            f"{limits[0]:g} and {limits[1]:g} m; {meant}"
        )


def check_alignment(
    message: Image, frame_id: str, size: tuple[int, int], view: BoxView, calibration: Calibration
) -> None:
    """Raise NoPositionError if the depth image is not aligned with the tracker's image.

    Aligned means that the same pixel, scaled by the sizes, is the same direction.

    Args:
        message: the depth image.
        frame_id: of the tracker's image.
        size: its width and height, pixels.
        view: how the tracker's camera sees the box.
        calibration: that of the depth image, where it has come.
    """
    remedy = "publish depth that is aligned with the image (align_depth.enable:=true of RealSense)"
    if message.header.frame_id != frame_id:
        raise NoPositionError(
            f"the depth image is of the frame {message.header.frame_id!r}, the image of "
            f"{frame_id!r}; {remedy}"
        )
    if message.width * size[1] != message.height * size[0]:
        raise NoPositionError(
            f"the depth image has {message.width}x{message.height} pixels, the image "
            f"{size[0]}x{size[1]}, which is another shape; {remedy}"
        )
    if calibration.info is None:
        return
    scale = message.width / size[0]
    u, v = centre_pixel(scaled(view.box, scale))
    try:
        camera = camera_of(calibration.info, (message.width, message.height), calibration.rectified)
        there, beside = np.array(camera.ray(u, v)), np.array(camera.ray(u + 1.0, v))
    except InputError as error:
        raise NoPositionError(f"the depth image's camera_info refused: {error}") from error
    shift = np.linalg.norm(there - view.centre) / np.linalg.norm(beside - there)
    if shift > _LARGEST_SHIFT:
        raise NoPositionError(
            f"by its camera_info the depth image sees the box {shift:.0f} pixels away from where "
            f"the image does; {remedy}"
        )


class Calibration:
    """The newest camera_info of a camera.

    Attributes:
        info: None before the first one.
        rectified: its images are rectified.
    """

    def __init__(self, rectified: bool) -> None:
        self.info: CameraInfo | None = None
        self.rectified = rectified

    def take(self, info: CameraInfo) -> None:
        """Use another message from now on."""
        self.info = info


def scaled(box: Box, scale: float) -> Box:
    """Return a box in an image that is larger by a factor."""
    x, y, w, h = box
    return scale * x, scale * y, scale * w, scale * h


def inner_half(depths: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
    """Return the depths in the middle half of a box, in each direction; at least one pixel.

    Args:
        depths: (H, W).
        box: x, y, w, h in its pixels; what lies outside the image is left out.
    """
    x, y, w, h = box
    left, top = x + 0.25 * w, y + 0.25 * h
    columns = slice(max(0, math.floor(left)), max(0, math.ceil(left + 0.5 * w)))
    rows = slice(max(0, math.floor(top)), max(0, math.ceil(top + 0.5 * h)))
    return depths[rows, columns]
