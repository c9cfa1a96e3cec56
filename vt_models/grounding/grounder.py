# SPDX-License-Identifier: Apache-2.0
"""From a detector's boxes to one answer: found, nothing, or ambiguous."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeAlias

import cv2

from vt_models.errors import InputError
from vt_models.geometry.boxes import Box, iou
from vt_models.geometry.crop import check_frame
from vt_models.grounding.attributes import weigh
from vt_models.grounding.description import name_of, says_something
from vt_models.grounding.results import (
    Candidate,
    Frame,
    Grounding,
    GroundingCancelledError,
)
from vt_models.grounding.settings import GroundingSettings
from vt_models.grounding.text import check_text

Cancelled: TypeAlias = Callable[[], bool]

_POLL = 0.02  # seconds between two looks at `cancelled` while another search runs
_MOST_WEIGHED = 50  # candidates whose sides, sizes and colours are looked at


class Detector(Protocol):
    """A backend: text and frame to boxes. One call at a time.

    Attributes:
        name: of the backend, for people.
        default_threshold: the score from which on its boxes are worth believing.
        names_only: it knows what things are called and nothing of sides, sizes and colours.
    """

    @property
    def name(self) -> str:
        """Of the backend, for people."""

    @property
    def default_threshold(self) -> float:
        """The score from which on its boxes are worth believing."""

    @property
    def names_only(self) -> bool:
        """It knows what things are called and nothing of sides, sizes and colours."""

    def detect(self, frame: Frame, text: str, cancelled: Cancelled) -> Sequence[Candidate]:
        """All boxes that have anything to do with the text, in any order, overlapping or not.

        Args:
            frame: (H, W, 3) uint8 RGB.
            text: as `check_text` returns it.
            cancelled: looked at now and then, at least between two runs of a network.

        Returns:
            Candidates in pixels of the frame; they may leave it.

        Raises:
            InputError: a text that this backend cannot use.
            GroundingCancelledError: `cancelled()` was true.
            BackendError: the network failed.
        """


class Grounder:
    """Finds what a text describes in a frame.

    Args:
        detector: the backend; owned by this grounder.
        settings: what counts, and what cannot be told apart.

    Attributes:
        settings: as given; may be replaced by another object at any time.

    Thread-safe: searches run one after the other, and one that waits can be cancelled.
    """

    def __init__(self, detector: Detector, settings: GroundingSettings | None = None) -> None:
        self.settings = settings or GroundingSettings()
        self._detector = detector
        self._turn = threading.Lock()

    @property
    def name(self) -> str:
        """Name of the backend."""
        return self._detector.name

    @property
    def names_only(self) -> bool:
        """The backend knows names only: sides, sizes and colours are judged by rules."""
        return self._detector.names_only

    @property
    def threshold(self) -> float:
        """The score that counts: of the settings, or the backend's own."""
        threshold = self.settings.threshold
        return self._detector.default_threshold if threshold is None else threshold

    def find(self, frame: Frame, text: str, cancelled: Cancelled | None = None) -> Grounding:
        """Look for what `text` describes in the whole frame.

        Args:
            frame: (H, W, 3) uint8 RGB, any strides; not kept.
            text: a description, such as "the white car on the left"; see `check_text`.
            cancelled: asked now and then, from this thread or another; when it returns True the
                search ends as soon as it can.

        Raises:
            InputError: a frame or a text that cannot be used.
            GroundingCancelledError: `cancelled()` returned True.
            BackendError: the backend failed.
        """
        settings, threshold = self.settings, self.threshold
        frame = check_frame(frame)
        words = check_text(text, settings.max_text_length)
        is_cancelled = cancelled or (lambda: False)
        check_cancelled(is_cancelled)
        asked = words
        if self._detector.names_only:
            if not says_something(words):
                raise InputError(
                    f"{words!r} describes nothing; describe the target, e.g. 'the red car'"
                )
            asked = name_of(words)
        while not self._turn.acquire(timeout=_POLL):
            check_cancelled(is_cancelled)
        try:
            start = time.perf_counter()
            found = self._detector.detect(frame, asked, is_cancelled)
            seconds = time.perf_counter() - start
        finally:
            self._turn.release()
        check_cancelled(is_cancelled)
        visible = _visible(found, frame.shape, settings.min_side)
        if self._detector.names_only:
            visible = weigh(rank(visible, settings.nms_iou, _MOST_WEIGHED), words, frame)
        return _decide(visible, words, threshold, settings, (self.name, seconds))


