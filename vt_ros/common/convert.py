# SPDX-License-Identifier: Apache-2.0
"""Arrays to messages, and messages of boxes and times back; `vt_models.video` reads images.

Images are (H, W, 3) uint8 RGB; boxes are x, y, w, h floats (left, top, width, height) in
pixels of the source image, where messages hold the centre and the size.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
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
from vt_models.video import image_messages
from vt_models.video.image_messages import ConversionError

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


def serialised_header(message: bytes) -> Header:
    """Return the header of a serialised message that begins with one, without decoding the rest.

    A header that is not whole is an empty one.
    """
    found = image_messages.serialised_header(message)
    stamp = Time(sec=found.sec, nanosec=found.nanosec)
    return Header(stamp=stamp, frame_id=found.frame_id)
