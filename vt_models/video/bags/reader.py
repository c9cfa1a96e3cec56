# SPDX-License-Identifier: Apache-2.0
"""A bag as images with their stamps, beside everything else that was recorded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_typestore

from vt_models.errors import InputError
from vt_models.geometry.bearing import CameraInfo
from vt_models.video.bags.paths import storage_files
from vt_models.video.bags.storage import BagFiles
from vt_models.video.image_messages import (
    MAX_MEGAPIXELS,
    CompressedReader,
    ConversionError,
    ImageReader,
    MessageHeader,
    Pixels,
    serialised_compressed_image,
    serialised_header,
    serialised_image,
)

_LOG = logging.getLogger(__name__)

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
NANOSECONDS = 1_000_000_000

_MOST_NAMED = 12  # topics in one message
_LONGEST_FRAME_ID = 1024  # as in the node


class BagError(InputError):
    """A bag that cannot be read, or has no such images; the message names it and the remedy."""


@dataclass(frozen=True)
class BagImage:
    """An image message of a bag, not decoded yet.

    Attributes:
        number: counts the images of its topic, from 0.
        time: when it was recorded, nanoseconds.
        header: of the message.
        decode: returns (H, W, 3) uint8 RGB, valid until the next image is decoded, or raises
            `ConversionError`.
    """

    number: int
    time: int
    header: MessageHeader
    decode: Callable[[], Pixels]


class Bag:
    """A rosbag2 recording: a folder with `metadata.yaml`, an `.mcap` or a `.db3` file.

    Args:
        path: of it.
        topic: of the images; None where only one topic has images.
        max_megapixels: a larger image is refused by the size that it declares.
        needs_images: False: no topic is chosen, and `messages` is all that can be asked for.

    Raises:
        BagError: it cannot be read, or it has no such topic, or several and none is given.

    Attributes:
        topic: of the images.
        count: number of images.
        seconds: between the first and the last message of the bag.
        connections: of all topics, as `rosbags` describes them.
    """

    def __init__(
        self,
        path: Path,
        topic: str | None = None,
        max_megapixels: float = MAX_MEGAPIXELS,
        *,
        needs_images: bool = True,
    ) -> None:
        self.path = path
        self._max_megapixels = max_megapixels
        self._types = get_typestore(Stores.ROS2_JAZZY)
        self._raw, self._compressed = ImageReader(), CompressedReader()
        place = _place_of(path)
        with self._refused("cannot be read"):
            self._files = BagFiles(place)
            self._files.open()
        try:
            with self._refused("cannot be read"):
                self.connections: list[Connection] = list(self._files.connections)
                self.seconds = self._files.duration / NANOSECONDS
            self.topic = self._image_topic(topic) if needs_images else ""
        except BagError:
            self._files.close()
            raise
        of_images = [one for one in self.connections if one.topic == self.topic]
        self.count = sum(one.msgcount for one in of_images)

    def __enter__(self) -> Bag:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the files."""
        self._files.close()

    @property
    def fps(self) -> float:
        """Images a second, over the time that the bag spans; 0 where that cannot be told."""
        return (self.count - 1) / self.seconds if self.count > 1 and self.seconds > 0 else 0.0

    @property
    def camera_info_topic(self) -> str:
        """Where the calibration of the images is, by the custom of drivers and image_transport."""
        base = self.topic.removesuffix("/compressed")
        return f"{base.rpartition('/')[0]}/camera_info"

    def messages(self, topics: Sequence[str] = ()) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield connection, time of recording in nanoseconds and bytes, in order of time.

        Args:
            topics: those alone; none: all.

        Raises:
            BagError: what follows cannot be read.
        """
        wanted = [one for one in self.connections if not topics or one.topic in topics]
        if not wanted:
            return
        with self._refused("is damaged"):
            yield from self._files.messages(wanted)

    def images(self) -> Iterator[BagImage]:
        """Yield the images in order of recording; errors as of `messages`."""
        for number, (connection, time, data) in enumerate(self.messages([self.topic])):
            yield self.image(number, connection, time, data)

    def image(self, number: int, connection: Connection, time: int, data: bytes) -> BagImage:
        """Make an image of one of `messages`; `number` counts those of the topic."""
        header = serialised_header(data)
        if len(header.frame_id) > _LONGEST_FRAME_ID:
            header = MessageHeader(header.sec, header.nanosec)
        return BagImage(number, time, header, lambda: self._decode(data, connection.msgtype))

    def camera_info(self, data: bytes) -> CameraInfo | None:
        """Read a message of `camera_info_topic`; None for one that is damaged, which is logged."""
        try:
            found: CameraInfo = self._types.deserialize_cdr(data, CAMERA_INFO)
        except Exception as error:  # of whatever type: the bytes are a stranger's
            _LOG.warning("%s: a message on %s: %s", self.path, self.camera_info_topic, error)
            return None
        return found

    def first_camera_info(self) -> CameraInfo | None:
        """Return the first calibration of the images; None where the bag has none to be read."""
        data = self.first_camera_info_data()
        return None if data is None else self.camera_info(data)

    def first_camera_info_data(self) -> bytes | None:
        """Return the bytes of the first calibration of the images; None where there is none."""
        for connection, _, data in self.messages([self.camera_info_topic]):
            if connection.msgtype == CAMERA_INFO:
                return data
        return None

    def _decode(self, data: bytes, message_type: str) -> Pixels:
        length = len(serialised_header(data).frame_id)
        if length > _LONGEST_FRAME_ID:  # it would be in every message about the image
            raise ConversionError(
                f"frame_id has {length} characters, expected {_LONGEST_FRAME_ID} at most"
            )
        view = serialised_compressed_image if message_type == COMPRESSED else serialised_image
        message: Any = view(data)
        if message is None:  # no plain CDR, or damaged
            try:
                message = self._types.deserialize_cdr(data, message_type)
            except Exception as error:  # of whatever type: the bytes are a stranger's
                raise ConversionError(f"the message cannot be read: {error}") from error
        if message_type == COMPRESSED:
            return self._compressed.read(message, self._max_megapixels)
        return self._raw.read(message, self._max_megapixels)

    def _image_topic(self, wanted: str | None) -> str:
        """Choose the topic of the images."""
        types = {one.topic: one.msgtype for one in self.connections}
        images = sorted(name for name, kind in types.items() if kind in (IMAGE, COMPRESSED))
        if wanted is not None:
            if wanted in images:
                return self._with_images(wanted)
            if wanted in types:
                raise BagError(
                    f"{self.path}: {wanted} is of type {types[wanted]}; expected {IMAGE} or "
                    f"{COMPRESSED}{_named('; images are in ', images)}"
                )
            raise BagError(
                f"{self.path} has no topic {wanted}{_named('; images are in ', images)}"
                + ("" if images else _named("; its topics: ", sorted(types)))
            )
        filled = [name for name in images if self._count_of(name)]
        if len(filled) > 1:
            raise BagError(
                f"{self.path} has images in {len(filled)} topics, {_names(filled)}; choose one "
                "with --topic, or the parameter topic of camera_node"
            )
        if not filled and not images:
            shown = [f"{name} ({kind})" for name, kind in sorted(types.items())]
            raise BagError(
                f"{self.path} has no images: none of its topics is of type {IMAGE} or {COMPRESSED}"
                + (_named("; it has ", shown) or "; it has no topics at all")
            )
        return self._with_images((filled or images)[0])

    def _with_images(self, topic: str) -> str:
        if not self._count_of(topic):
            raise BagError(f"{self.path}: nothing was recorded on {topic}")
        return topic

    def _count_of(self, topic: str) -> int:
        return sum(one.msgcount for one in self.connections if one.topic == topic)

    @contextmanager
    def _refused(self, what: str) -> Iterator[None]:
        """Turn whatever `rosbags` raises into a sentence that names the bag."""
        try:
            yield
        except (BagError, GeneratorExit):
            raise
        except Exception as error:  # of whatever type: the bytes are a stranger's
            reason = str(error).rstrip(".") or type(error).__name__
            if isinstance(error, KeyError | IndexError | AttributeError | AssertionError):
                reason = f"{type(error).__name__} {reason}"
            raise BagError(f"{self.path} {what}: {reason}") from error


def _place_of(path: Path) -> Path:
    """Return what to open: the path itself, or the one file of a folder without metadata.

    Raises:
        BagError: a kind of bag that is not read, an empty file, or a folder that says too little.
    """
    if path.is_file():
        if path.suffix == ".bag":
            raise BagError(
                f"{path} is a bag of ROS 1; convert it: rosbags-convert --src {path} --dst "
                f"{path.with_suffix('')}"
            )
        if path.suffix == ".zstd":
            raise BagError(f"{path} is compressed as a whole; decompress it first: unzstd {path}")
        if not path.stat().st_size:
            raise BagError(f"{path} is empty, 0 bytes: nothing was recorded, or not written yet")
        return path
    if not path.exists():
        raise BagError(f"{path} does not exist; give a bag: a folder, an .mcap or a .db3 file")
    if not path.is_dir():
        raise BagError(f"{path} is neither a file nor a folder; record it into a file first")
    if (path / "metadata.yaml").is_file():
        return path
    files = storage_files(path)
    if len(files) != 1:
        raise BagError(
            f"{path} has {len(files)} files and no metadata.yaml that says in what order; "
            f"`ros2 bag reindex {path}` makes it"
        )
    return _place_of(files[0])


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMED])
    return f"{shown} and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else shown


def _named(before: str, names: Sequence[str]) -> str:
    return before + _names(names) if names else ""
