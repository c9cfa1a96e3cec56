# SPDX-License-Identifier: Apache-2.0
"""Frames in, reports out: one thread that always works on the newest frame.

The executor's thread only hands over bytes and requests, so services answer and transitions run
while a frame is being processed. Nothing here knows topics; `vt_ros.tracker_node` does.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from vt_interfaces.msg import TrackStatus
from vt_interfaces.srv import SetTarget
from vt_models.errors import InputError, VtModelsError
from vt_ros.convert import Box, ConversionError, ImageReader

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from builtin_interfaces.msg import Time
    from numpy.typing import NDArray

    from vt_models.tracker import Tracker

NANOSECONDS = 1_000_000_000


class TargetRefusedError(Exception):
    """A target that was asked for and cannot be started; the present one stays.

    Attributes:
        code: one of SetTarget.Response.ERROR_*.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class LossRule:
    """A target is lost when `frames` frames in a row scored below `threshold`."""

    threshold: float
    frames: int


@dataclass(frozen=True)
class Counters:
    """Frames since the start: received = processed + dropped + rejected."""

    processed: int = 0
    dropped: int = 0
    rejected: int = 0


@dataclass(frozen=True)
class Report:
    """What there is to publish about one frame.

    Attributes:
        header: of the image, unchanged.
        state: one of TrackStatus.STATE_*.
        counters: including this frame.
        score: confidence in [0, 1].
        target_id: 0 for none.
        box: x, y, w, h in pixels of the image; None while idle and while lost.
        inference_ms: time spent in the tracker.
        message: for humans.
        frame: (H, W, 3) uint8 RGB, valid until `publish` returns; None if it was unreadable.
    """

    header: Header
    state: int
    counters: Counters
    score: float = 0.0
    target_id: int = 0
    box: Box | None = None
    inference_ms: float = 0.0
    message: str = ""
    frame: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Started:
    """The answer to an accepted request."""

    target_id: int
    box: Box
    header: Header


@dataclass(frozen=True)
class _Frame:
    header: Header
    pixels: NDArray[np.uint8]
    received: float  # time.monotonic(), seconds

    @property
    def stamp(self) -> int:
        """Nanoseconds."""
        return stamp_nanoseconds(self.header.stamp)


@dataclass(frozen=True)
class _Request:
    box: Box
    stamp: int
    patience: float
    deadline: float
    answer: Future[Started]


@dataclass
class _Target:
    """One target from its start to its end; `low_frames` counts low scores in a row."""

    target_id: int
    size: tuple[int, int]
    low_frames: int = 0

    def is_lost(self, score: float, rule: LossRule) -> bool:
        """Take the score of the next frame into account."""
        self.low_frames = self.low_frames + 1 if score < rule.threshold else 0
        return self.low_frames >= rule.frames


class Log(Protocol):
    """The part of rclpy's logger that is used here."""

    def error(self, message: str) -> bool:
        """Say what failed."""


