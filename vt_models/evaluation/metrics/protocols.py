# SPDX-License-Identifier: Apache-2.0
"""Scores as the benchmarks' own toolkits compute them, each with its own conventions.

`metrics.score_sequence` is one set of rules for all data; here the same boxes get the numbers that
OTB, LaSOT, TrackingNet, GOT-10k and VOT-LT publish, to compare with their tables. The differences
are in docs/evaluation.md. Every function takes all runs of a tracker and returns {"total": {...},
"sequences": {name: {...}}}, fractions in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.evaluation.metrics.accuracy import (
    PRECISION_THRESHOLD_PX,
    centre_errors,
    norm_centre_errors,
    norm_precision_auc,
    precision_rate,
    success_auc,
    success_curve,
)
from vt_models.evaluation.metrics.box_runs import BoxRun, Numbers, Scores, check_runs
from vt_models.evaluation.metrics.vot_longterm import votlt
from vt_models.geometry.boxes import iou

Array: TypeAlias = NDArray[np.float64]

NORM_PRECISION_POINT = 0.2
TRACKINGNET_STEPS = 21


def otb(runs: Sequence[BoxRun]) -> Scores:
    """OTB, UAV123 and NFS: one pass, the first frame counts, absent frames do not.

    `success` is the mean of the success curve over 21 thresholds, `precision` the share of centre
    errors <= 20 px, `success_50` the share of IoU > 0.5. Totals are means over sequences. Wu et
    al., "Object tracking benchmark", TPAMI 2015; the got10k package computes the same.
    """
    return _mean_over_sequences(runs, _otb)


def lasot(runs: Sequence[BoxRun]) -> Scores:
    """LaSOT: as OTB, with two rules of its evaluation toolkit.

    Every frame counts, so one in which the target is absent is a miss whatever was said; a
    prediction that is not finite or has no area is replaced by the one before it. The first box is
    the one that the run began with: the true one, unless a sentence led to it.
    `norm_precision` is the area up to 0.5, by which the paper ranks, and `norm_precision_20` the
    value at 0.2, which many papers print. Fan et al., "LaSOT", CVPR 2019.
    """
    return _mean_over_sequences(runs, _lasot)


def trackingnet(runs: Sequence[BoxRun]) -> Scores:
    """TrackingNet: boxes rounded to whole pixels, areas by the trapezoidal rule over 21 thresholds.

    `success` over IoU 0 to 1, `precision` over 0 to 50 px, `norm_precision` over 0 to 0.5 of the
    target's size; `precision_20` is the value at 20 px, which the paper defines. Mueller et al.,
    "TrackingNet", ECCV 2018, and the metrics.py its server runs.
    """
    return _mean_over_sequences(runs, _trackingnet)


def got10k(runs: Sequence[BoxRun]) -> Scores:
    """GOT-10k: AO, SR0.50, SR0.75 without the first and the absent frames, clipped to the image.

    The total is over the frames of all sequences together, so that a long one weighs more. Huang et
    al., "GOT-10k", TPAMI 2021, and the got10k package.

    Raises:
        InputError: no run, or the target is in no frame after the first.
    """
    check_runs(runs)
    overlaps = {run.name: _got10k_overlaps(run) for run in runs}
    sequences = {name: _got10k(values) for name, values in overlaps.items()}
    return {"total": _got10k(np.concatenate(list(overlaps.values()))), "sequences": sequences}


PROTOCOLS: dict[str, Callable[[Sequence[BoxRun]], Scores]] = {
    "otb": otb,
    "lasot": lasot,
    "trackingnet": trackingnet,
    "got10k": got10k,
    "vot-lt": votlt,
}


def _mean_over_sequences(runs: Sequence[BoxRun], score: Callable[[BoxRun], Numbers]) -> Scores:
    check_runs(runs)
    sequences = {run.name: score(run) for run in runs}
    names = next(iter(sequences.values()))
    total = {name: float(np.mean([one[name] for one in sequences.values()])) for name in names}
    return {"total": total, "sequences": sequences}


def _otb(run: BoxRun) -> Numbers:
    present = np.isfinite(run.truth).all(axis=1)
    predicted, truth = run.predicted[present], run.truth[present]
    overlaps = np.asarray(iou(predicted, truth), np.float64)
    return {
        "success": success_auc(overlaps),
        "success_50": float(np.mean(overlaps > 0.5)),
        "precision": precision_rate(centre_errors(predicted, truth)),
    }


def _lasot(run: BoxRun) -> Numbers:
    usable = np.isfinite(run.predicted).all(axis=1) & (run.predicted[:, 2:] > 0).all(axis=1)
    last = np.maximum.accumulate(np.where(usable, np.arange(len(run.predicted)), 0))
    predicted = run.predicted[last]  # where a box is not usable, the last one before it
    present = np.isfinite(run.truth).all(axis=1)
    overlaps = np.where(present, iou(predicted, run.truth), -1.0)
    errors = np.where(present, centre_errors(predicted, run.truth), np.inf)
    norm_errors = np.where(present, norm_centre_errors(predicted, run.truth), np.inf)
    return {
        "success": float(np.mean(success_curve(overlaps))),
        "precision": precision_rate(errors),
        "norm_precision": norm_precision_auc(norm_errors),
        "norm_precision_20": float(np.mean(norm_errors <= NORM_PRECISION_POINT)),
    }


def _trackingnet(run: BoxRun) -> Numbers:
    present = np.isfinite(run.truth).all(axis=1)
    predicted, truth = np.round(run.predicted), np.round(run.truth)
    predicted, truth = predicted[present], truth[present]
    overlaps = np.asarray(iou(predicted, truth), np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        offsets = predicted[:, :2] + predicted[:, 2:] / 2 - truth[:, :2] - truth[:, 2:] / 2
        errors = np.hypot(*offsets.T)
        norm_errors = np.hypot(*(offsets / truth[:, 2:]).T)
    steps = np.linspace(0.0, 1.0, TRACKINGNET_STEPS)
    return {
        "success": _area(overlaps[:, None] > steps),
        "precision": _area(errors[:, None] <= 50.0 * steps),
        "precision_20": float(np.mean(errors <= PRECISION_THRESHOLD_PX)),
        "norm_precision": _area(norm_errors[:, None] <= 0.5 * steps),
    }


def _area(hits: NDArray[np.bool_]) -> float:
    """Area by the trapezoidal rule under the mean of (N, T) over N; the axis has the length 1."""
    curve = hits.mean(axis=0)
    return float((curve[1:] + curve[:-1]).sum() / (2 * (len(curve) - 1)))


def _got10k_overlaps(run: BoxRun) -> Array:
    present: NDArray[np.bool_] = np.asarray(np.isfinite(run.truth).all(axis=1))
    present[0] = False
    if not present.any():
        raise InputError(f"{run.name}: the target is in no frame after the first")
    predicted, truth = run.predicted[present], run.truth[present]
    if run.size is not None:
        predicted, truth = _bounded(predicted, run.size), _bounded(truth, run.size)
    return np.asarray(iou(predicted, truth), np.float64)


def _bounded(boxes: Array, size: tuple[int, int]) -> Array:
    """Clip as the toolkit: corner into the image, then the size to what is right and below of it.

    A box that begins left of the image is moved into it, not cut.
    """
    corner = np.clip(boxes[:, :2], 0.0, size)
    return np.hstack((corner, np.clip(boxes[:, 2:], 0.0, np.asarray(size) - corner)))


def _got10k(overlaps: Array) -> Numbers:
    return {
        "ao": float(np.mean(overlaps)),
        "sr50": float(np.mean(overlaps > 0.5)),
        "sr75": float(np.mean(overlaps > 0.75)),
    }
