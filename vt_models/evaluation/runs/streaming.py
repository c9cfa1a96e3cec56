# SPDX-License-Identifier: Apache-2.0
"""Streaming evaluation: what a tracker has said by the time the world has moved on.

The camera delivers a frame every period. A tracker that is free takes the newest frame it has not
seen, or waits for the next; its answer is known once the latency has passed. In every frame the
newest known answer is compared with the truth of that frame. Li et al., "Towards streaming
perception", ECCV 2020, for one target. With a given latency nothing depends on the machine.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vt_models.datasets.sequence import VideoSequence
from vt_models.errors import InputError, VtModelsError
from vt_models.evaluation.runs.runner import (
    Report,
    SequenceResult,
    SingleObjectTracker,
    Starter,
    accuracy_of,
    check_length,
    located,
    start_on_truth,
)

_ROUNDING = 1e-9
"""In periods: 3 x 0.1 s is the time of a frame that comes every 0.3 s."""


def next_frame(free_at: float, last: int, period: float) -> int:
    """Index of the frame that a tracker takes which is free at `free_at` seconds.

    Frame i is there from i * period on. The newest one, but never `last` again: then the next.

    >>> next_frame(0.25, 0, 0.1), next_frame(0.25, 2, 0.1)
    (2, 3)
    """
    return max(last + 1, math.floor(free_at / period + _ROUNDING))


def known_answers(finished: NDArray[np.float64], period: float, count: int) -> NDArray[np.int64]:
    """Which answer is the newest one known when each of `count` frames comes.

    Args:
        finished: (K,) seconds, rising; the first is 0, the box the tracker was given.
        period: seconds between frames.
        count: of frames.

    Returns:
        (count,) indices into `finished`.
    """
    times = np.arange(count) + _ROUNDING
    return np.searchsorted(finished / period, times, side="right") - 1


@dataclass(frozen=True)
class Streaming:
    """Runs a tracker over a sequence as if it came from a camera; `run` of `runner.evaluate`.

    Attributes:
        period: seconds between frames.
        latency: seconds from taking a frame to its answer; None measures every update. Starting on
            the first frame takes no time.
        start: how the tracker is started.

    Raises:
        InputError: a period that is not above 0, or a latency below 0.
    """

    period: float
    latency: float | None = None
    start: Starter = start_on_truth

    def __post_init__(self) -> None:
        if not 0.0 < self.period < math.inf:
            raise InputError(f"{self.period} s between frames; expected more than 0")
        if self.latency is not None and not 0.0 <= self.latency < math.inf:
            raise InputError(f"a latency of {self.latency} s; expected 0 or more")

    def __call__(self, tracker: SingleObjectTracker, sequence: VideoSequence) -> SequenceResult:
        """Run to the end; `boxes` and `scores` are what was known in each frame.

        Raises:
            DatasetError: as `runner.run_sequence`.
            VtModelsError: from the tracker, with the sequence and the frame number added.
        """
        check_length(sequence)
        try:
            begun = self.start(tracker, sequence)
        except VtModelsError as error:
            raise located(error, sequence, 0) from error
        count = len(sequence)
        boxes, scores, finished = [begun or (math.nan,) * 4], [1.0 if begun else 0.0], [0.0]
        seconds: list[float] = []
        index = 0
        try:
            while begun and (index := next_frame(finished[-1], index, self.period)) < count:
                frame = sequence.read_frame(index)
                begin = time.perf_counter()
                estimate = tracker.update(frame)
                seconds.append(time.perf_counter() - begin)
                boxes.append(estimate.box)
                scores.append(estimate.score)
                took = seconds[-1] if self.latency is None else self.latency
                finished.append(max(finished[-1], index * self.period) + took)
        except VtModelsError as error:
            raise located(error, sequence, index) from error
        known = known_answers(np.array(finished), self.period, count)
        shown = np.array(boxes, np.float64)[known]
        accuracy = accuracy_of(shown, sequence)
        durations = np.array(seconds or [0.0])
        return SequenceResult(sequence.name, shown, np.array(scores)[known], durations, accuracy)

    @property
    def settings(self) -> dict[str, float | None]:
        """What decides the boxes, JSON-serialisable; a latency of None is measured."""
        latency = None if self.latency is None else round(1e3 * self.latency, 6)
        return {"fps": round(1.0 / self.period, 9), "latency_ms": latency}

    def about(self, report: Report) -> dict[str, float | None]:
        """Return the settings, and which share of the frames of a run was processed."""
        taken = sum(len(result.seconds) for result in report.results)
        frames = sum(len(result.boxes) - 1 for result in report.results)
        return {**self.settings, "processed": taken / frames}
