# SPDX-License-Identifier: Apache-2.0
"""Buffer of recent frames, so that a target can start on the frame the operator was looking at.

The buffer holds payloads, not arrays: a caller that receives serialised images puts those in,
uncopied and undecoded, and only the frames that are needed are ever decoded.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.geometry.boxes import Box
from vt_models.longterm.tracker import LongTermEstimate, LongTermTracker

Payload = TypeVar("Payload")

NANOSECONDS = 1_000_000_000


class StampNotHeldError(InputError):
    """The frame of a stamp is not in the buffer (any more)."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Payload]):
    stamp: int
    payload: Payload
    nbytes: int


class FrameBuffer(Generic[Payload]):
    """Hold the last frames by stamp, bounded in time and in bytes; safe between threads.

    Args:
        seconds: older frames than this before the newest are dropped, > 0.
        max_bytes: the oldest frames are dropped beyond it, > 0; the newest is always held.

    Raises:
        InputError: a limit that is not positive.
    """

    def __init__(self, seconds: float = 2.0, max_bytes: int = 256 * 1024 * 1024) -> None:
        if not seconds > 0 or max_bytes <= 0:
            raise InputError(
                f"frame buffer of {seconds!r} s and {max_bytes!r} bytes; "
                "both must be greater than 0"
            )
        self._span = round(seconds * NANOSECONDS)
        self._max_bytes = max_bytes
        self._entries: deque[_Entry[Payload]] = deque()
        self._nbytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of frames held."""
        with self._lock:
            return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Bytes held, as told to `push`."""
        with self._lock:
            return self._nbytes

    @property
    def oldest(self) -> int | None:
        """Stamp of the oldest frame, nanoseconds; None if empty."""
        with self._lock:
            return self._entries[0].stamp if self._entries else None

    @property
    def newest(self) -> int | None:
        """Stamp of the newest frame, nanoseconds; None if empty."""
        with self._lock:
            return self._entries[-1].stamp if self._entries else None

    def push(self, stamp: int, payload: Payload, nbytes: int) -> None:
        """Add the newest frame.

        Args:
            stamp: nanoseconds. One before the newest empties the buffer first (the clock jumped
                back); the newest stamp again replaces that frame.
            payload: what `decode` of `start_at_stamp` understands; kept by reference.
            nbytes: its size.
        """
        with self._lock:
            if self._entries and stamp < self._entries[-1].stamp:
                self._entries.clear()
                self._nbytes = 0
            if self._entries and stamp == self._entries[-1].stamp:
                self._nbytes -= self._entries.pop().nbytes
            self._entries.append(_Entry(stamp, payload, nbytes))
            self._nbytes += nbytes
            while len(self._entries) > 1 and self._is_over(stamp):
                self._nbytes -= self._entries.popleft().nbytes

    def clear(self) -> None:
        """Forget all frames."""
        with self._lock:
            self._entries.clear()
            self._nbytes = 0

    def at(self, stamp: int) -> Payload:
        """Return the frame of exactly this stamp.

        Raises:
            StampNotHeldError: there is none; the message says which stamps are held.
        """
        with self._lock:
            for entry in self._entries:
                if entry.stamp == stamp:
                    return entry.payload
            held = [entry.stamp for entry in self._entries]
        if not held:
            raise StampNotHeldError(f"no frame of stamp {_shown(stamp)} is held: none has come")
        raise StampNotHeldError(
            f"no frame of stamp {_shown(stamp)} is held; {len(held)} are, from "
            f"{_shown(held[0])} to {_shown(held[-1])}"
        )

    def after(self, stamp: int) -> list[tuple[int, Payload]]:
        """Return stamps and payloads of the frames newer than `stamp`, the oldest first."""
        with self._lock:
            return [(entry.stamp, entry.payload) for entry in self._entries if entry.stamp > stamp]

    def _is_over(self, newest: int) -> bool:
        return self._nbytes > self._max_bytes or newest - self._entries[0].stamp > self._span


@dataclass(frozen=True)
class CatchUp:
    """Result of tracking from a past frame to the newest one.

    Attributes:
        estimate: of the newest frame.
        stamp: of that frame, nanoseconds.
        frames: number of frames that were tracked to get there.
    """

    estimate: LongTermEstimate
    stamp: int
    frames: int


def start_at_stamp(
    tracker: LongTermTracker,
    buffer: FrameBuffer[Payload],
    stamp: int,
    box: Box,
    decode: Callable[[Payload], NDArray[np.uint8]],
    text: str | None = None,
    max_frames: int = 30,
) -> CatchUp:
    """Start on the frame of `stamp` and track to the newest: `LongTermTracker.init`, `catch_up`.

    Raises:
        StampNotHeldError: the frame is not in the buffer; the previous target is kept.
        InputError, BackendError: as `LongTermTracker.init` and `LongTermTracker.update`.
    """
    tracker.init(decode(buffer.at(stamp)), box, text, stamp / NANOSECONDS)
    return catch_up(tracker, buffer, stamp, decode, max_frames)


def catch_up(
    tracker: LongTermTracker,
    buffer: FrameBuffer[Payload],
    stamp: int,
    decode: Callable[[Payload], NDArray[np.uint8]],
    max_frames: int = 30,
    max_seconds: float = math.inf,
) -> CatchUp:
    """Track from the frame after `stamp` through the buffer up to the newest frame.

    Frames that arrive meanwhile are tracked too. Of more than `max_frames` frames an even choice
    is tracked, and each further round may take half as many, down to one: so this ends also when
    frames always come faster than they are tracked, on one that was the newest a moment ago.

    Args:
        tracker: started on the frame of `stamp`.
        buffer: another thread may go on pushing.
        stamp: nanoseconds.
        decode: payload -> (H, W, 3) uint8 RGB. The array is not used after the next call.
        max_frames: frames tracked in the first round, >= 1.
        max_seconds: after so long only the newest frame is tracked, and that is all.

    Raises:
        InputError, BackendError: as `LongTermTracker.update`.
    """
    now, tracked, allowed = stamp, 0, max(max_frames, 1)
    end = time.monotonic() + max_seconds
    while allowed and (waiting := buffer.after(now)):
        for now, payload in _thinned(waiting, allowed):
            tracker.update(decode(payload), now / NANOSECONDS)
            tracked += 1
            if allowed > 1 and time.monotonic() > end:
                allowed = 2  # half of it, the newest frame, is left
                break
        allowed //= 2
    return CatchUp(tracker.estimate, now, tracked)


def _thinned(frames: Sequence[tuple[int, Payload]], count: int) -> list[tuple[int, Payload]]:
    """Choose at most `count` of the frames evenly, always with the last."""
    total = len(frames)
    count = min(count, total)
    return [frames[(index + 1) * total // count - 1] for index in range(count)]


def _shown(stamp: int) -> str:
    return f"{stamp // NANOSECONDS}.{stamp % NANOSECONDS:09d}"
