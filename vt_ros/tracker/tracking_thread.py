# SPDX-License-Identifier: Apache-2.0
"""Frames in, reports out: one thread that always works on the newest frame.

The executor's thread only hands over bytes and requests, so services answer and transitions run
while a frame is being processed. Frames count in the order in which they arrive, whatever their
stamps say. Nothing here knows topics; `vt_ros.tracker.node` does.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from std_msgs.msg import Header

from vt_interfaces.msg import TrackStatus
from vt_interfaces.srv import SetTarget
from vt_models.errors import InputError, VtModelsError
from vt_models.longterm.frame_buffer import StampNotHeldError, catch_up
from vt_ros.common.convert import (
    NANOSECONDS,
    Box,
    ConversionError,
    serialised_stamp,
    stamp_nanoseconds,
)
from vt_ros.tracker.image_buffer import Arrival, Decoder, Frame, Trail
from vt_ros.tracker.target_request import Moment, Picked, Started, TargetRefusedError, Wish

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from sensor_msgs.msg import CompressedImage, Image

    from vt_models.longterm import Target, TargetEstimate
    from vt_models.longterm.frame_buffer import FrameRing
    from vt_ros.tracker.parameters import LiveSettings
    from vt_ros.tracker.text_redetection import Words

# Frames tracked to get from a past frame to the present: for each second, at least, at most.
_CATCH_UP_RATE, _CATCH_UP_LEAST, _CATCH_UP_MOST = 10.0, 20, 60

# Nothing is reported meanwhile: a slow network takes fewer frames on the way.
_CATCH_UP_SECONDS = 2.0

# On less than this, in pixels, no network recognises anything.
_SMALLEST_SIDE = 2.0


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


class Log(Protocol):
    """The part of rclpy's logger that is used here."""

    def error(self, message: str) -> bool:
        """Say what failed."""


@dataclass(frozen=True)
class Keeper:
    """A target keeper, and what it is fed beside the frames.

    Attributes:
        target: used by the pipeline's thread alone.
        takes_text: its model has a language input.
        words: has the words of a lost target looked for; None: nobody does.
    """

    target: Target
    takes_text: bool = False
    words: Words | None = None


@dataclass(frozen=True)
class _Request:
    """Somebody asks for a target, or (without a wish) for a frame to look for one in."""

    at: Moment | Picked
    wish: Wish | None
    deadline: float
    answer: Future[Started | Picked]

    @property
    def for_newest(self) -> bool:
        """It means the newest frame."""
        return isinstance(self.at, Moment) and not self.at.stamp


@dataclass(frozen=True)
class _Current:
    """The target that is being tracked, and what it was started with."""

    target_id: int
    arrival: Arrival
    box: Box
    text: str


@dataclass(frozen=True)
class _Swap:
    """Another keeper that is to go on; `done` is completed when it does, or cannot."""

    keeper: Keeper
    done: Future[None]


class _GivenUpError(Exception):
    """Nobody wants any more what is being done."""


