# SPDX-License-Identifier: Apache-2.0
"""What an operator may call a thing: "the man", "a red car", "the boat on the left".

Boxes come with class names only. So that a network that finds things by words alone reads more than
those, each is called by another phrase each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

import numpy as np

from vt_models.geometry.boxes import Box
from vt_models.grounding.colours import COLOURS, colour_shares
from vt_models.registry import ModelSpec
from vt_models.text import Tokenizer, Tokens
from vt_models.training.data.descriptions import supercategory

_OTHER_NAMES = {
    "person": ("man", "woman", "boy", "girl", "child", "pedestrian", "player", "jogger"),
    "car": ("automobile", "vehicle"),
    "airplane": ("plane", "aircraft"),
    "motorcycle": ("motorbike",),
    "bicycle": ("bike",),
    "boat": ("ship",),
    "couch": ("sofa",),
    "tv": ("screen", "television"),
    "dining table": ("table",),
    "potted plant": ("plant",),
    "cell phone": ("phone",),
    "object": ("thing", "something"),
}
_ARTICLES = ("", "the ", "a ")
_PLACES = ("", " on the left", " on the right", " in the middle")
"""A window of a frame does not know where in the frame it is: that a side is named must not change
what is found in it, so sides are named at random."""
_PLACE_SHARE = 0.3
_MORE = (
    " walking",
    " running away",
    " on the road",
    " in the water",
    " on the grass",
    " near the house",
    " in dark clothes",
    " that moves fast",
)
"""Operators say such things beside the name, which must not be hidden by them."""
_COLOUR_SHARE = 0.4
_SPELLING = {"grey": "gray"}
"""How phrases spell a colour: as most texts do that language models learnt from."""
_COLOURED = frozenset({"vehicle", "animal", "furniture"})
"""Things of these kinds may be called by a colour, bicycles excepted: one sees through them."""
_COLOUR_FILLS = 0.5
"""An object is called by a colour that more than this share of its middle half has."""


def colour_of(image: np.ndarray, box: Box) -> str:
    """Return the colour of more than half of the middle of a box, "" where none is.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: x, y, w, h in pixels.
    """
    shares = colour_shares(image, box, middle=0.5)
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] > _COLOUR_FILLS else ""


class Phrases:
    """Word pieces of phrases such as "the red car", looked up; the tokeniser stays in this process.

    Args:
        texts: Class names (as of `plain_name`), and sentences, which stay as they are.
        spec: Of a language model.
    """

    def __init__(self, texts: Iterable[str], spec: ModelSpec) -> None:
        tokenizer = Tokenizer.uncased(spec.text_length)
        self._known = {phrase: tokenizer(phrase) for text in texts for phrase in phrases_for(text)}

    def of(self, text: str, colour: str, rng: np.random.Generator) -> Tokens:
        """Return ids and mask (L,) of a phrase for one of the texts.

        Args:
            text: A class name or a sentence.
            colour: From `colour_of`; only some things are called by it.
            rng: Chooses among what the thing may be called.
        """
        names = (text, *_OTHER_NAMES.get(text, ()))
        name = names[int(rng.integers(len(names)))] if rng.random() < 0.5 else text
        article = _ARTICLES[int(rng.integers(len(_ARTICLES)))]
        coloured = colour if _has_colour(text) and rng.random() < _COLOUR_SHARE else ""
        place = ""
        if rng.random() < _PLACE_SHARE:
            places = (*_PLACES, *_MORE)
            place = places[int(rng.integers(len(places)))]
        return self._known.get(_phrase(article, coloured, name, place)) or self._known[text]


def _phrase(article: str, colour: str, name: str, place: str) -> str:
    written = _SPELLING.get(colour, colour)
    return f"{article}{written}{' ' if colour else ''}{name}{place}"


def _has_colour(name: str) -> bool:
    return supercategory(name) in _COLOURED and name != "bicycle"


def phrases_for(text: str) -> Iterator[str]:
    """Yield every phrase for a class name; a text of more than three words is a sentence."""
    yield text
    if len(text.split()) > 3:
        return
    colours = ("", *COLOURS) if _has_colour(text) else ("",)
    for name in (text, *_OTHER_NAMES.get(text, ())):
        yield from (
            _phrase(*parts, name, place)
            for parts in product(_ARTICLES, colours)
            for place in (*_PLACES, *_MORE)
        )
