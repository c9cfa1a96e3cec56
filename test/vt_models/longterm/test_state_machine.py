# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.errors import InputError
from vt_models.longterm.settings import LongTermSettings
from vt_models.longterm.state_machine import STARTED, Limits, Memory, Observation, State, advance

LIMITS = Limits(
    doubt_frames=2,
    confirm_frames=2,
    recover_frames=3,
    coast_frames=4,
    coast_seconds=1.0,
    unclear_frames=10,
)
FRAME = 1 / 30
CONFIDENT, WEAK, MISSED, NO_IMAGE, SCENE_CUT, REDETECTED = (
    Observation.CONFIDENT,
    Observation.WEAK,
    Observation.MISSED,
    Observation.NO_IMAGE,
    Observation.SCENE_CUT,
    Observation.REDETECTED,
)
T, U, C, L = State.TRACKING, State.UNCERTAIN, State.COASTING, State.LOST


def states_of(
    observations: list[Observation],
    start: Memory = STARTED,
    seconds: float = FRAME,
    limits: Limits = LIMITS,
) -> list[State]:
    memory, states = start, []
    for observation in observations:
        memory = advance(memory, observation, seconds, limits)
        states.append(memory.state)
    return states


def test_state_numbers_equal_those_of_the_message() -> None:
    assert [int(state) for state in State] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("observations", "states"),
    [
        ([CONFIDENT, CONFIDENT], [T, T]),
        ([WEAK, CONFIDENT, WEAK, CONFIDENT], [T, T, T, T]),
        ([WEAK, WEAK, CONFIDENT, CONFIDENT], [T, U, U, T]),
        ([WEAK, WEAK, CONFIDENT, WEAK, CONFIDENT], [T, U, U, U, U]),
        ([MISSED, CONFIDENT, CONFIDENT], [C, U, T]),
        ([MISSED, WEAK], [C, U]),
        ([NO_IMAGE] * 4 + [CONFIDENT, CONFIDENT], [C] * 4 + [U, T]),
        ([MISSED] * 5, [C] * 4 + [L]),
        ([NO_IMAGE] * 5 + [CONFIDENT] * 5, [C] * 4 + [L] + [L] * 5),
        ([SCENE_CUT, CONFIDENT, CONFIDENT], [L, L, L]),
        ([WEAK] * 11, [T] + [U] * 9 + [L]),
        ([SCENE_CUT, REDETECTED, CONFIDENT, CONFIDENT, CONFIDENT], [L, U, U, U, T]),
        ([SCENE_CUT, REDETECTED, MISSED], [L, U, L]),
        ([SCENE_CUT, REDETECTED, WEAK, CONFIDENT, CONFIDENT, CONFIDENT], [L, U, U, U, U, T]),
    ],
)
def test_advance_sequence_gives_states(
    observations: list[Observation], states: list[State]
) -> None:
    assert states_of(observations) == states


ORDER = (CONFIDENT, WEAK, MISSED, NO_IMAGE, SCENE_CUT, REDETECTED)
WHOLE_TABLE = {
    "idle": (Memory(), "IIIIII"),
    "tracking": (STARTED, "TTCCLT"),
    "tracking, weak once": (Memory(T, weak=1, since_confident=1), "TUCCLU"),
    "uncertain": (Memory(U, since_confident=2), "UUCCLU"),
    "uncertain, confident once": (Memory(U, confident=1), "TUCCLU"),
    "uncertain for long": (Memory(U, since_confident=10), "ULLLLL"),
    "re-detected": (Memory(U, unconfirmed=True), "UULLLU"),
    "re-detected, confident once": (Memory(U, confident=1, unconfirmed=True), "UULLLU"),
    "re-detected, confident twice": (Memory(U, confident=2, unconfirmed=True), "TULLLU"),
    "coasting": (Memory(C, missed=1, since_confident=1), "UUCCLU"),
    "coasting for long": (Memory(C, missed=4, since_confident=4), "UULLLU"),
    "coasting for a second": (
        Memory(C, missed=2, missed_seconds=0.99, since_confident=2),
        "UULLLU",
    ),
    "lost": (Memory(L), "LLLLLU"),
}
"""From every kind of memory, the state after each observation in `ORDER`, by its first letter."""


@pytest.mark.parametrize("name", WHOLE_TABLE)
def test_advance_from_every_memory_gives_the_table(name: str) -> None:
    memory, expected = WHOLE_TABLE[name]
    found = [advance(memory, observation, FRAME, LIMITS).state.name[0] for observation in ORDER]
    assert "".join(found) == expected


def test_table_covers_every_state_and_observation() -> None:
    assert {memory.state for memory, _ in WHOLE_TABLE.values()} == set(State)
    assert set(ORDER) == set(Observation)


def test_advance_at_a_low_frame_rate_ends_coasting_by_time() -> None:
    assert states_of([MISSED, MISSED, MISSED], seconds=0.4) == [C, C, L]


def test_advance_from_idle_stays_idle() -> None:
    assert states_of(list(Observation), start=Memory()) == [State.IDLE] * len(Observation)


observations = st.lists(st.sampled_from(list(Observation)), min_size=1, max_size=60)


