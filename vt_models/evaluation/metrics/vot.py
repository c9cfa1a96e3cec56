# SPDX-License-Identifier: Apache-2.0
"""VOT short-term scores of runs from anchors, as since 2020.

Kristan et al., "The eighth visual object tracking VOT2020 challenge results", section 2, and
vot-toolkit, whose numbers these are on the same boxes. Overlaps are those of pixels: a box is
rounded to whole ones and cut at the image's edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.evaluation.runs.vot_runs import AnchorRun, AnchorRuns

Array: TypeAlias = NDArray[np.float64]
Scores: TypeAlias = dict[str, "dict[str, float] | dict[str, dict[str, float]]"]

FAILURE_OVERLAP = 0.1
GRACE = 10
EAO_RANGE = (115, 755)
"""Lengths in frames over which VOT-ST2020 to 2022 average the curve."""


def anchored_scores(
    results: Sequence[AnchorRuns], eao_range: tuple[int, int] = EAO_RANGE
) -> Scores:
    """Accuracy, robustness and EAO of runs from anchors.

    A run has failed where the overlap stays <= 0.1 for 10 frames with a target; what comes after
    counts as 0. Accuracy: mean overlap before the failure, over all frames before failures.
    Robustness: their share of all frames, sequences weighted by their length. EAO: mean of the
    curve (`anchored_curve`) over the lengths `eao_range`, without the last, as in vot-toolkit.

    Returns:
        {"total": {"eao", "accuracy", "robustness"}, "sequences": {name: the last two}}.

    Raises:
        InputError: no result, or a sequence without a run.
    """
    if not results:
        raise InputError("no run to score")
    low, high = eao_range
    if not 0 < low < high:
        raise InputError(f"EAO over the lengths {low} to {high}; expected 0 < first < last")
    empty = [result.name for result in results if not result.runs]
    if empty:
        raise InputError(f"no run from an anchor in {', '.join(empty)}")
    sequences: dict[str, dict[str, float]] = {}
    kept_frames, overlap_sum, weighted, lengths = 0, 0.0, 0.0, 0
    for result in results:
        judged = [_judge(run, result) for run in result.runs]
        kept = sum(progress for _, progress in judged)
        overlap = sum(float(overlaps[:progress].sum()) for overlaps, progress in judged)
        share = kept / sum(len(overlaps) for overlaps, _ in judged)
        accuracy = overlap / kept if kept else 0.0
        sequences[result.name] = {"accuracy": accuracy, "robustness": share}
        kept_frames, overlap_sum = kept_frames + kept, overlap_sum + overlap
        weighted, lengths = weighted + share * len(result.truth), lengths + len(result.truth)
    curve = anchored_curve(results, high)
    total = {
        "eao": float(np.mean(curve[low : high + 1])),
        "accuracy": overlap_sum / kept_frames if kept_frames else 0.0,
        "robustness": weighted / lengths,
    }
    return {"total": total, "sequences": sequences}


def anchored_curve(results: Sequence[AnchorRuns], length: int) -> Array:
    """(length,) expected average overlap of runs of j frames after the start, j = 0 ... length - 1.

    At j count the runs that are longer than j, with their mean overlap in frames 1 ... j, and the
    shorter ones that failed, continued by zeros. Among j - 1 frames there, as in vot-toolkit.
    """
    total, active = np.zeros(length), np.zeros(length)
    steps = np.arange(1, length)
    for result in results:
        for run in result.runs:
            overlaps, progress = _judge(run, result)
            count = len(overlaps)
            overlaps = np.where(np.arange(count) < progress, overlaps, 0.0)
            sums = np.concatenate((np.cumsum(overlaps[1:]), np.zeros(max(length - count, 0))))
            reached = steps < count
            means = sums[: length - 1] / steps
            if progress < count:
                means = np.where(reached, means, overlaps[1:].sum() / np.maximum(steps - 1, 1))
                reached = np.ones_like(reached)
            total[1:] += np.where(reached, means, 0.0)
            active[1:] += reached
    return np.divide(total, active, out=np.zeros(length), where=active > 0)


def pixel_overlaps(predicted: Array, truth: Array, size: tuple[int, int]) -> Array:
    """IoU of the pixels that two boxes cover inside an image.

    Args:
        predicted, truth: (N, 4) x, y, w, h; a row with nan is an empty region.
        size: width and height of the image.

    Returns:
        (N,) in [0, 1]. 1 where both regions are empty, as in vot-toolkit; 0 where a box covers no
        pixel. Boxes in one row or column of pixels overlap like others: the toolkit takes any two
        of them for equal.
    """
    image = (0, 0, size[0] - 1, size[1] - 1)
    first, second = _cut(_corners(predicted), image), _cut(_corners(truth), image)
    inter = _pixels(_cut(first, second))
    union = _pixels(first) + _pixels(second) - inter
    overlaps = np.divide(inter, union, out=np.zeros(len(union)), where=union > 0)
    return np.where(is_box(predicted) | is_box(truth), overlaps, 1.0)


def is_box(boxes: Array) -> NDArray[np.bool_]:
    """(N,) rows of (N, 4) that are a region."""
    return np.asarray(np.isfinite(boxes).all(axis=1), np.bool_)


def _corners(boxes: Array) -> Array:
    """First and last pixel of the rounded boxes, (N, 4) x1, y1, x2, y2; x2 < x1 where empty."""
    whole = np.round(np.where(is_box(boxes)[:, None], boxes, 0.0))
    return np.hstack((whole[:, :2], whole[:, :2] + whole[:, 2:] - 1.0))


def _cut(corners: Array, area: Array | tuple[int, ...]) -> Array:
    bounds = np.broadcast_to(np.asarray(area, np.float64), corners.shape)
    first = np.maximum(corners[:, :2], bounds[:, :2])
    return np.hstack((first, np.minimum(corners[:, 2:], bounds[:, 2:])))


def _pixels(corners: Array) -> Array:
    return np.maximum(corners[:, 2:] - corners[:, :2] + 1.0, 0.0).prod(axis=1)


def _judge(run: AnchorRun, result: AnchorRuns) -> tuple[Array, int]:
    """Overlaps of a run, 0 in its first frame, and the number of frames before its failure."""
    step = 1 if run.forward else -1
    truth = result.truth[run.anchor :: step]
    given = run.boxes.copy()
    given[0] = np.nan
    overlaps = pixel_overlaps(given, truth, result.size)
    is_bad = (overlaps <= FAILURE_OVERLAP) & np.isfinite(truth).all(axis=1)
    in_a_row = 0
    for index, bad in enumerate(is_bad):
        in_a_row = in_a_row + 1 if bad else 0
        if in_a_row == GRACE:
            return overlaps, index + 1 - GRACE
    return overlaps, len(overlaps)
