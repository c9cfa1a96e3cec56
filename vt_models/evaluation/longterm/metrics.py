# SPDX-License-Identifier: Apache-2.0
"""Long-term tracking: does a tracker say that the target is gone, and find it when it returns?

Precision, recall and F-score after Lukezic et al., "Now you see me: evaluating performance in
long-term visual tracking", 2018 (VOT-LT), and what a robot needs beside them: how often TRACKING
is said while nothing is there, how soon a loss is reported, how soon a return is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from queue import SimpleQueue
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vt_models.datasets.sequence import VideoSequence
from vt_models.errors import DatasetError, InputError, VtModelsError
from vt_models.evaluation.metrics.vot_longterm import best_point, precision_recall_curve
from vt_models.evaluation.runs.runner import SingleObjectTracker, to_box
from vt_models.geometry.boxes import Box, iou
from vt_models.longterm.state_machine import State
from vt_models.longterm.tracker import LongTermEstimate

Array = NDArray[np.float64]

THRESHOLDS = 100
"""Number of confidences at which precision and recall are computed."""
FOUND_IOU = 0.5
WRONG_IOU = 0.1
FOUND_SECONDS = 2.0
SHORTEST_ABSENCE = 3
"""Frames; shorter gaps in the annotation are no departure."""


class Clip(Protocol):
    """A video with the truth; `TimedSequence` and `ComposedClip` are such."""

    @property
    def name(self) -> str:
        """Unique in its dataset."""

    @property
    def boxes(self) -> Array:
        """(N, 4) x, y, w, h in pixels, nan where the target is absent."""

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """(N,) whether a frame's truth is known: a box, or that the target is absent."""

    @property
    def period(self) -> float:
        """Seconds between frames."""

    def read_frame(self, index: int) -> NDArray[np.uint8]:
        """Frame `index`, (H, W, 3) uint8 RGB."""


@dataclass(frozen=True, eq=False)
class TimedSequence:
    """A sequence of the benchmark as a `Clip`."""

    sequence: VideoSequence
    period: float = 1.0 / 30.0

    @property
    def name(self) -> str:
        """Unique in its dataset."""
        return self.sequence.name

    @property
    def boxes(self) -> NDArray[np.float64]:
        """(N, 4) x, y, w, h in pixels, nan where the target is absent."""
        return self.sequence.boxes

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """(N,) whether the dataset gives a box or says that the target is absent."""
        known: NDArray[np.bool_] = np.isfinite(self.boxes).all(axis=1) | self.sequence.absent
        return known

    def read_frame(self, index: int) -> NDArray[np.uint8]:
        """Frame `index`, (H, W, 3) uint8 RGB."""
        return self.sequence.read_frame(index)


class Answer(Protocol):
    """What is known in a frame; `LongTermEstimate` is one."""

    @property
    def box(self) -> Box | None:
        """x, y, w, h in pixels, None where there is none."""

    @property
    def score(self) -> float:
        """Confidence in [0, 1]."""

    @property
    def state(self) -> State:
        """What the tracker says of itself."""


class LongTermEvaluated(Protocol):
    """What can be evaluated."""

    def init(
        self,
        frame: NDArray[np.uint8],
        box: Box,
        text: str | None = None,
        stamp: float | None = None,
    ) -> object:
        """Start on a target."""

    def update(self, frame: NDArray[np.uint8], stamp: float | None = None) -> Answer:
        """Find it in the next frame."""


@dataclass(frozen=True, eq=False)
class Run:
    """One run over one clip of N frames; the first is given and counts nowhere.

    Attributes:
        name: of the clip.
        period: seconds between frames.
        overlaps: (N,) IoU with the truth; 0 without a box or without a target.
        scores: (N,) confidences; nan where no box was reported.
        states: (N,) of `State`.
        present: (N,) is the target there?
    """

    name: str
    period: float
    overlaps: Array
    scores: Array
    states: NDArray[np.int64]
    present: NDArray[np.bool_]


@dataclass(frozen=True)
class Departure:
    """One absence of the target and what was said about it, times in seconds.

    Attributes:
        clip: its name.
        frame: the first in which the target is absent.
        absent_seconds: how long it was away.
        unsure_after: until anything but TRACKING was said; None if it never was.
        lost_after: until LOST was said; None if it never was during the absence.
        present_seconds: how long the target was there afterwards; 0 if it did not return.
        found_after: from its return until TRACKING with an IoU of 0.5; None if that did not come
            before it left again or the clip ended.
    """

    clip: str
    frame: int
    absent_seconds: float
    unsure_after: float | None
    lost_after: float | None
    present_seconds: float
    found_after: float | None


