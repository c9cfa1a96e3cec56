# SPDX-License-Identifier: Apache-2.0
"""Which descriptions a detector that was trained on a list of names can be asked for.

Such a network gives every text a score, and finds something for texts that mean nothing: 1014 of
1640 searches for words like "asdf", "test" and "1234" passed the threshold of the bundled detector,
with scores like those of what is there. So texts are told apart by their words, before the search.
"""

from __future__ import annotations

from collections.abc import Collection

from vt_models.errors import InputError
from vt_models.grounding.description import ANYTHING

_OTHER_WORDS = {
    "person": (
        *("man", "woman", "boy", "girl", "child", "kid", "guy", "lady", "gentleman", "human"),
        *("men", "women", "children", "people", "pedestrian", "player", "teenager", "toddler"),
        *("baby", "infant", "adult", "student", "passenger", "officer", "policeman", "farmer"),
    ),
    "car": (
        *("automobile", "vehicle", "sedan", "suv", "van", "minivan", "taxi", "cab", "jeep"),
        *("hatchback", "convertible", "coupe", "limousine", "wagon"),
    ),
    "truck": ("lorry", "pickup", "vehicle", "trailer"),
    "motorcycle": ("motorbike", "scooter", "moped"),
    "bicycle": ("bike", "tricycle"),
    "airplane": ("plane", "aeroplane", "aircraft", "jet", "airliner"),
    "boat": (
        *("ship", "vessel", "ferry", "yacht", "sailboat", "rowboat", "canoe", "motorboat"),
        *("speedboat", "barge", "dinghy"),
    ),
    "train": ("locomotive", "tram"),
    "bus": ("minibus", "coach"),
    "dog": ("puppy", "pup", "hound", "terrier", "labrador", "retriever", "poodle", "spaniel"),
    "cat": ("kitten", "kitty"),
    "horse": ("pony", "stallion", "mare", "foal"),
    "cow": ("cattle", "bull", "ox", "calf"),
    "sheep": ("lamb", "ram", "ewe"),
    "bird": (
        *("duck", "goose", "chicken", "pigeon", "sparrow", "eagle", "hawk", "seagull", "gull"),
        *("swan", "parrot", "crow", "owl"),
    ),
    "couch": ("sofa", "settee"),
    "chair": ("armchair", "stool", "seat"),
    "dining table": ("table", "desk", "diningtable"),
    "tv": ("screen", "television", "monitor", "tvmonitor"),
    "potted plant": ("plant", "houseplant", "pottedplant"),
    "cell phone": ("phone", "telephone", "smartphone"),
    "refrigerator": ("fridge", "freezer"),
    "cup": ("mug",),
    "wine glass": ("glass",),
    "handbag": ("bag", "purse"),
    "backpack": ("rucksack",),
    "suitcase": ("luggage",),
    "sports ball": ("ball", "football", "basketball"),
    "tennis racket": ("racket", "racquet"),
    "hair drier": ("hairdryer",),
    "donut": ("doughnut",),
    "laptop": ("computer", "notebook"),
    "fire hydrant": ("hydrant",),
}
"""By the names of datasets, what else such a thing is called."""


def check_known(name: str, names: Collection[str]) -> None:
    """Refuse what a detector has not learnt.

    Args:
        name: what a description calls the thing (`name_of`).
        names: that the detector was trained on; empty: any text.

    Raises:
        InputError: the thing is called by none of the names, nor by another word for one.
    """
    if names and not _is_known(name, names):
        raise InputError(
            f"this detector does not know what {name!r} is: it has learnt {len(names)} names, such "
            f"as {', '.join(sorted(names, key=len)[:6])}; call the target by one, draw a box, or "
            "take another grounding backend"
        )


def _is_known(name: str, names: Collection[str]) -> bool:
    """Return whether a name is known, or what it ends with: a police car is a car."""
    words = name.split()
    endings = {" ".join(words[start:]) for start in range(len(words))}
    for plural in ("s", "es"):
        endings |= {ending.removesuffix(plural) for ending in endings}
    return any(
        ending == ANYTHING
        or ending in names
        or any(ending in _OTHER_WORDS.get(known, ()) for known in names)
        for ending in endings
    )
