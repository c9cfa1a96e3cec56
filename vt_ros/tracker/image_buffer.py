# SPDX-License-Identifier: Apache-2.0
"""Images as they arrived, serialised; their decoding; and the past ones that may be asked for."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from vt_models.longterm.frame_buffer import FrameBuffer
from vt_models.video.image_messages import (
    MAX_MEGAPIXELS,
    CompressedReader,
    ConversionError,
    ImageReader,
    serialised_compressed_image,
    serialised_image,
)
from vt_ros.common.convert import NANOSECONDS, Pixels, serialised_header, stamp_nanoseconds
from vt_ros.common.errors import describe_error

ImageType = type[Image] | type[CompressedImage]


class UnreadableImageError(Exception):
    """An image that cannot be decoded.

    Attributes:
        header: of the message, as far as the bytes hold one.
    """

    def __init__(self, message: str, header: Header) -> None:
        super().__init__(message)
        self.header = header


@dataclass(frozen=True)
class BufferedImage:
    """A serialised image. Only those that are processed are ever decoded.

    Attributes:
        number: counts the images that have arrived.
        message: its bytes.
        received: `time.monotonic()` of its arrival.
        stamp: of its header, nanoseconds; 0 for none.
        message_type: what the bytes are.
    """

    number: int
    message: bytes
    received: float
    stamp: int = 0
    message_type: ImageType = Image


@dataclass(frozen=True)
class Frame:
    """A decoded image.

    Attributes:
        image: that it was decoded from.
        header: of the message, unchanged.
        encoding: of the message.
        pixels: (H, W, 3) uint8 RGB, valid until its decoder reads another image.
    """

    image: BufferedImage
    header: Header
    encoding: str
    pixels: Pixels

    @property
    def stamp(self) -> int:
        """Nanoseconds; 0 for none."""
        return stamp_nanoseconds(self.header.stamp)

    @property
    def seconds(self) -> float | None:
        """The stamp in seconds, as the long-term tracker takes it; None if there is none."""
        return self.stamp / NANOSECONDS if self.stamp else None


_LONGEST_FRAME_ID = 1024


class ImageDecoder:
    """Decodes serialised images; for one thread, as frames may share its buffer.

    Args:
        max_megapixels: a larger image is refused; may be exchanged at any time.
    """

    def __init__(self, max_megapixels: float = MAX_MEGAPIXELS) -> None:
        self.max_megapixels = max_megapixels
        self._raw, self._compressed = ImageReader(), CompressedReader()

    def decode(self, image: BufferedImage) -> Frame:
        """Decode an image.

        Raises:
            UnreadableImageError: the bytes are no message, or the message holds no image that can
                be read.
        """
        header = serialised_header(image.message)
        if len(header.frame_id) > _LONGEST_FRAME_ID:  # it would be in every message about the image
            raise UnreadableImageError(
                f"frame_id has {len(header.frame_id)} characters, expected {_LONGEST_FRAME_ID} at "
                "most",
                Header(stamp=header.stamp),
            )
        is_compressed = image.message_type is CompressedImage
        view = serialised_compressed_image if is_compressed else serialised_image
        try:
            message: Any = view(image.message)
            if message is None:  # no plain CDR, or damaged: ROS decides what it is
                message = deserialize_message(image.message, image.message_type)
                header = message.header
            if is_compressed:
                pixels = self._compressed.read(message, self.max_megapixels)
                return Frame(image, header, message.format, pixels)
            pixels = self._raw.read(message, self.max_megapixels)
            return Frame(image, header, message.encoding, pixels)
        except ConversionError as error:
            raise UnreadableImageError(str(error), header) from error
        except Exception as error:  # whatever the bytes are, they must not end the thread
            raise UnreadableImageError(describe_error(error), header) from error


class FrameBacklog:
    """An image that a target is being searched in, and the images since, until the search ends.

    It reaches further back than the frame buffer, with fewer images: when there are too many,
    every second one is dropped. It serves `vt_models.longterm.frame_buffer.catch_up` as a frame
    buffer does, and is safe between threads.

    Args:
        image: searched in. The images since are kept only if it has a stamp.
        recent: the frame buffer, which holds every recent image.
        max_images: kept beside the frame buffer's.
        max_bytes: of those.
    """

    def __init__(
        self,
        image: BufferedImage,
        recent: FrameBuffer[BufferedImage],
        max_images: int = 64,
        max_bytes: int = 1 << 27,
    ) -> None:
        self.image = image
        self._recent, self._max_images, self._max_bytes = recent, max_images, max_bytes
        self._lock = threading.Lock()
        self._kept = recent.after(image.stamp) if image.stamp > 0 else []
        self._stride = self._until_next = 1
        self._thin_out()

    def push(self, image: BufferedImage, has_jumped: bool = False) -> None:
        """Add an image that has arrived.

        Args:
            image: is left out if its stamp is not after the last one's.
            has_jumped: the clock of the stamps jumped back, so that the images begin anew.
        """
        with self._lock:
            if has_jumped:
                self._kept.clear()
            self._until_next -= 1
            if self._until_next > 0 or (self._kept and image.stamp <= self._kept[-1][0]):
                return
            self._kept.append((image.stamp, image))
            self._until_next = self._stride
            self._thin_out()

    def after(self, stamp: int) -> list[tuple[int, BufferedImage]]:
        """Return stamps and images newer than `stamp`, the oldest first, up to the newest."""
        with self._lock:
            kept = [entry for entry in self._kept if entry[0] > stamp]
        return kept + self._recent.after(kept[-1][0] if kept else stamp)

    def _thin_out(self) -> None:
        def is_over() -> bool:
            nbytes = sum(len(image.message) for _, image in self._kept)
            return len(self._kept) > self._max_images or nbytes > self._max_bytes

        while len(self._kept) > 1 and is_over():
            self._kept = self._kept[::2]
            self._stride *= 2


class ImageBuffer:
    """The recent images by stamp, and the backlogs of the searches that go on; thread-safe.

    Args:
        seconds: an image that is older than this before the newest is dropped, > 0.
        max_bytes: the oldest images are dropped beyond it, > 0.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self.recent: FrameBuffer[BufferedImage] = FrameBuffer(seconds, max_bytes)
        self._backlogs: list[FrameBacklog] = []
        self._lock = threading.Lock()

    def push(self, image: BufferedImage) -> None:
        """Add the newest image; one without a stamp cannot be asked for and is not kept."""
        if image.stamp <= 0:
            return
        with self._lock:
            has_jumped = self.recent.push(image.stamp, image, len(image.message))
            for backlog in self._backlogs:
                backlog.push(image, has_jumped)

    def hold(self, image: BufferedImage) -> FrameBacklog:
        """Keep the images since this one from now on, until `release`."""
        with self._lock:
            backlog = FrameBacklog(image, self.recent)
            if image.stamp > 0:
                self._backlogs.append(backlog)
        return backlog

    def release(self, backlog: FrameBacklog) -> None:
        """Keep the images of a backlog no longer."""
        with self._lock:
            self._backlogs = [held for held in self._backlogs if held is not backlog]
