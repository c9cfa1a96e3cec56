# SPDX-License-Identifier: Apache-2.0
"""Box heads shared by the networks, and the confidence read from their score maps."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

SPREAD_TOLERANCE = 2.0
"""Variance in cells^2, beyond the least possible, at which a corner map's certainty is 1/e."""


class Corners(NamedTuple):
    """What the two logit maps of a corner head say.

    Attributes:
        box: (B, 4) cx, cy, w, h as fractions of the search crop. Width and height may be negative
            where the network contradicts itself.
        top_left: (B, H, W) probability of the top-left corner over the cells; sums to 1.
        bottom_right: the same for the bottom-right corner.
    """

    box: Tensor
    top_left: Tensor
    bottom_right: Tensor


class CornerHead(nn.Module):
    """STARK's corner head (Yan et al., ICCV 2021) as AsymTrack uses it: two towers, soft-argmax.

    Each tower is conv3x3-BN-ReLU from ``channels`` over the widths below to one logit a cell; the
    corner is the expectation of the cell index under the softmax over the map. As published there
    is no half-cell offset: a corner is a multiple of the stride counted from the crop's own corner,
    so coordinates lie in [0, (size - 1) / size].

    Args:
        channels: C of the (B, C, H, W) input.
    """

    WIDTHS = (256, 128, 64, 32)

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        for corner in ("tl", "br"):
            inputs = channels
            for index, outputs in enumerate(self.WIDTHS, start=1):
                layer = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()
                )
                self.add_module(f"conv{index}_{corner}", layer)
                inputs = outputs
            self.add_module(f"conv5_{corner}", nn.Conv2d(inputs, 1, 1))

    def tower(self, x: Tensor, corner: str) -> Tensor:
        """Logits (B, H, W) of one corner, ``"tl"`` or ``"br"``, from the map (B, C, H, W)."""
        for index in range(1, 6):
            x = self.get_submodule(f"conv{index}_{corner}")(x)
        return x[:, 0]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, C, H, W) -> logits (B, H, W) of the top-left and of the bottom-right corner."""
        return self.tower(x, "tl"), self.tower(x, "br")

    @torch.no_grad()
    def merge(self) -> None:
        """Fold every batch norm into the convolution before it, in place; needs eval mode."""
        for name, layer in self.named_children():
            if isinstance(layer, nn.Sequential) and isinstance(layer[1], nn.BatchNorm2d):
                fused = fuse_conv_bn_eval(layer[0], layer[1].eval())
                setattr(self, name, nn.Sequential(fused, nn.Identity(), layer[2]))


def locate(logits_tl: Tensor, logits_br: Tensor) -> Corners:
    """Corner logits (B, H, W) -> box and probabilities, by soft-argmax."""
    top_left, bottom_right = _softmax_map(logits_tl), _softmax_map(logits_br)
    height, width = logits_tl.shape[-2:]
    x1, y1 = _expectation(top_left.sum(1)) / width, _expectation(top_left.sum(2)) / height
    x2, y2 = _expectation(bottom_right.sum(1)) / width, _expectation(bottom_right.sum(2)) / height
    box = torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], dim=-1)
    return Corners(box, top_left, bottom_right)


def corner_score(top_left: Tensor, bottom_right: Tensor) -> Tensor:
    """Confidence of a corner head, which has none of its own, from the shape of its two maps.

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
        top_left: (B, H, W), each map non-negative and adding up to 1.
        bottom_right: the same.

    Returns:
        (B,) in [0, 1].
    """
    certainty = torch.sqrt(_certainty(top_left) * _certainty(bottom_right))
    ordered_x = _ordered(top_left.sum(1), bottom_right.sum(1))
    ordered_y = _ordered(top_left.sum(2), bottom_right.sum(2))
    return certainty * ordered_x * ordered_y


def _certainty(probability: Tensor) -> Tensor:
    """(B, H, W) -> (B,): how far one corner's map is from its sharpest form."""
    excess = _excess_variance(probability.sum(1)) + _excess_variance(probability.sum(2))
    return torch.exp(-excess / SPREAD_TOLERANCE)


def _excess_variance(marginal: Tensor) -> Tensor:
    """(B, N) -> (B,): variance in cells^2 beyond what the expectation's own fraction needs."""
    cells = _cells(marginal)
    mean = _expectation(marginal)
    variance = (marginal * (cells - mean[:, None]) ** 2).sum(-1)
    fraction = mean - torch.floor(mean)
    return F.relu(variance - fraction * (1 - fraction))


def _ordered(first: Tensor, second: Tensor) -> Tensor:
    """(B, N), (B, N) -> (B,): probability that a draw from ``first`` is not beyond ``second``'s."""
    cells = _cells(first)
    not_beyond = (cells[:, None] <= cells[None, :]).to(first.dtype)
    return ((first @ not_beyond) * second).sum(-1).clamp(0, 1)


def _softmax_map(logits: Tensor) -> Tensor:
    return torch.softmax(logits.flatten(1), dim=-1).unflatten(1, logits.shape[1:])


def _expectation(marginal: Tensor) -> Tensor:
    """(B, N) -> (B,): the mean cell index."""
    return (marginal * _cells(marginal)).sum(-1)


def _cells(marginal: Tensor) -> Tensor:
    return torch.arange(marginal.shape[-1], dtype=marginal.dtype, device=marginal.device)
