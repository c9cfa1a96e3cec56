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
    chosen = score_map[row, column]
    weights = np.maximum(score_map[rows, columns] - RELATIVE_SCORE * chosen, 0.0).reshape(-1)
    boxes = box_map[:, rows, columns].reshape(4, -1) - box_map[:, row, column, None]
    total = float(weights.sum())
    covariance = np.zeros((4, 4))
    if not np.isfinite(total) or total <= 0.0:
        return covariance
    covariance = side * side * np.asarray((boxes * weights) @ boxes.T, np.float64) / total
    return covariance if np.isfinite(covariance).all() else np.zeros((4, 4))
