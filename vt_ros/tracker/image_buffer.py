# SPDX-License-Identifier: Apache-2.0
"""Images as they arrive, serialised; the frames in them; and those since a frame that waits."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image

from vt_ros.common.convert import NANOSECONDS, CompressedReader, ImageReader, stamp_nanoseconds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from std_msgs.msg import Header

    from vt_models.longterm.frame_buffer import FrameRing


@dataclass(frozen=True)
class Arrival:
    """A serialised image; `number` counts arrivals, `received` is time.monotonic()."""

    number: int
    message: bytes
    received: float


@dataclass(frozen=True)
class Frame:
    """An image that was read.

    Attributes:
        arrival: it came as.
        header: of the message, unchanged.
        encoding: of the message.
        pixels: (H, W, 3) uint8 RGB, valid until its decoder reads another image.
    """

    arrival: Arrival
    header: Header
    encoding: str
    pixels: NDArray[np.uint8]

    @property
    def stamp(self) -> int:
        """Nanoseconds; 0 for none."""
        return stamp_nanoseconds(self.header.stamp)

    @property
    def seconds(self) -> float | None:
        """The stamp as the target keeper takes it; None if there is none."""
        return self.stamp / NANOSECONDS if self.stamp else None


class Decoder:
    """Serialised images to frames; for one thread."""

    def __init__(self, message_type: type[Image] | type[CompressedImage]) -> None:
        self._type = message_type
        self._reader = CompressedReader() if message_type is CompressedImage else ImageReader()

    def deserialise(self, arrival: Arrival) -> Image | CompressedImage:
        """The message; RuntimeError if the bytes are none."""
        return deserialize_message(arrival.message, self._type)

    def decode(self, arrival: Arrival, image: Image | CompressedImage) -> Frame:
        """The frame in a message; ConversionError if it cannot be read."""
        encoding = image.format if isinstance(image, CompressedImage) else image.encoding
        return Frame(arrival, image.header, encoding, self._reader.read(image))

    def frame(self, arrival: Arrival) -> Frame:
        """Both steps."""
        return self.decode(arrival, self.deserialise(arrival))


class Trail:
    """The frames since one that something is being looked for in, however long that takes.

    Reaches further back than the ring, with fewer frames: when there are too many, every second
    one is given up. As good as a ring for `vt_models.longterm.frame_buffer.catch_up`; safe between threads.

    Args:
        ring: has the last frames, all of them.
        stamp: of the frame, nanoseconds.
        most: frames held beside the ring's.
        max_bytes: of those.
    """

    def __init__(
        self, ring: FrameRing[Arrival], stamp: int, most: int = 64, max_bytes: int = 1 << 27
    ) -> None:
        self._ring, self._most, self._max_bytes = ring, most, max_bytes
        self._lock = threading.Lock()
        self._kept = ring.after(stamp)
        self._stride = self._until_next = 1
        self._thin_out()

    def push(self, stamp: int, arrival: Arrival) -> None:
        """Take a frame that has arrived; a stamp that goes back begins anew, as in the ring."""
        with self._lock:
            if self._kept and stamp < self._kept[-1][0]:
                self._kept.clear()
            self._until_next -= 1
            if self._until_next > 0 or (self._kept and stamp == self._kept[-1][0]):
                return
            self._kept.append((stamp, arrival))
            self._until_next = self._stride
            self._thin_out()

    def after(self, stamp: int) -> list[tuple[int, Arrival]]:
        """Stamps and frames newer than `stamp`, oldest first, up to the newest there is."""
        with self._lock:
            kept = [entry for entry in self._kept if entry[0] > stamp]
        return kept + self._ring.after(kept[-1][0] if kept else stamp)

    def _thin_out(self) -> None:
        while len(self._kept) > 1 and self._is_over():
            self._kept = self._kept[::2]
            self._stride *= 2

    def _is_over(self) -> bool:
        nbytes = sum(len(arrival.message) for _, arrival in self._kept)
        return len(self._kept) > self._most or nbytes > self._max_bytes
