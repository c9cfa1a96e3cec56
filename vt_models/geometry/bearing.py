# SPDX-License-Identifier: Apache-2.0
"""The direction of the target, from its box and the camera's calibration message.

Nothing of ROS is imported. A message is any object with the fields of sensor_msgs/CameraInfo: what
rclpy delivers as well as what a bag's reader makes of its bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.geometry.boxes import Box
from vt_models.geometry.camera import (
    COEFFICIENTS,
    PINHOLE,
    Camera,
    Ray,
    angles_of,
    centre_pixel,
)

NAN = float("nan")


class CameraInfo(Protocol):
    """The fields of sensor_msgs/CameraInfo that are read."""

    @property
    def width(self) -> int: ...  # noqa: D102 - as the definition says
    @property
    def height(self) -> int: ...  # noqa: D102
    @property
    def distortion_model(self) -> str: ...  # noqa: D102
    @property
    def d(self) -> Sequence[float]: ...  # noqa: D102
    @property
    def k(self) -> Sequence[float]: ...  # noqa: D102
    @property
    def p(self) -> Sequence[float]: ...  # noqa: D102
    @property
    def binning_x(self) -> int: ...  # noqa: D102
    @property
    def binning_y(self) -> int: ...  # noqa: D102
    @property
    def roi(self) -> Any: ...  # noqa: D102


@dataclass(frozen=True)
class Bearing:
    """A direction in the camera's optical frame.

    Attributes:
        ray: unit vector, x to the right, y down, z forward.
        azimuth, elevation: off the optical axis to the right and downwards, radians.
        sigma: one standard deviation of the direction, radians; NaN where the box has none.
    """

    ray: Ray
    azimuth: float
    elevation: float
    sigma: float


class BearingFinder:
    """Finds bearings by the newest camera_info.

    The message is taken apart once for each new content, image size and kind of image.
    """

    def __init__(self) -> None:
        self._info: CameraInfo | None = None
        self._made_of: tuple[CameraInfo, tuple[int, int], bool] | None = None
        self._camera: Camera | None = None
        self._problem = ""

    @property
    def problem(self) -> str:
        """Why there are no bearings although there is a calibration; empty: nothing is wrong."""
        return self._problem

    @property
    def calibrated(self) -> bool:
        """A camera_info has arrived."""
        return self._info is not None

    def take(self, info: CameraInfo) -> None:
        """Use another camera_info from now on."""
        if self._info is None or _calibration(info) != _calibration(self._info):
            self._info = info

    def find(
        self,
        box: Box,
        covariance: NDArray[np.float64] | None,
        size: tuple[int, int],
        rectified: bool,
    ) -> Bearing | None:
        """Return the direction of a box's centre; None without a usable calibration, see `problem`.

        Args:
            box: x, y, w, h in pixels of the image.
            covariance: (4, 4) of its centre and size in pixels squared.
            size: width and height of the image.
            rectified: the image is rectified.
        """
        camera = self._camera_for(size, rectified)
        if camera is None:
            return None
        try:
            ray = camera.ray(*centre_pixel(box))
            sigma = NAN if covariance is None else camera.angular_deviation(box, covariance)
        except InputError as error:
            self._problem = str(error)
            return None
        self._problem = ""
        return Bearing(ray, *angles_of(ray), sigma)

    def _camera_for(self, size: tuple[int, int], rectified: bool) -> Camera | None:
        info = self._info
        if info is None:
            return None
        made_of = info, size, rectified
        if self._made_of != made_of:
            self._made_of, self._camera = made_of, None
            try:
                self._camera = camera_of(info, size, rectified)
                self._problem = ""
            except InputError as error:
                self._problem = f"camera_info refused: {error}"
        return self._camera


def camera_of(info: CameraInfo, size: tuple[int, int], rectified: bool = False) -> Camera:
    """Return the camera that a message describes, for images of a size.

    As sensor_msgs/CameraInfo defines it: K, D and the region of interest are in pixels of the
    full image, P is that of the rectified one; the image is the region, reduced by the binning.

    Raises:
        InputError: it describes none (K is zero: not calibrated), an unknown distortion model, or
            another size than the images have.
    """
    binning = max(1, info.binning_x), max(1, info.binning_y)
    roi = info.roi
    whole = not (roi.width and roi.height)
    full = (info.width, info.height) if whole else (roi.width, roi.height)
    expected = full[0] // binning[0], full[1] // binning[1]
    if expected != tuple(size):
        raise InputError(
            f"it is for images of {expected[0]}x{expected[1]} "
            f"({full[0]}x{full[1]} with binning {binning[0]}x{binning[1]}), "
            f"but the images have {size[0]}x{size[1]}; calibrate this mode, or let the driver fill "
            "roi and binning"
        )
    matrix, step = (info.p, 4) if rectified else (info.k, 3)
    if any((matrix[step], matrix[2 * step], matrix[2 * step + 1])):
        raise InputError(
            f"{'P' if rectified else 'K'} is {[float(value) for value in matrix]}, expected zeros "
            "below its diagonal; calibrate the camera again"
        )
    model, distortion = (PINHOLE, ()) if rectified else _distortion(info)
    return Camera(
        fx=float(matrix[0]),
        fy=float(matrix[step + 1]),
        cx=float(matrix[2]),
        cy=float(matrix[step + 2]),
        model=model,
        distortion=distortion,
        left=0.0 if whole else float(roi.x_offset),
        top=0.0 if whole else float(roi.y_offset),
        binning=binning,
        skew=float(matrix[1]),
    )


def _distortion(info: CameraInfo) -> tuple[str, tuple[float, ...]]:
    """Return a key of `COEFFICIENTS`, and as many coefficients as it takes.

    Drivers fill the list up with zeros (T265: 5 for 4, OAK-D: 14 for 8), and call OpenCV's fisheye
    by either of its names. A fisheye of zeros is still no pinhole.
    """
    name, values = info.distortion_model, tuple(map(float, info.d))
    model = "equidistant" if name == "fisheye" else name
    if not any(values) and model in COEFFICIENTS:
        return (model, (0.0,) * 4) if model == "equidistant" else (PINHOLE, ())
    most = max(COEFFICIENTS.get(model, (len(values),)))
    return model, values if any(values[most:]) else values[:most]


def _calibration(info: CameraInfo) -> tuple[object, ...]:
    """Return all of a message but its header."""
    roi = info.roi
    return (
        (info.width, info.height, info.distortion_model, info.binning_x, info.binning_y),
        (roi.x_offset, roi.y_offset, roi.width, roi.height),
        (tuple(info.d), tuple(info.k), tuple(info.p)),
    )
