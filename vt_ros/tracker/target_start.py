# SPDX-License-Identifier: Apache-2.0
"""From a request to a target: wait for its frame, start on that, and catch up to the present."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import cast

from vt_interfaces.srv import SetTarget
from vt_models.longterm.frame_buffer import FrameBuffer, StampNotHeldError, catch_up
from vt_ros.common.convert import NANOSECONDS, Box, Pixels, shown_seconds
from vt_ros.common.errors import describe_error
from vt_ros.common.futures import claim, settle
from vt_ros.tracker.current_target import CurrentTarget, FrameReport
from vt_ros.tracker.image_buffer import (
    BufferedImage,
    Frame,
    FrameBacklog,
    ImageBuffer,
    ImageDecoder,
    UnreadableImageError,
)
from vt_ros.tracker.target_request import FrameRef, TargetRefusedError, TargetStarted
from vt_ros.tracker.text_redetection import TextRedetection

# Frames tracked to get from a past frame to the present: for each second, at least, at most.
_CATCH_UP_RATE, _CATCH_UP_LEAST, _CATCH_UP_MOST = 10.0, 20, 60

# Nothing is reported meanwhile: a slow network takes fewer frames on the way.
_CATCH_UP_SECONDS = 2.0

_Code = SetTarget.Response


@dataclass(frozen=True)
class PendingStart:
    """A request for a target, of which the box is known, that waits for its frame."""

    box: Box
    text: str
    frame: FrameRef | FrameBacklog
    deadline: float
    answer: Future[TargetStarted]


@dataclass(frozen=True)
class PendingHold:
    """A request for a frame to search for a target in, and for those that follow it."""

    frame: FrameRef
    deadline: float
    answer: Future[FrameBacklog]


Pending = PendingStart | PendingHold


class _ObsoleteError(Exception):
    """The target that is being caught up is not wanted any more."""


class TargetStarter:
    """Serves requests for targets; for the tracking thread alone.

    Args:
        target: is replaced by the new one.
        images: the past images.
        decoder: of the tracking thread.
        publish: called with the report of a new target, and of the frame that it has reached.
        is_stopping: asked while catching up.
        redetection: is told the description of a new target; None: there is none.

    Attributes:
        newest: the last image that could be read.
        reached: number of the image that the last catching up has come to.
    """

    def __init__(
        self,
        target: CurrentTarget,
        images: ImageBuffer,
        decoder: ImageDecoder,
        publish: Callable[[FrameReport], None],
        is_stopping: Callable[[], bool],
        redetection: TextRedetection | None,
    ) -> None:
        self._target, self._images, self._decoder = target, images, decoder
        self._publish, self._is_stopping, self._redetection = publish, is_stopping, redetection
        self._pending: list[Pending] = []
        self.newest: BufferedImage | None = None
        self.reached = 0

    def add(self, pending: list[Pending]) -> None:
        """Take requests, to be served when their frames are there."""
        self._pending += pending

    def seconds_to_deadline(self) -> float | None:
        """Return how long to sleep at most, so that no request waits beyond its patience."""
        deadlines = [each.deadline for each in self._pending if not each.answer.done()]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def serve(self, newest_only: bool = False) -> bool:
        """Serve the requests that can be served now.

        Of several that would start a target the last one does; the others are cancelled by it.

        Args:
            newest_only: serve those alone that are about the newest frame.

        Returns:
            Whether one has started a target.
        """
        # Whatever is answered, cancelled or refused already is not on the list any more.
        self._pending = [pending for pending in self._pending if not pending.answer.done()]
        started, now = False, time.monotonic()
        for pending in reversed(self._pending):
            if newest_only and not _is_newest(pending.frame):
                continue
            try:
                image = self._image_for(pending, now)
                # From here on it cannot be cancelled any more.
                if image is None or not claim(pending.answer):
                    continue
                if isinstance(pending, PendingHold):
                    self._hold(pending, image)
                elif started:
                    reason = "cancelled by a later set_target (box)"
                    settle(pending.answer, TargetRefusedError(_Code.ERROR_CANCELLED, reason))
                else:
                    started = self._start(pending, image)
            except TargetRefusedError as refusal:
                settle(pending.answer, refusal)
            except BaseException as error:
                reason = f"the request failed: {describe_error(error)}"
                settle(pending.answer, TargetRefusedError(_Code.ERROR_INTERNAL, reason))
                raise
        return started

    def _hold(self, pending: PendingHold, image: BufferedImage) -> None:
        backlog = self._images.hold(image)
        if not settle(pending.answer, backlog):  # refused meanwhile: nobody would release it
            self._images.release(backlog)

    def _image_for(self, pending: Pending, now: float) -> BufferedImage | None:
        """Return the image that a request is about; None as long as it has to wait for that.

        Raises:
            TargetRefusedError: it did not come in time.
        """
        ref = pending.frame
        if isinstance(ref, FrameBacklog):
            return ref.image
        too_late = now >= pending.deadline
        if not ref.stamp:
            newest = self.newest
            if newest is not None and now - newest.received <= ref.patience:
                return newest
            if not too_late:
                return None
            reason = f"no readable image has arrived within {ref.patience:g} s"
            if newest is not None:
                reason = (
                    f"the last readable image arrived {now - newest.received:.1f} s ago and no "
                    f"other {ref.patience:g} s long"
                )
            raise TargetRefusedError(_Code.ERROR_NO_IMAGE, reason)

        recent = self._images.recent
        stamp = self._stamp_on_screen(ref) if ref.is_click else self._nearest_stamp(ref)
        if stamp is not None:
            with suppress(StampNotHeldError):  # it has just been dropped
                return recent.at(stamp)
        oldest, newest_stamp = recent.oldest, recent.newest
        if not too_late and (newest_stamp or 0) <= ref.stamp:
            return None
        if oldest is None or newest_stamp is None:
            raise TargetRefusedError(
                _Code.ERROR_NO_IMAGE, f"no image with a stamp has arrived within {ref.patience:g} s"
            )
        raise TargetRefusedError(
            _Code.ERROR_STAMP_NOT_FOUND,
            f"the frame of stamp {shown_seconds(ref.stamp)} is not held; {len(recent)} are, from "
            f"{shown_seconds(oldest)} to {shown_seconds(newest_stamp)} "
            "(frame_buffer.seconds, frame_buffer.megabytes)",
        )

    def _nearest_stamp(self, ref: FrameRef) -> int | None:
        """Return the stamp asked for if it is held, else the nearest held once it was missed."""
        tolerance = ref.tolerance * NANOSECONDS
        held = [s for s, _ in self._images.recent.after(max(0, ref.stamp - round(tolerance) - 1))]
        if ref.stamp in held:
            return ref.stamp
        if not held or held[-1] < ref.stamp:
            return None
        nearest = min(held, key=lambda stamp: abs(stamp - ref.stamp))
        return nearest if abs(nearest - ref.stamp) <= tolerance else None

    def _stamp_on_screen(self, ref: FrameRef) -> int | None:
        """Return the stamp of a click if a frame has it, else that of the frame clicked in."""
        shown = ref.stamp - ref.latency
        oldest = shown - round(ref.patience * NANOSECONDS)
        held = [stamp for stamp, _ in self._images.recent.after(max(0, oldest - 1))]
        if ref.stamp in held:
            return ref.stamp
        return max((stamp for stamp in held if stamp <= shown), default=None)

    def _start(self, pending: PendingStart, image: BufferedImage) -> bool:
        """Start a target on its image and catch up; False if nobody waits for it any more.

        Raises:
            TargetRefusedError: the image cannot be read, or the target cannot be started on it.
        """
        try:
            frame = self._decoder.decode(image)
        except UnreadableImageError as error:
            raise TargetRefusedError(
                _Code.ERROR_STAMP_NOT_FOUND, f"the frame of this stamp cannot be read: {error}"
            ) from error
        started, report = self._target.start(frame, pending.box, pending.text)
        if not settle(pending.answer, started):  # refused meanwhile: the network took too long
            self._target.clear()
            return False
        self._publish(report)
        if self._redetection is not None:
            self._redetection.start(pending.text)
        if image.stamp > 0 and not _is_newest(pending.frame):
            backlog = pending.frame if isinstance(pending.frame, FrameBacklog) else None
            self._catch_up(frame, started, backlog or self._images.recent)
        return True

    def _catch_up(
        self,
        start: Frame,
        started: TargetStarted,
        images: FrameBacklog | FrameBuffer[BufferedImage],
    ) -> None:
        """Track from a past frame to the newest one, and report on that."""
        target, frame, image = self._target, start, start.image

        def next_pixels(next_image: BufferedImage) -> Pixels:
            nonlocal frame, image
            if target.id != started.target_id or self._is_stopping():
                raise _ObsoleteError
            image = next_image
            with suppress(UnreadableImageError):  # the previous frame again
                frame = self._decoder.decode(image)
            return frame.pixels

        failure = ""
        begin, past = time.perf_counter(), time.monotonic() - start.image.received
        frames = min(max(round(_CATCH_UP_RATE * past), _CATCH_UP_LEAST), _CATCH_UP_MOST)
        try:
            # A backlog serves as well: `after` is all that is asked of it.
            buffer = cast("FrameBuffer[BufferedImage]", images)
            estimate = catch_up(
                target.tracker, buffer, start.stamp, next_pixels, frames, _CATCH_UP_SECONDS
            ).estimate
        except _ObsoleteError:
            return
        except BaseException as error:  # of whatever type, the frame counts as a missed one
            failure = describe_error(error)
            estimate = target.missed(frame.seconds, f"tracker failed: {failure}")
        if image.number > start.image.number and target.id == started.target_id:
            self.newest, self.reached = frame.image, image.number
            seconds = time.perf_counter() - begin
            report = target.report(frame, estimate, started.target_id, seconds)
            self._publish(replace(report, failure=failure))


def _is_newest(frame: FrameRef | FrameBacklog) -> bool:
    """Return whether the newest frame is meant, whichever that is."""
    return isinstance(frame, FrameRef) and not frame.stamp
