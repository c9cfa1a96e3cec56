# SPDX-License-Identifier: Apache-2.0
"""Sides, sizes and colours tell things of one name apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.grounding import Candidate, Grounder
from vt_models.grounding.attributes import LEAST, weigh
from vt_models.grounding.description import attributes_of, name_of

FRAME = np.full((100, 200, 3), 90, np.uint8)
BOXES = {
    "left": (10.0, 40.0, 20.0, 20.0),
    "middle": (90.0, 40.0, 20.0, 20.0),
    "right": (170.0, 40.0, 20.0, 20.0),
}


def candidates(scores: dict[str, float]) -> list[Candidate]:
    return [Candidate(BOXES[name], score, "car") for name, score in scores.items()]


def best(text: str, found: list[Candidate], frame: Any = FRAME) -> Any:
    return max(weigh(found, text, frame), key=lambda item: item.score).box


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("the car on the left", "left"),
        ("the leftmost car", "left"),
        ("the CAR, right", "right"),
        ("the car in the centre", "middle"),
    ],
)
def test_weigh_side_decides_between_equal_scores(text: str, place: str) -> None:
    found = candidates({"left": 0.6, "middle": 0.6, "right": 0.6})
    assert best(text, found) == BOXES[place]
    unlike = candidates({name: 0.6 if name == place else 0.9 for name in BOXES})
    assert best(text, unlike) == BOXES[place]


def test_weigh_top_and_bottom_decide() -> None:
    found = [Candidate((90.0, y, 20.0, 20.0), 0.5, "car") for y in (5.0, 70.0)]
    assert best("the upper car", found) == (90.0, 5.0, 20.0, 20.0)
    assert best("the car at the bottom", found) == (90.0, 70.0, 20.0, 20.0)


def test_the_outermost_of_what_looks_like_it_sets_the_measure() -> None:
    """Something at the left edge that is hardly a car does not make the left car a middle one."""
    found = [Candidate((0.0, 40.0, 10.0, 10.0), 0.05, "car"), *candidates({"middle": 0.6})]
    weighed = weigh(found, "the car on the left", FRAME)
    assert weighed[1].score == pytest.approx(0.6)


def test_weigh_sizes_decide() -> None:
    found = [Candidate((10.0, 10.0, side, side), 0.5, "dog") for side in (10.0, 40.0)]
    assert best("the big dog", found)[2] == 40.0
    assert best("the smallest dog", found)[2] == 10.0


@pytest.mark.parametrize("word", ["grey", "gray", "silver"])
def test_attributes_of_grey_in_either_spelling_are_one_colour(word: str) -> None:
    assert attributes_of(f"the {word} car").colours == {"grey"}


def test_colours_are_looked_at_in_the_box() -> None:
    frame = FRAME.copy()
    frame[40:60, 10:30] = (250, 250, 250)
    frame[40:60, 170:190] = (200, 20, 30)
    found = candidates({"left": 0.5, "middle": 0.6, "right": 0.5})
    assert best("the white car", found, frame) == BOXES["left"]
    assert best("a red car", found, frame) == BOXES["right"]
    assert best("the grey car", found, frame) == BOXES["middle"]
    frame[40:60, 90:110] = (20, 22, 25)
    assert best("the dark car", found, frame) == BOXES["middle"]
    frame[40:60, 90:110] = 90
    weighed = weigh(found, "the red car on the left", frame)
    assert weighed[0].score == pytest.approx(0.5 * LEAST)
    assert weighed[2].score == pytest.approx(0.5 * LEAST)


@pytest.mark.parametrize(
    "text", ["the car", "le carre rouge", "leftover brightness", "Ünïcode 東京"]
)
def test_weigh_words_without_attribute_change_nothing(text: str) -> None:
    found = candidates({"left": 0.5, "right": 0.6})
    assert not attributes_of(text)
    assert weigh(found, text, FRAME) == found


@given(
    st.lists(
        st.tuples(*[st.floats(-50, 250)] * 2, *[st.floats(1, 300)] * 2, st.floats(0, 1)),
        max_size=8,
    ),
    st.sampled_from(["the red car on the left", "large small", "top bottom middle gray", "x"]),
)
def test_scores_only_fall_and_never_below_what_three_attributes_leave(
    rows: list[tuple[float, ...]], text: str
) -> None:
    found = [Candidate((x, y, w, h), score, "car") for x, y, w, h, score in rows]
    weighed = weigh(found, text, FRAME)
    assert [item.box for item in weighed] == [item.box for item in found]
    for before, after in zip(found, weighed, strict=True):
        assert before.score * LEAST**4 - 1e-9 <= after.score <= before.score


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("the man riding a bmx bike", "man"),
        ("the dark grey car driving through the roundabout", "car"),
        ("the left jogger in dark clothes", "person"),
        ("the football player", "person"),
        ("the player piano", "player piano"),
        ("the left person of the two on the grass", "person"),
        ("The jumping MAN!", "man"),
        ("the big red building on the left", "building"),
        ("a traffic light", "traffic light"),
        ("hot dog", "hot dog"),
        ("the one on the right", "object"),
        ("left", "object"),
        ("the", "object"),
        ("собака", "собака"),
        ("42", "object"),
    ],
)
def test_the_name_is_told_from_what_is_said_beside_it(text: str, name: str) -> None:
    assert name_of(text) == name


@given(st.text(max_size=60))
def test_name_of_any_text_is_not_empty(text: str) -> None:
    assert name_of(text).strip()
    attributes_of(text)


def test_colours_and_sizes_of_what_is_beside_do_not_count() -> None:
    said = attributes_of("the large dog next to the small red car on the left")
    assert (said.sizes, said.colours, said.sides) == ({"large"}, set(), {"left"})


def test_a_detector_that_knows_names_only_is_asked_for_the_name() -> None:
    class Listening:
        name, default_threshold, names_only = "listening", 0.3, True

        def detect(self, _frame: Any, text: str, _cancelled: Any) -> list[Candidate]:
            asked.append(text)
            return []

    asked: list[str] = []
    detector = Listening()
    Grounder(detector).find(FRAME, "the white car on the road")
    detector.names_only = False
    Grounder(detector).find(FRAME, "the white car on the road")
    assert asked == ["car", "the white car on the road"]


def test_a_detector_that_knows_names_only_is_helped(fake: Any) -> None:
    answers = [(BOXES["left"], 0.6), (BOXES["right"], 0.62)]
    detector = fake(*answers)
    assert Grounder(detector).find(FRAME, "the car on the left").status == "ambiguous"
    detector.names_only = True
    found = Grounder(detector).find(FRAME, "the car on the left")
    assert found.status == "found"
    assert found.chosen.box == BOXES["left"]
    assert Grounder(detector).find(FRAME, "the car").status == "ambiguous"
