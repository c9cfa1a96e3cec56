# SPDX-License-Identifier: Apache-2.0
"""Box heads shared by the networks, and the confidence read from their score maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vt_models.nets.towers import Towers

SPREAD_TOLERANCE = 2.0
"""Variance in cells^2, beyond the least possible, at which a corner map's certainty is 1/e."""


class CornerHead(Towers):
    """STARK's corner head (Yan et al., ICCV 2021), which AsymTrack uses too: soft-argmax.

    Each of two towers ends in one logit a cell; the corner is the expectation of the cell index
    under the softmax over the map. As published there is no half-cell offset: a corner is a
    multiple of the stride counted from the crop's own corner, so coordinates lie in
    [0, (size - 1) / size].

    Args:
        channels: C of the (B, C, H, W) input.
        width: channels after the first convolution.
    """

    def __init__(self, channels: int = 256, width: int = 256) -> None:
        super().__init__(channels, width, {"tl": 1, "br": 1})

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, C, H, W) -> logits (B, H, W) of the top-left and of the bottom-right corner."""
        return self.tower(x, "tl")[:, 0], self.tower(x, "br")[:, 0]


def locate(logits_tl: Tensor, logits_br: Tensor) -> tuple[Tensor, Tensor]:
    """Read box and confidence from the two logit maps.

    Args:
        logits_tl: (B, N, N) of the top-left corner.
        logits_br: (B, N, N) of the bottom-right corner.

    Returns:
        box (B, 4), cx, cy, w, h as fractions of the search crop, by soft-argmax; width and height
        are negative where the corners contradict each other. score (B,), see ``corner_score``.
    """
    logits = torch.stack([logits_tl, logits_br], dim=1)
    probability = torch.softmax(logits.flatten(2), dim=-1).unflatten(2, logits.shape[2:])
    marginals = _marginals(probability)
    corners = _mean_cell(marginals) / logits.shape[-1]
    top_left, bottom_right = corners.unbind(1)
    box = torch.cat([(top_left + bottom_right) / 2, bottom_right - top_left], dim=-1)
    return box, _score(marginals)


def corner_score(top_left: Tensor, bottom_right: Tensor) -> Tensor:
    """Return a confidence of a corner head, which has none, from the shape of its two maps.

        score = sqrt(c(top_left) * c(bottom_right)) * o_x * o_y

    ``c = exp(-(v - v_least) / SPREAD_TOLERANCE)`` is the certainty of one corner: v is the variance
    of the map around its own expectation in cells^2, both axes added; v_least = f (1 - f) per axis
    is the variance that a corner at fraction f between two cells needs at the least. A map on one
    cell, or shared between neighbours to express a position between them, gives 1; a flat 8 x 8 map
    0.007; two equal peaks four cells apart 0.14.

    ``o_x`` is the probability that the top-left corner is not right of the bottom-right one, when
    each is drawn from its own map; ``o_y`` likewise, not below. Consistent peaks give 1, swapped
    ones 0.

    Args:
        top_left: (B, N, N), each map non-negative and adding up to 1.
        bottom_right: the same.

    Returns:
        (B,) in [0, 1].
    """
    return _score(_marginals(torch.stack([top_left, bottom_right], dim=1)))


def _marginals(probability: Tensor) -> Tensor:
    """(B, corner, N, N) -> (B, corner, axis, N): over columns (axis 0, x) and rows (axis 1, y)."""
    return torch.stack([probability.sum(2), probability.sum(3)], dim=2)


def _mean_cell(marginals: Tensor) -> Tensor:
    """(B, corner, axis, N) -> (B, corner, axis): the expected cell index."""
    return (marginals * _cells(marginals)).sum(-1)


def _score(marginals: Tensor) -> Tensor:
    """(B, corner, axis, N) -> (B,): the formula of ``corner_score``."""
    cells, mean = _cells(marginals), _mean_cell(marginals)
    deviation = cells - mean[..., None]
    variance = (marginals * deviation * deviation).sum(-1)
    fraction = mean - torch.floor(mean)
    excess = F.relu(variance - fraction * (1 - fraction)).sum((1, 2))
    not_beyond = (cells[:, None] <= cells[None, :]).to(marginals.dtype)
    top_left, bottom_right = marginals.unbind(1)
    ordered = ((top_left @ not_beyond) * bottom_right).sum(-1).clamp(0, 1)
    return torch.exp(excess * (-0.5 / SPREAD_TOLERANCE)) * ordered[:, 0] * ordered[:, 1]


def _cells(marginals: Tensor) -> Tensor:
    return torch.arange(marginals.shape[-1], dtype=marginals.dtype, device=marginals.device)
