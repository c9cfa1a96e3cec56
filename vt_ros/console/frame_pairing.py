# SPDX-License-Identifier: Apache-2.0
"""Each image with what the tracker says about exactly that one, and what came before."""

from __future__ import annotations

import itertools
import math
from collections import deque
from dataclasses import dataclass

from vt_ros.client import Estimate, State

_MOST_IMAGES = 256  # more than come in two seconds; each is compared with each estimate
_MOST_ESTIMATES = 64  # that wait for their image: it may arrive a little later than its status
_MOST_EPISODES = 120
_LONGEST_HISTORY = 600.0  # seconds


@dataclass(frozen=True)
class Frame:
    """An image and its state.

    Attributes:
        number: counts up from 1.
        stamp: of the image, nanoseconds; 0: it has none.
        image: the serialised message.
        estimate: what the tracker says about this image; None while it is silent.
        unmeasured: seconds, by stamps, since the target was measured last; NaN: never, or no
            target.
    """

    number: int
    stamp: int
    image: bytes
    estimate: Estimate | None
    unmeasured: float


class FramePairing:
    """Puts images and estimates together by their stamps; whatever is older than a pair is dropped.

    An image without a stamp is never taken for the one that an estimate is about: the box could be
    off.

    Args:
        max_bytes: of images that wait.
        patience: seconds without a pair after which images count without an estimate.

    Attributes:
        patience: may change.
        missed: estimates whose image was there no more, or never came.
    """

    def __init__(self, max_bytes: int, patience: float) -> None:
        self.patience = patience
        self.missed = 0
        self._max_bytes = max_bytes
        self._images: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._estimates: deque[Estimate] = deque(maxlen=_MOST_ESTIMATES)
        self._numbers = itertools.count(1)
        self._newest = self._waiting_since = -math.inf
        self._measured: tuple[int, int] | None = None  # target, stamp

    def add_image(self, stamp: int, image: bytes, now: float) -> Frame | None:
        """Take an image; return the frame that it makes, if its estimate is here, or none comes."""
        self._images.append((stamp, image))
        self._bytes += len(image)
        while len(self._images) > _MOST_IMAGES or (
            self._bytes > self._max_bytes and len(self._images) > 1
        ):
            self._bytes -= len(self._images.popleft()[1])
        # Where images begin, or begin again, their estimates have the same time to come.
        if now - self._newest > self.patience:
            self._waiting_since = now
        self._newest = now
        frame = self._pair(now)
        if frame is not None or now - self._waiting_since < self.patience:
            return frame
        # It stays in the buffer: its estimate may still come, and is the end of the silence.
        return Frame(next(self._numbers), stamp, image, None, math.nan)

    def add_estimate(self, estimate: Estimate, now: float) -> Frame | None:
        """Take an estimate; return the frame that it makes, if its image is here."""
        if len(self._estimates) == _MOST_ESTIMATES:
            self.missed += 1
        self._estimates.append(estimate)
        return self._pair(now)

    def _pair(self, now: float) -> Frame | None:
        """Return the newest image of which the estimate is here; drop what is older than it."""
        for estimate in reversed(self._estimates):
            # The newest first, but of two images with one stamp the first: it was tracked first.
            for place, (stamp, image) in enumerate(self._images):
                if stamp and stamp == estimate.stamp:
                    self._drop(place, estimate)
                    self._waiting_since = now
                    return self._frame(stamp, image, estimate)
        return None

    def _drop(self, place: int, estimate: Estimate) -> None:
        for _ in range(place + 1):
            self._bytes -= len(self._images.popleft()[1])
        while self._estimates.popleft() is not estimate:
            self.missed += 1

    def _frame(self, stamp: int, image: bytes, estimate: Estimate) -> Frame:
        unmeasured = math.nan
        if estimate.state is not State.IDLE:
            if estimate.measured:
                self._measured = estimate.target_id, stamp
            if self._measured is not None and self._measured[0] == estimate.target_id:
                unmeasured = max(0.0, (stamp - self._measured[1]) / 1e9)
        return Frame(next(self._numbers), stamp, image, estimate, unmeasured)


@dataclass
class Episode:
    """A time in one state: when it began (seconds, of any clock), of which target, and why."""

    begin: float
    state: State | None
    target: int
    reason: str


class Timeline:
    """The states of the last minutes, each with when it began; None: the tracker was silent."""

    def __init__(self) -> None:
        self.episodes: deque[Episode] = deque(maxlen=_MOST_EPISODES)

    def note(self, estimate: Estimate | None, now: float) -> None:
        """Take what is known at a time; every status counts, whether it was shown or not."""
        state = None if estimate is None else estimate.state
        target = 0 if estimate is None else estimate.target_id
        last = self.episodes[-1] if self.episodes else None
        if last is None or (last.state, last.target) != (state, target):
            reason = "" if estimate is None else estimate.status.message
            self.episodes.append(Episode(now, state, target, reason))
        while len(self.episodes) > 1 and now - self.episodes[1].begin > _LONGEST_HISTORY:
            self.episodes.popleft()
