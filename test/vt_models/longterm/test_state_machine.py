# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.errors import InputError
from vt_models.longterm.settings import TargetSettings, check_setting, setting_range
from vt_models.longterm.state_machine import STARTED, Limits, Memory, Sight, State, advance

LIMITS = Limits(
    doubt_frames=2,
    confirm_frames=2,
    recover_frames=3,
    coast_frames=4,
    coast_seconds=1.0,
    unclear_frames=10,
)
FRAME = 1 / 30
CLEAR, DOUBTFUL, NONE, BLIND, CUT, FOUND = (
    Sight.CLEAR,
    Sight.DOUBTFUL,
    Sight.NONE,
    Sight.BLIND,
    Sight.CUT,
    Sight.FOUND,
)
T, U, C, L = State.TRACKING, State.UNCERTAIN, State.COASTING, State.LOST


def states_of(sights: list[Sight], start: Memory = STARTED, seconds: float = FRAME) -> list[State]:
    memory, states = start, []
    for sight in sights:
        memory = advance(memory, sight, seconds, LIMITS)
        states.append(memory.state)
    return states


def test_numbers_are_those_of_the_message() -> None:
    assert [int(state) for state in State] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("sights", "states"),
    [
        ([CLEAR, CLEAR], [T, T]),
        ([DOUBTFUL, CLEAR, DOUBTFUL, CLEAR], [T, T, T, T]),
        ([DOUBTFUL, DOUBTFUL, CLEAR, CLEAR], [T, U, U, T]),
        ([DOUBTFUL, DOUBTFUL, CLEAR, DOUBTFUL, CLEAR], [T, U, U, U, U]),
        ([NONE, CLEAR, CLEAR], [C, U, T]),
        ([NONE, DOUBTFUL], [C, U]),
        ([BLIND] * 4 + [CLEAR, CLEAR], [C] * 4 + [U, T]),
        ([NONE] * 5, [C] * 4 + [L]),
        ([BLIND] * 5 + [CLEAR] * 5, [C] * 4 + [L] + [L] * 5),
        ([CUT, CLEAR, CLEAR], [L, L, L]),
        ([DOUBTFUL] * 11, [T] + [U] * 9 + [L]),
        ([CUT, FOUND, CLEAR, CLEAR, CLEAR], [L, U, U, U, T]),
        ([CUT, FOUND, NONE], [L, U, L]),
        ([CUT, FOUND, DOUBTFUL, CLEAR, CLEAR, CLEAR], [L, U, U, U, U, T]),
    ],
)
def test_table(sights: list[Sight], states: list[State]) -> None:
    assert states_of(sights) == states


ORDER = (CLEAR, DOUBTFUL, NONE, BLIND, CUT, FOUND)
WHOLE_TABLE = {
    "idle": (Memory(), "IIIIII"),
    "tracking": (STARTED, "TTCCLT"),
    "tracking, doubted once": (Memory(T, doubtful=1, unclear=1), "TUCCLU"),
    "uncertain": (Memory(U, unclear=2), "UUCCLU"),
    "uncertain, clear once": (Memory(U, clear=1), "TUCCLU"),
    "uncertain for long": (Memory(U, unclear=10), "ULLLLL"),
    "found again": (Memory(U, probation=True), "UULLLU"),
    "found again, clear once": (Memory(U, clear=1, probation=True), "UULLLU"),
    "found again, clear twice": (Memory(U, clear=2, probation=True), "TULLLU"),
    "coasting": (Memory(C, unseen=1, unclear=1), "UUCCLU"),
    "coasting for long": (Memory(C, unseen=4, unclear=4), "UULLLU"),
    "coasting for a second": (Memory(C, unseen=2, unseen_seconds=0.99, unclear=2), "UULLLU"),
    "lost": (Memory(L), "LLLLLU"),
}
"""From every kind of memory, the state after each sight in `ORDER`, by its first letter."""


@pytest.mark.parametrize("name", WHOLE_TABLE)
def test_every_cell_of_the_table(name: str) -> None:
    memory, expected = WHOLE_TABLE[name]
    found = [advance(memory, sight, FRAME, LIMITS).state.name[0] for sight in ORDER]
    assert "".join(found) == expected


def test_the_whole_table_has_every_state() -> None:
    assert {memory.state for memory, _ in WHOLE_TABLE.values()} == set(State)
    assert set(ORDER) == set(Sight)


def test_coasting_ends_by_time_where_frames_are_rare() -> None:
    assert states_of([NONE, NONE, NONE], seconds=0.4) == [C, C, L]


def test_idle_stays_idle_whatever_comes() -> None:
    assert states_of(list(Sight), start=Memory()) == [State.IDLE] * len(Sight)


sights = st.lists(st.sampled_from(list(Sight)), min_size=1, max_size=60)


@given(sights)
def test_lost_is_left_only_by_found_and_never_to_tracking(seen: list[Sight]) -> None:
    states = [T, *states_of(seen)]
    for (before, after), sight in zip(itertools.pairwise(states), seen, strict=True):
        if before is L:
            assert after is (U if sight is FOUND else L)


@given(sights)
def test_tracking_is_entered_only_after_enough_clear_frames(seen: list[Sight]) -> None:
    states = [T, *states_of(seen)]
    for index in range(1, len(states)):
        if states[index] is T and states[index - 1] is not T:
            assert seen[index - LIMITS.confirm_frames : index] == [CLEAR] * LIMITS.confirm_frames


@given(sights)
def test_no_frame_without_a_sight_is_tracking(seen: list[Sight]) -> None:
    for state, sight in zip(states_of(seen), seen, strict=True):
        if sight in (NONE, BLIND):
            assert state in (C, L)
        if sight is CUT:
            assert state is L


@given(sights, st.integers(0, 5))
def test_without_measurements_it_ends_lost_within_the_limit(seen: list[Sight], blind: int) -> None:
    kinds = [BLIND if index < blind else NONE for index in range(LIMITS.coast_frames + 1)]
    assert states_of([*seen, *kinds])[-1] is L


def test_settings_say_what_is_wrong() -> None:
    with pytest.raises(InputError, match=r"track_threshold is 1\.5, expected a number from 0 to 1"):
        TargetSettings(track_threshold=1.5)
    with pytest.raises(InputError, match="doubt_frames must be a whole number"):
        TargetSettings(doubt_frames=2.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="camera_motion must be True or False"):
        TargetSettings(camera_motion=1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must not be"):
        TargetSettings(track_threshold=0.2, doubt_threshold=0.4)
    with pytest.raises(InputError, match=r"track_threshold is 0\.95, above confirm_threshold 0\.9"):
        TargetSettings(track_threshold=0.95)
    with pytest.raises(InputError, match="searches must be a whole number"):
        TargetSettings(searches=float("nan"))  # type: ignore[arg-type]


def test_every_setting_has_a_range_that_holds_its_default() -> None:
    for name, value in vars(TargetSettings).items():
        if name.startswith("_") or not isinstance(value, int | float):
            continue
        check_setting(name, value)
        allowed = setting_range(name)
        assert (allowed is None) == isinstance(value, bool)
    with pytest.raises(InputError, match="no target setting"):
        setting_range("trackthreshold")
