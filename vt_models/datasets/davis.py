# SPDX-License-Identifier: Apache-2.0
"""DAVIS 2016 and 2017 (Perazzi et al., CVPR 2016; Pont-Tuset et al., 2017).

ROOT/JPEGImages/480p/<name>/00000.jpg ...
ROOT/Annotations/480p/<name>/00000.png ...    palette image: 0 nothing, 1, 2 ... the objects
ROOT/ImageSets/2017/{train,val}.txt           names; those of 2016 list files instead
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from vt_models.datasets.images import numbered_frames, read_mask
from vt_models.datasets.reader import Entry, SequenceDataset, first_box_only
from vt_models.datasets.regions import mask_box
from vt_models.datasets.sequence import VideoSequence
from vt_models.datasets.text import check_count, read_lines
from vt_models.errors import DatasetError

RESOLUTIONS = ("480p", "Full-Resolution", "1080p")
YEARS = ("2017", "2016", "2019")
VOID = 255
"""Among other numbers in a mask it marks pixels to ignore; alone (DAVIS 2016) it is the object."""


class DavisDataset(SequenceDataset):
    """DAVIS: one sequence for each object of a video, called NAME, or NAME-1, NAME-2 ...

    Boxes go around an object's pixels; it is absent where it has none. The objects are those of
    the first mask. Splits: "val" (without one), "train", "test-dev" (2017; only the first mask is
    public). Of several resolutions 480p is read, of several years 2017.
    """

    kind = "davis"
    splits = ("val", "train", "test-dev")

    def _find(self) -> list[Entry]:
        places = (self.root / "Annotations" / resolution for resolution in RESOLUTIONS)
        base = next((place for place in places if place.is_dir()), None)
        if base is None:
            raise DatasetError(f"{self.root}: no Annotations/480p; expected the folder DAVIS")
        lists = [self.root / "ImageSets" / year / f"{self.split or 'val'}.txt" for year in YEARS]
        listed = next((path for path in lists if path.is_file()), lists[0])
        entries = []
        for name in _names(listed, base):
            folder = base / name
            masks = numbered_frames(folder, "%05d.png")
            objects = self._cache.get(
                f"davis objects\n{folder}",
                masks[:1],
                make=partial(_objects, masks[0]),
                use=lambda numbers: [int(number) for number in numbers],
            )
            several = len(objects) > 1
            entries += [
                Entry(f"{name}-{number}" if several else name, folder, str(number))
                for number in objects
            ]
        return entries

    def _images(self, entry: Entry) -> Path:
        return self.root / "JPEGImages" / entry.place.parent.name / entry.place.name

    def _sources(self, entry: Entry) -> list[Path]:
        masks = sorted(entry.place.glob("*.png"))
        return [self._images(entry), entry.place, *masks]

    def _start_of(self, entry: Entry) -> str:
        return f"{numbered_frames(entry.place, '%05d.png')[0]}"

    def _load(self, entry: Entry) -> VideoSequence:
        frames = numbered_frames(self._images(entry), "%05d.jpg")
        masks = numbered_frames(entry.place, "%05d.png")
        boxes = np.array([mask_box(read_mask(path) == int(entry.part)) for path in masks])
        if self.split == "test-dev" and len(masks) == 1:
            boxes, absent = first_box_only(entry.place, boxes, frames)
            return VideoSequence(entry.name, frames, boxes, absent=absent)
        check_count(entry.place, len(masks), "masks", frames)
        return VideoSequence(entry.name, frames, boxes)


def _objects(mask: Path) -> list[int]:
    numbers = [int(number) for number in np.unique(read_mask(mask)) if number]
    objects = [number for number in numbers if number != VOID] or numbers
    if not objects:
        raise DatasetError(f"{mask}: no object in it; expected some in the first mask")
    return objects


def _names(path: Path, base: Path) -> list[str]:
    """Names of the videos in a list; the list of 2016 has a line `IMAGE MASK` for each frame."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; expected the lists of DAVIS in ImageSets")
    names = []
    for number, line in enumerate(read_lines(path, "one name a line"), start=1):
        first = line.split()[0] if line.split() else ""
        name = first.split("/")[-2] if first.count("/") > 1 else first
        if not name or not (base / name).is_dir():
            raise DatasetError(
                f"{path}:{number}: {line!r}; expected the name of a folder in {base}"
            )
        names.append(name)
    return list(dict.fromkeys(names))
