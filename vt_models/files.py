# SPDX-License-Identifier: Apache-2.0
"""Write files whole or not at all."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_text(path: Path, text: str, *, parents: bool = False) -> None:
    """Write a UTF-8 file; see `write_bytes`."""
    write_bytes(path, text.encode(), parents=parents)


def write_bytes(path: Path, data: bytes, *, parents: bool = False) -> None:
    """Write beside the file's place, flush to the disk, then rename.

    A kill or a full disk leaves the previous file, or none, and nothing else.

    Args:
        path: where to; a previous file is replaced.
        data: all of it.
        parents: make missing folders.

    Raises:
        OSError: it cannot be written there.
    """
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
