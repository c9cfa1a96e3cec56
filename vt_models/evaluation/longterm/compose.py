# SPDX-License-Identifier: Apache-2.0
"""Clips in which a target disappears and returns, composed from short annotated clips.

What is kept in the repository is the recipe, not data: a seed and the code below. The source is a
pack in the layout of `vt_models.datasets.image_pack` (`annotations.jsonl` beside images), of
which clips of one target are used. A clip is played forth and back as long as it is needed; the
other scene and everything random come from the seed. The ways to disappear:

- occluder: a board with another scene's texture slides over the target, stays with it, slides off
- cut: the image is another scene for a while
- pan: the camera turns to another scene beside this one, and back
- cover: something dark and blurred covers the lens
- wiped: the scene stands still but for the sensor's noise, and the target is painted out
- slow_pan: as pan, in two seconds

and two in which it does not, an exact copy of it passes in front of it:

- copy: on a scene that stands still
- crossing: while target and camera move
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.datasets.image_pack import PackImage, read_image_pack
from vt_models.datasets.images import read_image
from vt_models.errors import DatasetError

Part = Literal["fit", "report"]

PARTS: tuple[Part, ...] = ("fit", "report")
KINDS = ("occluder", "cut", "pan", "cover")
HARD_NEGATIVE_KINDS = ("wiped", "copy", "slow_pan")
"""What tempts a tracker to say that it sees the target where it does not."""
LOOK_ALIKE_KINDS = ("crossing",)
ABSENT_BELOW = 0.25
"""A target of which less than this share is visible is absent."""
BEFORE_SECONDS, ABSENT_SECONDS, AFTER_SECONDS = 1.0, 1.5, 2.5
SHORTEST_PART = 15
"""Frames of each part at least, also where a clip has few frames a second."""
SLIDE_SECONDS = 0.4
"""Duration of the board's or the camera's way, two frames at least."""
SLOW_PAN_SECONDS = 2.0
COPY_WAY = 6.0
"""Way of the copy in widths of the target; the target is half way."""
STILL_NOISE = 2.0
"""Standard deviation of the sensor's noise on a scene that stands still, grey levels."""
MIN_FRAMES = 20
MIN_SIDE, MAX_SIDE = 12.0, 110.0
FRAMES_PER_SECOND = 30.0
"""Of the original videos; a clip that keeps every n-th frame plays at 30 / n."""


@dataclass(frozen=True)
class SourceClip:
    """A short clip of one target that is visible throughout.

    Attributes:
        name: of the clip.
        source: the video it is from.
        frames: image files in order.
        boxes: (N, 4) float64 x, y, w, h in pixels.
        period: seconds between frames.
    """

    name: str
    source: str
    frames: tuple[Path, ...]
    boxes: NDArray[np.float64]
    period: float


@dataclass(frozen=True)
class ClipRecipe:
    """All that determines a composed clip.

    Attributes:
        kind: one of `KINDS`, `HARD_NEGATIVE_KINDS` or `LOOK_ALIKE_KINDS`.
        clip: with the target.
        other: the scene that covers or replaces it.
        direction: 1 or -1, where the board or the other scene comes from.
    """

    kind: str
    clip: SourceClip
    other: SourceClip
    direction: int