def check_cancelled(cancelled: Cancelled) -> None:
    """Raise GroundingCancelledError if the caller no longer wants the answer."""
    if cancelled():
        raise GroundingCancelledError("the search for a text was cancelled")


def rank(candidates: Iterable[Candidate], nms_iou: float, limit: int) -> list[Candidate]:
    """The best `limit` candidates, best first, none of which overlaps a better one by more.

    Equal scores are ordered by box, left first, so that the same input gives the same answer.
    """
    ordered = sorted(candidates, key=_order)
    places = [float(place) for place in range(len(ordered), 0, -1)]  # as scores: all different
    boxes = [candidate.box for candidate in ordered]
    kept = cv2.dnn.NMSBoxes(boxes, places, 0.0, nms_iou)
    return [ordered[index] for index in kept[:limit]]


def _order(candidate: Candidate) -> tuple[float, Box]:
    return -candidate.score, candidate.box


def _visible(found: Iterable[Candidate], shape: Sequence[int], min_side: float) -> list[Candidate]:
    """Candidates cut to the frame; without those that are not finite or have nothing in it."""
    visible = []
    for candidate in found:
        if not all(math.isfinite(value) for value in (*candidate.box, candidate.score)):
            continue
        x, y, w, h = (float(value) for value in candidate.box)
        left, top = max(x, 0.0), max(y, 0.0)
        width, height = min(x + w, float(shape[1])) - left, min(y + h, float(shape[0])) - top
        if min(width, height) >= min_side:
            score = min(max(float(candidate.score), 0.0), 1.0)
            visible.append(Candidate((left, top, width, height), score, candidate.label))
    return visible


def _decide(
    visible: list[Candidate],
    text: str,
    threshold: float,
    settings: GroundingSettings,
    run: tuple[str, float],
) -> Grounding:
    """The answer; `run` is the backend's name and the seconds it took."""
    best = min(visible, key=_order, default=None)
    passing = [candidate for candidate in visible if candidate.score >= threshold]
    ranked = rank(passing, settings.nms_iou, settings.max_candidates)
    if best is None or not ranked:
        seen = "no box was proposed" if best is None else f"the best score is {best.score:.2f}"
        reason = f"nothing: {seen}, the threshold {threshold:.2f}, for {text!r}"
        return Grounding("nothing", (), None, reason, *run, best)
    least = (1.0 - settings.ambiguity_margin) * best.score
    rivals = [item for item in ranked if item.score > least]
    if len(rivals) > 1:
        reason = (
            f"ambiguous: {len(rivals)} candidates for {text!r} with scores from "
            f"{rivals[-1].score:.2f} to {best.score:.2f}"
        )
        return Grounding("ambiguous", tuple(rivals), None, reason, *run, best)
    others = f"the next best has {ranked[1].score:.2f}" if ranked[1:] else "nothing else fits"
    reason = f"found {text!r} with score {best.score:.2f}; {others}"
    return Grounding("found", tuple(ranked), ranked[0], reason, *run, best)


def text_verifier(
    grounder: Grounder, text: str, min_iou: float = 0.5
) -> Callable[[Frame, Box], bool]:
    """Make a verifier for `create_long_term_tracker`: does the text describe what is in the box?

    It is asked for a lost target's return only, and grounds the text in the whole frame each time:
    the frame that asks takes as long as `grounder` does.

    Args:
        grounder: finds the text.
        text: a description of the target.
        min_iou: overlap of the box with a candidate above the threshold; being one of several
            that cannot be told apart is enough, since the tracker knows the target's looks.

    Returns:
        f(frame (H, W, 3) uint8 RGB, box x, y, w, h in pixels) -> bool; it raises BackendError.

    Raises:
        InputError: the text cannot be used.
    """
    words = check_text(text, grounder.settings.max_text_length)

    def describes(frame: Frame, box: Box) -> bool:
        candidates = grounder.find(frame, words).candidates
        return any(float(iou(candidate.box, box)) >= min_iou for candidate in candidates)

    return describes