@dataclass
class _Inbox:
    """What the worker has not seen yet; guarded by its condition."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    message: bytes | None = None
    received: float = 0.0
    requests: list[_Request] = field(default_factory=list)
    dropped: int = 0
    stopping: bool = False


class Pipeline:
    """A tracker on a stream of serialised images.

    Args:
        tracker: used by this pipeline's thread alone, from `start` to `stop`.
        loss_rule: asked at every frame, so that it may change.
        publish: called in the pipeline's thread with every report.
        log: for what is not about one frame.
        last_target_id: numbers go on from here.
    """

    def __init__(
        self,
        tracker: Tracker,
        loss_rule: Callable[[], LossRule],
        publish: Callable[[Report], None],
        log: Log,
        last_target_id: int = 0,
    ) -> None:
        self._tracker = tracker
        self._loss_rule = loss_rule
        self._publish = publish
        self._log = log
        self._last_target_id = last_target_id
        self._inbox = _Inbox()
        self._reader = ImageReader()
        self._counters = Counters()
        self._newest: _Frame | None = None
        self._waiting: list[_Request] = []
        self._target: _Target | None = None
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)

    @property
    def last_target_id(self) -> int:
        """Number of the last target that was accepted."""
        return self._last_target_id

    def start(self) -> None:
        """Start the thread; once."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the present frame, end the thread, refuse what still waits."""
        with self._inbox.changed:
            self._inbox.stopping = True
            self._inbox.changed.notify()
        self._thread.join()
        for request in self._waiting + self._inbox.requests:
            _refuse(request, SetTarget.Response.ERROR_NOT_ACTIVE, "the tracker was deactivated")

    def offer(self, message: bytes) -> None:
        """Hand over a serialised sensor_msgs/Image; it replaces one that was not started yet."""
        inbox = self._inbox
        with inbox.changed:
            inbox.dropped += inbox.message is not None
            inbox.message = message
            inbox.received = time.monotonic()
            inbox.changed.notify()

    def set_target(self, box: Box, stamp: int, patience: float) -> Future[Started]:
        """Ask for a new target.

        Args:
            box: x, y, w, h in pixels; unchecked.
            stamp: nanoseconds, the frame to start on; 0 is the newest one.
            patience: seconds to wait for such a frame. Without a stamp, a frame that is older
                than this is not the newest any more: the camera has stopped.

        Returns:
            A future of the answer or of a `TargetRefusedError`.
        """
        deadline = time.monotonic() + patience
        request = _Request(box, stamp, patience, deadline, Future())
        with self._inbox.changed:
            self._inbox.requests.append(request)
            self._inbox.changed.notify()
        return request.answer

    def clear_target(self) -> int:
        """Forget the target at once, also while it is being looked for.

        Returns:
            Its number, 0 if there was none.
        """
        target, self._target = self._target, None
        return target.target_id if target else 0

    def _run(self) -> None:
        inbox = self._inbox
        while True:
            with inbox.changed:
                inbox.changed.wait_for(self._has_work, self._seconds_to_deadline())
                if inbox.stopping:
                    return
                message, inbox.message = inbox.message, None
                received = inbox.received
                self._waiting += inbox.requests
                inbox.requests = []
                self._counters = replace(self._counters, dropped=inbox.dropped)
            try:
                self._turn(message, received)
            except Exception as error:  # the thread must outlive a frame, whatever is in it
                self._log.error(f"frame skipped: {type(error).__name__}: {error}")

    def _has_work(self) -> bool:
        inbox = self._inbox
        return inbox.stopping or inbox.message is not None or bool(inbox.requests)

    def _seconds_to_deadline(self) -> float | None:
        """How long to sleep at most, so that no request waits beyond its patience."""
        deadlines = [request.deadline for request in self._waiting]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _turn(self, message: bytes | None, received: float) -> None:
        """Work on a new image, or, without one, on requests alone."""
        if message is None:
            self._serve_on_former_frame(self._waiting)
            return
        # The next frame overwrites the pixels of this one: who wants this one must start now.
        self._serve_on_former_frame([request for request in self._waiting if request.stamp])
        frame = self._read(message, received)
        if frame is None:
            self._serve_on_former_frame(self._waiting)
            return
        self._newest = frame
        self._counters = replace(self._counters, processed=self._counters.processed + 1)
        started = self._serve(self._waiting, frame)
        self._publish(started or self._track(frame))

    def _read(self, message: bytes, received: float) -> _Frame | None:
        """The image as a frame; None, and a report, if it cannot be read."""
        header = Header()
        try:
            image = deserialize_message(message, Image)
            header = image.header
            return _Frame(header, self._reader.read(image), received)
        except (ConversionError, RuntimeError, MemoryError) as error:
            self._counters = replace(self._counters, rejected=self._counters.rejected + 1)
            self._publish(self._unmeasured(header, f"image refused: {error}"))
            return None

    def _serve_on_former_frame(self, requests: list[_Request]) -> None:
        """Start targets on the frame that was reported already, and report it once more."""
        started = self._serve(requests, self._newest)
        if started:
            self._publish(started)

    def _serve(self, requests: list[_Request], frame: _Frame | None) -> Report | None:
        """Answer the requests that this frame decides; the report of the last one started."""
        report = None
        now = time.monotonic()
        for request in list(requests):
            if frame is not None and _is_wanted(frame, request, now):
                report = self._start(request, frame) or report
            elif now >= request.deadline or (frame is not None and _is_missed(frame, request)):
                _refuse(request, *_reason_without_frame(frame, request, now))
        self._waiting = [request for request in self._waiting if not request.answer.done()]
        return report

    def _start(self, request: _Request, frame: _Frame) -> Report | None:
        """Start a target; None if the tracker refuses it."""
        try:
            self._tracker.init(frame.pixels, request.box)
        except InputError as error:
            _refuse(request, SetTarget.Response.ERROR_INVALID_BOX, str(error))
            return None
        except VtModelsError as error:
            self._target = None  # the tracker has forgotten the former one
            _refuse(request, SetTarget.Response.ERROR_INTERNAL, f"tracker failed: {error}")
            return None
        self._last_target_id += 1
        self._target = _Target(self._last_target_id, frame.pixels.shape[:2])
        request.answer.set_result(Started(self._last_target_id, request.box, frame.header))
        return Report(
            frame.header,
            TrackStatus.STATE_TRACKING,
            self._counters,
            score=1.0,
            target_id=self._last_target_id,
            box=request.box,
            message=f"target {self._last_target_id} set",
            frame=frame.pixels,
        )

    def _track(self, frame: _Frame) -> Report:
        """Look for the target, if there is one, in a new frame."""
        target = self._target
        if target is None:
            return self._unmeasured(frame.header, "", frame)
        if target.size != frame.pixels.shape[:2]:
            target.low_frames = self._loss_rule().frames
            was, now = _shown(target.size), _shown(frame.pixels.shape)
            return self._unmeasured(
                frame.header, f"image size changed from {was} to {now}; set the target anew", frame
            )
        begin = time.perf_counter()
        try:
            estimate = self._tracker.update(frame.pixels)
        except VtModelsError as error:
            return self._unmeasured(frame.header, f"tracker failed: {error}", frame)
        elapsed_ms = 1000.0 * (time.perf_counter() - begin)
        if self._target is not target:  # cleared meanwhile
            return self._unmeasured(frame.header, "", frame)
        lost = target.is_lost(estimate.score, self._loss_rule())
        return Report(
            frame.header,
            TrackStatus.STATE_LOST if lost else TrackStatus.STATE_TRACKING,
            self._counters,
            score=estimate.score,
            target_id=target.target_id,
            box=None if lost else estimate.box,
            inference_ms=elapsed_ms,
            frame=frame.pixels,
        )

    def _unmeasured(self, header: Header, message: str, frame: _Frame | None = None) -> Report:
        """A report without a box; while a target is set this counts like a low score."""
        target = self._target
        state = TrackStatus.STATE_IDLE
        if target is not None:
            lost = target.is_lost(0.0, self._loss_rule())
            state = TrackStatus.STATE_LOST if lost else TrackStatus.STATE_TRACKING
        return Report(
            header,
            state,
            self._counters,
            target_id=target.target_id if target else 0,
            message=message,
            frame=frame.pixels if frame else None,
        )


