# SPDX-License-Identifier: Apache-2.0
"""Temple Color 128 (Liang, Blasch, Ling, TIP 2015).

ROOT/Airport_ce/img/0001.jpg ...
               /Airport_ce_gt.txt       x,y,w,h a line
               /Airport_ce_frames.txt   first,last of the frames
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from vt_models.datasets.images import numbered_frames
from vt_models.datasets.reader import Entry, SequenceDataset
from vt_models.datasets.sequence import VideoSequence
from vt_models.datasets.text import BoxFormat, check_count, parse_numbers, read_boxes, read_text
from vt_models.errors import DatasetError
from vt_models.video.images import is_hidden

BOXES = BoxFormat(nan=False, empty=True)
TRUTH, RANGE, NEW = "_gt.txt", "_frames.txt", "_ce"


class Tc128Dataset(SequenceDataset):
    """TC128. It says nothing about absence or occlusion in a frame.

    Splits: "all" (without one), "new", the 78 sequences that OTB does not have, as NOTU takes them
    (Yan et al., ICCV 2021): their names end in `_ce`.
    """

    kind = "tc128"
    splits: ClassVar[tuple[str, ...]] = ("all", "new")

    def _find(self) -> list[Entry]:
        files = (path for path in self.root.glob(f"*/*{TRUTH}") if not is_hidden(path))
        entries = [
            Entry(path.parent.name, path)
            for path in files
            if self.split != "new" or path.parent.name.endswith(NEW)
        ]
        if not entries:
            ending = NEW if self.split == "new" else ""
            raise DatasetError(
                f"{self.root}: no sequence in it; expected <name>{ending}/<name>{ending}{TRUTH}"
            )
        return sorted(entries, key=lambda entry: entry.name.lower())

    def _sources(self, entry: Entry) -> list[Path]:
        return [entry.place, _range_file(entry.place), entry.place.parent / "img"]

    def _load(self, entry: Entry) -> VideoSequence:
        path = _range_file(entry.place)
        line = read_text(path).strip()
        numbers = parse_numbers(line)
        if len(numbers) != 2 or not 0 <= numbers[0] <= numbers[1]:
            raise DatasetError(f"{path}:1: {line!r}; expected FIRST,LAST of the frames")
        first, last = numbers
        images = numbered_frames(entry.place.parent / "img", "%04d.jpg")
        frames = tuple(path for path in images if first <= int(path.stem) <= last)
        boxes = read_boxes(entry.place, BOXES)
        check_count(entry.place, len(boxes), "lines", frames or images)
        return VideoSequence(entry.name, frames, boxes)


def _range_file(truth: Path) -> Path:
    return truth.with_name(truth.name.removesuffix(TRUTH) + RANGE)
