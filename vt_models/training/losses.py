# SPDX-License-Identifier: Apache-2.0
"""Losses. Boxes are cx, cy, w, h as fractions of the search crop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from vt_models.training.recipe import LossConfig

if TYPE_CHECKING:
    from vt_models.registry import ModelSpec

LossFunction = Callable[[dict[str, Tensor], Tensor, Tensor, LossConfig], dict[str, Tensor]]


def iou_and_giou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Overlap of boxes, and its generalised form (Rezatofighi et al., CVPR 2019).

    Args:
        a: (..., 4) cxcywh.
        b: (..., 4) cxcywh.

    Returns:
        IoU in [0, 1] and GIoU in [-1, 1], (...). Negative sizes, which a corner head can predict,
        count as 0: as a product of two they would be an area, and the loss unbounded below.
    """
    (a1, a2), (b1, b2) = corners(a).split(2, -1), corners(b).split(2, -1)
    intersection = (torch.minimum(a2, b2) - torch.maximum(a1, b1)).clamp(min=0).prod(-1)
    area_a, area_b = a[..., 2:].clamp(min=0).prod(-1), b[..., 2:].clamp(min=0).prod(-1)
    union = area_a + area_b - intersection
    hull = (torch.maximum(a2, b2) - torch.minimum(a1, b1)).clamp(min=0).prod(-1)
    iou = intersection / union.clamp(min=1e-9)
    return iou, iou - (hull - union) / hull.clamp(min=1e-9)


def corners(box: Tensor) -> Tensor:
    """(..., 4) cxcywh -> (..., 4) x1, y1, x2, y2."""
    centre, half = box[..., :2], box[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def inside_crop(box: Tensor) -> Tensor:
    """The part of boxes that lies in the crop: (..., 4) cxcywh -> (..., 4) cxcywh in [0, 1]."""
    low, high = corners(box).clamp(0, 1).split(2, -1)
    return torch.cat([(low + high) / 2, high - low], -1)


def box_loss(
    outputs: dict[str, Tensor], box: Tensor, present: Tensor, config: LossConfig
) -> dict[str, Tensor]:
    """The authors' loss of a network that predicts one box (eq. 9): L1 of the corners, and GIoU.

    As in their code, the truth is the part of the box that lies in the crop. Absent targets are
    weighted with 0 and not taken out: picking rows would make a GPU wait for their number.

    Args:
        outputs: `box` (B, 4).
        box: (B, 4) ground truth.
        present: (B,) bool; pairs without the target do not count.
        config: Weights of the terms.
    """
    predicted, truth = outputs["box"].float(), inside_crop(box)
    share = present / present.sum().clamp(min=1)
    iou, giou = iou_and_giou(predicted, truth)
    l1 = ((corners(predicted) - corners(truth)).abs().mean(-1) * share).sum()
    giou_loss = ((1 - giou) * share).sum()
    total = config.giou * giou_loss + config.l1 * l1
    return {
        "total": total,
        "giou": giou_loss.detach(),
        "l1": l1.detach(),
        "iou": (iou * share).sum().detach(),
    }


def dense_loss(
    outputs: dict[str, Tensor], box: Tensor, present: Tensor, config: LossConfig
) -> dict[str, Tensor]:
    """Loss of a dense head: each cell's score learns the IoU of the cell's own box.

    Cells whose centre lies in the middle half of the target (at least the nearest cell) are
    positive; their boxes are fitted with GIoU and L1. The score's target is the IoU reached on
    positive cells and 0 elsewhere, weighted as in VarifocalNet (Zhang et al., CVPR 2021): positives
    by their IoU, negatives by the square of the score, so that confident mistakes (look-alikes)
    count most.

    Args:
        outputs: `logits` (B, H, W), `boxes` (B, 4, H, W).
        box: (B, 4) ground truth; ignored where `present` is False.
        present: (B,) bool.
        config: Weights of the terms.
    """
    logits, boxes = outputs["logits"], outputs["boxes"].permute(0, 2, 3, 1)
    positive = central_cells(box, logits.shape[1:]) & present[:, None, None]
    count = positive.sum().clamp(min=1)
    cells = positive.nonzero(as_tuple=True)  # once: a GPU has to wait for their number
    fitted, truth = boxes[cells], box[cells[0]]
    iou, giou = iou_and_giou(fitted, truth)
    target = torch.zeros_like(logits)
    target[cells] = iou.detach().clamp(0, 1)
    weight = torch.where(positive, target.clamp(min=0.1), 0.75 * logits.detach().sigmoid().square())
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    # Normalised by images beside positives: a batch of absent targets must not explode.
    score = (weight * bce).sum() / count.clamp(min=len(box))
    giou_loss = (1 - giou).sum() / count
    l1 = (fitted - truth).abs().sum() / (4 * count)
    total = config.score * score + config.giou * giou_loss + config.l1 * l1
    return {
        "total": total,
        "score": score.detach(),
        "giou": giou_loss.detach(),
        "l1": l1.detach(),
        "iou": (iou.sum() / count).detach(),
    }


def central_cells(box: Tensor, shape: torch.Size) -> Tensor:
    """Cells whose centre lies in the middle half of a box, and always the nearest one.

    Args:
        box: (B, 4) cxcywh.
        shape: H, W of the map.

    Returns:
        (B, H, W) bool. Boxes centred outside the map have no cell.
    """
    height, width = shape
    xs = (torch.arange(width, device=box.device) + 0.5) / width
    ys = (torch.arange(height, device=box.device) + 0.5) / height
    cx, cy, w, h = box.unbind(1)
    reach_x = torch.clamp(w / 4, min=0.5 / width)
    reach_y = torch.clamp(h / 4, min=0.5 / height)
    near_x = (xs[None] - cx[:, None]).abs() <= reach_x[:, None]
    near_y = (ys[None] - cy[:, None]).abs() <= reach_y[:, None]
    return near_y[:, :, None] & near_x[:, None, :]


def loss_for(spec: ModelSpec) -> LossFunction:
    """The loss that fits a model's head."""
    return dense_loss if spec.decoder == "dense" else box_loss
