# SPDX-License-Identifier: Apache-2.0
"""Image packs: annotated images, one JSON object a line in `annotations.jsonl`, beside the images.

    {"image": "img/0001.jpg", "width": 320, "height": 199, "source": "coco",
     "boxes": [{"bbox": [x, y, w, h], "name": "tv", "sentence": "the tv on the left"}]}
    {"image": "clip/0007.jpg", "width": 320, "height": 180, "source": "v12", "video": "v12_0",
     "frame": 7, "orig_frame": 107, "boxes": [{"bbox": [x, y, w, h], "track": 3}]}

A box is four numbers in pixels of the image, counted from 0. The second line is a frame of a clip:
`video` names the clip, `source` the video that the clip is cut from, `frame` its place in the clip,
and `orig_frame`, which is optional, its place in the video. `name`, `sentence`, `track` (which
object of the video it is) and `difficult` (true for what is not to be learnt) are optional, and so
is the `source` of an image of no video: images of one source are annotated with the same names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vt_models.datasets.json_lines import ANNOTATIONS, count_in, is_box, read_annotations
from vt_models.errors import DatasetError
from vt_models.geometry.boxes import Box


@dataclass(frozen=True, slots=True)
class PackObject:
    """One object of an image.

    Attributes:
        box: x, y, w, h in pixels.
        name: class of the object, "" where the annotation has none.
        sentence: a description, "" where there is none.
        track: which object of a video it is.
        is_difficult: it is annotated, but not to be learnt.
    """

    box: Box
    name: str = ""
    sentence: str = ""
    track: str = "0"
    is_difficult: bool = False


@dataclass(frozen=True, slots=True)
class PackImage:
    """One line of `annotations.jsonl`.

    Attributes:
        image: path of the image, seen from the folder of the pack.
        width, height: pixels.
        objects: what is annotated in it.
        source: the video, or where the image is from; "" where that is not said.
        clip: the clip that it is a frame of, None for an image by itself.
        frame: its place in the video, or in the clip where that is not known; 0 without a clip.
    """

    image: str
    width: int
    height: int
    objects: tuple[PackObject, ...]
    source: str = ""
    clip: str | None = None
    frame: int = 0


def read_image_pack(root: Path) -> list[PackImage]:
    """Read and check the annotations of an image pack; no image is opened.

    Args:
        root: the folder that holds `annotations.jsonl`.

    Raises:
        DatasetError: the file is missing, empty or not UTF-8, or some lines are wrong; the message
            names each problem with FILE:LINE.
    """
    images = read_annotations(root, _parse)
    if not images:
        raise DatasetError(
            f"{root / ANNOTATIONS} holds no images; expected one JSON object a line, one an image"
        )
    return images


def is_held_out(number: int, every: int) -> bool:
    """Return whether an image of a pack, counted from 0, is left to judge by: one of `every`.

    >>> [number for number in range(30) if is_held_out(number, 12)]
    [11, 23]
    """
    return every > 0 and number % every == every - 1


def _parse(record: dict[str, Any], _where: str) -> PackImage:
    """One line; ValueError says what is wrong with it."""
    image = record.get("image")
    if not isinstance(image, str) or not image:
        raise ValueError(f'"image" is {image!r}; expected the path of a file seen from the folder')
    width, height = count_in(record, "width"), count_in(record, "height")
    boxes = record.get("boxes")
    if not isinstance(boxes, list):
        raise ValueError(f'"boxes" is {boxes!r}; expected a list')  # noqa: TRY004
    objects = tuple(_object(entry, number) for number, entry in enumerate(boxes))
    source, clip = record.get("source"), record.get("video")
    if clip is None:
        return PackImage(image, width, height, objects, str(source or ""))
    if not source:
        raise ValueError(f'"source" is {source!r}; expected the video that the frame is from')
    key = "frame" if record.get("orig_frame") is None else "orig_frame"
    frame = record.get(key)
    if not isinstance(frame, int) or isinstance(frame, bool):
        raise ValueError(f'"{key}" is {frame!r}; expected a whole number')  # noqa: TRY004
    return PackImage(image, width, height, objects, str(source), str(clip), frame)


def _object(entry: Any, number: int) -> PackObject:
    box = entry.get("bbox") if isinstance(entry, dict) else None
    if box is None or not is_box(box):
        raise ValueError(
            f'"bbox" of box {number} is {box!r}; expected four finite numbers x, y, width, height'
        )
    x, y, w, h = map(float, box)
    return PackObject(
        (x, y, w, h),
        str(entry.get("name") or ""),
        str(entry.get("sentence") or ""),
        str(entry.get("track", 0)),
        bool(entry.get("difficult")),
    )
