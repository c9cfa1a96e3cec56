# SPDX-License-Identifier: Apache-2.0
"""How far the boxes of a dense head's good cells lie apart: the network's own covariance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEAR_CELLS = 4
"""Cells on each side of the chosen one that count; what scores farther away is another object."""
RELATIVE_SCORE = 0.5
"""Cells below this share of the chosen cell's score do not count."""


def box_spread(
    score_map: NDArray[np.float32],
    box_map: NDArray[np.float32],
    row: int,
    column: int,
    side: float,
) -> NDArray[np.float64]:
    """Weighted covariance of the boxes that the cells around the chosen one propose.

    A cell weighs its score above `RELATIVE_SCORE` times the chosen cell's; the deviations are
    from the chosen cell's box. The scale is relative: calibration multiplies it until the
    normalised error squared is about right.

    Args:
        score_map: (H, W) in [0, 1].
        box_map: (4, H, W) centre x, centre y, width, height as fractions of the crop.
        row, column: the chosen cell.
        side: of the crop, pixels of the frame.

    Returns:
        (4, 4) float64 of centre x, centre y, width, height in pixels squared of the frame;
        zeros where the maps are not finite.
    """
    rows = slice(max(row - NEAR_CELLS, 0), row + NEAR_CELLS + 1)
    columns = slice(max(column - NEAR_CELLS, 0), column + NEAR_CELLS + 1)
    scores = score_map[rows, columns].astype(np.float64).reshape(-1)
    boxes = box_map[:, rows, columns].astype(np.float64).reshape(4, -1)
    with np.errstate(invalid="ignore"):
        weights = np.maximum(scores - RELATIVE_SCORE * float(score_map[row, column]), 0.0)
        boxes = boxes - box_map[:, row, column, None]
        covariance = side * side * ((boxes * weights) @ boxes.T)
        total = float(weights.sum())
    if not (np.isfinite(covariance).all() and 0.0 < total < np.inf):
        return np.zeros((4, 4))
    return np.asarray(covariance / total, np.float64)
