# SPDX-License-Identifier: Apache-2.0
"""Bags from strangers: within limits, and a sentence for whatever is wrong."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import struct
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="the extra bags is not installed")

import lz4.frame
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.rosbag2.errors import ReaderError

from vt_models.errors import InputError
from vt_models.video.bags import storage
from vt_models.video.bags.reader import Bag
from vt_models.video.bags.storage import decompress
from vt_models.video.image_messages import ConversionError

IMAGE = "sensor_msgs/msg/Image"


@pytest.fixture(scope="module")
def frames():
    return [np.full((48, 64, 3), 20 * number, np.uint8) for number in range(6)]


@pytest.fixture(scope="module")
def recorded(bags, frames, tmp_path_factory):
    """The same frames in every form that is read."""
    folder = tmp_path_factory.mktemp("recorded")
    forms = {
        "mcap": {},
        "chunks": {"compression": "storage"},
        "sqlite": {"storage": "sqlite3"},
        "messages": {"storage": "sqlite3", "compression": "message"},
    }
    return {name: bags.of_frames(folder / name, frames, **how) for name, how in forms.items()}


def read(path):
    with Bag(path) as bag:
        return [image.decode().copy() for image in bag.images()]


@pytest.mark.parametrize("form", ["mcap", "chunks", "sqlite", "messages"])
def test_every_form_of_a_bag_has_the_same_images(recorded, frames, form):
    folder = recorded[form]
    paths = [folder]
    if form != "messages":  # the file alone does not say that its messages are compressed
        paths += [one for one in folder.iterdir() if one.suffix in (".mcap", ".db3")]
    for path in paths:
        found = read(path)
        assert len(found) == len(frames)
        assert all(np.array_equal(a, b) for a, b in zip(found, frames, strict=True))


@pytest.mark.parametrize("compression", ["NONE", "LZ4", "ZSTD", "without chunks"])
def test_file_that_another_library_wrote_is_read(bags, frames, tmp_path, compression):
    """MCAP's own writer: checksums, LZ4, an index that it repeats, or no chunks at all."""
    writer = pytest.importorskip("mcap.writer", reason="needs mcap-ros2-support")
    path = tmp_path / "a.mcap"
    chunked = compression != "without chunks"
    kind = writer.CompressionType[compression if chunked else "NONE"]
    with path.open("wb") as file:
        out = writer.Writer(file, compression=kind, chunk_size=20_000, use_chunking=chunked)
        out.start(profile="ros2", library="test")
        text = bags.store.generate_msgdef(IMAGE, ros_version=2)[0]
        schema = out.register_schema(IMAGE, "ros2msg", text.encode())
        channel = out.register_channel("/image", "cdr", schema)
        for number, frame in enumerate(frames):
            time = 10**18 + number
            out.add_message(channel, time, bags.raw(number, frame), time)
        out.finish()
    found = read(path)
    assert len(found) == len(frames)
    assert all(np.array_equal(a, b) for a, b in zip(found, frames, strict=True))


def test_bag_compressed_as_a_whole_is_refused_with_the_remedy(bags, frames, tmp_path):
    folder = bags.of_frames(tmp_path / "b", frames, storage="sqlite3", compression="file")
    with pytest.raises(InputError, match=r"compressed as a whole.*unzstd"):
        Bag(folder)
    with pytest.raises(InputError, match=r"compressed as a whole.*unzstd .*\.db3\.zstd"):
        Bag(next(folder.glob("*.zstd")))


def test_folder_without_metadata_is_read_by_its_one_file(recorded, tmp_path):
    folder = shutil.copytree(recorded["mcap"], tmp_path / "b")
    (folder / "metadata.yaml").unlink()
    assert len(read(folder)) == 6
    shutil.copy(folder / "mcap.mcap", folder / "second.mcap")
    with pytest.raises(InputError, match=r"has 2 files and no metadata.yaml.*ros2 bag reindex"):
        Bag(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty, 0 bytes"),
        (b"Hello, this is a text of some length, and no bag at all.", "does not begin as one"),
        (b"\x89MCAP0\r\n", "is cut off"),
    ],
)
def test_what_is_no_mcap_file_is_refused(tmp_path, content, said):
    path = tmp_path / "a.mcap"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"a.mcap.*{said}"):
        Bag(path)


