# SPDX-License-Identifier: Apache-2.0
"""NanoTrack v3 as a teacher: a dense head learns what it says of the crops that are trained on.

Labels say which box is right and that every other place is wrong. A trained tracker says more: how
much each place resembles the target, and which box a place that is a little off should give
(knowledge distillation, Hinton et al., 2015; boxes bounded by the teacher: Chen et al., NeurIPS
2017).

The teacher is believed where it agrees with the truth only. Pairs in which its best box misses the
target, or in which it finds a target that is not there, teach nothing, and no box does that is
worse than the student's. On 416 pairs of the image pack, augmented by the project's recipe, the
teacher's best box has a mean IoU of 0.53 with the truth, that of the trained `asymtrack_lite0` 0.73
(which knows these pairs); without most of the augmentation 0.71 and 0.78.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vt_models.errors import InputError
from vt_models.nets.nanotrack import STRIDE, NanoTrack, load_nanotrack
from vt_models.registry import ModelSpec, get_spec
from vt_models.training.data.batches import Batch
from vt_models.training.losses.families import Truth, iou_and_giou
from vt_models.training.recipe.settings import LossConfig, Recipe

LEAST_IOU = 0.5
"""The teacher's best box must have this IoU with the truth to be believed."""
MOST_SCORE = 0.5
"""Where the target is absent the teacher is believed up to this score."""
PADDING = 32
"""Pixels around a search crop, which repeat its edge, so that the teacher knows targets there too.
On 416 training pairs of the image pack its best box has a mean IoU of 0.53 with the truth instead
of 0.43, with crops of 192 pixels 0.47 instead of 0.30; the crop's mean colour gives 0.51 and 0.46.
"""
CONFIDENT = 0.5
"""Cells in which the teacher's probability is higher teach their box."""
LEAST_CELLS = 4
"""The loss of a pair's scores is divided by this many cells at least."""


class TeacherMaps(NamedTuple):
    """What the teacher says of some pairs.

    Attributes:
        score: (B, M, M) the target's probability, from edge to edge of the search crop.
        boxes: (B, 4, M, M) cxcywh, fractions of the search crop.
    """

    score: Tensor
    boxes: Tensor


