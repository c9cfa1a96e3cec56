# SPDX-License-Identifier: Apache-2.0
"""Image files: what is one, in what order they come, and what is refused before it is decoded."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.video.declared_size import HeaderError, declared_size_of_file
from vt_models.video.images import decode_image, exif_orientation, is_image, natural_key


def encoded(suffix: str, image: np.ndarray | None = None) -> bytes:
    frame = np.arange(24 * 32 * 3, dtype=np.uint8).reshape(24, 32, 3) if image is None else image
    return cv2.imencode(suffix, frame)[1].tobytes()


def with_exif(data: bytes, orientation: int, thumbnail: bytes = b"") -> bytes:
    """A JPEG with an EXIF segment behind its start."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = b"MM\0*" + struct.pack(">IH", 8, 1) + entry + b"\0\0\0\0" + thumbnail
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff + data[2:]


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("a.JPG", True), ("a.tif", True), ("._a.jpg", False), ("a.jpg.txt", False), (".jpg", False)],
)
def test_is_image_goes_by_the_name(name, is_one) -> None:
    assert is_image(Path(name)) is is_one


@given(st.lists(st.text("a\u00b2\u0663 12-", min_size=1, max_size=6)))
def test_natural_key_orders_any_names(names) -> None:
    ordered = sorted(map(Path, names), key=natural_key)
    assert len(ordered) == len(names)
    assert sorted([Path("a10"), Path("a2")], key=natural_key) == [Path("a2"), Path("a10")]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff", ".ppm"])
def test_decode_image_reads_every_format(suffix) -> None:
    assert decode_image(encoded(suffix)).shape == (24, 32, 3)


def test_decode_image_declared_size_beyond_the_limit_is_refused() -> None:
    for suffix in (".jpg", ".png", ".bmp"):
        data = bytearray(encoded(suffix))
        if suffix == ".jpg":
            place = data.index(b"\xff\xc0") + 5
            data[place : place + 4] = struct.pack(">HH", 65500, 16000)
        else:
            order, place = (">II", 16) if suffix == ".png" else ("<II", 18)
            data[place : place + 8] = struct.pack(order, 16000, 65500)
        with pytest.raises(ValueError, match="declares 16000x65500 pixels"):
            decode_image(bytes(data))


def tiff(order: str, *entries: tuple[int, int, int]) -> bytes:
    """The header of a TIFF file with a directory of (tag, type, value)."""
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    for tag, kind, value in entries:
        padded = struct.pack(f"{order}H2x" if kind == 3 else f"{order}I", value)
        data += struct.pack(f"{order}HHI", tag, kind, 1) + padded
    return data + bytes(4)


@pytest.mark.parametrize(
    "data",
    [
        b"P6 30000 30000 255\n",
        b"P5\n# a comment 1 1\n30000\n30000\n255\n",
        tiff("<", (256, 4, 30000), (257, 4, 30000)),
        tiff(">", (256, 3, 30000), (257, 3, 30000)),
        tiff("<", (256, 3, 8), (257, 3, 8), (322, 4, 30000), (323, 4, 30000)),
        b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\x2f\x75\0" * 2,
    ],
)
def test_decode_image_of_other_formats_beyond_the_limit_is_refused(data) -> None:
    """Nine hundred million pixels would take 2.7 GB, whatever the file holds."""
    with pytest.raises(ValueError, match="declares 30000x30000 pixels"):
        decode_image(data)


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b"P6",
            b"P6 x",
            b"P6 #" + b"\n#" * 5000,
            b"II*\0",
            b"II*\0\xff\xff\xff\xff",
            b"RIFF",
        ),
        *(b"RIFF\0\0\0\0WEBPVP8L", b"GIF89a\xff\xff\xff\xff", b"#?RADIANCE\n", b"PF\n9 9\n1\n"),
    ],
)
def test_decode_image_whose_size_cannot_be_read_is_refused(data) -> None:
    with pytest.raises(ValueError, match="not a decodable image"):
        decode_image(data)


