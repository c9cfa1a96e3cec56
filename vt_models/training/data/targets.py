# SPDX-License-Identifier: Apache-2.0
"""The targets that training pairs are drawn from, and the image pack, which holds some.

An image pack is one JSON object a line in `annotations.jsonl` beside an `img` and a `video` folder:
`image` (path), `width`, `height`, `source`, `boxes` (`bbox` [x, y, w, h] in pixels, `name`,
optional `track` and `sentence`), and for frames of a clip `video`, `frame`, `orig_frame`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import numpy as np

from vt_models.datasets.images import read_image
from vt_models.errors import DatasetError
from vt_models.training.recipe.settings import MAX_COVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from vt_models.training.data.image_store import ImageStore

Item_co = TypeVar("Item_co", covariant=True)


class Numbered(Protocol[Item_co]):
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
        scene: What other images may show the same object: the video, or the photograph itself.
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
    targets: Numbered[Target]
    frames: Numbered[int]
    hidden: Numbered[Target] = ()


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
        stills: Targets of photographs.
        tracks: Targets of videos.
        images: Numbers of its images.
        weight: How often, relative to other sources.
        max_gap: See `SamplingConfig.max_gap`, which holds where this is None.
        is_unlabelled: It has images only, and gives pairs of regions whatever the shares.
        annotated: What else is in its images, where that is known.
        videos: Names of the videos that its tracks are from.
    """

    name: str
    stills: Numbered[Target]
    tracks: Numbered[Track]
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
        stills: Targets of photographs.
        tracks: Targets of videos.
        annotated: All that is in each image.
    """

    images: Numbered[np.ndarray]
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
    """Reads an image pack and decodes it into memory.

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
    records = read_records(root, hold_out)
    if limit is not None:
        clips = [r for r in records if "video" in r][:limit]
        records = [r for r in records if "video" not in r][:limit] + clips
    images = decode_all(root, records, progress)
    return ImagePack(
        images,
        stills_of(records, min_side),
        tracks_of(records, min_side),
        annotated_in(records),
    )


def read_records(root: Path, hold_out: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The lines of an image pack's `annotations.jsonl`, checked.

    Raises:
        DatasetError: Missing folder or malformed line, nothing in it, or no such video to hold out.
    """
    path = root / "annotations.jsonl"
    records = _without(hold_out, _read_annotations(path), root)
    if not records:
        raise DatasetError(f"{path} holds no images: nothing to train on.")
    return records


def decode_all(
    root: Path,
    records: list[dict[str, Any]],
    progress: Callable[[Iterable[Path]], Iterable[Path]] = iter,
) -> list[np.ndarray]:
    """All images of an image pack, RGB.

    Raises:
        DatasetError: An image that is unreadable or not of the annotated size; names it.
    """
    paths = [root / r["image"] for r in records]
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(read_image, progress(paths)))
    for record, image, path in zip(records, images, paths, strict=True):
        check_size(path, image, record["width"], record["height"])
    return images


def check_size(path: Path, image: np.ndarray, width: int, height: int) -> None:
    """Compares an image with what its annotation says.

    Raises:
        DatasetError: It has another size.
    """
    if image.shape[:2] != (height, width):
        raise DatasetError(
            f"{path} is {image.shape[1]}x{image.shape[0]} but its annotation says "
            f"{width}x{height}: use matching files."
        )


def _without(
    hold_out: tuple[str, ...], records: list[dict[str, Any]], root: Path
) -> list[dict[str, Any]]:
    videos = {r["source"] for r in records if "video" in r}
    unknown = sorted(set(hold_out) - videos)
    if unknown:
        raise DatasetError(
            f"{root} has no video {', '.join(unknown)} to hold out; it has "
            f"{', '.join(sorted(videos)) or 'none'}."
        )
    return [r for r in records if "video" not in r or r["source"] not in hold_out]


def _read_annotations(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise DatasetError(f"{path} does not exist: give the folder that holds annotations.jsonl.")
    with path.open(encoding="utf-8") as lines:
        return [_parse(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
        for box in record["boxes"]:
            _check_bbox(box["bbox"])
        sizes = {"width": int(record["width"]), "height": int(record["height"])}
        if "video" in record:
            record["source"] = str(record["source"])
            record["orig_frame"] = _frame_number(record)
        return {"image": str(record["image"])} | record | sizes
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{where}: not a usable annotation ({error!r}).") from error


def _frame_number(record: dict[str, Any]) -> int:
    """Position in the original video, or in the clip where that is not known."""
    frame = record.get("orig_frame")
    return int(record["frame"] if frame is None else frame)


def _check_bbox(bbox: list[float]) -> None:
    values = [float(v) for v in bbox]
    if len(values) != 4 or not np.isfinite(values).all():
        raise ValueError(f"bbox {bbox} is not four finite numbers")


def _usable(box: dict[str, Any], record: dict[str, Any], min_side: float, max_cover: float) -> bool:
    _, _, w, h = box["bbox"]
    covers = w * h / (record["width"] * record["height"])
    fits = covers < max_cover or max_cover >= 1
    return min(w, h) >= min_side and not box.get("difficult") and fits


def _targets(
    record: dict[str, Any], number: int, min_side: float, max_cover: float
) -> Iterable[tuple[dict[str, Any], Target]]:
    for box in record["boxes"]:
        if _usable(box, record, min_side, max_cover):
            x, y, w, h = map(float, box["bbox"])
            scene = record["source"] if "video" in record else record["image"]
            name, sentence = box.get("name") or "", box.get("sentence") or ""
            yield box, Target(number, (x, y, w, h), name, scene, sentence)


def stills_of(
    records: list[dict[str, Any]], min_side: float, max_cover: float = MAX_COVER, first: int = 0
) -> list[Target]:
    """Targets of the photographs of an image pack.

    Args:
        records: From `read_records`.
        min_side: Boxes with a shorter side, in pixels, are left out.
        max_cover: So are boxes that cover this share of their image.
        first: Number of the first record's image.
    """
    return [
        target
        for number, record in enumerate(records, first)
        if "video" not in record
        for _, target in _targets(record, number, min_side, max_cover)
    ]


def annotated_in(records: list[dict[str, Any]], first: int = 0) -> list[Annotated]:
    """All that is annotated in the images of an image pack; `source` is the group.

    Args:
        records: From `read_records`.
        first: Number of the first record's image.
    """
    found = []
    for number, record in enumerate(records, first):
        objects = []
        for box in record["boxes"]:
            x, y, w, h = map(float, box["bbox"])
            objects.append((str(box.get("name") or ""), (x, y, w, h)))
        group, is_video = str(record.get("source", "")), "video" in record
        found.append(Annotated(number, group, tuple(objects), is_video))
    return found


def tracks_of(
    records: list[dict[str, Any]], min_side: float, max_cover: float = MAX_COVER, first: int = 0
) -> list[Track]:
    """Tracks of an image pack; arguments as those of `stills_of`.

    The clips of one video are joined: they show the same object with a long gap between them.
    """
    found: dict[str, list[tuple[int, Target]]] = defaultdict(list)
    for number, record in enumerate(records, first):
        if "video" not in record:
            continue
        for box, target in _targets(record, number, min_side, max_cover):
            key = f"{record['source']}/{box.get('track', 0)}"
            found[key].append((record["orig_frame"], target))
    tracks = []
    for key, entries in sorted(found.items()):
        entries.sort(key=lambda entry: entry[0])
        if len(entries) >= 2:
            tracks.append(Track(key, tuple(t for _, t in entries), tuple(f for f, _ in entries)))
    return tracks
