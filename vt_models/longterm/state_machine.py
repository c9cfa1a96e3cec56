# SPDX-License-Identifier: Apache-2.0
"""The states of a target and the table of their transitions: pure, no image, no network.

IDLE      no target
TRACKING  measured in this frame, and believed
UNCERTAIN measured in this frame, and doubted; or found again and not confirmed yet
COASTING  not measured: the box is a prediction
LOST      no box; the target is being looked for
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace


class State(enum.IntEnum):
    """What is known about the target; the numbers are those of TrackStatus.STATE_*."""

    IDLE = 0
    TRACKING = 1
    UNCERTAIN = 2
    COASTING = 3
    LOST = 4


class Sight(enum.Enum):
    """What one frame says about the target.

    CLEAR: measured with high confidence. DOUBTFUL: measured, confidence between the thresholds.
    NONE: looked for and not seen. BLIND: the picture shows nothing (dark, covered, frozen,
    unreadable). CUT: the picture is of another scene, or what was known no longer applies.
    FOUND: re-detection has agreed on a place; only this leads out of LOST.
    """

    CLEAR = "clear"
    DOUBTFUL = "doubtful"
    NONE = "none"
    BLIND = "blind"
    CUT = "cut"
    FOUND = "found"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much evidence a transition takes; see `TargetSettings` for the defaults.

    Attributes:
        doubt_frames: doubtful frames in a row that end TRACKING.
        confirm_frames: clear frames in a row that lead from UNCERTAIN to TRACKING.
        recover_frames: the same after LOST.
        coast_frames, coast_seconds: without a measurement, whichever is over first, then LOST.
        unclear_frames: frames since the last clear one, then LOST.
    """

    doubt_frames: int
    confirm_frames: int
    recover_frames: int
    coast_frames: int
    coast_seconds: float
    unclear_frames: int


@dataclass(frozen=True, slots=True)
class Memory:
    """A state with what its transitions depend on.

    Attributes:
        state: the present state.
        clear: clear frames in a row.
        doubtful: doubtful frames in a row.
        unseen: frames in a row without a measurement, and `unseen_seconds` the time they span.
        unclear: frames since the last clear one.
        probation: True from re-detection until TRACKING.
    """

    state: State = State.IDLE
    clear: int = 0
    doubtful: int = 0
    unseen: int = 0
    unseen_seconds: float = 0.0
    unclear: int = 0
    probation: bool = False


STARTED = Memory(State.TRACKING)
"""A target that was just given."""

_LOST = Memory(State.LOST)


def advance(memory: Memory, sight: Sight, seconds: float, limits: Limits) -> Memory:
    """The state after one more frame.

    Args:
        memory: before the frame.
        sight: what the frame says.
        seconds: since the former frame, >= 0.
        limits: how much evidence a transition takes.

    Returns:
        The new memory. IDLE stays IDLE; LOST is left only by `Sight.FOUND`.
    """
    if memory.state is State.IDLE:
        return memory
    if memory.state is State.LOST:
        return Memory(State.UNCERTAIN, probation=True) if sight is Sight.FOUND else _LOST
    if sight is Sight.CUT:
        return _LOST
    counted = _count(memory, sight, seconds)
    if _is_over(counted, limits):
        return _LOST
    return _ROWS[sight](counted, limits)


def _count(memory: Memory, sight: Sight, seconds: float) -> Memory:
    is_clear, is_seen = sight is Sight.CLEAR, sight not in (Sight.NONE, Sight.BLIND)
    return replace(
        memory,
        clear=memory.clear + 1 if is_clear else 0,
        doubtful=memory.doubtful + 1 if is_seen and not is_clear else 0,
        unseen=0 if is_seen else memory.unseen + 1,
        unseen_seconds=0.0 if is_seen else memory.unseen_seconds + seconds,
        unclear=0 if is_clear else memory.unclear + 1,
    )


def _is_over(memory: Memory, limits: Limits) -> bool:
    """Has the target been out of sight, or in doubt, for too long?"""
    return (
        (memory.probation and memory.unseen > 0)
        or memory.unseen > limits.coast_frames
        or memory.unseen_seconds > limits.coast_seconds
        or memory.unclear > limits.unclear_frames
    )


def _clear(memory: Memory, limits: Limits) -> Memory:
    needed = limits.recover_frames if memory.probation else limits.confirm_frames
    if memory.state is State.TRACKING or memory.clear >= needed:
        return replace(memory, state=State.TRACKING, probation=False)
    return replace(memory, state=State.UNCERTAIN)


def _doubtful(memory: Memory, limits: Limits) -> Memory:
    if memory.state is State.TRACKING and memory.doubtful < limits.doubt_frames:
        return memory
    return replace(memory, state=State.UNCERTAIN)


def _unseen(memory: Memory, _limits: Limits) -> Memory:
    return replace(memory, state=State.COASTING)


_ROWS = {
    Sight.CLEAR: _clear,
    Sight.DOUBTFUL: _doubtful,
    Sight.FOUND: _doubtful,
    Sight.NONE: _unseen,
    Sight.BLIND: _unseen,
}
