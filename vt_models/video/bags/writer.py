# SPDX-License-Identifier: Apache-2.0
"""A tracked bag: the topics of a bag as they were, and what the tracker says about its images."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import cv2
from rosbags.interfaces import (
    Connection,
    MessageDefinitionFormat,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from vt_models.errors import InputError
from vt_models.video.bags.messages import ANNOTATIONS, BEARING, DETECTIONS, STATUS, Messages
from vt_models.video.bags.reader import COMPRESSED, Bag
from vt_models.video.image_messages import MessageHeader
from vt_models.video.sources import Frame

_LOG = logging.getLogger(__name__)

OUTPUTS = {
    "detections": DETECTIONS,
    "status": STATUS,
    "bearing": BEARING,
    "annotations": ANNOTATIONS,
}
"""Topics of one target below its name, and their types."""

IMAGES = "/image_raw/compressed"
"""Topic of the frames of a video or folder."""
_JPEG_QUALITY = 95

# Humble and Jazzy read it; from version 9 on QoS is written in words, which Humble does not know.
_VERSION = 8
# As the node's publishers have it; times of 0 mean that there is no limit.
_QOS = Qos(
    QosHistory.KEEP_LAST,
    10,
    QosReliability.RELIABLE,
    QosDurability.VOLATILE,
    QosTime(0, 0),
    QosTime(0, 0),
    QosLiveliness.AUTOMATIC,
    QosTime(0, 0),
    False,
)


class TrackedBagWriter:
    """Writes an MCAP file with the definition of every type inside.

    Without a bag there is nothing to copy: a video has its frames on `IMAGES`, as JPEG.

    The file appears under its name with `close`. As a context it is closed at the end, or removed
    where the context ends with an error.

    Args:
        path: of the file, ending in .mcap.
        bag: of which the topics are copied; None for a video or a folder.
        names: of the targets; a target's topics are `/NAME/status` and so on.

    Raises:
        InputError: it cannot be written there, or the bag has a topic of such a name.

    Attributes:
        messages: makes what `write` takes.
    """

    def __init__(self, path: Path, bag: Bag | None, names: list[str]) -> None:
        self.messages = Messages()
        self._path, self._is_closed = path, False
        taken = {one.topic for one in bag.connections} if bag else set()
        for name in names:
            topics = [f"/{name}/{output}" for output in OUTPUTS]
            clash = next((topic for topic in topics if topic in taken), None)
            if clash is not None:
                raise InputError(
                    f"the bag to copy has a topic {clash} already; give another --name than "
                    f"{name}, or the bag that it was tracked from"
                )
        self._stack = ExitStack()
        try:
            # A folder of its own beside the file: the writer wants to make the folder it writes to.
            folder = TemporaryDirectory(prefix=f".{path.stem}.", dir=path.parent)
            draft = Path(self._stack.enter_context(folder)) / path.stem
            self._draft = draft / path.name
            self._writer = Writer(draft, version=_VERSION, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
            self._stack.callback(self._abort)
            self._copied = self._declare_copies(bag) if bag else {}
            self._images = None if bag else self._declare(IMAGES, COMPRESSED)
            self._written = {
                (name, output): self._declare(f"/{name}/{output}", kind)
                for name in names
                for output, kind in OUTPUTS.items()
            }
        except OSError as error:
            self._stack.close()
            raise self._failed(error) from error

    def __enter__(self) -> TrackedBagWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._stack.close()

    def copy(self, connection: Connection, time: int, data: bytes) -> None:
        """Write a message of the bag as it is; nothing for a type without a definition.

        Raises:
            InputError: it cannot be written.
        """
        copied = self._copied.get(connection.id)
        if copied is not None:
            self._write(copied, time, data)

    def write(self, name: str, output: str, time: int, data: bytes) -> None:
        """Write a message about a target; `output` is one of `OUTPUTS`; errors as of `copy`."""
        self._write(self._written[name, output], time, data)

    def write_image(self, header: MessageHeader, time: int, pixels: Frame) -> None:
        """Write a frame of a video, (H, W, 3) uint8 RGB; of a bag nothing, they are copied."""
        if self._images is not None:
            bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
            data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))[1]
            message = self.messages.make(
                COMPRESSED,
                header=self.messages.header(header),
                format="rgb8; jpeg compressed bgr8",
                data=data.reshape(-1),
            )
            self._write(self._images, time, self.messages.serialise(message, COMPRESSED))

    def close(self) -> None:
        """Finish the file.

        Raises:
            InputError: it cannot be written: the disk is full, for instance.
        """
        if self._is_closed:
            return
        self._is_closed = True
        with self._stack:
            try:
                self._writer.close()
                descriptor = os.open(self._draft, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                self._draft.replace(self._path)
            except OSError as error:
                raise self._failed(error) from error

    def _abort(self) -> None:
        """Close what was not finished; it goes with its folder."""
        # On a full disk closing fails, too, after the failure that was already raised.
        with suppress(OSError):
            self._writer.abort()

    def _declare(self, topic: str, kind: str) -> Connection:
        types, profiles = self.messages.types, [_QOS]
        return self._writer.add_connection(
            topic, kind, typestore=types, offered_qos_profiles=profiles
        )

    def _write(self, connection: Connection, time: int, data: bytes) -> None:
        try:
            self._writer.write(connection, time, data)
        except OSError as error:
            raise self._failed(error) from error

    def _declare_copies(self, bag: Bag) -> dict[int, Connection]:
        """Declare the topics of the bag; return those of the new one by the numbers of the old."""
        copied: dict[int, Connection] = {}
        declared: dict[tuple[str, str, str], Connection] = {}
        for one in bag.connections:
            key = one.topic, one.msgtype, repr(one.ext)
            if key not in declared:
                found = self._definition_of(one)
                if found is None:
                    continue
                definition, digest = found
                declared[key] = self._writer.add_connection(
                    one.topic,
                    one.msgtype,
                    msgdef=definition,
                    rihs01=digest,
                    serialization_format=one.ext.serialization_format,
                    offered_qos_profiles=one.ext.offered_qos_profiles,
                )
            copied[one.id] = declared[key]
        return copied

    def _definition_of(self, connection: Connection) -> tuple[str, str] | None:
        """Return the text of a definition and its RIHS01 digest; None where nobody knows it."""
        known, name = self.messages.types, connection.msgtype
        definition = connection.msgdef
        if definition.format == MessageDefinitionFormat.NONE or not definition.data:
            if name not in known.types:
                _LOG.warning(
                    "%s is not copied: the bag has no definition of its type %s, and no other tool "
                    "could read it",
                    connection.topic,
                    name,
                )
                return None
            return known.generate_msgdef(name, ros_version=2)[0], known.hash_rihs01(name)
        if connection.digest:
            return definition.data, connection.digest
        parse: Any = get_types_from_msg
        if definition.format == MessageDefinitionFormat.IDL:
            parse = lambda text, _: get_types_from_idl(text)  # noqa: E731
        store = get_typestore(Stores.EMPTY)
        try:
            store.register(parse(definition.data, name))
            return definition.data, store.hash_rihs01(name)
        except Exception as error:  # of whatever type: the definition is a stranger's
            _LOG.warning(
                "%s is not copied: the definition of its type %s cannot be read: %s",
                connection.topic,
                name,
                error,
            )
            return None

    def _failed(self, reason: object) -> InputError:
        return InputError(f"a bag cannot be written to {self._path}: {reason}")
