# SPDX-License-Identifier: Apache-2.0
"""The description of a target, put to use when the target is LOST.

It is searched for in the whole frame now and then, and the long-term tracker has its re-detections
verified against it. Neither stalls the tracking: the grounding thread does the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from vt_interfaces.srv import SetTarget
from vt_models.longterm import State
from vt_ros.common.convert import Box, Pixels
from vt_ros.tracker.grounding_thread import GroundingJob, GroundingResult
from vt_ros.tracker.image_buffer import BufferedImage
from vt_ros.tracker.parameters import RedetectionSettings
from vt_ros.tracker.target_request import TargetRefusedError

# Seconds that a re-detection waits for its verification; then it counts without one.
_VERIFICATION_TIMEOUT = 3.0
# Seconds for which an outcome counts in later frames.
_OUTCOME_LIFETIME = 2.0


@dataclass(frozen=True)
class _Search:
    """A search that is going on; `verifies` is the re-detection in the same frame, if any."""

    result: Future[GroundingResult]
    verifies: Box | None


@dataclass(frozen=True)
class _Outcome:
    """What a search has found: the places that fit, None if it could not tell."""

    places: tuple[Box, ...] | None
    verifies: Box | None
    at: float


class TextRedetection:
    """Re-detection by the present target's description; for the tracking thread alone.

    Args:
        submit: has a job worked on, as `GroundingThread.submit`.
        settings: asked at every frame.
        now: seconds, of any origin.
    """

    def __init__(
        self,
        submit: Callable[[GroundingJob], Future[GroundingResult]],
        settings: Callable[[], RedetectionSettings],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._submit, self._settings, self._now = submit, settings, now
        self._text = ""
        self._search: _Search | None = None
        self._outcome: _Outcome | None = None
        self._last_search = float("-inf")
        self._waits_since: float | None = None

    def start(self, text: str) -> None:
        """Begin with another target, of which this is the description; empty: it has none."""
        if self._search is not None:
            self._search.result.cancel()
        self._text = text
        self._search = self._outcome = self._waits_since = None
        self._last_search = float("-inf")

    def suggestion(self, image: BufferedImage, state: State) -> Box | None:
        """Search for a LOST target now and then, and return where a search has found it.

        To be called before each frame; what it returns is for `LongTermTracker.suggest`.

        Args:
            image: of the frame.
            state: of the target.

        Returns:
            x, y, w, h in pixels of the frame that was searched, once for each search; else None.
        """
        if not self._text:
            return None
        outcome = self._poll()
        if state is not State.LOST:
            self._waits_since = None
            return None
        period = self._settings().period
        if period and self._search is None and self._now() - self._last_search >= period:
            self._begin(image, None)
        return outcome.places[0] if outcome is not None and outcome.places else None

    def verify(self, pixels: Pixels, box: Box) -> bool:
        """Verify a re-detection: the long-term tracker's verifier.

        It is refused if the description fits another place of the same frame, and as long as no
        search has told. It is accepted if the description fits nothing there, or cannot be
        searched for in time.

        Args:
            pixels: (H, W, 3) uint8 RGB of the frame.
            box: x, y, w, h of the re-detection in pixels.
        """
        if not (self._text and self._settings().verify):
            return True
        now = self._now()
        self._poll()
        verdict = self._verdict_on(box, now)
        if verdict is not None:
            self._waits_since = None
            return verdict
        if self._waits_since is None:
            self._waits_since = now
        if self._search is None:
            # A copy, as the next frame is decoded into the same buffer.
            self._begin(pixels.copy(), box)
        return now - self._waits_since > _VERIFICATION_TIMEOUT

    def _begin(self, image: BufferedImage | Pixels, verifies: Box | None) -> None:
        self._last_search = self._now()
        job = GroundingJob(image, self._text, background=True)
        self._search = _Search(self._submit(job), verifies)

    def _poll(self) -> _Outcome | None:
        """Return the outcome of the present search; None while there is none, or a second time."""
        search = self._search
        if search is None or not search.result.done():
            return None
        self._search = None
        if search.result.cancelled():  # it gave way to another job
            return None
        places: tuple[Box, ...] | None = None
        try:
            places = (search.result.result().box,)
        except TargetRefusedError as refusal:
            if refusal.code == SetTarget.Response.ERROR_AMBIGUOUS:
                places = tuple(candidate.box for candidate in refusal.candidates)
        self._last_search = now = self._now()
        self._outcome = _Outcome(places, search.verifies, now)
        return self._outcome

    def _verdict_on(self, box: Box, now: float) -> bool | None:
        """Return what the last search says about a re-detection; None if it says nothing."""
        outcome = self._outcome
        if outcome is None or now - outcome.at > _OUTCOME_LIFETIME:
            return None
        if outcome.verifies is None:  # an earlier frame: only a confirmation counts
            return True if outcome.places and _is_in(box, outcome.places) else None
        if not _is_in(box, (outcome.verifies,)):
            return None
        return not outcome.places or _is_in(outcome.verifies, outcome.places)


def _is_in(box: Box, places: tuple[Box, ...]) -> bool:
    """Return whether the centre of a box lies in one of the places."""
    x, y = box[0] + 0.5 * box[2], box[1] + 0.5 * box[3]
    return any(left <= x <= left + w and top <= y <= top + h for left, top, w, h in places)
