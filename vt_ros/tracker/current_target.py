# SPDX-License-Identifier: Apache-2.0
"""The target that is tracked, on the model that tracks it; and what there is to report about it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import Header

from vt_interfaces.msg import TrackStatus
from vt_interfaces.srv import SetTarget
from vt_models.errors import InputError
from vt_models.longterm import LongTermEstimate, LongTermTracker, State
from vt_ros.common.convert import NANOSECONDS, Box, Pixels, stamp_nanoseconds
from vt_ros.common.errors import describe_error
from vt_ros.tracker.image_buffer import BufferedImage, Frame, ImageDecoder
from vt_ros.tracker.target_request import TargetRefusedError, TargetStarted

# Pixels; on less than this no network recognises anything.
_SMALLEST_SIDE = 2.0


@dataclass(frozen=True)
class Counters:
    """Frames since the start: received = processed + dropped + rejected."""

    processed: int = 0
    dropped: int = 0
    rejected: int = 0


@dataclass(frozen=True)
class FrameReport:
    """What there is to publish about one frame.

    Attributes:
        header: of the image, unchanged.
        state: one of TrackStatus.STATE_*.
        counters: including this frame.
        model: name of the model at work.
        model_reason: why it was chosen, where the parameter says "auto"; else empty.
        score: confidence in [0, 1].
        target_id: 0 for none.
        box: x, y, w, h in pixels of the image; None while IDLE and while LOST.
        covariance: (4, 4) of centre x, centre y, width, height in pixels squared.
        raw_score: the network's own, whatever became of it.
        unconfirmed: found again after LOST, and the operator is asked whether it is the target.
        inference_ms: time spent in the long-term tracker.
        message: for humans.
        refused: the image could not be read.
        failure: what went wrong in the program, by name; empty: nothing did.
        encoding: of the image message; empty if it was not read.
        frame: (H, W, 3) uint8 RGB, valid until `publish` returns; None if there is none.
    """

    header: Header
    state: int
    counters: Counters = Counters()
    model: str = ""
    model_reason: str = ""
    score: float = 0.0
    target_id: int = 0
    box: Box | None = None
    covariance: NDArray[np.float64] | None = None
    raw_score: float = 0.0
    unconfirmed: bool = False
    inference_ms: float = 0.0
    message: str = ""
    refused: bool = False
    failure: str = ""
    encoding: str = ""
    frame: Pixels | None = None


@dataclass(frozen=True)
class RunningModel:
    """A model at work.

    Attributes:
        tracker: its long-term tracker, used by the tracking thread alone.
        has_language_input: it is given the description of a target.
        name: of the model.
        reason: why it was chosen, where the parameter says "auto"; else empty.
    """

    tracker: LongTermTracker
    has_language_input: bool = False
    name: str = ""
    reason: str = ""


@dataclass(frozen=True)
class _Started:
    """What the present target was started with."""

    target_id: int
    image: BufferedImage
    box: Box
    text: str


class CurrentTarget:
    """At most one target on one model; for the tracking thread, but for `clear` and `last_id`.

    Args:
        model: at work first.
        last_id: numbers of targets go on from here.
    """

    def __init__(self, model: RunningModel, last_id: int) -> None:
        self._model = model
        self._started: _Started | None = None
        self.last_id = last_id

    @property
    def tracker(self) -> LongTermTracker:
        """The long-term tracker of the model at work."""
        return self._model.tracker

    @property
    def id(self) -> int:
        """Number of the target; 0 if there is none."""
        started = self._started
        return started.target_id if started else 0

    def clear(self) -> int:
        """Forget the target at once, also while a frame is being processed; any thread may.

        Returns:
            Its number, 0 if there was none.
        """
        started, self._started = self._started, None
        return started.target_id if started else 0

    def start(self, frame: Frame, box: Box, text: str) -> tuple[TargetStarted, FrameReport]:
        """Start a target.

        Args:
            frame: that it starts on.
            box: x, y, w, h in pixels of the frame.
            text: the description; empty: none.

        Raises:
            TargetRefusedError: the tracker refuses the box, and goes on with the previous target;
                or has failed, and there is none any more.
        """
        _, _, w, h = box
        if 0.0 < w < _SMALLEST_SIDE or 0.0 < h < _SMALLEST_SIDE:
            raise TargetRefusedError(
                SetTarget.Response.ERROR_INVALID_BOX,
                f"box is {w:g}x{h:g} pixels; draw one of at least "
                f"{_SMALLEST_SIDE:g}x{_SMALLEST_SIDE:g}",
            )
        try:
            estimate = _init(self._model, frame, box, text)
        except InputError as error:
            raise TargetRefusedError(SetTarget.Response.ERROR_INVALID_BOX, str(error)) from error
        except BaseException as error:  # of whatever type, the caller waits for an answer
            self._started = None  # the tracker has forgotten the previous target
            self.tracker.clear()
            raise TargetRefusedError(
                SetTarget.Response.ERROR_INTERNAL, f"tracker failed: {describe_error(error)}"
            ) from error
        self.last_id += 1
        self._started = _Started(self.last_id, frame.image, box, text)
        message = f"target {self.last_id} set"
        report = replace(self.report(frame, estimate, self.last_id), message=message)
        return TargetStarted(self.last_id, box, frame.header), report

    def confirm(self, accepted: bool) -> str:
        """Say whether what was found again after LOST is the target.

        Returns:
            What comes of it, a sentence.

        Raises:
            InputError: nothing waits for that answer.
        """
        target_id = self.id
        if not target_id:
            raise InputError("there is nothing to confirm: there is no target")
        if accepted:
            self.tracker.confirm()
            return f"target {target_id} confirmed"
        self.tracker.reject()
        return f"target {target_id} is searched for again; what was rejected is remembered"

    def track(self, frame: Frame) -> FrameReport:
        """Track the target, if there is one, in a new frame."""
        started = self._started
        if started is None:
            return self._report(frame.header, frame)
        begin, failure = time.perf_counter(), ""
        try:
            estimate = self.tracker.update(frame.pixels, frame.seconds)
        except BaseException as error:  # of whatever type, the frame counts as a missed one
            failure = describe_error(error)
            estimate = self.missed(frame.seconds, f"tracker failed: {failure}")
        if self._started is not started:  # cleared meanwhile
            return self._report(frame.header, frame)
        seconds = time.perf_counter() - begin
        report = self.report(frame, estimate, started.target_id, seconds)
        return replace(report, failure=failure)

    def report_nothing(self, header: Header, reason: str) -> FrameReport:
        """Report an image that the tracker has not seen; any thread may."""
        target_id = self.id
        report = self._report(header, None)
        if target_id:
            lost = LongTermEstimate(None, 0.0, State.LOST)
            report = self._report(header, None, lost, target_id)
        return replace(report, message=reason)

    def miss(self, header: Header, reason: str) -> FrameReport:
        """Report an image without pixels; for the target it is a frame without observation."""
        report, started = self._report(header, None), self._started
        if started is not None:
            stamp = stamp_nanoseconds(header.stamp)
            estimate = self.missed(stamp / NANOSECONDS if stamp else None, reason)
            report = self._report(header, None, estimate, started.target_id)
        return replace(report, message=reason)

    def missed(self, stamp: float | None, reason: str) -> LongTermEstimate:
        """Count a frame without observation; LOST if the tracker cannot even do that."""
        try:
            return self.tracker.missed(stamp, reason)
        except BaseException as error:  # nothing is known any more, and nothing else is said
            reason = f"{reason}; {describe_error(error)}"
            return LongTermEstimate(None, 0.0, State.LOST, reason=reason)

    def report(
        self, frame: Frame, estimate: LongTermEstimate, target_id: int, seconds: float = 0.0
    ) -> FrameReport:
        """Report a frame in which the tracker has tracked a target for so many seconds."""
        report = self._report(frame.header, frame, estimate, target_id)
        return replace(report, inference_ms=1000.0 * seconds, message=estimate.reason)

    def hand_over(
        self, model: RunningModel, newest: BufferedImage | None, decoder: ImageDecoder
    ) -> None:
        """Go on with another model; if that raises, the previous one is still at work.

        The target starts on its last box in the newest frame if it has one that is not waiting for
        the operator's confirmation; otherwise as it was started, and LOST, so that the model
        searches for what the operator had pointed at.
        """
        started = self._started
        if started is not None:
            estimate = self.tracker.estimate
            if estimate.box is not None and newest is not None and not estimate.unconfirmed:
                _init(model, decoder.decode(newest), estimate.box, started.text)
            else:
                _init(model, decoder.decode(started.image), started.box, started.text)
                model.tracker.lose("the target was lost before the model was changed")
        self._model = model

    def _report(
        self,
        header: Header,
        frame: Frame | None,
        estimate: LongTermEstimate | None = None,
        target_id: int = 0,
    ) -> FrameReport:
        """Report a frame; without an estimate there is no target."""
        report = FrameReport(
            header,
            TrackStatus.STATE_IDLE,
            model=self._model.name,
            model_reason=self._model.reason,
            encoding=frame.encoding if frame else "",
            frame=frame.pixels if frame else None,
        )
        if estimate is None:
            return report
        return replace(
            report,
            state=int(estimate.state),
            score=estimate.score,
            target_id=target_id,
            box=estimate.box,
            covariance=estimate.covariance,
            raw_score=estimate.raw_score,
            unconfirmed=estimate.unconfirmed,
        )


def _init(model: RunningModel, frame: Frame, box: Box, text: str) -> LongTermEstimate:
    description = text if model.has_language_input and text else None
    return model.tracker.init(frame.pixels, box, description, stamp=frame.seconds)
