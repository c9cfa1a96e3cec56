# SPDX-License-Identifier: Apache-2.0
"""What a tracker said of the images of a bag, as labels: an image pack, or annotated sequences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np

from vt_models.errors import InputError
from vt_models.files import file_name
from vt_models.geometry.boxes import COORDINATE_LIMIT, Box
from vt_models.video.bags.messages import DETECTIONS, MEASURED, Messages
from vt_models.video.bags.reader import Bag, BagError, BagImage
from vt_models.video.image_messages import ConversionError, MessageHeader
from vt_models.video.sources import Frame

Labels: TypeAlias = dict[str, dict[MessageHeader, Box]]
"""Box of a target in the image with a header, by the target's name.

The frame of a header counts: two cameras that are triggered together have the same stamps.
"""

MOST_LABELS = 2_000_000
"""Of one bag; a day at 20 images a second has fewer."""
_SUFFIX = "/detections"
_NONE_BELONGS = (
    "none of the labels belongs, by stamp and frame_id, to an image that can be read; where there "
    "are several topics of images, --topic chooses the one that was tracked"
)
_SMALLEST = 2.0  # pixels of a side; less of a target in its image is no label
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class LabelSettings:
    """Which labels are taken, and how their images are written.

    Attributes:
        score: least confidence; what the tracker only predicted is never taken.
        stride: every such image of a pack; of sequences all are taken.
        crop: side of the square that is cut out of the image round a target, in sides of the target
            (the root of its area); 0: whole images.
        max_side: pixels; larger images are made smaller; 0: as they are.
        object_class: what the targets are called in the annotations; empty: nothing.

    Raises:
        InputError: out of range.
    """

    score: float = 0.8
    stride: int = 1
    crop: float = 0.0
    max_side: int = 0
    object_class: str = ""

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0:
            raise InputError(f"--score is {self.score}; expected 0 to 1")
        if self.stride < 1:
            raise InputError(f"--stride is {self.stride}; expected 1 or more")
        if self.crop and not 1.0 <= self.crop <= 100.0:
            raise InputError(f"--crop is {self.crop}; expected 1 to 100 sides of the target, or 0")
        if self.max_side and self.max_side < 32:
            raise InputError(f"--max-side is {self.max_side}; expected 32 pixels or more, or 0")


@dataclass
class LabelTally:
    """What was written.

    Attributes:
        images: files.
        boxes: labels in them; sequences also have images without.
        sequences: clips or sequences.
        unreadable: images that could not be decoded.
    """

    images: int = 0
    boxes: int = 0
    sequences: int = 0
    unreadable: int = 0

    def add(self, other: LabelTally) -> None:
        """Add what was written of another bag."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


def read_labels(path: Path, score: float, names: list[str]) -> Labels:
    """Read the detections of class "target" on the topics `NAME/detections` of a bag.

    Args:
        path: a tracked bag, or a recording of the node's topics.
        score: least confidence.
        names: of the targets; none: all.

    Raises:
        BagError: the bag cannot be read, or has no such labels; the message says what it has.
    """
    messages = Messages()
    found: Labels = {}
    with Bag(path, needs_images=False) as bag:
        topics = _names_by_topic(
            {one.topic for one in bag.connections if one.msgtype == DETECTIONS}
        )
        wanted = {topic: name for topic, name in topics.items() if not names or name in names}
        absent = [name for name in names if name not in topics.values()]
        if absent or not wanted:
            has = ", ".join(sorted(topics.values())) or "none"
            what = f"no target {absent[0]}" if absent else "no topic that ends in /detections"
            raise BagError(f"{path} has {what}; its tracked targets: {has}")
        for connection, _, data in bag.messages(list(wanted)):
            if connection.msgtype != DETECTIONS:
                continue
            try:
                array = messages.types.deserialize_cdr(data, DETECTIONS)
            except Exception as error:  # of whatever type: the bytes are a stranger's
                raise BagError(
                    f"{path}: a message on {connection.topic} cannot be read: {error}"
                ) from error
            label = _label(array, score)
            if label is not None:
                found.setdefault(wanted[connection.topic], {})[label[0]] = label[1]
                if sum(map(len, found.values())) > MOST_LABELS:
                    raise BagError(f"{path} has more than {MOST_LABELS:,} labels")
    if not found:
        raise BagError(f"{path}: no target was measured with a confidence of {score:g} or more")
    return found


