# SPDX-License-Identifier: Apache-2.0
"""OTB-2013, OTB-50 and OTB-100 (Wu, Lim, Yang, TPAMI 2015).

ROOT/Basketball/img/0001.jpg ...
               /groundtruth_rect.txt                    x,y,w,h a line; comma, tab or blank
ROOT/Jogging/groundtruth_rect.1.txt, groundtruth_rect.2.txt     two targets of one video
ROOT/anno/att/basketball.txt  jogging-1.txt                     11 flags, the attributes, as the
                                                                benchmark's code has them
"""

from __future__ import annotations

import re
from pathlib import Path

from vt_models.datasets.images import numbered_frames
from vt_models.datasets.reader import Entry, SequenceDataset
from vt_models.datasets.sequence import VideoSequence
from vt_models.datasets.text import BoxFormat, check_count, read_attributes, read_boxes
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

ATTRIBUTE_FOLDER = "anno/att"
ATTRIBUTES = (
    *("illumination variation", "out-of-plane rotation", "scale variation", "occlusion"),
    *("deformation", "motion blur", "fast motion", "in-plane rotation", "out of view"),
    *("background clutter", "low resolution"),
)
"""Meaning of the flags, in the order of the benchmark's `perfPlot.m`."""


class OtbDataset(SequenceDataset):
    """OTB. It says nothing about absence or occlusion in a frame; no splits.

    The targets of a video with several are called as on the benchmark's site: Jogging-1, Jogging-2,
    Skating2-1, Skating2-2, Human4-2 (whose first file is empty).
    """

    kind = "otb"

    def _find(self) -> list[Entry]:
        entries = []
        for path in self.root.glob("*/groundtruth_rect*.txt"):
            target = re.search(r"\.(\d+)\.txt$", path.name)
            if target is None:
                entries.append(Entry(path.parent.name, path))
            elif path.stat().st_size >= SHORTEST_BOX:  # else a target that is not used
                number = target.group(1)
                entries.append(Entry(f"{path.parent.name}-{number}", path, number))
        if not entries:
            raise DatasetError(
                f"{self.root}: no sequence in it; expected <name>/groundtruth_rect.txt"
            )
        return sorted(entries, key=lambda entry: entry.name.lower())

    def _sources(self, entry: Entry) -> list[Path]:
        folder = self.root / ATTRIBUTE_FOLDER
        return [entry.place, entry.place.parent / "img", folder, self._attribute_file(entry)]

    def _attribute_file(self, entry: Entry) -> Path:
        """The file of its name, whose first letter the benchmark writes small."""
        plain = self.root / ATTRIBUTE_FOLDER / f"{entry.name}.txt"
        name = plain.stem.lower()
        return next((p for p in plain.parent.glob("*.txt") if p.stem.lower() == name), plain)

    def _load(self, entry: Entry) -> VideoSequence:
        frames = numbered_frames(entry.place.parent / "img", "%04d.jpg")
        boxes = read_boxes(entry.place, BOXES)
        if entry.name in RANGES and len(frames) > len(boxes):
            first, last = RANGES[entry.name]
            frames = tuple(path for path in frames if first <= int(path.stem) <= last) or frames
        check_count(entry.place, len(boxes), "lines", frames)
        attributes = read_attributes(self._attribute_file(entry), ATTRIBUTES)
        return VideoSequence(entry.name, frames, boxes, attributes=attributes)