class ShortTermAdapter:
    """A short-term tracker, for comparison.

    It says TRACKING in every frame, except those whose score is 0: there it has said itself that it
    found nothing (OpenCV's trackers do, and a network without a finite answer).

    Args:
        tracker: with `init(frame, box)` and `update(frame)`.
        loss_threshold, loss_frames: a rule of thumb beside it: LOST, and no box, from the n-th
            frame in a row with a score below the threshold; 0 frames for no such rule.
    """

    def __init__(
        self, tracker: SingleObjectTracker, loss_threshold: float = 0.0, loss_frames: int = 0
    ) -> None:
        self._tracker = tracker
        self._threshold = loss_threshold
        self._frames = loss_frames
        self._low = 0

    def init(
        self,
        frame: NDArray[np.uint8],
        box: Box,
        text: str | None = None,  # noqa: ARG002 - as every long-term tracker's
        stamp: float | None = None,  # noqa: ARG002
    ) -> None:
        """Start on a target."""
        self._low = 0
        self._tracker.init(frame, box)

    def update(
        self,
        frame: NDArray[np.uint8],
        stamp: float | None = None,  # noqa: ARG002
    ) -> LongTermEstimate:
        """Find it in the next frame."""
        found = self._tracker.update(frame)
        self._low = self._low + 1 if found.score < self._threshold else 0
        is_lost = found.score <= 0.0 or (0 < self._frames <= self._low)
        state = State.LOST if is_lost else State.TRACKING
        return LongTermEstimate(None if is_lost else found.box, found.score, state)


def run_clip(tracker: LongTermEvaluated, clip: Clip) -> Run:
    """Start on the first frame's true box and let the tracker run to the end.

    Raises:
        DatasetError: an unreadable image, or the target is absent in the first frame.
        VtModelsError: from the tracker, with the clip and the frame number added.
    """
    count = len(clip.boxes)
    boxes, scores = np.full((count, 4), np.nan), np.full(count, np.nan)
    states = np.full(count, State.TRACKING, np.int64)
    boxes[0], scores[0] = clip.boxes[0], 1.0
    if np.isnan(clip.boxes[0]).any():
        raise DatasetError(f"{clip.name}: target absent in the first frame")
    index = 0
    try:
        tracker.init(clip.read_frame(0), to_box(clip.boxes[0]), stamp=0.0)
        for index in range(1, count):
            answer = tracker.update(clip.read_frame(index), index * clip.period)
            states[index] = answer.state
            if answer.box is not None:
                boxes[index], scores[index] = answer.box, answer.score
    except DatasetError:
        raise
    except VtModelsError as error:
        raise VtModelsError(f"{clip.name}, frame {index + 1}: {error}") from error
    present: NDArray[np.bool_] = np.asarray(np.isfinite(clip.boxes).all(axis=1))
    overlaps = np.where(present, iou(boxes, clip.boxes), 0.0)
    return Run(clip.name, clip.period, overlaps, scores, states, present)


def run_clips(
    factory: Callable[[], LongTermEvaluated],
    clips: Iterable[Clip],
    *,
    name: str = "",
    progress: bool = True,
    jobs: int = 1,
) -> list[Run]:
    """Run a tracker over clips, `jobs` of them at the same time; `init` resets it."""
    clips = list(clips)
    idle: SimpleQueue[LongTermEvaluated] = SimpleQueue()
    for _ in range(jobs):
        idle.put(factory())

    def run(clip: Clip) -> Run:
        tracker = idle.get()
        try:
            return run_clip(tracker, clip)
        finally:
            idle.put(tracker)

    with ThreadPoolExecutor(jobs) as pool:
        bar = tqdm(pool.map(run, clips), name, len(clips), unit="clip", disable=not progress)
        return list(bar)


def precision_recall(runs: Sequence[Run], thresholds: Array) -> tuple[Array, Array]:
    """Precision and recall, (T,) each, of boxes with at least these confidences, means over runs.

    Pr = mean IoU of the frames with such a box (0 where the target is absent), Re = mean over the
    frames with the target of the IoU of such a box (0 where there is none). A run without such a
    box has the precision 1, as in the VOT toolkit; a run without the target counts only there.
    """
    precisions, recalls = [], []
    for run in runs:
        overlaps, scores, visible = run.overlaps[1:], run.scores[1:], int(run.present[1:].sum())
        curves = precision_recall_curve(overlaps, scores, max(visible, 1), thresholds)
        precisions.append(curves[0])
        if visible:
            recalls.append(curves[1])
    return np.mean(precisions, axis=0), np.mean(recalls or [np.zeros(len(thresholds))], axis=0)


