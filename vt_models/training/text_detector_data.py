# SPDX-License-Identifier: Apache-2.0
"""Whole images with everything that is named in them: what the text detector learns from.

Every sample is a pure function of (seed, number). Its image is a window of one image, or of four
beside one another (mosaic, Bochkovskiy et al. 2020), which makes objects small. What each place of
it should say is decided here, in the data's process: places near the middle of an object belong to
it at the level of its size (FCOS, Tian et al., ICCV 2019, section 3.2).

Frames of videos, where only what is tracked has a box, show objects that still images do not show:
small ones from above. They say what is there, and of nothing that it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from vt_models.datasets.image_pack import is_held_out
from vt_models.nets.text_detector import STRIDES, centres
from vt_models.training.data.augmentation import View, box_in_view, crop_view, draw_colour
from vt_models.training.data.descriptions import plain_name
from vt_models.training.data.targets import Annotated, ImagePack
from vt_models.training.recipe.settings import AugmentConfig

Sample = dict[str, np.ndarray]
SIZES_PX = ((0.0, 56.0), (40.0, 128.0), (96.0, np.inf))
"""Mean sides of the objects of each level, pixels of the image; they overlap."""
CENTRE_RADIUS = 1.5
"""Places up to so many strides from an object's middle belong to it."""
SMALLEST_PX = 6.0
"""An object with a shorter side in the image counts neither for nor against."""
MIN_VISIBLE = 0.35
"""Minimum visible fraction; an object below it counts neither for nor against."""
MOSAIC_SHARE = 0.5
ZOOM = (0.55, 1.5)
"""Side of a window as a part of the longer side of its image."""
COLOURS = AugmentConfig(brightness=0.3, contrast=0.3, saturation=0.3, grey=0.05)
VIDEO_SHARE = 0.15
"""This share of the samples are frames of videos."""
BACKGROUND = -1


@dataclass(frozen=True, eq=False)
class Objects:
    """What an image shows: M boxes.

    Attributes:
        boxes: (M, 4) float32, x1, y1, x2, y2 in pixels of the image, cut at its edges.
        names: (M,) numbers of their names.
        doubtful: (M,) bool, too small or too much cut off to count.
    """

    boxes: np.ndarray
    names: np.ndarray
    doubtful: np.ndarray


