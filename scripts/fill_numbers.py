#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fill the numbers of README.md and docs/ from benchmarks/results: fill_numbers.py [--check].

A number that a benchmark measured stands between two comments:

    <!-- number accuracy.json trackers.csrt.total.ao .3f -->0.644<!-- /number -->

file below benchmarks/results, keys down to the value (a slash instead of the point where a key has
points; keys may have spaces), and a format: one of Python's (`.3f`), or `percent`. Standard
library only.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NUMBER = re.compile(r"<!-- number (\S+) ([^<>]+?) (\S+) -->(.*?)<!-- /number -->")


class NumberError(Exception):
    """A mark that leads nowhere; the text names the place."""


def formatted(value: Any, style: str) -> str:
    """Returns a value as text: `percent` of a fraction is "84 %", the rest is Python's."""
    if style == "percent":
        return f"{100 * float(value):.0f} %"
    return format(value, style)


def lookup(results: Path, file: str, keys: str) -> object:
    """Returns the value behind the keys of a result file.

    Raises:
        NumberError: There is no such file or key.
    """
    path = results / file
    if not path.is_file():
        raise NumberError(f"there is no {path.name} in {results.name}/")
    value = json.loads(path.read_text(encoding="utf-8"))
    for key in keys.split("/" if "/" in keys else "."):
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise NumberError(f"{file} has no {key!r} on the way to {keys}") from None
    return value


def filled(text: str, results: Path) -> str:
    """Returns the text with every marked number as the result files have it."""

    def replace(match: re.Match[str]) -> str:
        file, keys, style, _ = match.groups()
        value = formatted(lookup(results, file, keys), style)
        return f"<!-- number {file} {keys} {style} -->{value}<!-- /number -->"

    return NUMBER.sub(replace, text)


def pages(root: Path) -> list[Path]:
    """Returns the files that may hold marks."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit status 1: --check found a number that is not the measured one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, name what differs")
    check = parser.parse_args(arguments).check
    status = 0
    for page in pages(ROOT):
        text = page.read_text(encoding="utf-8")
        try:
            new = filled(text, ROOT / "benchmarks" / "results")
        except NumberError as error:
            print(f"{page.relative_to(ROOT)}: {error}", file=sys.stderr)
            return 2
        if new != text:
            print(f"{page.relative_to(ROOT)}: {'differs' if check else 'filled'}")
            status = 1 if check else 0
            if not check:
                page.write_text(new, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
