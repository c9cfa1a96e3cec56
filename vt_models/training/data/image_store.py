# SPDX-License-Identifier: Apache-2.0
"""The images of all sources in one row, and the targets in them, both made when asked for."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vt_models.datasets.images import read_image
from vt_models.training.data.targets import IndexedSequence, Target, check_size

Item = TypeVar("Item")

CACHE_BYTES = 64 * 2**20
"""Decoded images a process keeps: the views of a pair often come from the same few."""


class ConcatSequence(Generic[Item]):
    """Several rows of entries, one after the other."""

    def __init__(self) -> None:
        self._rows: list[IndexedSequence[Item]] = []
        self._starts = [0]

    def add(self, row: IndexedSequence[Item]) -> range:
        """Append a row; return the numbers of its entries."""
        start = self._starts[-1]
        if len(row):
            self._rows.append(row)
            self._starts.append(start + len(row))
        return range(start, start + len(row))

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, number: int, /) -> Item:
        row, index = self._find(number)
        return row[index]

    def _find(self, number: int) -> tuple[IndexedSequence[Item], int]:
        """Return the row an entry is in, and its number there."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        place = bisect_right(self._starts, number) - 1
        return self._rows[place], number - self._starts[place]

    def __iter__(self) -> Iterator[Item]:
        for row in self._rows:
            yield from row


class ImageFiles:
    """Images of one directory (or archive), read when asked for.

    Names are kept as bytes in one array: millions of paths would fill the memory of every process.

    Args:
        directory: Where they are.
        names: Their names in it.
        sizes: (N, 2) width and height as annotated, which an image must have; None if not known.
    """

    def __init__(
        self, directory: Path, names: Sequence[str], sizes: NDArray[np.int32] | None = None
    ) -> None:
        self._directory = directory
        self._names = np.array([os.fsencode(name) for name in names])
        self._sizes = sizes

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, number: int, /) -> np.ndarray:
        path = self._directory / os.fsdecode(self._names[number])
        image = read_image(path)
        if self._sizes is not None:
            check_size(path, image, *(int(side) for side in self._sizes[number]))
        return image

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[number] for number in range(len(self)))


class ImageStore(ConcatSequence[np.ndarray]):
    """Images by number, RGB uint8 (H, W, 3): lists in memory, or files.

    Of what is read from files the latest `cache_bytes` are kept. Each process that got the store by
    fork or pickle keeps its own.
    """

    def __init__(self, cache_bytes: int = CACHE_BYTES) -> None:
        super().__init__()
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._kept = 0

    def __getitem__(self, number: int, /) -> np.ndarray:
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        row, index = self._find(number)
        image = row[index]
        if not isinstance(row, list):
            self._keep(number, image)
        return image

    @property
    def nbytes(self) -> int:
        """Bytes of pixels that stay in memory."""
        return sum(image.nbytes for row in self._rows if isinstance(row, list) for image in row)

    def _keep(self, number: int, image: np.ndarray) -> None:
        image.setflags(write=False)
        self._cache[number] = image
        self._kept += image.nbytes
        while self._kept > self._cache_bytes:
            self._kept -= self._cache.popitem(last=False)[1].nbytes

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cache": OrderedDict(), "_kept": 0}


@dataclass(frozen=True, eq=False)
class VideoTargets:
    """One object in M frames of a video.

    Attributes:
        first: Number of the video's first image.
        frames: (M,) frames of the video, counted from 0.
        boxes: (M, 4) float32 x, y, w, h in pixels.
        name, scene, sentence: Of every target.
    """

    first: int
    frames: NDArray[np.int32]
    boxes: NDArray[np.float32]
    name: str
    scene: str
    sentence: str

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, number: int, /) -> Target:
        x, y, w, h = self.boxes[number].tolist()
        image = self.first + int(self.frames[number])
        return Target(image, (x, y, w, h), self.name, self.scene, self.sentence)

    def __iter__(self) -> Iterator[Target]:
        return (self[number] for number in range(len(self)))


@dataclass(frozen=True, eq=False)
class ImageTargets:
    """N objects in still images.

    Attributes:
        images: (N,) numbers of the images.
        boxes: (N, 4) float32 x, y, w, h in pixels.
        labels: (N,) which of `names` each is.
        names: Of the classes.
        scene: What the numbers of images are prefixed with to name a scene.
    """

    images: NDArray[np.int32]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int32]
    names: tuple[str, ...]
    scene: str

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int, /) -> Target:
        x, y, w, h = self.boxes[number].tolist()
        image = int(self.images[number])
        name = self.names[self.labels[number]]
        return Target(image, (x, y, w, h), name, f"{self.scene}/{image}")

    def __iter__(self) -> Iterator[Target]:
        return (self[number] for number in range(len(self)))

    def of_class(self, label: int) -> ImageTargets:
        """Return those of one class."""
        chosen = self.labels == label
        return ImageTargets(
            self.images[chosen], self.boxes[chosen], self.labels[chosen], self.names, self.scene
        )


def by_name(targets: IndexedSequence[Target]) -> Iterator[tuple[str, IndexedSequence[Target]]]:
    """Return the targets of a row by the name of their class; those without a name are left out."""
    if isinstance(targets, VideoTargets):
        groups: dict[str, IndexedSequence[Target]] = {targets.name: targets}
    elif isinstance(targets, ImageTargets):
        labels = np.unique(targets.labels).tolist()
        groups = {targets.names[label]: targets.of_class(label) for label in labels}
    else:
        lists: dict[str, list[Target]] = {}
        for target in targets:
            lists.setdefault(target.name, []).append(target)
        groups = dict(lists)
    return ((name, group) for name, group in groups.items() if name)


def with_different_texts(targets: IndexedSequence[Target]) -> Iterator[Target]:
    """Return at least one target for each pair of name and sentence in a row."""
    if isinstance(targets, VideoTargets):
        return iter([targets[0]])
    if isinstance(targets, ImageTargets):
        return (group[0] for _, group in by_name(targets))
    return iter(targets)
