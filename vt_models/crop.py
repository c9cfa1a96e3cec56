# SPDX-License-Identifier: Apache-2.0
"""Square crops around a box, bit for bit those of the authors' `sample_target`.

The window is `vt_models.geometry.crop_window`. What lies outside the frame is zero. The authors
pad right and bottom by max(0, x2 - W + 1), so the last column (row) of the frame is dropped when
the window touches or leaves that edge; this is kept, networks were trained with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.geometry import CropWindow, crop_window


class Inside(NamedTuple):
    """The part of a window that is copied from the frame, in frame pixels; empty if x2 <= x1."""

    x1: int
    y1: int
    x2: int
    y2: int


def inside_frame(window: CropWindow, frame_shape: Sequence[int]) -> Inside:
    """The part of `window` that the crop takes from a frame of shape (H, W, ...)."""
    height, width = frame_shape[:2]
    x2, y2 = window.x1 + window.side, window.y1 + window.side
    return Inside(
        max(window.x1, 0),
        max(window.y1, 0),
        x2 - max(x2 - width + 1, 0),
        y2 - max(y2 - height + 1, 0),
    )


def check_frame(frame: object) -> NDArray[np.uint8]:
    """Return `frame` itself if a tracker can read it; no copy, any strides.

    Args:
        frame: (H, W, 3) uint8 RGB, not empty.

    Raises:
        InputError: not such an array.
    """
    if not isinstance(frame, np.ndarray):
        raise InputError(f"frame must be a numpy array (H, W, 3) uint8, got {type(frame).__name__}")
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise InputError(
            f"frame must have shape (H, W, 3), got {frame.shape}; convert it to RGB first"
        )
    if frame.dtype != np.uint8:
        raise InputError(f"frame must be uint8 in 0..255, got {frame.dtype}")
    if frame.size == 0:
        raise InputError(f"frame is empty, shape {frame.shape}")
    return frame


def crop(
    frame: NDArray[np.uint8], box: Sequence[float], factor: float, size: int
) -> tuple[NDArray[np.uint8], float]:
    """Crop the square around a box and resize it (the authors' `sample_target`).

    Args:
        frame: (H, W, 3) uint8.
        box: x, y, w, h in pixels of the frame, finite, w and h > 0.
        factor: side of the window = ceil(sqrt(w * h) * factor).
        size: side of the output, pixels.

    Returns:
        crop (size, size, 3) uint8, and resize_factor = size / side of the window.

    Raises:
        InputError: the box is not finite or has no area.
    """
    window = crop_window(box, factor)
    return Cropper(size)(frame, window), size / window.side


class Cropper:
    """Cuts windows out of frames into one buffer that is kept between calls.

    Attributes:
        size: side of the crops, pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._output = np.empty((size, size, 3), np.uint8)

    def __call__(self, frame: NDArray[np.uint8], window: CropWindow) -> NDArray[np.uint8]:
        """Cut `window` out of a (H, W, 3) uint8 frame.

        Returns:
            (size, size, 3) uint8, valid until the next call.
        """
        inside = inside_frame(window, frame.shape)
        if inside.x2 <= inside.x1 or inside.y2 <= inside.y1:
            self._output.fill(0)
            return self._output
        view = frame[inside.y1 : inside.y2, inside.x1 : inside.x2]
        top, left = inside.y1 - window.y1, inside.x1 - window.x1
        bottom = window.y1 + window.side - inside.y2
        right = window.x1 + window.side - inside.x2
        if top or bottom or left or right:
            view = cv2.copyMakeBorder(view, top, bottom, left, right, cv2.BORDER_CONSTANT)
        cv2.resize(view, (self.size, self.size), dst=self._output)
        return self._output


def padding_mask(
    frame_shape: Sequence[int], box: Sequence[float], factor: float, size: int
) -> NDArray[np.bool_]:
    """(size, size) bool, True where a crop shows padding (STARK's attention mask)."""
    window = crop_window(box, factor)
    inside = inside_frame(window, frame_shape)
    mask = np.ones((window.side, window.side), np.float64)
    rows = slice(inside.y1 - window.y1, max(inside.y2 - window.y1, 0))
    columns = slice(inside.x1 - window.x1, max(inside.x2 - window.x1, 0))
    mask[rows, columns] = 0.0
    return cv2.resize(mask, (size, size)).astype(np.bool_)
