# SPDX-License-Identifier: Apache-2.0
"""Square crops around a box, bit for bit those of the authors' `sample_target`.

A window beyond 2048 pixels of which the frame fills less than a quarter is within a grey level.

The window is `vt_models.geometry.boxes.crop_window`. What lies outside the frame is zero. The
authors pad right and bottom by max(0, x2 - W + 1), so the last column (row) of the frame is dropped
when the window touches or leaves that edge; this is kept, networks were trained with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.geometry.boxes import CropWindow, crop_window

# Padded windows beyond this side (12 MB) are avoided where most of them would be padding.
_SPARSE_SIDE = 2048
_LARGEST_FRAME_SIDE = 2**15 - 2  # of cv2.remap


class Inside(NamedTuple):
    """The part of a window that is copied from the frame, in frame pixels; empty if x2 <= x1."""

    x1: int
    y1: int
    x2: int
    y2: int

    def is_empty(self) -> bool:
        """Return True if the window shows nothing of the frame."""
        return self.x2 <= self.x1 or self.y2 <= self.y1


def inside_frame(window: CropWindow, frame_shape: Sequence[int]) -> Inside:
    """Return the part of `window` that the crop takes from a frame of shape (H, W, ...)."""
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
        frame: (H, W, 3) uint8 RGB, not empty, at most 32766 pixels a side.

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
    if max(frame.shape[:2]) > _LARGEST_FRAME_SIDE:
        height, width = frame.shape[:2]
        raise InputError(
            f"frame is {width}x{height}, expected at most {_LARGEST_FRAME_SIDE} pixels a side; "
            "scale it down"
        )
    return frame


def as_stored(frame: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], bool]:
    """Return a (H, W, 3) RGB frame as it lies in memory, and whether that is RGB.

    OpenCV copies a view with swapped channels (BGR[..., ::-1]) as a whole, pixel by pixel.
    """
    return (frame[..., ::-1], False) if frame.strides[2] == -1 else (frame, True)


def crop(
    frame: NDArray[np.uint8], box: Sequence[float], factor: float, size: int
) -> tuple[NDArray[np.uint8], float]:
    """Crop the square around a box and resize it (the authors' `sample_target`).

    Args:
        frame: (H, W, 3) uint8.
        box: x, y, w, h in pixels of the frame, finite, w and h > 0.
        factor: Side of the window = ceil(sqrt(w * h) * factor).
        size: Side of the output, pixels.

    Returns:
        The crop (size, size, 3) uint8, and its scale = size / side of the window.

    Raises:
        InputError: The box is not finite or has no area.
    """
    window = crop_window(box, factor)
    return Cropper(size)(frame, window), size / window.side


class Cropper:
    """Cut windows out of frames into buffers that are kept between calls.

    Inside the frame this is one `cv2.resize` of a view. A window that leaves the frame is padded
    first; one that is so much larger than what it shows of the frame that padding would take
    long and much memory is sampled directly (`_resize_sparse`). Memory is bounded by four times
    the frame, whatever the window.

    Attributes:
        size: side of the crops, pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._output = np.empty((size, size, 3), np.uint8)
        self._swapped = np.empty((0, 0, 3), np.uint8)
        self._padded = np.empty(0, np.uint8)

    def __call__(self, frame: NDArray[np.uint8], window: CropWindow) -> NDArray[np.uint8]:
        """Cut `window` out of a (H, W, 3) uint8 frame.

        Returns:
            (size, size, 3) uint8, C-contiguous, valid until the next call.
        """
        if frame.strides[2] != -1:
            self._output = self._cut(frame, window, self._output)
            return self._output
        # A view with swapped channels (BGR[..., ::-1]): OpenCV would copy the window pixel by
        # pixel, 1.9 ms for 1109 x 1109; swapping the small crop takes 0.03 ms.
        if not self._swapped.size:
            self._swapped = np.empty_like(self._output)
        self._swapped = self._cut(frame[..., ::-1], window, self._swapped)
        self._output = cv2.cvtColor(self._swapped, cv2.COLOR_BGR2RGB, dst=self._output)
        return self._output

    def _cut(
        self, frame: NDArray[np.uint8], window: CropWindow, output: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        """Cut the crop, into `output` where OpenCV can."""
        inside = inside_frame(window, frame.shape)
        if inside.is_empty():
            output.fill(0)
            return output
        view = frame[inside.y1 : inside.y2, inside.x1 : inside.x2]
        side = window.side
        if view.shape[:2] != (side, side):
            if side > _SPARSE_SIDE and side * side > 4 * view.shape[0] * view.shape[1]:
                return _resize_sparse(view, window, inside, output)
            view = self._pad(view, window, inside)
        return cv2.resize(view, (self.size, self.size), dst=output)

    def _pad(
        self, view: NDArray[np.uint8], window: CropWindow, inside: Inside
    ) -> NDArray[np.uint8]:
        """Pad the view to the whole window, (side, side, 3), with zeros outside the frame."""
        side = window.side
        if self._padded.size < side * side * 3:
            self._padded = np.empty(side * side * 3, np.uint8)
        top, left = inside.y1 - window.y1, inside.x1 - window.x1
        bottom, right = window.y1 + side - inside.y2, window.x1 + side - inside.x2
        buffer = self._padded[: side * side * 3].reshape(side, side, 3)
        return cv2.copyMakeBorder(view, top, bottom, left, right, cv2.BORDER_CONSTANT, dst=buffer)


def _resize_sparse(
    view: NDArray[np.uint8], window: CropWindow, inside: Inside, output: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Pad and resize without the padded image: reads only the pixels that are mixed.

    Equal to padding and `cv2.resize` within one grey level (before OpenCV 5, which rounds positions
    to 1/32 pixel, within 8 on noise), as no output of so large a window reads beyond it; 1.2 ms
    where the padded image of 2049 x 2049 takes 7.
    """
    size = output.shape[0]
    centres = (np.arange(size) + 0.5) * (window.side / size) - 0.5
    columns = np.float32(centres + (window.x1 - inside.x1))
    rows = np.float32(centres + (window.y1 - inside.y1))
    positions = np.meshgrid(columns, rows)
    return cv2.remap(view, *positions, cv2.INTER_LINEAR, dst=output, borderMode=cv2.BORDER_CONSTANT)


def window_padding(frame_shape: Sequence[int], window: CropWindow, size: int) -> NDArray[np.bool_]:
    """Compute (size, size) bool, True where a crop shows padding (STARK's attention mask)."""
    inside = inside_frame(window, frame_shape)
    columns = _shows_padding(inside.x1 - window.x1, inside.x2 - window.x1, window.side, size)
    rows = _shows_padding(inside.y1 - window.y1, inside.y2 - window.y1, window.side, size)
    return rows[:, None] | columns[None, :]


def _shows_padding(start: int, stop: int, side: int, size: int) -> NDArray[np.bool_]:
    """Compute (size,) bool of one axis: does an output pixel mix in some outside [start, stop)?"""
    padding = np.ones((side, 1), np.float64)
    padding[min(start, side) : max(stop, 0)] = 0.0
    return cv2.resize(padding, (1, size)).reshape(-1).astype(np.bool_)
