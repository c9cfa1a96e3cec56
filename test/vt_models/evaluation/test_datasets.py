# SPDX-License-Identifier: Apache-2.0
"""The folder dataset: what it reads, and that each kind of damage is named by file and line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from vt_models.datasets.folder import FolderDataset
from vt_models.datasets.images import read_image
from vt_models.datasets.kinds import open_dataset
from vt_models.datasets.text import read_boxes
from vt_models.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

BOX = "10,10,20,16"
ABSENT = "nan,nan,nan,nan"


def test_reads_a_sequence(tmp_path, write_sequence):
    write_sequence("b_second", [BOX, BOX])
    write_sequence("a_first", [BOX, ABSENT, "10.5\t9\t20\t16"], text="the grey square")
    dataset = FolderDataset(tmp_path)
    assert dataset.names == ["a_first", "b_second"]
    first = dataset[0]
    assert (first.name, len(first), first.language) == ("a_first", 3, "the grey square")
    assert first.boxes.shape == (3, 4)
    assert first.boxes.dtype == np.float64
    assert np.isnan(first.boxes[1]).all()
    assert first.boxes[2].tolist() == [10.5, 9.0, 20.0, 16.0]
    assert [sequence.language for sequence in dataset] == ["the grey square", None]


def test_read_frame_is_rgb(tmp_path, write_sequence):
    write_sequence("a", [BOX, BOX])
    frame = FolderDataset(tmp_path)[0].read_frame(0)
    assert frame.shape == (48, 64, 3)
    assert frame.dtype == np.uint8
    red, green, blue = frame.reshape(-1, 3).mean(axis=0)
    assert red < 10
    assert abs(green - 128) < 5
    assert blue > 245


def test_selects_sequences_by_name_in_the_given_order(tmp_path, write_sequence):
    for name in ("a", "b", "c"):
        write_sequence(name, [BOX, BOX])
    dataset = open_dataset("folder", tmp_path, ["c", "a", "c"])
    assert [sequence.name for sequence in dataset] == ["c", "a"]
    assert [sequence.name for sequence in dataset[1:]] == ["a"]


def test_unknown_names_list_what_there_is(tmp_path, write_sequence):
    write_sequence("a", [BOX, BOX])
    with pytest.raises(DatasetError, match="no sequence z; it has a"):
        FolderDataset(tmp_path, ["a", "z"])


def test_images_and_broken_sequences_cost_nothing_until_they_are_used(tmp_path, write_sequence):
    directory = write_sequence("a", [BOX, BOX])
    (directory / "img" / "000002.jpg").write_bytes(b"")
    write_sequence("broken", ["x"])
    dataset = FolderDataset(tmp_path)
    assert len(dataset[0].read_frame(0)) == 48
    with pytest.raises(DatasetError, match=r"broken/groundtruth\.txt:1"):
        dataset[1]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1,2,3", "expected four numbers"),
        ("1,2,3,4,5", "expected four numbers"),
        ("1,2,three,4", "expected four numbers"),
        ("", "expected four numbers"),
        ("1,2,nan,4", "expected finite numbers"),
        ("1,2,inf,4", "expected finite numbers"),
        ("1,2,0,4", "expected width and height above 0"),
        ("1,2,3,-4", "expected width and height above 0"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, reason):
    path = tmp_path / "groundtruth.txt"
    path.write_text(f"{BOX}\n{line}\n{BOX}\n")
    with pytest.raises(DatasetError, match=re.escape(f"{path}:2: ") + ".*" + reason):
        read_boxes(path)


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_annotation_file_is_named(tmp_path, text):
    path = tmp_path / "groundtruth.txt"
    path.write_text(text)
    with pytest.raises(DatasetError, match=re.escape(str(path)) + ": empty"):
        read_boxes(path)


def test_a_binary_annotation_file_is_named(tmp_path):
    path = tmp_path / "groundtruth.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match=re.escape(str(path))):
        read_boxes(path)


@pytest.mark.parametrize("frames", [2, 4])
def test_wrong_counts_are_named(tmp_path, write_sequence, frames):
    write_sequence("a", [BOX] * 3, frames=frames)
    with pytest.raises(DatasetError, match=rf"a/groundtruth\.txt: 3 lines for {frames} images"):
        FolderDataset(tmp_path)[0]


def test_a_missing_frame_is_named(tmp_path, write_sequence):
    directory = write_sequence("a", [BOX] * 3)
    (directory / "img" / "000002.jpg").unlink()
    with pytest.raises(DatasetError, match=r"000001\.jpg is followed by 000003\.jpg"):
        FolderDataset(tmp_path)[0]


def test_an_image_without_a_number_is_named(tmp_path, write_sequence):
    directory = write_sequence("a", [BOX] * 2)
    (directory / "img" / "000002.jpg").rename(directory / "img" / "last.jpg")
    with pytest.raises(DatasetError, match=r"img/last\.jpg: expected a frame number"):
        FolderDataset(tmp_path)[0]


def test_other_files_beside_the_images_do_not_matter(tmp_path, write_sequence):
    directory = write_sequence("a", [BOX] * 2)
    (directory / "img" / "Thumbs.db").write_bytes(b"x")
    assert len(FolderDataset(tmp_path)[0]) == 2


def test_missing_and_empty_image_folders_are_named(tmp_path, write_sequence):
    directory = write_sequence("a", [BOX], frames=0)
    with pytest.raises(DatasetError, match="a/img: no image in it"):
        FolderDataset(tmp_path)[0]
    (directory / "img").rmdir()
    with pytest.raises(DatasetError, match="a/img: no such directory"):
        FolderDataset(tmp_path)[0]


def test_a_target_absent_at_the_start_is_refused(tmp_path, write_sequence):
    write_sequence("a", [ABSENT, BOX])
    with pytest.raises(DatasetError, match=r"groundtruth\.txt:1: target absent"):
        FolderDataset(tmp_path)[0]


def test_missing_and_empty_roots_are_named(tmp_path):
    with pytest.raises(DatasetError, match="no sequence in it"):
        FolderDataset(tmp_path)
    with pytest.raises(DatasetError, match="no such directory"):
        FolderDataset(tmp_path / "nowhere")


def test_an_unknown_kind_lists_the_known_ones(tmp_path):
    with pytest.raises(DatasetError, match="'vhs'; expected one of folder"):
        open_dataset("vhs", tmp_path)


@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_a_damaged_image_is_named(write_sequence, keep):
    path: Path = write_sequence("a", [BOX]) / "img" / "000001.jpg"
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(DatasetError, match=re.escape(str(path))):
        read_image(path)


def test_a_file_that_is_no_image_and_a_missing_one_are_named(tmp_path):
    path = tmp_path / "000001.png"
    with pytest.raises(DatasetError, match=re.escape(str(path)) + ": cannot be read"):
        read_image(path)
    path.write_text("not an image")
    with pytest.raises(DatasetError, match=re.escape(str(path)) + ": not a decodable image"):
        read_image(path)
