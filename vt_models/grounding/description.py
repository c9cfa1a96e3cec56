# SPDX-License-Identifier: Apache-2.0
"""What an English description says: what the thing is called, and its side, size and colour."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vt_models.grounding.colours import COLOURS

ANYTHING = "object"
"""What the bundled detector was trained to call whatever has a name."""

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
    "gray": "grey",
    "dark": "black",
    "silver": "grey",
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
    (
        *("building", "ceiling", "clothing", "duckling", "painting", "parking", "railing", "ring"),
        *("swing", "wing"),
    )
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
        colours: of `vt_models.grounding.colours.COLOURS`.
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


def says_something(text: str) -> bool:
    """Return whether there is any word but articles and prepositions.

    >>> says_something("the left"), says_something("1234 !"), says_something("the the")
    (True, False, False)
    """
    return not set(_words_of(text)) <= _ARTICLES | _BESIDE


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
