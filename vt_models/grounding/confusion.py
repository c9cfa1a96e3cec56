# SPDX-License-Identifier: Apache-2.0
"""Images in which a description must tell look-alikes apart, made from annotated images.

Nobody wrote sentences for the boxes of an image pack, so they are made from what is annotated and
what is seen: a class name with a side, a colour or a size. Every case has at least one rival, an
object of the same class that the words do not describe. Where the words might fit both, there is no
case: sides need a gap, a vehicle has a colour if no other one there has any of it.

Beside them stand the simplest descriptions, to tell what is not seen from what is not told apart:
names of things that are the only one of their class ("alone"), and of things that are not there.

An image pack is a folder with `annotations.jsonl`, see `vt_models.datasets.image_pack`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vt_models.datasets.image_pack import PackImage, is_held_out, read_image_pack
from vt_models.datasets.images import read_image
from vt_models.geometry.boxes import Box, iou
from vt_models.grounding.colours import colour_shares
from vt_models.grounding.grounder import Grounder
from vt_models.grounding.results import Frame

KINDS = ("alone", "side", "size", "colour")

_MOST_RIVALS = 3
_SMALLEST = 24.0  # pixels; a smaller object is hard to see, let alone to describe
_GAP = 0.25  # of the image's width between the centres of left and right
_ALIKE = 2.0  # left and right are at most this many times as large as each other, in area
_LARGER = 4.0  # "the large one" is at least this many times as large
_FILLED = 0.35  # of an object's pixels have its colour: windows, wheels and shadows have another
_FREE = 0.08  # at most, of its rivals' pixels
_HIDDEN = 0.3  # of the smaller object that lies inside the other, at most
_VEHICLES = frozenset({"bus", "car", "motorbike", "motorcycle", "truck"})  # others show sky
_PRECISE = 0.5  # IoU from which on a box counts, as for RefCOCO

_COLOURS = ("white", "red", "yellow", "green", "blue")  # shadows are black and grey
_MIDDLE = 0.8  # of an object's width and height is looked at


@dataclass(frozen=True)
class Case:
    """One description in one image.

    Attributes:
        image: file.
        text: what is looked for.
        box: the right answer, x, y, w, h in pixels.
        rivals: boxes of the same class that the text does not describe; none for "alone".
        kind: one of `KINDS`.
    """

    image: Path
    text: str
    box: Box
    rivals: tuple[Box, ...]
    kind: str

    def read(self) -> Frame:
        """The image, (H, W, 3) uint8 RGB; DatasetError if it cannot be read."""
        return read_image(self.image)


@dataclass(frozen=True)
class Outcome:
    """What a backend made of a case.

    Attributes:
        case: the case.
        precise: its best box has an IoU of at least 0.5 with the right one.
        wrong_one: its best box overlaps a rival more than the right one, by at least 0.5.
        status: what an operator would have been told.
    """

    case: Case
    precise: bool
    wrong_one: bool
    status: str


def cases(root: str | Path, every: int = 1) -> Iterator[Case]:
    """All cases of an image pack, in its order.

    Frames of clips are left out: twenty of one clip are one image.

    Args:
        root: folder of the pack.
        every: only one of so many images, see `is_held_out`.

    Raises:
        DatasetError: no annotations, or they cannot be read.
    """
    root = Path(root)
    for entry in _images(root, every):
        for name, boxes in _by_name(entry).items():
            if min(min(box[2:]) for box in boxes) < _SMALLEST:
                continue
            if len(boxes) == 1:
                yield Case(root / entry.image, f"the {name}", boxes[0], (), "alone")
            if len(boxes) == 2:
                yield from _pair(root / entry.image, float(entry.width), name, boxes)
            if 2 <= len(boxes) <= _MOST_RIVALS + 1 and name in _VEHICLES:
                yield from _coloured(root / entry.image, name, boxes)


@dataclass(frozen=True)
class AbsentCase:
    """A description of something that an image does not show."""

    image: Path
    text: str


def absent_cases(root: str | Path, every: int = 1) -> Iterator[AbsentCase]:
    """A name for each image that is annotated elsewhere in its `source` and not in it.

    Args:
        root, every: as for `cases`.

    Raises:
        DatasetError: no annotations, or they cannot be read.
    """
    root = Path(root)
    entries = [(entry, set(_by_name(entry))) for entry in _images(root, every)]
    known: dict[str, set[str]] = defaultdict(set)
    for entry, names in entries:
        known[entry.source] |= names
    for number, (entry, names) in enumerate(entries):
        others = sorted(known[entry.source] - names)
        if names and others:
            yield AbsentCase(root / entry.image, f"the {others[number % len(others)]}")


def judge(grounder: Grounder, case: Case) -> Outcome:
    """Run one case; the best box counts, whatever its score.

    Raises:
        VtModelsError: the image cannot be read, or the backend failed.
    """
    grounding = grounder.find(case.read(), case.text)
    if grounding.best is None:
        return Outcome(case, precise=False, wrong_one=False, status=grounding.status)
    overlap = float(iou(grounding.best.box, case.box))
    rivals = (float(iou(grounding.best.box, other)) for other in case.rivals)
    rival = max(rivals, default=0.0)
    return Outcome(
        case,
        precise=overlap >= _PRECISE and overlap > rival,
        wrong_one=rival >= _PRECISE and rival > overlap,
        status=grounding.status,
    )


def _images(root: Path, every: int) -> Iterator[PackImage]:
    found = (entry for entry in read_image_pack(root) if entry.clip is None)
    return (entry for number, entry in enumerate(found) if is_held_out(number, every))


def _by_name(entry: PackImage) -> dict[str, list[Box]]:
    """Boxes of an image by class name; those without a name are left out."""
    found: dict[str, list[Box]] = defaultdict(list)
    for item in entry.objects:
        if item.name:
            found[item.name].append(item.box)
    return found


def _pair(image: Path, width: float, name: str, boxes: list[Box]) -> Iterator[Case]:
    """What tells two objects of one class apart."""
    small, large = sorted(boxes, key=_area)
    overlap = float(iou(small, large))
    if overlap / (1.0 + overlap) * (_area(small) + _area(large)) > _HIDDEN * _area(small):
        return
    ratio = _area(large) / _area(small)
    if ratio >= _LARGER:
        yield Case(image, f"the large {name}", large, (small,), "size")
        yield Case(image, f"the small {name}", small, (large,), "size")
    left, right = sorted(boxes, key=_centre_x)
    if ratio <= _ALIKE and _centre_x(right) - _centre_x(left) >= _GAP * width:
        yield Case(image, f"the {name} on the left", left, (right,), "side")
        yield Case(image, f"the {name} on the right", right, (left,), "side")


def _coloured(image: Path, name: str, boxes: list[Box]) -> Iterator[Case]:
    """Where one object has a colour that none of the others has."""
    frame = read_image(image)
    shares = [colour_shares(frame, box, _MIDDLE) for box in boxes]
    for index, own in enumerate(shares):
        others = [share for place, share in enumerate(shares) if place != index]
        rivals = tuple(box for place, box in enumerate(boxes) if place != index)
        for colour in _COLOURS:
            if own[colour] >= _FILLED and all(other[colour] <= _FREE for other in others):
                yield Case(image, f"the {colour} {name}", boxes[index], rivals, "colour")


def _area(box: Box) -> float:
    return box[2] * box[3]


def _centre_x(box: Box) -> float:
    return box[0] + 0.5 * box[2]
