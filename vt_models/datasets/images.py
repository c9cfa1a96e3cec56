# SPDX-License-Identifier: Apache-2.0
"""Image files: listing the frames of a video, decoding frames and masks."""

from __future__ import annotations

import itertools
import logging
import struct
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.errors import DatasetError
from vt_models.files import open_regular, read_bytes
from vt_models.video.images import (
    MOST_IMAGE_BYTES,
    UPRIGHT,
    decode_image,
    exif_orientation,
    is_image,
)

_LOG = logging.getLogger(__name__)

MOST_ARCHIVE_BYTES = 2**36
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_COLOUR_TYPE = 25
"""Position of IHDR's colour type in a PNG file."""
PALETTE = 3


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode an image file to (H, W, 3) uint8 RGB.

    Args:
        path: the file, or `ARCHIVE.zip/NAME` for a member of an archive.

    Raises:
        DatasetError: missing, empty, truncated (JPEG) or otherwise undecodable file; names it.
    """
    data = _read_bytes(path)
    image = _decode(path, data, cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def image_orientation(path: Path) -> int:
    """Return `exif_orientation` of a frame; `UPRIGHT` for one that is no JPEG file.

    Raises:
        DatasetError: it cannot be read.
    """
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        return UPRIGHT
    return exif_orientation(_read_bytes(path))


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Decode a PNG whose pixels are numbers of objects, (H, W) uint8.

    The numbers are the indices of a palette image, or the values of a grey one.

    Raises:
        DatasetError: as `read_image`, or an image that is neither.
    """
    data = _read_bytes(path)
    if data[: len(PNG_START)] == PNG_START and data[PNG_COLOUR_TYPE] == PALETTE:
        data = _with_grey_palette(data)
    image = _decode(path, data, cv2.IMREAD_UNCHANGED)
    if image.dtype != np.uint8 or (image.ndim == 3 and np.ptp(image[..., :3], axis=2).any()):
        raise DatasetError(f"{path}: colours; expected a palette or grey image of object numbers")
    return np.asarray(image if image.ndim == 2 else image[..., 0], np.uint8)


def _with_grey_palette(data: bytes) -> bytes:
    """The same PNG with colour i = (i, i, i), so that a decoder of colours returns the indices."""
    grey = bytes(value for index in range(256) for value in (index, index, index))
    parts, position = [PNG_START], len(PNG_START)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        if kind == b"PLTE":
            body = kind + grey[:length]
            parts += [struct.pack(">I", length), body, struct.pack(">I", zlib.crc32(body))]
        elif kind != b"tRNS":
            parts.append(data[position : position + 12 + length])
        position += 12 + length
    return b"".join(parts)


def _read_bytes(path: Path) -> bytes:
    try:
        if path.parent.suffix.lower() == ".zip":
            with open_regular(path.parent, MOST_ARCHIVE_BYTES) as file:
                archive = zipfile.ZipFile(file)
                if archive.getinfo(path.name).file_size > MOST_IMAGE_BYTES:
                    raise DatasetError(f"{path}: more than {MOST_IMAGE_BYTES:,} bytes unpacked")
                return archive.read(path.name)
        return read_bytes(path, MOST_IMAGE_BYTES)
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from error


def _decode(path: Path, data: bytes, mode: int) -> NDArray[np.uint8]:
    try:
        return decode_image(data, mode, lambda damage: _LOG.warning("%s %s", path, damage))
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from error


def numbered_frames(directory: Path, pattern: str = "%06d.jpg") -> tuple[Path, ...]:
    """The images of a directory whose names are frame numbers, in their order.

    Args:
        directory: where they are; other files beside them do not matter.
        pattern: how they are usually called, for the messages.

    Raises:
        DatasetError: no such directory, no image in it, a name that is no number, or a number that
            is missing between others.
    """
    return _consecutive(directory, list_images(directory, pattern), pattern)


def archived_frames(archive: Path, pattern: str = "%d.jpg") -> tuple[Path, ...]:
    """The same for a ZIP archive; the paths are `ARCHIVE.zip/NAME`.

    Raises:
        DatasetError: as `numbered_frames`, or no readable archive.
    """
    try:
        with open_regular(archive, MOST_ARCHIVE_BYTES) as file:
            names = [name for name in zipfile.ZipFile(file).namelist() if "/" not in name]
    except (OSError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{archive}: cannot be read as an archive: {error}") from error
    images = [archive / name for name in names if is_image(Path(name))]
    if not images:
        raise DatasetError(f"{archive}: no image in it; expected the frames as {pattern}")
    return _consecutive(archive, images, pattern)


def list_images(directory: Path, pattern: str) -> list[Path]:
    """The image files of a directory, in no order.

    Raises:
        DatasetError: no such directory, or no image in it.
    """
    try:
        found = list(directory.iterdir())
    except NotADirectoryError:
        found = []
    except FileNotFoundError as error:
        raise DatasetError(
            f"{directory}: no such directory; expected the frames as {pattern}"
        ) from error
    except OSError as error:
        raise DatasetError(f"{directory}: cannot be listed: {error}") from error
    images = [path for path in found if is_image(path)]
    if not images:
        raise DatasetError(f"{directory}: no image in it; expected the frames as {pattern}")
    return images


def _consecutive(place: Path, images: list[Path], pattern: str) -> tuple[Path, ...]:
    for path in images:
        if not (path.stem.isascii() and path.stem.isdigit()):
            example = pattern % 1
            raise DatasetError(f"{path}: expected a frame number as the name, such as {example}")
    images.sort(key=lambda path: int(path.stem))
    for before, after in itertools.pairwise(images):
        if int(after.stem) != int(before.stem) + 1:
            raise DatasetError(
                f"{place}: {before.name} is followed by {after.name}, not by the next number"
            )
    return tuple(images)
