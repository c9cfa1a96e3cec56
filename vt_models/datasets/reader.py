# SPDX-License-Identifier: Apache-2.0
"""What the readers of all datasets of videos have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from vt_models.datasets.cache import IndexCache, user_cache
from vt_models.datasets.sequence import VideoSequence
from vt_models.errors import DatasetError

CacheChoice: TypeAlias = "Path | str | bool"
"""True: the user's cache directory. False: none. A path: there."""

SHOWN_NAMES = 20


@dataclass(frozen=True)
class Entry:
    """Where a sequence is, known before anything of it has been read.

    Attributes:
        name: of the sequence.
        place: its directory or its file of boxes, as the reader likes.
        part: what else is known of it: which target or range of that place, or its class; or "".
    """

    name: str
    place: Path
    part: str = ""


class SequenceDataset(Sequence[VideoSequence]):
    """A directory of annotated videos; `names` has the names of its sequences, in order.

    Opening one only finds the names. The annotations of a sequence are read when it is indexed (and
    remembered in the index cache), an image when `VideoSequence.read_frame` is called. An instance
    holds paths and no open file, so it may be pickled or forked to any number of workers.

    A reader of one dataset says what its `kind` and `splits` are, and how to find and load.
    """

    kind: ClassVar[str]
    splits: ClassVar[tuple[str, ...]] = ()
    is_cached: ClassVar[bool] = True

    def __init__(
        self,
        root: Path | str,
        names: Iterable[str] | None = None,
        *,
        split: str | None = None,
        cache: CacheChoice = True,
        needs_start: bool = True,
    ) -> None:
        """Find the sequences below `root`.

        Args:
            root: directory of the dataset.
            names: the sequences to keep, in this order; None for all.
            split: one of `splits`; None for the reader's default, see docs/datasets.md.
            cache: where the index is kept, False for nowhere.
            needs_start: refuse a sequence whose target is absent in the first frame; a tracker
                cannot begin there, training does not mind.

        Raises:
            DatasetError: no directory at `root`, an unknown split, no sequence, or not one of
                `names`.
        """
        self.root = Path(root).absolute() if self.is_cached else Path(root)
        if not self.root.is_dir():
            raise DatasetError(f"{self.root}: no such directory; expected a folder of sequences")
        if split is not None and split not in self.splits:
            raise DatasetError(
                f"{self.kind} has no split {split!r}; "
                f"expected {', '.join(self.splits) or 'none to be named: it has no splits'}"
            )
        self.split = split
        self._needs_start = needs_start
        directory = user_cache() if cache is True else Path(cache) if cache else None
        self._cache = IndexCache(directory if self.is_cached else None)
        entries = {entry.name: entry for entry in self._find()}
        chosen = entries if names is None else _select(self.root, entries, names)
        self.names = list(chosen)
        self._entries = [entries[name] for name in chosen]

    @abstractmethod
    def _find(self) -> list[Entry]:
        """The sequences of the split in their order; at least one, or DatasetError."""

    @abstractmethod
    def _load(self, entry: Entry) -> VideoSequence:
        """Read the annotations of a sequence and list its frames, without decoding an image."""

    def _sources(self, entry: Entry) -> list[Path]:
        """Every file and directory that `_load` looks at."""
        return [entry.place]

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> VideoSequence: ...

    @overload
    def __getitem__(self, index: slice) -> list[VideoSequence]: ...

    def __getitem__(self, index: int | slice) -> VideoSequence | list[VideoSequence]:
        """Read a sequence, or those of a slice; DatasetError names what is wrong, and where."""
        if isinstance(index, slice):
            return [self._read(entry) for entry in self._entries[index]]
        return self._read(self._entries[index])

    def record(self, index: int) -> Mapping[str, Any]:
        """What is known of a sequence, as plain values: the fastest way to read many.

        Returns:
            `name`, `frames` (names seen from `root`, with /), `boxes` (a list of four numbers or
            None for each frame), `absent` and `occluded` (numbers of frames), `language`,
            `category`, `classes`, `attributes`, `labels`.

        Raises:
            DatasetError: what is wrong, and where; a target that is absent in the first frame is
                not.
        """
        entry = self._entries[index]
        return self._cache.get(
            self._key(entry),
            self._sources(entry) if self.is_cached else [],
            make=lambda: _packed(self._load(entry), self.root),
            use=_complete,
        )

    def _key(self, entry: Entry) -> str:
        return f"{self.kind}\n{self.root}\n{self.split}\n{entry.name}"

    def _start_of(self, entry: Entry) -> str:
        """Where a sequence's first box is: FILE:LINE."""
        return f"{entry.place / 'groundtruth.txt' if entry.place.is_dir() else entry.place}:1"

    def _read(self, entry: Entry) -> VideoSequence:
        if self._cache.directory is None:
            sequence = self._load(entry)
        else:
            sequence = self._cache.get(
                self._key(entry),
                self._sources(entry),
                make=lambda: _packed(self._load(entry), self.root),
                use=lambda content: _unpacked(content, self.root),
            )
        if self._needs_start and not sequence.has_start:
            raise absent_start(self._start_of(entry))
        return sequence


