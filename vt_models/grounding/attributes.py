# SPDX-License-Identifier: Apache-2.0
"""What a detector that knows names only cannot read in a description, judged by rules.

It finds every car for "car". What tells the "white car on the left" from the others is in the frame
already: where a box is, how large, and which colours are in it. Words of these three kinds lower
the scores of the candidates that fit them less. What is said beside the name ("riding the wave")
would only hide the name from such a detector, so it is asked for the name alone. English only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vt_models.colour_names import COLOURS, colour_shares
from vt_models.grounding.results import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vt_models.geometry import Box
    from vt_models.grounding.grounder import Frame

ANYTHING = "object"
"""What the detector that ships was trained to call whatever has a name."""
LEAST = 0.4
"""Of a candidate's score is left if an attribute does not fit at all. An attribute alone must not
make anything of what hardly looks like the thing."""
PLAUSIBLE = 0.5
"""Candidates with this part of the best score set the measure: what is leftmost is leftmost among
these."""
SIDE_RANGE = 0.2
"""Of the frame's width or height; so far from the outermost candidate nothing is on its side."""
SIZE_RANGE = 1.0
"""Natural logarithm of the ratio of areas, likewise (2.7 times)."""
COLOUR_FILLS = 0.3
"""Of an object's middle has its colour; windows, wheels and shadows have another."""
COLOUR_MIDDLE = 0.7

_SIDES = {
    "left": {"left", "leftmost"},
    "right": {"right", "rightmost"},
    "top": {"top", "upper", "topmost", "uppermost"},
    "bottom": {"bottom", "lower", "lowest", "bottommost"},
    "middle": {"middle", "center", "centre", "central"},
}
_SIZES = {
    "large": {"large", "larger", "largest", "big", "bigger", "biggest"},
    "small": {"small", "smaller", "smallest", "little", "tiny"},
}
_OTHER_COLOURS = {
    "grey": "gray",
    "dark": "black",
    "silver": "gray",
    "crimson": "red",
    "scarlet": "red",
}


_BESIDE = frozenset(
    (
        *("of", "in", "on", "at", "with", "without", "near", "by", "behind", "before", "under"),
        *("above", "below", "beside", "next", "from", "to", "into", "through", "across", "along"),
        *("around", "between", "among", "over", "against", "and", "but", "that", "which", "who"),
        *("whose", "is", "are", "was"),
    )
)
"""What begins with one of these words is said beside the name."""
_THINGS_IN_ING = frozenset(
    ("building", "ceiling", "clothing", "duckling", "painting", "railing", "ring", "swing", "wing")
)
"""Other words in -ing say what a thing does."""
_ARTICLES = frozenset(
    ("a", "an", "the", "this", "these", "those", "my", "our", "your", "his", "her")
)
_SAID = frozenset({*COLOURS, *_OTHER_COLOURS, "light", "bright"}).union(
    *_SIDES.values(), *_SIZES.values()
)
"""What is said by attributes and must not hide the name."""
_PEOPLE = frozenset(
    (
        *("biker", "climber", "cyclist", "dancer", "driver", "guy", "hiker", "jogger", "jumper"),
        *("lady", "pedestrian", "player", "rider", "runner", "skateboarder", "skater", "skier"),
        *("snowboarder", "soldier", "surfer", "swimmer", "wakeboarder", "walker", "worker"),
    )
)
"""Who is called by what they do. To a text encoder a cyclist is more of a bicycle than a person."""
_ANYTHING = frozenset({"one", "ones", "thing", "things", "something", "object", "it"})


@dataclass(frozen=True)
class Attributes:
    """What a description says beside what the thing is.

    Attributes:
        sides: of left, right, top, bottom, middle.
        sizes: of large, small.
        colours: of `vt_models.colour_names.COLOURS`.
    """

    sides: frozenset[str]
    sizes: frozenset[str]
    colours: frozenset[str]

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.sides or self.sizes or self.colours)


