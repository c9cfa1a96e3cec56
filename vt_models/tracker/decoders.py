# SPDX-License-Identifier: Apache-2.0
"""From a network's outputs to a box in the frame, as the papers' own loops do it.

A decoder takes the network's outputs, the window that the search crop shows and the previous box,
and returns a `Proposal` in pixels of the frame, not yet clipped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vt_models.geometry.boxes import Box, CropWindow
from vt_models.registry import ModelSpec
from vt_models.runtime.engine import Array

NO_SIZE_CORRECTION = (1.0, 1.0)
"""Factors of width and height that leave a size as it is."""

NEIGHBOUR_CELLS = 4
"""Cells on each side of the chosen one that enter the box covariance.

What scores farther away is another object.
"""
RELATIVE_SCORE = 0.5
"""Cells below this share of the chosen cell's score do not enter the box covariance."""

# A network's box beyond this many crops is treated like one that is not finite.
_FRACTION_LIMIT = 1e6


@dataclass(frozen=True, slots=True)
class Proposal:
    """A decoded network output, before clipping.

    Attributes:
        box: x, y, w, h in pixels of the frame.
        score: where the box was read.
        peak: the largest score of the crop; the published template updates go by it.
        covariance: (4, 4) from the score map, see `box_covariance`; None where the network gives a
            single box.
    """

    box: Box
    score: float
    peak: float
    covariance: NDArray[np.float64] | None = None


