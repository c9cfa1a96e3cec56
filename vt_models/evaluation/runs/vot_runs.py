# SPDX-License-Identifier: Apache-2.0
"""Runs as VOT has wanted them since 2020: from anchors, forwards or backwards."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vt_models.datasets.sequence import VideoSequence
from vt_models.errors import DatasetError, InputError, VtModelsError
from vt_models.evaluation.runs.runner import (
    SingleObjectTracker,
    TextChoice,
    located,
    start_at,
    to_box,
)
from vt_models.evaluation.runs.streaming import Streaming
from vt_models.files import read_bytes

Array: TypeAlias = NDArray[np.float64]

ANCHOR_STEP = 50
REALTIME_GRACE = 3
"""Slow steps that cost nothing after a start, the start among them, as VOT2020 to 2022 have it."""


class RealTimeClock:
    """Which frames a tracker misses in VOT's real-time experiment.

    As vot-toolkit counts: the answer to a frame holds in that frame, however late it comes. What a
    step took beyond one period is owed; while more than one period is owed, each frame that passes
    pays one off, is not looked at and keeps the last answer. The rest is forgiven, so a step of up
    to two periods costs nothing.

    Args:
        period: seconds between frames.
        grace: so many slow steps from the start on owe nothing.
    """

    def __init__(self, period: float, grace: int = REALTIME_GRACE) -> None:
        self._period, self._grace, self._owed = period, grace, 0.0

    def misses_next(self) -> bool:
        """Let the next frame come; return whether the tracker is still busy."""
        if self._owed > self._period:
            self._owed -= self._period
            return True
        return False

    def took(self, seconds: float) -> None:
        """Count the step that the tracker has made: the start, or a frame that it did not miss."""
        self._owed = 0.0
        if seconds <= self._period:
            return
        if self._grace > 0:
            self._grace -= 1
        else:
            self._owed = seconds - self._period


@dataclass(frozen=True, eq=False)
class AnchorRun:
    """One run from an anchor to the end of the video, or back to its beginning.

    Attributes:
        anchor: index of the frame it started in.
        forward: direction.
        boxes: (M, 4) in the order of the run; the first is the true box.
        seconds: (M,) duration of each step, the first of `init`, which reads its image; 0 where a
            frame was skipped.
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

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of all runs, one after the other."""
        return {
            "size": np.array(self.size),
            "anchors": np.array([(run.anchor, run.forward, len(run.boxes)) for run in self.runs]),
            "boxes": np.concatenate([run.boxes for run in self.runs]),
            "seconds": np.concatenate([run.seconds for run in self.runs]),
        }

    @classmethod
    def from_arrays(cls, sequence: VideoSequence, arrays: Mapping[str, NDArray[Any]]) -> AnchorRuns:
        """Make the runs over `sequence` again; KeyError or ValueError for other arrays."""
        anchors, (width, height) = arrays["anchors"], arrays["size"]
        cuts = np.cumsum(anchors[:, 2])[:-1]
        pieces = zip(
            anchors, np.split(arrays["boxes"], cuts), np.split(arrays["seconds"], cuts), strict=True
        )
        runs = tuple(
            AnchorRun(int(anchor), bool(forward), boxes, seconds)
            for (anchor, forward, _), boxes, seconds in pieces
        )
        return cls(sequence.name, sequence.boxes, (int(width), int(height)), runs)


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
        values = [float(line) for line in read_bytes(path).decode("utf-8").split()]
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: {error}; expected a number for each frame") from error
    anchors = {frame: value > 0 for frame, value in enumerate(values) if value}
    if len(values) != count or not anchors:
        raise DatasetError(
            f"{path}: {len(values)} numbers with {len(anchors)} anchors for {count} frames; "
            "expected a number for each frame and one or more anchors"
        )
    return anchors


def anchor_file(sequence: VideoSequence) -> Path:
    """Where VOT keeps the anchors of a sequence; most datasets have none."""
    return sequence.frames[0].parent.parent / "anchor.value"


def sequence_anchors(sequence: VideoSequence) -> dict[int, bool]:
    """Those in `anchor.value` beside the folder of frames, else `default_anchors`.

    Raises:
        DatasetError: as these two, or an anchor without a target.
    """
    path = anchor_file(sequence)
    if not path.exists():
        return default_anchors(sequence.boxes)
    anchors = read_anchors(path, len(sequence))
    for anchor in anchors:
        if np.isnan(sequence.boxes[anchor]).any():
            raise DatasetError(f"{path}: no target in the anchor, frame {anchor + 1}")
    return anchors


def run_anchored(
    tracker: SingleObjectTracker,
    sequence: VideoSequence,
    anchors: dict[int, bool] | None = None,
    text: TextChoice = "auto",
    stream: Streaming | None = None,
) -> AnchorRuns:
    """Start in every anchor and run to the end or the beginning of the video.

    Args:
        tracker: is started anew in each anchor.
        sequence: the video.
        anchors: frame to "forward?"; default: `sequence_anchors`.
        text: what a language model is told at each start.
        stream: VOT's real-time experiment, with the frames at this period; its latency, where one
            is given, is that of every step, the start too. None hands every frame over.

    Raises:
        DatasetError: an unreadable image, or an anchor without a target.
        VtModelsError: from the tracker, with the sequence and the frame number added.
    """
    runs = []
    latency = None if stream is None else stream.latency
    for anchor, forward in (sequence_anchors(sequence) if anchors is None else anchors).items():
        order = range(anchor, len(sequence)) if forward else range(anchor, -1, -1)
        boxes, seconds = np.full((len(order), 4), np.nan), np.zeros(len(order))
        boxes[0] = sequence.boxes[anchor]
        if np.isnan(boxes[0]).any():
            raise DatasetError(f"{sequence.name}: no target in the anchor, frame {anchor + 1}")
        index = anchor
        try:
            begin = time.perf_counter()
            start_at(tracker, sequence, anchor, to_box(boxes[0]), text)
            seconds[0] = time.perf_counter() - begin
            clock = RealTimeClock(math.inf if stream is None else stream.period)
            clock.took(seconds[0] if latency is None else latency)
            for step, index in enumerate(order[1:], start=1):
                if clock.misses_next():
                    boxes[step] = boxes[step - 1]
                    continue
                frame = sequence.read_frame(index)
                begin = time.perf_counter()
                boxes[step] = tracker.update(frame).box
                seconds[step] = time.perf_counter() - begin
                clock.took(seconds[step] if latency is None else latency)
        except VtModelsError as error:
            raise located(error, sequence, index) from error
        runs.append(AnchorRun(anchor, forward, boxes, seconds))
    return AnchorRuns(sequence.name, sequence.boxes, frame_size(sequence), tuple(runs))


def frame_size(sequence: VideoSequence) -> tuple[int, int]:
    """Width and height of the first frame, pixels."""
    height, width = sequence.read_frame(0).shape[:2]
    return int(width), int(height)
