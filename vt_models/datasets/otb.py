# SPDX-License-Identifier: Apache-2.0
"""OTB-2013, OTB-50 and OTB-100 (Wu, Lim, Yang, TPAMI 2015).

ROOT/Basketball/img/0001.jpg ...
               /groundtruth_rect.txt                    x,y,w,h a line; comma, tab or blank
ROOT/Jogging/groundtruth_rect.1.txt, groundtruth_rect.2.txt     two targets of one video
"""

from __future__ import annotations

import re
from pathlib import Path

from vt_models.datasets.images import numbered_frames
from vt_models.datasets.reader import Entry, SequenceDataset
from vt_models.datasets.sequence import VideoSequence
from vt_models.datasets.text import BoxFormat, check_count, read_boxes
from vt_models.errors import DatasetError

BOXES = BoxFormat(nan=False, empty=True)
SHORTEST_BOX = 7
"""Characters of 0,0,1,1."""
RANGES = {
    "BlurCar1": (247, 988),
    "BlurCar3": (3, 359),
    "BlurCar4": (18, 397),
    "David": (300, 770),
    "Diving": (1, 215),
    "Football1": (1, 74),
    "Freeman3": (1, 460),
    "Freeman4": (1, 283),
}
"""First and last annotated frame where the folder may have more images (the benchmark's site)."""


class OtbDataset(SequenceDataset):
    """OTB. It says nothing about absence or occlusion in a frame; no splits.

    The targets of a video with several are called as on the benchmark's site: Jogging-1, Jogging-2,
    Skating2-1, Skating2-2, Human4-2 (whose first file is empty).
    """

    kind = "otb"

    def _find(self) -> list[Entry]:
        entries = [_entry(path) for path in self.root.glob("*/groundtruth_rect*.txt")]
        entries = [entry for entry in entries if not _is_left_out(entry)]
        if not entries:
            raise DatasetError(
                f"{self.root}: no sequence in it; expected <name>/groundtruth_rect.txt"
            )
        return sorted(entries, key=lambda entry: entry.name.lower())

    def _sources(self, entry: Entry) -> list[Path]:
        return [entry.place, entry.place.parent / "img"]

    def _load(self, entry: Entry) -> VideoSequence:
        frames = numbered_frames(entry.place.parent / "img", "%04d.jpg")
        boxes = read_boxes(entry.place, BOXES)
        if entry.name in RANGES and len(frames) > len(boxes):
            first, last = RANGES[entry.name]
            frames = tuple(path for path in frames if first <= int(path.stem) <= last) or frames
        check_count(entry.place, len(boxes), "lines", frames)
        return VideoSequence(entry.name, frames, boxes)


def _entry(path: Path) -> Entry:
    match = re.search(r"\.(\d+)\.txt$", path.name)
    name = path.parent.name
    if match:
        return Entry(f"{name}-{match.group(1)}", path, match.group(1))
    return Entry(name, path)


def _is_left_out(entry: Entry) -> bool:
    """The file of a target that the benchmark does not use has no box in it."""
    return bool(entry.part) and entry.place.stat().st_size < SHORTEST_BOX
