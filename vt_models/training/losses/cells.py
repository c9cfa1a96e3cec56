# SPDX-License-Identifier: Apache-2.0
"""Which cells of a map answer for a box: the rules of the trackers' authors, and of the dense head.

Boxes are cx, cy, w, h as fractions of the search crop.
"""

from __future__ import annotations

import torch
from torch import Tensor


def corners(box: Tensor) -> Tensor:
    """(..., 4) cxcywh -> (..., 4) x1, y1, x2, y2."""
    centre, half = box[..., :2], box[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def centre_heat(box: Tensor, shape: torch.Size) -> Tensor:
    """Return where the centre is: 1 at its cell, and a Gaussian around it as wide as the target.

    The radius is CornerNet's for an IoU of 0.7, with the roots of its published code, which the
    authors use: they lack the division by the leading coefficient.

    Args:
        box: (B, 4) cxcywh.
        shape: H, W of the map.

    Returns:
        (B, H, W) in [0, 1]; 0 where the centre's cell is too far outside.
    """
    height, width = shape
    x, y = _centre_cell(box, shape)
    size = torch.stack([box[:, 2] * width, box[:, 3] * height], 1)
    radius = _corner_radius(size.ceil()).floor().clamp(min=0)[:, None, None]
    dx = torch.arange(width, device=box.device)[None, None, :] - x[:, None, None]
    dy = torch.arange(height, device=box.device)[None, :, None] - y[:, None, None]
    sigma = (2 * radius + 1) / 6
    heat = torch.exp(-(dx**2 + dy**2) / (2 * sigma**2))
    return torch.where((dx.abs() <= radius) & (dy.abs() <= radius), heat, 0.0)


def centred_inside(box: Tensor, shape: torch.Size) -> Tensor:
    """(B, 4) cxcywh -> (B,) bool: `centre_heat` is 1 somewhere, the centre's cell is on the map."""
    height, width = shape
    x, y = _centre_cell(box, shape)
    return (x >= 0) & (x < width) & (y >= 0) & (y < height)


def _centre_cell(box: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Return column and row (B,) of the centre, rounded as published."""
    height, width = shape
    return (box[:, 0] * width).round(), (box[:, 1] * height).round()


def _corner_radius(size: Tensor, overlap: float = 0.7) -> Tensor:
    """How far both corners of a box may move so that the IoU stays: (B, 2) cells -> (B,)."""
    total, area = size.sum(1), size.prod(1)
    quadratics = (
        (1.0, total, area * (1 - overlap) / (1 + overlap)),
        (4.0, 2 * total, (1 - overlap) * area),
        (4 * overlap, -2 * overlap * total, (overlap - 1) * area),
    )
    roots = [(b + (b**2 - 4 * a * c).sqrt()) / 2 for a, b, c in quadratics]
    return torch.stack(roots).amin(0)


def cells_beginning_inside(box: Tensor, shape: torch.Size) -> Tensor:
    """Return the cells whose upper left corner lies in a box, one a box at least (as published).

    Args:
        box: (B, 4) cxcywh.
        shape: H, W of the map.

    Returns:
        (B, H, W) bool.
    """
    height, width = shape
    left, top, right, bottom = corners(box).unbind(1)
    x1, y1, x2, y2 = (left * width).ceil(), (top * height).ceil(), right * width, bottom * height
    x2, y2 = x2.ceil(), y2.ceil()
    columns = torch.arange(width, device=box.device)[None]
    rows = torch.arange(height, device=box.device)[None]
    x2, y2 = torch.maximum(x2, x1 + 1), torch.maximum(y2, y1 + 1)
    inside_x = (columns >= x1[:, None]) & (columns < x2[:, None])
    inside_y = (rows >= y1[:, None]) & (rows < y2[:, None])
    return inside_y[:, :, None] & inside_x[:, None, :]


def central_cells(box: Tensor, shape: torch.Size, part: float = 0.5) -> Tensor:
    """Return the cells whose centre lies in the middle part of a box, and always the nearest one.

    Args:
        box: (B, 4) cxcywh.
        shape: H, W of the map.
        part: Of the box's width and height; 1 for all of it.

    Returns:
        (B, H, W) bool. Boxes centred outside the map have no cell.
    """
    height, width = shape
    xs = (torch.arange(width, device=box.device) + 0.5) / width
    ys = (torch.arange(height, device=box.device) + 0.5) / height
    cx, cy, w, h = box.unbind(1)
    reach_x = torch.clamp(part * w / 2, min=0.5 / width)
    reach_y = torch.clamp(part * h / 2, min=0.5 / height)
    near_x = (xs[None] - cx[:, None]).abs() <= reach_x[:, None]
    near_y = (ys[None] - cy[:, None]).abs() <= reach_y[:, None]
    return near_y[:, :, None] & near_x[:, None, :]


def mean_where(values: Tensor, weight: Tensor) -> Tensor:
    """(B, N) and weights (B, N) -> mean (B,) over cells, 0 where no cell counts."""
    return (values * weight).sum(1) / weight.sum(1).clamp(min=1)
