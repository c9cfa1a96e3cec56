# SPDX-License-Identifier: Apache-2.0
"""Box heads shared by the networks, and the confidence read from their score maps."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vt_models.nets.recording import record

SPREAD_TOLERANCE = 2.0
"""Variance in cells^2, beyond the least possible, at which a corner map's certainty is 1/e."""


class Towers(nn.Module):
    """Parallel towers, each four conv3x3-BN-ReLU of falling width and a conv1x1.

    Args:
        channels: C of the (B, C, H, W) input.
        width: channels after the first convolution; each further one halves them.
        outputs: channels that each tower ends in, by the tower's name.
    """

    DEPTH = 4

    def __init__(self, channels: int, width: int, outputs: Mapping[str, int]) -> None:
        super().__init__()
        widths = [channels, *(width >> index for index in range(self.DEPTH))]
        for name, count in outputs.items():
            for index, (inputs, wide) in enumerate(pairwise(widths), start=1):
                layer = nn.Sequential(
                    nn.Conv2d(inputs, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.ReLU()
                )
                self.add_module(f"conv{index}_{name}", layer)
            self.add_module(f"conv{self.DEPTH + 1}_{name}", nn.Conv2d(widths[-1], count, 1))

    def tower(self, x: Tensor, name: str) -> Tensor:
        """Map (B, C, H, W) -> the named tower's output (B, count, H, W)."""
        for index in range(1, self.DEPTH + 2):
            x = self.get_submodule(f"conv{index}_{name}")(x)
        return x

    @torch.no_grad()
    def merge(self) -> None:
        """Fold every batch norm into the convolution before it, in place; needs eval mode."""
        for name, layer in self.named_children():
            if isinstance(layer, nn.Sequential) and isinstance(layer[1], nn.BatchNorm2d):
                fused = fuse_conv_bn_eval(layer[0], layer[1].eval())
                setattr(self, name, nn.Sequential(fused, nn.Identity(), layer[2]))


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
    record("corners", lambda: probability)
    marginals = _marginals(probability)
    corners = _mean_cell(marginals) / logits.shape[-1]
    top_left, bottom_right = corners.unbind(1)
    box = torch.cat([(top_left + bottom_right) / 2, bottom_right - top_left], dim=-1)
    return box, corner_score(marginals)


def _marginals(probability: Tensor) -> Tensor:
    """(B, corner, N, N) -> (B, corner, axis, N): over columns (axis 0, x) and rows (axis 1, y)."""
    return torch.stack([probability.sum(2), probability.sum(3)], dim=2)


def _mean_cell(marginals: Tensor) -> Tensor:
    """(B, corner, axis, N) -> (B, corner, axis): the expected cell index."""
    return (marginals * _cells(marginals)).sum(-1)


def corner_score(marginals: Tensor) -> Tensor:
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
        marginals: (B, corner, axis, N), each adding up to 1.

    Returns:
        (B,) in [0, 1].
    """
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
