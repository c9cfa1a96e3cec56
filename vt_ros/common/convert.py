# SPDX-License-Identifier: Apache-2.0
"""Messages to arrays and back.

Images become (H, W, 3) uint8 RGB; boxes become x, y, w, h floats (left, top, width, height) in
pixels of the source image, where messages hold the centre and the size.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    ObjectHypothesisWithPose,
)

from vt_interfaces.msg import TrackStatus

if TYPE_CHECKING:  # a client of the tracker needs no grounding
    from vt_models.grounding import Candidate

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]

NANOSECONDS = 1_000_000_000

MEASURED, PREDICTED, CANDIDATE = "target", "coasting", "candidate"
"""Classes of a detection: seen in this image, only predicted for it, or what may be meant."""

STATE_NAMES = {
    TrackStatus.STATE_IDLE: "IDLE",
    TrackStatus.STATE_TRACKING: "TRACKING",
    TrackStatus.STATE_UNCERTAIN: "UNCERTAIN",
    TrackStatus.STATE_COASTING: "COASTING",
    TrackStatus.STATE_LOST: "LOST",
}
"""Names of the states of a target, as messages number them."""


class ConversionError(ValueError):
    """An image message that cannot be read: its encoding, size, step or length."""


@dataclass(frozen=True)
class _Layout:
    """How an encoding lies in memory, and how it becomes RGB.

    Attributes:
        channels: bytes per pixel of a row; step must be at least width * channels.
        code: OpenCV's conversion to RGB; None: it is RGB already and is viewed, not copied.
        even_width: two pixels share their colour, so the width must be even.
        half_extra_rows: half as many rows of colour lie below the image (4:2:0), so the height
            must be even.
        smallest: least width and height that can be converted.
    """

    channels: int
    code: int | None
    even_width: bool = False
    half_extra_rows: bool = False
    smallest: int = 1


# OpenCV names a Bayer pattern by its second row and second column, ROS by its first pixels:
# ROS rggb is OpenCV BG.
_BAYER_SMALLEST = 3
_LAYOUTS: dict[str, _Layout] = {
    "rgb8": _Layout(3, None),
    "bgr8": _Layout(3, cv2.COLOR_BGR2RGB),
    "mono8": _Layout(1, cv2.COLOR_GRAY2RGB),
    "rgba8": _Layout(4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Layout(4, cv2.COLOR_BGRA2RGB),
    "yuv422_yuy2": _Layout(2, cv2.COLOR_YUV2RGB_YUY2, even_width=True),
    "yuyv": _Layout(2, cv2.COLOR_YUV2RGB_YUY2, even_width=True),
    "uyvy": _Layout(2, cv2.COLOR_YUV2RGB_UYVY, even_width=True),
    "yuv422": _Layout(2, cv2.COLOR_YUV2RGB_UYVY, even_width=True),
    "nv12": _Layout(1, cv2.COLOR_YUV2RGB_NV12, even_width=True, half_extra_rows=True, smallest=2),
    "bayer_rggb8": _Layout(1, cv2.COLOR_BayerBG2RGB, smallest=_BAYER_SMALLEST),
    "bayer_bggr8": _Layout(1, cv2.COLOR_BayerRG2RGB, smallest=_BAYER_SMALLEST),
    "bayer_gbrg8": _Layout(1, cv2.COLOR_BayerGR2RGB, smallest=_BAYER_SMALLEST),
    "bayer_grbg8": _Layout(1, cv2.COLOR_BayerGB2RGB, smallest=_BAYER_SMALLEST),
}

ENCODINGS = tuple(_LAYOUTS)


class ImageReader:
    """Reads image messages into RGB arrays, with one output buffer for the whole stream.

    >>> reader = ImageReader()
    >>> frame = reader.read(message)              # doctest: +SKIP
    """

    def __init__(self) -> None:
        self._buffer: Pixels = np.empty((0, 0, 3), np.uint8)

    def read(self, message: Image) -> Pixels:
        """Read an image message into (H, W, 3) uint8 RGB.

        Args:
            message: any encoding of `ENCODINGS`, any step that a row fits into. Bytes have no
                endianness, so is_bigendian does not matter for these encodings. Another
                encoding is given to cv_bridge where that is installed.

        Returns:
            For rgb8 a read-only view of the message's data (rows may be padded), otherwise
            this reader's buffer, valid until the next call.

        Raises:
            ConversionError: unknown encoding, or a size, step or data length that disagree.
        """
        layout = _LAYOUTS.get(message.encoding)
        if layout is None:
            return _read_with_cv_bridge(message)
        rows = _check(message, layout)
        plane = _view(message, rows, layout.channels)
        if layout.code is None:
            return plane
        self._resize(message.height, message.width)
        cv2.cvtColor(plane, layout.code, dst=self._buffer)
        return self._buffer

    def _resize(self, height: int, width: int) -> None:
        if self._buffer.shape[:2] != (height, width):
            self._buffer = np.empty((height, width, 3), np.uint8)


class CompressedReader:
    """Reads compressed image messages; the counterpart of `ImageReader`."""

    def read(self, message: CompressedImage) -> Pixels:
        """Read a compressed image message into (H, W, 3) uint8 RGB.

        Args:
            message: JPEG, PNG or what else OpenCV decodes; the data decide, not `format`. An
                orientation in the file is ignored: pixels stay where the camera has them.

        Raises:
            ConversionError: empty, cut off, or not an image.
        """
        data = bytes(message.data)
        shown = f"compressed image of format {message.format!r} and {len(data)} bytes"
        _check_is_whole(data, shown)
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error as error:
            raise ConversionError(f"{shown} cannot be decoded: {error}") from error
        if image is None:
            raise ConversionError(f"{shown} cannot be decoded; publish JPEG or PNG")
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
        return np.asarray(image, np.uint8)


# First and last bytes of a file. A decoder fills what is missing with grey and reports no error.
_FILE_ENDS = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG\r\n\x1a\n": b"IEND"}
_LONGEST_PADDING = 4096


def _check_is_whole(data: bytes, shown: str) -> None:
    """Raise ConversionError if there is nothing, or a JPEG or PNG without its end."""
    if not data:
        raise ConversionError(f"{shown}: there is nothing in it")
    for begin, end in _FILE_ENDS.items():
        if data.startswith(begin) and end not in data[-_LONGEST_PADDING:]:
            raise ConversionError(f"{shown} is cut off: its end is missing")


def image_to_rgb(message: Image) -> Pixels:
    """Read one image message into (H, W, 3) uint8 RGB; see `ImageReader.read`."""
    return ImageReader().read(message)


def _check(message: Image, layout: _Layout) -> int:
    """Return the rows in the data; raise ConversionError if the message contradicts itself."""
    name, width, height = message.encoding, message.width, message.height
    shown = f"{name} image of {width}x{height}"
    if min(width, height) < layout.smallest:
        raise ConversionError(
            f"{shown} is too small: at least {layout.smallest}x{layout.smallest} pixels"
        )
    if layout.even_width and width % 2:
        raise ConversionError(f"{shown} has an odd width, but two pixels share their colour")
    if layout.half_extra_rows and height % 2:
        raise ConversionError(f"{shown} has an odd height, but two rows share their colour")
    if message.step < width * layout.channels:
        raise ConversionError(
            f"{shown} has step {message.step}, but a row takes {width * layout.channels} bytes; "
            "the camera driver fills width, encoding or step wrongly"
        )
    rows = height * 3 // 2 if layout.half_extra_rows else height
    if len(message.data) != message.step * rows:
        raise ConversionError(
            f"{shown} with step {message.step} holds {len(message.data)} bytes, expected "
            f"{message.step * rows}; the camera driver fills height, step or data wrongly"
        )
    return rows


def _view(message: Image, rows: int, channels: int) -> Pixels:
    """Return a (rows, width[, channels]) view of the data, without a copy."""
    data = np.frombuffer(message.data, np.uint8)
    shape: tuple[int, ...] = (rows, message.width)
    strides: tuple[int, ...] = (message.step, channels)
    if channels > 1:
        shape, strides = (*shape, channels), (*strides, 1)
    return np.lib.stride_tricks.as_strided(data, shape, strides, writeable=False)


def _read_with_cv_bridge(message: Image) -> Pixels:
    """Read an encoding that is not in the table, through cv_bridge where it is installed."""
    decode = _cv_bridge_decoder()
    name = message.encoding
    if decode is None:
        raise ConversionError(
            f"encoding {name!r} cannot be read; publish one of {', '.join(ENCODINGS)}"
            + ("" if name else " (the message names no encoding)")
            + ", or install cv_bridge, which knows more"
        )
    try:
        frame = np.asarray(decode(message, "rgb8"))
    except (TypeError, ValueError, RuntimeError, KeyError, cv2.error) as error:
        raise ConversionError(f"cv_bridge cannot read encoding {name!r}: {error}") from error
    if frame.dtype != np.uint8 or frame.shape != (message.height, message.width, 3):
        raise ConversionError(
            f"cv_bridge turned encoding {name!r} into {frame.dtype} {frame.shape}, expected "
            f"uint8 {(message.height, message.width, 3)}"
        )
    return frame


def _cv_bridge_decoder() -> Callable[[Image, str], object] | None:
    """Return cv_bridge's decoder; None where it is absent or was built for another numpy."""
    try:
        bridge = import_module("cv_bridge").CvBridge()
    except (ImportError, AttributeError):
        return None
    decoder: Callable[[Image, str], object] = bridge.imgmsg_to_cv2
    return decoder


