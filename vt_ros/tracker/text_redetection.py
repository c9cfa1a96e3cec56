# SPDX-License-Identifier: Apache-2.0
"""The words that name a target, put to use when it is lost.

They are looked for in the whole image now and then, and whatever the target keeper has found by its
look is put before them. Neither stalls the tracking: the finder's thread does the work.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vt_interfaces.srv import SetTarget
from vt_models.errors import InputError
from vt_models.longterm import State
from vt_ros.tracker.target_request import TargetRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    import numpy as np
    from numpy.typing import NDArray

    from vt_models.longterm import Target
    from vt_ros.common.convert import Box
    from vt_ros.tracker.grounding_thread import Found
    from vt_ros.tracker.image_buffer import Arrival
    from vt_ros.tracker.parameters import WordsSettings

# A find waits so long, in seconds, for what the words say to it; then it counts without them.
_WORDS_TAKE = 3.0
# What the words said about another image counts so long.
_STILL_TRUE = 2.0


@dataclass(frozen=True)
class _Search:
    """A search that is going on; `find` is what the keeper has found in the same image."""

    answer: Future[Found]
    find: Box | None


@dataclass(frozen=True)
class _Said:
    """What a search has said: the places that fit, None if it could not tell."""

    places: tuple[Box, ...] | None
    find: Box | None
    at: float


class Words:
    """The words of the present target; for the pipeline's thread alone.

    Args:
        ask: has a text looked for in an image.
        settings: asked at every frame.
        now: seconds, of any origin.
    """

    def __init__(
        self,
        ask: Callable[[Arrival, str], Future[Found]],
        settings: Callable[[], WordsSettings],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._settings, self._now = ask, settings, now
        self._text = ""
        self._arrival: Arrival | None = None
        self._search: _Search | None = None
        self._said: _Said | None = None
        self._last_search = float("-inf")
        self._find_waits_since: float | None = None

    def take(self, text: str) -> None:
        """Another target has these words; empty: none."""
        if self._search is not None:
            self._search.answer.cancel()
        self._text = text
        self._arrival = self._search = self._said = self._find_waits_since = None
        self._last_search = float("-inf")

    def look(self, arrival: Arrival, target: Target) -> None:
        """Before each frame: a LOST target is looked for now and then; what was found, suggested.

        The keeper accepts a suggestion as it accepts anything that it finds itself.
        """
        self._arrival = arrival
        if not self._text:
            return
        said = self._listen()
        if target.state is not State.LOST:
            self._find_waits_since = None
            return
        if said is not None and said.places:
            with suppress(InputError):  # images have become smaller since the question
                target.suggest(said.places[0])
        period = self._settings().period
        if period and self._search is None and self._now() - self._last_search >= period:
            self._begin(None)

    def agree(self, frame: NDArray[np.uint8], find: Box) -> bool:  # noqa: ARG002 - same image
        """The keeper's verifier: do the words not speak against what it has found?

        False as long as they have not been asked. They speak against it if they fit another place
        of the same image; if they fit nothing, or cannot be asked in time, they say nothing.
        """
        if not (self._text and self._settings().verify):
            return True
        now = self._now()
        self._listen()
        verdict = self._verdict(find, now)
        if verdict is not None:
            self._find_waits_since = None
            return verdict
        if self._find_waits_since is None:
            self._find_waits_since = now
        if self._search is None:
            self._begin(find)
        return now - self._find_waits_since > _WORDS_TAKE

    def _begin(self, find: Box | None) -> None:
        if self._arrival is not None:
            self._last_search = self._now()
            self._search = _Search(self._ask(self._arrival, self._text), find)

    def _listen(self) -> _Said | None:
        """What the present search has said; None while it has not, or was told before."""
        search = self._search
        if search is None or not search.answer.done():
            return None
        self._search = None
        if search.answer.cancelled():  # somebody else had a question
            return None
        self._last_search = now = self._now()
        self._said = _Said(_places(search.answer), search.find, now)
        return self._said

    def _verdict(self, find: Box, now: float) -> bool | None:
        """What was said about this find; None if nothing was."""
        said = self._said
        if said is None or now - said.at > _STILL_TRUE:
            return None
        if said.find is None:  # about an image of before: only a yes is believed
            return True if said.places and _is_among(find, said.places) else None
        if not _is_among(find, (said.find,)):
            return None
        return not said.places or _is_among(said.find, said.places)


def _places(answer: Future[Found]) -> tuple[Box, ...] | None:
    """Where the words fit best: one place, several that cannot be told apart, or none."""
    try:
        return (answer.result().box,)
    except TargetRefusedError as refusal:
        if refusal.code == SetTarget.Response.ERROR_AMBIGUOUS:
            return tuple(candidate.box for candidate in refusal.candidates)
        return None


def _is_among(box: Box, places: tuple[Box, ...]) -> bool:
    """Does the centre of a box lie in one of the places?"""
    x, y = box[0] + 0.5 * box[2], box[1] + 0.5 * box[3]
    return any(left <= x <= left + w and top <= y <= top + h for left, top, w, h in places)
