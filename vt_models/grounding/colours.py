# SPDX-License-Identifier: Apache-2.0
"""Which part of an object has which colour, by the names that people agree on."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.geometry.boxes import Box

# OpenCV's hues, 0..180, where 180 is 0 again; what lies between two has no name here.
_HUES = {"red": (170, 188), "yellow": (20, 34), "green": (42, 85), "blue": (95, 128)}
COLOURS = ("black", "grey", "white", *_HUES)


def colour_shares(frame: NDArray[np.uint8], box: Box, middle: float) -> dict[str, float]:
    """How much of a box's middle has which colour.

    Args:
        frame: (H, W, 3) uint8 RGB.
        box: x, y, w, h in pixels; of one outside the frame its edge counts.
        middle: how much of width and height is looked at: corners show what is behind an object.

    Returns:
        Shares in [0, 1] by `COLOURS`; what lies between two of them has none.
    """
    x, y, w, h = box
    height, width = frame.shape[:2]
    rim = (1.0 - middle) / 2
    top, left = (
        int(min(max(v, 0), most - 1)) for v, most in ((y + rim * h, height), (x + rim * w, width))
    )
    bottom, right = round(y + (1.0 - rim) * h), round(x + (1.0 - rim) * w)
    part = frame[top : max(bottom, top + 1), left : max(right, left + 1)]
    hsv = cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_RGB2HSV).astype(int)
    hue, saturation, value = np.moveaxis(hsv, 2, 0)
    grey, vivid = saturation < 50, (saturation > 90) & (value > 70)
    found = {
        "black": value < 55,
        "grey": grey & (value > 80) & (value < 150),
        "white": grey & (value > 180),
    }
    for name, (low, high) in _HUES.items():
        found[name] = vivid & ((hue - low) % 180 <= high - low)
    return {name: float(pixels.mean()) for name, pixels in found.items()}
