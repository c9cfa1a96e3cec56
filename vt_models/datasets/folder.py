# SPDX-License-Identifier: Apache-2.0
"""The plain layout for one's own videos: a folder a sequence, with images and a text file."""

from __future__ import annotations

from vt_models.datasets.images import numbered_frames
from vt_models.datasets.reader import Entry, SequenceDataset
from vt_models.datasets.sequence import VideoSequence
from vt_models.datasets.text import check_count, read_boxes, read_text
from vt_models.errors import DatasetError


class FolderDataset(SequenceDataset):
    """Directory of `<name>/img/%06d.jpg`, `<name>/groundtruth.txt`, optional `<name>/language.txt`.

    A line of `groundtruth.txt` is `x,y,w,h` in pixels, or `nan,nan,nan,nan` while the target is
    absent. Sequences come in alphabetical order. It has no splits, and is not cached: there is too
    little to read.
    """

    kind = "folder"
    is_cached = False

    def _find(self) -> list[Entry]:
        found = sorted(path.parent for path in self.root.glob("*/groundtruth.txt"))
        if not found:
            raise DatasetError(f"{self.root}: no sequence in it; expected <name>/groundtruth.txt")
        return [Entry(directory.name, directory) for directory in found]

    def _load(self, entry: Entry) -> VideoSequence:
        directory = entry.place
        frames = numbered_frames(directory / "img")
        truth = directory / "groundtruth.txt"
        boxes = read_boxes(truth)
        check_count(truth, len(boxes), "lines", frames)
        language = directory / "language.txt"
        text = read_text(language).strip() if language.exists() else ""
        return VideoSequence(directory.name, frames, boxes, text or None)
