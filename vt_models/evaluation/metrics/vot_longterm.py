# SPDX-License-Identifier: Apache-2.0
"""VOT long-term: precision, recall and F-score over the tracker's own confidence.

Lukezic et al., "Now you see me: evaluating performance in long-term visual tracking", 2018, and
vot-toolkit, whose numbers these are on the same boxes and confidences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.evaluation.metrics.box_runs import BoxRun, Scores, check_runs
from vt_models.evaluation.metrics.vot import is_box, pixel_overlaps

Array: TypeAlias = NDArray[np.float64]

RESOLUTION = 100
"""Number of thresholds."""


def votlt(runs: Sequence[BoxRun]) -> Scores:
    """Precision, recall and F-score at the threshold with the largest F-score.

    A box counts from a confidence threshold on. Precision: mean overlap over the frames with such a
    box (0 where the target is absent), 1 if there is none. Recall: sum of those overlaps over the
    number of frames with a target. Both are means over sequences; the thresholds are quantiles of
    all confidences. The given first frame has no confidence; it counts among the frames with a
    target. A sequence's own numbers are at its own best threshold.

    Args:
        runs: with `scores` and `size`; rows of nan in `predicted` where no box was reported, whose
            confidence counts for nothing.

    Returns:
        {"total": {"f_score", "precision", "recall", "threshold"}, "sequences": {name: the same}}.

    Raises:
        InputError: no run, two of one name, or one without `scores` or `size`.
    """
    check_runs(runs)
    sequences = {run.name: _best([run]) for run in runs}
    return {"total": _best(runs), "sequences": sequences}


def thresholds_of(scores: Array) -> Array:
    """Infinity, up to 98 quantiles of (N,) confidences from high to low, and minus infinity."""
    ordered = np.sort(scores[~np.isnan(scores)])[::-1]
    inner = RESOLUTION - 2
    if len(ordered) > inner:
        step = len(ordered) // inner
        places = np.round(np.linspace(step, len(ordered) - step, num=inner)).astype(int)
        ordered = ordered[places]
    return np.concatenate(([np.inf], ordered, [-np.inf]))


def precision_recall_curve(
    overlaps: Array, scores: Array, visible: int, thresholds: Array
) -> tuple[Array, Array]:
    """Precision and recall of one run at each threshold, both (T,).

    Args:
        overlaps: (N,) with the truth.
        scores: (N,) confidences, nan where there is none.
        visible: number of frames with a target.
        thresholds: (T,).
    """
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
    known = scores[order][: int((~np.isnan(scores)).sum())]
    counts = np.searchsorted(-known, -thresholds, side="right")
    sums = np.concatenate(([0.0], np.cumsum(overlaps[order][: len(known)])))[counts]
    precision = np.divide(sums, counts, out=np.ones(len(counts)), where=counts > 0)
    return precision, sums / visible


def _best(runs: Sequence[BoxRun]) -> dict[str, float]:
    parts = [_parts(run) for run in runs]
    thresholds = thresholds_of(np.concatenate([scores for _, scores in parts]))
    curves = [
        precision_recall_curve(overlaps, scores, int(is_box(run.truth).sum()), thresholds)
        for run, (overlaps, scores) in zip(runs, parts, strict=True)
    ]
    precision, recall = np.mean(curves, axis=0)
    return best_point(precision, recall, thresholds)


def best_point(precision: Array, recall: Array, thresholds: Array) -> dict[str, float]:
    """The largest F = 2 Pr Re / (Pr + Re) and the first of the (T,) thresholds that has it.

    Where no threshold has an F above 0 everything is 0: no box at all has a precision of 1.
    """
    total = precision + recall
    f_scores = np.divide(2.0 * precision * recall, total, out=np.zeros(len(total)), where=total > 0)
    best = int(f_scores.argmax())
    if not f_scores[best] > 0.0:
        return dict.fromkeys(("f_score", "precision", "recall", "threshold"), 0.0)
    return {
        "f_score": float(f_scores[best]),
        "precision": float(precision[best]),
        "recall": float(recall[best]),
        "threshold": float(np.clip(thresholds[best], 0.0, 1.0)),
    }


def _parts(run: BoxRun) -> tuple[Array, Array]:
    """Overlaps and confidences; nothing is predicted in the first frame, whose box is given."""
    if run.scores is None or run.size is None:
        raise InputError(f"{run.name}: VOT-LT needs confidences and the size of the frames")
    scores = np.where(is_box(run.predicted), run.scores, np.nan)
    scores[0] = np.nan
    return pixel_overlaps(run.predicted, run.truth, run.size), scores
