# SPDX-License-Identifier: Apache-2.0
"""Text or point to box, in one thread of low priority, while the tracking goes on."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from std_msgs.msg import Header

from vt_interfaces.srv import SetTarget
from vt_models.errors import InputError
from vt_models.grounding import Candidate, Grounder, GroundingCancelledError, create_grounder
from vt_models.grounding.onnx_detector import OnnxDetector, open_detector
from vt_models.grounding.point import thing_at
from vt_ros.common.convert import Box, Pixels
from vt_ros.common.errors import describe_error
from vt_ros.common.futures import settle
from vt_ros.tracker.image_buffer import BufferedImage, ImageDecoder, UnreadableImageError
from vt_ros.tracker.parameters import GrounderRequest, LiveSettings
from vt_ros.tracker.target_request import Point, TargetRefusedError

# Tracking comes first: the system gives this thread, and those that a network starts from it, the
# time that is left over.
_NICE = 10

_Code = SetTarget.Response


@dataclass(frozen=True)
class GroundingResult:
    """A box that was found.

    Attributes:
        box: x, y, w, h in pixels of the image.
        score: confidence in [0, 1].
        alternatives: what else would do, best first.
        reason: one sentence with what decided.
        header: of the image; an empty one where the job had pixels alone.
    """

    box: Box
    score: float
    alternatives: tuple[Candidate, ...]
    reason: str
    header: Header


@dataclass(frozen=True)
class GroundingJob:
    """What to find, and where: a description, or the object at a point.

    Attributes:
        image: to search in, serialised; or (H, W, 3) uint8 RGB pixels that stay as they are.
        text: the description; empty: none.
        point: x, y in pixels; None: none.
        background: nobody waits for the result: the job gives way to every other one.
        result: a future of it, or of a `TargetRefusedError`. It can be cancelled at any moment; the
            search then ends as soon as the backend can.
    """

    image: BufferedImage | Pixels
    text: str = ""
    point: Point | None = None
    background: bool = False
    result: Future[GroundingResult] = field(default_factory=Future)


@dataclass(frozen=True)
class GroundingStatus:
    """What the thread has to say about itself, for the diagnostics.

    Attributes:
        backend: that is loaded; empty: none.
        busy: what is being searched for; empty: nothing.
        last: what came of the last search.
        seconds: that it took.
        failure: why no text can be searched for at present; empty: nothing is wrong.
        names_only: the backend that is loaded knows what things are called and nothing else, so
            that a description speaks for a place and not against another one.
    """

    backend: str = ""
    busy: str = ""
    last: str = ""
    seconds: float = 0.0
    failure: str = ""
    names_only: bool = False


class GroundingThread:
    """Works on one job at a time. The backend is loaded when the first text comes.

    Args:
        live: asked at every text: which backend, and its thresholds. Another one is loaded when it
            has changed.

    Attributes:
        status: for the diagnostics.
        stuck: why no search is answered at present, see `check`; empty: nothing is wrong.
    """

    def __init__(self, live: Callable[[], LiveSettings]) -> None:
        self._live = live
        self._lock = threading.Lock()
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._newest: GroundingJob | None = None
        self._thread: threading.Thread | None = None
        self._grounder: tuple[GrounderRequest, Grounder] | None = None
        self._point_detector: OnnxDetector | None = None
        self._began: float | None = None
        self._open: set[Future[GroundingResult]] = set()
        self.status = GroundingStatus()
        self.stuck = ""

    def submit(self, job: GroundingJob) -> Future[GroundingResult]:
        """Start to work on a job as soon as the thread is free, and return its result.

        A job in the background is cancelled at once if another one is waiting or at work; one that
        is not cancels one in the background.
        """
        with self._lock:
            newest = self._newest
            if newest is not None and not newest.result.done():
                if job.background:
                    job.result.cancel()
                    return job.result
                if newest.background:
                    newest.result.cancel()
            self._newest = job
            self._open.add(job.result)
            job.result.add_done_callback(self._open.discard)
            self._enqueue(lambda: self._work_on(job))
        return job.result

    def load_backend(self) -> None:
        """Load the backend if that has not happened yet; `status.failure` says if it cannot be."""

        def load() -> None:
            with suppress(TargetRefusedError):
                self._current_grounder()

        with self._lock:
            self._enqueue(load)

    def check(self, timeout: float) -> None:
        """Refuse what waits if a task has been at work for longer than so many seconds.

        A task ends as soon as its backend can; those that were refused then count no more.
        """
        began = self._began
        seconds = 0.0 if began is None else time.monotonic() - began
        if seconds <= timeout:
            self.stuck = ""
            return
        self.stuck = (
            f"looking for {self.status.busy or 'a backend'} has not ended for {seconds:.0f} s "
            f"(grounding.timeout {timeout:g}); boxes work all the same"
        )
        for result in tuple(self._open):
            settle(result, TargetRefusedError(_Code.ERROR_GROUNDING_UNAVAILABLE, self.stuck))

    def close(self) -> None:
        """Cancel the present job; the thread ends as soon as the backend can."""
        if self._newest is not None:
            self._newest.result.cancel()
        self._tasks.put(None)

    def _enqueue(self, task: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="grounding", daemon=True)
            self._thread.start()
        self._tasks.put(task)

    def _run(self) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while (task := self._tasks.get()) is not None:
            self._began = time.monotonic()
            task()
            self._began = None

    def _work_on(self, job: GroundingJob) -> None:
        if job.result.done():  # cancelled, or refused
            return
        begin = time.monotonic()
        self._note(busy=job.text or f"point {job.point}")
        try:
            result = self._find(job)
            outcome = result.reason
            settle(job.result, result)
        except GroundingCancelledError:
            outcome = "cancelled"
            job.result.cancel()
        except BaseException as error:  # of whatever type, the caller waits for the result
            if isinstance(error, TargetRefusedError):
                refusal = error
            elif isinstance(error, InputError):
                refusal = TargetRefusedError(_Code.ERROR_INVALID_TEXT, str(error))
            else:
                refusal = TargetRefusedError(
                    _Code.ERROR_INTERNAL, f"the search failed: {describe_error(error)}"
                )
            outcome = str(refusal)
            settle(job.result, refusal)
        self._note(busy="", last=outcome, seconds=time.monotonic() - begin)

    def _find(self, job: GroundingJob) -> GroundingResult:
        """Find a box.

        Raises:
            TargetRefusedError, InputError, GroundingCancelledError: there is none.
        """
        header, pixels = Header(), job.image
        if isinstance(pixels, BufferedImage):
            try:
                # A decoder of its own: the frames of the tracking thread share a buffer.
                frame = ImageDecoder(self._live().max_megapixels).decode(pixels)
            except UnreadableImageError as error:
                raise TargetRefusedError(
                    _Code.ERROR_STAMP_NOT_FOUND, f"the frame cannot be read: {error}"
                ) from error
            header, pixels = frame.header, frame.pixels
        if job.point is not None:
            return self._find_at_point(pixels, header, job.point, job.result.done)
        grounding = self._current_grounder().find(pixels, job.text, job.result.done)
        chosen, others = grounding.chosen, grounding.candidates
        reason = f"{grounding.reason} ({grounding.backend}, {grounding.seconds:.1f} s)"
        if chosen is None:
            ambiguous = grounding.status == "ambiguous"
            code = _Code.ERROR_AMBIGUOUS if ambiguous else _Code.ERROR_NOTHING_FOUND
            raise TargetRefusedError(code, reason, others, header)
        alternatives = tuple(other for other in others if other is not chosen)
        return GroundingResult(chosen.box, chosen.score, alternatives, reason, header)

    def _find_at_point(
        self, pixels: Pixels, header: Header, point: Point, cancelled: Callable[[], bool]
    ) -> GroundingResult:
        """Find what the bundled detector takes for an object."""
        (x, y), (height, width) = point, pixels.shape[:2]
        if not (0 <= x <= width and 0 <= y <= height):
            raise TargetRefusedError(
                _Code.ERROR_INVALID_POINT,
                f"the point ({x:g}, {y:g}) is outside the {width}x{height} image",
            )
        if self._point_detector is None:
            try:
                self._point_detector = open_detector(None, "cpu", 1)
            except BaseException as error:  # a tokenizer's panic is no Exception
                raise TargetRefusedError(
                    _Code.ERROR_GROUNDING_UNAVAILABLE,
                    f"the bundled detector cannot be loaded: {describe_error(error)}; draw a box "
                    "(mode 0)",
                ) from error
        found = thing_at(self._point_detector, pixels, point, cancelled)
        if found is None:
            raise TargetRefusedError(
                _Code.ERROR_NOTHING_FOUND,
                f"no object was found at the point ({x:g}, {y:g}); draw a box (mode 0)",
                header=header,
            )
        reason = f"an object at ({x:g}, {y:g}), confidence {found.score:.2f}"
        return GroundingResult(found.box, found.score, (), reason, header)

    def _current_grounder(self) -> Grounder:
        """Return the grounder that the parameters ask for, and load it first if it is another.

        Raises:
            TargetRefusedError: there is none, or it cannot be loaded.
        """
        live = self._live()
        request, settings = live.grounder, live.grounding
        if request is None:
            raise TargetRefusedError(
                _Code.ERROR_TEXT_UNSUPPORTED,
                "no text can be searched for: grounding.backend is none; set it, or give a box",
            )
        if self._grounder is None or self._grounder[0] != request:
            self._grounder = None
            self._note(backend="", failure="")
            try:
                grounder = create_grounder(
                    request.backend,
                    request.source or None,
                    settings=settings,
                    device=request.device,
                    threads=request.threads or None,
                )
            except BaseException as error:  # a tokenizer's panic is no Exception
                reason = describe_error(error)
                self._note(failure=reason)
                raise TargetRefusedError(
                    _Code.ERROR_GROUNDING_UNAVAILABLE,
                    f"the grounding backend {request.backend} cannot be loaded: {reason}",
                ) from error
            self._grounder = request, grounder
            self._note(backend=grounder.name, names_only=grounder.names_only)
        grounder = self._grounder[1]
        grounder.settings = settings
        return grounder

    def _note(self, **changes: Any) -> None:
        self.status = replace(self.status, **changes)
