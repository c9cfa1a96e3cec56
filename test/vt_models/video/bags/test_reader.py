# SPDX-License-Identifier: Apache-2.0
"""Topics of a bag, stamps, encodings, and what is said where a topic cannot be chosen."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="the extra bags is not installed")

from vt_models.errors import InputError
from vt_models.video.bags.reader import Bag
from vt_models.video.image_messages import ENCODINGS, ConversionError, image_to_rgb
from vt_models.video.sources import open_recorded

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
STRING = "std_msgs/msg/String"


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)


def text(bags, words="hello"):
    return bytes(bags.store.serialize_cdr(bags.make(STRING, words), STRING))


def test_images_have_the_stamps_and_frames_of_their_messages(bags, picture, tmp_path):
    with Bag(bags.of_frames(tmp_path / "b", [picture] * 12)) as bag:
        images = list(bag.images())
        assert bag.count == len(images) == 12
        assert bag.fps == pytest.approx(10.0, rel=1e-6)
        assert [image.header.stamp for image in images] == [
            100_000_000_000 + number * 100_000_000 for number in range(12)
        ]
        assert {image.header.frame_id for image in images} == {"optical"}
        assert [image.time for image in images[:2]] == [100_010_000_000, 100_110_000_000]
        assert bag.first_camera_info().width == 16


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_of_the_node_is_read_as_the_node_reads_it(bags, tmp_path, encoding):
    channels = {"rgb8": 3, "bgr8": 3, "8UC3": 3, "rgba8": 4, "bgra8": 4, "8UC4": 4}
    two = ("yuv422_yuy2", "yuyv", "uyvy", "yuv422")
    columns = 16 * (2 if encoding in two else channels.get(encoding, 1))
    rows = 18 if encoding in ("nv12", "nv21") else 12
    plane = np.random.default_rng(1).integers(0, 256, (rows, columns), np.uint8)
    values = 12, 16, encoding, 0, columns, plane.reshape(-1)
    message = bags.make(IMAGE, bags.header(0), *values)
    data = bytes(bags.store.serialize_cdr(message, IMAGE))
    with Bag(bags.write(tmp_path / "b", {"/image": (IMAGE, [data])})) as bag:
        (image,) = bag.images()
        assert np.array_equal(image.decode(), image_to_rgb(message))


def test_jpeg_and_png_are_read(bags, picture, tmp_path):
    messages = [bags.compressed(0, picture, ".png"), bags.compressed(1, picture, ".jpg")]
    with Bag(bags.write(tmp_path / "b", {"/image/compressed": (COMPRESSED, messages)})) as bag:
        png, jpeg = (image.decode().copy() for image in bag.images())
        assert bag.camera_info_topic == "/camera_info"
    assert np.array_equal(png, picture)
    assert jpeg.shape == picture.shape


def test_image_that_cannot_be_read_leaves_the_others(bags, picture, tmp_path, caplog):
    good = bags.raw(0, picture)
    deep = bags.raw(1, picture.reshape(12, 48)[:, :32], "mono16")
    topics = {"/image": (IMAGE, [good, deep, good[:40], bags.raw(3, picture)])}
    path = bags.write(tmp_path / "b", topics)
    with Bag(path) as bag:
        _, second, third, _ = bag.images()
        with pytest.raises(ConversionError, match="mono16"):
            second.decode()
        with pytest.raises(ConversionError, match="the message cannot be read"):
            third.decode()
        assert third.header.stamp == 100_000_000_000
    assert len(list(open_recorded(path))) == 2
    assert "mono16" in caplog.text


def test_frame_id_without_end_is_refused(bags, picture, tmp_path, monkeypatch):
    stamp = bags.header(0).stamp
    long = bags.make("std_msgs/msg/Header", stamp, "x" * 2000)
    monkeypatch.setattr(bags, "header", lambda _: long)
    with Bag(bags.write(tmp_path / "b", {"/image": (IMAGE, [bags.raw(0, picture)])})) as bag:
        (image,) = bag.images()
        assert image.header.frame_id == ""
        assert image.header.stamp == 100_000_000_000
        with pytest.raises(ConversionError, match="frame_id has 2000 characters, expected 1024"):
            image.decode()


def test_topic_is_chosen_or_asked_for(bags, picture, tmp_path):
    raw = [bags.raw(0, picture)]
    jpeg = [bags.compressed(0, picture, ".jpg")]
    both = {
        "/a": (IMAGE, raw),
        "/a/compressed": (COMPRESSED, jpeg),
        "/words": (STRING, [text(bags)]),
    }
    path = bags.write(tmp_path / "both", both)
    with pytest.raises(InputError, match=r"in 2 topics, /a, /a/compressed; choose one with --t"):
        Bag(path)
    assert Bag(path, "/a/compressed").topic == "/a/compressed"
    with pytest.raises(InputError, match=r"has no topic /b; images are in /a, /a/compressed"):
        Bag(path, "/b")
    with pytest.raises(InputError, match=r"/words is of type std_msgs/msg/String; expected"):
        Bag(path, "/words")
    # A topic on which nothing was recorded leaves no choice.
    silent = bags.write(tmp_path / "silent", {"/a": (IMAGE, raw), "/b": (IMAGE, [])})
    assert Bag(silent).topic == "/a"
    with pytest.raises(InputError, match="nothing was recorded on /b"):
        Bag(silent, "/b")


def test_bag_without_images_says_what_it_has(bags, tmp_path):
    words = bags.write(tmp_path / "words", {"/words": (STRING, [text(bags)])})
    with pytest.raises(InputError, match=r"has no images: .*; it has /words \(std_msgs"):
        Bag(words)
    with pytest.raises(InputError, match="it has no topics at all"):
        Bag(bags.write(tmp_path / "nothing", {}))
    with pytest.raises(InputError, match="nothing was recorded on /a"):
        Bag(bags.write(tmp_path / "empty", {"/a": (IMAGE, [])}))


def test_open_recorded_takes_a_bag_as_any_video(bags, picture, tmp_path):
    frames = [np.full((12, 16, 3), number, np.uint8) for number in range(5)]
    path = bags.of_frames(tmp_path / "b", frames)
    source = open_recorded(path, start=1, stop=4)
    assert [int(frame.mean()) for frame in source] == [1, 2, 3]
    assert int(source.read_bgr().mean()) == 1
    assert source.latest.header.stamp == 100_100_000_000
    source.rewind()
    assert int(source.read_bgr().mean()) == 1
    colour = open_recorded(bags.of_frames(tmp_path / "c", [picture]))
    assert np.array_equal(colour.read_bgr()[..., ::-1], picture)
    with pytest.raises(InputError, match=r"has 5 images on .*, none from number 5 on"):
        open_recorded(path, start=5)
    with pytest.raises(InputError, match="is no bag, and has no topic /a"):
        open_recorded(tmp_path, topic="/a")
