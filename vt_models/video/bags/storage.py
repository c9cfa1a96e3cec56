# SPDX-License-Identifier: Apache-2.0
"""The files of a bag, read within limits: a bag may come from a stranger.

`rosbags` reserves what a chunk or a message declares, and decompresses whatever comes out of it:
1 MB of Zstandard can be 32 GB. The readers here are its own, but for how they decompress.
"""

from __future__ import annotations

import heapq
import sqlite3
import struct
import sys
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Protocol

import yaml
from lz4.frame import LZ4FrameDecompressor
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.errors import ReaderError
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.rosbag2.storage_mcap import ChunkInfo, McapReader
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

from vt_models.files import read_bytes

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor
else:
    from backports.zstd import ZstdDecompressor

METADATA = "metadata.yaml"
MOST_METADATA_BYTES = 4 * 2**20
MOST_MESSAGE_BYTES = 2**29
"""Of a message or of a chunk of them; the largest image that is decoded has half of it."""
MOST_WAITING_BYTES = 2**30
"""Of chunks that overlap in time, which are read together to be put in order."""

_LAST_TIME = 2**64 - 1  # nanoseconds, that MCAP can say
_LAST_TIME_OF_ROS = 2**63 - 1
_MAGIC = b"\x89MCAP0\r\n"
_FOOTER_BYTES = 37
_MESSAGE, _CHUNK = 0x05, 0x06

_Message = tuple[Connection, int, bytes]


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def decompress(data: bytes, compression: str, most: int = MOST_MESSAGE_BYTES) -> bytes:
    """Decompress a chunk or a message to at most `most` bytes.

    Args:
        data: all of it.
        compression: "zstd", "lz4" or "" for none.
        most: what it declares, or what is allowed.

    Raises:
        ReaderError: another compression, damaged, or it is more.
    """
    if not compression:
        return data
    decompressor: _Decompressor
    if compression == "zstd":
        decompressor = ZstdDecompressor()
    elif compression == "lz4":
        decompressor = LZ4FrameDecompressor()
    else:
        raise ReaderError(f"its compression is {compression!r}; expected zstd or lz4")
    found = decompressor.decompress(data, max_length=most)
    # The end of the data may lie behind the last byte of what they hold.
    if not decompressor.eof and decompressor.decompress(b"", max_length=1):
        raise ReaderError(f"a compressed part holds more than the {most:,} bytes it may have")
    if not decompressor.eof:
        raise ReaderError("a compressed part is cut off")
    return found


class _McapFile(McapReader):
    """An MCAP file with an index; one chunk is held at a time, unless they overlap in time."""

    def open(self) -> None:
        with self.path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise ReaderError("it is no MCAP file: it does not begin as one")
            self._file_bytes = file.seek(0, 2)
            if self._file_bytes < _FOOTER_BYTES + len(_MAGIC):
                raise ReaderError(f"it is cut off; {self._recovery()}")
            file.seek(-len(_MAGIC), 2)
            if file.read() != _MAGIC:
                raise ReaderError(
                    "it is cut off: its end is missing, as when a recorder is killed or a disk is "
                    f"full; {self._recovery()}"
                )
        super().open()

    def _recovery(self) -> str:
        return (
            f"`mcap recover {self.path} -o WHOLE.mcap` (the mcap command line tool) keeps what is "
            "whole"
        )

    def meta_scan(self) -> None:
        if self.statistics is not None and not self.statistics.message_count:
            return  # a bag on which nothing was recorded lists no topics
        raise ReaderError(f"it has no index; {self._recovery()}")

    def messages(
        self, connections: Collection[Connection], start: int | None = None, stop: int | None = None
    ) -> Iterator[_Message]:
        """Yield connection, nanoseconds and bytes, in order of time; `start` and `stop` as there.

        Raises:
            ReaderError: damaged, or beyond the limits.
        """
        low, high = start or 0, _LAST_TIME + 1 if stop is None else stop
        wanted = {one.id: one for one in connections}
        if not self.chunks:
            yield from self._unchunked(wanted, low, high)
            return
        # (time, place, ...): what has one time stays in the order in which it was written.
        waiting: list[tuple[int, int, Connection, bytes]] = []
        held = place = 0
        for chunk in sorted(self.chunks, key=lambda one: one.message_start_time):
            while waiting and waiting[0][0] < chunk.message_start_time:
                time, _, connection, data = heapq.heappop(waiting)
                held -= len(data)
                yield connection, time, data
            if not wanted.keys() & chunk.message_index_offsets.keys():
                continue
            for channel, time, data in _messages_in(self._read_chunk(chunk)):
                if channel in wanted and low <= time < high:
                    heapq.heappush(waiting, (time, place, wanted[channel], data))
                    place, held = place + 1, held + len(data)
            if held > MOST_WAITING_BYTES:
                raise ReaderError(
                    f"more than {MOST_WAITING_BYTES:,} bytes of chunks overlap in time; "
                    "`mcap sort FILE -o SORTED.mcap` puts them in order"
                )
        while waiting:
            time, _, connection, data = heapq.heappop(waiting)
            yield connection, time, data

    def _read_chunk(self, chunk: ChunkInfo) -> bytes:
        """Return the records of a chunk (MCAP specification, section Chunk)."""
        assert self.bio is not None  # noqa: S101 - it is open
        size = chunk.uncompressed_size
        if size > MOST_MESSAGE_BYTES or chunk.compressed_size > self._file_bytes:
            raise ReaderError(
                f"a chunk declares {size:,} bytes, {chunk.compressed_size:,} compressed; expected "
                f"at most {MOST_MESSAGE_BYTES:,}, and no more than the file has"
            )
        # Op code, length, two times, size, checksum; then the compression and the length again.
        self.bio.seek(chunk.chunk_start_offset + 9 + 28 + 4 + len(chunk.compression) + 8)
        records = decompress(self.bio.read(chunk.compressed_size), chunk.compression, size)
        if len(records) != size:
            raise ReaderError(f"a chunk declares {size:,} bytes and has {len(records):,}")
        return records

    def _unchunked(self, wanted: dict[int, Connection], low: int, high: int) -> Iterator[_Message]:
        """Yield the messages of a file that was written without chunks, in the order of writing."""
        assert self.bio is not None  # noqa: S101 - it is open
        self.bio.seek(self.data_start)
        while self.bio.tell() < self.data_end:
            code, size = struct.unpack("<BQ", self.bio.read(9))
            if code == _CHUNK:
                raise ReaderError(f"its chunks are not in its index; {self._recovery()}")
            if code != _MESSAGE:
                self.bio.seek(size, 1)
                continue
            if not _MESSAGE_HEAD.size <= size <= MOST_MESSAGE_BYTES:
                raise ReaderError(f"a message declares {size:,} bytes")
            channel, _, time, _ = _MESSAGE_HEAD.unpack(self.bio.read(_MESSAGE_HEAD.size))
            data = self.bio.read(size - _MESSAGE_HEAD.size)
            if channel in wanted and low <= time < high:
                yield wanted[channel], time, data


