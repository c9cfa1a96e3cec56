# SPDX-License-Identifier: Apache-2.0
"""Annotations in one file, one JSON object a line, of which all wrong lines are named at once."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from vt_models.errors import DatasetError
from vt_models.files import parse_json, read_bytes

ANNOTATIONS = "annotations.jsonl"
MOST_BYTES = 2**31
"""Of the file; five million annotated images take half of it."""
SHOWN_PROBLEMS = 20

Item = TypeVar("Item")


def read_annotations(root: Path, parse: Callable[[dict[str, Any], str], Item]) -> list[Item]:
    """Read `annotations.jsonl` of a folder; blank lines and a byte order mark are skipped.

    Args:
        root: the folder that holds the file.
        parse: makes an item of the object of a line and of its FILE:LINE; it raises ValueError,
            which says what is wrong with the object.

    Raises:
        DatasetError: the file is missing or not UTF-8, or some lines are wrong; the message names
            each problem with FILE:LINE.
    """
    path = root / ANNOTATIONS
    try:
        # Not splitlines(): U+2028 and its like may stand inside a string of a JSON line.
        lines = read_bytes(path, MOST_BYTES).decode("utf-8-sig").split("\n")
    except FileNotFoundError as error:
        raise DatasetError(f"{path} does not exist; give the folder that holds it") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    items, problems = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = _object(line)
            items.append(parse(record, where))
        except ValueError as error:
            problems.append(f"{where}: {error}")
        except (OverflowError, RecursionError, OSError, RuntimeError) as error:
            # Numbers of 400 digits, 5,000 nested lists, names longer than a file's may be, links
            # that lead in a circle.
            problems.append(f"{where}: cannot be used ({type(error).__name__}: {error})")
    if problems:
        more = len(problems) - SHOWN_PROBLEMS
        named = [*problems[:SHOWN_PROBLEMS], *([f"and {more} more lines"] if more > 0 else [])]
        raise DatasetError("\n".join(named))
    return items


def count_in(record: dict[str, Any], key: str) -> int:
    """Return a number above 0 of an object; ValueError if it holds something else."""
    value = record.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f'"{key}" is {shown(value)}; expected a whole number above 0')
    return value


def shown(value: object) -> str:
    """Return a value for a message: its `repr`, cut where it is long."""
    return reprlib.repr(value)


def is_box(value: Any) -> bool:
    """Return whether a value of an object is a list of four finite numbers."""
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(
            isinstance(number, (int, float))
            and not isinstance(number, bool)
            and math.isfinite(number)
            for number in value
        )
    )


def _object(line: str) -> dict[str, Any]:
    record = parse_json(line)
    if not isinstance(record, dict):
        raise ValueError(f"{type(record).__name__} instead of an object")  # noqa: TRY004
    return record
