# SPDX-License-Identifier: Apache-2.0
"""What things are called: colours that people agree on, names that mean the same."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tokenizers", reason="needs the library tokenizers")

from vt_models.registry import get_spec
from vt_models.text import Tokenizer
from vt_models.training.data.phrases import Phrases, colour_of, phrases_for

SPEC = get_spec("pjvlt_tiny")


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((250, 250, 250), "white"),
        ((10, 12, 8), "black"),
        ((120, 118, 121), "grey"),
        ((220, 20, 30), "red"),
        ((225, 25, 15), "red"),
        ((230, 220, 20), "yellow"),
        ((20, 200, 40), "green"),
        ((20, 60, 220), "blue"),
        ((150, 100, 60), ""),
    ],
)
def test_colour_of_plain_patch_is_its_name(rgb: tuple[int, int, int], name: str) -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[10:30, 10:30] = rgb
    assert colour_of(image, (10.0, 10.0, 20.0, 20.0)) == name


def test_colour_of_two_colours_is_empty() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, :18], image[:, 22:] = (220, 20, 30), (20, 60, 220)
    assert colour_of(image, (10.0, 10.0, 20.0, 20.0)) == ""


def test_phrases_for_a_grey_thing_keep_the_spelling_that_networks_were_trained_with() -> None:
    phrases = set(phrases_for("car"))
    assert "a gray car" in phrases
    assert not [phrase for phrase in phrases if "grey" in phrase]
    drawn = Phrases(["car"], SPEC)
    rng = np.random.default_rng(0)
    found = {tuple(drawn.of("car", "grey", rng)[0].tolist()) for _ in range(300)}
    assert tuple(Tokenizer.uncased(40)("a gray car")[0].tolist()) in found


def test_phrases_vary_names_and_keep_sentences() -> None:
    sentence = "the small boat behind the pier"
    phrases = Phrases(["car", "person", sentence], SPEC)
    rng = np.random.default_rng(0)

    def drawn(text: str, colour: str) -> set[tuple[int, ...]]:
        found = (phrases.of(text, colour, rng)[0] for _ in range(300))
        return {tuple(ids.tolist()) for ids in found}

    words = {
        phrase: tuple(Tokenizer.uncased(40)(phrase)[0].tolist())
        for phrase in (
            "car",
            "the car",
            "a red car",
            "the red vehicle on the left",
            "the man",
            sentence,
            "the red man",
        )
    }
    cars, people = drawn("car", "red"), drawn("person", "red")
    assert {words["car"], words["the car"], words["a red car"]} <= cars
    assert words["the man"] in people
    assert words["the red man"] not in people, "nobody is called by a colour"
    assert drawn(sentence, "red") == {words[sentence]}
