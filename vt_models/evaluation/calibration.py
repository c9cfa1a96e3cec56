# SPDX-License-Identifier: Apache-2.0
"""Fit a model's calibration to data, and measure how well it fits.

A sample is a frame: the tracker's score, how much its box looks like the target did, and whether
the box was right (IoU >= 0.5). The tracker runs by itself through each clip; where the target
returns after an absence it is set back on it, so that one departure does not spoil the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vt_models.errors import InputError
from vt_models.evaluation.longterm.metrics import Clip
from vt_models.evaluation.runs.runner import to_box
from vt_models.geometry.boxes import Box, iou, xywh_to_cxcywh
from vt_models.longterm.appearance import appearance_descriptor, appearance_similarity
from vt_models.longterm.calibration import Calibration, logit
from vt_models.tracker.tracker import Tracker

Array = NDArray[np.float64]

RIGHT_IOU = 0.5
USABLE_IOU = 0.3
"""Boxes with less are of something else; their error is no noise."""
RIDGE = 1e-3
MORE_WEIGHT = 0.5
"""Of all composed clips together, in units of all sequences: there every clip has a departure."""
BINS = 10
RECENT_FRAMES = 10
SPREAD_SCALES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
POSITION_FLOORS = (0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1)
SIZE_FLOORS = (0.04, 0.06, 0.08, 0.1, 0.12, 0.16, 0.2)


@dataclass(frozen=True, eq=False)
class Samples:
    """Frames of one clip, those whose truth is known.

    Attributes:
        clip: its name.
        scores: (N,) raw scores.
        similarities: (N,) appearance similarity in [-1, 1].
        overlaps: (N,) IoU; 0 where the target is absent.
        boxes: (N, 4) x, y, w, h of the tracker.
        errors: (N, 4) of centre x, centre y, width, height, pixels; nan where absent.
        spreads: (N, 4, 4) of the network; zeros where it has none.
    """

    clip: str
    scores: Array
    similarities: Array
    overlaps: Array
    boxes: Array
    errors: Array
    spreads: Array

    @property
    def right(self) -> Array:
        """(N,) 1 where the box was right, else 0."""
        return (self.overlaps >= RIGHT_IOU).astype(np.float64)


def collect(tracker: Tracker, clips: Sequence[Clip], *, progress: bool = True) -> list[Samples]:
    """Run the tracker by itself over clips."""
    bar = tqdm(clips, desc="calibrate", unit="clip", disable=not progress)
    return [_samples(tracker, clip) for clip in bar]


def _samples(tracker: Tracker, clip: Clip) -> Samples:
    truth = clip.boxes
    present: NDArray[np.bool_] = np.asarray(np.isfinite(truth).all(axis=1))
    frame = clip.read_frame(0)
    tracker.init(frame, to_box(truth[0]))
    first = recent = appearance_descriptor(frame, to_box(truth[0]))
    rows: list[tuple[float, float, Box]] = []
    spreads = np.zeros((len(truth) - 1, 4, 4))
    for index in range(1, len(truth)):
        if present[index] and not present[index - 1]:
            tracker.move_to(to_box(truth[index]))
        frame = clip.read_frame(index)
        estimate = tracker.update(frame)
        descriptor = appearance_descriptor(frame, estimate.box)
        similarity = max(
            appearance_similarity(descriptor, first), appearance_similarity(descriptor, recent)
        )
        rows.append((estimate.score, similarity, estimate.box))
        if estimate.covariance is not None:
            spreads[index - 1] = estimate.covariance
        is_right = present[index] and float(iou(estimate.box, truth[index])) >= RIGHT_IOU
        if is_right and index % RECENT_FRAMES == 0:
            recent = descriptor
    boxes = np.array([box for _, _, box in rows])
    overlaps = np.where(present[1:], iou(boxes, truth[1:]), 0.0)
    errors = np.asarray(xywh_to_cxcywh(boxes) - xywh_to_cxcywh(truth[1:]), np.float64)
    known = clip.is_known[1:]
    scores, similarities = np.array([row[:2] for row in rows])[known].T
    return Samples(
        *(clip.name, scores, similarities, overlaps[known], boxes[known], errors[known]),
        spreads[known],
    )


def fit(samples: Sequence[Samples], more: Sequence[Samples] = ()) -> Calibration:
    """The calibration that fits best: `fit_confidence` on all, the covariance on `samples` alone.

    Covariance: the ratio of the network's spread to the floors is that of largest Gaussian
    likelihood on a grid, every clip with the same weight, over the frames with an IoU of 0.3 or
    more; then all is scaled until the mean normalised error squared over those frames is 4.

    Args:
        samples: of real sequences.
        more: of composed clips, for their departures; their boxes repeat.

    Raises:
        InputError: as `fit_confidence`.
    """
    fitted = fit_confidence(samples, more)
    has_spread = any(s.spreads.any() for s in samples)
    candidates = (
        replace(fitted, covariance_scale=scale, position_floor=position, size_floor=size)
        for scale in (SPREAD_SCALES if has_spread else (0.0,))
        for position in POSITION_FLOORS
        for size in SIZE_FLOORS
    )
    shaped = min(candidates, key=lambda one: np.mean([_gaussian_loss(one, s) for s in samples]))
    errors = np.concatenate([normalised_errors(shaped, s) for s in samples])
    scale = float(errors.mean()) / 4.0 if len(errors) else 1.0
    return replace(
        shaped,
        covariance_scale=shaped.covariance_scale * scale,
        position_floor=shaped.position_floor * scale**0.5,
        size_floor=shaped.size_floor * scale**0.5,
    )


def fit_confidence(samples: Sequence[Samples], more: Sequence[Samples] = ()) -> Calibration:
    """Logistic regression of P(IoU >= 0.5) on logit(score) and similarity, with a small ridge.

    Every clip has the same weight, however long it is; those of `more` together have half the
    weight of `samples` together.

    Raises:
        InputError: no frame in which the box was right, or none in which it was wrong.
    """
    weights = np.concatenate([_weights(samples, 1.0), _weights(more, MORE_WEIGHT)])
    samples = [*samples, *more]
    right = np.concatenate([s.right for s in samples])
    if not 0.0 < right.mean() < 1.0:
        remedy = "are the annotations those of these images, and the weights trained?"
        if right.all():
            remedy = "add sequences in which the target disappears"
        raise InputError(
            f"the box is right in {right.sum():g} of {len(right)} frames; a calibration needs both "
            f"right and wrong ones: {remedy}"
        )
    logits = np.array([logit(float(score)) for s in samples for score in s.scores])
    similarities = np.concatenate([s.similarities for s in samples])
    design = np.stack((logits, similarities, np.ones_like(logits)), axis=1)
    weight, similarity, bias = _logistic(design, right, weights * len(weights) / weights.sum())
    return Calibration(float(weight), float(similarity), float(bias), is_fitted=True)


def leave_one_out(samples: Sequence[Samples], always: Sequence[Samples] = ()) -> list[Array]:
    """Confidences of each clip by a calibration that has not seen it.

    Args:
        samples: of clips that are left out one at a time; two or more.
        always: further samples to fit on, as `more` of `fit_confidence`.
    """
    result = []
    for index, held in enumerate(samples):
        others = [*samples[:index], *samples[index + 1 :]]
        result.append(confidences(fit_confidence(others, always), held))
    return result


def can_leave_out(samples: Sequence[Samples], always: Sequence[Samples] = ()) -> bool:
    """Do right and wrong frames remain whichever clip is left out, as `leave_one_out` needs?"""
    rests = ([*samples[:i], *samples[i + 1 :], *always] for i in range(len(samples)))
    return len(samples) > 1 and all(
        0.0 < np.concatenate([s.right for s in rest]).mean() < 1.0 for rest in rests
    )


def confidences(calibration: Calibration, samples: Samples) -> Array:
    """(N,) calibrated confidences of a clip's frames."""
    pairs = zip(samples.scores, samples.similarities, strict=True)
    return np.array([calibration.confidence(float(s), float(a)) for s, a in pairs])


