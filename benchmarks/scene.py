# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks show to a tracker where no video is needed: a square that moves."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


class Scene:
    """A textured square that moves over a textured ground, with noise; the same in every run.

    Args:
        size: width and height of the frames, pixels.
        side: of the square, pixels.
    """

    def __init__(self, size: tuple[int, int], side: int) -> None:
        self._size, self._side = size, side
        self._rng = np.random.default_rng(0)
        ground = self._rng.integers(40, 215, (size[1] // 16, size[0] // 16, 3), np.uint8)
        self._ground = cv2.resize(ground, size, interpolation=cv2.INTER_CUBIC)
        square = self._rng.integers(0, 255, (6, 6, 3), np.uint8)
        self._square = cv2.resize(square, (side, side), interpolation=cv2.INTER_NEAREST)

    def box(self, number: int) -> tuple[float, float, float, float]:
        """Where the square is in a frame: x, y, w, h in pixels."""
        angle, side = number / 30.0, self._side
        x = (self._size[0] - side) * (0.5 + 0.4 * np.sin(angle))
        y = (self._size[1] - side) * (0.5 + 0.4 * np.cos(0.7 * angle))
        return float(round(x)), float(round(y)), float(side), float(side)

    def frame(self, number: int, noise: bool = True) -> NDArray[np.uint8]:
        """A frame, (H, W, 3) uint8 RGB; with noise no two are equal."""
        x, y, w, h = map(int, self.box(number))
        frame = self._ground.copy()
        frame[y : y + h, x : x + w] = self._square
        if noise:
            frame = cv2.add(frame, self._rng.integers(0, 4, frame.shape, np.uint8))
        return np.asarray(frame, np.uint8)