class Teacher:
    """Runs NanoTrack v3 on the crops of a batch.

    Args:
        net: The teacher; is merged and frozen, and moved to the device.
        spec: Of the model that learns.
        device: Where the batches are.
    """

    def __init__(self, net: NanoTrack, spec: ModelSpec, device: torch.device) -> None:
        net = net.eval().merge().requires_grad_(False)
        self._net = net.to(device, memory_format=torch.channels_last)
        self._mean = torch.tensor(spec.mean, device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(spec.std, device=device).view(1, 3, 1, 1) * 255

    @torch.no_grad()
    def __call__(self, batch: Batch) -> TeacherMaps:
        """Return the teacher's maps; runs in the caller's autocast."""
        template, search = (self._bgr(batch.inputs[name]) for name in ("template", "search"))
        logits, sides = self._net(template, F.pad(search, (PADDING,) * 4, mode="replicate"))
        # The outermost points lie outside the crop, the next ones on its edge.
        logits, sides = logits[:, :, 1:-1, 1:-1], sides[:, :, 1:-1, 1:-1]
        return TeacherMaps(logits.softmax(1)[:, 1], sides_to_boxes(sides, search.shape[-1]))

    def _bgr(self, crops: Tensor) -> Tensor:
        """Normalised RGB -> BGR, 0 to 255."""
        pixels = (crops * self._std + self._mean).flip(1)
        return pixels.contiguous(memory_format=torch.channels_last)


def load_teacher(file: Path | None, recipe: Recipe, device: torch.device) -> Teacher | None:
    """Load the teacher that a recipe asks for, None where it asks for none.

    Args:
        file: NanoTrack v3's `.safetensors`, what `--teacher-weights` says.
        recipe: Checked.
        device: Where to compute.

    Raises:
        InputError: The recipe asks for a teacher and there is no file, or the other way round.
        WeightsError: The file is not NanoTrack v3's.
    """
    if file is None:
        check_teacher(recipe, None)
        return None
    if recipe.loss.teacher == 0:
        raise InputError(
            f"--teacher-weights {file}: the recipe's `loss.teacher` is 0, nothing would be learned "
            "from it. Set loss.teacher, such as --set loss.teacher=1, or leave the option out."
        )
    return Teacher(load_nanotrack(file), get_spec(recipe.model), device)


def check_teacher(recipe: Recipe, teacher: Teacher | None) -> None:
    """Refuse a recipe that asks for a teacher where there is none.

    Raises:
        InputError: That is so.
    """
    if recipe.loss.teacher > 0 and teacher is None:
        raise InputError(
            f"The recipe's `loss.teacher` is {recipe.loss.teacher:g}: say where NanoTrack v3's "
            "weights are (--teacher-weights FILE.safetensors), or set loss.teacher=0."
        )


def sides_to_boxes(sides: Tensor, size: int) -> Tensor:
    """Distances from the teacher's points -> boxes.

    The points lie symmetrically around the crop's middle, 16 pixels apart: at -128 to 128 for a
    crop of 256 pixels.

    Args:
        sides: (B, 4, M, M) left, top, right, bottom in pixels.
        size: Side of the search crop in pixels.

    Returns:
        (B, 4, M, M) cxcywh, fractions of the crop.
    """
    count = sides.shape[-1]
    points = (torch.arange(count, device=sides.device) - (count - 1) / 2) * STRIDE + size / 2
    left, top, right, bottom = sides.unbind(1)
    cx = points[None, None, :] + (right - left) / 2
    cy = points[None, :, None] + (bottom - top) / 2
    return torch.stack([cx, cy, left + right, top + bottom], 1) / size


def agreement(maps: TeacherMaps, box: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the teacher is right.

    Args:
        maps: Of the teacher.
        box: (B, 4) cxcywh ground truth; ignored where `present` is False.
        present: (B,) bool.

    Returns:
        (B,) bool, whether it is right: its best box has an IoU of `LEAST_IOU` with the truth, or
        the target is absent and no score above `MOST_SCORE`. (B,) IoU of its best box, 0 where the
        target is absent.
    """
    highest, where = maps.score.flatten(1).max(1)
    best = maps.boxes.flatten(2).gather(2, where[:, None, None].expand(-1, 4, 1))[..., 0]
    iou = iou_and_giou(best, box)[0] * present
    return torch.where(present, iou >= LEAST_IOU, highest <= MOST_SCORE), iou


def teacher_loss(
    outputs: dict[str, Tensor],
    maps: TeacherMaps,
    truth: Truth,
    config: LossConfig,
    whole: Truth | None = None,
) -> dict[str, Tensor]:
    """Compute how far a dense head is from its teacher, in pairs in which that is right.

    The teacher's points lie where four of the head's cells (stride 8) meet, or at the edge of the
    crop. Scores are interpolated to the cells: each cell's is judged by the Kullback-Leibler
    divergence from the teacher's probability, weighted by the higher of both, so that what neither
    takes for the target hardly counts. Boxes are judged by GIoU and L1 from that of the nearest
    point, where the teacher is confident, weighted by its probability, and only where its box has a
    higher IoU with the truth than the student's: labels are the better teacher of boxes.

    Each pair's terms are divided by its own number of such cells, so that small targets count as
    large ones, and by counts of the truth of the whole step: parts of a batch add up.

    Args:
        outputs: `logits` (B, N, N), `boxes` (B, 4, N, N) of the student; N = 2 M - 2.
        maps: Of the teacher, M x M.
        truth: Of these pairs.
        config: Weights of the terms: `score`, `giou` and `l1` as in `dense_loss`, all times
            `teacher`.
        whole: The truth of all pairs of the step; None where these are all.

    Returns:
        `total`, to be added to the family's loss; and, detached, `teacher` (the same without its
        weight), `teacher_score`, `teacher_giou`, `teacher_l1`, `teacher_right` (share of the pairs
        in which it is believed), `teacher_better` (share of the present targets in whose cells its
        boxes are better than the student's), and `teacher_iou` with the truth, mean over present
        targets.
    """
    every = whole or truth
    pairs, targets = len(every.box), every.present.sum().clamp(min=1)
    logits = outputs["logits"].float()
    right, iou = agreement(maps, *truth)
    wanted = _to_cells(maps.score[:, None], "bilinear")[:, 0]

    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    least = -torch.xlogy(wanted, wanted) - torch.xlogy(1 - wanted, 1 - wanted)
    weight = torch.maximum(wanted, logits.detach().sigmoid())
    cells = wanted.sum((1, 2)).clamp(min=LEAST_CELLS)
    score = ((weight * (entropy - least)).sum((1, 2)) / cells * right).sum() / pairs

    sure = maps.score * (maps.score > CONFIDENT) * (right & truth.present)[:, None, None]
    sure = _to_cells(sure[:, None])[:, 0]
    share = sure / sure.sum((1, 2), keepdim=True).clamp(min=CONFIDENT) / targets
    found = outputs["boxes"].float().permute(0, 2, 3, 1)
    given = _to_cells(maps.boxes).permute(0, 2, 3, 1)
    goal = truth.box[:, None, None]
    better = iou_and_giou(given, goal)[0] > iou_and_giou(found.detach(), goal)[0]
    share = share * better
    # Elsewhere the student's box takes the teacher's place: no loss, no gradient.
    given = torch.where(share[..., None] > 0, given, found.detach())
    giou = ((1 - iou_and_giou(found, given)[1]) * share).sum()
    l1 = ((found - given).abs().sum(-1) * share).sum() / 4

    total = config.score * score + config.giou * giou + config.l1 * l1
    terms = {"": total, "_score": score, "_giou": giou, "_l1": l1}
    terms |= {"_right": right.sum() / pairs, "_better": share.sum(), "_iou": iou.sum() / targets}
    logged = {f"teacher{name}": term.detach() for name, term in terms.items()}
    return {"total": config.teacher * total, **logged}


def _to_cells(values: Tensor, mode: str = "nearest") -> Tensor:
    """(B, C, M, M) at the teacher's points -> (B, C, 2 M - 2, 2 M - 2) at the student's cells."""
    return F.interpolate(values, scale_factor=2.0, mode=mode)[:, :, 1:-1, 1:-1]