def attributes_of(text: str) -> Attributes:
    """Read the attributes of a description: sides anywhere, sizes and colours before the name.

    >>> found = attributes_of("the white car on the left")
    >>> sorted(found.sides), sorted(found.colours), sorted(found.sizes)
    (['left'], ['white'], [])
    >>> attributes_of("the woman in the red coat").colours
    frozenset()
    """
    words, phrase = set(_words_of(text)), set(_noun_phrase(text))
    colours = {_OTHER_COLOURS.get(word, word) for word in phrase} & set(COLOURS)
    return Attributes(
        frozenset(side for side, names in _SIDES.items() if names & words),
        frozenset(size for size, names in _SIZES.items() if names & phrase),
        frozenset(colours),
    )


def name_of(text: str) -> str:
    """What a description calls the thing, without what is said beside it.

    >>> name_of("the white car on the left"), name_of("the man riding a bike"), name_of("a red one")
    ('car', 'man', 'object')
    >>> name_of("the jumping man"), name_of("the tall building near the river"), name_of("the left")
    ('man', 'tall building', 'object')
    """
    phrase = [word for word in _noun_phrase(text) if word not in _ARTICLES]
    last = phrase[-1:]  # "light" says how a thing looks, and is what a traffic light is
    kept = [word for word in phrase[:-1] if word not in _SAID]
    kept = [word for word in kept if not word.endswith("ing") or word in _THINGS_IN_ING]
    if not kept and set(last) <= _SAID | _ANYTHING:
        return ANYTHING
    if _PEOPLE.intersection(last):
        return "person"
    return " ".join(kept + last)


def _words_of(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.lower())


def _noun_phrase(text: str) -> list[str]:
    """The words up to what is said beside the name: a preposition, or a verb behind a noun."""
    phrase: list[str] = []
    for word in _words_of(text):
        names = set(phrase) - _ARTICLES - _SAID
        acts = word.endswith("ing") and word not in _THINGS_IN_ING
        if (acts and names) or (word in _BESIDE and set(phrase) - _ARTICLES):
            break
        phrase.append(word)
    return phrase


def weigh(candidates: Sequence[Candidate], text: str, frame: Frame) -> list[Candidate]:
    """Candidates with the scores that the attributes of a description leave them.

    Args:
        candidates: boxes in pixels of the frame, scores in [0, 1].
        text: the description.
        frame: (H, W, 3) uint8 RGB.

    Returns:
        The same candidates in the same order; as they were if the text has no attribute.
    """
    said = attributes_of(text)
    if not candidates or not said:
        return list(candidates)
    best = max(candidate.score for candidate in candidates)
    plausible = np.array([item.score >= PLAUSIBLE * best for item in candidates])
    fits = np.ones(len(candidates))
    for side in said.sides:
        away = np.array([_from_side(item.box, side, frame.shape) for item in candidates])
        fits *= _fit(away - away[plausible].min(), SIDE_RANGE)
    for size in said.sizes:
        area = np.log([max(item.box[2] * item.box[3], 1e-6) for item in candidates])
        away = -area if size == "large" else area
        fits *= _fit(away - away[plausible].min(), SIZE_RANGE)
    if said.colours:
        share = np.array([_share(item.box, said.colours, frame) for item in candidates])
        fits *= _fit(1.0 - share / COLOUR_FILLS, 1.0)
    return [
        Candidate(item.box, item.score * float(fit), item.label)
        for item, fit in zip(candidates, fits, strict=True)
    ]


def _fit(away: np.ndarray, most: float) -> np.ndarray:
    """1 where nothing is amiss, down to `LEAST` where `most` or more is."""
    amiss: np.ndarray = np.clip(away / most, 0.0, 1.0)
    return 1.0 - (1.0 - LEAST) * amiss


def _from_side(box: Box, side: str, shape: tuple[int, ...]) -> float:
    """How far a box is from a side, or from the middle, of the frame; a part of its length."""
    x, y = (box[0] + 0.5 * box[2]) / shape[1], (box[1] + 0.5 * box[3]) / shape[0]
    distance: dict[str, Callable[[], float]] = {
        "left": lambda: x,
        "right": lambda: 1.0 - x,
        "top": lambda: y,
        "bottom": lambda: 1.0 - y,
        "middle": lambda: max(abs(x - 0.5), abs(y - 0.5)),
    }
    return distance[side]()


def _share(box: Box, colours: frozenset[str], frame: Frame) -> float:
    """How much of a box's middle has one of the colours."""
    shares = colour_shares(frame, box, COLOUR_MIDDLE)
    return sum(shares[colour] for colour in colours)
