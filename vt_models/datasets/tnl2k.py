# SPDX-License-Identifier: Apache-2.0
"""TNL2K (Wang et al., CVPR 2021).

ROOT/TNL2K_test_subset/<name>/imgs/*.png or *.jpg       named in many ways
                             /groundtruth.txt           x,y,w,h a line; no size: absent
                             /language.txt              one sentence
ROOT/TNL2K_train_subset[/TNL2K_train_subset_p1]/<name>/...
"""

from __future__ import annotations

from pathlib import Path

from vt_models.datasets.images import list_images
from vt_models.datasets.reader import Entry, SequenceDataset
from vt_models.datasets.sequence import VideoSequence
from vt_models.datasets.text import BoxFormat, check_count, read_boxes, read_sentence
from vt_models.errors import DatasetError
from vt_models.video.images import natural_key

BOXES = BoxFormat(nan=False, empty=True)
DEPTHS = ("*", "*/*", "*/*/*")


class Tnl2kDataset(SequenceDataset):
    """TNL2K. The target is absent where its box has no size.

    Frames are sorted by the numbers in their names; gaps are not looked for, because the dataset
    has some. Splits: "test", "train" (by the names of the folders above a sequence), "all"; without
    one: all that is there.
    """

    kind = "tnl2k"
    splits = ("test", "train", "all")

    def _find(self) -> list[Entry]:
        found = sorted(
            path.parent for depth in DEPTHS for path in self.root.glob(f"{depth}/groundtruth.txt")
        )
        if self.split in ("test", "train"):
            found = [
                place
                for place in found
                if any(
                    self.split in folder.lower()
                    for folder in (self.root.name, *place.relative_to(self.root).parts[:-1])
                )
            ]
        if not found:
            raise DatasetError(
                f"{self.root}: no sequence of the split {self.split or 'all'} in it; expected "
                f"TNL2K_{self.split or 'test'}_subset/<name>/groundtruth.txt"
            )
        return [Entry(place.name, place) for place in found]

    def _sources(self, entry: Entry) -> list[Path]:
        return [entry.place / name for name in ("groundtruth.txt", "language.txt", "imgs")]

    def _load(self, entry: Entry) -> VideoSequence:
        frames = tuple(sorted(list_images(entry.place / "imgs", "images"), key=natural_key))
        truth = entry.place / "groundtruth.txt"
        boxes = read_boxes(truth, BOXES)
        check_count(truth, len(boxes), "lines", frames)
        return VideoSequence(entry.name, frames, boxes, read_sentence(entry.place / "language.txt"))
