# SPDX-License-Identifier: Apache-2.0
"""Run a tracker once over sequences (one-pass evaluation) and report accuracy and speed.

Needs numpy and OpenCV only, so that training validates with the same code.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vt_models.errors import DatasetError, InputError, VtModelsError
from vt_models.evaluation.metrics import Accuracy, mean_accuracy, score_sequence

if TYPE_CHECKING:
    from vt_models.evaluation.datasets import VideoSequence
    from vt_models.geometry import Box

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


@dataclass(frozen=True, eq=False)
class SequenceResult:
    """One run over one sequence of N frames.

    Attributes:
        name: of the sequence.
        boxes: (N, 4) float64 x, y, w, h in pixels; the first is the true box the run began with.
        scores: (N,) float64 confidences; the first is 1.
        seconds: (K,) float64 duration of each `update`, without reading the image. K is N - 1, or
            less where frames were skipped (`latency.Streaming`).
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


@dataclass(frozen=True, eq=False)
class Report:
    """Results of one tracker over sequences.

    Attributes:
        model: name of the tracker.
        results: one a sequence, in the order of the data set.
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

    def to_dict(self) -> dict[str, object]:
        """The JSON object {"model", "total": {...}, "sequences": {name: {...}}}."""
        sequences = {result.name: result.to_dict() for result in self.results}
        return {"model": self.model, "total": self.total, "sequences": sequences}

    def save(self, directory: Path | str) -> None:
        """Write `report.json`, and `<sequence>.txt` (x,y,w,h a line) and `<sequence>_score.txt`."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_dict(), indent=2) + "\n"
        (folder / "report.json").write_text(text, encoding="utf-8")
        for result in self.results:
            np.savetxt(folder / f"{result.name}.txt", result.boxes, fmt="%.4f", delimiter=",")
            np.savetxt(folder / f"{result.name}_score.txt", result.scores, fmt="%.6f")


def run_sequence(
    tracker: SingleObjectTracker, sequence: VideoSequence, *, needs_truth: bool = True
) -> SequenceResult:
    """Start `tracker` on the first frame's true box and let it run to the end.

    The clock runs during `update` only; the image is decoded before. Without `needs_truth` a
    sequence of which only the first box is published gets no accuracy instead of an error.

    Raises:
        DatasetError: an unreadable image, fewer than two frames, or nothing to score.
        VtModelsError: from the tracker, with the sequence and the frame number added.
    """
    if len(sequence) < 2:
        raise DatasetError(f"{sequence.name}: {len(sequence)} frames; expected two or more")
    boxes = np.full((len(sequence), 4), np.nan)
    scores = np.ones(len(sequence))
    seconds = np.zeros(len(sequence) - 1)
    boxes[0] = sequence.boxes[0]
    index = 0
    try:
        tracker.init(sequence.read_frame(0), to_box(boxes[0]))
        for index in range(1, len(sequence)):
            frame = sequence.read_frame(index)
            begin = time.perf_counter()
            estimate = tracker.update(frame)
            seconds[index - 1] = time.perf_counter() - begin
            boxes[index], scores[index] = estimate.box, estimate.score
        is_known = needs_truth or bool(np.isfinite(sequence.boxes[1:]).any())
        accuracy = score_sequence(boxes, sequence.boxes) if is_known else None
        return SequenceResult(sequence.name, boxes, scores, seconds, accuracy)
    except DatasetError as error:
        raise DatasetError(f"{sequence.name}: {error}") from error
    except VtModelsError as error:
        raise VtModelsError(f"{sequence.name}, frame {index + 1}: {error}") from error


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
        sequences: the videos; a lazy data set is loaded one at a time.
        model: name for the report.
        jobs: processes; each runs whole sequences, with OpenCV limited to one thread. They compete
            for the processor, so time per frame is only worth quoting with `jobs` = 1.
        progress: show a progress bar on standard error.
        run: what is done with each sequence; picklable like the factory.

    Raises:
        InputError: no sequence, or `jobs` below 1.
        VtModelsError: what the data set or the tracker raises.
    """
    if jobs < 1:
        raise InputError(f"jobs is {jobs}; expected 1 or more")
    if not len(sequences):
        raise InputError("no sequence to run over")
    runs = _run_here if jobs == 1 else _run_in_processes
    finished = runs(tracker_factory, sequences, jobs, run)
    with tqdm(total=len(sequences), desc=model, unit="seq", disable=not progress) as bar:
        results = []
        for result in finished:
            score = "" if result.accuracy is None else f" AO {result.accuracy.ao:.3f}"
            bar.set_postfix_str(result.name + score)
            bar.update()
            results.append(result)
    return Report(model, tuple(results))


def _run_here(
    factory: TrackerFactory, sequences: Iterable[VideoSequence], _jobs: int, run: SequenceRunner
) -> Iterator[SequenceResult]:
    tracker = factory()
    return (run(tracker, sequence) for sequence in sequences)


def _run_in_processes(
    factory: TrackerFactory, sequences: Iterable[VideoSequence], jobs: int, run: SequenceRunner
) -> Iterator[SequenceResult]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _Worker.start, (factory, run)) as pool:
        yield from pool.map(_Worker.run, sequences)


class _Worker:
    """The tracker of a worker process, built with its first sequence so that errors get out."""

    factory: TrackerFactory
    run_one: SequenceRunner
    tracker: SingleObjectTracker | None = None

    @classmethod
    def start(cls, factory: TrackerFactory, run_one: SequenceRunner) -> None:
        cv2.setNumThreads(1)
        cls.factory = staticmethod(factory)
        cls.run_one = staticmethod(run_one)

    @classmethod
    def run(cls, sequence: VideoSequence) -> SequenceResult:
        if cls.tracker is None:
            cls.tracker = cls.factory()
        return cls.run_one(cls.tracker, sequence)


def to_box(row: NDArray[np.float64]) -> Box:
    """A row x, y, w, h as a tuple."""
    x, y, w, h = (float(value) for value in row)
    return x, y, w, h
