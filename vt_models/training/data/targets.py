# SPDX-License-Identifier: Apache-2.0
"""The targets that training pairs are drawn from, and the image pack, which holds some."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

import numpy as np

from vt_models.datasets.image_pack import PackImage, PackObject, read_image_pack
from vt_models.datasets.images import read_image
from vt_models.errors import DatasetError
from vt_models.training.recipe.settings import MAX_COVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from vt_models.training.data.image_store import ImageStore

Item_co = TypeVar("Item_co", covariant=True)


class IndexedSequence(Protocol[Item_co]):
    """Entries by number from 0: a list, or something that makes them when asked for."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Item_co]: ...

    def __getitem__(self, number: int, /) -> Item_co: ...


@dataclass(frozen=True, slots=True)
class Target:
    """One annotated object in one image.

    Attributes:
        image: Index into `TrainingData.images`.
        box: x, y, w, h in pixels of that image.
        name: Class name, "" when the annotation has none.
        scene: What other images may show the same object: the video, or the still image itself.
        sentence: A description, "" when there is none.
    """

    image: int
    box: tuple[float, float, float, float]
    name: str
    scene: str
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Track:
    """The same object through a video, in time order.

    Attributes:
        key: "video/track".
        targets: One entry for each frame that shows it.
        frames: Frame numbers of the original video (so that temporal gaps are known).
        hidden: Frames that do not show it, with the box in which it was seen last.
    """

    key: str
    targets: IndexedSequence[Target]
    frames: IndexedSequence[int]
    hidden: IndexedSequence[Target] = ()


@dataclass(frozen=True, slots=True)
class Annotated:
    """All that is annotated in one image, what is too small or too large to be a target included.

    Attributes:
        image: Index into `TrainingData.images`.
        group: Images of one group are annotated with the same classes: one that is named anywhere
            in a group and not in an image of it is not to be seen there.
        objects: Class name and x, y, w, h in pixels of each.
        is_video: A frame of a video, where only what is tracked is annotated.
    """

    image: int
    group: str
    objects: tuple[tuple[str, tuple[float, float, float, float]], ...]
    is_video: bool = False


