# SPDX-License-Identifier: Apache-2.0
"""Write files whole or not at all."""

from __future__ import annotations

import hashlib
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


MOST_NAME_BYTES = 200
"""Of a file's name without its ending; file systems allow 255 in all."""


def file_name(name: str) -> str:
    """Return a name for a file that stands for any text.

    Separators, control characters and what is no Unicode become %XX, everything else stays; a name
    that is too long is cut and ends with a digest of the whole.
    """
    safe = "".join(
        char
        if char.isprintable() and char not in '/\\%"'
        else "".join(f"%{byte:02X}" for byte in char.encode(errors="surrogatepass"))
        for char in name
    )
    if safe in ("", ".", ".."):
        return f"%{safe}"
    if len(safe.encode()) <= MOST_NAME_BYTES:
        return safe
    digest = hashlib.sha256(safe.encode()).hexdigest()[:16]
    return f"{safe.encode()[: MOST_NAME_BYTES - 17].decode(errors='ignore')}-{digest}"


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