def _select(root: Path, found: Iterable[str], names: Iterable[str]) -> list[str]:
    there, wanted = list(found), list(dict.fromkeys(names))
    known = set(there)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        shown = ", ".join(there[:SHOWN_NAMES])
        more = f" and {len(there) - SHOWN_NAMES} more" if len(there) > SHOWN_NAMES else ""
        raise DatasetError(f"{root}: no sequence {', '.join(unknown)}; it has {shown}{more}")
    return wanted


def without_boxes(
    boxes: NDArray[np.float64], absent: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Boxes that are nan where flags say that the target is absent, and flags where boxes are nan.

    Args:
        boxes: (N, 4).
        absent: (N,).
    """
    absent = absent | np.isnan(boxes).any(axis=1)
    return np.where(absent[:, None], np.nan, boxes), absent


def first_box_only(
    path: Path, boxes: NDArray[np.float64], frames: Sequence[Path]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Boxes and flags of a sequence whose truth is kept secret but for the first frame.

    Raises:
        DatasetError: more than one box.
    """
    if len(boxes) != 1:
        raise DatasetError(
            f"{path}: {len(boxes)} lines for {len(frames)} images in {frames[0].parent}; "
            "expected one for each image, or a single one where only the first is annotated"
        )
    filled = np.full((len(frames), 4), np.nan)
    filled[0] = boxes[0]
    return filled, np.zeros(len(frames), np.bool_)


def absent_start(where: str) -> DatasetError:
    """The error of a sequence whose target is absent in the first frame; `where` is FILE:LINE."""
    return DatasetError(f"{where}: target absent; a tracker needs a box in the first frame")


def _packed(sequence: VideoSequence, root: Path) -> dict[str, Any]:
    """A sequence as JSON: frames relative to the root, nan as null."""
    return {
        "name": sequence.name,
        "frames": [frame.relative_to(root).as_posix() for frame in sequence.frames],
        "boxes": [None if np.isnan(box).any() else box.tolist() for box in sequence.boxes],
        "language": sequence.language,
        "absent": np.flatnonzero(sequence.absent).tolist(),
        "occluded": np.flatnonzero(sequence.occluded).tolist(),
        "attributes": list(sequence.attributes),
        "category": sequence.category,
        "classes": list(sequence.classes),
        "labels": {name: values.tolist() for name, values in sequence.labels.items()},
    }


def _complete(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The content of an entry, which must be that of as many frames as boxes."""
    if len(content["boxes"]) != len(content["frames"]) or not content["frames"]:
        raise ValueError
    return content


def _unpacked(content: Mapping[str, Any], root: Path) -> VideoSequence:
    count = len(content["frames"])
    nothing = [np.nan] * 4
    return VideoSequence(
        name=content["name"],
        frames=tuple(root / frame for frame in content["frames"]),
        boxes=np.array([nothing if box is None else box for box in content["boxes"]], np.float64),
        language=content["language"],
        absent=_flags(content["absent"], count),
        occluded=_flags(content["occluded"], count),
        attributes=tuple(content["attributes"]),
        category=content["category"],
        classes=tuple(content["classes"]),
        labels={name: np.array(values, np.float64) for name, values in content["labels"].items()},
    )


def _flags(frames: list[int], count: int) -> NDArray[np.bool_]:
    flags = np.zeros(count, np.bool_)
    flags[frames] = True
    return flags
