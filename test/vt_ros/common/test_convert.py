# SPDX-License-Identifier: Apache-2.0
"""Images and boxes to messages and back, against values computed pixel by pixel."""

from __future__ import annotations

import array
import contextlib
import struct

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import cv2
from builtin_interfaces.msg import Time
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import BoundingBox2D

from vt_models.video.declared_size import (
    MOST_JPEG_SCANS,
    DeclaredSize,
    HeaderError,
    declared_size,
)
from vt_models.video.image_messages import (
    ENCODINGS,
    CompressedReader,
    ConversionError,
    ImageReader,
    MessageHeader,
    image_to_rgb,
    serialised_compressed_image,
    serialised_image,
)
from vt_ros.common.convert import (
    array_to_image,
    array_to_jpeg,
    bounding_box_from_xywh,
    box_covariance,
    detection_from_box,
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
def test_read_grey_of_any_size_and_step(width, height, padding, big_endian, seed):
    plane = random_plane(height, width, seed)
    encoding = ("mono8", "8UC1")[seed % 2]
    frame = image_to_rgb(message(encoding, plane, width, height, padding, big_endian))
    assert frame.shape == (height, width, 3)
    assert frame.dtype == np.uint8
    assert np.array_equal(frame, np.repeat(plane[:, :, None], 3, axis=2))


@settings(max_examples=60, deadline=None)
@given(
    encoding=st.sampled_from(["rgb8", "bgr8", "rgba8", "bgra8", "8UC3", "8UC4"]),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    padding=st.integers(0, 40),
    seed=st.integers(0, 2**31),
)
def test_read_colour_of_any_size_and_step(encoding, width, height, padding, seed):
    channels = int(encoding[-1]) if encoding.startswith("8UC") else len(encoding) - 1
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
@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_read_yuv420(encoding, padding):
    plane = random_plane(HEIGHT * 3 // 2, WIDTH)
    chroma = plane[HEIGHT:].reshape(HEIGHT // 2, WIDTH // 2, 2).astype(float)
    order = (0, 1) if encoding == "nv12" else (1, 0)
    u, v = (chroma[:, :, k].repeat(2, axis=0).repeat(2, axis=1) for k in order)
    frame = image_to_rgb(message(encoding, plane, WIDTH, HEIGHT, padding))
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


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "8UC3"])
def test_read_three_bytes_a_pixel_is_a_view(encoding):
    data = array.array("B", random_plane(HEIGHT, WIDTH * 3 + 2).tobytes())
    image = Image(encoding=encoding, width=WIDTH, height=HEIGHT, step=WIDTH * 3 + 2, data=data)
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
    channels = {"rgb8": 3, "bgr8": 3, "8UC3": 3, "rgba8": 4, "bgra8": 4, "8UC4": 4}.get(encoding, 1)
    channels = 2 if "yuv" in encoding or "yvy" in encoding or "yuyv" in encoding else channels
    rows = HEIGHT * 3 // 2 if encoding.startswith("nv") else HEIGHT
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
    encoding=st.sampled_from([*ENCODINGS, "", "mono16", "8UC2", "jpeg", "rgb8; rm"]),
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


@pytest.mark.parametrize(
    ("encoding", "remedy"),
    [
        ("mono16", "scale it to 8"),
        ("32FC1", "scale it to 8"),
        ("rgb16", "scale it to 8"),
        ("h264", "publish one of rgb8"),
        ("", "names no encoding"),
    ],
)
def test_read_refuses_another_encoding_with_a_remedy(encoding, remedy):
    with pytest.raises(ConversionError, match=remedy) as caught:
        image_to_rgb(Image(encoding=encoding, width=1, height=1, step=8, data=bytes(8)))
    assert repr(encoding) in str(caught.value)


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


def test_read_compressed_png_of_16_bits_is_refused():
    """Its low bytes hold the image of a thermal camera, its high bytes are nearly black."""
    counts = np.linspace(7200, 8730, 80).astype(np.uint16)[None].repeat(60, 0)
    message = CompressedImage(format="png", data=cv2.imencode(".png", counts)[1].tobytes())
    with pytest.raises(ConversionError, match="16 bits a sample; scale it to 8"):
        CompressedReader().read(message)


def declaring(suffix, width, height):
    """A small file whose header declares another size."""
    data = bytearray(cv2.imencode(suffix, np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    if suffix == ".jpg":
        struct.pack_into(">HH", data, data.find(b"\xff\xc0") + 5, height, width)
    elif suffix == ".png":
        struct.pack_into(">II", data, 16, width, height)
    else:
        struct.pack_into("<ii", data, 18, width, -height)
    return bytes(data)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
@pytest.mark.parametrize(("width", "height"), [(65500, 16000), (30000, 30000), (65500, 8)])
def test_read_compressed_declared_size_beyond_the_limit_is_refused(
    suffix, width, height, monkeypatch
):
    """Before anything is decoded: the decoder would reserve gigabytes, or end the process."""
    monkeypatch.setattr(cv2, "imdecode", None)
    message = CompressedImage(format="x", data=declaring(suffix, width, height))
    with pytest.raises(ConversionError, match=f"declares {width}x{height} pixels"):
        CompressedReader().read(message)


def test_read_size_beyond_a_given_limit_is_refused():
    with pytest.raises(ConversionError, match=r"0.0 megapixels; image.max_megapixels is 0.004"):
        CompressedReader().read(compressed(".png", smooth_pixels()), 0.004)
    assert CompressedReader().read(compressed(".png", smooth_pixels()), 0.0048).size
    image = Image(encoding="mono8", width=70000, height=70000, step=70000)
    for encoding in ("mono8", "mono16"):
        image.encoding = encoding
        with pytest.raises(ConversionError, match=r"4900.0 megapixels; image.max_megapixels is 64"):
            image_to_rgb(image)


def test_declared_size_is_that_of_the_first_frame_header_of_a_jpeg():
    """Whatever lies before it: a thumbnail, garbage between segments, fill bytes."""
    data = compressed(".jpg", smooth_pixels()).data.tobytes()
    thumbnail = declaring(".jpg", 65500, 16000)
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    for before in (segment, b"\x00\x01", b"\xff\xff", b"\xff\xd0"):
        declared = declared_size(data[:2] + b"\xff\xfe\0\x02" + before + data[2:])
        assert declared == DeclaredSize(80, 60)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GIF89a" + bytes(50), "neither JPEG nor PNG"),
        (b"RIFF\x20\0\0\0WEBPVP8 " + bytes(30), "neither JPEG nor PNG"),
        (b"\xff\xd8\xff\xda\0\x02\xff\xd9", "declares no size"),
        (b"\xff\xd8\xff\xc0\0", "cut off within its header"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "IHDR"),
        (b"\xff\xd8\xff\xc2" + b"\xff\xda" * (MOST_JPEG_SCANS + 1), "101 scans"),
    ],
)
def test_declared_size_of_a_header_that_cannot_be_read_is_refused(data, reason):
    with pytest.raises(HeaderError, match=reason):
        declared_size(data)


@given(data=st.binary(max_size=200), suffix=st.sampled_from([".jpg", ".png", ".bmp"]))
def test_declared_size_of_any_bytes_is_read_or_refused(data, suffix):
    with contextlib.suppress(HeaderError):
        declared_size(declaring(suffix, 80, 60)[:12] + data)


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


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_read_compressed_accepts_padding_after_the_end(suffix):
    message = compressed(suffix, smooth_pixels())
    message.data = bytes(message.data) + bytes(100_000)
    assert CompressedReader().read(message).shape == (60, 80, 3)


def noisy_jpeg():
    """A JPEG of many bytes, and where its scan begins."""
    pixels = np.random.default_rng(1).integers(0, 255, (60, 80, 3), np.uint8)
    data = bytes(compressed(".jpg", pixels).data)
    return data, data.index(b"\xff\xda") + 14


@pytest.mark.parametrize(("begin", "share"), [(0.0, 0.1), (0.3, 0.33), (0.5, 0.2), (0.9, 0.1)])
def test_read_compressed_refuses_a_jpeg_that_lost_a_part_inside(begin, share):
    """OpenCV gives shifted colours and grey back, which look like another scene."""
    pytest.importorskip("simplejpeg", reason="tells of damage")
    data, scan = noisy_jpeg()
    first = scan + int(begin * (len(data) - scan))
    data = data[:first] + data[first + int(share * (len(data) - scan)) :]
    with pytest.raises(ConversionError, match=r"is damaged: |is cut off"):
        CompressedReader().read(CompressedImage(format="jpeg", data=data))


def test_read_compressed_accepts_the_few_bytes_too_many_of_webcams():
    data, _ = noisy_jpeg()
    data = data[:-2] + bytes(8) + data[-2:]
    assert CompressedReader().read(CompressedImage(data=data)).shape == (60, 80, 3)


def test_read_of_megabytes_of_a_name_is_refused_in_a_sentence():
    name = "x" * 5_000_000
    image = Image(encoding=name, width=4, height=4, step=12, data=bytes(48))
    with pytest.raises(ConversionError, match=r"encoding 'x+\.\.\.x+' cannot be read") as refused:
        ImageReader().read(image)
    assert len(str(refused.value)) < 500
    with pytest.raises(ConversionError, match=r"format 'x+\.\.\.x+' and 1 bytes") as refused:
        CompressedReader().read(CompressedImage(format=name, data=b"x"))
    assert len(str(refused.value)) < 500


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


def spoilt_messages(message_type):
    """Serialised messages that are right but for a few places."""
    names = st.sampled_from(["", "camera", "caméra", "rgb8", "x" * 29])
    fields = {"data": st.binary(max_size=40)}
    if message_type is Image:
        numbers = {name: st.integers(0, 2**32 - 1) for name in ("width", "height", "step")}
        fields |= {"encoding": names, "is_bigendian": st.integers(0, 255), **numbers}
    else:
        fields |= {"format": names}
    stamps = st.builds(
        Time, sec=st.integers(-(2**31), 2**31 - 1), nanosec=st.integers(0, 2**32 - 1)
    )
    headers = st.builds(Header, stamp=stamps, frame_id=names)
    whole = st.builds(message_type, header=headers, **fields).map(serialize_message)
    cuts = st.tuples(st.integers(0, 150), st.integers(0, 5), st.binary(max_size=5))

    def spoil(data, places):
        for begin, removed, new in places:
            data = data[:begin] + new + data[begin + removed :]
        return data

    return st.builds(spoil, whole, st.lists(cuts, max_size=2))


@settings(max_examples=300, deadline=None)
@given(spoilt_messages(Image))
def test_serialised_image_where_it_is_read_is_what_ros_makes_of_it(data):
    view = serialised_image(data)
    if view is not None:
        image = deserialize_message(data, Image)
        stamp = image.header.stamp
        assert view.header == MessageHeader(stamp.sec, stamp.nanosec, image.header.frame_id)
        assert (view.height, view.width) == (image.height, image.width)
        assert (view.encoding, view.step) == (image.encoding, image.step)
        assert bytes(view.data) == bytes(image.data)


@settings(max_examples=300, deadline=None)
@given(spoilt_messages(CompressedImage))
def test_serialised_compressed_image_where_it_is_read_is_what_ros_makes_of_it(data):
    view = serialised_compressed_image(data)
    if view is not None:
        image = deserialize_message(data, CompressedImage)
        stamp = image.header.stamp
        assert view.header == MessageHeader(stamp.sec, stamp.nanosec, image.header.frame_id)
        assert (view.format, bytes(view.data)) == (image.format, bytes(image.data))


@pytest.mark.parametrize("order", ["<", ">"])
def test_serialised_image_of_either_byte_order_is_read_where_it_lies(order):
    head = struct.pack(f"{order}iII8s", 7, 8, 7, b"camera\0\0")
    # Each string ends with a zero that counts; what follows it is aligned to its own size.
    body = head + struct.pack(f"{order}III5sB", 2, 3, 5, b"bgr8\0", 0)
    body += bytes(-len(body) % 4) + struct.pack(f"{order}II", 9, 18)
    data = (b"\0\1" if order == "<" else b"\0\0") + b"\0\0" + body + bytes(range(18))
    view = serialised_image(data)
    assert view[:5] == (MessageHeader(7, 8, "camera"), 2, 3, "bgr8", 9)
    pixels = ImageReader().read(view)
    assert np.shares_memory(pixels, np.frombuffer(data, np.uint8))
    assert pixels[0, 0].tolist() == [2, 1, 0]


@pytest.mark.parametrize("read", [serialised_image, serialised_compressed_image])
@pytest.mark.parametrize("data", [b"", b"\0\1\0", b"\0\2" + bytes(100), b"\0\1" + b"\xff" * 50])
def test_serialised_messages_that_are_no_plain_cdr_are_left_to_ros(read, data):
    assert read(data) is None
