# SPDX-License-Identifier: Apache-2.0
"""Appearance of the target: a cheap descriptor of a box, independent of the network."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.geometry.boxes import Box
from vt_models.geometry.crop import as_stored

_SAMPLES, _CELLS = 48, 8
# A box is judged by its pixels outside the other one if they are half of it and 16 or more, with a
# standard deviation of 4 grey levels or more: what is flat correlates by its noise.
_OUTSIDE_SHARE, _OUTSIDE_PIXELS, _OUTSIDE_CONTRAST = 0.5, 16, 4.0
_SAME_CORRELATION = 0.9
_FLAGS = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


def appearance_descriptor(frame: NDArray[np.uint8], box: Box) -> NDArray[np.float32]:
    """Describe what a box shows, free of brightness, contrast and size.

    The box is cut out (edges repeated beyond the frame), taken to CIE Lab, averaged over 8 x 8
    cells, and of each channel the mean is taken away; the whole has the norm 1.

    Args:
        frame: (H, W, 3) uint8 RGB.
        box: x, y, w, h in pixels, finite, w and h > 0.

    Returns:
        (192,) float32; zeros for a box of one colour.
    """
    x, y, w, h = box
    place = np.array([[w / _SAMPLES, 0.0, x], [0.0, h / _SAMPLES, y]], np.float32)
    plain, is_rgb = as_stored(frame)
    size = (_SAMPLES, _SAMPLES)
    patch = cv2.warpAffine(plain, place, size, flags=_FLAGS, borderMode=cv2.BORDER_REPLICATE)
    lab = cv2.cvtColor(patch, cv2.COLOR_RGB2LAB if is_rgb else cv2.COLOR_BGR2LAB)
    cells = cv2.resize(lab, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA).astype(np.float32)
    cells -= np.asarray(cv2.mean(cells)[:3], np.float32)
    norm = cv2.norm(cells)
    return (cells / norm if norm > 1e-3 else np.zeros_like(cells)).reshape(-1)


def appearance_similarity(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Correlate two descriptors: in [-1, 1], 0 where one of them is of a single colour."""
    return min(max(float(one @ other), -1.0), 1.0)  # np.clip takes a number 0.003 ms longer


def shows_what_was_there(
    grey: NDArray[np.uint8],
    before: NDArray[np.uint8],
    box: Box,
    other: Box,
    frame_shape: tuple[int, ...],
) -> bool:
    """Check whether a box shows in two frames the same, apart from what another box covers.

    Only a box that does not contain the centre of the other one is judged. A camera that moves
    gives no such verdict.

    Args:
        grey, before: (h, w) uint8, the two frames subsampled alike.
        box, other: x, y, w, h in pixels of the frames.
        frame_shape: (H, W, ...) of the frames.

    Returns:
        False also where that cannot be told: frames of other sizes, too few pixels or too flat.
    """
    if grey.shape != before.shape:
        return False
    ratios = (grey.shape[1] / frame_shape[1], grey.shape[0] / frame_shape[0]) * 2
    edges = [
        [
            max(round(edge * ratio), 0)
            for edge, ratio in zip((x, y, x + w, y + h), ratios, strict=True)
        ]
        for x, y, w, h in (box, other)
    ]
    (left, top, right, bottom), (x1, y1, x2, y2) = edges
    if left <= 0.5 * (x1 + x2) < right and top <= 0.5 * (y1 + y2) < bottom:
        return False  # the same place, in another size
    is_outside = np.ones(grey[top:bottom, left:right].shape, np.bool_)
    is_outside[max(y1 - top, 0) : max(y2 - top, 0), max(x1 - left, 0) : max(x2 - left, 0)] = False
    count = np.count_nonzero(is_outside)
    if count < max(_OUTSIDE_SHARE * is_outside.size, _OUTSIDE_PIXELS):
        return False
    now, then = (
        image[top:bottom, left:right][is_outside].astype(np.float32) for image in (grey, before)
    )
    now -= now.sum() / count
    then -= then.sum() / count
    squares = float(now @ now), float(then @ then)
    if min(squares) < _OUTSIDE_CONTRAST**2 * count:
        return False
    return float(now @ then) >= _SAME_CORRELATION * (squares[0] * squares[1]) ** 0.5
