# SPDX-License-Identifier: Apache-2.0
"""TrackingNet (Mueller et al., ECCV 2018).

ROOT/{TRAIN_0 ... TRAIN_11, TEST}/anno/<name>.txt        x,y,w,h a line; TEST: the first only
                                 /frames/<name>/0.jpg    after unpacking
                                 /zips/<name>.zip        as downloaded, 0.jpg ... inside
ROOT/classes.txt                                         optional: <name> <tab> <class> a line
"""

from __future__ import annotations

from pathlib import Path

from vt_models.datasets.images import archived_frames, numbered_frames
from vt_models.datasets.reader import Entry, SequenceDataset, first_box_only
from vt_models.datasets.sequence import VideoSequence
from vt_models.datasets.text import BoxFormat, check_count, read_boxes, read_lines
from vt_models.errors import DatasetError
from vt_models.video.images import is_hidden, natural_key

BOXES = BoxFormat(nan=False, empty=True)
CLASSES = "classes.txt"
CHUNKS = tuple(f"train_{number}" for number in range(12))


class TrackingNetDataset(SequenceDataset):
    """TrackingNet. It says nothing about absence or occlusion.

    Nor do its files name classes; a list of them, such as the one that PyTracking has, may be put
    beside the chunks as `classes.txt`.

    Frames come from `frames/<name>` where that is unpacked, otherwise straight from the archive.
    Splits: "test" (without one; only the first box is public), "train" (all chunks that are
    there), "train_0" to "train_11".
    """

    kind = "trackingnet"
    splits = ("test", "train", *CHUNKS)

    def _find(self) -> list[Entry]:
        split = self.split or "test"
        wanted = CHUNKS if split == "train" else (split,)
        chunks = [path for path in self.root.iterdir() if path.name.lower() in wanted]
        files = [
            file
            for chunk in sorted(chunks, key=natural_key)
            for file in sorted((chunk / "anno").glob("*.txt"))
            if not is_hidden(file)
        ]
        if not files:
            example = "TEST" if split == "test" else "TRAIN_0"
            raise DatasetError(
                f"{self.root}: nothing of the split {split} in it; "
                f"expected {example}/anno/<name>.txt"
            )
        classes = _classes(self.root / CLASSES)
        return [Entry(file.stem, file, classes.get(file.stem, "")) for file in files]

    def _sources(self, entry: Entry) -> list[Path]:
        return [entry.place, _frames_of(entry), _archive_of(entry), self.root / CLASSES]

    def _load(self, entry: Entry) -> VideoSequence:
        archive = _archive_of(entry)
        if archive.is_file() and not _frames_of(entry).is_dir():
            frames = archived_frames(archive)
        else:
            frames = numbered_frames(_frames_of(entry), "%d.jpg")
        boxes = read_boxes(entry.place, BOXES)
        if entry.place.parent.parent.name.lower() == "test" and len(boxes) != len(frames):
            boxes, absent = first_box_only(entry.place, boxes, frames)
            return VideoSequence(
                entry.name, frames, boxes, absent=absent, category=entry.part or None
            )
        check_count(entry.place, len(boxes), "lines", frames)
        return VideoSequence(entry.name, frames, boxes, category=entry.part or None)


def _classes(path: Path) -> dict[str, str]:
    """Class by the name of a sequence; {} where there is no list."""
    if not path.is_file():
        return {}
    classes = {}
    for number, line in enumerate(read_lines(path, "NAME, a tab and CLASS a line"), start=1):
        name, tab, label = line.partition("\t")
        if not (tab and name.strip() and label.strip()):
            raise DatasetError(f"{path}:{number}: {line!r}; expected NAME, a tab and CLASS")
        classes[name.strip()] = label.strip()
    return classes


def _frames_of(entry: Entry) -> Path:
    return entry.place.parent.parent / "frames" / entry.name


def _archive_of(entry: Entry) -> Path:
    return entry.place.parent.parent / "zips" / f"{entry.name}.zip"
