# SPDX-License-Identifier: Apache-2.0
"""Frames in, reports out: one thread that always works on the newest frame.

The executor's thread only hands over bytes and requests, so services answer and transitions run
while a frame is being processed. Frames count in the order in which they arrive, whatever their
stamps say. Nothing here knows topics; `vt_ros.tracker` does.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from vt_interfaces.msg import TrackStatus
from vt_interfaces.srv import SetTarget
from vt_models.errors import InputError, VtModelsError
from vt_models.target.ring import FrameRing, StampNotHeldError, catch_up
from vt_ros.convert import (
    NANOSECONDS,
    Box,
    CompressedReader,
    ConversionError,
    ImageReader,
    serialised_stamp,
    stamp_nanoseconds,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from vt_models.target import Target, TargetEstimate
    from vt_ros.settings import LiveSettings

_CATCH_UP_FRAMES = 20

# On less than this, in pixels, no network recognises anything.
_SMALLEST_SIDE = 2.0


class TargetRefusedError(Exception):
    """A target that was asked for and cannot be started; the present one stays.

    Attributes:
        code: one of SetTarget.Response.ERROR_*.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


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
        covariance: (4, 4) of centre x, centre y, width, height in pixels squared.
        inference_ms: time spent in the tracker.
        message: for humans.
        refused: the image could not be read.
        encoding: of the image message; empty if it was not read.
        frame: (H, W, 3) uint8 RGB, valid until `publish` returns; None if there is none.
    """

    header: Header
    state: int
    counters: Counters
    score: float = 0.0
    target_id: int = 0
    box: Box | None = None
    covariance: NDArray[np.float64] | None = None
    inference_ms: float = 0.0
    message: str = ""
    refused: bool = False
    encoding: str = ""
    frame: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Started:
    """The answer to an accepted request."""

    target_id: int
    box: Box
    header: Header


@dataclass(frozen=True)
class Wish:
    """A target that is asked for.

    Attributes:
        box: x, y, w, h in pixels; unchecked.
        text: what it is, in words; empty: none.
        stamp: nanoseconds, the frame to start on; 0 is the newest one.
        patience: seconds to wait for such a frame. Without a stamp, a frame that is older than
            this is not the newest any more: the camera has stopped.
        tolerance: seconds by which the frame may miss the stamp.
    """

    box: Box
    text: str = ""
    stamp: int = 0
    patience: float = 1.0
    tolerance: float = 0.0


class Log(Protocol):
    """The part of rclpy's logger that is used here."""

    def error(self, message: str) -> bool:
        """Say what failed."""


@dataclass(frozen=True)
class _Arrival:
    """A serialised image; `number` counts arrivals, `received` is time.monotonic()."""

    number: int
    message: bytes
    received: float


@dataclass(frozen=True)
class _Frame:
    arrival: _Arrival
    header: Header
    encoding: str
    pixels: NDArray[np.uint8]

    @property
    def stamp(self) -> int:
        """Nanoseconds."""
        return stamp_nanoseconds(self.header.stamp)

    @property
    def seconds(self) -> float | None:
        """The stamp as the target keeper takes it; None if there is none."""
        return self.stamp / NANOSECONDS if self.stamp else None


@dataclass(frozen=True)
class _Request:
    wish: Wish
    deadline: float
    answer: Future[Started]


@dataclass(frozen=True)
class _Current:
    """The target that is being tracked, and what it was started with."""

    target_id: int
    arrival: _Arrival
    box: Box
    text: str


@dataclass(frozen=True)
class _Swap:
    """Another keeper that is to go on; `done` is completed when it does, or cannot."""

    target: Target
    takes_text: bool
    done: Future[None]


