# SPDX-License-Identifier: Apache-2.0
"""Appearance of the target: a cheap descriptor of a box, independent of the network."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.geometry.boxes import Box

_SAMPLES, _CELLS = 48, 8
_FLAGS = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


def as_stored(frame: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], bool]:
    """Return a (H, W, 3) RGB frame as it lies in memory, and whether that is RGB.

    OpenCV copies a view with swapped channels (BGR[..., ::-1]) as a whole, pixel by pixel.
    """
    return (frame[..., ::-1], False) if frame.strides[2] == -1 else (frame, True)


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
    cells -= cells.mean(axis=(0, 1))
    norm = float(np.linalg.norm(cells))
    return (cells / norm if norm > 1e-3 else np.zeros_like(cells)).reshape(-1)


def appearance_similarity(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Correlate two descriptors: in [-1, 1], 0 where one of them is of a single colour."""
    return float(np.clip(one @ other, -1.0, 1.0))
