# SPDX-License-Identifier: Apache-2.0
"""Losses, one a family. Boxes are cx, cy, w, h as fractions of the search crop.

Each takes the outputs of the network's training pass, the truth and the weights of the terms, and
returns `total` and, detached, the single terms and `iou`.

Every term is a sum over pairs divided by a count over all pairs of the step. Those may be more than
the pairs at hand (`whole`): the parts of a batch, on one device after the other or in one process
each, then add up to the numbers of the whole batch. Nothing here makes a GPU wait: what does not
count is weighted with 0, because picking it out would need its number first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from vt_models.nets.centre_head import box_at_peak
from vt_models.registry import ModelSpec
from vt_models.training.losses.alignment import alignment_loss
from vt_models.training.losses.cells import (
    cells_beginning_inside,
    central_cells,
    centre_heat,
    centred_inside,
    corners,
)
from vt_models.training.recipe.settings import LossConfig

Outputs: TypeAlias = dict[str, Tensor]


class Truth(NamedTuple):
    """The answers to some pairs.

    Attributes:
        box: (B, 4) cxcywh, fractions of the search crop.
        present: (B,) bool, whether the target is in the search crop.
    """

    box: Tensor
    present: Tensor


LossFunction: TypeAlias = Callable[[Outputs, Truth, LossConfig, Truth | None], Outputs]
"""The loss of a family; see the functions below."""


def iou_and_giou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the overlap of boxes, and its generalised form (Rezatofighi et al., CVPR 2019).

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


def inside_crop(box: Tensor) -> Tensor:
    """Clip boxes at the crop: (..., 4) cxcywh -> (..., 4) cxcywh in [0, 1]."""
    low, high = corners(box).clamp(0, 1).split(2, -1)
    return torch.cat([(low + high) / 2, high - low], -1)


def box_loss(
    outputs: Outputs, truth: Truth, config: LossConfig, whole: Truth | None = None
) -> Outputs:
    """Compute the published loss of a network that predicts one box (eq. 9): L1 and GIoU.

    As in their code, the truth is the part of the box that lies in the crop. Where `config.corner`
    is not 0, `corner_loss` is added.

    Args:
        outputs: `box` (B, 4), and for `config.corner` `score_tl` and `score_br` (B, N, N).
        truth: The answers; pairs without the target do not count.
        config: Weights of the terms.
        whole: The answers of all pairs of the step; None where these are all.
    """
    every = whole or truth
    predicted, box = outputs["box"].float(), inside_crop(truth.box)
    share = truth.present / every.present.sum().clamp(min=1)
    iou, giou = iou_and_giou(predicted, box)
    l1 = ((corners(predicted) - corners(box)).abs().mean(-1) * share).sum()
    giou_loss = ((1 - giou) * share).sum()
    terms = {"giou": giou_loss, "l1": l1, "iou": (iou * share).sum()}
    total = config.giou * giou_loss + config.l1 * l1
    if config.corner > 0:
        maps = torch.stack([outputs["score_tl"], outputs["score_br"]], dim=1).float()
        terms["corner"] = (corner_loss(maps, box) * share).sum()
        total = total + config.corner * terms["corner"]
    return _terms(total, **terms)


def corner_loss(maps: Tensor, box: Tensor) -> Tensor:
    """Compute how far the maps of a corner head are from what says where the corners are.

    A soft-argmax over a flat map gets little gradient from its box, and any spread of the right
    mean will do. Here rows and columns of each map, summed up, learn the two cells around the
    corner, by how near it is to each (distribution focal loss without its weights, Li et al.,
    NeurIPS 2020).

    Args:
        maps: (B, 2, N, N) logits of the top-left and the bottom-right corner.
        box: (B, 4) cxcywh, fractions of the crop.

    Returns:
        (B,) cross entropy minus the least possible, mean over corners and axes.
    """
    cells = maps.shape[-1]
    place = (torch.stack(corners(box).split(2, -1), 1) * cells).clamp(0, cells - 1)
    near = 1 - (torch.arange(cells, device=maps.device) - place[..., None]).abs()
    wanted = near.clamp(min=0)  # (B, corner, axis, cell)
    flat = torch.log_softmax(maps.flatten(2), dim=-1).unflatten(2, maps.shape[2:])
    found = torch.stack([flat.logsumexp(2), flat.logsumexp(3)], dim=2)
    return (torch.xlogy(wanted, wanted) - wanted * found).sum(-1).mean((1, 2))


def stark_loss(
    outputs: Outputs, truth: Truth, config: LossConfig, whole: Truth | None = None
) -> Outputs:
    """Compute STARK's loss: `box_loss`, and the cross entropy of ST's score head (stage 2).

    Args:
        outputs: `box` (B, 4); `logit` (B,) of the target's presence where `config.presence` is
            not 0.
        truth, config, whole: See `box_loss`.
    """
    terms = box_loss(outputs, truth, config, whole)
    if config.presence == 0:
        return terms
    logit, pairs = outputs["logit"].float(), len((whole or truth).box)
    entropy = F.binary_cross_entropy_with_logits(logit, truth.present.float(), reduction="sum")
    presence = entropy / pairs
    right = ((logit > 0) == truth.present).float().sum() / pairs
    total = terms["total"] + config.presence * presence
    return {**terms, "total": total, "presence": presence.detach(), "right": right}


def centre_loss(
    outputs: Outputs, truth: Truth, config: LossConfig, whole: Truth | None = None
) -> Outputs:
    """Compute OSTrack's loss of a centre head (ProContEXT, PJVLT): focal, L1 and GIoU.

    The box that is judged is that of the cell with the highest score, as in the authors' code, or
    with `config.box_cell` "target" of the cell with the highest score where the target is. For
    absent targets, which they do not have, every score is to be low. Where `config.alignment` is
    not 0, `alignment_loss` is added.

    Args:
        outputs: `score_map` (B, H, W) in (0, 1), `box_map` (B, 4, H, W).
        truth, config, whole: See `box_loss`.
    """
    every = whole or truth
    scores = outputs["score_map"].float()
    heat = centre_heat(truth.box, scores.shape[1:]) * truth.present[:, None, None]
    centres = centred_inside(every.box, scores.shape[1:]) & every.present
    score = focal_loss(scores, heat, centres.sum())
    judging = scores
    if config.box_cell == "target":  # in images without a target every cell
        warm = heat > 0
        anywhere = ~warm.flatten(1).any(1)[:, None, None]
        judging = torch.where(warm | anywhere, scores, -1.0)
    peak = {"box": box_at_peak(judging, outputs["box_map"].float())}
    terms = box_loss(peak, truth, config, whole)
    total = terms["total"] + config.score * score
    if config.alignment > 0:
        aligned = alignment_loss(outputs, *truth) / len(every.box)
        total = total + config.alignment * aligned
        terms["alignment"] = aligned.detach()
    return {**terms, "total": total, "score": score.detach()}


def focal_loss(scores: Tensor, heat: Tensor, centres: Tensor | None = None) -> Tensor:
    """Compute CenterNet's focal loss, alpha 2, beta 4 (Zhou et al., "Objects as Points", eq. 1).

    Args:
        scores: (B, H, W) in (0, 1).
        heat: (B, H, W) in [0, 1], 1 at the centres.
        centres: () how many centres the step has; None for those of `heat`.

    Returns:
        The sum over cells for each centre; for a batch without any, the sum.
    """
    scores = scores.clamp(1e-12, 1 - 1e-7)
    positive = heat == 1
    found = torch.log(scores) * (1 - scores) ** 2
    quiet = torch.log1p(-scores) * scores**2 * (1 - heat) ** 4
    count = positive.sum() if centres is None else centres
    return -torch.where(positive, found, quiet).sum() / count.clamp(min=1)


def sbt_loss(
    outputs: Outputs, truth: Truth, config: LossConfig, whole: Truth | None = None
) -> Outputs:
    """Compute SBT's loss (that of TransT): cells that begin inside the target are positive.

    L1 is the sum over cx, cy, w, h and both box terms are means over positive cells; the cross
    entropy is the mean over cells, weighted by class.

    Args:
        outputs: `logits` (B, 2, H, W) foreground and background, `boxes` (B, 4, H, W).
        truth, config, whole: See `box_loss`.
    """
    every = whole or truth
    logits, boxes = outputs["logits"].float(), outputs["boxes"].float()
    shape = logits.shape[2:]
    positive = cells_beginning_inside(truth.box, shape) & truth.present[:, None, None]
    found = (cells_beginning_inside(every.box, shape) & every.present[:, None, None]).sum()
    weight = torch.where(positive, 1.0, config.background)
    cells = len(every.box) * shape.numel()
    entropy = F.cross_entropy(logits, (~positive).long(), reduction="none")
    score = (entropy * weight).sum() / (found + config.background * (cells - found))
    fit = _fit(boxes, truth.box, positive)
    l1, giou, iou = (values.sum() / found.clamp(min=1) for values in fit)
    total = config.score * score + config.l1 * l1 + config.giou * giou
    return _terms(total, score=score, giou=giou, l1=l1, iou=iou)


def _fit(boxes: Tensor, box: Tensor, positive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute how well the boxes of positive cells fit.

    Args:
        boxes: (B, 4, H, W) predicted cxcywh.
        box: (B, 4) ground truth.
        positive: (B, H, W) bool.

    Returns:
        L1 summed over cx, cy, w, h; 1 - GIoU; IoU. Each (B, H, W), 0 where not positive.
    """
    truth = box[:, None, None].expand(*positive.shape, 4)
    # Elsewhere the truth takes the prediction's place: no loss, no gradient, whatever it is.
    fitted = torch.where(positive[..., None], boxes.permute(0, 2, 3, 1), truth)
    iou, giou = iou_and_giou(fitted, truth)
    return (fitted - truth).abs().sum(-1), (1 - giou) * positive, iou * positive


