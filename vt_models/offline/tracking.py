# SPDX-License-Identifier: Apache-2.0
"""Frames of a recording in, what the node would publish about each out; every frame, in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.geometry.bearing import Bearing, BearingFinder
from vt_models.geometry.boxes import Box
from vt_models.longterm import LongTermEstimate, LongTermTracker, State
from vt_models.offline.targets import TargetFinder, TargetPlan
from vt_models.video.image_messages import ConversionError, MessageHeader
from vt_models.video.sources import Frame, RecordedSource

NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class RecordedFrame:
    """A frame of a recording.

    Attributes:
        number: counts all of them, from 0.
        time: when it was recorded, nanoseconds.
        header: of its message; of a video or folder, its time in that.
        read: returns (H, W, 3) uint8 RGB, valid until the next frame is read, or raises
            `ConversionError`.
    """

    number: int
    time: int
    header: MessageHeader
    read: Callable[[], Frame]


@dataclass(frozen=True)
class TargetReport:
    """What there is to say about a target in a frame.

    Attributes:
        name: of the target.
        target_id: 0 before it was started, then 1.
        estimate: of the long-term tracker.
        message: for humans.
        seconds: that the tracker took.
        bearing: of a measured box, where the camera is calibrated.
    """

    name: str
    target_id: int
    estimate: LongTermEstimate
    message: str = ""
    seconds: float = 0.0
    bearing: Bearing | None = None

    @property
    def state(self) -> State:
        """State of the target."""
        return self.estimate.state

    @property
    def box(self) -> Box | None:
        """x, y, w, h in pixels; None in IDLE and LOST."""
        return self.estimate.box

    @property
    def score(self) -> float:
        """Confidence in [0, 1]."""
        return self.estimate.score

    @property
    def covariance(self) -> NDArray[np.float64] | None:
        """(4, 4) of centre x, centre y, width, height in pixels squared."""
        return self.estimate.covariance


@dataclass(frozen=True)
class FrameReports:
    """What there is to say about a frame.

    Attributes:
        frame: of the recording.
        seconds: since the first frame, by the stamps.
        pixels: (H, W, 3) uint8 RGB; None where it could not be read.
        targets: one report each.
        processed, dropped, rejected: frames so far; rejected are those that cannot be read.
        age: seconds from the frame to its report; None where no machine is imitated.
    """

    frame: RecordedFrame
    seconds: float
    pixels: Frame | None
    targets: list[TargetReport]
    processed: int = 0
    dropped: int = 0
    rejected: int = 0
    age: float | None = None


class TargetRun:
    """One target on a tracker of its own.

    Args:
        plan: the target.
        tracker: for it alone.
        finder: of its box.
    """

    def __init__(self, plan: TargetPlan, tracker: LongTermTracker, finder: TargetFinder) -> None:
        self.plan, self._tracker, self._finder = plan, tracker, finder
        self.has_started = False

    def step(
        self, frame: RecordedFrame, seconds: float, pixels: Frame | None, problem: str
    ) -> TargetReport:
        """Take the next frame.

        Args:
            frame: of the recording.
            seconds: since the first one.
            pixels: of it; None where it cannot be read.
            problem: why.

        Raises:
            InputError: the target cannot be started.
        """
        begin = time.perf_counter()
        stamp = frame.header.stamp / NANOSECONDS if frame.header.stamp else None
        if self.has_started:
            if pixels is None:
                estimate = self._tracker.missed(stamp, problem)
            else:
                estimate = self._tracker.update(pixels, stamp)
            message = problem or estimate.reason
        elif pixels is None or seconds < self.plan.at:
            return TargetReport(self.plan.name, 0, self._tracker.estimate, problem)
        else:
            estimate, message = self._start(pixels, stamp)
        spent = time.perf_counter() - begin
        return TargetReport(self.plan.name, 1, estimate, message, spent)

    def _start(self, pixels: Frame, stamp: float | None) -> tuple[LongTermEstimate, str]:
        try:
            box, reason = self._finder.find(self.plan, pixels)
            has_language = self._tracker.tracker.spec.language
            text = (self.plan.text or None) if has_language else None
            estimate = self._tracker.init(pixels, box, text, stamp)
        except InputError as error:
            raise InputError(f"target {self.plan.name}: {error}") from error
        self.has_started = True
        return estimate, f"target 1 set{': ' + reason if reason else ''}"


def frames_of(source: RecordedSource) -> Iterator[RecordedFrame]:
    """Yield the frames of a video or folder; the stamp of the first is one period of it.

    A stamp of 0 would mean that there is none.
    """
    for number, pixels in enumerate(source):
        stamp = round((number + 1) * NANOSECONDS / source.fps)
        header = MessageHeader(stamp // NANOSECONDS, stamp % NANOSECONDS, "camera")
        yield RecordedFrame(number, stamp, header, lambda pixels=pixels: pixels)  # type: ignore[misc]


def track_frames(frames: Iterator[RecordedFrame], runs: list[TargetRun]) -> Iterator[FrameReports]:
    """Track targets through every frame.

    Raises:
        InputError: a target cannot be started, or a frame cannot be read at all.
    """
    clock, rejected = _Clock(), 0
    for count, frame in enumerate(frames, start=1):
        reports = _reports(frame, clock.seconds(frame), runs)
        rejected += reports.pixels is None
        yield replace(reports, processed=count - rejected, rejected=rejected)


def track_in_realtime(
    frames: Iterator[RecordedFrame], runs: list[TargetRun], latency: float | None
) -> Iterator[FrameReports]:
    """Track as a node would on the live stream: a frame that comes while it works may be dropped.

    As in the node one frame waits, the newest. Frames come when they were recorded.

    Args:
        frames: of the recording.
        runs: the targets.
        latency: seconds that a frame takes with all targets; None: what it takes here and now.

    Raises:
        InputError: as `track_frames`.
    """
    clock, free_at = _Clock(), -1.0
    processed = dropped = rejected = 0
    waiting: RecordedFrame | None = None
    origin: int | None = None

    def arrival(frame: RecordedFrame) -> float:
        return (frame.time - (origin or 0)) / NANOSECONDS

    def work(frame: RecordedFrame) -> FrameReports:
        nonlocal free_at, processed, rejected
        begin = time.perf_counter()
        reports = _reports(frame, clock.seconds(frame), runs)
        spent = time.perf_counter() - begin if latency is None else latency
        free_at = max(free_at, arrival(frame)) + spent
        rejected += reports.pixels is None
        processed += reports.pixels is not None
        targets = [replace(one, seconds=spent) for one in reports.targets]
        age = free_at - arrival(frame)
        return replace(
            reports,
            targets=targets,
            age=age,
            processed=processed,
            dropped=dropped,
            rejected=rejected,
        )

    for frame in frames:
        origin = frame.time if origin is None else origin
        clock.seconds(frame)
        if waiting is not None:
            if arrival(frame) <= free_at:
                dropped += 1
            else:
                yield work(waiting)
        waiting = frame
    if waiting is not None:
        yield work(waiting)


def with_bearings(reports: FrameReports, finder: BearingFinder, rectified: bool) -> FrameReports:
    """Add the direction of every measured box; a predicted one has none, lest it look so."""
    if reports.pixels is None:
        return reports
    size = reports.pixels.shape[1], reports.pixels.shape[0]
    targets = [
        replace(one, bearing=finder.find(one.box, one.covariance, size, rectified))
        if one.box is not None and one.state in (State.TRACKING, State.UNCERTAIN)
        else one
        for one in reports.targets
    ]
    return replace(reports, targets=targets)


class _Clock:
    """Seconds since the first frame, by stamps; by the time of recording where there are none."""

    def __init__(self) -> None:
        self._first: RecordedFrame | None = None

    def seconds(self, frame: RecordedFrame) -> float:
        first = self._first = self._first or frame
        if first.header.stamp and frame.header.stamp:
            return (frame.header.stamp - first.header.stamp) / NANOSECONDS
        return (frame.time - first.time) / NANOSECONDS


def _reports(frame: RecordedFrame, seconds: float, runs: list[TargetRun]) -> FrameReports:
    pixels, problem = None, ""
    try:
        pixels = frame.read()
    except ConversionError as error:
        problem = f"image refused: {error}"
    targets = [run.step(frame, seconds, pixels, problem) for run in runs]
    return FrameReports(frame, seconds, pixels, targets)
