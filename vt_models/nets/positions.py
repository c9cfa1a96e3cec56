# SPDX-License-Identifier: Apache-2.0
"""Position encodings that follow from the shape of a map and its padding."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TEMPERATURE = 10000.0
EPSILON = 1e-6


def sine_positions(padding: Tensor, channels: int) -> Tensor:
    """Return DETR's two-dimensional sine encoding (Carion et al., ECCV 2020, appendix A.4).

    The position of a cell on an axis counts the cells up to it that are not padding, divided by
    their number in its column (or row), times 2 pi; a column of padding alone is at 0. With
    d = channels / 2 the k-th pair of an axis holds sine and cosine of
    ``position / 10000^(2 k / d)``.

    Args:
        padding: (B, H, W) bool, True where a cell shows padding.
        channels: of the encoding, a multiple of 4.

    Returns:
        (B, H * W, channels), cells row by row; the first half encodes y, the second x.
    """
    inside = (~padding).float()
    per_axis = channels // 2
    pairs = torch.arange(per_axis // 2, dtype=torch.float32, device=padding.device)
    frequency = 2 * math.pi / TEMPERATURE ** (2 * pairs / per_axis)
    positions = []
    for axis in (1, 2):
        count = inside.cumsum(axis)
        share = count / (count.narrow(axis, count.shape[axis] - 1, 1) + EPSILON)
        angle = share[..., None] * frequency
        positions.append(torch.stack([torch.sin(angle), torch.cos(angle)], dim=-1).flatten(-2))
    return torch.cat(positions, dim=-1).flatten(1, 2)
