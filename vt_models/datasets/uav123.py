# SPDX-License-Identifier: Apache-2.0
"""UAV123, UAV20L and UAV123@10fps (Mueller, Smith, Ghanem, ECCV 2016).

ROOT/data_seq/UAV123/bird1/000001.jpg ...    the images of a video
ROOT/anno/UAV123/bird1_2.txt                 x,y,w,h a line, NaN four times: not visible
ROOT/anno/UAV123/att/bird1_2.txt             twelve flags
ROOT/configSeqs.m                            which frames of which folder a sequence is
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vt_models.datasets.images import numbered_frames
from vt_models.datasets.reader import Entry, SequenceDataset
from vt_models.datasets.sequence import VideoSequence
from vt_models.datasets.text import BoxFormat, check_count, read_attributes, read_boxes, read_text
from vt_models.errors import DatasetError
from vt_models.video.images import is_hidden

BOXES = BoxFormat(nan=True, empty=True)
FOLDERS = {"uav123": "UAV123", "uav20l": "UAV20L", "uav123_10fps": "UAV123_10fps"}
IMAGES = {"UAV123": "UAV123", "UAV20L": "UAV123", "UAV123_10fps": "UAV123_10fps"}
CONFIGURATION = "configSeqs.m"
ATTRIBUTES = (
    "scale variation",
    "aspect ratio change",
    "low resolution",
    "fast motion",
    "full occlusion",
    "partial occlusion",
    "out of view",
    "background clutter",
    "illumination variation",
    "viewpoint change",
    "camera motion",
    "similar object",
)
"""Meaning of the flags in `att`, in the order of the benchmark's own plotting code."""
STRUCT = re.compile(
    r"'name'\s*,\s*'(?P<name>[^']+)'\s*,\s*'path'\s*,\s*'(?P<path>[^']+)'\s*,\s*"
    r"'startFrame'\s*,\s*(?P<first>\d{1,9})\s*,\s*'endFrame'\s*,\s*(?P<last>\d{1,9})"
)
MOST_CONFIGURATION_BYTES = 2**20


@dataclass(frozen=True)
class _Range:
    """Frames `first` to `last` (both included) of a folder of images."""

    folder: str
    first: int
    last: int


class Uav123Dataset(SequenceDataset):
    """UAV123. A frame without a box is one in which the target is not visible.

    Splits: "uav123" (without one), "uav20l", "uav123_10fps".
    """

    kind = "uav123"
    splits = tuple(FOLDERS)

    def _find(self) -> list[Entry]:
        folder = FOLDERS[self.split or "uav123"]
        place = _inner(self.root) / "anno" / folder
        files = sorted(path for path in place.glob("*.txt") if not is_hidden(path))
        if not files:
            raise DatasetError(f"{self.root}: no sequence in it; expected anno/{folder}/<name>.txt")
        return [Entry(path.stem, path, folder) for path in files]

    def _sources(self, entry: Entry) -> list[Path]:
        base = _inner(self.root)
        images = base / "data_seq" / IMAGES[entry.part]
        folders = sorted({entry.name, re.sub(r"_\d+$", "", entry.name)})
        return [
            entry.place,
            entry.place.parent / "att" / entry.place.name,
            base / CONFIGURATION,
            *(images / folder for folder in folders),
        ]

    def _load(self, entry: Entry) -> VideoSequence:
        base = _inner(self.root)
        images = base / "data_seq" / IMAGES[entry.part]
        boxes = read_boxes(entry.place, BOXES)
        place = _configured(base / CONFIGURATION, entry)
        if place is None:
            directory = images / entry.name
            if not directory.is_dir():
                raise DatasetError(
                    f"{directory}: no such directory, so {entry.name} is a part of another folder; "
                    f"put {CONFIGURATION} of the benchmark into {base} to say which"
                )
            frames = numbered_frames(directory)
        else:
            frames = _frames(images / place.folder, place, base / CONFIGURATION)
        check_count(entry.place, len(boxes), "lines", frames)
        return VideoSequence(
            entry.name,
            frames,
            boxes,
            attributes=read_attributes(entry.place.parent / "att" / entry.place.name, ATTRIBUTES),
            category=re.match(r"[A-Za-z]*", entry.name)[0] or None,  # type: ignore[index]
        )


def _inner(root: Path) -> Path:
    """The archive has a folder UAV123 around everything."""
    nested = root / "UAV123"
    return root if (root / "anno").is_dir() or not nested.is_dir() else nested


def _configured(path: Path, entry: Entry) -> _Range | None:
    """What configSeqs.m says of a sequence; None where there is no such file."""
    if not path.is_file():
        return None
    text = read_text(path, MOST_CONFIGURATION_BYTES)
    start = re.search(rf"seq{entry.part}\s*=\s*\{{", text)
    section = text[start.end() :].partition("}")[0] if start else ""
    for match in STRUCT.finditer(section):
        if match["name"] == entry.name:
            folder = [part for part in re.split(r"[\\/]", match["path"]) if part][-1]
            return _Range(folder, int(match["first"]), int(match["last"]))
    raise DatasetError(
        f"{path}: nothing about {entry.name} in seq{entry.part}; use the benchmark's own file"
    )


def _frames(directory: Path, place: _Range, configuration: Path) -> tuple[Path, ...]:
    images = numbered_frames(directory)
    frames = tuple(path for path in images if place.first <= int(path.stem) <= place.last)
    if len(frames) != place.last - place.first + 1:
        raise DatasetError(
            f"{directory}: {len(frames)} of the frames {place.first} to {place.last} that "
            f"{configuration} names; it has {images[0].name} to {images[-1].name}"
        )
    return frames
