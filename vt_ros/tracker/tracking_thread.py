# SPDX-License-Identifier: Apache-2.0
"""The newest image in, a report out: one thread that tracks.

The executor's thread only hands over images and requests, so services answer and transitions run
while a frame is being processed. Frames count in the order in which they arrive, whatever their
stamps say. Nothing here knows topics; `vt_ros.tracker.session` does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from vt_interfaces.srv import SetTarget
from vt_models.errors import InputError
from vt_ros.common.convert import shown_seconds
from vt_ros.tracker.current_target import Counters, CurrentTarget, FrameReport, RunningModel
from vt_ros.tracker.image_buffer import (
    BufferedImage,
    Frame,
    FrameBacklog,
    ImageBuffer,
    ImageDecoder,
    UnreadableImageError,
)
from vt_ros.tracker.parameters import LiveSettings
from vt_ros.tracker.target_request import (
    FrameRef,
    TargetRefusedError,
    TargetRequest,
    TargetStarted,
)
from vt_ros.tracker.target_start import Pending, PendingHold, PendingStart, TargetStarter
from vt_ros.tracker.text_redetection import TextRedetection


class Log(Protocol):
    """The part of rclpy's logger that is used here."""

    def error(self, message: str) -> bool:
        """Say what failed."""


@dataclass(frozen=True)
class _ModelChange:
    """Another model that is to go on; `done` is completed when it does, or cannot."""

    model: RunningModel
    done: Future[None]


