# SPDX-License-Identifier: Apache-2.0
"""Annotated images held in memory, and the targets that training pairs are drawn from.

The format is one JSON object a line in `annotations.jsonl` beside an `img` and a `video` folder:
`image` (path), `width`, `height`, `source`, `boxes` (`bbox` [x, y, w, h] in pixels, `name`,
optional `track` and `sentence`), and for frames of a clip `video`, `frame`, `orig_frame`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from vt_models.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

MAX_COVER = 0.35
"""Targets that cover more of their image leave hardly any surroundings to search in: a search
region is 16 times the target's area."""


@dataclass(frozen=True, slots=True)
class Target:
    """One annotated object in one image.

    Attributes:
        image: Index into `ImagePack.images`.
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
        targets: One entry a frame.
        frames: Frame numbers of the original video (so that temporal gaps are known).
    """

    key: str
    targets: tuple[Target, ...]
    frames: tuple[int, ...]


@dataclass(frozen=True)
class ImagePack:
    """Everything a sampler needs, decoded once.

    Attributes:
        images: RGB uint8 arrays (H, W, 3).
        stills: Targets of photographs.
        tracks: Targets of videos.
    """

    images: list[np.ndarray]
    stills: list[Target]
    tracks: list[Track]

    @property
    def nbytes(self) -> int:
        """Bytes of decoded pixels."""
        return sum(image.nbytes for image in self.images)


def load_image_pack(
    root: Path,
    limit: int | None = None,
    min_side: float = 6.0,
    hold_out: tuple[str, ...] = (),
    progress: Callable[[Iterable[Path]], Iterable[Path]] = iter,
) -> ImagePack:
    """Reads and decodes an image pack.

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
    records = _without(hold_out, _read_annotations(root / "annotations.jsonl"), root)
    if limit is not None:
        clips = [r for r in records if "video" in r][:limit]
        records = [r for r in records if "video" not in r][:limit] + clips
    if not records:
        raise DatasetError(f"{root / 'annotations.jsonl'} holds no images: nothing to train on.")
    paths = [root / r["image"] for r in records]
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(_decode, progress(paths)))
    for record, image, path in zip(records, images, paths, strict=True):
        if image.shape[:2] != (record["height"], record["width"]):
            raise DatasetError(
                f"{path} is {image.shape[1]}x{image.shape[0]} but its annotation says "
                f"{record['width']}x{record['height']}: use matching files."
            )
    return ImagePack(images, _stills(records, min_side), _tracks(records, min_side))


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


def _decode(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DatasetError(f"{path} cannot be read as an image: replace or remove it.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _usable(box: dict[str, Any], record: dict[str, Any], min_side: float) -> bool:
    _, _, w, h = box["bbox"]
    covers = w * h / (record["width"] * record["height"])
    return min(w, h) >= min_side and not box.get("difficult") and covers < MAX_COVER


def _targets(
    record: dict[str, Any], index: int, min_side: float
) -> Iterable[tuple[dict[str, Any], Target]]:
    for box in record["boxes"]:
        if _usable(box, record, min_side):
            x, y, w, h = map(float, box["bbox"])
            scene = record["source"] if "video" in record else record["image"]
            name, sentence = box.get("name") or "", box.get("sentence") or ""
            yield box, Target(index, (x, y, w, h), name, scene, sentence)


def _stills(records: list[dict[str, Any]], min_side: float) -> list[Target]:
    return [
        target
        for i, r in enumerate(records)
        if "video" not in r
        for _, target in _targets(r, i, min_side)
    ]


def _tracks(records: list[dict[str, Any]], min_side: float) -> list[Track]:
    """Joins the clips of one video: they show the same object with a long gap between them."""
    found: dict[str, list[tuple[int, Target]]] = defaultdict(list)
    for i, record in enumerate(records):
        if "video" not in record:
            continue
        for box, target in _targets(record, i, min_side):
            key = f"{record['source']}/{box.get('track', 0)}"
            found[key].append((record["orig_frame"], target))
    tracks = []
    for key, entries in sorted(found.items()):
        entries.sort(key=lambda entry: entry[0])
        if len(entries) >= 2:
            tracks.append(Track(key, tuple(t for _, t in entries), tuple(f for f, _ in entries)))
    return tracks
