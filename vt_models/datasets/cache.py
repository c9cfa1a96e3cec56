# SPDX-License-Identifier: Apache-2.0
"""Remembers what was read from a dataset's annotation files, as JSON.

An entry is only as good as its key: the paths, sizes and modification times of everything it was
made from (the folder of the frames among them, which changes when a frame comes or goes). A key
that does not match, or a damaged entry, means reading again. Entries are written beside their
place and renamed, so that many processes can share a cache.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vt_models.files import parse_json, read_bytes, write_text

Value = TypeVar("Value")

MOST_BYTES = 2**31
FORMAT = 2
"""Part of every key; to be raised when a reader understands its files differently."""


def user_cache() -> Path:
    """Where the index is kept by default: `vt_models/datasets` in the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vt_models" / "datasets"


@dataclass(frozen=True)
class IndexCache:
    """A directory of entries; `directory` None: nothing is remembered."""

    directory: Path | None

    def get(
        self,
        name: str,
        sources: Sequence[Path],
        make: Callable[[], Any],
        use: Callable[[Any], Value],
    ) -> Value:
        """`use` of the entry called `name`, or of what `make` returns (and is remembered).

        A cache that cannot be written to is no error: reading again is always right.

        Args:
            name: of the entry; unique for a dataset, a split and a sequence.
            sources: files and directories that it is made from; one that is missing counts too.
            make: reads the sources; returns something that JSON can hold.
            use: makes the result out of that; an error in it means that the entry is damaged.
        """
        if self.directory is None:
            return use(make())
        path = self.directory / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
        key = [FORMAT, name, [_state(source) for source in sources]]
        try:
            found = parse_json(read_bytes(path, MOST_BYTES))
        except (OSError, ValueError):
            found = None
        if isinstance(found, dict) and found.get("key") == key:
            try:
                return use(found["value"])
            except (LookupError, TypeError, ValueError, AttributeError):
                path.unlink(missing_ok=True)
        value = make()
        content = {"key": key, "value": value}
        text = json.dumps(content, allow_nan=False, separators=(",", ":"))
        with suppress(OSError):  # without an index the next start reads the annotations again
            write_text(path, text, parents=True)
        return use(value)


def _state(path: Path) -> list[object]:
    try:
        status = path.stat()
    except OSError:
        return [str(path), None, None]
    return [str(path), status.st_size, status.st_mtime_ns]