def _names_by_topic(topics: set[str]) -> dict[str, str]:
    """Return the name of the target on each topic of detections.

    It is the last part before `/detections`; where two nodes in two namespaces share that, the
    whole, joined by what a name of ROS never has, so that no two targets become one.
    """
    nodes = {topic: topic.removesuffix(_SUFFIX) for topic in topics if topic.endswith(_SUFFIX)}
    last = {topic: node.rpartition("/")[2] for topic, node in nodes.items()}
    shared = {name for name, count in Counter(last.values()).items() if count > 1}
    return {
        topic: file_name(
            node.strip("/").replace("/", "__") if last[topic] in shared else last[topic]
        )
        for topic, node in nodes.items()
    }


def _label(array: Any, score: float) -> tuple[MessageHeader, Box] | None:
    """Return header and box of the first detection that is a label; None for none."""
    for one in array.detections:
        sure = [result.hypothesis for result in one.results if result.hypothesis.score >= score]
        size, centre = (float(one.bbox.size_x), float(one.bbox.size_y)), one.bbox.center.position
        box = float(centre.x) - size[0] / 2, float(centre.y) - size[1] / 2, *size
        usable = all(abs(value) <= COORDINATE_LIMIT for value in box) and min(size) > 0
        if usable and any(hypothesis.class_id == MEASURED for hypothesis in sure):
            stamp = array.header.stamp
            return MessageHeader(stamp.sec, stamp.nanosec, array.header.frame_id), box
    return None


def name_of(bag: Path) -> str:
    """Return what the images of a bag are called by: its folder, or its file without the suffix."""
    path = bag.resolve()  # "." has no name
    return path.name if path.is_dir() else path.stem


def write_pack(
    source: Path, topic: str | None, labels: Labels, folder: Path, settings: LabelSettings
) -> tuple[LabelTally, list[dict[str, Any]]]:
    """Write the labelled images of a bag below a folder.

    Args:
        source: the bag with the images.
        topic: of the images; None where only one topic has images.
        labels: of `read_labels`.
        folder: that the image pack is made in; the images go to `NAME_OF_THE_BAG/`.
        settings: which images, and how large.

    Returns:
        What was written, and the lines of `annotations.jsonl`, see `vt_models.datasets.image_pack`.

    Raises:
        InputError: the bag cannot be read, or none of its images has a label.
    """
    tally, lines = LabelTally(), []
    place = name_of(source)
    (folder / place).mkdir()
    tracks = {name: number for number, name in enumerate(sorted(labels), start=1)}
    clips: dict[str, int] = {}
    with Bag(source, topic) as bag:
        for image, boxes in _labelled(bag, labels):
            if image.number % settings.stride or not boxes:
                continue
            pixels = _pixels(image, tally)
            if pixels is None:
                continue
            # Whole images have all targets of the moment, a crop the one that it is cut round.
            cut = [{name: box} for name, box in boxes.items()] if settings.crop else [boxes]
            for targets in cut:
                name = next(iter(targets))
                clip = f"{place}_{name}" if settings.crop else place
                shown, moved = _prepare(pixels, targets, settings)
                if not moved:
                    continue
                file = f"{place}/{f'{name}_' if settings.crop else ''}{image.number:06d}.jpg"
                _write_jpeg(folder / file, shown)
                frame = clips[clip] = clips.get(clip, -1) + 1
                objects = []
                for target, box in moved.items():
                    entry: dict[str, Any] = {"bbox": [round(value, 2) for value in box]}
                    entry["track"] = tracks[target]
                    if settings.object_class:
                        entry["name"] = settings.object_class
                    objects.append(entry)
                height, width = shown.shape[:2]
                lines.append(
                    {
                        "image": file,
                        "width": width,
                        "height": height,
                        "source": place,
                        "video": clip,
                        "frame": frame,
                        "orig_frame": image.number,
                        "boxes": objects,
                    }
                )
                tally.images += 1
                tally.boxes += len(objects)
    if not lines:
        raise InputError(f"{source}: {_NONE_BELONGS}")
    tally.sequences = len(clips)
    return tally, lines