@dataclass
class _Inbox:
    """What the worker has not seen yet; guarded by its condition."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    newest: Arrival | None = None
    arrivals: int = 0
    requests: list[_Request] = field(default_factory=list)
    swap: _Swap | None = None
    trails: list[Trail] = field(default_factory=list)
    dropped: int = 0
    stopping: bool = False


class Pipeline:
    """A target keeper on a stream of serialised images.

    Args:
        keeper: used by this pipeline's thread alone, from `start` to `stop`.
        message_type: of the images, sensor_msgs/Image or CompressedImage.
        ring: for the past frames.
        live: asked at every frame, so that it may change.
        publish: called in the pipeline's thread with every report.
        log: for what is not about one frame.
        last_target_id: numbers go on from here.
    """

    def __init__(
        self,
        keeper: Keeper,
        message_type: type[Image] | type[CompressedImage],
        ring: FrameRing[Arrival],
        live: Callable[[], LiveSettings],
        publish: Callable[[Report], None],
        log: Log,
        last_target_id: int = 0,
    ) -> None:
        self._keeper = keeper
        self._decoder = Decoder(message_type)
        self._ring = ring
        self._live = live
        self._publish = publish
        self._log = log
        self._last_target_id = last_target_id
        self._inbox = _Inbox()
        self._counters = Counters()
        self._stream = _Stream()
        self._newest: Arrival | None = None
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
        refusal = TargetRefusedError(
            SetTarget.Response.ERROR_NOT_ACTIVE, "the tracker was deactivated"
        )
        for request in self._waiting + self._inbox.requests:
            if request.answer.set_running_or_notify_cancel():
                request.answer.set_exception(refusal)
        if self._inbox.swap is not None:
            self._inbox.swap.done.set_result(None)

    def offer(self, message: bytes) -> None:
        """Hand over a serialised image; it replaces one that was not started yet."""
        inbox = self._inbox
        with inbox.changed:
            inbox.dropped += inbox.newest is not None
            inbox.arrivals += 1
            inbox.newest = Arrival(inbox.arrivals, message, time.monotonic())
            stamp = serialised_stamp(message)
            if stamp > 0:
                self._ring.push(stamp, inbox.newest, len(message))
                for trail in inbox.trails:
                    trail.push(stamp, inbox.newest)
            inbox.changed.notify()

    def set_target(self, wish: Wish) -> Future[Started]:
        """Ask for a new target.

        Returns:
            A future of the answer or of a `TargetRefusedError`; it can be cancelled until a frame
            to start on is there.
        """
        return self._ask(wish.at, wish)

    def pick(self, moment: Moment) -> Future[Picked]:
        """Ask for a frame to look for a target in; a future as of `set_target`.

        The frames that follow are kept until `release`, so that a target found there can be
        brought forward to the present.
        """
        return self._ask(moment, None)

    def release(self, picked: Picked) -> None:
        """Keep the frames since this one no longer."""
        with self._inbox.changed:
            self._inbox.trails = [
                trail for trail in self._inbox.trails if trail is not picked.trail
            ]

    def _ask(self, at: Moment | Picked, wish: Wish | None) -> Future[Started | Picked]:
        patience = at.patience if isinstance(at, Moment) else 0.0
        request = _Request(at, wish, time.monotonic() + patience, Future())
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

    def swap(self, keeper: Keeper) -> Future[None]:
        """Go on with another keeper, between two frames; the present target is handed over.

        Returns:
            A future that is done when it has happened, or holds the error for which the former
            keeper was left at work.
        """
        swap = _Swap(keeper, Future())
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

    def _turn(self, arrival: Arrival | None, swap: _Swap | None) -> None:
        """Exchange the keeper, work on a new image, answer requests."""
        if swap is not None:
            self._exchange(swap)
        self._keeper.target.settings = self._live().target
        if self._current is None:
            self._keeper.target.clear()
        if arrival is not None and arrival.number <= self._covered:
            self._count_covered(arrival)
        elif arrival is not None:
            self._on_image(arrival)
        self._serve(self._waiting)

    def _on_image(self, arrival: Arrival) -> None:
        """Read a new image, and look for the target in it unless it starts one."""
        frame = self._read(arrival)
        if frame is None:
            return
        self._newest = arrival
        self._counters = replace(self._counters, processed=self._counters.processed + 1)
        notes = self._stream.changes(frame)
        if self._serve([request for request in self._waiting if request.for_newest]):
            return
        report = self._track(frame)
        self._publish(replace(report, message="; ".join(filter(None, (*notes, report.message)))))

    def _count_covered(self, arrival: Arrival) -> None:
        """Count an image that catching up has reached before its turn came."""
        if arrival.number == self._covered:
            self._counters = replace(self._counters, processed=self._counters.processed + 1)
            return
        with self._inbox.changed:
            self._inbox.dropped += 1

    def _read(self, arrival: Arrival) -> Frame | None:
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
            try:
                arrival = self._arrival_for(request, now)
            except TargetRefusedError as refusal:
                if request.answer.set_running_or_notify_cancel():
                    request.answer.set_exception(refusal)
                continue
            # From here on it cannot be cancelled any more.
            if arrival is not None and request.answer.set_running_or_notify_cancel():
                started = self._fulfil(request, arrival) or started
        self._waiting = [request for request in self._waiting if not request.answer.done()]
        return started

    def _arrival_for(self, request: _Request, now: float) -> Arrival | None:
        """The image that a request means; None as long as it has to wait for that.

        Raises:
            TargetRefusedError: it did not come in time.
        """
        at = request.at
        if isinstance(at, Picked):
            return at.arrival
        if at.stamp:
            stamp = _nearest(self._ring, at)
            if stamp is not None:
                with suppress(StampNotHeldError):  # it has just been dropped
                    return self._ring.at(stamp)
            if now >= request.deadline or (self._ring.newest or 0) > at.stamp:
                raise TargetRefusedError(*_reason_without_stamp(self._ring, at))
            return None
        if self._newest is not None and now - self._newest.received <= at.patience:
            return self._newest
        if now >= request.deadline:
            raise TargetRefusedError(*_reason_without_frame(self._newest, at, now))
        return None

    def _fulfil(self, request: _Request, arrival: Arrival) -> bool:
        """Answer a request whose image is there; True if that has started a target."""
        if request.wish is None:
            request.answer.set_result(self._picked(arrival))
            return False
        try:
            frame = self._decoder.frame(arrival)
            self._start(request.wish, frame, request.answer)
        except (ConversionError, RuntimeError, MemoryError) as error:
            refusal = TargetRefusedError(
                SetTarget.Response.ERROR_STAMP_NOT_FOUND,
                f"the frame of this stamp cannot be read: {error}",
            )
        except TargetRefusedError as error:
            refusal = error
        else:
            if not request.for_newest:
                self._catch_up(frame, request.at)
            return True
        request.answer.set_exception(refusal)
        return False

    def _picked(self, arrival: Arrival) -> Picked:
        """An image to look for a target in; those that follow are kept from now on."""
        stamp = serialised_stamp(arrival.message)
        if stamp <= 0:
            return Picked(arrival, None)
        with self._inbox.changed:
            trail = Trail(self._ring, stamp)
            self._inbox.trails.append(trail)
        return Picked(arrival, trail)

    def _start(self, wish: Wish, frame: Frame, answer: Future[Started]) -> None:
        """Start a target on a frame, and answer.

        Raises:
            TargetRefusedError: the tracker refuses it, or has failed.
        """
        target = self._keeper.target
        text = wish.text if self._keeper.takes_text and wish.text else None
        try:
            _check_side(wish.box)
            estimate = target.init(frame.pixels, wish.box, text, stamp=frame.seconds)
        except InputError as error:
            raise TargetRefusedError(SetTarget.Response.ERROR_INVALID_BOX, str(error)) from error
        except Exception as error:  # whatever it is, somebody waits for an answer
            self._current = None  # the tracker has forgotten the former one
            target.clear()
            raise TargetRefusedError(
                SetTarget.Response.ERROR_INTERNAL, f"tracker failed: {error}"
            ) from error
        self._last_target_id += 1
        current = _Current(self._last_target_id, frame.arrival, wish.box, wish.text)
        self._current = current
        if self._keeper.words is not None:
            self._keeper.words.take(wish.text)
        answer.set_result(Started(current.target_id, wish.box, frame.header))
        report = self._report(frame, current, estimate)
        self._publish(replace(report, message=f"target {current.target_id} set"))

    def _catch_up(self, start: Frame, at: Moment | Picked) -> None:
        """Track from a past frame to the newest one, and report on that."""
        trail, current = at.trail if isinstance(at, Picked) else self._ring, self._current
        if trail is None or current is None:
            return
        frame, arrival = start, start.arrival

        def pixels(next_arrival: Arrival) -> NDArray[np.uint8]:
            nonlocal frame, arrival
            if self._current is not current or self._inbox.stopping:
                raise _GivenUpError
            arrival = next_arrival
            # Unreadable: the former one again.
            with suppress(ConversionError, RuntimeError, MemoryError):
                frame = self._decoder.frame(arrival)
            return frame.pixels

        target, begin = self._keeper.target, time.perf_counter()
        past = time.monotonic() - start.arrival.received
        frames = min(max(round(_CATCH_UP_RATE * past), _CATCH_UP_LEAST), _CATCH_UP_MOST)
        try:
            reached = catch_up(target, trail, start.stamp, pixels, frames, _CATCH_UP_SECONDS)
            estimate = reached.estimate
        except _GivenUpError:
            return
        except VtModelsError as error:
            estimate = target.missed(frame.seconds, f"tracker failed: {error}")
        if arrival.number > start.arrival.number and self._current is current:
            self._newest = frame.arrival
            self._covered = arrival.number
            self._publish(self._report(frame, current, estimate, begin))

    def _track(self, frame: Frame) -> Report:
        """Look for the target, if there is one, in a new frame."""
        current, keeper = self._current, self._keeper
        if current is None:
            return self._idle(frame)
        if keeper.words is not None:
            keeper.words.look(frame.arrival, keeper.target)
        begin = time.perf_counter()
        try:
            estimate = keeper.target.update(frame.pixels, frame.seconds)
        except VtModelsError as error:
            estimate = keeper.target.missed(frame.seconds, f"tracker failed: {error}")
        if self._current is not current:  # cleared meanwhile
            return self._idle(frame)
        return self._report(frame, current, estimate, begin)

    def _report(
        self,
        frame: Frame,
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

    def _idle(self, frame: Frame) -> Report:
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
        estimate = self._keeper.target.missed(stamp / NANOSECONDS if stamp else None, reason)
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
        except Exception as error:  # whatever it is, somebody waits for an answer
            swap.done.set_exception(error)
            return
        self._keeper = swap.keeper
        swap.done.set_result(None)

    def _hand_over(self, swap: _Swap, current: _Current) -> None:
        """Start the present target on another keeper.

        On its last box in the newest frame if it has one; otherwise as it was started, and LOST,
        so that the new keeper looks for what the operator had pointed at.
        """
        target, box = swap.keeper.target, self._keeper.target.estimate.box
        target.settings = self._live().target
        text = current.text if swap.keeper.takes_text and current.text else None
        if box is not None and self._newest is not None:
            frame = self._decoder.frame(self._newest)
            target.init(frame.pixels, box, text, stamp=frame.seconds)
            return
        frame = self._decoder.frame(current.arrival)
        target.init(frame.pixels, current.box, text, stamp=frame.seconds)
        target.lose("the target was lost before the model was changed")


class _Stream:
    """Notices what changes from one frame to the next beside the picture."""

    def __init__(self) -> None:
        self._former: tuple[str, str, tuple[int, ...], int] | None = None

    def changes(self, frame: Frame) -> list[str]:
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


def _nearest(ring: FrameRing[Arrival], at: Moment) -> int | None:
    """The stamp held that is meant: the very one, else the nearest once that was missed."""
    earliest = at.stamp - round(at.tolerance * NANOSECONDS)
    held = [stamp for stamp, _ in ring.after(max(0, earliest - 1))]
    if at.stamp in held:
        return at.stamp
    if not held or held[-1] < at.stamp:
        return None
    nearest = min(held, key=lambda stamp: abs(stamp - at.stamp))
    return nearest if abs(nearest - at.stamp) <= at.tolerance * NANOSECONDS else None


def _reason_without_frame(newest: Arrival | None, at: Moment, now: float) -> tuple[int, str]:
    """Error code and sentence for a request that found no frame to start on."""
    code = SetTarget.Response.ERROR_NO_IMAGE
    if newest is None:
        return code, f"no readable image has arrived within {at.patience:g} s"
    age = now - newest.received
    return code, (
        f"the last readable image arrived {age:.1f} s ago and no other {at.patience:g} s long"
    )


def _reason_without_stamp(ring: FrameRing[Arrival], at: Moment) -> tuple[int, str]:
    """Error code and sentence for a request whose frame is not held."""
    oldest, newest = ring.oldest, ring.newest
    if oldest is None or newest is None:
        return SetTarget.Response.ERROR_NO_IMAGE, (
            f"no image with a stamp has arrived within {at.patience:g} s"
        )
    return SetTarget.Response.ERROR_STAMP_NOT_FOUND, (
        f"the frame of stamp {_seconds(at.stamp)} is not held; {len(ring)} are, from "
        f"{_seconds(oldest)} to {_seconds(newest)} (ring.seconds, ring.megabytes)"
    )


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds // NANOSECONDS}.{nanoseconds % NANOSECONDS:09d}"


def _shown(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