_JPEG_QUALITY = 80

_CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1}


def array_to_image(pixels: Pixels, header: Header, encoding: str = "rgb8") -> Image:
    """Write an array into an image message.

    Args:
        pixels: (H, W, 3) uint8 for "rgb8" and "bgr8", (H, W) for "mono8", any strides.
        header: copied by reference into the message.
        encoding: "rgb8", "bgr8" or "mono8": what the array holds, nothing is converted.

    Raises:
        ConversionError: another encoding, shape or type.
    """
    channels = _CHANNELS.get(encoding)
    if channels is None:
        raise ConversionError(f"cannot write {encoding!r}; known: {', '.join(_CHANNELS)}")
    good = pixels.ndim == 2 if channels == 1 else pixels.ndim == 3 and pixels.shape[2] == channels
    if not good or pixels.dtype != np.uint8:
        raise ConversionError(f"{encoding} cannot hold {pixels.dtype} {pixels.shape}")
    message = Image()
    message.header = header
    message.height, message.width = pixels.shape[:2]
    message.encoding = encoding
    message.step = message.width * channels
    # Bytes, not the array: the setter checks an ndarray element by element (71 ms at 640x480).
    message.data = pixels.tobytes()
    return message


def array_to_jpeg(pixels: Pixels, header: Header) -> CompressedImage:
    """Write a (H, W, 3) uint8 RGB array into a JPEG message; the header is kept by reference."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))[1]
    return CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=data.tobytes())


def bounding_box_from_xywh(box: Sequence[float]) -> BoundingBox2D:
    """Write x, y, w, h (left, top, width, height) into a message of centre and size; theta is 0.

    >>> message = bounding_box_from_xywh((10.0, 20.0, 4.0, 6.0))
    >>> message.center.position.x, message.center.position.y, message.size_x, message.size_y
    (12.0, 23.0, 4.0, 6.0)
    """
    x, y, w, h = (float(value) for value in box)
    message = BoundingBox2D()
    message.center.position.x = x + 0.5 * w
    message.center.position.y = y + 0.5 * h
    message.size_x = w
    message.size_y = h
    return message


def xywh_from_bounding_box(message: BoundingBox2D) -> Box:
    """Read a message of centre and size into x, y, w, h; values are not checked, NaN passes."""
    w, h = message.size_x, message.size_y
    centre = message.center.position
    return centre.x - 0.5 * w, centre.y - 0.5 * h, w, h


def detection_from_box(
    box: Sequence[float],
    score: float,
    header: Header,
    target_id: int,
    class_id: str = MEASURED,
    covariance: NDArray[np.float64] | None = None,
) -> Detection2D:
    """Write one detection of the target.

    Args:
        box: x, y, w, h in pixels of the source image.
        score: confidence in [0, 1].
        header: of the source image, unchanged.
        target_id: number of the target, becomes the detection's `id`.
        class_id: `MEASURED` or `PREDICTED`.
        covariance: (4, 4) of centre x, centre y, width, height in pixels squared.

    Returns:
        A detection with one hypothesis. Its pose stays zero: an image alone gives no position in
        space. The upper left 4x4 block of its 6x6 covariance is `covariance`; all zeros mean
        that it is not known.
    """
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = class_id
    hypothesis.hypothesis.score = float(score)
    if covariance is not None:
        hypothesis.pose.covariance = pose_covariance(covariance)
    detection = Detection2D()
    detection.header = header
    detection.id = str(target_id)
    detection.bbox = bounding_box_from_xywh(box)
    detection.results.append(hypothesis)
    return detection


def candidates_to_detections(candidates: Iterable[Candidate], header: Header) -> Detection2DArray:
    """Write boxes that may be meant into detections of the class `CANDIDATE`, without an id."""
    message = Detection2DArray(header=header)
    for candidate in candidates:
        detection = detection_from_box(candidate.box, candidate.score, header, 0, CANDIDATE)
        detection.id = ""
        message.detections.append(detection)
    return message


def pose_covariance(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Write (4, 4) into the upper left block of the (36,) row-major 6x6 of a pose, else zeros."""
    full = np.zeros((6, 6))
    full[:4, :4] = covariance
    return full.ravel()


