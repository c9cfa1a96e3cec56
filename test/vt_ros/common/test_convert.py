# SPDX-License-Identifier: Apache-2.0
"""Images and boxes to messages and back, against values computed pixel by pixel."""

from __future__ import annotations

import array
import sys
import types

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import BoundingBox2D

from vt_ros.common.convert import (
    ENCODINGS,
    CompressedReader,
    ConversionError,
    ImageReader,
    array_to_image,
    array_to_jpeg,
    bounding_box_from_xywh,
    box_covariance,
    detection_from_box,
    image_to_rgb,
    serialised_stamp,
    xywh_from_bounding_box,
)

WIDTH, HEIGHT = 16, 12


def message(encoding, plane, width, height, padding=0, big_endian=0):
    """An Image whose rows are those of a (rows, bytes) array, each followed by padding."""
    rows = np.full((plane.shape[0], plane.shape[1] + padding), 0xEE, np.uint8)
    rows[:, : plane.shape[1]] = plane
    image = Image(encoding=encoding, width=width, height=height, step=rows.shape[1])
    image.is_bigendian = big_endian
    image.data = rows.tobytes()
    return image


def random_plane(rows, columns, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (rows, columns), np.uint8)


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    padding=st.integers(0, 70),
    big_endian=st.integers(0, 1),
    seed=st.integers(0, 2**31),
)
def test_read_mono8_of_any_size_and_step(width, height, padding, big_endian, seed):
    plane = random_plane(height, width, seed)
    frame = image_to_rgb(message("mono8", plane, width, height, padding, big_endian))
    assert frame.shape == (height, width, 3)
    assert frame.dtype == np.uint8
    assert np.array_equal(frame, np.repeat(plane[:, :, None], 3, axis=2))


@settings(max_examples=60, deadline=None)
@given(
    encoding=st.sampled_from(["rgb8", "bgr8", "rgba8", "bgra8"]),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    padding=st.integers(0, 40),
    seed=st.integers(0, 2**31),
)
def test_read_colour_of_any_size_and_step(encoding, width, height, padding, seed):
    channels = len(encoding) - 1
    plane = random_plane(height, width * channels, seed)
    pixels = plane.reshape(height, width, channels)
    order = (0, 1, 2) if encoding.startswith("rgb") else (2, 1, 0)
    frame = image_to_rgb(message(encoding, plane, width, height, padding))
    assert np.array_equal(frame, pixels[:, :, order])


def yuv_to_rgb(y, u, v):
    """BT.601 studio swing, black and below is black; (...) floats to (..., 3)."""
    y, u, v = 1.164383 * np.maximum(y - 16.0, 0.0), u - 128.0, v - 128.0
    rgb = np.stack((y + 1.596027 * v, y - 0.391762 * u - 0.812968 * v, y + 2.017232 * u), -1)
    return np.clip(rgb, 0, 255)


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", ["yuv422_yuy2", "yuyv", "uyvy", "yuv422"])
def test_read_yuv422(encoding, padding):
    plane = random_plane(HEIGHT, WIDTH * 2)
    luma, first, second = (0, 1, 3) if encoding in ("yuv422_yuy2", "yuyv") else (1, 0, 2)
    y = plane[:, luma::2].astype(float)
    u, v = (np.repeat(plane[:, k::4].astype(float), 2, axis=1) for k in (first, second))
    frame = image_to_rgb(message(encoding, plane, WIDTH, HEIGHT, padding))
    assert np.abs(frame - yuv_to_rgb(y, u, v)).max() <= 2


