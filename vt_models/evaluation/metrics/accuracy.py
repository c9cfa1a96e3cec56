# SPDX-License-Identifier: Apache-2.0
"""Accuracy of predicted boxes against ground truth: pure functions on arrays.

Boxes are (N, 4) arrays x, y, w, h in pixels of the image. A prediction that is not finite, or has
no area, overlaps nothing and is infinitely far from every target, so it counts as a miss
everywhere. The functions expect frames in which the target is present; `score_sequence` leaves
out the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import DatasetError, InputError
from vt_models.geometry.boxes import iou

FloatArray = NDArray[np.float64]

SUCCESS_THRESHOLDS: FloatArray = np.arange(21) / 20
NORM_PRECISION_THRESHOLDS: FloatArray = np.arange(51) / 100
PRECISION_THRESHOLD_PX = 20.0
DRAWS_AT_ONCE = 1 << 22
"""Of `bootstrap_interval`: 32 MiB of indices, and as much of values."""


@dataclass(frozen=True)
class Accuracy:
    """Metrics of one run over one sequence, or their mean; fractions in [0, 1].

    Attributes:
        ao: average overlap, the mean IoU (GOT-10k).
        sr50, sr75: success rate, the fraction of frames with IoU > 0.50 and > 0.75 (GOT-10k).
        auc: area under the success curve, see `success_auc` (OTB, LaSOT).
        precision: fraction of frames with a centre error <= 20 px (OTB, LaSOT).
        norm_precision: area under the normalised precision curve, see `norm_precision_auc`.
    """

    ao: float
    sr50: float
    sr75: float
    auc: float
    precision: float
    norm_precision: float


def success_curve(overlaps: FloatArray, thresholds: FloatArray = SUCCESS_THRESHOLDS) -> FloatArray:
    """Fraction of frames whose IoU is above each threshold.

    Args:
        overlaps: (N,) IoU in [0, 1].
        thresholds: (T,).

    Returns:
        (T,) fractions, not increasing. The comparison is strict, as in the OTB and LaSOT toolkits:
        even a perfect tracker has 0 at the threshold 1.
    """
    return np.asarray(np.mean(overlaps[:, None] > thresholds, axis=0), np.float64)


def success_auc(overlaps: FloatArray) -> float:
    """Area under the success curve: its mean over the 21 thresholds 0, 0.05 ... 1 (OTB, LaSOT).

    Because the comparison is strict a perfect tracker reaches 20/21.
    """
    return float(np.mean(success_curve(overlaps)))


def centre_errors(predicted: FloatArray, truth: FloatArray) -> FloatArray:
    """Distance between the centres of (N, 4) boxes, (N,) pixels; inf for an unusable prediction."""
    return _distances(predicted, truth, np.float64(1))


def norm_centre_errors(predicted: FloatArray, truth: FloatArray) -> FloatArray:
    """Centre errors in units of the target's size: x over its width, y over its height.

    TrackingNet (Mueller et al. 2018), equation 2; LaSOT uses the same.

    Returns:
        (N,), inf for an unusable prediction.
    """
    return _distances(predicted, truth, truth[:, 2:])


def precision_rate(errors: FloatArray, threshold: float = PRECISION_THRESHOLD_PX) -> float:
    """Fraction of (N,) centre errors in pixels that are at most `threshold` (OTB, LaSOT: 20 px)."""
    return float(np.mean(errors <= threshold))


def norm_precision_auc(norm_errors: FloatArray) -> float:
    """Area under the normalised precision curve: mean over the thresholds 0, 0.01 ... 0.5.

    The area is what TrackingNet and LaSOT rank by. It is not the precision at 0.2 that some
    toolkits print under the same name.

    Args:
        norm_errors: (N,), from `norm_centre_errors`.
    """
    return float(np.mean(norm_errors[:, None] <= NORM_PRECISION_THRESHOLDS))


def score_sequence(predicted: FloatArray, truth: FloatArray) -> Accuracy:
    """Score one run over one sequence.

    Frames in which the target is absent are left out. The first frame, where the tracker is given
    the box, is left out of AO, SR0.50 and SR0.75, as in the GOT-10k toolkit; it counts in the
    success, precision and normalised precision, as in those of OTB and LaSOT.

    Args:
        predicted: (N, 4) boxes, the first one the box given to the tracker.
        truth: (N, 4) boxes, rows of nan where the target is absent.

    Raises:
        InputError: shapes differ or are not (N, 4).
        DatasetError: no frame after the first shows the target.
    """
    if predicted.shape != truth.shape or truth.shape[1:] != (4,):
        raise InputError(
            f"predicted {predicted.shape} and true {truth.shape} boxes; expected (N, 4) for both"
        )
    present = np.all(np.isfinite(truth), axis=1)
    if not present[1:].any():
        raise DatasetError("the target is in no frame after the first; there is nothing to score")
    overlaps = np.asarray(iou(predicted, truth), np.float64)
    tracked = overlaps[1:][present[1:]]
    predicted, truth = predicted[present], truth[present]
    return Accuracy(
        ao=float(np.mean(tracked)),
        sr50=float(np.mean(tracked > 0.5)),
        sr75=float(np.mean(tracked > 0.75)),
        auc=success_auc(overlaps[present]),
        precision=precision_rate(centre_errors(predicted, truth)),
        norm_precision=norm_precision_auc(norm_centre_errors(predicted, truth)),
    )


def mean_accuracy(accuracies: Iterable[Accuracy]) -> Accuracy:
    """Mean over sequences, each with the same weight however long it is.

    Raises:
        InputError: no sequence.
    """
    runs = list(accuracies)
    if not runs:
        raise InputError("no sequence to average over")
    names = [field.name for field in fields(Accuracy)]
    return Accuracy(
        **{name: float(np.mean([getattr(run, name) for run in runs])) for name in names}
    )


def bootstrap_interval(
    values: Sequence[float] | FloatArray,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of the mean over videos: the percentile bootstrap (Efron 1979).

    The videos are drawn anew with replacement, as many as there are; the interval holds the middle
    `confidence` of the means. It says how much of a number is due to the choice of videos, and
    nothing about kinds of videos that are not among them. With fewer than about ten videos it is
    narrower than its confidence promises.

    Args:
        values: (N,) one number a video, such as its AO, or its difference between two trackers;
            their order does not matter.
        confidence: share of the means inside, in (0, 1).
        resamples: how many times the videos are drawn.
        seed: of the draws; the same one gives the same interval.

    Returns:
        Low and high end, within the least and the largest of `values`; (nan, nan) for fewer than
        two videos, which cannot say how much videos differ.

    Raises:
        InputError: values that are not (N,) finite numbers, or another argument out of range.
    """
    ordered = np.sort(np.asarray(values, np.float64), axis=-1)
    if ordered.ndim != 1 or not np.isfinite(ordered).all():
        raise InputError(
            f"values of shape {ordered.shape}, {np.count_nonzero(~np.isfinite(ordered))} of them "
            "not finite; expected (N,) finite numbers, one a video"
        )
    if not 0.0 < confidence < 1.0:
        raise InputError(f"confidence is {confidence}; expected above 0 and below 1, such as 0.95")
    if resamples < 1:
        raise InputError(f"resamples is {resamples}; expected 1 or more, such as 10000")
    count = len(ordered)
    if count < 2:
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    block = max(1, DRAWS_AT_ONCE // count)
    means = []
    for done in range(0, resamples, block):
        draws = generator.integers(0, count, (min(block, resamples - done), count))
        means.append(ordered[draws].mean(axis=1))
    tail = (1.0 - confidence) / 2.0
    # A mean of equal numbers may differ from them by a rounding error.
    low, high = np.clip(
        np.quantile(np.concatenate(means), (tail, 1.0 - tail)), ordered[0], ordered[-1]
    )
    return float(low), float(high)


def interval_or_none(values: Sequence[float] | FloatArray) -> list[float] | None:
    """`bootstrap_interval` as JSON has it: [low, high], None for fewer than two videos."""
    return list(bootstrap_interval(values)) if len(values) > 1 else None


def _distances(
    predicted: FloatArray, truth: FloatArray, unit: FloatArray | np.float64
) -> FloatArray:
    usable = np.isfinite(predicted).all(axis=1) & (predicted[:, 2:] > 0).all(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        centres = predicted[:, :2] + predicted[:, 2:] / 2
        # Both centres first, so that the error of equal boxes is exactly 0.
        dx, dy = ((centres - (truth[:, :2] + truth[:, 2:] / 2)) / unit).T
        return np.where(usable, np.hypot(dx, dy), np.inf)