def _terms(total: Tensor, **single: Tensor) -> dict[str, Tensor]:
    return {"total": total} | {name: value.detach() for name, value in single.items()}


def dense_loss(
    outputs: Outputs, truth: Truth, config: LossConfig, whole: Truth | None = None
) -> Outputs:
    """Compute the loss of a dense head: each cell's score learns the IoU of the cell's own box.

    Cells whose centre lies in the middle half of the target (at least the nearest cell) are
    positive; their boxes are fitted with GIoU and L1. The score's target is the IoU reached on
    positive cells and 0 elsewhere, weighted as in VarifocalNet (Zhang et al., CVPR 2021): positives
    by their IoU, negatives by the square of the score, so that confident mistakes (look-alikes)
    count most.

    Args:
        outputs: `logits` (B, H, W), `boxes` (B, 4, H, W).
        truth, config, whole: See `box_loss`.
    """
    every = whole or truth
    logits, boxes = outputs["logits"], outputs["boxes"]
    shape = logits.shape[1:]
    positive = central_cells(truth.box, shape) & truth.present[:, None, None]
    count = (central_cells(every.box, shape) & every.present[:, None, None]).sum().clamp(min=1)
    fit = _fit(boxes, truth.box, positive)
    l1, giou, iou = (values.sum() / count for values in fit)
    target = fit[2].detach().clamp(0, 1).to(logits.dtype)
    weight = torch.where(positive, target.clamp(min=0.1), 0.75 * logits.detach().sigmoid().square())
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    # Normalised by images beside positives: a batch of absent targets must not explode.
    score = (weight * bce).sum() / count.clamp(min=len(every.box))
    total = config.score * score + config.giou * giou + config.l1 * l1 / 4
    return _terms(total, score=score, giou=giou, l1=l1 / 4, iou=iou)


_BY_FAMILY: dict[str, LossFunction] = {
    "asymtrack": box_loss,
    "asymtrack_lite": dense_loss,
    "procontext": centre_loss,
    "pjvlt": centre_loss,
    "stark": stark_loss,
    "sbt": sbt_loss,
}


def loss_for(spec: ModelSpec) -> LossFunction:
    """Return the loss of a model's family."""
    return _BY_FAMILY[spec.family]
