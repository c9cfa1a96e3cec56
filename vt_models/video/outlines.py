# SPDX-License-Identifier: Apache-2.0
"""Outlines that viewers draw over an image: of a box, a predicted one, and its uncertainty."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vt_models.geometry.boxes import Box

LINE, FONT = 2.0, 14.0
"""Thickness of a line and size of a text, pixels."""

Points = list[tuple[float, float]]

_DEVIATIONS = 2.0  # the target's centre lies in the ellipse with 86 %
_ELLIPSE_CORNERS = 24
_ANGLES = np.linspace(0.0, 2.0 * math.pi, _ELLIPSE_CORNERS, endpoint=False)
_CIRCLE = np.stack((np.cos(_ANGLES), np.sin(_ANGLES)))


def box_corners(box: Box) -> Points:
    """Return the four corners of a box x, y, w, h, in order round it."""
    x, y, w, h = box
    return [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]


def corner_lines(box: Box) -> Points:
    """Return the ends of two short lines at each corner of a box: of one that is only predicted."""
    x, y, w, h = box
    return [
        end
        for cx, dx in ((x, 0.25 * w), (x + w, -0.25 * w))
        for cy, dy in ((y, 0.25 * h), (y + h, -0.25 * h))
        for end in ((cx, cy), (cx + dx, cy), (cx, cy), (cx, cy + dy))
    ]


def covariance_ellipse(box: Box, covariance: NDArray[np.float64]) -> Points:
    """Return corners of the ellipse in which the centre of a box lies with 86 %.

    Args:
        box: x, y, w, h in pixels.
        covariance: (4, 4) of centre x, centre y, width, height in pixels squared.
    """
    values, axes = np.linalg.eigh(covariance[:2, :2])
    radii = _DEVIATIONS * np.sqrt(np.maximum(values, 0.0))
    centre = np.array((box[0] + 0.5 * box[2], box[1] + 0.5 * box[3]))
    corners = centre[:, None] + axes @ (radii[:, None] * _CIRCLE)
    return [(float(x), float(y)) for x, y in corners.T]


def label_place(box: Box | None) -> tuple[float, float]:
    """Return the lower left corner of a label: above a box, or at the top left without one."""
    return (4.0, FONT + 4.0) if box is None else (box[0], max(box[1] - 4.0, FONT))