def box_covariance(pose: Sequence[float]) -> NDArray[np.float64] | None:
    """Return the inverse of `pose_covariance`; None if all is zero."""
    block = np.asarray(pose, np.float64).reshape(6, 6)[:4, :4]
    return block.copy() if block.any() else None


def stamp_nanoseconds(stamp: Time) -> int:
    """Return a message's time in nanoseconds; 0 means that there is none."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def shown_seconds(nanoseconds: int) -> str:
    """Return nanoseconds as seconds, to the last digit.

    >>> shown_seconds(1_500_000_000)
    '1.500000000'
    """
    return f"{nanoseconds // NANOSECONDS}.{nanoseconds % NANOSECONDS:09d}"


def serialised_stamp(message: bytes) -> int:
    """Return the stamp of a serialised message that begins with a header, without decoding it.

    CDR (OMG DDSI-RTPS 2.5, 10.2): 4 bytes of which the second's lowest bit says little endian,
    then the fields in order: int32 sec, uint32 nanosec.

    Returns:
        Nanoseconds; 0 for bytes that are too short.
    """
    if len(message) < 12:
        return 0
    sec, nanosec = struct.unpack_from("<iI" if message[1] & 1 else ">iI", message, 4)
    return int(sec) * NANOSECONDS + int(nanosec)