def stamp_nanoseconds(stamp: Time) -> int:
    """A message's time as one number; 0 means that there is none."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def _is_wanted(frame: _Frame, request: _Request, now: float) -> bool:
    if request.stamp:
        return frame.stamp == request.stamp
    return now - frame.received <= request.patience


def _is_missed(frame: _Frame, request: _Request) -> bool:
    return bool(request.stamp) and frame.stamp > request.stamp


def _reason_without_frame(frame: _Frame | None, request: _Request, now: float) -> tuple[int, str]:
    """Error code and sentence for a request that found no frame to start on."""
    if frame is None:
        waited = f"within {request.patience:g} s"
        return SetTarget.Response.ERROR_NO_IMAGE, f"no readable image has arrived {waited}"
    if request.stamp:
        return SetTarget.Response.ERROR_STAMP_NOT_FOUND, (
            f"the frame of stamp {_seconds(request.stamp)} is not held; "
            f"the newest one has stamp {_seconds(frame.stamp)}"
        )
    age = now - frame.received
    return SetTarget.Response.ERROR_NO_IMAGE, (
        f"the last readable image arrived {age:.1f} s ago and no other {request.patience:g} s long"
    )


def _refuse(request: _Request, code: int, message: str) -> None:
    request.answer.set_exception(TargetRefusedError(code, message))


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds // NANOSECONDS}.{nanoseconds % NANOSECONDS:09d}"


def _shown(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
