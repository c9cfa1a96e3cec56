# SPDX-License-Identifier: Apache-2.0
"""VOT short-term: runs from anchors (since 2020) or with restarts (before), and their scores.

Kristan et al., "The eighth visual object tracking VOT2020 challenge results", section 2, and
vot-toolkit, whose numbers these are on the same boxes. Overlaps are those of pixels: a box is
rounded to whole ones and cut at the image's edges.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import DatasetError, InputError
from vt_models.evaluation.runner import to_box

if TYPE_CHECKING:
    from pathlib import Path

    from vt_models.evaluation.datasets import VideoSequence
    from vt_models.evaluation.runner import SingleObjectTracker

Array: TypeAlias = NDArray[np.float64]

ANCHOR_STEP = 50
FAILURE_OVERLAP = 0.1
GRACE = 10
BURN_IN = 10
RESTART_GAP = 5
EAO_RANGE = (115, 755)
"""Lengths in frames over which VOT-ST2020 to 2022 average the curve."""

UNKNOWN, STARTED, FAILED = 0, 1, 2
"""Codes of a frame in a supervised run: skipped, started here, lost here."""
TRACKED = 3


@dataclass(frozen=True, eq=False)
class AnchorRun:
    """One run from an anchor to the end of the video, or back to its beginning.

    Attributes:
        anchor: index of the frame it started in.
        forward: direction.
        boxes: (M, 4) in the order of the run; the first is the true box.
        seconds: (M,) duration of each step, the first of `init`.
    """

    anchor: int
    forward: bool
    boxes: Array
    seconds: Array


@dataclass(frozen=True, eq=False)
class AnchorRuns:
    """All runs over one sequence of N frames.

    Attributes:
        name: of the sequence.
        truth: (N, 4) x, y, w, h in pixels, nan where the target is absent.
        size: width and height of the frames.
        runs: one an anchor.
    """

    name: str
    truth: Array
    size: tuple[int, int]
    runs: tuple[AnchorRun, ...]


@dataclass(frozen=True, eq=False)
class SupervisedRun:
    """One run over N frames that was started anew after each failure.

    Attributes:
        name: of the sequence.
        truth: (N, 4) x, y, w, h in pixels, nan where the target is absent.
        size: width and height of the frames.
        boxes: (N, 4), nan where `codes` is not TRACKED.
        codes: (N,) UNKNOWN, STARTED, FAILED or TRACKED.
    """

    name: str
    truth: Array
    size: tuple[int, int]
    boxes: Array
    codes: NDArray[np.int64]


def pixel_overlaps(predicted: Array, truth: Array, size: tuple[int, int]) -> Array:
    """IoU of the pixels that two boxes cover inside an image.

    Args:
        predicted, truth: (N, 4) x, y, w, h; a row with nan is an empty region.
        size: width and height of the image.

    Returns:
        (N,) in [0, 1]. 1 where both regions are empty, as in vot-toolkit.
    """
    first, second = _corners(predicted), _corners(truth)
    hull = np.hstack((np.minimum(first, second)[:, :2], np.maximum(first, second)[:, 2:]))
    area = _cut(hull, (0, 0, size[0] - 1, size[1] - 1))
    inter = _pixels(_cut(_cut(first, area), second)) * _is_box(predicted) * _is_box(truth)
    own = _pixels(_cut(first, area)) * _is_box(predicted)
    other = _pixels(_cut(second, area)) * _is_box(truth)
    union = own + other - inter
    overlaps = np.divide(inter, union, out=np.zeros(len(union)), where=union > 0)
    overlaps = np.where((area[:, :2] < area[:, 2:]).all(axis=1), overlaps, 0.0)
    return np.where((hull[:, :2] < hull[:, 2:]).all(axis=1), overlaps, 1.0)


def default_anchors(truth: Array, step: int = ANCHOR_STEP) -> dict[int, bool]:
    """Anchors every `step` frames and in the last one: frame to "forward?".

    The longer way is taken. An anchor without a target moves to the nearest frame with one, or is
    dropped where another is as near.

    Raises:
        InputError: `step` below 1.
        DatasetError: the target is in no frame.
    """
    if step < 1:
        raise InputError(f"anchors every {step} frames; expected 1 or more")
    present = np.flatnonzero(np.isfinite(truth).all(axis=1))
    if not len(present):
        raise DatasetError("the target is in no frame; there is no anchor")
    last = len(truth) - 1
    wanted = [*range(0, last + 1, step), last]
    found = {int(present[np.abs(present - frame).argmin()]) for frame in wanted}
    anchors = {frame: last - frame >= frame for frame in sorted(found)}
    return {frame: ahead for frame, ahead in anchors.items() if (last - frame if ahead else frame)}


def read_anchors(path: Path, count: int) -> dict[int, bool]:
    """Read VOT's `anchor.value`: a number a frame, > 0 forward, < 0 backward, 0 none.

    Raises:
        DatasetError: an unreadable file, another number of lines than `count`, or no anchor.
    """
    try:
        values = [float(line) for line in path.read_text(encoding="utf-8").split()]
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: {error}; expected a number for each frame") from error
    anchors = {frame: value > 0 for frame, value in enumerate(values) if value}
    if len(values) != count or not anchors:
        raise DatasetError(
            f"{path}: {len(values)} numbers with {len(anchors)} anchors for {count} frames; "
            "expected a number for each frame and one or more anchors"
        )
    return anchors


def sequence_anchors(sequence: VideoSequence) -> dict[int, bool]:
    """Those in `anchor.value` beside the folder of frames, else `default_anchors`."""
    path = sequence.frames[0].parent.parent / "anchor.value"
    if path.exists():
        return read_anchors(path, len(sequence))
    return default_anchors(sequence.boxes)


def run_anchored(
    tracker: SingleObjectTracker, sequence: VideoSequence, anchors: dict[int, bool] | None = None
) -> AnchorRuns:
    """Start in every anchor and run to the end or the beginning of the video.

    Raises:
        DatasetError: an unreadable image, or an anchor without a target.
    """
    runs = []
    for anchor, forward in (sequence_anchors(sequence) if anchors is None else anchors).items():
        order = range(anchor, len(sequence)) if forward else range(anchor, -1, -1)
        boxes, seconds = _run(tracker, sequence, order)
        runs.append(AnchorRun(anchor, forward, boxes, seconds))
    return AnchorRuns(sequence.name, sequence.boxes, frame_size(sequence), tuple(runs))


def run_supervised(tracker: SingleObjectTracker, sequence: VideoSequence) -> SupervisedRun:
    """Run with supervision: where nothing overlaps any more, start again 5 frames later.

    A frame without a target is no failure, and no start.

    Raises:
        DatasetError: an unreadable image.
    """
    size, count = frame_size(sequence), len(sequence)
    boxes = np.full((count, 4), np.nan)
    codes = np.full(count, UNKNOWN, np.int64)
    present = _is_box(sequence.boxes)
    start, running = 0, False
    for index in range(count):
        if not running:
            if index >= start and present[index]:
                tracker.init(sequence.read_frame(index), to_box(sequence.boxes[index]))
                codes[index], running = STARTED, True
            continue
        box = np.asarray(tracker.update(sequence.read_frame(index)).box, np.float64)
        truth = sequence.boxes[index]
        if present[index] and pixel_overlaps(box[None], truth[None], size)[0] <= 0:
            codes[index], running, start = FAILED, False, index + RESTART_GAP
        else:
            codes[index], boxes[index] = TRACKED, box
    return SupervisedRun(sequence.name, sequence.boxes, size, boxes, codes)


def frame_size(sequence: VideoSequence) -> tuple[int, int]:
    """Width and height of the first frame, pixels."""
    height, width = sequence.read_frame(0).shape[:2]
    return int(width), int(height)


def anchored_scores(
    results: Sequence[AnchorRuns], eao_range: tuple[int, int] = EAO_RANGE
) -> dict[str, object]:
    """Accuracy, robustness and EAO of runs from anchors.

    A run has failed where the overlap stays <= 0.1 for 10 frames with a target; what comes after
    counts as 0. Accuracy: mean overlap before the failure, over all frames before failures.
    Robustness: their share of all frames, sequences weighted by their length. EAO: mean of the
    curve (`anchored_curve`) over the lengths `eao_range`, both included.

    Returns:
        {"total": {"eao", "accuracy", "robustness"}, "sequences": {name: the last two}}.

    Raises:
        InputError: no result, or a sequence without a run.
    """
    _check_range(results, eao_range)
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
    low, high = eao_range
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


def supervised_scores(
    results: Sequence[SupervisedRun], eao_range: tuple[int, int]
) -> dict[str, object]:
    """Accuracy, failures and EAO of runs with restarts (VOT2013 to 2019).

    Accuracy: mean overlap without the 10 frames from each start; sequences weighted by length, as
    are the failures a sequence. EAO: mean of `supervised_curve` over the lengths `eao_range`, which
    each year has its own (2018: 100 to 356).

    Raises:
        InputError: no result.
    """
    _check_range(results, eao_range)
    sequences = {result.name: _supervised(result) for result in results}
    lengths = np.array([len(result.truth) for result in results], np.float64)
    columns = np.array([list(numbers.values()) for numbers in sequences.values()])
    accuracy, failures = (columns * lengths[:, None]).sum(axis=0) / lengths.sum()
    low, high = eao_range
    total = {
        "eao": float(np.mean(supervised_curve(results)[low : high + 1])),
        "accuracy": float(accuracy),
        "failures": float(failures),
    }
    return {"total": total, "sequences": sequences}


def supervised_curve(results: Sequence[SupervisedRun]) -> Array:
    """(L,) expected average overlap over the L frames of the longest piece between restarts.

    A piece that ended in a failure goes on with zeros, one that ended with the video does not.
    """
    pieces = list(itertools.chain.from_iterable(_pieces(result) for result in results))
    longest = max(len(overlaps) for overlaps, _ in pieces)
    total, active = np.zeros(longest), np.zeros(longest)
    for overlaps, failed in pieces:
        reach = longest if failed else len(overlaps)
        padded = np.concatenate((overlaps, np.zeros(longest - len(overlaps))))
        means = np.concatenate((padded[:1], np.cumsum(padded[1:]) / np.arange(1, longest)))
        total[:reach] += means[:reach]
        active[:reach] += 1
    return total / active


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


def _supervised(result: SupervisedRun) -> dict[str, float]:
    overlaps = pixel_overlaps(result.boxes, result.truth, result.size)
    counts = result.codes == TRACKED
    for start in np.flatnonzero(result.codes == STARTED):
        counts[start : start + BURN_IN] = False
    accuracy = float(overlaps[counts].mean()) if counts.any() else 0.0
    return {"accuracy": accuracy, "failures": float((result.codes == FAILED).sum())}


def _pieces(result: SupervisedRun) -> list[tuple[Array, bool]]:
    overlaps = pixel_overlaps(result.boxes, result.truth, result.size)
    starts = np.flatnonzero(result.codes == STARTED)
    ends = np.flatnonzero(result.codes == FAILED)
    pieces = [(overlaps[a:b], True) for a, b in zip(starts, ends, strict=False)]
    if len(starts) > len(ends):
        pieces.append((overlaps[starts[-1] :], False))
    return pieces


def _run(
    tracker: SingleObjectTracker, sequence: VideoSequence, order: range
) -> tuple[Array, Array]:
    boxes, seconds = np.full((len(order), 4), np.nan), np.zeros(len(order))
    boxes[0] = sequence.boxes[order[0]]
    if np.isnan(boxes[0]).any():
        raise DatasetError(f"{sequence.name}: no target in the anchor, frame {order[0] + 1}")
    for step, index in enumerate(order):
        frame = sequence.read_frame(index)
        begin = time.perf_counter()
        if step:
            boxes[step] = tracker.update(frame).box
        else:
            tracker.init(frame, to_box(boxes[0]))
        seconds[step] = time.perf_counter() - begin
    return boxes, seconds


def _check_range(
    results: Sequence[AnchorRuns] | Sequence[SupervisedRun], eao_range: tuple[int, int]
) -> None:
    if not results:
        raise InputError("no run to score")
    low, high = eao_range
    if not 0 < low <= high:
        raise InputError(f"EAO over the lengths {low} to {high}; expected 0 < first <= last")
    bare = [r.name for r in results if isinstance(r, AnchorRuns) and not r.runs]
    if bare:
        raise InputError(f"no run from an anchor in {', '.join(bare)}")


def _is_box(boxes: Array) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(boxes).all(axis=1), np.bool_)


def _corners(boxes: Array) -> Array:
    """First and last pixel of the rounded boxes, (N, 4) x1, y1, x2, y2; zeros for an empty one."""
    whole = np.round(np.where(_is_box(boxes)[:, None], boxes, 0.0))
    corners = np.hstack((whole[:, :2], whole[:, :2] + whole[:, 2:] - 1.0))
    return np.where(_is_box(boxes)[:, None], corners, 0.0)


def _cut(corners: Array, area: Array | tuple[int, ...]) -> Array:
    bounds = np.broadcast_to(np.asarray(area, np.float64), corners.shape)
    first = np.maximum(corners[:, :2], bounds[:, :2])
    return np.hstack((first, np.minimum(corners[:, 2:], bounds[:, 2:])))


def _pixels(corners: Array) -> Array:
    return np.maximum(corners[:, 2:] - corners[:, :2] + 1.0, 0.0).prod(axis=1)
