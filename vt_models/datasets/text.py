# SPDX-License-Identifier: Apache-2.0
"""Text files of annotations: boxes, flags, lists of names. Every error names file and line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import DatasetError
from vt_models.files import MOST_TEXT_BYTES, read_bytes


@dataclass(frozen=True)
class BoxFormat:
    """What a line of a dataset's box file may say.

    Attributes:
        nan: four nan stand for an absent target; otherwise nan is an error.
        empty: a width or height of 0 or less stands for one; otherwise that is an error.
    """

    nan: bool = True
    empty: bool = False


FOLDER_BOXES = BoxFormat(nan=True, empty=False)
ABSENT = (float("nan"),) * 4


def read_text(path: Path, most: int = MOST_TEXT_BYTES) -> str:
    """Read a UTF-8 text file of at most `most` bytes; DatasetError names one that is no such."""
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read as text: {error}") from error


def read_lines(path: Path, expected: str) -> list[str]:
    """Lines of a text file without empty ones at its end.

    Raises:
        DatasetError: an unreadable file, or nothing in it; says what was `expected`.
    """
    lines = read_text(path).rstrip().splitlines()
    if not lines:
        raise DatasetError(f"{path}: empty; expected {expected}")
    return lines


def read_boxes(path: Path, form: BoxFormat = FOLDER_BOXES) -> NDArray[np.float64]:
    """Read a file of boxes: `x,y,w,h` a line, separated by commas, tabs or blanks.

    Returns:
        (N, 4) float64 array, N >= 1, rows of nan where the target is absent.

    Raises:
        DatasetError: an unreadable or empty file, or a line that is not such a box; names them.
    """
    lines = read_lines(path, "a line x,y,w,h for each image")
    boxes = []
    for number, line in enumerate(lines, start=1):
        box = parse_numbers(line)
        if len(box) != 4:
            raise DatasetError(f"{path}:{number}: {line!r}; expected four numbers x,y,w,h")
        boxes.append(check_box(f"{path}:{number}", line, box, form))
    return np.array(boxes)


def check_box(where: str, line: str, box: tuple[float, ...], form: BoxFormat) -> tuple[float, ...]:
    """A box as the format allows it, four nan for an absent target.

    Raises:
        DatasetError: numbers that are not finite, or a width or height of 0 or less.
    """
    hint = ", or nan four times (target absent)" if form.nan else ""
    if np.isnan(box).all() and form.nan:
        return box
    if not np.isfinite(box).all():
        raise DatasetError(f"{where}: {line!r}; expected finite numbers{hint}")
    if box[2] <= 0 or box[3] <= 0:
        if form.empty:
            return ABSENT
        raise DatasetError(f"{where}: {line!r}; expected width and height above 0{hint}")
    return box


def parse_numbers(line: str) -> tuple[float, ...]:
    """Numbers separated by commas, tabs or blanks; () if something else is among them."""
    try:
        return tuple(float(field) for field in line.replace(",", " ").split())
    except ValueError:
        return ()


def read_numbers(path: Path, low: float, high: float) -> NDArray[np.float64]:
    """Read one number a frame, each on its own line or all in one, separated by commas or blanks.

    Raises:
        DatasetError: an unreadable or empty file, or something that is not within [low, high].
    """
    expected = f"numbers from {low:g} to {high:g}, one for each frame"
    values: list[float] = []
    for number, line in enumerate(read_lines(path, expected), start=1):
        row = parse_numbers(line)
        if not row or not all(low <= value <= high for value in row):
            raise DatasetError(f"{path}:{number}: {shorten(line)}; expected {expected}")
        values += row
    return np.array(values)


def read_flags(path: Path) -> NDArray[np.bool_]:
    """Read one flag a frame, 0 or 1, laid out as in `read_numbers`; same errors."""
    values = read_numbers(path, 0, 1)
    wrong = np.flatnonzero((values != 0) & (values != 1))
    if wrong.size:
        raise DatasetError(
            f"{path}: {values[wrong[0]]:g} for frame {wrong[0] + 1}; expected 0 or 1"
        )
    return values == 1


def read_attributes(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Read a line of flags, one for each name; the names whose flag is 1, none without the file.

    Raises:
        DatasetError: another number of flags, or one that is neither 0 nor 1.
    """
    if not path.is_file():
        return ()
    line = read_text(path).strip()
    flags = parse_numbers(line)
    if len(flags) != len(names) or not set(flags) <= {0.0, 1.0}:
        raise DatasetError(f"{path}:1: {line!r}; expected {len(names)} flags 0 or 1")
    return tuple(name for name, flag in zip(names, flags, strict=True) if flag)


def read_sentence(path: Path) -> str | None:
    """The first line of a text file, None where there is no file or nothing in it.

    A character that is no UTF-8 becomes U+FFFD: a curly quote of another encoding in a sentence is
    no reason to leave out a video.

    Raises:
        DatasetError: a file that cannot be read.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig", errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read as text: {error}") from error
    return text.splitlines()[0].strip() if text else None


def read_names(path: Path, known: Iterable[str], remedy: str) -> list[str]:
    """Read a list file: one name of a sequence a line.

    Args:
        path: the file.
        known: names of the sequences that are there.
        remedy: what to do if the file is missing.

    Raises:
        DatasetError: a missing or empty file, or a name that is not known; names the line.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; {remedy}")
    there, names = set(known), []
    for number, line in enumerate(read_lines(path, "one name of a sequence a line"), start=1):
        name = line.strip()
        if name not in there:
            raise DatasetError(
                f"{path}:{number}: {name!r}; expected the name of a sequence beside the list"
            )
        names.append(name)
    return names


def check_count(path: Path, count: int, what: str, frames: Sequence[Path]) -> None:
    """Compare a number of lines or values with the number of frames.

    Raises:
        DatasetError: they differ; names the file, both numbers and where the images are.
    """
    if count != len(frames):
        raise DatasetError(
            f"{path}: {count} {what} for {len(frames)} images in {frames[0].parent}; "
            "expected one for each image"
        )


def shorten(line: str) -> str:
    """Return a line for a message: quoted, and cut where it is long."""
    return repr(line if len(line) <= 60 else line[:57] + "...")
