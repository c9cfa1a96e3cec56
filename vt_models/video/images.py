# SPDX-License-Identifier: Apache-2.0
"""Image files: which files are images, in what order they come, and how they are decoded."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.video.declared_size import HeaderError, declared_size_of_file, has_end
from vt_models.video.jpeg import decode_jpeg

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MOST_IMAGE_BYTES = 2**28
MOST_PIXELS = 2**27
"""Of an image in a file, 400 MB once it is decoded."""

_DECLARING = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM")
_EXIF, _EXIF_ORIENTATION = b"Exif\0\0", 0x0112
UPRIGHT, _MOST_TURNED = 1, 8
"""EXIF's orientations: of an image that is decoded as it is stored, and the last of the others."""


def is_hidden(path: Path) -> bool:
    """Return whether a file is none of the user's: `._NAME`, which macOS puts beside each."""
    return path.name.startswith(".")


def is_image(path: Path) -> bool:
    """Return whether a file is an image by its name."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path)


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Return a sorting key by which a2 comes before a10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name)
    return [(int(part), "") if part[0] in "0123456789" else (-1, part) for part in parts]


def decode_image(
    data: bytes,
    mode: int = cv2.IMREAD_COLOR,
    on_damage: Callable[[str], object] | None = None,
) -> NDArray[np.uint8]:
    """Decode the contents of an image file to (H, W, 3) uint8 BGR, turned as its EXIF says.

    Args:
        data: all of it.
        mode: one of OpenCV's.
        on_damage: told what is wrong inside a JPEG, which is decoded all the same; None: such an
            image is refused. Without simplejpeg damage is not noticed.

    Raises:
        ValueError: it is no whole image, or one of more than `MOST_PIXELS`.
    """
    try:
        size = declared_size_of_file(data)
    except HeaderError as error:
        raise ValueError(f"not a decodable image ({len(data)} bytes): it {error}") from error
    if size.width * size.height > MOST_PIXELS:
        raise ValueError(
            f"declares {size.width}x{size.height} pixels; at most {MOST_PIXELS:,} are decoded"
        )
    if data.startswith(_DECLARING):
        if size.bits != 8 and mode == cv2.IMREAD_COLOR:
            # OpenCV would keep the upper 8: a thermal image is black by that.
            raise ValueError(f"{size.bits} bits a sample; scale it to 8 over the range it uses")
        if not has_end(data, size):
            raise ValueError(f"truncated JPEG or PNG ({len(data)} bytes, no end marker)")
    image = None
    if mode == cv2.IMREAD_COLOR:
        image, damage = decode_jpeg(data, "BGR")
        if damage:
            sentence = f"is damaged inside ({damage}): parts of it may be grey or shifted"
            if on_damage is None:
                raise ValueError(sentence)
            on_damage(sentence)
        if exif_orientation(data) != UPRIGHT:
            image = None  # only OpenCV turns it
    if image is None:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
        except cv2.error as error:
            raise ValueError(f"not a decodable image: {error}") from error
    if image is None:
        raise ValueError(f"not a decodable image ({len(data)} bytes)")
    return image  # type: ignore[no-any-return, unused-ignore]


def exif_orientation(data: bytes) -> int:
    """Return how the image of a JPEG file is turned when it is decoded: `UPRIGHT` for not at all.

    Exif 2.32, section 4.6.4, tag Orientation: 3 is half a turn, 6 and 8 are quarters, the others
    are mirrored.
    """
    start = data.find(_EXIF, 0, 2**16)
    order = {b"II": "<", b"MM": ">"}.get(data[start + 6 : start + 8]) if start >= 0 else None
    if order is None:
        return UPRIGHT
    header = start + 6
    try:
        (offset,) = struct.unpack_from(f"{order}I", data, header + 4)
        (count,) = struct.unpack_from(f"{order}H", data, header + offset)
        for number in range(count):
            place = header + offset + 2 + 12 * number
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", data, place)
            if tag == _EXIF_ORIENTATION:
                return int(value) if UPRIGHT < value <= _MOST_TURNED else UPRIGHT
    except struct.error:
        pass
    return UPRIGHT