@given(observations)
def test_advance_leaves_lost_only_by_redetection_and_never_to_tracking(
    observed: list[Observation],
) -> None:
    states = [T, *states_of(observed)]
    for (before, after), observation in zip(itertools.pairwise(states), observed, strict=True):
        if before is L:
            assert after is (U if observation is REDETECTED else L)


@given(observations)
def test_advance_enters_tracking_only_after_enough_confident_frames(
    observed: list[Observation],
) -> None:
    states = [T, *states_of(observed)]
    for index in range(1, len(states)):
        if states[index] is T and states[index - 1] is not T:
            assert (
                observed[index - LIMITS.confirm_frames : index]
                == [CONFIDENT] * LIMITS.confirm_frames
            )


@given(observations)
def test_advance_without_a_measurement_is_never_tracking(observed: list[Observation]) -> None:
    for state, observation in zip(states_of(observed), observed, strict=True):
        if observation in (MISSED, NO_IMAGE):
            assert state in (C, L)
        if observation is SCENE_CUT:
            assert state is L


@given(observations, st.integers(0, 5))
def test_advance_without_measurements_is_lost_within_the_limit(
    observed: list[Observation], dark: int
) -> None:
    kinds = [NO_IMAGE if index < dark else MISSED for index in range(LIMITS.coast_frames + 1)]
    assert states_of([*observed, *kinds])[-1] is L


@given(observations)
def test_advance_with_an_operator_reaches_tracking_only_after_the_answer(
    observed: list[Observation],
) -> None:
    limits = replace(LIMITS, operator_confirms=True)
    memory = advance(Memory(L), REDETECTED, 0.0, limits)
    assert memory.awaits_operator
    for observation in observed:
        if observation is REDETECTED:
            continue
        memory = advance(memory, observation, FRAME, limits)
        assert memory.state is not T
        assert memory.awaits_operator == (memory.state is not L)


def test_advance_what_waits_for_the_operator_coasts_and_becomes_tracking_by_his_yes() -> None:
    limits = replace(LIMITS, operator_confirms=True)
    seen = [REDETECTED, CONFIDENT, CONFIDENT, CONFIDENT, CONFIDENT, MISSED, CONFIDENT]
    assert states_of(seen, Memory(L), limits=limits) == [U, U, U, U, U, C, U]
    waiting = Memory(U, confident=9, awaits_operator=True)
    assert states_of([CONFIDENT], replace(waiting, awaits_operator=False), limits=limits) == [T]
    assert states_of([CONFIDENT], waiting) == [T]  # nobody is asked any more


def test_settings_out_of_range_say_what_is_wrong() -> None:
    with pytest.raises(InputError, match=r"track_threshold is 1\.5, expected a number from 0.1 "):
        LongTermSettings(track_threshold=1.5)
    with pytest.raises(InputError, match=r"doubt_threshold is 0\.0, expected a number from 0.05"):
        LongTermSettings(doubt_threshold=0.0)  # else anything at all would count as measured
    with pytest.raises(InputError, match="doubt_frames must be a whole number"):
        LongTermSettings(doubt_frames=2.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="camera_motion must be True or False"):
        LongTermSettings(camera_motion=1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must not be"):
        LongTermSettings(track_threshold=0.2, doubt_threshold=0.4)
    with pytest.raises(InputError, match=r"track_threshold is 0\.95, above confirm_threshold 0\.9"):
        LongTermSettings(track_threshold=0.95)
    with pytest.raises(InputError, match="searches must be a whole number"):
        LongTermSettings(searches=float("nan"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="confirm is 'me', expected automatic or operator"):
        LongTermSettings(confirm="me")


def test_every_setting_has_a_description_and_a_range_with_its_default() -> None:
    for field in fields(LongTermSettings):
        assert field.metadata["description"].endswith(".")
        low, high = field.metadata["low"], field.metadata["high"]
        if field.metadata["choices"]:
            assert field.default in field.metadata["choices"]
        elif isinstance(field.default, bool):
            assert low is high is None
        else:
            assert low <= field.default <= high


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        ("find_threshold", "redetection_threshold", 0.55),
        ("find_likeness", "redetection_similarity", 0.25),
        ("find_frames", "redetection_frames", 5),
    ],
)
def test_old_name_of_a_setting_works_and_its_warning_names_the_new_one(
    old: str, new: str, value: float
) -> None:
    expected, warning = LongTermSettings(**{new: value}), rf"setting {old} is now called {new};"
    with pytest.warns(DeprecationWarning, match=warning):
        assert LongTermSettings(**{old: value}) == expected
    with pytest.warns(DeprecationWarning, match=warning):
        assert replace(LongTermSettings(searches=1), **{old: value}) == replace(
            expected, searches=1
        )
    with pytest.warns(DeprecationWarning, match=warning):
        assert getattr(expected, old) == value
    with (
        pytest.warns(DeprecationWarning, match=warning),
        pytest.raises(InputError, match=f"{new} is 5000"),
    ):
        LongTermSettings(**{old: 5000})


def test_unknown_setting_is_an_error_as_with_every_dataclass() -> None:
    with pytest.raises(TypeError, match="find_all"):
        LongTermSettings(find_all=1)  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match="find_all"):
        LongTermSettings().find_all  # type: ignore[attr-defined]  # noqa: B018