@dataclass
class _Inbox:
    """What the worker has not seen yet; guarded by its condition."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    newest: _Arrival | None = None
    arrivals: int = 0
    requests: list[_Request] = field(default_factory=list)
    swap: _Swap | None = None
    dropped: int = 0
    stopping: bool = False


class Pipeline:
    """A target keeper on a stream of serialised images.

    Args:
        target: used by this pipeline's thread alone, from `start` to `stop`.
        message_type: of the images, sensor_msgs/Image or CompressedImage.
        ring: for the past frames.
        live: asked at every frame, so that it may change.
        publish: called in the pipeline's thread with every report.
        log: for what is not about one frame.
        last_target_id: numbers go on from here.
    """

    def __init__(
        self,
        target: Target,
        message_type: type[Image] | type[CompressedImage],
        ring: FrameRing[_Arrival],
        live: Callable[[], LiveSettings],
        publish: Callable[[Report], None],
        log: Log,
        last_target_id: int = 0,
    ) -> None:
        self._target = target
        self._decoder = _Decoder(message_type)
        self._ring = ring
        self._live = live
        self._publish = publish
        self._log = log
        self._last_target_id = last_target_id
        self._inbox = _Inbox()
        self._counters = Counters()
        self._stream = _Stream()
        self._newest: _Arrival | None = None
        self._covered = 0
        self._waiting: list[_Request] = []
        self._current: _Current | None = None
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
        if self._inbox.swap is not None:
            self._inbox.swap.done.set_result(None)

    def offer(self, message: bytes) -> None:
        """Hand over a serialised image; it replaces one that was not started yet."""
        inbox = self._inbox
        with inbox.changed:
            inbox.dropped += inbox.newest is not None
            inbox.arrivals += 1
            inbox.newest = _Arrival(inbox.arrivals, message, time.monotonic())
            stamp = serialised_stamp(message)
            if stamp > 0:
                self._ring.push(stamp, inbox.newest, len(message))
            inbox.changed.notify()

    def set_target(self, wish: Wish) -> Future[Started]:
        """Ask for a new target; a future of the answer or of a `TargetRefusedError`."""
        request = _Request(wish, time.monotonic() + wish.patience, Future())
        with self._inbox.changed:
            self._inbox.requests.append(request)
            self._inbox.changed.notify()
        return request.answer

    def clear_target(self) -> int:
        """Forget the target at once, also while it is being looked for.

        Returns:
            Its number, 0 if there was none.
        """
        current, self._current = self._current, None
        return current.target_id if current else 0

    def swap(self, target: Target, takes_text: bool) -> Future[None]:
        """Go on with another keeper, between two frames; the present target is handed over.

        Args:
            target: owned by this pipeline from now on.
            takes_text: its model has a language input.

        Returns:
            A future that is done when it has happened, or holds the error for which the former
            keeper was left at work.
        """
        swap = _Swap(target, takes_text, Future())
        with self._inbox.changed:
            former, self._inbox.swap = self._inbox.swap, swap
            self._inbox.changed.notify()
        if former is not None:
            former.done.set_result(None)
        return swap.done

    def _run(self) -> None:
        inbox = self._inbox
        while True:
            with inbox.changed:
                inbox.changed.wait_for(self._has_work, self._seconds_to_deadline())
                if inbox.stopping:
                    return
                arrival, inbox.newest = inbox.newest, None
                swap, inbox.swap = inbox.swap, None
                self._waiting += inbox.requests
                inbox.requests = []
                self._counters = replace(self._counters, dropped=inbox.dropped)
            try:
                self._turn(arrival, swap)
            except Exception as error:  # the thread must outlive a frame, whatever is in it
                self._log.error(f"frame skipped: {type(error).__name__}: {error}")

    def _has_work(self) -> bool:
        inbox = self._inbox
        return bool(inbox.stopping or inbox.newest or inbox.requests or inbox.swap)

    def _seconds_to_deadline(self) -> float | None:
        """How long to sleep at most, so that no request waits beyond its patience."""
        deadlines = [request.deadline for request in self._waiting]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _turn(self, arrival: _Arrival | None, swap: _Swap | None) -> None:
        """Exchange the keeper, work on a new image, answer requests."""
        if swap is not None:
            self._exchange(swap)
        self._target.settings = self._live().target
        if self._current is None:
            self._target.clear()
        if arrival is not None and arrival.number <= self._covered:
            self._count_covered(arrival)
        elif arrival is not None:
            self._on_image(arrival)
        self._serve(self._waiting)

    def _on_image(self, arrival: _Arrival) -> None:
        """Read a new image, and look for the target in it unless it starts one."""
        frame = self._read(arrival)
        if frame is None:
            return
        self._newest = arrival
        self._counters = replace(self._counters, processed=self._counters.processed + 1)
        notes = self._stream.changes(frame)
        if self._serve([request for request in self._waiting if not request.wish.stamp]):
            return
        report = self._track(frame)
        self._publish(replace(report, message="; ".join(filter(None, (*notes, report.message)))))

    def _count_covered(self, arrival: _Arrival) -> None:
        """Count an image that catching up has reached before its turn came."""
        if arrival.number == self._covered:
            self._counters = replace(self._counters, processed=self._counters.processed + 1)
            return
        with self._inbox.changed:
            self._inbox.dropped += 1

    def _read(self, arrival: _Arrival) -> _Frame | None:
        """The image as a frame; None, and a report, if it cannot be read."""
        header = Header()
        try:
            image = self._decoder.deserialise(arrival)
            header = image.header
            return self._decoder.decode(arrival, image)
        except (ConversionError, RuntimeError, MemoryError) as error:
            self._counters = replace(self._counters, rejected=self._counters.rejected + 1)
            self._publish(self._refused(header, f"image refused: {error}"))
            return None

    def _serve(self, requests: list[_Request]) -> bool:
        """Answer the requests that can be answered now; True if one has started a target."""
        started = False
        now = time.monotonic()
        for request in list(requests):
            if request.wish.stamp:
                started = self._serve_past(request, now) or started
            elif self._newest is not None and now - self._newest.received <= request.wish.patience:
                started = self._start(request, self._decoder.frame(self._newest)) or started
            elif now >= request.deadline:
                _refuse(request, *_reason_without_frame(self._newest, request.wish, now))
        self._waiting = [request for request in self._waiting if not request.answer.done()]
        return started

    def _serve_past(self, request: _Request, now: float) -> bool:
        """Start on the frame of a stamp and catch up; or refuse; or go on waiting for it."""
        stamp = _nearest(self._ring, request.wish)
        if stamp is None:
            if now >= request.deadline or (self._ring.newest or 0) > request.wish.stamp:
                _refuse(request, *_reason_without_stamp(self._ring, request.wish))
            return False
        try:
            frame = self._decoder.frame(self._ring.at(stamp))
        except (ConversionError, RuntimeError, StampNotHeldError) as error:
            code = SetTarget.Response.ERROR_STAMP_NOT_FOUND
            _refuse(request, code, f"the frame of this stamp cannot be read: {error}")
            return False
        if not self._start(request, frame):
            return False
        self._catch_up(frame)
        return True

    def _start(self, request: _Request, frame: _Frame) -> bool:
        """Start a target on a frame; False if the tracker refuses it."""
        wish = request.wish
        try:
            _check_side(wish.box)
            estimate = self._target.init(
                frame.pixels, wish.box, wish.text or None, stamp=frame.seconds
            )
        except InputError as error:
            _refuse(request, SetTarget.Response.ERROR_INVALID_BOX, str(error))
            return False
        except VtModelsError as error:
            self._current = None  # the tracker has forgotten the former one
            self._target.clear()
            _refuse(request, SetTarget.Response.ERROR_INTERNAL, f"tracker failed: {error}")
            return False
        self._last_target_id += 1
        current = _Current(self._last_target_id, frame.arrival, wish.box, wish.text)
        self._current = current
        request.answer.set_result(Started(current.target_id, wish.box, frame.header))
        report = self._report(frame, current, estimate)
        self._publish(replace(report, message=f"target {current.target_id} set"))
        return True

    def _catch_up(self, start: _Frame) -> None:
        """Track from a past frame through the ring to the newest one, and report on that."""
        current, frame, arrival = self._current, start, start.arrival

        def pixels(next_arrival: _Arrival) -> NDArray[np.uint8]:
            nonlocal frame, arrival
            arrival = next_arrival
            with suppress(ConversionError, RuntimeError):  # unreadable: the former one again
                frame = self._decoder.frame(arrival)
            return frame.pixels

        begin = time.perf_counter()
        try:
            estimate = catch_up(
                self._target, self._ring, start.stamp, pixels, _CATCH_UP_FRAMES
            ).estimate
        except VtModelsError as error:
            estimate = self._target.missed(frame.seconds, f"tracker failed: {error}")
        if arrival.number > start.arrival.number and current is not None:
            self._newest = frame.arrival
            self._covered = arrival.number
            self._publish(self._report(frame, current, estimate, begin))

    def _track(self, frame: _Frame) -> Report:
        """Look for the target, if there is one, in a new frame."""
        current = self._current
        if current is None:
            return self._idle(frame)
        begin = time.perf_counter()
        try:
            estimate = self._target.update(frame.pixels, frame.seconds)
        except VtModelsError as error:
            estimate = self._target.missed(frame.seconds, f"tracker failed: {error}")
        if self._current is not current:  # cleared meanwhile
            return self._idle(frame)
        return self._report(frame, current, estimate, begin)

    def _report(
        self,
        frame: _Frame,
        current: _Current,
        estimate: TargetEstimate,
        begin: float | None = None,
    ) -> Report:
        """What to publish about a frame that the tracker has seen, since `begin`."""
        elapsed = 0.0 if begin is None else time.perf_counter() - begin
        return Report(
            frame.header,
            int(estimate.state),
            self._counters,
            score=estimate.score,
            target_id=current.target_id,
            box=estimate.box,
            covariance=estimate.covariance,
            inference_ms=1000.0 * elapsed,
            message=estimate.reason,
            encoding=frame.encoding,
            frame=frame.pixels,
        )

    def _idle(self, frame: _Frame) -> Report:
        """What to publish about a frame while there is no target."""
        return Report(
            frame.header,
            TrackStatus.STATE_IDLE,
            self._counters,
            encoding=frame.encoding,
            frame=frame.pixels,
        )

    def _refused(self, header: Header, reason: str) -> Report:
        """What to publish about an unreadable image; for the target it is a frame not seen."""
        report = Report(
            header, TrackStatus.STATE_IDLE, self._counters, message=reason, refused=True
        )
        current = self._current
        if current is None:
            return report
        stamp = stamp_nanoseconds(header.stamp)
        estimate = self._target.missed(stamp / NANOSECONDS if stamp else None, reason)
        return replace(
            report,
            state=int(estimate.state),
            score=estimate.score,
            target_id=current.target_id,
            box=estimate.box,
            covariance=estimate.covariance,
        )

    def _exchange(self, swap: _Swap) -> None:
        """Put another keeper to work, with the present target; or leave the former one."""
        try:
            if self._current is not None:
                self._hand_over(swap, self._current)
        except (VtModelsError, ConversionError, RuntimeError) as error:
            swap.done.set_exception(error)
            return
        self._target = swap.target
        swap.done.set_result(None)

    def _hand_over(self, swap: _Swap, current: _Current) -> None:
        """Start the present target on another keeper.

        On its last box in the newest frame if it has one; otherwise as it was started, and LOST,
        so that the new keeper looks for what the operator had pointed at.
        """
        target, box = swap.target, self._target.estimate.box
        target.settings = self._live().target
        text = current.text if swap.takes_text and current.text else None
        if box is not None and self._newest is not None:
            frame = self._decoder.frame(self._newest)
            target.init(frame.pixels, box, text, stamp=frame.seconds)
            return
        frame = self._decoder.frame(current.arrival)
        target.init(frame.pixels, current.box, text, stamp=frame.seconds)
        target.lose("the target was lost before the model was changed")


class _Decoder:
    """Serialised images to frames; the pixels of a frame are valid until the next one."""

    def __init__(self, message_type: type[Image] | type[CompressedImage]) -> None:
        self._type = message_type
        self._reader = CompressedReader() if message_type is CompressedImage else ImageReader()

    def deserialise(self, arrival: _Arrival) -> Image | CompressedImage:
        """The message; RuntimeError if the bytes are none."""
        return deserialize_message(arrival.message, self._type)

    def decode(self, arrival: _Arrival, image: Image | CompressedImage) -> _Frame:
        """The frame in a message; ConversionError if it cannot be read."""
        encoding = image.format if isinstance(image, CompressedImage) else image.encoding
        return _Frame(arrival, image.header, encoding, self._reader.read(image))

    def frame(self, arrival: _Arrival) -> _Frame:
        """Both steps."""
        return self.decode(arrival, self.deserialise(arrival))


class _Stream:
    """Notices what changes from one frame to the next beside the picture."""

    def __init__(self) -> None:
        self._former: tuple[str, str, tuple[int, ...], int] | None = None

    def changes(self, frame: _Frame) -> list[str]:
        """Sentences about what is different from the former frame."""
        now = frame.header.frame_id, frame.encoding, frame.pixels.shape[:2], frame.stamp
        former, self._former = self._former, now
        if former is None:
            return []
        notes = []
        if former[0] != now[0]:
            notes.append(f"frame_id changed from {former[0]!r} to {now[0]!r}")
        if former[1] != now[1]:
            notes.append(f"encoding changed from {former[1]!r} to {now[1]!r}")
        if former[2] != now[2]:
            notes.append(f"image size changed from {_shown(former[2])} to {_shown(now[2])}")
        if now[3] and now[3] < former[3]:
            notes.append(f"stamps went back by {_seconds(former[3] - now[3])} s")
        return notes


def _check_side(box: Box) -> None:
    """InputError for a box that shows too little; what else is wrong with it the tracker says."""
    _, _, w, h = box
    if 0.0 < w < _SMALLEST_SIDE or 0.0 < h < _SMALLEST_SIDE:
        raise InputError(
            f"box is {w:g}x{h:g} pixels; draw one of at least {_SMALLEST_SIDE:g}x{_SMALLEST_SIDE:g}"
        )


def _nearest(ring: FrameRing[_Arrival], wish: Wish) -> int | None:
    """The stamp held that a wish means: the very one, else the nearest once that was missed."""
    earliest = wish.stamp - round(wish.tolerance * NANOSECONDS)
    held = [stamp for stamp, _ in ring.after(max(0, earliest - 1))]
    if wish.stamp in held:
        return wish.stamp
    if not held or held[-1] < wish.stamp:
        return None
    nearest = min(held, key=lambda stamp: abs(stamp - wish.stamp))
    return nearest if abs(nearest - wish.stamp) <= wish.tolerance * NANOSECONDS else None


def _reason_without_frame(newest: _Arrival | None, wish: Wish, now: float) -> tuple[int, str]:
    """Error code and sentence for a request that found no frame to start on."""
    code = SetTarget.Response.ERROR_NO_IMAGE
    if newest is None:
        return code, f"no readable image has arrived within {wish.patience:g} s"
    age = now - newest.received
    return code, (
        f"the last readable image arrived {age:.1f} s ago and no other {wish.patience:g} s long"
    )


def _reason_without_stamp(ring: FrameRing[_Arrival], wish: Wish) -> tuple[int, str]:
    """Error code and sentence for a request whose frame is not held."""
    oldest, newest = ring.oldest, ring.newest
    if oldest is None or newest is None:
        return SetTarget.Response.ERROR_NO_IMAGE, (
            f"no image with a stamp has arrived within {wish.patience:g} s"
        )
    return SetTarget.Response.ERROR_STAMP_NOT_FOUND, (
        f"the frame of stamp {_seconds(wish.stamp)} is not held; {len(ring)} are, from "
        f"{_seconds(oldest)} to {_seconds(newest)} (ring.seconds, ring.megabytes)"
    )


def _refuse(request: _Request, code: int, message: str) -> None:
    request.answer.set_exception(TargetRefusedError(code, message))


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds // NANOSECONDS}.{nanoseconds % NANOSECONDS:09d}"


def _shown(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