def reliability(confidence: Array, right: Array) -> list[dict[str, float]]:
    """Bins of equal width that are not empty: mean confidence, share that was right, frames."""
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    rows = []
    for index in range(BINS):
        inside = bins == index
        if inside.any():
            rows.append(
                {
                    "confidence": float(confidence[inside].mean()),
                    "right": float(right[inside].mean()),
                    "frames": int(inside.sum()),
                }
            )
    return rows


def expected_calibration_error(confidence: Array, right: Array) -> float:
    """Mean gap between confidence and share of right boxes over the bins, weighted by frames.

    Guo et al., "On calibration of modern neural networks", ICML 2017, equation 3.
    """
    rows = reliability(confidence, right)
    total = sum(row["frames"] for row in rows)
    return float(sum(row["frames"] * abs(row["confidence"] - row["right"]) for row in rows) / total)


def normalised_errors(calibration: Calibration, samples: Samples) -> Array:
    """e^T C^-1 e of the frames with an IoU of 0.3 or more; of mean 4 where C is right."""
    usable = samples.overlaps >= USABLE_IOU
    covariances = _covariances(calibration, samples)[usable]
    errors = samples.errors[usable]
    solved = np.linalg.solve(covariances, errors[:, :, None])[:, :, 0]
    return np.asarray((errors * solved).sum(axis=1), np.float64)


def _weights(samples: Sequence[Samples], total: float) -> Array:
    """One for each frame: the same sum for every clip."""
    parts = [np.full(len(s.scores), total / len(s.scores) / len(samples)) for s in samples]
    return np.concatenate(parts) if parts else np.zeros(0)


def _logistic(design: Array, right: Array, weights: Array) -> Array:
    """Weighted logistic regression by Newton's method; (K,) coefficients."""
    coefficients = np.zeros(design.shape[1])
    ridge = RIDGE * np.eye(len(coefficients))
    for _ in range(100):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ coefficients, -60.0, 60.0)))
        gradient = design.T @ (weights * (p - right)) + ridge @ coefficients
        hessian = (design * (weights * p * (1.0 - p))[:, None]).T @ design + ridge
        step = np.linalg.solve(hessian, gradient)
        coefficients = coefficients - step
        if float(np.abs(step).max()) < 1e-9:
            break
    return coefficients


def _gaussian_loss(calibration: Calibration, samples: Samples) -> float:
    usable = samples.overlaps >= USABLE_IOU
    if not usable.any():
        return 0.0
    _, logarithms = np.linalg.slogdet(_covariances(calibration, samples)[usable])
    return float((logarithms + normalised_errors(calibration, samples)).mean())


def _covariances(calibration: Calibration, samples: Samples) -> Array:
    """(N, 4, 4): `Calibration.covariance` of every frame."""
    areas = np.maximum(samples.boxes[:, 2] * samples.boxes[:, 3], 1.0)
    sure = np.maximum(confidences(calibration, samples), 0.1)
    floors = np.array((calibration.position_floor,) * 2 + (calibration.size_floor,) * 2) ** 2
    diagonal = (areas / sure)[:, None] * floors
    return calibration.covariance_scale * samples.spreads + diagonal[:, :, None] * np.eye(4)
