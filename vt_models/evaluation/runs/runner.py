# SPDX-License-Identifier: Apache-2.0
"""Run a tracker once over sequences (one-pass evaluation) and report accuracy and speed.

Needs numpy and OpenCV only, so that training validates with the same code.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vt_models.datasets.sequence import VideoSequence, sentence_or_classes
from vt_models.errors import DatasetError, InputError, VtModelsError
from vt_models.evaluation.metrics.accuracy import (
    Accuracy,
    interval_or_none,
    mean_accuracy,
    score_sequence,
)
from vt_models.evaluation.runs.parallel import run_all
from vt_models.files import file_name, write_text
from vt_models.geometry.boxes import Box
from vt_models.tracker.tracker import Tracker

Frame: TypeAlias = NDArray[np.uint8]
Numbers: TypeAlias = dict[str, float]


class Prediction(Protocol):
    """What an update returns; `vt_models.Estimate` is one."""

    @property
    def box(self) -> Box:
        """x, y, w, h in pixels of the frame."""

    @property
    def score(self) -> float:
        """Confidence in [0, 1]."""


class SingleObjectTracker(Protocol):
    """What can be evaluated. `init` must reset everything: one tracker runs all sequences."""

    def init(self, frame: Frame, box: Box) -> None:
        """Start on the target at `box` (x, y, w, h in pixels) of an (H, W, 3) RGB frame."""

    def update(self, frame: Frame) -> Prediction:
        """Find the target in the next (H, W, 3) RGB frame."""


TrackerFactory: TypeAlias = Callable[[], SingleObjectTracker]
SequenceRunner: TypeAlias = Callable[[SingleObjectTracker, "VideoSequence"], "SequenceResult"]
Starter: TypeAlias = Callable[[SingleObjectTracker, "VideoSequence"], "Box | None"]
"""Starts a tracker on the first frame and returns the box it began with; None if there is none."""
TextChoice: TypeAlias = Literal["auto", "sentence", "none"]
"""What a language model is told: the sequence's sentence, or with "auto" its classes where it has
none, as in training."""


@dataclass(frozen=True, eq=False)
class SequenceResult:
    """One run over one sequence of N frames.

    Attributes:
        name: of the sequence.
        boxes: (N, 4) float64 x, y, w, h in pixels; the first is the true box the run began with.
        scores: (N,) float64 confidences; the first is 1.
        seconds: (K,) float64 duration of each `update`, without reading the image. K is N - 1, or
            less where frames were skipped (`streaming.Streaming`).
        accuracy: against the ground truth; None where that is kept secret.
    """

    name: str
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    seconds: NDArray[np.float64]
    accuracy: Accuracy | None

    def to_dict(self) -> Numbers:
        """Metrics by their JSON names, with `ms_per_frame`, the mean duration of an update."""
        metrics = {} if self.accuracy is None else asdict(self.accuracy)
        return {**metrics, "ms_per_frame": 1e3 * float(np.mean(self.seconds))}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `from_arrays` makes the result of again."""
        return {"boxes": self.boxes, "scores": self.scores, "seconds": self.seconds}

    @classmethod
    def from_arrays(
        cls, sequence: VideoSequence, arrays: Mapping[str, NDArray[Any]]
    ) -> SequenceResult:
        """Make the result of a run over `sequence` again, and score it anew.

        Raises:
            KeyError, ValueError: the arrays are not those of such a run.
        """
        boxes, scores, seconds = (arrays[name] for name in ("boxes", "scores", "seconds"))
        count = len(sequence)
        if boxes.shape != (count, 4) or scores.shape != (count,) or seconds.ndim != 1:
            raise ValueError(f"boxes {boxes.shape}, scores {scores.shape} for {count} frames")
        return cls(sequence.name, boxes, scores, seconds, accuracy_of(boxes, sequence))


