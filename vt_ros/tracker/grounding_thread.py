# SPDX-License-Identifier: Apache-2.0
"""Boxes for words and points, found in one thread of their own while the tracking goes on."""

from __future__ import annotations

import os
import queue
import threading
import time
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vt_interfaces.srv import SetTarget
from vt_models.errors import InputError, VtModelsError
from vt_models.grounding import GroundingCancelledError, create_grounder
from vt_models.grounding.onnx_detector import open_detector
from vt_models.grounding.point import box_at
from vt_ros.common.convert import ConversionError
from vt_ros.tracker.image_buffer import Decoder
from vt_ros.tracker.target_request import TargetRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sensor_msgs.msg import CompressedImage, Image
    from std_msgs.msg import Header

    from vt_models.grounding import Candidate, Grounder
    from vt_models.grounding.onnx_detector import OnnxDetector
    from vt_ros.common.convert import Box
    from vt_ros.tracker.image_buffer import Arrival, Frame
    from vt_ros.tracker.parameters import GrounderRequest, LiveSettings
    from vt_ros.tracker.target_request import Point

# Tracking comes first: the system gives this thread, and those that a network starts from it, the
# time that is left over.
_NICE = 10

_Code = SetTarget.Response


@dataclass(frozen=True)
class Question:
    """What to find in an image: words, or the object at a point.

    Attributes:
        arrival: the image.
        message_type: what it is.
        text: words; empty: none.
        point: x, y in pixels; None: none.
    """

    arrival: Arrival
    message_type: type[Image] | type[CompressedImage]
    text: str = ""
    point: Point | None = None


@dataclass(frozen=True)
class Found:
    """A box that was found.

    Attributes:
        box: x, y, w, h in pixels of the image.
        score: how sure that is, in [0, 1].
        alternatives: what else would do, best first.
        reason: one sentence with what decided.
        header: of the image.
    """

    box: Box
    score: float
    alternatives: tuple[Candidate, ...]
    reason: str
    header: Header


@dataclass(frozen=True)
class Facts:
    """What the finder has to say about itself, for the diagnostics.

    Attributes:
        backend: that is loaded; empty: none.
        busy: what is being looked for; empty: nothing.
        last: what came of the last search.
        seconds: that it took.
        failure: why no text can be looked for at present; empty: nothing is wrong.
        names_only: the back end that is loaded knows what things are called and nothing else, so
            that words speak for a place and not against another one.
    """

    backend: str = ""
    busy: str = ""
    last: str = ""
    seconds: float = 0.0
    failure: str = ""
    names_only: bool = False


@dataclass(frozen=True)
class _Job:
    question: Question
    answer: Future[Found]
    background: bool