class ComposedClip:
    """A clip made by a recipe; frames are composed when they are asked for.

    Attributes:
        name: unique among the recipes of one seed.
        boxes: (N, 4) float64 x, y, w, h in pixels, nan where the target is absent.
        is_known: (N,) bool, True.
        stamps: (N,) float64 seconds.
    """

    def __init__(self, recipe: ClipRecipe) -> None:
        clip = recipe.clip
        self.name = f"{recipe.kind}-{clip.name}"
        self._recipe = recipe
        before, absent, after = (
            max(round(seconds / clip.period), SHORTEST_PART)
            for seconds in (BEFORE_SECONDS, ABSENT_SECONDS, AFTER_SECONDS)
        )
        slide = max(round(SLIDE_SECONDS / clip.period), 2)
        slow = max(round(SLOW_PAN_SECONDS / clip.period), 2)
        slides = {"occluder": slide, "pan": slide, "slow_pan": slow, "cover": 1}
        slide = slides.get(recipe.kind, 0)
        ramp = np.arange(1, slide + 1) / (slide + 1)
        # How far the target is hidden: 0 not, up to 1, 1 fully, then from -1 back to 0.
        parts = (np.zeros(before), ramp, np.ones(absent), -ramp[::-1], np.zeros(after))
        self._hidden = np.concatenate(parts)
        self._passing = range(before, before + absent)
        self._still = range(before, before + (absent if recipe.kind in ("wiped", "copy") else 0))
        first = _read(clip.frames[0])
        self._size = (first.shape[1], first.shape[0])
        self.stamps = clip.period * np.arange(len(self._hidden))
        self.boxes = np.array([self._truth(index) for index in range(len(self))])
        self.is_known = np.ones(len(self), np.bool_)

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._hidden)

    @property
    def period(self) -> float:
        """Seconds between frames."""
        return self._recipe.clip.period

    def read_frame(self, index: int) -> NDArray[np.uint8]:
        """Frame `index`, (H, W, 3) uint8 RGB; DatasetError names an unreadable file."""
        recipe, hidden = self._recipe, float(self._hidden[index])
        frame = _read(recipe.clip.frames[self._source_index(index)])
        if hidden != 0.0 and recipe.kind in ("copy", "crossing"):
            frame = self._with_copy(frame, index)
        if hidden == 0.0 or recipe.kind == "crossing":
            return frame.copy()
        if index in self._still:
            changed = self._wiped(frame) if recipe.kind == "wiped" else frame
            return _with_noise(changed, STILL_NOISE, index)
        if recipe.kind == "cover":
            return _covered(frame, min(abs(hidden), 1.0), index)
        other = _read(recipe.other.frames[index % len(recipe.other.frames)])
        other = cv2.resize(other, (frame.shape[1], frame.shape[0]), interpolation=cv2.INTER_AREA)
        if recipe.kind == "cut":
            return np.asarray(other, np.uint8)
        if recipe.kind in ("pan", "slow_pan"):
            return _panned(frame, other, abs(hidden), recipe.direction)
        return self._with_board(frame, other, index)

    def _source_index(self, index: int) -> int:
        """Forth and back through the source: 0 1 2 1 0 1 ..., but for frames of a still scene."""
        still = self._still
        index -= min(max(index + 1 - still.start, 0), len(still)) if still else 0
        last = len(self._recipe.clip.frames) - 1
        return last - abs(last - index % (2 * last))

    def _truth(self, index: int) -> NDArray[np.float64]:
        recipe, hidden = self._recipe, float(self._hidden[index])
        box = recipe.clip.boxes[self._source_index(index)]
        if hidden == 0.0 or recipe.kind in ("copy", "crossing"):
            return box
        nothing = np.full(4, np.nan)
        if recipe.kind in ("cut", "cover", "wiped"):
            return nothing
        width, height = self._size
        if recipe.kind in ("pan", "slow_pan"):
            shifted = box - (recipe.direction * abs(hidden) * width, 0.0, 0.0, 0.0)
            seen = _clipped(shifted, (0.0, 0.0, width, height))
            is_visible = seen[2] * seen[3] >= ABSENT_BELOW * box[2] * box[3]
            return seen if is_visible else nothing
        cover = _clipped(np.asarray(self._board(index), np.float64), tuple(box))
        is_visible = cover[2] * cover[3] <= (1.0 - ABSENT_BELOW) * box[2] * box[3]
        return box if is_visible else nothing

    def _board(self, index: int) -> tuple[float, float, float, float]:
        """x, y, w, h of the board: over the target, or on its way there or away."""
        x, y, w, h = self._recipe.clip.boxes[self._source_index(index)]
        width, height = 1.5 * w + 8.0, 1.5 * h + 8.0
        hidden = float(self._hidden[index])
        away = math.copysign(1.0 - abs(hidden), hidden) * self._recipe.direction
        reach = 0.5 * self._size[0] + width
        return x + 0.5 * (w - width) + away * reach, y + 0.5 * (h - height), width, height

    def _whole_box(self, index: int, margin: float = 0.0) -> tuple[slice, slice]:
        """Rows and columns of the target and of `margin` pixels round it, inside the frame."""
        x, y, w, h = self._recipe.clip.boxes[self._source_index(index)]
        rows = slice(max(round(y - margin), 0), round(y + h + margin))
        return rows, slice(max(round(x - margin), 0), round(x + w + margin))

    def _wiped(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        mask = np.zeros(frame.shape[:2], np.uint8)
        w, h = self._recipe.clip.boxes[self._source_index(self._still.start)][2:]
        mask[self._whole_box(self._still.start, 4.0 + 0.1 * (w * h) ** 0.5)] = 255
        return np.asarray(cv2.inpaint(frame, mask, 3.0, cv2.INPAINT_TELEA), np.uint8)

    def _with_copy(self, frame: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        rows, columns = self._whole_box(index)
        target = frame[rows, columns]
        way = (index - self._passing.start) / max(len(self._passing) - 1, 1) - 0.5
        shift = round(self._recipe.direction * way * COPY_WAY * target.shape[1])
        left = columns.start + shift
        x1, x2 = max(left, 0), min(left + target.shape[1], frame.shape[1])
        result = frame.copy()
        if x2 > x1:
            result[rows, x1:x2] = target[:, x1 - left : x2 - left]
        return result

    def _with_board(
        self, frame: NDArray[np.uint8], other: NDArray[np.uint8], index: int
    ) -> NDArray[np.uint8]:
        x, y, w, h = self._board(index)
        x1, y1 = max(round(x), 0), max(round(y), 0)
        x2, y2 = min(round(x + w), frame.shape[1]), min(round(y + h), frame.shape[0])
        result = frame.copy()
        if x2 > x1 and y2 > y1:
            texture = cv2.resize(other, (max(round(w), 1), max(round(h), 1)))
            left, top = x1 - round(x), y1 - round(y)
            board = texture[top : top + y2 - y1, left : left + x2 - x1]
            result[y1 : y1 + board.shape[0], x1 : x1 + board.shape[1]] = board
        return result


def compose(
    root: Path,
    seed: int = 0,
    per_kind: int = 8,
    part: Part | None = None,
    kinds: Sequence[str] = KINDS,
) -> list[ComposedClip]:
    """Composed clips from the pack at `root`: `per_kind` of each kind, as the seed draws.

    The source videos take turns; no clip disappears in the same way twice.

    Args:
        root: the pack.
        seed: of every choice.
        per_kind: clips of each kind; at most as many as there are source clips.
        part: "fit" or "report" for clips of one half of the source videos, every other one in the
            order of their names, so that what is fitted on one half is reported on the other.
        kinds: of `KINDS`, `HARD_NEGATIVE_KINDS` and `LOOK_ALIKE_KINDS`.

    Raises:
        DatasetError: no pack there, or no usable clips of at least two videos in it.
    """
    clips = source_clips(root)
    sources = sorted({clip.source for clip in clips})
    if part is not None:
        sources = sources[PARTS.index(part) :: len(PARTS)]
    if len(sources) < 2:
        raise DatasetError(
            f"{root}: usable clips of {len(sources)} videos; expected 2 or more, of {MIN_FRAMES} "
            f"frames with one target of {MIN_SIDE:g} to {MAX_SIDE:g} pixels in each"
        )
    rng = np.random.default_rng(seed)
    recipes: dict[tuple[str, str], ClipRecipe] = {}
    queue: list[str] = []
    wanted = min(per_kind, sum(clip.source in sources for clip in clips))
    while len(recipes) < wanted * len(kinds):
        if not queue:
            queue = [sources[i] for i in rng.permutation(len(sources))]
        source = queue.pop()
        others = [name for name in sources if name != source]
        other = others[int(rng.integers(len(others)))]
        direction = 1 if rng.random() < 0.5 else -1
        clip, scene = (
            choices[int(rng.integers(len(choices)))]
            for choices in ([one for one in clips if one.source == s] for s in (source, other))
        )
        recipe = ClipRecipe(kinds[len(recipes) % len(kinds)], clip, scene, direction)
        recipes.setdefault((recipe.kind, recipe.clip.name), recipe)
    return [ComposedClip(recipe) for recipe in recipes.values()]


def source_clips(root: Path) -> list[SourceClip]:
    """The clips of a pack that show one target throughout, of a size worth following.

    Raises:
        DatasetError: no annotations there, or a malformed line.
    """
    groups: dict[str, list[PackImage]] = {}
    for image in read_image_pack(root):
        if image.clip is not None:
            groups.setdefault(image.clip, []).append(image)
    clips = [_source_clip(root, name, images) for name, images in sorted(groups.items())]
    return [clip for clip in clips if clip is not None]


def _source_clip(root: Path, name: str, images: list[PackImage]) -> SourceClip | None:
    """The clip, None if it is not usable."""
    images = sorted(images, key=lambda image: image.frame)
    if len(images) < MIN_FRAMES or any(len(image.objects) != 1 for image in images):
        return None
    boxes = np.array([image.objects[0].box for image in images], np.float64)
    sides = np.sqrt(boxes[:, 2] * boxes[:, 3])
    if sides.min() < MIN_SIDE or sides.max() > MAX_SIDE:
        return None
    gap = float(np.median(np.diff([image.frame for image in images])))
    frames = tuple(root / image.image for image in images)
    return SourceClip(name, images[0].source, frames, boxes, gap / FRAMES_PER_SECOND)


def _clipped(box: NDArray[np.float64], area: tuple[float, ...]) -> NDArray[np.float64]:
    """The part of an xywh box inside an xywh area; of size 0 if there is none."""
    x1, y1 = max(box[0], area[0]), max(box[1], area[1])
    x2, y2 = min(box[0] + box[2], area[0] + area[2]), min(box[1] + box[3], area[1] + area[3])
    return np.array((x1, y1, max(x2 - x1, 0.0), max(y2 - y1, 0.0)))


def _panned(
    frame: NDArray[np.uint8], other: NDArray[np.uint8], share: float, direction: int
) -> NDArray[np.uint8]:
    """The view after turning by `share` of its width towards the other scene."""
    width = frame.shape[1]
    shift = round(share * width)
    if direction > 0:
        return np.concatenate((frame[:, shift:], other[:, :shift]), axis=1)
    return np.concatenate((other[:, width - shift :], frame[:, : width - shift]), axis=1)


def _covered(frame: NDArray[np.uint8], share: float, seed: int) -> NDArray[np.uint8]:
    """A finger before the lens: a dark red blur, with the sensor's noise."""
    blurred = cv2.GaussianBlur(frame, (0, 0), 0.15 * frame.shape[1]).astype(np.float32)
    finger = 0.1 * blurred + np.array((35.0, 12.0, 8.0), np.float32)
    mixed = (1.0 - share) * frame.astype(np.float32) + share * finger
    return _with_noise(mixed, 1.5, seed)


def _with_noise(frame: NDArray[Any], deviation: float, seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(0.0, deviation, frame.shape)
    return np.clip(frame + noise, 0.0, 255.0).astype(np.uint8)


@lru_cache(maxsize=64)
def _read(path: Path) -> NDArray[np.uint8]:
    return read_image(path)
