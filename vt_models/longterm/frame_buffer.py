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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.longterm.tracker import LongTermEstimate, LongTermTracker

Payload = TypeVar("Payload")

NANOSECONDS = 1_000_000_000

# A stamp that is before the newest by no more than this is jitter, unless so many come in a row:
# then the clock was set back by a little.
_JITTER, _MOST_IN_A_ROW = NANOSECONDS // 2, 3


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
        self._behind = 0
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

    def push(self, stamp: int, payload: Payload, nbytes: int) -> bool:
        """Add the frame that has arrived.

        Args:
            stamp: nanoseconds. One up to half a second before the newest is jitter: the frame is
                put in its place. One farther back, or the third in a row, empties the buffer first:
                the clock jumped back. A stamp that is held replaces that frame.
            payload: what `decode` of `catch_up` understands; kept by reference.
            nbytes: its size.

        Returns:
            Whether the buffer was emptied.
        """
        with self._lock:
            early = self._entries[-1].stamp - stamp if self._entries else 0
            self._behind = self._behind + 1 if early > 0 else 0
            has_jumped = early > _JITTER or self._behind == _MOST_IN_A_ROW
            if has_jumped:
                self._entries.clear()
                self._nbytes = self._behind = 0
            place = len(self._entries)
            while place and self._entries[place - 1].stamp >= stamp:
                place -= 1
            if place < len(self._entries) and self._entries[place].stamp == stamp:
                self._nbytes -= self._entries[place].nbytes
                del self._entries[place]
            self._entries.insert(place, _Entry(stamp, payload, nbytes))
            self._nbytes += nbytes
            newest = self._entries[-1].stamp
            while len(self._entries) > 1 and (
                self._nbytes > self._max_bytes or newest - self._entries[0].stamp > self._span
            ):
                self._nbytes -= self._entries.popleft().nbytes
        return has_jumped

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
        tracker: started on the frame of `stamp`, which `FrameBuffer.at` returns.
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
        total = len(waiting)
        count = min(allowed, total)  # chosen evenly, always with the last
        for index in range(count):
            now, payload = waiting[(index + 1) * total // count - 1]
            tracker.update(decode(payload), now / NANOSECONDS)
            tracked += 1
            if allowed > 1 and time.monotonic() > end:
                allowed = 2  # half of it, the newest frame, is left
                break
        allowed //= 2
    return CatchUp(tracker.estimate, now, tracked)


def _shown(stamp: int) -> str:
    return f"{stamp // NANOSECONDS}.{stamp % NANOSECONDS:09d}"