@dataclass
class _Inbox:
    """What the thread has not seen yet; guarded by its condition."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    newest: BufferedImage | None = None
    requests: list[Pending] = field(default_factory=list)
    model_change: _ModelChange | None = None
    dropped: int = 0
    stopping: bool = False


class TrackingThread:
    """Tracks on a stream of serialised images.

    Args:
        model: at work first; used by this thread alone, from `start` to `stop`.
        images: for the past frames.
        live: asked at every frame, so that it may change.
        publish: called in this thread with every report.
        log: for what is not about one frame.
        redetection: by description, for this thread alone; None: there is none.
        last_target_id: numbers of targets go on from here.
    """

    def __init__(
        self,
        model: RunningModel,
        images: ImageBuffer,
        live: Callable[[], LiveSettings],
        publish: Callable[[FrameReport], None],
        log: Log,
        redetection: TextRedetection | None = None,
        last_target_id: int = 0,
    ) -> None:
        self._images, self._live, self._log, self._redetection = images, live, log, redetection
        self._publish_report = publish
        self._inbox = _Inbox()
        self._decoder = ImageDecoder()
        self._counters = Counters()
        self._previous_frame: tuple[str, str, tuple[int, ...], int] | None = None
        self._target = CurrentTarget(model, last_target_id)
        self._starter = TargetStarter(
            self._target,
            images,
            self._decoder,
            self._publish,
            lambda: self._inbox.stopping,
            redetection,
        )
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)

    @property
    def last_target_id(self) -> int:
        """Number of the last target that was accepted."""
        return self._target.last_id

    def start(self) -> None:
        """Start the thread; once."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the present frame, end the thread, refuse what still waits."""
        with self._inbox.changed:
            self._inbox.stopping = True
            self._inbox.changed.notify()
        self._thread.join()
        self._starter.add(self._inbox.requests)
        self._starter.refuse_all(
            TargetRefusedError(SetTarget.Response.ERROR_NOT_ACTIVE, "the tracker was deactivated")
        )
        if self._inbox.model_change is not None:
            self._inbox.model_change.done.set_result(None)

    def offer(self, image: BufferedImage) -> None:
        """Hand over an image; it replaces one that was not started yet."""
        inbox = self._inbox
        with inbox.changed:
            inbox.dropped += inbox.newest is not None
            inbox.newest = image
            self._images.push(image)
            inbox.changed.notify()

    def set_target(self, request: TargetRequest) -> Future[TargetStarted]:
        """Start a target as soon as its frame is there.

        Returns:
            A future of the answer or of a `TargetRefusedError`; it can be cancelled until a frame
            to start on is there.

        Raises:
            ValueError: the request has no box; one is to be found first.
        """
        if request.box is None:
            raise ValueError(f"a target needs a box to start on, and {request} has none yet")
        answer: Future[TargetStarted] = Future()
        patience = request.frame.patience if isinstance(request.frame, FrameRef) else 0.0
        deadline = time.monotonic() + patience
        self._ask(PendingStart(request.box, request.text, request.frame, deadline, answer))
        return answer

    def hold(self, frame: FrameRef) -> Future[FrameBacklog]:
        """Find a frame to search for a target in; a future as of `set_target`.

        The frames that follow are kept until `release`, so that a target found there can be
        brought forward to the present.
        """
        answer: Future[FrameBacklog] = Future()
        self._ask(PendingHold(frame, time.monotonic() + frame.patience, answer))
        return answer

    def release(self, backlog: FrameBacklog) -> None:
        """Keep the frames since this one no longer."""
        self._images.release(backlog)

    def _ask(self, pending: Pending) -> None:
        with self._inbox.changed:
            self._inbox.requests.append(pending)
            self._inbox.changed.notify()

    def clear_target(self) -> int:
        """Forget the target at once, also while it is being tracked.

        Returns:
            Its number, 0 if there was none.
        """
        return self._target.clear()

    def change_model(self, model: RunningModel) -> Future[None]:
        """Go on with another model, between two frames; the present target is handed over.

        Returns:
            A future that is done when it has happened, or holds the error for which the previous
            model was left at work.
        """
        change = _ModelChange(model, Future())
        with self._inbox.changed:
            previous, self._inbox.model_change = self._inbox.model_change, change
            self._inbox.changed.notify()
        if previous is not None:
            previous.done.set_result(None)
        return change.done

    def _run(self) -> None:
        inbox = self._inbox

        def has_work() -> bool:
            return bool(inbox.stopping or inbox.newest or inbox.requests or inbox.model_change)

        while True:
            with inbox.changed:
                inbox.changed.wait_for(has_work, self._starter.seconds_to_deadline())
                if inbox.stopping:
                    return
                image, inbox.newest = inbox.newest, None
                change, inbox.model_change = inbox.model_change, None
                requests, inbox.requests = inbox.requests, []
                self._counters = replace(self._counters, dropped=inbox.dropped)
            try:
                self._starter.add(requests)
                if change is not None:
                    self._change_model(change)
                self._target.tracker.settings = self._live().target
                if not self._target.id:
                    self._target.tracker.clear()
                if image is not None:
                    self._process(image)
                self._starter.serve()
            except Exception as error:  # the thread must outlive a frame, whatever is in it
                self._log.error(f"frame skipped: {type(error).__name__}: {error}")

    def _process(self, image: BufferedImage) -> None:
        """Decode a new image, and track the target in it unless it starts one."""
        if image.number < self._starter.reached:
            with self._inbox.changed:  # catching up has left it out
                self._inbox.dropped += 1
            return
        if image.number == self._starter.reached:  # catching up has come to it before its turn
            self._counters = replace(self._counters, processed=self._counters.processed + 1)
            return
        try:
            frame = self._decoder.decode(image)
        except UnreadableImageError as error:
            self._counters = replace(self._counters, rejected=self._counters.rejected + 1)
            self._publish(self._target.miss(error.header, f"image refused: {error}"))
            return
        self._starter.newest = image
        self._counters = replace(self._counters, processed=self._counters.processed + 1)
        notes = self._changes(frame)
        if self._starter.serve(newest_only=True):
            return
        if self._redetection is not None and self._target.id:
            suggestion = self._redetection.suggestion(image, self._target.tracker.state)
            if suggestion is not None:
                with suppress(InputError):  # images have become smaller since the search
                    self._target.tracker.suggest(suggestion)
        report = self._target.track(frame)
        self._publish(replace(report, message="; ".join(filter(None, (*notes, report.message)))))

    def _changes(self, frame: Frame) -> list[str]:
        """Return sentences about what is different from the previous frame beside its content."""
        now = frame.header.frame_id, frame.encoding, frame.pixels.shape[:2], frame.stamp
        previous, self._previous_frame = self._previous_frame, now
        if previous is None:
            return []
        notes = []
        if previous[0] != now[0]:
            notes.append(f"frame_id changed from {previous[0]!r} to {now[0]!r}")
        if previous[1] != now[1]:
            notes.append(f"encoding changed from {previous[1]!r} to {now[1]!r}")
        if previous[2] != now[2]:
            (h0, w0), (h1, w1) = previous[2], now[2]
            notes.append(f"image size changed from {w0}x{h0} to {w1}x{h1}")
        if now[3] and now[3] < previous[3]:
            notes.append(f"stamps went back by {shown_seconds(previous[3] - now[3])} s")
        return notes

    def _change_model(self, change: _ModelChange) -> None:
        """Put another model to work, with the present target; or leave the previous one."""
        try:
            change.model.tracker.settings = self._live().target
            self._target.hand_over(change.model, self._starter.newest, self._decoder)
        except Exception as error:  # whatever it is, the caller waits for an answer
            change.done.set_exception(error)
            return
        change.done.set_result(None)

    def _publish(self, report: FrameReport) -> None:
        self._publish_report(replace(report, counters=self._counters))
