# SPDX-License-Identifier: Apache-2.0
"""What a language model is told about a target whose dataset has no sentences.

The rule of PJVLT's section IV-A: for COCO category and supercategory are the sentence, for GOT-10k
the classes of object and motion, the major and the root class, for TrackingNet the class of the
object. Names of Pascal VOC are read as the COCO categories they mean.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vt_models.errors import DatasetError
from vt_models.registry import ModelSpec
from vt_models.text import Tokenizer, Tokens, no_text
from vt_models.training.data.image_store import ImageTargets, by_name, with_different_texts
from vt_models.training.data.targets import Source, Target
from vt_models.training.recipe.settings import Recipe

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
    name = plain_name(name)
    above = supercategory(name)
    return name if above is None or above == name else f"{name} {above}"


def plain_name(name: str) -> str:
    """Return the COCO category that a class name means, where it means one; else the name.

    >>> plain_name("tvmonitor"), plain_name("raccoon")
    ('tv', 'raccoon')
    """
    return _VOC_NAMES.get(name, name)


def supercategory(name: str) -> str | None:
    """Return what a COCO category belongs to, such as "vehicle"; None for other names."""
    return _SUPERCATEGORY.get(name)


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
        """Return ids and mask (L,) of a target's text; of none if it has none or it is dropped."""
        text = text_of(target)
        dropped = bool(text) and rng.random() < dropout
        return self._none if dropped or not text else self._known[text]


def text_of(target: Target) -> str:
    """Return a target's sentence where the data has one, otherwise what its name says."""
    return target.sentence or describe(target.name)


def check_texts(recipe: Recipe, sources: Iterable[Source]) -> list[str]:
    """Say how many targets of each source have a text for a language model to learn from.

    Args:
        recipe: of a language model.
        sources: opened for it.

    Returns:
        A line for each source.

    Raises:
        DatasetError: no target of a source has one, and the recipe does not say `without_text`.
    """
    allowed = {one.called for one in recipe.sources if one.without_text or one.weight == 0}
    lines = []
    for source in sources:
        stills, tracks = source.stills, source.tracks
        told = sum(any(map(text_of, with_different_texts(one.targets))) for one in tracks)
        if isinstance(stills, ImageTargets):
            named = sum(len(group) for _, group in by_name(stills))
        else:
            named = sum(bool(text_of(target)) for target in stills)
        counts = f"{told} of {len(tracks)} tracks and {named} of {len(stills)} targets in stills"
        if not told + named and source.name not in allowed:
            raise DatasetError(
                f"{source.name}: {counts} have a text, and {recipe.model} learns from texts. Give "
                "the dataset its sentences or classes (TrackingNet: classes.txt, see "
                "docs/datasets.md), or say `without_text: true` beside the source."
            )
        lines.append(f"{source.name}: {counts} have a text")
    return lines
