# SPDX-License-Identifier: Apache-2.0
"""Boxes: pure functions on numpy arrays.

Boxes are `xywh` floats (left, top, width, height) in pixels of the source image unless the name
says otherwise: `_cxcywh` are centre and size. Coordinates are continuous: a box covers
[x, x + w) x [y, y + h), the image [0, W) x [0, H).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vt_models.errors import InputError

Box: TypeAlias = tuple[float, float, float, float]

# Beyond this no image reaches, and all arithmetic on boxes stays exact enough in float64.
COORDINATE_LIMIT = 1e6
_WINDOW_LIMIT = 2**24


class CropWindow(NamedTuple):
    """A square of source pixels: columns [x1, x1 + side), rows [y1, y1 + side).

    It may leave the image on any side.
    """

    x1: int
    y1: int
    side: int


def _as_boxes(boxes: ArrayLike) -> NDArray[np.floating]:
    array = np.asarray(boxes)
    if array.shape[-1:] != (4,):
        raise InputError(f"boxes must have shape (..., 4), got {array.shape}")
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float64)
    return array


def xywh_to_cxcywh(boxes: ArrayLike) -> NDArray[np.floating]:
    """Convert (..., 4) left, top, width, height to centre x, centre y, width, height.

    >>> xywh_to_cxcywh([1.0, 2.0, 3.0, 4.0])
    array([2.5, 4. , 3. , 4. ])
    """
    array = _as_boxes(boxes)
    return np.concatenate((array[..., :2] + 0.5 * array[..., 2:], array[..., 2:]), axis=-1)


def iou(boxes_a: ArrayLike, boxes_b: ArrayLike) -> NDArray[np.floating]:
    """Compute the intersection over union of xywh boxes, element by element.

    Args:
        boxes_a: (..., 4) xywh.
        boxes_b: (..., 4) xywh; leading dimensions broadcast, so that
            `iou(a[:, None], b[None])` is the matrix of all pairs.

    Returns:
        (...) in [0, 1]; 0 where a box is empty (width or height <= 0) or not finite.

    >>> float(iou([0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 2.0, 2.0]))
    0.3333333333333333
    """
    a, b = _as_boxes(boxes_a), _as_boxes(boxes_b)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        top_left = np.maximum(a[..., :2], b[..., :2])
        bottom_right = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
        inter = np.prod(np.maximum(bottom_right - top_left, 0.0), axis=-1)
        union = np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - inter
        ratio = inter / union
    real = np.all((a[..., 2:] > 0) & (b[..., 2:] > 0), axis=-1) & np.isfinite(ratio)
    return np.where(real, np.clip(ratio, 0.0, 1.0), 0.0)


def clip_box(box: Sequence[float], frame_shape: Sequence[int], margin: int = 10) -> Box:
    """Keep at least `margin` pixels of an xywh box inside the frame (the authors' `clip_box`).

    x1 is limited to [0, W - margin], x2 to [margin, W], and the width is at least `margin`;
    y likewise. In a frame smaller than the margin the margin is the frame's own size, so that the
    result lies inside the frame whatever the box was.

    Args:
        box: x, y, w, h in pixels, finite; w and h may be zero or negative.
        frame_shape: (H, W, ...) of the frame.
        margin: pixels.

    >>> clip_box((-20.0, 5.0, 25.0, 40.0), (100, 100))
    (0.0, 5.0, 10.0, 40.0)
    """
    height, width = frame_shape[:2]
    margin_x, margin_y = min(margin, width), min(margin, height)
    x1, y1, w, h = box
    x2, y2 = x1 + w, y1 + h
    x1 = min(max(0.0, x1), float(width - margin_x))
    x2 = min(max(float(margin_x), x2), float(width))
    y1 = min(max(0.0, y1), float(height - margin_y))
    y2 = min(max(float(margin_y), y2), float(height))
    return x1, y1, max(float(margin_x), x2 - x1), max(float(margin_y), y2 - y1)


def check_box(box: Sequence[float], frame_shape: Sequence[int]) -> Box:
    """Validate a box that a user gave and return it as four Python floats.

    Args:
        box: x, y, w, h in pixels of the frame; a sequence or array of four numbers.
        frame_shape: (H, W, ...) of that frame.

    Raises:
        InputError: not four finite numbers, a size that is not positive, a coordinate beyond
            one million pixels, or no overlap with the frame.
    """
    try:
        x, y, w, h = (float(value) for value in box)
    except (TypeError, ValueError) as error:
        raise InputError(f"box must be four numbers x, y, w, h in pixels, got {box!r}") from error
    height, width = frame_shape[:2]
    shown = f"box x={x:g} y={y:g} w={w:g} h={h:g}"
    if not all(map(math.isfinite, (x, y, w, h))):
        raise InputError(f"{shown} is not finite; give four finite numbers in pixels")
    if w <= 0 or h <= 0:
        raise InputError(f"{shown} has no area; width and height must be > 0 pixels")
    if max(abs(x), abs(y), w, h) > COORDINATE_LIMIT:
        raise InputError(f"{shown} is beyond {COORDINATE_LIMIT:g} pixels; give pixels of the frame")
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise InputError(
            f"{shown} lies outside the {width}x{height} frame; "
            "give x, y, w, h in pixels of that frame"
        )
    return x, y, w, h


def crop_window(box: Sequence[float], factor: float) -> CropWindow:
    """Compute the square window around a box in whole pixels (the authors' `sample_target`).

    side = ceil(sqrt(w * h) * factor); x1 = round(x + w / 2 - side / 2) with Python's rounding
    of halves to even, y1 likewise.

    Args:
        box: x, y, w, h in pixels, finite, w and h > 0.
        factor: side of the window over the mean side of the box, > 0.

    Raises:
        InputError: the box is not finite, has no area, or is absurdly large or far away.

    >>> crop_window((10.0, 10.0, 20.0, 20.0), 2.0)
    CropWindow(x1=0, y1=0, side=40)
    """
    x, y, w, h = box
    try:
        side = math.ceil(math.sqrt(w * h) * factor)
        x1 = round(x + 0.5 * w - side * 0.5)
        y1 = round(y + 0.5 * h - side * 0.5)
    except (ValueError, OverflowError) as error:
        raise InputError(f"no crop around box {tuple(box)!r}: it must be finite") from error
    if side < 1 or w < 0:
        raise InputError(f"no crop around box {tuple(box)!r}: width and height must be > 0")
    if max(side, abs(x1), abs(y1)) > _WINDOW_LIMIT:
        raise InputError(f"no crop around box {tuple(box)!r}: beyond {_WINDOW_LIMIT} pixels")
    return CropWindow(x1, y1, side)
