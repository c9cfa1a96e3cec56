# SPDX-License-Identifier: Apache-2.0
"""The VOT challenges (votchallenge.net), as their toolkit stores them.

ROOT/list.txt                       names, one a line
ROOT/<name>/groundtruth.txt         a region a line: rectangle, polygon, mask; see regions.py
           /sequence                key=value lines, channels.color=color/%08d.jpg among them
           /color/00000001.jpg ...
           /occlusion.tag           0 or 1 a line; shorter files mean 0 from there; also .label
before 2018 without `sequence`, the images beside groundtruth.txt
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from vt_models.datasets.images import numbered_frames
from vt_models.datasets.reader import Entry, SequenceDataset
from vt_models.datasets.regions import region_box
from vt_models.datasets.sequence import VideoSequence
from vt_models.datasets.text import check_count, read_flags, read_lines, read_names, read_text
from vt_models.errors import DatasetError
from vt_models.video.images import is_hidden

TAGS = (".tag", ".label")
CHANNELS = ("color", "ir", "depth")
DEFAULT_PATTERN = "%08d.jpg"


class VotDataset(SequenceDataset):
    """A VOT challenge. Boxes are the upright boxes around the regions.

    The target is absent where the region is empty, nan or a single number. `occluded` is any
    tag with occlusion in its name, `labels` holds all tags. The first of the channels color, ir and
    depth is read. No splits.
    """

    kind = "vot"

    def _find(self) -> list[Entry]:
        there = [path.parent.name for path in self.root.glob("*/groundtruth.txt")]
        names = read_names(
            self.root / "list.txt", there, "expected a dataset as the VOT toolkit stores it"
        )
        return [Entry(name, self.root / name) for name in names]

    def _sources(self, entry: Entry) -> list[Path]:
        fixed = [entry.place, entry.place / "groundtruth.txt", entry.place / "sequence"]
        return [*fixed, _folder(entry.place)[0], *_tag_files(entry.place)]

    def _load(self, entry: Entry) -> VideoSequence:
        folder, pattern = _folder(entry.place)
        frames = tuple(
            path
            for path in numbered_frames(folder, pattern)
            if path.suffix == PurePosixPath(pattern).suffix
        )
        truth = entry.place / "groundtruth.txt"
        lines = read_lines(truth, "a region a line")
        if len(lines) > len(frames):  # before a mask for each is unpacked
            check_count(truth, len(lines), "lines", frames)
        boxes = np.array(
            [region_box(f"{truth}:{number}", line) for number, line in enumerate(lines, start=1)]
        )
        check_count(truth, len(boxes), "lines", frames)
        tags = {path.stem: _tag(path, frames) for path in _tag_files(entry.place)}
        hidden = [flags for name, flags in tags.items() if "occlusion" in name]
        return VideoSequence(
            entry.name,
            frames,
            boxes,
            occluded=np.any([np.zeros(len(frames), np.bool_), *hidden], axis=0),
            attributes=tuple(sorted(name for name, flags in tags.items() if flags.any())),
            labels={name: flags.astype(np.float64) for name, flags in sorted(tags.items())},
        )


def _tag_files(directory: Path) -> list[Path]:
    found = (path for path in directory.iterdir() if path.suffix in TAGS)
    return sorted(path for path in found if not is_hidden(path))


def _tag(path: Path, frames: tuple[Path, ...]) -> NDArray[np.bool_]:
    flags = np.zeros(len(frames), np.bool_)
    if not path.stat().st_size:
        return flags
    values = read_flags(path)
    if len(values) > len(frames):
        check_count(path, len(values), "flags", frames)
    flags[: len(values)] = values
    return flags


def _folder(directory: Path) -> tuple[Path, str]:
    """Where the images are and how they are called.

    Raises:
        DatasetError: a line of `sequence` that is not key=value, or a channel outside of the
            directory.
    """
    properties = _properties(directory / "sequence")
    for channel in CHANNELS:
        pattern = properties.get(f"channels.{channel}")
        if pattern is None:
            continue
        parts = [part for part in pattern.replace("\\", "/").split("/") if part not in ("", ".")]
        if ".." in parts or pattern.startswith("/"):
            raise DatasetError(
                f"{directory / 'sequence'}: channels.{channel}={pattern}; expected a path below "
                f"{directory}"
            )
        has_pattern = bool(parts) and "%" in parts[-1]
        name = parts.pop() if has_pattern else DEFAULT_PATTERN
        if not re.fullmatch(r"[^%]*%(0\d)?d[^%]*", name):
            raise DatasetError(
                f"{directory / 'sequence'}: channels.{channel}={pattern!r:.80}; expected a name "
                f"such as {DEFAULT_PATTERN}"
            )
        return directory.joinpath(*parts), name
    color = directory / "color"
    return (color if color.is_dir() else directory), DEFAULT_PATTERN


def _properties(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    found = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith(("#", ";", "[")):
            continue
        key, sign, value = text.partition("=")
        if not sign:
            raise DatasetError(f"{path}:{number}: {line!r}; expected key=value")
        found[key.strip()] = value.strip()
    return found