def test_file_of_a_folder_that_is_cut_off_is_named(recorded, tmp_path):
    folder = shutil.copytree(recorded["mcap"], tmp_path / "bag")
    file = next(folder.glob("*.mcap"))
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InputError, match=f"is cut off: .*`mcap recover {file} -o WHOLE.mcap`"):
        Bag(folder)


def test_what_is_no_sqlite_file_is_refused(tmp_path):
    path = tmp_path / "a.db3"
    path.write_bytes(b"Hello" * 1000)
    with pytest.raises(InputError, match=r"a\.db3 cannot be read: .*"):
        Bag(path)
    odd = path.rename(tmp_path / "a#b.db3")
    with pytest.raises(InputError, match="rename it"):
        Bag(odd)


def test_sqlite_file_with_a_view_is_refused(recorded, tmp_path):
    """It would count for ever."""
    file = shutil.copy(next(recorded["sqlite"].glob("*.db3")), tmp_path / "a.db3")
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("ALTER TABLE messages RENAME TO others")
        database.execute(
            "CREATE VIEW messages AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 "
            "FROM n) SELECT id, 1 AS topic_id, id AS timestamp, x'00' AS data FROM n"
        )
    with pytest.raises(InputError, match="it has 'messages', which is no table"):
        Bag(file)


def test_sqlite_file_with_messages_in_its_log_is_refused_with_the_remedy(
    recorded, frames, tmp_path
):
    """As a recorder leaves it that is killed, with rosbag2's preset `resilient`."""
    file = shutil.copy(next(recorded["sqlite"].glob("*.db3")), tmp_path / "writing.db3")
    killed = tmp_path / "killed.db3"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(
            "INSERT INTO messages (topic_id, timestamp, data) "
            "SELECT topic_id, timestamp + 1000000000, data FROM messages"
        )
        shutil.copy(file, killed)
        shutil.copy(f"{file}-wal", f"{killed}-wal")
    with pytest.raises(InputError, match=r"a part of it is in killed\.db3-wal.*`sqlite3 .*` puts"):
        Bag(killed)
    with contextlib.closing(sqlite3.connect(killed)) as database:
        database.execute("SELECT count(*) FROM messages").fetchone()
    assert len(read(killed)) == 2 * len(frames)


def test_time_that_ros_does_not_have_is_refused(bags, frames, recorded, tmp_path):
    before = shutil.copy(next(recorded["sqlite"].glob("*.db3")), tmp_path / "a.db3")
    with contextlib.closing(sqlite3.connect(before)) as database, database:
        database.execute("UPDATE messages SET timestamp = timestamp - 200000000000")
    with pytest.raises(InputError, match="recorded at -99990000000 ns, which is no time of ROS"):
        read(before)
    after = tmp_path / "a.mcap"
    writer = pytest.importorskip("mcap.writer", reason="needs mcap-ros2-support")
    with after.open("wb") as file:
        out = writer.Writer(file)
        out.start(profile="ros2")
        channel = out.register_channel("/image", "cdr", out.register_schema(IMAGE, "ros2msg", b""))
        out.add_message(channel, 2**63, bags.raw(0, frames[0]), 2**63)
        out.finish()
    with pytest.raises(InputError, match=f"recorded at {2**63} ns"):
        read(after)


def test_pipe_is_refused(tmp_path):
    path = tmp_path / "a.mcap"
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"a\.mcap is neither a file nor a folder"):
        Bag(path)


