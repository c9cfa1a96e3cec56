# SPDX-License-Identifier: Apache-2.0
"""A list of videos: which of a dataset are evaluated, what kind each is, which training leaves out.

A text file with a header line and cells separated by tabs:

    video           kind            use
    uav123_car3     drone views     validate
    uav123_car3_b   drone views     withhold
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vt_models.errors import DatasetError
from vt_models.files import read_bytes

VALIDATE = "validate"
WITHHOLD = "withhold"
USES = (VALIDATE, WITHHOLD)
COLUMNS = ("video", "kind")
EXPECTED = "a header line with the columns video and kind, separated by tabs, then a line a video"


@dataclass(frozen=True)
class ListedVideo:
    """One row of a list.

    Attributes:
        video: name of a sequence, or the part before a dot of the names of several.
        kind: what is seen in it, any text.
        use: "validate": it is evaluated. "withhold": it is not, and training must not see it.
        line: where the row stands in its file, from 1.
    """

    video: str
    kind: str
    use: str
    line: int


@dataclass(frozen=True)
class VideoList:
    """The rows of a list file, in its order.

    Attributes:
        path: the file.
        rows: one or more, no video twice.
    """

    path: Path
    rows: tuple[ListedVideo, ...]

    @property
    def validation(self) -> tuple[str, ...]:
        """The videos to evaluate, in order."""
        return tuple(row.video for row in self.rows if row.use == VALIDATE)

    @property
    def names(self) -> tuple[str, ...]:
        """All videos, in order: what training must not see."""
        return tuple(row.video for row in self.rows)

    @cached_property
    def _by_video(self) -> dict[str, ListedVideo]:
        return {row.video: row for row in self.rows}

    @cached_property
    def _casefolded(self) -> frozenset[str]:
        return frozenset(row.video.casefold() for row in self.rows)

    def row_of(self, sequence: str) -> ListedVideo | None:
        """Return the row that stands for a sequence, None if no row does.

        A row stands for the sequence of its name, and for those whose name begins with it and a
        dot: the targets of one video. Of several such rows it is the one with the longest name, so
        that `clip.2` may have another kind or use than the rest of `clip`.
        """
        name = sequence
        while name not in self._by_video:
            name, dot, _ = name.rpartition(".")
            if not dot:
                return None
        return self._by_video[name]

    def concerns(self, video: str) -> bool:
        """Return whether a row stands for a video, or for one of its targets (`VIDEO.ID`).

        Upper and lower case count as equal: the same video may be called either way elsewhere.
        """
        name = video.casefold()
        parts = name.split(".")
        if any(".".join(parts[: n + 1]) in self._casefolded for n in range(len(parts))):
            return True
        return any(row.startswith(f"{name}.") for row in self._casefolded)

    def validation_sequences(self, sequences: Iterable[str]) -> dict[str, str]:
        """Choose the sequences of a dataset that are to be evaluated.

        Args:
            sequences: names of all sequences of the dataset.

        Returns:
            The kind of each chosen sequence by its name, in the order of the list, and of the
            dataset where a row stands for several.

        Raises:
            DatasetError: a row to validate that stands for no sequence, or no such row. Rows to
                withhold may be missing: they can belong to another part of the dataset.
        """
        found: dict[str, list[str]] = {video: [] for video in self.validation}
        if not found:
            raise DatasetError(
                f"{self.path}: no row to {VALIDATE}; leave `use` of some rows at {VALIDATE}"
            )
        for sequence in sequences:
            row = self.row_of(sequence)
            if row is not None and row.use == VALIDATE:
                found[row.video].append(sequence)
        for video, members in found.items():
            if not members:
                raise DatasetError(
                    f"{self.path}:{self._by_video[video].line}: no sequence {video!r} in the "
                    "dataset; correct the name or remove the row"
                )
        return {
            sequence: self._by_video[video].kind
            for video, members in found.items()
            for sequence in members
        }


def read_video_list(path: Path | str) -> VideoList:
    """Read a list of videos: UTF-8 text, tab-separated, with a header line.

    The columns `video` and `kind` must be there, `use` may be ("validate" without it), further ones
    are ignored; their order does not matter. Lines that are blank or start with # are skipped.

    Raises:
        DatasetError: no such file, not UTF-8, no row, a missing or repeated column, a wrong number
            of cells, an empty name or kind, a video listed twice, or an unknown use; names the file
            and the line.
    """
    path = Path(path)
    header: list[str] = []
    rows: dict[str, ListedVideo] = {}
    number = 0
    for number, line in enumerate(io.StringIO(_read_text(path), newline=None), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        where = f"{path}:{number}"
        cells = [cell.strip() for cell in line.split("\t")]
        if not header:
            header = cells
            missing = [column for column in COLUMNS if column not in cells]
            if missing:
                raise DatasetError(f"{where}: no column {', '.join(missing)}; expected {EXPECTED}")
            for column in (*COLUMNS, "use"):
                if (count := cells.count(column)) > 1:
                    raise DatasetError(f"{where}: column {column} {count} times; keep one")
            continue
        if len(cells) != len(header):
            raise DatasetError(
                f"{where}: {len(cells)} cells; expected {len(header)}, separated by tabs: "
                f"{', '.join(header)}"
            )
        values = dict(zip(header, cells, strict=True))
        row = ListedVideo(values["video"], values["kind"], values.get("use", VALIDATE), number)
        for column in COLUMNS:
            if not values[column]:
                raise DatasetError(f"{where}: {column} is empty; expected a text")
        if row.use not in USES:
            raise DatasetError(f"{where}: use {row.use!r}; expected {' or '.join(USES)}")
        if row.video in rows:
            raise DatasetError(
                f"{where}: video {row.video!r} is listed already in line {rows[row.video].line}; "
                "remove one of the two"
            )
        rows[row.video] = row
    if not rows:
        raise DatasetError(f"{path}:{number + 1}: no video; expected {EXPECTED}")
    return VideoList(path, tuple(rows.values()))


def _read_text(path: Path) -> str:
    try:
        data = read_bytes(path).removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; expected {EXPECTED}") from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DatasetError(f"{path}:{line}: not UTF-8; save the file as UTF-8 text") from error
