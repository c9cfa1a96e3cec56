# SPDX-License-Identifier: Apache-2.0
"""What a language model is told about a target whose data set has no sentences.

The rule of PJVLT's section IV-A: for COCO category and supercategory are the sentence, for GOT-10k
the classes of object and motion, the major and the root class, for TrackingNet the class of the
object. Names of Pascal VOC are read as the COCO categories they mean.

An operator writes otherwise: "the man", "a red car". What is to be found by its words alone is
therefore called by a phrase, another one each time (`Phrases`).
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from vt_models.text import Tokenizer, no_text
from vt_models.training.store import with_different_texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vt_models.registry import ModelSpec
    from vt_models.text import Tokens
    from vt_models.training.data import Source, Target

_CATEGORIES = {
    "person": "person",
    "vehicle": "bicycle,car,motorcycle,airplane,bus,train,truck,boat",
    "outdoor": "traffic light,fire hydrant,stop sign,parking meter,bench",
    "animal": "bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe",
    "accessory": "backpack,umbrella,handbag,tie,suitcase",
    "sports": "frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,"
    "surfboard,tennis racket",
    "kitchen": "bottle,wine glass,cup,fork,knife,spoon,bowl",
    "food": "banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake",
    "furniture": "chair,couch,potted plant,bed,dining table,toilet",
    "electronic": "tv,laptop,mouse,remote,keyboard,cell phone",
    "appliance": "microwave,oven,toaster,sink,refrigerator",
    "indoor": "book,clock,vase,scissors,teddy bear,hair drier,toothbrush",
}
_SUPERCATEGORY = {name: above for above, names in _CATEGORIES.items() for name in names.split(",")}
_VOC_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}


def describe(name: str) -> str:
    """Class name -> the text: name and supercategory, or the name alone; "" for no name.

    >>> describe("tvmonitor"), describe("raccoon")
    ('tv electronic', 'raccoon')
    """
    name = _VOC_NAMES.get(name, name)
    above = _SUPERCATEGORY.get(name)
    return name if above is None or above == name else f"{name} {above}"


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
}
_ARTICLES = ("", "the ", "a ")
_PLACES = ("", " on the left", " on the right", " in the middle")
"""A window of a frame does not know where in the frame it is: that a side is named must not change
what is found in it, so sides are named at random."""
_PLACE_SHARE = 0.15
_COLOUR_SHARE = 0.4
_COLOURED = frozenset({"vehicle", "animal", "furniture"})
"""Things of these kinds may be called by a colour, bicycles excepted: one sees through them."""
_COLOURS = ("black", "white", "gray", "red", "yellow", "green", "blue")
_HUES = {"red": (170, 188), "yellow": (20, 34), "green": (42, 85), "blue": (95, 128)}
"""In OpenCV's 0 to 180; 180 is 0 again. What lies between has no name here."""


def plain_name(name: str) -> str:
    """The COCO category that a class name means, where it means one; else the name.

    >>> plain_name("tvmonitor"), plain_name("raccoon")
    ('tv', 'raccoon')
    """
    return _VOC_NAMES.get(name, name)


def colour_of(image: np.ndarray, box: tuple[float, float, float, float]) -> str:
    """The colour of more than half of the middle of a box, "" where none is.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: x, y, w, h in pixels.
    """
    x, y, w, h = box
    top, left = max(int(y + 0.25 * h), 0), max(int(x + 0.25 * w), 0)
    part = image[top : int(y + 0.75 * h) + 1, left : int(x + 0.75 * w) + 1]
    if part.size == 0:
        return ""
    hue, saturation, value = cv2.split(cv2.cvtColor(part, cv2.COLOR_RGB2HSV))
    hue = hue.astype(np.int16)  # the sums below do not fit into a byte
    grey, vivid = saturation < 50, (saturation > 90) & (value > 60)
    shares = {
        "black": (value < 55).mean(),
        "white": (grey & (value > 175)).mean(),
        "gray": (grey & (value > 80) & (value < 150)).mean(),
    }
    for name, (low, high) in _HUES.items():
        inside = (hue >= low) & (hue <= high) | (hue + 180 <= high)
        shares[name] = (vivid & inside).mean()
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] > 0.5 else ""


class Phrases:
    """Word pieces of phrases such as "the red car", looked up; the tokeniser stays in this process.

    Args:
        texts: Class names (as of `plain_name`), and sentences, which stay as they are.
        spec: Of a language model.
    """

    def __init__(self, texts: Iterable[str], spec: ModelSpec) -> None:
        tokenizer = Tokenizer.uncased(spec.text_length)
        self._known = {phrase: tokenizer(phrase) for text in texts for phrase in _all(text)}

    def of(self, text: str, colour: str, rng: np.random.Generator) -> Tokens:
        """Ids and mask (L,) of a phrase for one of the texts.

        Args:
            text: A class name or a sentence.
            colour: From `colour_of`; only some things are called by it.
            rng: Chooses among what the thing may be called.
        """
        names = (text, *_OTHER_NAMES.get(text, ()))
        name = names[int(rng.integers(len(names)))] if rng.random() < 0.5 else text
        article = _ARTICLES[int(rng.integers(len(_ARTICLES)))]
        coloured = colour if _has_colour(text) and rng.random() < _COLOUR_SHARE else ""
        place = _PLACES[int(rng.integers(len(_PLACES)))] if rng.random() < _PLACE_SHARE else ""
        return self._known.get(_phrase(article, coloured, name, place)) or self._known[text]


def _phrase(article: str, colour: str, name: str, place: str) -> str:
    return f"{article}{colour}{' ' if colour else ''}{name}{place}"


def _has_colour(name: str) -> bool:
    return _SUPERCATEGORY.get(name) in _COLOURED and name != "bicycle"


def _all(text: str) -> Iterator[str]:
    """Every phrase for a class name; a text of more than three words is a sentence."""
    yield text
    if len(text.split()) > 3:
        return
    colours = ("", *_COLOURS) if _has_colour(text) else ("",)
    for name in (text, *_OTHER_NAMES.get(text, ())):
        yield from (
            _phrase(*parts, name, place)
            for parts in product(_ARTICLES, colours)
            for place in _PLACES
        )


class Words:
    """Word pieces of every target, looked up (the tokeniser stays in this process).

    Args:
        sources: whose targets are described.
        spec: of a language model.
    """

    def __init__(self, sources: Iterable[Source], spec: ModelSpec) -> None:
        tokenizer = Tokenizer.uncased(spec.text_length)
        rows = (
            row
            for source in sources
            for row in (source.stills, *(track.targets for track in source.tracks))
        )
        texts = {text_of(target) for row in rows for target in with_different_texts(row)} - {""}
        self._known = {text: tokenizer(text) for text in sorted(texts)}
        self._none = no_text(spec.text_length)

    def of(self, target: Target, dropout: float, rng: np.random.Generator) -> Tokens:
        """Ids and mask (L,) of a target's text; of no text where it has none or it is dropped."""
        text = text_of(target)
        dropped = bool(text) and rng.random() < dropout
        return self._none if dropped or not text else self._known[text]


def text_of(target: Target) -> str:
    """A target's sentence where the data has one, otherwise what its name says."""
    return target.sentence or describe(target.name)


def sentence_of(record: Mapping[str, Any]) -> str:
    """A video's sentence where the data set has one, otherwise all its classes; "" for neither.

    Args:
        record: From `SequenceDataset.record`.
    """
    return record["language"] or " ".join(record["classes"])