@dataclass(frozen=True)
class Source:
    """What pairs are drawn from with one weight.

    Attributes:
        name: What messages call it.
        stills: Targets of still images.
        tracks: Targets of videos.
        images: Numbers of its images.
        weight: How often, relative to other sources.
        max_gap: See `SamplingConfig.max_gap`, which holds where this is None.
        is_unlabelled: It has images only, and gives pairs of regions whatever the shares.
        annotated: What else is in its images, where that is known.
        videos: Names of the videos that its images are from; of still images in a pack their
            `source`.
    """

    name: str
    stills: IndexedSequence[Target]
    tracks: IndexedSequence[Track]
    images: range
    weight: float = 1.0
    max_gap: int | None = None
    is_unlabelled: bool = False
    annotated: Sequence[Annotated] = ()
    videos: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ImagePack:
    """Everything a sampler needs, decoded once.

    Attributes:
        images: RGB uint8 arrays (H, W, 3).
        stills: Targets of still images.
        tracks: Targets of videos.
        annotated: All that is in each image.
    """

    images: IndexedSequence[np.ndarray]
    stills: list[Target]
    tracks: list[Track]
    annotated: list[Annotated] = field(default_factory=list)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The pack as the only source."""
        images = range(len(self.images))
        return (Source("the pack", self.stills, self.tracks, images, annotated=self.annotated),)

    @property
    def nbytes(self) -> int:
        """Bytes of decoded pixels."""
        return sum(image.nbytes for image in self.images)


@dataclass(frozen=True)
class Mixture:
    """Several sources over one row of images.

    Attributes:
        images: RGB uint8 arrays (H, W, 3), in memory or read when asked for.
        sources: What pairs are drawn from.
        left_out: Names of the videos that the sources have and the recipe's `validation` list
            names.
    """

    images: ImageStore
    sources: tuple[Source, ...]
    left_out: frozenset[str] = frozenset()


TrainingData: TypeAlias = "ImagePack | Mixture"


def load_image_pack(
    root: Path,
    limit: int | None = None,
    min_side: float = 6.0,
    hold_out: tuple[str, ...] = (),
    progress: Callable[[Iterable[Path]], Iterable[Path]] = iter,
) -> ImagePack:
    """Read an image pack and decode it into memory.

    Args:
        root: Folder with `annotations.jsonl`.
        limit: Read only the first `limit` stills and the first `limit` clip frames (tests).
        min_side: Boxes with a shorter side, in pixels, are background only.
        hold_out: Videos that are left out, by the `source` of their frames.
        progress: Wraps the iteration over files (a progress bar).

    Raises:
        DatasetError: Missing folder, malformed line, unreadable or wrongly sized image;
            the message names file and line.
    """
    records = _without(hold_out, read_image_pack(root), root)
    if not records:
        raise DatasetError(f"{root} holds no images but of the videos to hold out.")
    if limit is not None:
        clips = [r for r in records if r.clip is not None][:limit]
        records = [r for r in records if r.clip is None][:limit] + clips
    images = decode_all(root, records, progress)
    return ImagePack(
        images,
        stills_of(records, min_side),
        tracks_of(records, min_side),
        annotated_in(records),
    )


def decode_all(
    root: Path,
    records: list[PackImage],
    progress: Callable[[Iterable[Path]], Iterable[Path]] = iter,
) -> list[np.ndarray]:
    """Decode all images of an image pack, RGB.

    Raises:
        DatasetError: An image that is unreadable or not of the annotated size; names it.
    """
    paths = [root / record.image for record in records]
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(read_image, progress(paths)))
    for record, image, path in zip(records, images, paths, strict=True):
        check_size(path, image, record.width, record.height)
    return images


def check_size(path: Path, image: np.ndarray, width: int, height: int) -> None:
    """Compare an image with what its annotation says.

    Raises:
        DatasetError: It has another size.
    """
    if image.shape[:2] != (height, width):
        raise DatasetError(
            f"{path} is {image.shape[1]}x{image.shape[0]} but its annotation says "
            f"{width}x{height}: use matching files."
        )


def _without(hold_out: tuple[str, ...], records: list[PackImage], root: Path) -> list[PackImage]:
    videos = {r.source for r in records if r.clip is not None}
    unknown = sorted(set(hold_out) - videos)
    if unknown:
        raise DatasetError(
            f"{root} has no video {', '.join(unknown)} to hold out; it has "
            f"{', '.join(sorted(videos)) or 'none'}."
        )
    return [r for r in records if r.clip is None or r.source not in hold_out]


def _targets(
    record: PackImage, number: int, min_side: float, max_cover: float
) -> Iterable[tuple[PackObject, Target]]:
    for item in record.objects:
        _, _, w, h = item.box
        covers = w * h / (record.width * record.height)
        fits = covers < max_cover or max_cover >= 1
        if min(w, h) >= min_side and not item.is_difficult and fits:
            scene = record.image if record.clip is None else record.source
            yield item, Target(number, item.box, item.name, scene, item.sentence)


def stills_of(
    records: list[PackImage], min_side: float, max_cover: float = MAX_COVER, first: int = 0
) -> list[Target]:
    """Return the targets of the still images of an image pack.

    Args:
        records: From `read_image_pack`.
        min_side: Boxes with a shorter side, in pixels, are left out.
        max_cover: So are boxes that cover this share of their image.
        first: Number of the first record's image.
    """
    return [
        target
        for number, record in enumerate(records, first)
        if record.clip is None
        for _, target in _targets(record, number, min_side, max_cover)
    ]


def annotated_in(records: list[PackImage], first: int = 0) -> list[Annotated]:
    """Return all that is annotated in the images of an image pack; `source` is the group.

    Args:
        records: From `read_image_pack`.
        first: Number of the first record's image.
    """
    return [
        Annotated(
            number,
            record.source,
            tuple((item.name, item.box) for item in record.objects),
            record.clip is not None,
        )
        for number, record in enumerate(records, first)
    ]


def tracks_of(
    records: list[PackImage], min_side: float, max_cover: float = MAX_COVER, first: int = 0
) -> list[Track]:
    """Return the tracks of an image pack; arguments as those of `stills_of`.

    The clips of one video are joined: they show the same object with a long gap between them.
    """
    found: dict[str, list[tuple[int, Target]]] = defaultdict(list)
    for number, record in enumerate(records, first):
        if record.clip is None:
            continue
        for item, target in _targets(record, number, min_side, max_cover):
            found[f"{record.source}/{item.track}"].append((record.frame, target))
    tracks = []
    for key, entries in sorted(found.items()):
        entries.sort(key=lambda entry: entry[0])
        if len(entries) >= 2:
            tracks.append(Track(key, tuple(t for _, t in entries), tuple(f for f, _ in entries)))
    return tracks
