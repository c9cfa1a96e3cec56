# SPDX-License-Identifier: Apache-2.0
"""Files: read within limits, wherever they come from, and written whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

MOST_NAME_BYTES = 200
"""Of a file's name without its ending; file systems allow 255 in all."""
MOST_TEXT_BYTES = 64 * 2**20
"""Of a text file such as annotations; a million boxes take half of it."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class UnusableFileError(OSError):
    """A path that is not read from or written to, although the system would let us."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EINVAL, reason)

    def __str__(self) -> str:
        return str(self.strerror)


def open_regular(path: str | Path, most: int = MOST_TEXT_BYTES) -> BinaryIO:
    """Open a regular file of at most `most` bytes, or a link to one, for reading.

    Nothing else is opened: a pipe keeps its reader waiting for ever, and a device may have no end.

    Raises:
        OSError: missing, unreadable, no regular file (`UnusableFileError`), or larger.
    """
    # Before it is opened, as that alone may set a device to work, and after, as names can change.
    _require_regular(Path(path).stat(), most)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    file = os.fdopen(descriptor, "rb")
    try:
        _require_regular(os.fstat(descriptor), most)
    except OSError:
        file.close()
        raise
    return file


def read_bytes(path: str | Path, most: int = MOST_TEXT_BYTES) -> bytes:
    """Read a regular file of at most `most` bytes; errors as `open_regular`'s.

    No more is read than its size says: some files of /proc are empty by that and never end.
    """
    with open_regular(path, most) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def parse_json(text: str | bytes) -> Any:
    """Parse JSON of at most some hundred nested levels; NaN and infinities are numbers, too.

    Raises:
        ValueError: it is not; the message quotes nothing of the text.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} (line {error.lineno})") from None
    except UnicodeDecodeError:
        raise ValueError("not JSON: no text in UTF-8") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


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
    """Write a file whole or not at all; see `draft_of`.

    Args:
        path: where to; a previous file is replaced.
        data: all of it.
        parents: make missing folders.

    Raises:
        OSError: it cannot be written there.
    """
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    with draft_of(path) as draft:
        draft.write_bytes(data)


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """Give a place beside `path` to write to; at the end of the block it takes that name.

    The data are on the disk by then. Where the block fails the previous file stays, and the draft
    goes. After a kill the draft, `.STEM.partial.SUFFIX`, is left, and the next writer takes it
    over, so that there is never more than one; a second writer at the same time has another name.

    Raises:
        OSError: nothing can be written there, or `path` is a device, a pipe or a folder.
    """
    if path.exists():
        _require_regular(path.stat())
    draft = path.with_name(f".{path.stem}.partial{path.suffix}")
    descriptor = _claim(draft)
    if descriptor is None:
        mine = f"{os.getpid()}.{threading.get_ident()}"
        draft = path.with_name(f".{path.stem}.{mine}.partial{path.suffix}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        yield draft
        os.fsync(descriptor)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


@contextmanager
def draft_of_directory(directory: Path) -> Iterator[Path]:
    """Give an empty folder to fill; at the end of the block it takes the name `directory`.

    Files of a directory that is there already and that the new one has not are kept. Where the
    block fails nothing changes. After a kill the folder `.NAME.partial` is left beside it, which
    the next writer takes over; a directory that was about to be replaced comes back then.

    Raises:
        OSError: nothing can be written there, or another process writes the directory.
    """
    directory = directory.absolute()
    draft = directory.with_name(f".{directory.name}.partial")
    built, previous = draft / "new", draft / "previous"
    draft.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UnusableFileError(f"another process writes {directory}") from error
        try:
            if previous.exists() and not directory.exists():
                previous.rename(directory)
            shutil.rmtree(built, ignore_errors=True)
            built.mkdir()
            yield built
            if directory.exists():
                _copy_others(directory, built)
                directory.rename(previous)
            built.rename(directory)
        finally:
            # Whatever ended it, Ctrl-C between two names included.
            if previous.exists() and not directory.exists():
                previous.rename(directory)
            shutil.rmtree(draft, ignore_errors=True)
    finally:
        os.close(descriptor)


def _copy_others(directory: Path, built: Path) -> None:
    for item in directory.iterdir():
        if (built / item.name).exists():
            continue
        if item.is_dir():
            shutil.copytree(item, built / item.name)
        else:
            shutil.copy2(item, built / item.name)


def _claim(draft: Path) -> int | None:
    """Open and lock a draft; None if somebody else writes it, or nothing can be locked there."""
    while True:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(draft, flags, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                draft.unlink(missing_ok=True)
            return None
        # Between the two calls its writer may have been done: then it is the finished file by now.
        if draft.exists() and os.path.samestat(os.fstat(descriptor), draft.stat()):
            return descriptor
        os.close(descriptor)


def _require_regular(about: os.stat_result, most: int | None = None) -> None:
    if not stat.S_ISREG(about.st_mode):
        kind = _KINDS.get(stat.S_IFMT(about.st_mode), "something else")
        raise UnusableFileError(f"it is {kind}, not a regular file")
    if most is not None and about.st_size > most:
        raise UnusableFileError(f"it has {about.st_size:,} bytes; expected at most {most:,}")
