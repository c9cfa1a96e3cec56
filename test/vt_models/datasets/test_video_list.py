# SPDX-License-Identifier: Apache-2.0
"""Lists of videos: what a file may say, and which sequences a row stands for."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.datasets import DATASETS, ListedVideo, VideoList, read_video_list
from vt_models.errors import DatasetError


@pytest.fixture
def write(tmp_path):
    """Write a list file and return its path."""

    def write_list(content: str | bytes):
        path = tmp_path / "videos.tsv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_list


def test_columns_come_in_any_order_and_others_are_ignored(write):
    path = write(
        "# chosen by hand\n"
        "\n"
        "kind\tnotes\tvideo\tuse\n"
        "drone views\tfast\tuav_1\tvalidate\n"
        "# a scene shot at the same place\n"
        "drone views\t\tuav_2\twithhold\n"
        "  \n"
        "faces\t\tgirl\tvalidate\n"
    )
    found = read_video_list(path)
    assert found.path == path
    assert found.rows == (
        ListedVideo("uav_1", "drone views", "validate", 4),
        ListedVideo("uav_2", "drone views", "withhold", 6),
        ListedVideo("girl", "faces", "validate", 8),
    )
    assert found.validation == ("uav_1", "girl")
    assert found.names == ("uav_1", "uav_2", "girl")


def test_without_a_use_every_video_is_validated(write):
    assert read_video_list(write("video\tkind\nb\tx\na\ty\n")).validation == ("b", "a")


def test_line_ends_and_byte_order_mark_of_other_editors_are_read(write):
    found = read_video_list(write(b"\xef\xbb\xbfvideo\tkind\r\na \t\xc3\xa9t\xc3\xa9\r\n"))
    assert [(row.video, row.kind, row.line) for row in found.rows] == [("a", "été", 2)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("video\tuse\na\tvalidate\n", ":1: no column kind; expected a header line"),
        ("# nothing\na\tb\n", ":2: no column video, kind;"),
        ("video\tkind\tvideo\na\tb\tc\n", ":1: column video 2 times; keep one"),
        ("video\tkind\na\tb\tc\n", ":2: 3 cells; expected 2, separated by tabs: video, kind"),
        ("video\tkind\na\tb\n\nc d\n", ":4: 1 cells; expected 2"),
        ("video\tkind\na\tb\na\tc\n", ":3: video 'a' is listed already in line 2"),
        ("video\tkind\tuse\na\tb\ttrain\n", ":2: use 'train'; expected validate or withhold"),
        ("video\tkind\na\t\n", ":2: kind is empty"),
        ("video\tkind\n\tb\n", ":2: video is empty"),
        ("", ":1: no video; expected a header line"),
        ("video\tkind\n# all gone\n", ":3: no video; expected a header line"),
        (b"video\tkind\na\tb\nc\t\xff\n", ":3: not UTF-8; save the file as UTF-8"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(write, content, message):
    path = write(content)
    with pytest.raises(DatasetError, match="^" + re.escape(f"{path}{message}")):
        read_video_list(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere\.tsv: No such file"):
        read_video_list(tmp_path / "nowhere.tsv")
    with pytest.raises(DatasetError, match="it is a folder"):
        read_video_list(tmp_path)


def test_a_row_stands_for_the_targets_of_its_video(write):
    found = read_video_list(write("video\tkind\nstreet\tcars\ncrowd\tpeople\n"))
    names = ["crowd", "crowd.1", "crowd2", "crowd_b.1", "street.1.left", "street.2", "x.street"]
    assert list(found.validation_sequences(names).items()) == [
        ("street.1.left", "cars"),
        ("street.2", "cars"),
        ("crowd", "people"),
        ("crowd.1", "people"),
    ]
    assert found.row_of("crowd.7").video == "crowd"
    assert found.row_of("crowd2") is None


def test_the_row_with_the_longest_name_decides(write):
    path = write(
        "video\tkind\tuse\na\tx\tvalidate\na.2\ty\twithhold\na.3\tz\tvalidate\nb\tx\twithhold\n"
    )
    found = read_video_list(path)
    assert found.validation_sequences(["a.1", "a.2", "a.3", "b"]) == {"a.1": "x", "a.3": "z"}


def test_a_video_that_the_dataset_lacks_is_named_with_its_line(write):
    path = write("video\tkind\tuse\none\tx\tvalidate\ntwo\tx\tvalidate\nthree\tx\twithhold\n")
    found = read_video_list(path)
    assert found.validation_sequences(["two", "one"]) == {"one": "x", "two": "x"}
    with pytest.raises(DatasetError, match=re.escape(f"{path}:3: no sequence 'two' in the data")):
        found.validation_sequences(["one", "two2"])


def test_a_list_that_withholds_everything_leaves_nothing_to_run(write):
    found = read_video_list(write("video\tkind\tuse\none\tx\twithhold\n"))
    with pytest.raises(DatasetError, match="no row to validate"):
        found.validation_sequences(["one"])


texts = st.text("ab é#.-,\"'", min_size=1).map(str.strip).filter(lambda text: text[:1] not in "#")


@given(st.lists(st.tuples(texts, texts, st.sampled_from(["validate", "withhold"]))))
def test_any_rows_come_back(tmp_path_factory, rows):
    rows = list({video: (video, kind, use) for video, kind, use in rows}.values())
    path = tmp_path_factory.getbasetemp() / "any.tsv"
    lines = ["use\tvideo\tkind", *(f"{use}\t{video}\t{kind}" for video, kind, use in rows)]
    path.write_text("\n".join(lines), encoding="utf-8")
    if not rows:
        with pytest.raises(DatasetError, match="no video"):
            read_video_list(path)
        return
    found = read_video_list(path)
    assert isinstance(found, VideoList)
    assert [(row.video, row.kind, row.use) for row in found.rows] == rows
    assert [row.line for row in found.rows] == list(range(2, len(rows) + 2))


def test_the_validation_list_of_the_recipes_is_one(repository, shared_dir):
    path = repository / "recipes" / "validation.tsv"
    videos = shared_dir / "train_videos"
    if not (path.exists() and videos.is_dir() and "videos" in DATASETS):
        pytest.skip(f"needs {path.name} and the videos of {videos.name}")
    found = read_video_list(path)
    names = DATASETS["videos"](videos).names
    assert {found.row_of(name).video for name in found.validation_sequences(names)} == set(
        found.validation
    )
