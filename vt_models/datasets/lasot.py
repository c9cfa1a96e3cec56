# SPDX-License-Identifier: Apache-2.0
"""LaSOT (Fan et al., CVPR 2019) and its extension subset LaSOT-ext (Fan et al., IJCV 2021).

ROOT/airplane/airplane-1/img/00000001.jpg ...
                        /groundtruth.txt     x,y,w,h a line
                        /full_occlusion.txt  0,1,... one a frame
                        /out_of_view.txt     the same
                        /nlp.txt             one sentence
ROOT/testing_set.txt  ROOT/training_set.txt  names, as the evaluation toolkit has them
ROOT/annos/att/airplane-1.txt                14 flags, the attributes, as the toolkit has them
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from vt_models.datasets.images import numbered_frames
from vt_models.datasets.reader import Entry, SequenceDataset, without_boxes
from vt_models.datasets.sequence import VideoSequence
from vt_models.datasets.text import (
    BoxFormat,
    check_count,
    read_attributes,
    read_boxes,
    read_flags,
    read_names,
    read_sentence,
)
from vt_models.errors import DatasetError
from vt_models.video.images import natural_key

BOXES = BoxFormat(nan=False, empty=True)
FILES = ("groundtruth.txt", "full_occlusion.txt", "out_of_view.txt", "nlp.txt", "img")
LISTS = {"test": "testing_set.txt", "train": "training_set.txt"}
LIST_FOLDERS = ("", "sequence_evaluation_config")
ATTRIBUTE_FOLDER = "annos/att"
ATTRIBUTES = (
    *("illumination variation", "partial occlusion", "deformation", "motion blur"),
    *("camera motion", "rotation", "background clutter", "viewpoint change", "scale variation"),
    *("full occlusion", "fast motion", "out of view", "low resolution", "aspect ratio change"),
)
"""Meaning of the flags, in the order of the toolkit's `run_tracker_performance_evaluation.m`."""


class LasotDataset(SequenceDataset):
    """LaSOT. The target is absent where it is fully occluded or out of view.

    Splits: "test", "train" (by the list files), "all". Without one: "test" where its list is there,
    otherwise "all".
    """

    kind = "lasot"
    splits: ClassVar[tuple[str, ...]] = ("test", "train", "all")

    def _find(self) -> list[Entry]:
        found = {entry.name: entry for entry in _sequences(self.root)}
        split = self.split
        if split is None:
            split = "test" if self._list_file("test").is_file() else "all"
        if split == "all":
            return list(found.values())
        names = read_names(
            self._list_file(split),
            found,
            f"put {LISTS[split]} of LaSOT's evaluation toolkit there, or use the split all",
        )
        return [found[name] for name in names]

    def _list_file(self, split: str) -> Path:
        places = [self.root / folder / LISTS[split] for folder in LIST_FOLDERS]
        return next((place for place in places if place.is_file()), places[0])

    def _sources(self, entry: Entry) -> list[Path]:
        return [*(entry.place / name for name in FILES), self._attribute_file(entry)]

    def _attribute_file(self, entry: Entry) -> Path:
        return self.root / ATTRIBUTE_FOLDER / f"{entry.name}.txt"

    def _load(self, entry: Entry) -> VideoSequence:
        directory = entry.place
        frames = numbered_frames(directory / "img", "%08d.jpg")
        truth = directory / "groundtruth.txt"
        boxes = read_boxes(truth, BOXES)
        check_count(truth, len(boxes), "lines", frames)
        flags = {}
        for name in ("full_occlusion", "out_of_view"):
            path = directory / f"{name}.txt"
            flags[name] = read_flags(path)
            check_count(path, len(flags[name]), "flags", frames)
        boxes, absent = without_boxes(boxes, flags["full_occlusion"] | flags["out_of_view"])
        return VideoSequence(
            entry.name,
            frames,
            boxes,
            read_sentence(directory / "nlp.txt"),
            absent,
            occluded=flags["full_occlusion"],
            attributes=read_attributes(self._attribute_file(entry), ATTRIBUTES),
            category=directory.parent.name,
        )


class LasotExtensionDataset(LasotDataset):
    """LaSOT-ext: 15 further classes in LaSOT's layout, all of them for testing; no splits."""

    kind = "lasot_ext"
    splits = ()

    def _find(self) -> list[Entry]:
        return _sequences(self.root)


def _sequences(root: Path) -> list[Entry]:
    found = [path.parent for path in root.glob("*/*/groundtruth.txt")]
    if not found:
        raise DatasetError(
            f"{root}: no sequence in it; expected <class>/<class>-<number>/groundtruth.txt"
        )
    found.sort(key=lambda path: (path.parent.name, natural_key(path)))
    return [Entry(directory.name, directory) for directory in found]