class DetectionDataset(Dataset[Sample]):
    """Number -> image, and what each of its P places should say.

    A sample has `image` (S, S, 3) uint8, `box` (P, 4) float32 cxcywh as fractions of the image,
    `name` and `doubtful` (P,) int64: the number of the name that belongs there or `BACKGROUND`, and
    of one that counts neither for nor against there; `known` (N,) bool, names that are annotated in
    this image; `colour` and `grey` (see `ColourDraw`).

    Args:
        pack: Images of which all is annotated, and clips, of which only frames with names that
            images have are used.
        size: S, a multiple of 32.
        seed: Of every image.
        hold_out: Every so many still images one is not used, to judge by (`is_held_out`); 0: none.

    Attributes:
        names: All names, in the order of their numbers.
    """

    def __init__(self, pack: ImagePack, size: int, seed: int, hold_out: int = 0) -> None:
        self._images = pack.images
        self._size, self._seed = size, seed
        stills = [entry for entry in pack.annotated if not entry.is_video]
        self._annotated = [
            entry for number, entry in enumerate(stills) if not is_held_out(number, hold_out)
        ]
        videos = [entry for entry in pack.annotated if entry.is_video]
        found = {plain_name(name) for entry in self._annotated for name, _ in entry.objects}
        self.names = tuple(sorted(found - {""}))
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self._groups: dict[str, list[Annotated]] = {}
        for entry in self._annotated:
            self._groups.setdefault(entry.group, []).append(entry)
        self._known = {group: self._names_of(entries) for group, entries in self._groups.items()}
        self._frames = [entry for entry in videos if self._has_one_known_name(entry)]

    def __len__(self) -> int:
        return len(self._annotated) + len(self._frames)

    def _has_one_known_name(self, entry: Annotated) -> bool:
        named = {plain_name(name) for name, _ in entry.objects}
        return len(named) == 1 and named <= self._numbers.keys()

    def __getitem__(self, number: int) -> Sample:
        rng = np.random.default_rng([self._seed, number])
        if self._frames and rng.random() < VIDEO_SHARE:
            return self._frame(rng)
        first = self._annotated[int(rng.integers(len(self._annotated)))]
        whole = rng.random() >= MOSAIC_SHARE
        image, objects = self._one(first, self._size, rng) if whole else self._four(first, rng)
        return self._sample(image, self._known[first.group], assign(objects, self._size), rng)

    def _frame(self, rng: np.random.Generator) -> Sample:
        """Make a sample of a video: where nothing is annotated may be more of the same name."""
        entry = self._frames[int(rng.integers(len(self._frames)))]
        image, objects = self._one(entry, self._size, rng)
        said = assign(objects, self._size)
        number = self._numbers[plain_name(entry.objects[0][0])]
        said["doubtful"][said["name"] == BACKGROUND] = number
        return self._sample(image, self._names_of([entry]), said, rng)

    def _sample(
        self, image: np.ndarray, known: np.ndarray, said: Sample, rng: np.random.Generator
    ) -> Sample:
        colour = draw_colour(COLOURS, rng)
        drawn = {"colour": colour.values[1], "grey": np.array(colour.grey)}
        return {"image": image, "known": known} | drawn | said

    def _names_of(self, entries: list[Annotated]) -> np.ndarray:
        """(N,) bool: which names are annotated in a group of images."""
        known = np.zeros(len(self.names), np.bool_)
        for entry in entries:
            known[[self._numbers[plain_name(name)] for name, _ in entry.objects if name]] = True
        return known

    def _one(
        self, entry: Annotated, size: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, Objects]:
        """Cut a window out of an image."""
        whole = self._images[entry.image]
        view = _window(whole.shape, rng)
        named = [(name, box) for name, box in entry.objects if name]
        boxes = np.array([box_in_view(box, view) for _, box in named], np.float32).reshape(-1, 4)
        names = np.array([self._numbers[plain_name(name)] for name, _ in named], np.int64)
        return crop_view(whole, view, size), _seen(boxes * size, names, size)

    def _four(self, first: Annotated, rng: np.random.Generator) -> tuple[np.ndarray, Objects]:
        """Make a mosaic of four images of a group, half as large."""
        group, half = self._groups[first.group], self._size // 2
        image = np.empty((self._size, self._size, 3), np.uint8)
        parts = []
        for corner in range(4):
            entry = group[int(rng.integers(len(group)))] if corner else first
            top, left = half * (corner // 2), half * (corner % 2)
            part, objects = self._one(entry, half, rng)
            image[top : top + half, left : left + half] = part
            shift = np.array([left, top, left, top], np.float32)
            parts.append(Objects(objects.boxes + shift, objects.names, objects.doubtful))
        fields = zip(*((part.boxes, part.names, part.doubtful) for part in parts), strict=True)
        return image, Objects(*map(np.concatenate, fields))


def _window(shape: tuple[int, ...], rng: np.random.Generator) -> View:
    """Draw a window inside an image, or an image inside a window."""
    height, width = shape[:2]
    side = max(height, width) * float(np.exp(rng.uniform(*np.log(ZOOM))))
    aspect = float(np.exp(rng.uniform(-0.2, 0.2)))
    sides = (side / aspect**0.5, side * aspect**0.5)
    centre = tuple(
        whole / 2 + abs(whole - part) / 2 * float(rng.uniform(-1, 1))
        for whole, part in zip((width, height), sides, strict=True)
    )
    return View((centre[0], centre[1]), sides[0], aspect, 0.0, bool(rng.random() < 0.5))


def _seen(boxes: np.ndarray, names: np.ndarray, size: int) -> Objects:
    """Return what of some objects (cxcywh in pixels) is in an image."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    cut = np.clip(np.hstack([low, high]), 0, size)
    sides = cut[:, 2:] - cut[:, :2]
    share = sides.prod(1) / np.maximum(boxes[:, 2:].prod(1), 1e-6)
    visible = sides.min(1, initial=np.inf) > 0
    doubtful = (sides.min(1, initial=np.inf) < SMALLEST_PX) | (share < MIN_VISIBLE)
    return Objects(cut[visible], names[visible], doubtful[visible])


def assign(objects: Objects, size: int) -> Sample:
    """Return what each place should say: `box`, `name` and `doubtful`, see `DetectionDataset`.

    Of several objects that a place could belong to it is the smallest one's.
    """
    parts = [_assign_level(objects, size, level) for level in range(len(STRIDES))]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _assign_level(objects: Objects, size: int, level: int) -> Sample:
    x, y = (axis.numpy() for axis in centres(level, (size, size)))
    places, boxes = np.stack([x, y], -1)[:, None], objects.boxes
    found: Sample = {
        "box": np.zeros((len(x), 4), np.float32),
        "name": np.full(len(x), BACKGROUND, np.int64),
        "doubtful": np.full(len(x), BACKGROUND, np.int64),
    }
    if not len(boxes):
        return found
    inside = ((boxes[:, :2] < places) & (places < boxes[:, 2:])).all(-1)
    middle, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    mean_side = np.sqrt(sides.prod(-1))
    low, high = SIZES_PX[level]
    away = np.abs(places - middle).max(-1) / STRIDES[level]
    near = inside & (away < CENTRE_RADIUS) | (away <= 0.5)  # a small object lies between places
    own = near & (mean_side >= low) & (mean_side < high) & ~objects.doubtful
    taken, smallest = _smallest(own, mean_side)
    found["name"][taken] = objects.names[smallest[taken]]
    found["box"][taken] = np.hstack([middle, sides])[smallest[taken]] / size
    unsure, smallest = _smallest(inside & objects.doubtful, mean_side)
    found["doubtful"][unsure] = objects.names[smallest[unsure]]
    return found


def _smallest(holds: np.ndarray, mean_side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each place whether anything (P, M) holds, and the smallest object that does."""
    return np.asarray(holds.any(1)), np.where(holds, mean_side, np.inf).argmin(1)