class Decoder:
    """Decode one box ("box", "score") or maps ("score_map", "box_map"), by `ModelSpec.decoder`.

    A single box, (1, 4) cxcywh as fractions of the crop with a score (1,), is AsymTrack's and
    STARK's: where its score is below least_score (0 as published) the previous box stays.

    Maps, score_map (1, H, W) in [0, 1] and box_map (1, 4, H, W) cxcywh fractions, are read at one
    cell. With k = window_influence that is the maximum of penalty * score_map * (1 - k) + hann * k,
    or with `window_multiplied` of score_map * hann', where hann' (k = 1..n: 0.5 - 0.5 cos(2 pi k /
    (n + 1))) has no zeros at the border. The penalty on a change of scale and aspect is that of
    SiamRPN (Li et al., CVPR 2018, section 4.3): exp(-(r_c * s_c - 1) * scale_penalty),
    s_c = max(s / s', s' / s) with s = sqrt((w + p) * (h + p)), p = (w + h) / 2, and r_c the same of
    w / h.

    The centre is taken as it is; the size moves from the previous size by the rate
    size_smoothing * score (fully if size_smoothing is 0).
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._window = np.zeros((0, 0), np.float32)

    def __call__(
        self,
        outputs: tuple[Array, ...],
        window: CropWindow,
        previous: Box,
        prior: bool = True,
        size_correction: tuple[float, float] = NO_SIZE_CORRECTION,
    ) -> Proposal | None:
        """Decode the outputs of one frame.

        Args:
            outputs: the network's, with a batch dimension of 1.
            window: what the crop shows.
            previous: the box that the window was computed from, xywh.
            prior: False for the highest score and the box as it stands there, whatever its score.
            size_correction: factors of width and height.

        Returns:
            The proposal, None if the box is not finite (or beyond a million crops).
        """
        spec, is_dense = self._spec, self._spec.decoder == "dense"
        if is_dense:
            score_map, box_map = outputs[0][0], outputs[1][0]
            # The penalty compares with the boxes of the map, which are not corrected.
            size = (previous[2] / size_correction[0], previous[3] / size_correction[1])
            ranking = self._ranking(score_map, box_map, window, size) if prior else score_map
            row, column = divmod(int(np.argmax(ranking)), score_map.shape[1])
            score, fractions = float(score_map[row, column]), box_map[:, row, column].tolist()
        else:
            score, fractions = float(outputs[1].reshape(-1)[0]), outputs[0].reshape(-1).tolist()
        if not (math.isfinite(score) and all(abs(v) <= _FRACTION_LIMIT for v in fractions)):
            return None
        if not is_dense and prior and score < spec.least_score:
            return Proposal(previous, score, score)

        cx, cy, w, h = (value * window.side for value in fractions)
        w, h = w * size_correction[0], h * size_correction[1]
        rate = spec.size_smoothing * score if prior and spec.size_smoothing else 1.0
        if rate < 1.0:
            rate = max(rate, 0.0)
            w = previous[2] + rate * (w - previous[2])
            h = previous[3] + rate * (h - previous[3])
        left, top = float(window.x1), float(window.y1)
        if spec.anchor != "window":
            left = previous[0] + 0.5 * previous[2] - 0.5 * window.side
            top = previous[1] + 0.5 * previous[3] - 0.5 * window.side
        box = (left + cx - 0.5 * w, top + cy - 0.5 * h, w, h)
        if not is_dense:
            return Proposal(box, score, score)
        scales = (1.0, 1.0, *size_correction)
        covariance = box_covariance(score_map, box_map, row, column, window.side)
        return Proposal(box, score, float(score_map.max()), covariance * np.outer(scales, scales))

    def _ranking(
        self,
        score_map: Array,
        box_map: Array,
        window: CropWindow,
        previous_size: tuple[float, float],
    ) -> Array:
        """Weigh the score map (H, W) by penalty and window; the largest value is chosen."""
        ranking = score_map
        if self._spec.scale_penalty:
            ranking = ranking * self._scale_penalty(box_map, window, previous_size)
        if self._spec.window_multiplied:
            return ranking * self._hann(score_map.shape)
        if self._spec.window_influence:
            return ranking * (1.0 - self._spec.window_influence) + self._hann(score_map.shape)
        return ranking

    def _hann(self, shape: tuple[int, ...]) -> Array:
        """(H, W) Hann window, times its influence if it is added; computed once for a shape."""
        if self._window.shape != shape:
            if self._spec.window_multiplied:
                rows, columns = (np.hanning(size + 2)[1:-1] for size in shape)
                self._window = np.outer(rows, columns).astype(np.float32)
            else:
                window = np.outer(np.hanning(shape[0]), np.hanning(shape[1]))
                self._window = (self._spec.window_influence * window).astype(np.float32)
        return self._window

    def _scale_penalty(
        self, box_map: Array, window: CropWindow, previous_size: tuple[float, float]
    ) -> Array:
        """(H, W) factors in (0, 1]."""
        with np.errstate(all="ignore"):
            w, h = np.maximum(box_map[2:], 1e-6)
            old_w, old_h = previous_size[0] / window.side, previous_size[1] / window.side
            scale = _padded_size(w, h) / _padded_size(np.float32(old_w), np.float32(old_h))
            aspect = (w / h) / np.float32(old_w / old_h)
            change = np.maximum(scale, 1.0 / scale) * np.maximum(aspect, 1.0 / aspect)
            factors: Array = np.exp((1.0 - change) * self._spec.scale_penalty)
        return factors


def box_covariance(
    score_map: NDArray[np.float32],
    box_map: NDArray[np.float32],
    row: int,
    column: int,
    side: float,
) -> NDArray[np.float64]:
    """Compute the weighted covariance of the boxes that the cells around the chosen one propose.

    A cell weighs its score above `RELATIVE_SCORE` times the chosen cell's; the deviations are
    from the chosen cell's box. The scale is relative: `vt-models calibrate` fits a factor that
    makes the normalised error squared about right.

    Args:
        score_map: (H, W) in [0, 1].
        box_map: (4, H, W) centre x, centre y, width, height as fractions of the crop.
        row, column: the chosen cell.
        side: of the crop, pixels of the frame.

    Returns:
        (4, 4) float64 of centre x, centre y, width, height in pixels squared of the frame;
        zeros where the maps are not finite.
    """
    rows = slice(max(row - NEIGHBOUR_CELLS, 0), row + NEIGHBOUR_CELLS + 1)
    columns = slice(max(column - NEIGHBOUR_CELLS, 0), column + NEIGHBOUR_CELLS + 1)
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


def _padded_size(w: Array | np.float32, h: Array | np.float32) -> Array:
    """SiamRPN's size of a box: sqrt((w + p) * (h + p)), p = (w + h) / 2."""
    pad = (w + h) * 0.5
    size: Array = np.sqrt((w + pad) * (h + pad))
    return size