def test_bag_of_ros_1_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "a.bag"
    path.write_bytes(b"#ROSBAG V2.0\n")
    with pytest.raises(InputError, match="bag of ROS 1; convert it: rosbags-convert"):
        Bag(path)
    with pytest.raises(InputError, match=r"b\.mcap does not exist; give a bag"):
        Bag(tmp_path / "b.mcap")


def test_mcap_without_an_index_is_refused_with_the_remedy(recorded, tmp_path):
    data = (recorded["mcap"] / "mcap.mcap").read_bytes()
    path = tmp_path / "a.mcap"
    path.write_bytes(data[:-28] + struct.pack("<QQI", 0, 0, 0) + data[-8:])
    with pytest.raises(InputError, match="it has no index; `mcap recover"):
        Bag(path)


@pytest.mark.parametrize("metadata", ["[]", "a: [", "rosbag2_bagfile_information: 7", "{}"])
def test_metadata_that_says_nothing_is_refused(recorded, tmp_path, metadata):
    folder = shutil.copytree(recorded["mcap"], tmp_path / "b")
    (folder / "metadata.yaml").write_text(metadata)
    with pytest.raises(InputError, match=r"b cannot be read: its metadata\.yaml"):
        Bag(folder)


def test_metadata_without_end_is_refused(recorded, tmp_path, monkeypatch):
    folder = shutil.copytree(recorded["mcap"], tmp_path / "b")
    monkeypatch.setattr(storage, "MOST_METADATA_BYTES", 100)
    with pytest.raises(InputError, match="expected at most 100"):
        Bag(folder)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("form", ["mcap", "chunks", "sqlite"])
def test_damaged_bag_gives_images_or_one_sentence(recorded, tmp_path_factory, form, data):
    whole = next(one for one in recorded[form].iterdir() if one.suffix in (".mcap", ".db3"))
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        # What stands at the ends says where everything is.
        edge = st.integers(0, 400) | st.integers(len(content) - 3000, len(content) - 1)
        place = data.draw(edge | st.integers(0, len(content) - 1)) % len(content)
        content[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path_factory.mktemp("damaged") / whole.name
    path.write_bytes(content)
    said = ""
    try:
        with Bag(path) as bag:
            for image in bag.images():
                with contextlib.suppress(ConversionError):  # the image alone is damaged
                    image.decode()
    except InputError as error:
        said = str(error)
    assert not said or said.startswith(str(path))


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_decompress_takes_no_more_than_was_declared(compression):
    compress = lz4.frame.compress if compression == "lz4" else storage_compress
    bomb = compress(bytes(2**26))
    assert len(bomb) < 2**19
    tracemalloc.start()
    with pytest.raises(ReaderError, match="holds more than the 1,000 bytes"):
        decompress(bomb, compression, 1000)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()
    assert decompress(compress(b"abc" * 9), compression, 27) == b"abc" * 9
    with pytest.raises(ReaderError, match="is cut off"):
        decompress(compress(bytes(range(256)))[:-8], compression, 256)
    with pytest.raises(ReaderError, match="'brotli'; expected zstd or lz4"):
        decompress(b"", "brotli", 1)


def storage_compress(data):
    module = storage.ZstdDecompressor.__module__.split(".")[0]
    zstd = __import__(f"{module}.zstd", fromlist=["compress"])
    return zstd.compress(data)


def test_chunk_that_declares_too_much_is_refused_before_it_is_read(recorded, monkeypatch):
    monkeypatch.setattr(storage, "MOST_MESSAGE_BYTES", 1000)
    with pytest.raises(InputError, match=r"is damaged: a chunk declares [0-9,]+ bytes"):
        read(recorded["chunks"])
    with pytest.raises(InputError, match=r"is damaged: a message has [0-9,]+ bytes"):
        read(recorded["sqlite"])


def test_chunks_that_all_overlap_are_refused(recorded, monkeypatch):
    monkeypatch.setattr(storage, "MOST_WAITING_BYTES", 1000)
    with pytest.raises(InputError, match=r"overlap in time; `mcap sort"):
        read(recorded["mcap"])
