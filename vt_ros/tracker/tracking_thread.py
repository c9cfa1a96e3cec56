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
from functools import partial
from typing import Any, Protocol

from vt_interfaces.srv import SetTarget
from vt_models.errors import InputError
from vt_models.tracker.tracker import Search
from vt_ros.common.convert import serialised_header, shown_seconds
from vt_ros.common.errors import describe_error
from vt_ros.common.futures import settle
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

    def error(self, message: str, *, throttle_duration_sec: float = 0.0) -> bool:
        """Say what failed, at most once in so many seconds."""


@dataclass(frozen=True)
class _ModelChange:
    """Another model that is to go on; `done` is completed when it does, or cannot."""

    model: RunningModel
    done: Future[None]


@dataclass(frozen=True)
class _OperatorAnswer:
    """Whether what was found again is the target; `done` is completed with what came of it."""

    accepted: bool
    done: Future[str]


@dataclass
class _Inbox:
    """What the thread has not seen yet; guarded by its condition.

    Attributes:
        due: `time.monotonic()` since which there was something to do and no turn has ended; None
            while there is nothing to do.
    """

    changed: threading.Condition = field(default_factory=threading.Condition)
    newest: BufferedImage | None = None
    requests: list[Pending] = field(default_factory=list)
    operator_answers: list[_OperatorAnswer] = field(default_factory=list)
    model_change: _ModelChange | None = None
    dropped: int = 0
    stopping: bool = False
    due: float | None = None

    def has_work(self) -> bool:
        """Whether the thread has something to do."""
        return bool(
            self.stopping
            or self.newest
            or self.requests
            or self.operator_answers
            or self.model_change
        )


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
        self._open_requests: set[Future[Any]] = set()
        self._open_changes: set[Future[Any]] = set()
        self._last_offered: BufferedImage | None = None
        self._abandoned = False
        self._previous_frame: tuple[str, str, tuple[int, ...], int] | None = None
        self._target = CurrentTarget(model, last_target_id)
        self._starter = TargetStarter(
            self._target,
            images,
            self._decoder,
            self._publish,
            self._is_stopping,
            redetection,
        )
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)

    @property
    def last_target_id(self) -> int:
        """Number of the last target that was accepted."""
        return self._target.last_id

    @property
    def last_search(self) -> Search | None:
        """The last search of the network; its memory is the tracking thread's."""
        return self._target.tracker.tracker.last_search

    def start(self) -> None:
        """Start the thread; once."""
        self._thread.start()

    def stop(self, patience: float | None = None) -> bool:
        """Finish the present frame, end the thread, refuse what still waits.

        Args:
            patience: seconds to wait for the end of the present frame; None: for ever.

        Returns:
            Whether the thread has ended. One that is stuck is left behind, and publishes nothing
            any more.
        """
        with self._inbox.changed:
            self._inbox.stopping = True
            self._inbox.changed.notify()
        self._thread.join(patience)
        self._abandoned = self._thread.is_alive()
        self.refuse_waiting(
            TargetRefusedError(SetTarget.Response.ERROR_NOT_ACTIVE, "the tracker was deactivated")
        )
        for done in tuple(self._open_changes):
            settle(done, None)
        return not self._abandoned

    def offer(self, image: BufferedImage) -> None:
        """Hand over an image; it replaces one that was not started yet."""
        inbox = self._inbox
        with inbox.changed:
            inbox.dropped += inbox.newest is not None
            inbox.newest = self._last_offered = image
            self._images.push(image)
            self._wake()

    def seconds_without_turn(self) -> float:
        """Return for how long there was something to do and no turn has ended; 0: all is done."""
        due = self._inbox.due
        return 0.0 if due is None else time.monotonic() - due

    def refuse_waiting(self, refusal: TargetRefusedError) -> None:
        """Answer all requests, also those that this thread has taken up; any thread may."""
        for answer in tuple(self._open_requests):
            settle(answer, refusal)

    def report_stuck(self, reason: str) -> FrameReport | None:
        """Report the newest image in place of this thread, which is stuck; once for each image.

        Nothing is known of the target then: it is LOST, without a box.
        """
        image, self._last_offered = self._last_offered, None
        if image is None:
            return None
        counters = replace(self._counters, dropped=self._inbox.dropped)
        return replace(
            self._target.report_nothing(serialised_header(image.message), reason),
            counters=counters,
        )

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

    def confirm(self, accepted: bool) -> Future[str]:
        """Say whether what was found again after LOST is the target, between two frames.

        Returns:
            A future of a sentence, or of an InputError: nothing waits for the operator.
        """
        answer = _OperatorAnswer(accepted, Future())
        self._open_requests.add(answer.done)
        answer.done.add_done_callback(self._open_requests.discard)
        with self._inbox.changed:
            self._inbox.operator_answers.append(answer)
            self._wake()
        return answer.done

    def _ask(self, pending: Pending) -> None:
        self._open_requests.add(pending.answer)
        pending.answer.add_done_callback(self._open_requests.discard)
        with self._inbox.changed:
            self._inbox.requests.append(pending)
            self._wake()

    def _wake(self) -> None:
        """Tell the thread that there is something to do; the inbox is held."""
        if self._inbox.due is None:
            self._inbox.due = time.monotonic()
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
        self._open_changes.add(change.done)
        change.done.add_done_callback(self._open_changes.discard)
        with self._inbox.changed:
            previous, self._inbox.model_change = self._inbox.model_change, change
            self._wake()
        if previous is not None:
            settle(previous.done, None)
        return change.done

    def _run(self) -> None:
        inbox = self._inbox
        while True:
            with inbox.changed:
                if not inbox.has_work():
                    inbox.due = None
                inbox.changed.wait_for(inbox.has_work, self._starter.seconds_to_deadline())
                if inbox.stopping:
                    return
                inbox.due = time.monotonic()
                image, inbox.newest = inbox.newest, None
                change, inbox.model_change = inbox.model_change, None
                requests, inbox.requests = inbox.requests, []
                answers, inbox.operator_answers = inbox.operator_answers, []
                self._counters = replace(self._counters, dropped=inbox.dropped)
            self._starter.add(requests)
            if change is not None:
                self._change_model(change)
            for answer in answers:
                try:
                    settle(answer.done, self._target.confirm(answer.accepted))
                except BaseException as error:  # of whatever type, the caller waits for an answer
                    settle(answer.done, error)
            self._guarded(partial(self._begin, image), image)
            self._guarded(self._starter.serve)

    def _guarded(self, work: Callable[[], object], image: BufferedImage | None = None) -> None:
        """Do a part of a turn; if it raises, the thread goes on, and the image has a status."""
        try:
            work()
        except BaseException as error:  # of whatever type: nobody else would notice
            failure = describe_error(error)
            self._log.error(f"frame failed: {failure}", throttle_duration_sec=1.0)
            if image is not None:
                self._guarded(partial(self._report_failure, image, failure))

    def _report_failure(self, image: BufferedImage, failure: str) -> None:
        report = self._target.miss(serialised_header(image.message), f"frame failed: {failure}")
        self._publish(replace(report, failure=failure))

    def _is_stopping(self) -> bool:
        """Asked between two frames of one turn: it takes long, but it is not stuck."""
        self._inbox.due = time.monotonic()
        return self._inbox.stopping

    def _begin(self, image: BufferedImage | None) -> None:
        """Take over what has changed, and process the image, if there is one."""
        live = self._live()
        self._decoder.max_megapixels = live.max_megapixels
        self._target.tracker.settings = live.target
        if not self._target.id:
            self._target.tracker.clear()
        if image is not None:
            self._process(image)

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
            report = self._target.miss(error.header, f"image refused: {error}")
            self._publish(replace(report, refused=True))
            return
        self._starter.newest = image
        self._counters = replace(self._counters, processed=self._counters.processed + 1)
        notes = self._changes(frame)
        if self._starter.serve(newest_only=True):
            return
        self._suggest(image)
        report = self._target.track(frame)
        self._publish(replace(report, message="; ".join(filter(None, (*notes, report.message)))))

    def _suggest(self, image: BufferedImage) -> None:
        """Have a lost target searched for first where its description has been found."""
        if self._redetection is None or not self._target.id:
            return
        try:
            suggestion = self._redetection.suggestion(image, self._target.tracker.state)
            if suggestion is not None:
                with suppress(InputError):  # images have become smaller since the search
                    self._target.tracker.suggest(suggestion)
        except BaseException as error:  # the frame does without
            message = f"re-detection by description failed: {describe_error(error)}"
            self._log.error(message, throttle_duration_sec=1.0)

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
        except BaseException as error:  # of whatever type, the caller waits for an answer
            settle(change.done, error)
            return
        settle(change.done, None)

    def _publish(self, report: FrameReport) -> None:
        if not self._abandoned:
            self._publish_report(replace(report, counters=self._counters))