@dataclass(frozen=True, eq=False)
class Report:
    """Results of one tracker over sequences.

    Attributes:
        model: name of the tracker.
        results: one a sequence, in the order of the dataset.
    """

    model: str
    results: tuple[SequenceResult, ...]

    @cached_property
    def total(self) -> Numbers:
        """Accuracy as the mean over sequences; `ms_per_frame` as the mean over all frames."""
        seconds = np.concatenate([result.seconds for result in self.results])
        known = [result.accuracy for result in self.results if result.accuracy is not None]
        metrics = asdict(mean_accuracy(known)) if known else {}
        return {**metrics, "ms_per_frame": 1e3 * float(np.mean(seconds))}

    @cached_property
    def overlaps(self) -> Numbers:
        """AO of each sequence whose truth is public, by its name."""
        return {one.name: one.accuracy.ao for one in self.results if one.accuracy is not None}

    @cached_property
    def ao_interval(self) -> list[float] | None:
        """95 % interval of the total AO over videos, `bootstrap_interval`; None for one video."""
        return interval_or_none(list(self.overlaps.values()))

    @property
    def is_scored(self) -> bool:
        """Is the truth of any sequence public?"""
        return any(result.accuracy is not None for result in self.results)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object {"model", "total": {...}, "sequences": {name: {...}}}.

        The total has `ao_interval` too, [low, high] or None, where any truth is public.
        """
        sequences = {result.name: result.to_dict() for result in self.results}
        interval = {"ao_interval": self.ao_interval} if self.is_scored else {}
        return {"model": self.model, "total": {**self.total, **interval}, "sequences": sequences}

    def save(self, directory: Path | str) -> None:
        """Write `report.json`, and `<sequence>.txt` (x,y,w,h a line) and `<sequence>_score.txt`."""
        folder = Path(directory)
        for result in self.results:
            boxes = "".join(",".join(f"{v:.4f}" for v in box) + "\n" for box in result.boxes)
            name = file_name(result.name)
            write_text(folder / f"{name}.txt", boxes, parents=True)
            scores = "".join(f"{score:.6f}\n" for score in result.scores)
            write_text(folder / f"{name}_score.txt", scores, parents=True)
        write_text(
            folder / "report.json", json.dumps(self.to_dict(), indent=2) + "\n", parents=True
        )


def require_result_names(names: Sequence[str]) -> None:
    """Check that no file of `Report.save` would be another sequence's.

    Raises:
        InputError: a sequence is called like another one with `_score` behind it.
    """
    files = {file_name(name) for name in names}
    for name in names:
        if f"{file_name(name)}_score" in files:
            raise InputError(
                f"the confidences of {name} and the boxes of {name}_score would be the same file; "
                "rename one of these sequences, or leave --output out"
            )


def start_at(
    tracker: SingleObjectTracker,
    sequence: VideoSequence,
    index: int,
    box: Box,
    text: TextChoice = "auto",
) -> None:
    """Start on `box` in a frame, with the chosen text where the model takes one."""
    frame = sequence.read_frame(index)
    words = text_of(tracker, sequence, text)
    if words is not None and isinstance(tracker, Tracker):
        tracker.init(frame, box, words)
    else:
        tracker.init(frame, box)


def text_of(
    tracker: SingleObjectTracker, sequence: VideoSequence, choice: TextChoice
) -> str | None:
    """Return what a tracker is told of a sequence; None where it reads no text or there is none."""
    words = {
        "auto": sentence_or_classes(sequence.language, sequence.classes),
        "sentence": sequence.language,
        "none": None,
    }[choice]
    has_language_input = isinstance(tracker, Tracker) and tracker.spec.language
    return words if words and has_language_input else None


@dataclass(frozen=True)
class StartOnTruth:
    """The usual `Starter`: on the first frame's true box.

    Attributes:
        text: what a language model is told.
    """

    text: TextChoice = "auto"

    def __call__(self, tracker: SingleObjectTracker, sequence: VideoSequence) -> Box:
        """Start, and return the box."""
        box = to_box(sequence.boxes[0])
        start_at(tracker, sequence, 0, box, self.text)
        return box


start_on_truth = StartOnTruth()


def run_sequence(
    tracker: SingleObjectTracker, sequence: VideoSequence, *, start: Starter = start_on_truth
) -> SequenceResult:
    """Start `tracker` on the first frame and let it run to the end.

    The clock runs during `update` only; the image is decoded before. Where `start` finds nothing
    the boxes are nan and the scores 0, which is a miss in every frame.

    Raises:
        DatasetError: an unreadable image, fewer than two frames, or nothing to score.
        VtModelsError: from the tracker, with the sequence and the frame number added.
    """
    check_length(sequence)
    boxes = np.full((len(sequence), 4), np.nan)
    scores = np.zeros(len(sequence))
    seconds = np.zeros(len(sequence) - 1)
    index = 0
    try:
        begun = start(tracker, sequence)
        if begun is not None:
            boxes[0], scores[0] = begun, 1.0
            for index in range(1, len(sequence)):
                frame = sequence.read_frame(index)
                begin = time.perf_counter()
                estimate = tracker.update(frame)
                seconds[index - 1] = time.perf_counter() - begin
                boxes[index], scores[index] = estimate.box, estimate.score
    except VtModelsError as error:
        raise located(error, sequence, index) from error
    return SequenceResult(sequence.name, boxes, scores, seconds, accuracy_of(boxes, sequence))


def check_length(sequence: VideoSequence) -> None:
    """Raise DatasetError for a sequence of fewer than two frames."""
    if len(sequence) < 2:
        raise DatasetError(f"{sequence.name}: {len(sequence)} frames; expected two or more")


def require_scored_frames(sequence: VideoSequence) -> None:
    """Raise DatasetError where truth is public but the target is in no frame after the first."""
    accuracy_of(sequence.boxes, sequence)


def accuracy_of(boxes: NDArray[np.float64], sequence: VideoSequence) -> Accuracy | None:
    """Score (N, 4) boxes; None where only the first true box is published.

    Raises:
        DatasetError: the target is in no frame after the first.
    """
    if not sequence.is_annotated:
        return None
    try:
        return score_sequence(boxes, sequence.boxes)
    except DatasetError as error:
        raise DatasetError(f"{sequence.name}: {error}") from error


def located(error: VtModelsError, sequence: VideoSequence, index: int) -> VtModelsError:
    """The error with the sequence, and the frame if it is not the dataset that names a file."""
    if isinstance(error, DatasetError):
        return DatasetError(f"{sequence.name}: {error}")
    return VtModelsError(f"{sequence.name}, frame {index + 1}: {error}")


def evaluate(
    tracker_factory: TrackerFactory,
    sequences: Sequence[VideoSequence],
    *,
    model: str = "",
    jobs: int = 1,
    progress: bool = True,
    run: SequenceRunner = run_sequence,
) -> Report:
    """Run a tracker over sequences; boxes do not depend on `jobs`.

    Args:
        tracker_factory: builds the tracker, once a process. With `jobs` > 1 it must be picklable
            (a module's function or `functools.partial`), because processes are spawned.
        sequences: the videos; a lazy dataset is loaded one at a time.
        model: name for the report.
        jobs: processes; each runs whole sequences, with OpenCV limited to one thread. They compete
            for the processor, so time per frame is only worth quoting with `jobs` = 1.
        progress: show a progress bar on standard error.
        run: what is done with each sequence; picklable like the factory.

    Raises:
        InputError: no sequence, or `jobs` below 1.
        BackendError: a process was killed.
        VtModelsError: what the dataset or the tracker raises.
    """
    results = run_all(
        tracker_factory,
        sequences,
        run,
        title=model,
        jobs=jobs,
        progress=progress,
        note=progress_note,
    )
    return Report(model, tuple(results))


def progress_note(result: SequenceResult) -> str:
    """What a progress bar says of a finished sequence."""
    return result.name + ("" if result.accuracy is None else f" AO {result.accuracy.ao:.3f}")


def to_box(row: NDArray[np.float64]) -> Box:
    """A row x, y, w, h as a tuple."""
    x, y, w, h = (float(value) for value in row)
    return x, y, w, h
