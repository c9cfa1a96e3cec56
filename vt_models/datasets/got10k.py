# SPDX-License-Identifier: Apache-2.0
"""GOT-10k (Huang et al., TPAMI 2019).

ROOT/{train,val,test}/list.txt                         names, one a line
ROOT/val/GOT-10k_Val_000001/00000001.jpg ...
                           /groundtruth.txt            x,y,w,h a line; test: the first only
                           /absence.label              0 or 1 a line
                           /cover.label                visible share, 0 to 8 (eighths), a line
                           /cut_by_image.label         0 or 1 a line
                           /meta_info.ini              object_class: ..., motion_class: ...,
                                                       major_class: ..., root_class: ...
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vt_models.datasets.images import numbered_frames
from vt_models.datasets.reader import (
    Entry,
    SequenceDataset,
    first_box_only,
    without_boxes,
)
from vt_models.datasets.sequence import VideoSequence
from vt_models.datasets.text import (
    BoxFormat,
    check_count,
    read_boxes,
    read_flags,
    read_names,
    read_numbers,
    read_text,
)

BOXES = BoxFormat(nan=False, empty=True)
LABELS = ("absence.label", "cover.label", "cut_by_image.label")
CLASSES = ("object_class", "motion_class", "major_class", "root_class")
"""In the order in which PJVLT (section IV-A) makes a sentence of them."""
FULLY_VISIBLE = 8


class Got10kDataset(SequenceDataset):
    """GOT-10k. The target is absent where the dataset says so or none of it is visible.

    `labels` holds `visible` (share in [0, 1]) and `cut_by_image` (0 or 1). Splits: "val" (without
    one), "train", "test" (only the first box is public). `root` may also be the folder of a split.
    """

    kind = "got10k"
    splits = ("val", "train", "test")

    def _find(self) -> list[Entry]:
        folder = self.root / (self.split or "val")
        if not folder.is_dir() and (self.root / "list.txt").is_file():
            folder = self.root
        there = [path.name for path in folder.glob("*/")] if folder.is_dir() else []
        names = read_names(
            folder / "list.txt", there, "expected the folder of a split as it was unpacked"
        )
        return [Entry(name, folder / name) for name in names]

    def _sources(self, entry: Entry) -> list[Path]:
        files = ("groundtruth.txt", "meta_info.ini", *LABELS)
        return [entry.place, *(entry.place / name for name in files)]

    def _load(self, entry: Entry) -> VideoSequence:
        directory = entry.place
        frames = numbered_frames(directory, "%08d.jpg")
        truth = directory / "groundtruth.txt"
        boxes = read_boxes(truth, BOXES)
        words = _classes(directory / "meta_info.ini")
        category = words.get(CLASSES[0])
        classes = tuple(words[key] for key in CLASSES if key in words)
        if len(boxes) == 1 and len(frames) > 1 and not (directory / LABELS[0]).exists():
            boxes, absent = first_box_only(truth, boxes, frames)
            return VideoSequence(
                entry.name, frames, boxes, absent=absent, category=category, classes=classes
            )
        check_count(truth, len(boxes), "lines", frames)
        absence, cover, cut = (directory / name for name in LABELS)
        gone, is_cut = read_flags(absence), read_flags(cut)
        visible = read_numbers(cover, 0, FULLY_VISIBLE) / FULLY_VISIBLE
        for path, values in ((absence, gone), (cover, visible), (cut, is_cut)):
            check_count(path, len(values), "flags", frames)
        boxes, absent = without_boxes(boxes, gone | (visible == 0))
        return VideoSequence(
            entry.name,
            frames,
            boxes,
            absent=absent,
            occluded=visible < 1,
            category=category,
            classes=classes,
            labels={"visible": visible, "cut_by_image": is_cut.astype(np.float64)},
        )


def _classes(path: Path) -> dict[str, str]:
    """What meta_info.ini says under the keys of `CLASSES`; {} where there is no such file."""
    if not path.is_file():
        return {}
    lines = (line.partition(":") for line in read_text(path).splitlines())
    found = {key.strip(): value.strip() for key, _, value in lines}
    return {key: found[key] for key in CLASSES if found.get(key)}