def best_f_score(runs: Sequence[Run]) -> dict[str, float]:
    """`best_point` over the confidences that occur.

    Raises:
        InputError: no run.
    """
    if not runs:
        raise InputError("no run to score")
    scores = np.concatenate([run.scores[1:] for run in runs])
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        scores = np.zeros(1)
    thresholds = np.unique(np.quantile(scores, np.linspace(0.0, 1.0, THRESHOLDS)))[::-1]
    return best_point(*precision_recall(runs, thresholds), thresholds)


def departures(run: Run) -> list[Departure]:
    """Every absence of at least `SHORTEST_ABSENCE` frames."""
    found = []
    edges = np.flatnonzero(np.diff(np.concatenate(([True], run.present, [True])).astype(np.int8)))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if end - start < SHORTEST_ABSENCE:
            continue
        later = [int(edge) for edge in edges[::2] if edge >= end]
        stop = later[0] if later else len(run.present)
        away, back = slice(int(start), int(end)), slice(int(end), stop)
        is_found = (run.states[back] == State.TRACKING) & (run.overlaps[back] >= FOUND_IOU)
        found.append(
            Departure(
                clip=run.name,
                frame=int(start),
                absent_seconds=float(end - start) * run.period,
                unsure_after=_first(run.states[away] != State.TRACKING, run.period),
                lost_after=_first(run.states[away] == State.LOST, run.period),
                present_seconds=(stop - int(end)) * run.period,
                found_after=_first(is_found, run.period),
            )
        )
    return found


def summary(runs: Sequence[Run]) -> dict[str, object]:
    """All numbers of one tracker over some clips.

    Rates are over frames. `false_tracking`: TRACKING while the target is absent. `false_measured`:
    TRACKING or UNCERTAIN, whose boxes count as measured, while it is absent. `wrong_tracking`:
    TRACKING with an IoU below 0.1 while it is there. `tracking`: TRACKING while it is there.
    `found`: share of returns that were found within 2 s; one that was not found before the target
    left again or the clip ended is a miss, however short it was. Times are medians over those
    departures in which the event came.
    """
    states = np.concatenate([run.states[1:] for run in runs])
    present = np.concatenate([run.present[1:] for run in runs])
    overlaps = np.concatenate([run.overlaps[1:] for run in runs])
    is_tracking = states == State.TRACKING
    gone = [departure for run in runs for departure in departures(run)]
    returned = [d for d in gone if d.present_seconds > 0]
    in_time = [d for d in returned if d.found_after is not None and d.found_after <= FOUND_SECONDS]
    return {
        **best_f_score(runs),
        "ao": float(np.mean([run.overlaps[1:][run.present[1:]].mean() for run in runs])),
        "absent_frames": int((~present).sum()),
        "false_tracking": _share(is_tracking, ~present),
        "false_measured": _share(is_tracking | (states == State.UNCERTAIN), ~present),
        "wrong_tracking": _share(is_tracking & (overlaps < WRONG_IOU), present),
        "tracking": _share(is_tracking, present),
        "departures": len(gone),
        "loss_reported": sum(d.unsure_after is not None for d in gone),
        "seconds_to_unsure": _median([d.unsure_after for d in gone]),
        "seconds_to_lost": _median([d.lost_after for d in gone]),
        "returns": len(returned),
        "found": len(in_time) / len(returned) if returned else None,
        "seconds_to_found": _median([d.found_after for d in returned]),
        "missed": [f"{d.clip}:{d.frame}" for d in returned if d not in in_time],
    }


def events(runs: Sequence[Run]) -> list[dict[str, object]]:
    """Every departure as a JSON-serialisable object."""
    return [asdict(departure) for run in runs for departure in departures(run)]


def _first(flags: NDArray[np.bool_], period: float) -> float | None:
    """Seconds until the first True, counted from the first frame; None without one."""
    where = np.flatnonzero(flags)
    return float(where[0]) * period if len(where) else None


def _share(flags: NDArray[np.bool_], among: NDArray[np.bool_]) -> float | None:
    return float(flags[among].mean()) if among.any() else None


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
