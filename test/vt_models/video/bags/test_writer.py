# SPDX-License-Identifier: Apache-2.0
"""A tracked bag: what it is copied from, what is added, and who can read it."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="the extra bags is not installed")

from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vt_models.errors import InputError
from vt_models.geometry.bearing import Bearing
from vt_models.video.bags.messages import ANNOTATIONS, STATUS, Messages
from vt_models.video.bags.reader import Bag
from vt_models.video.bags.writer import OUTPUTS, TrackedBagWriter
from vt_models.video.drawing import STATE_COLOURS
from vt_models.video.image_messages import MessageHeader

HEADER = MessageHeader(7, 8, "optical")
BOX = (10.0, 20.0, 30.0, 40.0)
PACKAGES = {
    "vt_interfaces": "vt_interfaces",
    "vision_msgs": "vision_msgs_fallback",
    "foxglove_msgs": "foxglove_msgs_fallback",
}


@pytest.fixture(scope="module")
def messages():
    return Messages()


@pytest.mark.parametrize("package", PACKAGES)
def test_definitions_are_those_of_the_packages(repository, package):
    folder = files("vt_models.video.bags") / "definitions" / package
    ours = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert ours
    for name, content in ours.items():
        assert content == (repository / PACKAGES[package] / "msg" / name).read_bytes(), name


def test_status_has_what_is_given_and_else_nothing(messages):
    bearing = Bearing((0.0, 0.6, 0.8), 0.1, -0.2, 0.01)
    data = messages.status(HEADER, bearing, state=1, score=0.5, model="asymtrack_lite0")
    found = messages.types.deserialize_cdr(data, STATUS)
    assert (found.header.stamp.sec, found.header.stamp.nanosec) == (7, 8)
    assert (found.state, found.score, found.model) == (1, 0.5, "asymtrack_lite0")
    assert found.azimuth == np.float32(0.1)
    assert (found.target_id, found.message, found.image_width) == (0, "", 0)
    without = messages.types.deserialize_cdr(messages.status(HEADER, None), STATUS)
    assert all(map(math.isnan, (without.azimuth, without.elevation, without.bearing_sigma)))
    with pytest.raises(AttributeError, match=r"TrackStatus has no colour"):
        messages.status(HEADER, None, colour=3)


@pytest.mark.parametrize("state", range(len(STATE_COLOURS)))
def test_annotations_have_the_colour_of_the_state_and_corners_for_a_prediction(messages, state):
    data = messages.annotations(HEADER, state, "a label", BOX, np.eye(4))
    found = messages.types.deserialize_cdr(data, ANNOTATIONS)
    (text,), (lines, ellipse) = found.texts, found.points
    assert text.text == "a label"
    colour = tuple(round(255 * getattr(lines.outline_color, part)) for part in "rgb")
    assert colour == tuple(STATE_COLOURS.values())[state]
    xs, ys = {point.x for point in lines.points}, {point.y for point in lines.points}
    assert (min(xs), max(xs), min(ys), max(ys)) == (10.0, 40.0, 20.0, 60.0)
    coasting = state == list(STATE_COLOURS).index("COASTING")
    assert (lines.type, len(lines.points)) == ((4, 16) if coasting else (2, 4))
    assert all(np.hypot(one.x - 25.0, one.y - 40.0) - 2.0 < 1e-9 for one in ellipse.points)
    without = messages.annotations(HEADER, state, "a label", None, None)
    assert messages.types.deserialize_cdr(without, ANNOTATIONS).points == []


def picture_bag(bags, folder):
    return bags.of_frames(folder, [np.full((12, 16, 3), number, np.uint8) for number in range(3)])


def test_writer_copies_every_topic_and_adds_its_own(bags, tmp_path, messages):
    path = tmp_path / "out.mcap"
    with Bag(picture_bag(bags, tmp_path / "b")) as bag:
        source = list(bag.messages())
        with TrackedBagWriter(path, bag, ["car", "van"]) as writer:
            for connection, time, data in source:
                writer.copy(connection, time, data)
            writer.write("car", "status", 123, messages.status(HEADER, None, state=1))
    with Reader(path) as reader:
        topics = {one.topic: one for one in reader.connections}
        own = {
            f"/{name}/{output}": kind for name in ("car", "van") for output, kind in OUTPUTS.items()
        }
        assert {name: one.msgtype for name, one in topics.items() if name in own} == own
        assert all(one.msgdef.data for one in topics.values())
        copied = [(one.topic, time, data) for one, time, data in reader.messages() if time > 123]
    assert copied == [(one.topic, time, data) for one, time, data in source]
    assert list(tmp_path.glob(".out*")) == []


def test_writer_that_fails_leaves_nothing(bags, tmp_path):
    with Bag(picture_bag(bags, tmp_path / "b")) as bag:
        with pytest.raises(ZeroDivisionError), TrackedBagWriter(tmp_path / "o.mcap", bag, ["a"]):
            raise ZeroDivisionError
        with pytest.raises(InputError, match=r"cannot be written to /proc/o\.mcap"):
            TrackedBagWriter(Path("/proc/o.mcap"), bag, ["a"])
    assert [one.name for one in tmp_path.iterdir()] == ["b"]


def test_bag_that_was_tracked_already_is_refused(bags, tmp_path):
    path = tmp_path / "out.mcap"
    with (
        Bag(picture_bag(bags, tmp_path / "b")) as bag,
        TrackedBagWriter(path, bag, ["a"]) as writer,
    ):
        for message in bag.messages():
            writer.copy(*message)
    with Bag(path) as bag:
        with pytest.raises(InputError, match=r"a topic /a/detections already; give another --n"):
            TrackedBagWriter(tmp_path / "again.mcap", bag, ["a"])
        TrackedBagWriter(tmp_path / "again.mcap", bag, ["b"]).close()
    assert (tmp_path / "again.mcap").exists()


def test_topic_without_a_definition_is_left_out_with_a_warning(bags, tmp_path, caplog):
    """As of a recorder before Iron, or of a type that it could not find."""
    name, own = "my_msgs/msg/Odd", bags.store
    bags.store = get_typestore(Stores.ROS2_JAZZY)
    bags.store.register(get_types_from_msg("uint8 a", name))
    try:
        raw = [bags.raw(0, np.zeros((12, 16, 3), np.uint8))]
        odd = [bytes(bags.store.serialize_cdr(bags.make(name, 3), name))]
        topics = {"/odd": (name, odd), "/image": ("sensor_msgs/msg/Image", raw)}
        source = bags.write(tmp_path / "b", topics, storage="sqlite3")
    finally:
        bags.store = own
    file = next(source.glob("*.db3"))
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("DELETE FROM message_definitions")
    path = tmp_path / "out.mcap"
    with Bag(source) as bag, TrackedBagWriter(path, bag, ["a"]) as writer:
        for message in bag.messages():
            writer.copy(*message)
    assert (
        "/odd is not copied: the bag has no definition of its type my_msgs/msg/Odd" in caplog.text
    )
    with Reader(path) as reader:
        found = {one.topic: one.msgdef.data for one in reader.connections if one.msgcount}
    assert list(found) == ["/image"]
    assert found["/image"].startswith("std_msgs/Header header")


def test_types_that_nobody_else_knows_are_copied_with_their_definition(bags, tmp_path, caplog):
    store = get_typestore(Stores.ROS2_JAZZY)
    name = "my_msgs/msg/Odd"
    store.register(get_types_from_msg("uint8 a\nstd_msgs/Header header\n", name))
    header = bags.header(0)
    odd = bytes(store.serialize_cdr(store.types[name](3, header), name))
    own, bags.store = bags.store, store
    try:
        raw = [bags.raw(0, np.zeros((12, 16, 3), np.uint8))]
        topics = {"/odd": (name, [odd]), "/image": ("sensor_msgs/msg/Image", raw)}
        source = bags.write(tmp_path / "b", topics)
    finally:
        bags.store = own
    path = tmp_path / "out.mcap"
    with Bag(source) as bag, TrackedBagWriter(path, bag, ["a"]) as writer:
        for message in bag.messages():
            writer.copy(*message)
    with Reader(path) as reader:
        (connection,) = [one for one in reader.connections if one.topic == "/odd"]
        assert connection.msgdef.data.startswith("uint8 a\nstd_msgs/Header header\n")
        assert [data for _, _, data in reader.messages([connection])] == [odd]
    assert caplog.text == ""