@pytest.mark.parametrize("padding", [0, 6])
def test_read_nv12(padding):
    plane = random_plane(HEIGHT * 3 // 2, WIDTH)
    chroma = plane[HEIGHT:].reshape(HEIGHT // 2, WIDTH // 2, 2).astype(float)
    u, v = (chroma[:, :, k].repeat(2, axis=0).repeat(2, axis=1) for k in (0, 1))
    frame = image_to_rgb(message("nv12", plane, WIDTH, HEIGHT, padding))
    assert np.abs(frame - yuv_to_rgb(plane[:HEIGHT].astype(float), u, v)).max() <= 2


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_read_bayer_of_a_plain_colour(pattern, padding):
    """A plain colour has no edges, so any demosaicing gives it back; each channel differs."""
    colour = {"r": 200, "g": 120, "b": 30}
    plane = np.empty((HEIGHT, WIDTH), np.uint8)
    for index, name in enumerate(pattern):
        plane[index // 2 :: 2, index % 2 :: 2] = colour[name]
    frame = image_to_rgb(message(f"bayer_{pattern}8", plane, WIDTH, HEIGHT, padding))
    assert (frame == np.array([200, 120, 30])).all()


def test_read_rgb8_is_a_view():
    data = array.array("B", random_plane(HEIGHT, WIDTH * 3 + 2).tobytes())
    image = Image(encoding="rgb8", width=WIDTH, height=HEIGHT, step=WIDTH * 3 + 2, data=data)
    frame = image_to_rgb(image)
    assert np.shares_memory(frame, np.frombuffer(image.data, np.uint8))
    assert not frame.flags.writeable


def test_read_reuses_its_buffer_until_the_size_changes():
    reader = ImageReader()
    first = reader.read(message("mono8", random_plane(8, 9), 9, 8))
    again = reader.read(message("mono8", random_plane(8, 9, 1), 9, 8))
    assert np.shares_memory(first, again)
    other = reader.read(message("mono8", random_plane(4, 5), 5, 4))
    assert not np.shares_memory(other, again)
    assert other.shape == (4, 5, 3)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_read_refuses_a_message_that_contradicts_itself(encoding):
    good = array_like(encoding)
    image_to_rgb(good)
    for name, value in (
        ("step", good.step - 1),
        ("step", good.step + 1),
        ("step", 0),
        ("height", good.height + 2),
        ("height", good.height - 2),
        ("height", 0),
        ("width", 0),
        ("width", good.width * 2),
        ("data", good.data[:-1]),
        ("data", good.data + good.data),
        ("data", array.array("B")),
    ):
        bad = array_like(encoding)
        setattr(bad, name, value)
        with pytest.raises(ConversionError, match=encoding):
            image_to_rgb(bad)


def array_like(encoding):
    """A correct message of an encoding."""
    channels = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}.get(encoding, 1)
    channels = 2 if "yuv" in encoding or "yvy" in encoding or "yuyv" in encoding else channels
    rows = HEIGHT * 3 // 2 if encoding == "nv12" else HEIGHT
    return message(encoding, random_plane(rows, WIDTH * channels), WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("encoding", "width", "height"),
    [("uyvy", 15, 12), ("nv12", 15, 12), ("nv12", 16, 11), ("bayer_rggb8", 2, 12)],
)
def test_read_refuses_a_size_that_the_encoding_cannot_have(encoding, width, height):
    channels = 2 if encoding == "uyvy" else 1
    rows = height * 3 // 2 if encoding == "nv12" else height
    with pytest.raises(ConversionError, match=f"{width}x{height}"):
        image_to_rgb(message(encoding, random_plane(rows, width * channels), width, height))


@settings(max_examples=300, deadline=None)
@given(
    encoding=st.sampled_from([*ENCODINGS, "", "mono16", "8UC3", "jpeg", "rgb8; rm"]),
    width=st.integers(0, 2**32 - 1) | st.integers(0, 12),
    height=st.integers(0, 2**32 - 1) | st.integers(0, 12),
    step=st.integers(0, 2**32 - 1) | st.integers(0, 60),
    data=st.binary(max_size=800),
    big_endian=st.integers(0, 255),
)
def test_read_of_any_message_returns_or_refuses(encoding, width, height, step, data, big_endian):
    image = Image(encoding=encoding, width=width, height=height, step=step)
    image.is_bigendian, image.data = big_endian, data
    try:
        frame = image_to_rgb(image)
    except ConversionError:
        return
    assert frame.shape == (height, width, 3)
    assert frame.dtype == np.uint8


@pytest.mark.parametrize("encoding", ["mono16", "32FC1", "8UC3", ""])
def test_read_refuses_another_encoding_with_a_remedy(encoding, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    with pytest.raises(ConversionError, match=r"publish one of rgb8.*cv_bridge") as caught:
        image_to_rgb(Image(encoding=encoding, width=1, height=1, step=8, data=bytes(8)))
    assert repr(encoding) in str(caught.value)


def fake_cv_bridge(monkeypatch, convert):
    bridge = types.SimpleNamespace(imgmsg_to_cv2=convert)
    monkeypatch.setitem(sys.modules, "cv_bridge", types.SimpleNamespace(CvBridge=lambda: bridge))


def test_read_takes_other_encodings_from_cv_bridge(monkeypatch):
    fake_cv_bridge(monkeypatch, lambda *_: np.full((2, 3, 3), 7, np.uint8))
    frame = image_to_rgb(Image(encoding="mono16", width=3, height=2, step=6, data=bytes(12)))
    assert (frame == 7).all()


def test_read_refuses_what_cv_bridge_cannot_read(monkeypatch):
    image = Image(encoding="mono16", width=3, height=2, step=6, data=bytes(12))

    def fail(image, encoding):
        raise cv2.error("not this one")

    fake_cv_bridge(monkeypatch, fail)
    with pytest.raises(ConversionError, match="not this one"):
        image_to_rgb(image)
    fake_cv_bridge(monkeypatch, lambda *_: np.zeros((2, 3), np.uint16))
    with pytest.raises(ConversionError, match="uint16"):
        image_to_rgb(image)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
def test_array_to_image_round_trip(encoding):
    shape = (5, 7) if encoding == "mono8" else (5, 7, 3)
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    header = Header(frame_id="camera")
    image = array_to_image(pixels[:, ::-1], header, encoding)
    assert image.header is header
    assert (image.width, image.height, image.step) == (7, 5, 21 if len(shape) == 3 else 7)
    expected = {
        "rgb8": lambda p: p,
        "bgr8": lambda p: p[:, :, ::-1],
        "mono8": lambda p: np.repeat(p[:, :, None], 3, axis=2),
    }[encoding](pixels[:, ::-1])
    assert np.array_equal(image_to_rgb(image), expected)


@pytest.mark.parametrize(
    ("pixels", "encoding"),
    [
        (np.zeros((2, 2), np.uint8), "rgb8"),
        (np.zeros((2, 2, 4), np.uint8), "rgb8"),
        (np.zeros((2, 2, 3), np.float32), "rgb8"),
        (np.zeros((2, 2, 3), np.uint8), "mono8"),
        (np.zeros((2, 2, 3), np.uint8), "mono16"),
    ],
)
def test_array_to_image_refuses_other_shapes_and_types(pixels, encoding):
    with pytest.raises(ConversionError):
        array_to_image(pixels, Header(), encoding)


finite = st.floats(-1e5, 1e5)


@given(box=st.tuples(finite, finite, finite, finite))
def test_bounding_box_round_trip(box):
    message = bounding_box_from_xywh(box)
    assert isinstance(message, BoundingBox2D)
    assert message.center.theta == 0.0
    assert xywh_from_bounding_box(message) == pytest.approx(box, abs=1e-9)


def test_bounding_box_passes_nan_on():
    box = xywh_from_bounding_box(bounding_box_from_xywh((float("nan"), 1.0, 2.0, 3.0)))
    assert np.isnan(box[0])
    assert box[1:] == (1.0, 2.0, 3.0)


def test_detection_from_box_holds_centre_size_score_and_header():
    header = Header(frame_id="optical")
    detection = detection_from_box((10.0, 20.0, 30.0, 40.0), 0.75, header, 3)
    assert detection.header is header
    assert detection.id == "3"
    assert (detection.bbox.center.position.x, detection.bbox.center.position.y) == (25.0, 40.0)
    assert (detection.bbox.size_x, detection.bbox.size_y) == (30.0, 40.0)
    (result,) = detection.results
    assert result.hypothesis.class_id == "target"
    assert result.hypothesis.score == 0.75
    assert not np.any(result.pose.covariance)
    assert box_covariance(result.pose.covariance) is None


def test_detection_from_box_with_covariance_and_class():
    covariance = np.arange(16.0).reshape(4, 4) + 1.0
    detection = detection_from_box((1, 2, 3, 4), 0.5, Header(), 3, "coasting", covariance)
    (result,) = detection.results
    assert result.hypothesis.class_id == "coasting"
    full = np.reshape(result.pose.covariance, (6, 6))
    assert (full[:4, :4] == covariance).all()
    assert not full[4:].any()
    assert not full[:, 4:].any()
    assert (box_covariance(result.pose.covariance) == covariance).all()


def smooth_pixels():
    """(60, 80, 3) RGB without edges, which JPEG keeps to a few grey values."""
    y, x = np.mgrid[:60, :80]
    return np.stack((x * 3, y * 4, 255 - x), -1).astype(np.uint8)


def compressed(suffix, pixels, *options):
    data = cv2.imencode(suffix, pixels[:, :, ::-1], options)[1].tobytes()
    return CompressedImage(format=suffix[1:], data=data)


@pytest.mark.parametrize(("suffix", "error"), [(".png", 0), (".jpg", 12), (".bmp", 0)])
def test_read_compressed_returns_rgb(suffix, error):
    pixels = smooth_pixels()
    frame = CompressedReader().read(compressed(suffix, pixels))
    assert (frame.dtype, frame.shape) == (np.uint8, (60, 80, 3))
    assert np.abs(frame.astype(int) - pixels).max() <= error


def test_read_compressed_grey_png_of_16_bits_returns_rgb():
    ramp = np.linspace(0, 65535, 80).astype(np.uint16)[None].repeat(60, 0)
    message = CompressedImage(format="png", data=cv2.imencode(".png", ramp)[1].tobytes())
    frame = CompressedReader().read(message)
    assert np.abs(frame[..., 0].astype(int) - (ramp >> 8)).max() <= 1


def test_read_compressed_ignores_an_orientation_in_the_file():
    message = compressed(".jpg", smooth_pixels())
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    data = bytes(message.data)
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    message.data = data[:2] + segment + data[2:]
    assert CompressedReader().read(message).shape == (60, 80, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@given(part=st.floats(0.0, 0.98))
def test_read_compressed_refuses_a_file_that_is_cut_off(suffix, part):
    message = compressed(suffix, smooth_pixels())
    message.data = bytes(message.data)[: int(len(message.data) * part)]
    with pytest.raises(ConversionError, match="compressed image of format"):
        CompressedReader().read(message)


@given(data=st.binary(max_size=300))
def test_read_compressed_refuses_noise(data):
    with pytest.raises(ConversionError):
        CompressedReader().read(CompressedImage(format="jpeg", data=data))


def test_read_compressed_accepts_padding_after_a_jpeg():
    message = compressed(".jpg", smooth_pixels())
    message.data = bytes(message.data) + bytes(100)
    assert CompressedReader().read(message).shape == (60, 80, 3)


def test_array_to_jpeg_round_trip():
    message = array_to_jpeg(smooth_pixels(), Header(frame_id="optical"))
    assert message.header.frame_id == "optical"
    frame = CompressedReader().read(message)
    assert np.abs(frame.astype(int) - smooth_pixels()).max() <= 24


@pytest.mark.parametrize("message", [b"", b"\x00", bytes(11)])
def test_serialised_stamp_of_too_few_bytes_is_none(message):
    assert serialised_stamp(message) == 0


def test_serialised_stamp_of_a_big_endian_sender():
    assert serialised_stamp(bytes((0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9))) == 7 * 10**9 + 9
