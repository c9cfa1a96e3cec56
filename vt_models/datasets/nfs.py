# SPDX-License-Identifier: Apache-2.0
"""Need for Speed (Kiani Galoogahi et al., ICCV 2017).

    ROOT/<name>/{240,30}/<name>/00001.jpg ...
                        /<name>.txt       a line of the annotation tool VATIC for each frame:
                                          track xmin ymin xmax ymax frame lost occluded generated
                                          "label"

The 30 fps folder has every eighth image, while its text may still count the frames of 240 fps.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from vt_models.datasets.images import numbered_frames
from vt_models.datasets.reader import Entry, SequenceDataset
from vt_models.datasets.sequence import VideoSequence
from vt_models.datasets.text import ABSENT, BoxFormat, check_box, parse_numbers, read_lines
from vt_models.errors import DatasetError
from vt_models.video.images import is_hidden

BOXES = BoxFormat(nan=False, empty=True)
RATIO = 8
"""240 fps over 30 fps."""


class _Line(NamedTuple):
    box: tuple[float, ...]
    frame: int
    is_lost: bool
    is_occluded: bool


class NfsDataset(SequenceDataset):
    """NFS. The target is absent where the annotation says lost; occluded boxes are kept.

    Splits: "30" (without one), "240", the frame rates. Some published annotations are one line
    longer or shorter than the video; the shorter of the two counts then, and no more is forgiven.
    """

    kind = "nfs"
    splits = ("30", "240")

    def _find(self) -> list[Entry]:
        rate = self.split or "30"
        found = self.root.glob(f"*/{rate}/*.txt")
        files = sorted(path for path in found if not is_hidden(path))
        if not files:
            raise DatasetError(f"{self.root}: no sequence in it; expected <name>/{rate}/<name>.txt")
        return [Entry(path.stem, path, rate) for path in files]

    def _sources(self, entry: Entry) -> list[Path]:
        return [entry.place, entry.place.with_suffix("")]

    def _load(self, entry: Entry) -> VideoSequence:
        frames = numbered_frames(entry.place.with_suffix(""), "%05d.jpg")
        texts = read_lines(entry.place, "a line of VATIC for each frame")
        lines = [_parse(entry.place, number, text) for number, text in enumerate(texts, start=1)]
        lines = _of_the_images(entry, lines, frames)
        count = min(len(lines), len(frames))
        boxes = np.array([ABSENT if line.is_lost else line.box for line in lines[:count]])
        return VideoSequence(
            entry.name,
            frames[:count],
            boxes,
            occluded=np.array([line.is_occluded for line in lines[:count]]),
            category=texts[0].split('"')[1] or None,
        )


def _parse(path: Path, number: int, text: str) -> _Line:
    where = f"{path}:{number}"
    before, quote, label = text.partition('"')
    values = parse_numbers(before)
    if len(values) != 9 or not quote or '"' not in label:
        raise DatasetError(
            f"{where}: {text!r}; expected "
            'track xmin ymin xmax ymax frame lost occluded generated "label"'
        )
    left, top, right, bottom = values[1:5]
    box = check_box(where, text, (left, top, right - left, bottom - top), BOXES)
    if not np.isfinite(values).all():
        raise DatasetError(f"{where}: {text!r}; expected finite numbers")
    return _Line(box, int(values[5]), values[6] == 1, values[7] == 1)


def _of_the_images(entry: Entry, lines: list[_Line], frames: tuple[Path, ...]) -> list[_Line]:
    """The lines that belong to the images, one for each (or one more or less)."""
    start = lines[0].frame
    step = lines[1].frame - start if len(lines) > 1 else 1
    for number, line in enumerate(lines):
        if line.frame != start + number * step:
            raise DatasetError(
                f"{entry.place}:{number + 1}: frame {line.frame}; expected "
                f"{start + number * step}: one line for each frame, in order"
            )
    chosen = lines
    if entry.part == "30" and abs(len(lines) - len(frames)) > 1:
        chosen = lines[::RATIO]
    if abs(len(chosen) - len(frames)) > 1:
        raise DatasetError(
            f"{entry.place}: {len(lines)} lines for {len(frames)} images in {frames[0].parent}; "
            f"expected one for each image{', or eight' if entry.part == '30' else ''}"
        )
    return chosen