class Finder:
    """Answers questions one at a time. The back end is loaded when the first text comes.

    Args:
        live: asked at every text: which back end, and its thresholds. Another one is loaded when
            it has changed.
    """

    def __init__(self, live: Callable[[], LiveSettings]) -> None:
        self._live = live
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._newest: _Job | None = None
        self._thread: threading.Thread | None = None
        self._loaded: tuple[GrounderRequest, Grounder] | None = None
        self._things: OnnxDetector | None = None
        self.facts = Facts()

    def ask(self, question: Question, background: bool = False) -> Future[Found]:
        """Look for something.

        Args:
            question: what, and where.
            background: nobody waits for it: it gives way to every other question.

        Returns:
            A future of the answer, or of a `TargetRefusedError`. It can be cancelled at any
            moment; the search then ends as soon as the back end can.
        """
        job = _Job(question, Future(), background)
        with self._lock:
            newest = self._newest
            if newest is not None and not newest.answer.done():
                if background:
                    job.answer.cancel()
                    return job.answer
                if newest.background:
                    newest.answer.cancel()
            self._newest = job
            self._do(lambda: self._work(job))
        return job.answer

    def prepare(self) -> None:
        """Load the back end if that has not happened yet; `facts.failure` says if it cannot be."""

        def load() -> None:
            with suppress(TargetRefusedError):
                self._grounder()

        with self._lock:
            self._do(load)

    def close(self) -> None:
        """Cancel what is being looked for; the thread ends as soon as the back end can."""
        if self._newest is not None:
            self._newest.answer.cancel()
        self._jobs.put(None)

    def _do(self, job: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="finder", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _run(self) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while (job := self._jobs.get()) is not None:
            job()

    def _work(self, job: _Job) -> None:
        question, answer = job.question, job.answer
        if answer.cancelled():
            return
        begin = time.monotonic()
        self._note(busy=question.text or f"point {question.point}")
        try:
            found = self._find(question, answer.cancelled)
            self._finish(found.reason, begin)
            with suppress(InvalidStateError):  # cancelled
                answer.set_result(found)
        except GroundingCancelledError:
            self._finish("cancelled", begin)
            answer.cancel()
        except Exception as error:  # somebody waits for the answer, whatever goes wrong
            refusal = _refusal(error)
            self._finish(str(refusal), begin)
            with suppress(InvalidStateError):
                answer.set_exception(refusal)

    def _find(self, question: Question, cancelled: Callable[[], bool]) -> Found:
        frame = _read(question)
        if question.point is not None:
            return self._at_point(frame, question.point, cancelled)
        grounder = self._grounder()
        grounding = grounder.find(frame.pixels, question.text, cancelled)
        chosen, others = grounding.chosen, grounding.candidates
        if chosen is None:
            ambiguous = grounding.status == "ambiguous"
            raise TargetRefusedError(
                _Code.ERROR_AMBIGUOUS if ambiguous else _Code.ERROR_NOTHING_FOUND,
                f"{grounding.reason} ({grounding.backend}, {grounding.seconds:.1f} s)",
                others,
                frame.header,
            )
        reason = f"{grounding.reason} ({grounding.backend}, {grounding.seconds:.1f} s)"
        alternatives = tuple(other for other in others if other is not chosen)
        return Found(chosen.box, chosen.score, alternatives, reason, frame.header)

    def _at_point(self, frame: Frame, point: Point, cancelled: Callable[[], bool]) -> Found:
        """What the detector that ships takes for a thing, else what has an outline."""
        height, width = frame.pixels.shape[:2]
        x, y = point
        if not (0 <= x <= width and 0 <= y <= height):
            raise TargetRefusedError(
                _Code.ERROR_INVALID_POINT,
                f"the point ({x:g}, {y:g}) is outside the {width}x{height} image",
            )
        remark = ""
        try:
            if self._things is None:
                self._things = open_detector(None, "cpu", 1)
        except VtModelsError as error:  # an outline needs no network
            remark = f" (no detector: {error})"
        found = box_at(self._things, frame.pixels, point, cancelled)
        if found is None:
            raise TargetRefusedError(
                _Code.ERROR_NOTHING_FOUND,
                f"no object stands out at the point ({x:g}, {y:g}); draw a box (mode 0){remark}",
                header=frame.header,
            )
        reason = f"the {found.label} at ({x:g}, {y:g}), clear to {found.score:.2f}{remark}"
        return Found(found.box, found.score, (), reason, frame.header)

    def _grounder(self) -> Grounder:
        """The back end that the parameters ask for, loaded if it is another one than before."""
        live = self._live()
        request, settings = live.grounder, live.grounding
        if request is None:
            raise TargetRefusedError(
                _Code.ERROR_TEXT_UNSUPPORTED,
                "nothing looks for a text here: grounding.backend is none; set it, or give a box",
            )
        if self._loaded is None or self._loaded[0] != request:
            self._loaded = None
            self._note(backend="", failure="")
            try:
                grounder = create_grounder(
                    request.backend,
                    request.source or None,
                    settings=settings,
                    device=request.device,
                    threads=request.threads or None,
                )
            except Exception as error:
                known = isinstance(error, VtModelsError)
                reason = str(error) if known else f"{type(error).__name__}: {error}"
                self._note(failure=reason)
                raise TargetRefusedError(
                    _Code.ERROR_GROUNDING_UNAVAILABLE,
                    f"the grounding back end {request.backend} cannot be loaded: {reason}",
                ) from error
            self._loaded = request, grounder
            self._note(backend=grounder.name, names_only=grounder.names_only)
        grounder = self._loaded[1]
        grounder.settings = settings
        return grounder

    def _finish(self, last: str, begin: float) -> None:
        self._note(busy="", last=last, seconds=time.monotonic() - begin)

    def _note(self, **facts: str | float) -> None:
        self.facts = replace(self.facts, **facts)


def _read(question: Question) -> Frame:
    """The frame, read by a decoder of this thread: the pipeline's goes on with its own."""
    try:
        return Decoder(question.message_type).frame(question.arrival)
    except (ConversionError, RuntimeError) as error:
        raise TargetRefusedError(
            _Code.ERROR_STAMP_NOT_FOUND, f"the frame cannot be read: {error}"
        ) from error


def _refusal(error: Exception) -> TargetRefusedError:
    """What to answer when a search has failed."""
    if isinstance(error, TargetRefusedError):
        return error
    if isinstance(error, InputError):
        return TargetRefusedError(_Code.ERROR_INVALID_TEXT, str(error))
    return TargetRefusedError(
        _Code.ERROR_INTERNAL, f"the search failed: {type(error).__name__}: {error}"
    )
