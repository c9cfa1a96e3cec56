# SPDX-License-Identifier: Apache-2.0
"""Views in which a text alone says what to find.

The text must fit one object of the view. A still image of three people is no place to search for
"the person", but a window of it may be: what counts is what the view shows. And as a frame is
searched in windows of which most show nothing of the kind, the network must see such views as well.
That something is not to be seen is known where everything is annotated: among the classes that are
annotated in the image's group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vt_models.training.data.augmentation import Box, View, box_in_view
from vt_models.training.data.descriptions import plain_name
from vt_models.training.data.image_store import ConcatSequence, by_name
from vt_models.training.data.targets import Annotated, Source, Target

ABSENT_SHARE = 0.3
"""This share of the views does not show what the text says."""
LEGIBLE_PX = 14
"""An object whose shorter side has fewer pixels is hard to recognise."""
ATTEMPTS = 5
PART_OF_WINDOW = (0.14, 0.6)
"""Mean side of an object as a part of its window's side, uniform in its logarithm."""
SEEN = 0.15
"""An object of which this share is inside a view is to be seen in it."""


@dataclass(frozen=True, slots=True)
class TextQuery:
    """A text and the object whose surroundings are viewed.

    Attributes:
        target: The object.
        text: A class name or a sentence.
        present: The text means the object; if False, nothing in the view.
    """

    target: Target
    text: str
    present: bool


class NamedObjects:
    """Draws objects by name, each name by the root of how many there are, a video counting as one.

    Args:
        sources: Whose objects are drawn; those without a name and a sentence are not.

    Attributes:
        texts: Class names (`plain_name`) and sentences that objects are drawn by.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        chains: dict[str, ConcatSequence[Target]] = {}
        scenes: Counter[str] = Counter()
        self._seen: dict[int, Annotated] = {}
        names: dict[str, set[str]] = {}
        for source in sources:
            for row in (source.stills, *(track.targets for track in source.tracks)):
                for name, targets in by_name(row):
                    text = targets[0].sentence or plain_name(name)
                    chains.setdefault(text, ConcatSequence()).add(targets)
                    scenes[text] += len(targets) if row is source.stills else 1
            for image in source.annotated:
                self._seen[image.image] = image
                found = {plain_name(name) for name, _ in image.objects if name}
                names.setdefault(image.group, set()).update(found)
        self.texts = sorted(chains)
        self._chains = [chains[text] for text in self.texts]
        weights = np.sqrt([scenes[text] for text in self.texts])
        self._weights = weights / max(weights.sum(), 1.0)
        self._names = names

    def __len__(self) -> int:
        return sum(map(len, self._chains))

    def draw(self, rng: np.random.Generator) -> TextQuery:
        """Draw a text, and an object that it means or does not mean."""
        number = int(rng.choice(len(self._chains), p=self._weights))
        chain = self._chains[number]
        for _ in range(ATTEMPTS):
            target = chain[int(rng.integers(len(chain)))]
            if min(target.box[2:]) >= LEGIBLE_PX:
                break
        known = self._seen.get(target.image)
        if known and rng.random() < ABSENT_SHARE:
            other = self.texts[int(rng.choice(len(self.texts), p=self._weights))]
            if other in self._names[known.group]:
                return TextQuery(target, other, present=False)
        return TextQuery(target, self.texts[number], present=True)

    def is_clear(self, query: TextQuery, view: View) -> bool:
        """Return whether a view shows nothing but the target that the text could mean."""
        known = self._seen.get(query.target.image)
        rivals = known.objects if known else ()
        return not any(
            plain_name(name) == query.text
            and not (query.present and box == query.target.box)
            and share_inside(box, view) > SEEN
            for name, box in rivals
        )


def window_around(
    box: Box, image: tuple[int, ...], mirrored: bool, turn: float, rng: np.random.Generator
) -> View:
    """Draw a window as a frame is searched in: inside the image where it is the smaller one.

    Args:
        box: x, y, w, h in pixels; its middle is in the window.
        image: (H, W, ...).
        mirrored: Of the view.
        turn: Largest rotation, degrees.
        rng: Where the randomness comes from.
    """
    x, y, w, h = box
    side = float(np.sqrt(w * h) / np.exp(rng.uniform(*np.log(PART_OF_WINDOW))))
    centre = []
    for start, length, whole in ((x, w, image[1]), (y, h, image[0])):
        middle = start + 0.5 * length + side * rng.uniform(-0.45, 0.45)
        spare = abs(whole - side) / 2
        centre.append(float(np.clip(middle, whole / 2 - spare, whole / 2 + spare)))
    angle = float(np.deg2rad(rng.uniform(-turn, turn)))
    return View((centre[0], centre[1]), side, 1.0, angle, mirrored)


def share_inside(box: Box, view: View) -> float:
    """Return the share of a box's area that a view shows."""
    cx, cy, w, h = (float(value) for value in box_in_view(box, view))
    inside = [
        max(min(centre + side / 2, 1.0) - max(centre - side / 2, 0.0), 0.0)
        for centre, side in ((cx, w), (cy, h))
    ]
    return inside[0] * inside[1] / max(w * h, 1e-9)
