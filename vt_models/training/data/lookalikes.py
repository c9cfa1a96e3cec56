# SPDX-License-Identifier: Apache-2.0
"""Objects that resemble a target, and putting an object into a crop where it is not.

A tracker that has only seen one object a crop learns to find *an* object. Here crops get a second
one (cut and paste, Dwibedi et al., ICCV 2017; look-alikes as in DaSiamRPN, Zhu et al., ECCV 2018).
Targets are pasted too (`transplant`), so that the seam is not what tells a distractor.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from vt_models.training.data.image_store import ConcatSequence, by_name
from vt_models.training.data.targets import Source, Target

ATTEMPTS = 10
MARGIN = 1.15
"""A patch is cut this much larger than its object's box: the seam's softness needs room."""


class LookAlikes:
    """The annotated objects of all sources by class name."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._by_name: dict[str, ConcatSequence[Target]] = {}
        for source in sources:
            for row in (source.stills, *(track.targets for track in source.tracks)):
                for name, targets in by_name(row):
                    self._by_name.setdefault(name, ConcatSequence()).add(targets)

    def draw(self, target: Target, rng: np.random.Generator) -> Target | None:
        """Draw an object of the same name in another scene; None when there seems to be none."""
        same = self._by_name.get(target.name)
        if same is None:
            return None
        for _ in range(ATTEMPTS):
            other = same[int(rng.integers(len(same)))]
            if other.scene != target.scene and other.image != target.image:
                return other
        return None


def cut_object(image: np.ndarray, target: Target) -> np.ndarray:
    """Return the object's box, grown by `MARGIN` and cut at the image's edge: (h, w, 3) uint8."""
    x, y, w, h = target.box
    dx, dy = 0.5 * w * (MARGIN - 1.0), 0.5 * h * (MARGIN - 1.0)
    x1, y1 = max(int(x - dx), 0), max(int(y - dy), 0)
    return image[y1 : max(int(y + h + dy), y1 + 2), x1 : max(int(x + w + dx), x1 + 2)]


def paste(
    crop: np.ndarray, patch: np.ndarray, box: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Blend a patch into a crop; its edge is an ellipse or a rounded box, more or less soft.

    Args:
        crop: (S, S, 3) uint8, changed in place.
        patch: (h, w, 3) uint8, from `cut_object`.
        box: cxcywh of the object in fractions of the crop; the patch is stretched to it.
        rng: Where the randomness comes from.
    """
    size = crop.shape[0]
    cx, cy = float(box[0]) * size, float(box[1]) * size
    w, h = (max(round(float(side) * MARGIN * size), 3) for side in box[2:])
    left, top = round(cx - w / 2), round(cy - h / 2)
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + w, size), min(top + h, size)
    if x2 <= x1 or y2 <= y1:
        return crop
    mask = _mask(w, h, rng)[y1 - top : y2 - top, x1 - left : x2 - left, None]
    fitted = cv2.resize(patch, (w, h), interpolation=cv2.INTER_LINEAR)
    fitted = fitted[y1 - top : y2 - top, x1 - left : x2 - left]
    below = crop[y1:y2, x1:x2]
    crop[y1:y2, x1:x2] = (below + (fitted.astype(np.float32) - below) * mask).astype(np.uint8)
    return crop


def _mask(w: int, h: int, rng: np.random.Generator) -> np.ndarray:
    """(h, w) float32 in [0, 1]: 1 in a superellipse around the middle, soft at its edge."""
    power = float(rng.choice([2.0, 4.0]))
    softness = float(rng.uniform(0.05, 0.4))
    xs = np.abs(np.linspace(-1, 1, w, dtype=np.float32)) ** power
    ys = np.abs(np.linspace(-1, 1, h, dtype=np.float32)) ** power
    radius = (xs[None, :] + ys[:, None]) ** np.float32(1.0 / power)
    return np.clip((1.0 - radius) / softness, 0.0, 1.0)


def add_distractor(
    crop: np.ndarray, box: np.ndarray, patch: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Paste another object of about the target's size beside the target.

    In half of the crops its colours are drawn towards the target's.

    Args:
        crop: (S, S, 3) uint8, changed in place.
        box: cxcywh of the target, fractions of the crop.
        patch: (h, w, 3) uint8, from `cut_object`.
        rng: Where the randomness comes from.

    Returns:
        The crop; unchanged where no place free of the target was found.
    """
    side = float(np.sqrt(box[2] * box[3])) * float(np.exp(rng.standard_normal() * 0.25))
    aspect = float(np.clip(patch.shape[1] / patch.shape[0], 0.25, 4.0)) ** 0.5
    shape = np.array([side * aspect, side / aspect], np.float32)
    for _ in range(ATTEMPTS):
        centre = rng.uniform(0.03, 0.97, 2).astype(np.float32)
        if (np.abs(centre - box[:2]) >= 0.5 * (MARGIN * shape + box[2:])).any():
            break
    else:
        return crop
    if rng.random() < 0.5:
        patch = patch[:, ::-1]
    if rng.random() < 0.5:
        patch = _towards(patch, _pixels(crop, box), float(rng.uniform(0.3, 1.0)))
    return paste(crop, patch, np.concatenate([centre, shape]), rng)


def _pixels(crop: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the part of the crop inside the box, at least a pixel."""
    size = crop.shape[0]
    low = np.clip(((box[:2] - box[2:] / 2) * size).astype(int), 0, size - 1)
    high = np.clip(((box[:2] + box[2:] / 2) * size).astype(int), low + 1, size)
    return crop[low[1] : high[1], low[0] : high[0]]


def _towards(patch: np.ndarray, model: np.ndarray, strength: float) -> np.ndarray:
    """Draw a patch's colours (mean and deviation of each channel) towards another's."""
    mean, deviation = patch.mean((0, 1)), patch.std((0, 1)) + 1.0
    matched = (patch - mean) * ((model.std((0, 1)) + 1.0) / deviation) + model.mean((0, 1))
    return np.clip(patch + (matched - patch) * strength, 0, 255).astype(np.uint8)


def transplant(
    crop: np.ndarray, box: np.ndarray, patch: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Paste the target over the object that a crop of another scene shows.

    Args:
        crop: (S, S, 3) uint8, changed in place.
        box: cxcywh of the object to cover, fractions of the crop.
        patch: (h, w, 3) uint8, the target from `cut_object`.
        rng: Where the randomness comes from.

    Returns:
        (4,) float32 cxcywh of the pasted target.
    """
    side = float(np.sqrt(box[2] * box[3])) * float(np.exp(rng.standard_normal() * 0.1))
    aspect = float(np.clip(patch.shape[1] / patch.shape[0], 0.2, 5.0)) ** 0.5
    placed = np.array([box[0], box[1], side * aspect, side / aspect], np.float32)
    paste(crop, patch, placed, rng)
    return placed
