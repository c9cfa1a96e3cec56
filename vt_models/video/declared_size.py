# SPDX-License-Identifier: Apache-2.0
"""The size that a compressed image declares, read before anything is decoded.

A decoder reserves what a file declares: 691 bytes of JPEG can ask for 6 GB. So a file is decoded
only after its header was read here, and a format whose header is not read here is not decoded.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

# Each scan goes through the whole image, so 90 kB could ask for an hour. A progressive JPEG has 10.
MOST_JPEG_SCANS = 100
# Writers put 8 kB or more into each.
_MOST_PNG_CHUNKS = 2**16
# What packing adds to what it cannot shorten, with each chunk's share.
_PNG_OVERHEAD = 2**12
# By the colour type (PNG specification, 11.2.2): grey, RGB, palette, grey and RGB with alpha.
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}

_JPEG, _PNG, _BMP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM"
# Of the first start-of-frame segment (ITU-T T.81, table B.1); C4, C8 and CC are something else.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
# What the pixels of a file begin with, and what ends it; padding of any length may follow.
_ENDS = ((_JPEG, b"\xff\xda", b"\xff\xd9"), (_PNG, b"IDAT", b"IEND"))
_PNM = re.compile(rb"P[1-6]\s")
_PNM_SIZE = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+(\d{1,10})(?:\s|#[^\n]*\n)+(\d{1,10})\s")
_LONGEST_PNM_HEADER = 2**12
_TIFF_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
# ImageWidth and ImageLength, TileWidth and TileLength (TIFF 6.0): a decoder reserves both.
_TIFF_WIDTHS, _TIFF_HEIGHTS, _TIFF_SHORT = (256, 322), (257, 323), 3
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})


class HeaderError(ValueError):
    """A header that declares no size, or what cannot be decoded; the message is a clause."""


@dataclass(frozen=True)
class DeclaredSize:
    """What a header declares.

    Attributes:
        width, height: pixels.
        bits: of each sample.
        end: where in the file the header was read to.
    """

    width: int
    height: int
    bits: int = 8
    end: int = field(default=0, compare=False)


def declared_size(data: bytes) -> DeclaredSize:
    """Read the header of a JPEG, PNG or BMP file.

    Raises:
        HeaderError: another format, a header without a size, or a JPEG of too many scans.
    """
    try:
        if data.startswith(_JPEG):
            return _of_jpeg(data)
        if data.startswith(_PNG):
            return _of_png(data)
        if data.startswith(_BMP):
            return _of_bmp(data)
    except (struct.error, IndexError) as error:
        raise HeaderError("is cut off within its header") from error
    raise HeaderError("is neither JPEG nor PNG; publish one of these")


def declared_size_of_file(data: bytes) -> DeclaredSize:
    """Read the header of an image file, which may also be PNM, TIFF or WebP.

    Raises:
        HeaderError: another format, a header without a size, or a JPEG of too many scans.
    """
    try:
        if _PNM.match(data):
            return _of_pnm(data)
        if data[:4] in _TIFF_ORDERS:
            return _of_tiff(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _of_webp(data)
    except (struct.error, IndexError) as error:
        raise HeaderError("is cut off within its header") from error
    if not data.startswith((_JPEG, _PNG, _BMP)):
        raise HeaderError("is none of JPEG, PNG, BMP, PNM, TIFF and WebP")
    return declared_size(data)


def has_end(data: bytes, declared: DeclaredSize) -> bool:
    """Return whether the end of a file is there: a decoder fills what is missing with grey.

    Args:
        data: of a JPEG or PNG file; any other has an end.
        declared: by it.
    """
    for begin, pixels, end in _ENDS:
        if data.startswith(begin):
            # A thumbnail in the header has an end of its own.
            start = data.find(pixels, declared.end)
            return start >= 0 and data.find(end, start) >= 0
    return True


def _of_jpeg(data: bytes) -> DeclaredSize:
    """Walk from segment to segment as libjpeg does, to the first start of frame."""
    scans = data.count(bytes((0xFF, _START_OF_SCAN)))
    if scans > MOST_JPEG_SCANS:
        raise HeaderError(f"has {scans} scans, more than {MOST_JPEG_SCANS}")
    position = 2
    while True:
        while data[position] != 0xFF:
            position += 1
        while data[position] == 0xFF:
            position += 1
        marker = data[position]
        position += 1
        if marker in _START_OF_FRAME:
            bits, height, width = struct.unpack_from(">BHH", data, position + 2)
            return DeclaredSize(width, height, bits, position)
        if marker in (_START_OF_SCAN, _END_OF_IMAGE):
            raise HeaderError("declares no size before its data")
        if marker and marker not in _WITHOUT_LENGTH:
            (length,) = struct.unpack_from(">H", data, position)
            position += max(length, 2)


def _of_png(data: bytes) -> DeclaredSize:
    """Read the header, and check that no more is packed than an image of this size takes.

    libpng unpacks all there is: 1 MB can hold a gigabyte behind the last row.
    """
    kind, width, height, bits, colours = struct.unpack_from(">4sIIBB", data, 12)
    if kind != b"IHDR":
        raise HeaderError("does not begin with its header (IHDR)")
    row_bytes = (width * bits * _PNG_CHANNELS.get(colours, 1) + 7) // 8 + 1
    position, packed = len(_PNG), 0
    for _ in range(_MOST_PNG_CHUNKS):
        if position + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IEND":
            break
        packed += length if kind == b"IDAT" else 0
        position += length + 12
    else:
        raise HeaderError(f"has more than {_MOST_PNG_CHUNKS} chunks")
    if packed > 2 * height * row_bytes + _PNG_OVERHEAD:
        raise HeaderError(f"packs {packed} bytes, more than {width}x{height} pixels take")
    return DeclaredSize(width, height, max(bits, 8))


def _of_bmp(data: bytes) -> DeclaredSize:
    (header,) = struct.unpack_from("<I", data, 14)
    if header == 12:  # OS/2
        return DeclaredSize(*struct.unpack_from("<HH", data, 18))
    width, height = struct.unpack_from("<ii", data, 18)
    return DeclaredSize(abs(width), abs(height))


def _of_pnm(data: bytes) -> DeclaredSize:
    found = _PNM_SIZE.match(data[:_LONGEST_PNM_HEADER])
    if found is None:
        raise HeaderError("declares no size")
    return DeclaredSize(int(found[1]), int(found[2]))


def _of_tiff(data: bytes) -> DeclaredSize:
    """Read the first directory: the others are not decoded."""
    order = _TIFF_ORDERS[data[:4]]
    (directory,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, directory)
    width = height = 0
    for number in range(count):
        place = directory + 2 + 12 * number
        tag, kind = struct.unpack_from(f"{order}HH", data, place)
        (value,) = struct.unpack_from(
            f"{order}{'H' if kind == _TIFF_SHORT else 'I'}", data, place + 8
        )
        width = max(width, value) if tag in _TIFF_WIDTHS else width
        height = max(height, value) if tag in _TIFF_HEIGHTS else height
    return DeclaredSize(width, height)


def _of_webp(data: bytes) -> DeclaredSize:
    """Read the first chunk: a canvas (VP8X), or the only image."""
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return DeclaredSize(width, height)
    if kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        return DeclaredSize((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1)
    width, height = struct.unpack_from("<HH", data, 26)
    return DeclaredSize(width & 0x3FFF, height & 0x3FFF)