_MESSAGE_HEAD = struct.Struct("<HIQQ")  # channel, sequence, time of logging, of publishing


def _messages_in(records: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield channel, time and data of the message records of a chunk."""
    place = 0
    while place < len(records):
        code, size = struct.unpack_from("<BQ", records, place)
        place += 9
        if size > len(records) - place:
            raise ReaderError("a record goes on behind the end of its chunk")
        if code == _MESSAGE:
            channel, _, time, _ = _MESSAGE_HEAD.unpack_from(records, place)
            yield channel, time, records[place + _MESSAGE_HEAD.size : place + size]
        place += size


class _SqliteFile(Sqlite3Reader):
    """A file of SQLite."""

    def open(self) -> None:
        if any(char in str(self.path) for char in "?#%"):  # it is opened by an address
            raise ReaderError("its path has one of ? # % in it; rename it")
        # Opened as `immutable`, the file alone is read: what is in those is not.
        for log in (Path(f"{self.path}-wal"), Path(f"{self.path}-journal")):
            if log.is_file() and log.stat().st_size:
                raise ReaderError(
                    f"a part of it is in {log.name}: its recorder was killed, or still runs; once "
                    f"it has ended, `sqlite3 {self.path} .tables` puts the two "
                    "together"
                )
        # A view could be a query without end under the name of a table.
        address = f"file:{self.path}?mode=ro&immutable=1"
        with closing(sqlite3.connect(address, uri=True)) as database:
            odd = database.execute(
                "SELECT name FROM sqlite_master WHERE type != 'table' AND type != 'index'"
            ).fetchone()
        if odd is not None:
            raise ReaderError(f"it has {odd[0]!r}, which is no table; a bag has tables alone")
        super().open()


class _Folder(DirectoryReader):
    """A folder with `metadata.yaml`, and the files that are named there."""

    STORAGE_PLUGINS: ClassVar[Any] = {"mcap": _McapFile, "sqlite3": _SqliteFile}
    metadata: Any

    def open(self) -> None:
        path = Path(str(self.path)) / METADATA
        try:
            found = yaml.safe_load(read_bytes(path, MOST_METADATA_BYTES))
        except yaml.YAMLError as error:
            raise ReaderError(f"its {METADATA} is no YAML: {error}") from error
        about = found.get("rosbag2_bagfile_information") if isinstance(found, dict) else None
        if not isinstance(about, dict):
            raise ReaderError(
                f"its {METADATA} has no rosbag2_bagfile_information; `ros2 bag reindex` makes it "
                "anew"
            )
        if str(about.get("compression_mode", "")).lower() == "file":
            raise ReaderError(
                "its files are compressed as a whole; decompress one (`unzstd FILE.db3.zstd`), and "
                "give that instead of the folder"
            )
        super().open()
        # Messages are given compressed, as they are: `decompress` has a limit.
        self.compression = str(about.get("compression_format") or "")
        if self.metadata.compression_mode != "message":
            self.compression = ""
        self.metadata = self.metadata._replace(compression_mode=None)


class BagFiles(Reader):
    """`rosbags.rosbag2.Reader` of a folder, an .mcap or a .db3 file, within limits."""

    STORAGE_PLUGINS: ClassVar[Any] = {"dir": _Folder, ".mcap": _McapFile, ".db3": _SqliteFile}

    def messages(
        self,
        connections: Collection[Connection] = (),
        start: int | None = None,
        stop: int | None = None,
    ) -> Iterator[_Message]:
        """Yield connection, nanoseconds and bytes of each message, in order of time.

        Raises:
            ReaderError: damaged, or beyond the limits.
        """
        compression = getattr(self.storage, "compression", "")
        for connection, time, data in super().messages(connections, start, stop):
            if compression:
                data = decompress(data, compression)  # noqa: PLW2901
            if len(data) > MOST_MESSAGE_BYTES:
                raise ReaderError(f"a message has {len(data):,} bytes")
            if not 0 <= time <= _LAST_TIME_OF_ROS:
                raise ReaderError(f"a message was recorded at {time} ns, which is no time of ROS")
            yield connection, time, data
