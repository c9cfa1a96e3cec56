# SPDX-License-Identifier: Apache-2.0
"""Overlaps as VOT counts them: of pixels, boxes rounded to whole ones and cut at the image's edges.

The numbers are vot-toolkit's own on the same boxes.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]


def pixel_overlaps(predicted: Array, truth: Array, size: tuple[int, int]) -> Array:
    """IoU of the pixels that two boxes cover inside an image.

    Args:
        predicted, truth: (N, 4) x, y, w, h; a row with nan is an empty region.
        size: width and height of the image.

    Returns:
        (N,) in [0, 1]. 1 where both regions are empty, as in vot-toolkit.
    """
    first, second = _corners(predicted), _corners(truth)
    hull = np.hstack((np.minimum(first, second)[:, :2], np.maximum(first, second)[:, 2:]))
    area = _cut(hull, (0, 0, size[0] - 1, size[1] - 1))
    inter = _pixels(_cut(_cut(first, area), second)) * is_box(predicted) * is_box(truth)
    own = _pixels(_cut(first, area)) * is_box(predicted)
    other = _pixels(_cut(second, area)) * is_box(truth)
    union = own + other - inter
    overlaps = np.divide(inter, union, out=np.zeros(len(union)), where=union > 0)
    overlaps = np.where((area[:, :2] < area[:, 2:]).all(axis=1), overlaps, 0.0)
    return np.where((hull[:, :2] < hull[:, 2:]).all(axis=1), overlaps, 1.0)


def is_box(boxes: Array) -> NDArray[np.bool_]:
    """(N,) rows of (N, 4) that are a region."""
    return np.asarray(np.isfinite(boxes).all(axis=1), np.bool_)


def _corners(boxes: Array) -> Array:
    """First and last pixel of the rounded boxes, (N, 4) x1, y1, x2, y2; zeros for an empty one."""
    whole = np.round(np.where(is_box(boxes)[:, None], boxes, 0.0))
    corners = np.hstack((whole[:, :2], whole[:, :2] + whole[:, 2:] - 1.0))
    return np.where(is_box(boxes)[:, None], corners, 0.0)


def _cut(corners: Array, area: Array | tuple[int, ...]) -> Array:
    bounds = np.broadcast_to(np.asarray(area, np.float64), corners.shape)
    first = np.maximum(corners[:, :2], bounds[:, :2])
    return np.hstack((first, np.minimum(corners[:, 2:], bounds[:, 2:])))


def _pixels(corners: Array) -> Array:
    return np.maximum(corners[:, 2:] - corners[:, :2] + 1.0, 0.0).prod(axis=1)
