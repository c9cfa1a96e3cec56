# SPDX-License-Identifier: Apache-2.0
"""States of the long-term tracker and the table of their transitions, without images or networks.

IDLE      there is no target
TRACKING  the box was measured in this frame with confidence
UNCERTAIN the box was measured with low confidence, or re-detected and not confirmed yet
COASTING  nothing was measured: the box is a prediction
LOST      there is no box; re-detection searches for the target
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace


class State(enum.IntEnum):
    """State of the target; the numbers are those of TrackStatus.STATE_*."""

    IDLE = 0
    TRACKING = 1
    UNCERTAIN = 2
    COASTING = 3
    LOST = 4


class Observation(enum.Enum):
    """What one frame says about the target.

    CONFIDENT: the target was measured with high confidence. WEAK: it was measured with a
    confidence between the thresholds. MISSED: it was searched for and not measured. NO_IMAGE: the
    frame shows nothing (dark, covered, frozen, unreadable). SCENE_CUT: the frame is of another
    scene, or the target was given up. REDETECTED: re-detection found the target; only this leads
    out of LOST.
    """

    CONFIDENT = "confident"
    WEAK = "weak"
    MISSED = "missed"
    NO_IMAGE = "no image"
    SCENE_CUT = "scene cut"
    REDETECTED = "re-detected"


@dataclass(frozen=True, slots=True)
class Limits:
    """Number of frames that a transition takes; see `LongTermSettings` for the defaults.

    Attributes:
        doubt_frames: weak observations in a row that end TRACKING.
        confirm_frames: confident observations in a row that lead from UNCERTAIN to TRACKING.
        recover_frames: the same after LOST.
        coast_frames, coast_seconds: time without a measurement, whichever ends first, then LOST.
        unclear_frames: frames since the last confident observation, then LOST.
        operator_confirms: what was re-detected is TRACKING only after the operator's yes.
    """

    doubt_frames: int
    confirm_frames: int
    recover_frames: int
    coast_frames: int
    coast_seconds: float
    unclear_frames: int
    operator_confirms: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """A state with the counts that its transitions depend on.

    Attributes:
        state: after the last frame.
        confident: confident observations in a row.
        weak: weak observations in a row.
        missed: frames in a row without a measurement, and `missed_seconds` the time they span.
        since_confident: frames since the last confident observation.
        unconfirmed: True from re-detection until enough confident observations have followed.
        awaits_operator: True from re-detection until the operator has said yes, where that is
            asked for.
    """

    state: State = State.IDLE
    confident: int = 0
    weak: int = 0
    missed: int = 0
    missed_seconds: float = 0.0
    since_confident: int = 0
    unconfirmed: bool = False
    awaits_operator: bool = False


STARTED = Memory(State.TRACKING)
"""Memory of a target that was just given."""

_LOST = Memory(State.LOST)


def advance(memory: Memory, observation: Observation, seconds: float, limits: Limits) -> Memory:
    """Advance the state by one frame.

    Args:
        memory: before the frame.
        observation: what the frame says.
        seconds: since the previous frame, >= 0.
        limits: number of frames that a transition takes.

    Returns:
        The memory after the frame. IDLE stays IDLE; LOST is left only by `Observation.REDETECTED`.
    """
    if memory.state is State.IDLE:
        return memory
    if memory.state is State.LOST and observation is Observation.REDETECTED:
        return Memory(State.UNCERTAIN, unconfirmed=True, awaits_operator=limits.operator_confirms)
    if memory.state is State.LOST or observation is Observation.SCENE_CUT:
        return _LOST

    is_confident = observation is Observation.CONFIDENT
    is_measured = observation not in (Observation.MISSED, Observation.NO_IMAGE)
    memory = replace(
        memory,
        confident=memory.confident + 1 if is_confident else 0,
        weak=memory.weak + 1 if is_measured and not is_confident else 0,
        missed=0 if is_measured else memory.missed + 1,
        missed_seconds=0.0 if is_measured else memory.missed_seconds + seconds,
        since_confident=0 if is_confident else memory.since_confident + 1,
        awaits_operator=memory.awaits_operator and limits.operator_confirms,
    )
    # A re-detection that is not confirmed yet is no reason to coast: one miss, and it was wrong.
    if (
        (memory.unconfirmed and memory.missed > 0)
        or memory.missed > limits.coast_frames
        or memory.missed_seconds > limits.coast_seconds
        or memory.since_confident > limits.unclear_frames
    ):
        return _LOST

    is_tracked = memory.state is State.TRACKING
    if is_confident:
        needed = limits.recover_frames if memory.unconfirmed else limits.confirm_frames
        is_tracked = is_tracked or memory.confident >= needed
    elif is_measured:
        is_tracked = is_tracked and memory.weak < limits.doubt_frames
    else:
        return replace(memory, state=State.COASTING)
    # Only the operator's yes is missing then: from here on it coasts as any other target does.
    unconfirmed = memory.unconfirmed and not is_tracked
    is_tracked = is_tracked and not memory.awaits_operator
    state = State.TRACKING if is_tracked else State.UNCERTAIN
    return replace(memory, state=state, unconfirmed=unconfirmed)