@given(
    st.sampled_from([b"P6 ", b"II*\0", b"MM\0*", b"RIFF\0\0\0\0WEBPVP8 "]), st.binary(max_size=80)
)
def test_declared_size_of_any_bytes_is_a_size_or_a_refusal(begin, rest) -> None:
    with suppress(HeaderError):
        size = declared_size_of_file(begin + rest)
        assert size.width >= 0
        assert size.height >= 0


def chunk(kind: bytes, content: bytes) -> bytes:
    length, check = len(content), zlib.crc32(kind + content)
    return struct.pack(">I", length) + kind + content + struct.pack(">I", check)


def test_decode_image_png_that_packs_more_than_its_pixels_is_refused() -> None:
    """Unpacking what lies behind the last row would take seconds for each megabyte."""
    bomb = chunk(b"IDAT", zlib.compress(bytes(10_000_000)))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    with pytest.raises(ValueError, match=r"packs \d+ bytes, more than 1x1 pixels take"):
        decode_image(b"\x89PNG\r\n\x1a\n" + header + bomb + chunk(b"IEND", b""))
    data = encoded(".png")
    with pytest.raises(ValueError, match="has more than 65536 chunks"):
        decode_image(data[:33] + chunk(b"tEXt", b"a\0b") * 70_000 + data[33:])


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([(np.uint8, ()), (np.uint8, (3,)), (np.uint8, (4,)), (np.uint16, (3,))]),
    st.sampled_from([0, 1, 9]),
)
def test_decode_image_png_of_noise_is_read_however_it_is_packed(h, w, layout, level) -> None:
    kind, channels = layout
    noise = np.random.default_rng(h * w).integers(0, 256, (h, w, *channels)).astype(kind)
    data = cv2.imencode(".png", noise, (cv2.IMWRITE_PNG_COMPRESSION, level))[1].tobytes()
    np.testing.assert_array_equal(decode_image(data, cv2.IMREAD_UNCHANGED), noise)


@pytest.mark.parametrize("thumbnail", [b"", encoded(".jpg")])
def test_decode_image_half_a_jpeg_is_refused(thumbnail) -> None:
    data = with_exif(encoded(".jpg"), 1, thumbnail)
    assert decode_image(data + bytes(10_000)).shape == (24, 32, 3)  # padding behind it is none
    with pytest.raises(ValueError, match="truncated JPEG"):
        decode_image(data[:-40])


def test_decode_image_of_16_bits_is_refused_and_not_black() -> None:
    data = encoded(".png", np.full((4, 4), 200, np.uint16))
    with pytest.raises(ValueError, match="16 bits a sample"):
        decode_image(data)
    assert decode_image(data, cv2.IMREAD_UNCHANGED).max() == 200


@pytest.mark.parametrize("orientation", [1, 6])
def test_decode_image_says_what_is_damaged_inside_a_jpeg(orientation, capfd) -> None:
    pytest.importorskip("simplejpeg", reason="tells of damage")
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    whole = with_exif(encoded(".jpg", noise), orientation)
    lost = len(whole) // 2
    data = whole[:lost] + whole[lost + 200 :]
    with pytest.raises(ValueError, match=r"is damaged inside \(Corrupt JPEG data: "):
        decode_image(data)
    said: list[str] = []
    turned = (48, 64, 3) if orientation == 1 else (64, 48, 3)
    assert decode_image(data, on_damage=said.append).shape == turned
    assert decode_image(whole, on_damage=said.append).shape == turned
    assert len(said) == 1
    if orientation == 1:
        assert not capfd.readouterr().err, "libjpeg says it without a name"


def test_decode_image_has_the_pixels_of_opencv() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    for image in (noise, noise[..., 0]):
        data = encoded(".jpg", image)
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(decode_image(data), expected)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_exif_orientation_is_how_far_a_decoded_image_is_turned(orientation) -> None:
    data = with_exif(encoded(".jpg"), orientation)
    assert exif_orientation(data) == orientation
    assert decode_image(data).shape == ((24, 32, 3) if orientation in (1, 3) else (32, 24, 3))
    assert exif_orientation(encoded(".jpg")) == 1


@given(st.binary(max_size=80), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM"]))
def test_any_bytes_are_an_image_or_refused(data, start) -> None:
    assert isinstance(exif_orientation(start + b"Exif\0\0MM" + data), int)
    try:
        decode_image(start + data)
    except ValueError:
        return