def write_sequences(
    source: Path, topic: str | None, labels: Labels, folder: Path, settings: LabelSettings
) -> LabelTally:
    """Write a sequence for each target in the layout of `vt_models.datasets.folder`.

    It goes from the first labelled image to the last; images between without a label, in which the
    target was lost, predicted or unsure, have `nan,nan,nan,nan`. Arguments and errors as of
    `write_pack`.
    """
    tally = LabelTally()
    truths: dict[str, list[str]] = {}
    with Bag(source, topic) as bag:
        ends = {name: max(one.stamp for one in boxes) for name, boxes in labels.items()}
        for image, boxes in _labelled(bag, labels):
            stamp = image.header.stamp
            open_names = [name for name in labels if name in boxes or name in truths]
            open_names = [name for name in open_names if stamp <= ends[name]]
            pixels = _pixels(image, tally) if open_names else None
            if pixels is None:
                continue
            shown, moved = _prepare(pixels, boxes, settings)
            for name in open_names:
                truth = truths.setdefault(name, [])
                directory = folder / f"{name_of(source)}_{name}"
                if not truth:
                    (directory / "img").mkdir(parents=True)
                box = moved.get(name)
                truth.append(",".join(["nan"] * 4 if box is None else [f"{v:.2f}" for v in box]))
                _write_jpeg(directory / "img" / f"{len(truth):06d}.jpg", shown)
                tally.images += 1
                tally.boxes += box is not None
    if not truths:
        raise InputError(f"{source}: {_NONE_BELONGS}")
    for name, truth in truths.items():
        path = folder / f"{name_of(source)}_{name}" / "groundtruth.txt"
        path.write_text("\n".join(truth) + "\n", encoding="utf-8")
    tally.sequences = len(truths)
    return tally


def _labelled(bag: Bag, labels: Labels) -> Iterator[tuple[BagImage, dict[str, Box]]]:
    """Yield every image with the boxes of its header."""
    for image in bag.images():
        header = image.header
        if not header.stamp:
            raise InputError(f"{bag.path}: the images have no stamps, by which labels are found")
        yield image, {name: boxes[header] for name, boxes in labels.items() if header in boxes}


def _pixels(image: BagImage, tally: LabelTally) -> Frame | None:
    try:
        return image.decode()
    except ConversionError:
        tally.unreadable += 1
        return None


def _prepare(
    pixels: Frame, boxes: dict[str, Box], settings: LabelSettings
) -> tuple[Frame, dict[str, Box]]:
    """Cut and scale an image; return it with the boxes in its pixels, without those outside."""
    height, width = pixels.shape[:2]
    left = top = 0
    if settings.crop and boxes:
        x, y, w, h = next(iter(boxes.values()))
        side = settings.crop * math.sqrt(w * h)
        left = min(max(round(x + w / 2 - side / 2), 0), width - 1)
        top = min(max(round(y + h / 2 - side / 2), 0), height - 1)
        right = min(max(round(x + w / 2 + side / 2), left + 1), width)
        bottom = min(max(round(y + h / 2 + side / 2), top + 1), height)
        pixels = pixels[top:bottom, left:right]
        height, width = pixels.shape[:2]
    scale = 1.0
    if settings.max_side and max(height, width) > settings.max_side:
        scale = settings.max_side / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        height, width = pixels.shape[:2]
    moved = {}
    for name, (x, y, w, h) in boxes.items():
        x1, x2 = (min(max((v - left) * scale, 0.0), float(width)) for v in (x, x + w))
        y1, y2 = (min(max((v - top) * scale, 0.0), float(height)) for v in (y, y + h))
        if min(x2 - x1, y2 - y1) >= _SMALLEST:
            moved[name] = (x1, y1, x2 - x1, y2 - y1)
    return pixels, moved


def _write_jpeg(path: Path, pixels: Frame) -> None:
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))[1]
    path.write_bytes(data.tobytes())
