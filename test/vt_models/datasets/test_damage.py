# SPDX-License-Identifier: Apache-2.0
"""Damaged datasets: every reader names the file, and the line where there is one."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest

from vt_models.datasets import open_dataset
from vt_models.errors import DatasetError


@dataclass(frozen=True)
class Place:
    """Where things are in the miniature of a kind: of the sequence at `index` of a split."""

    kind: str
    truth: str
    frame: str
    split: str | None = None
    index: int = 0


PLACES = [
    Place("folder", "car/groundtruth.txt", "car/img/000003.jpg"),
    Place("lasot", "cat/cat-2/groundtruth.txt", "cat/cat-2/img/00000003.jpg"),
    Place("lasot_ext", "cat/cat-2/groundtruth.txt", "cat/cat-2/img/00000003.jpg"),
    Place(
        "got10k",
        "val/GOT-10k_Val_000001/groundtruth.txt",
        "val/GOT-10k_Val_000001/00000003.jpg",
    ),
    Place("trackingnet", "TRAIN_0/anno/def_0.txt", "TRAIN_0/frames/def_0/2.jpg", "train"),
    Place(
        "tnl2k",
        "TNL2K_test_subset/Ant_video_01/groundtruth.txt",
        "TNL2K_test_subset/Ant_video_01/imgs/shot_10.png",
    ),
    Place("otb", "Couple/groundtruth_rect.txt", "Couple/img/0003.jpg"),
    Place("tc128", "Ball_ce/Ball_ce_gt.txt", "Ball_ce/img/0005.jpg"),
    Place("uav123", "anno/UAV123/bird1_2.txt", "data_seq/UAV123/bird1/000007.jpg"),
    Place("nfs", "airboard_1/240/airboard_1.txt", "airboard_1/240/airboard_1/00003.jpg", "240"),
    Place("vot", "ants1/groundtruth.txt", "ants1/color/00000003.jpg"),
    Place("davis", "", "JPEGImages/480p/dogs/00002.jpg", index=1),
]
KINDS = [place.kind for place in PLACES]
WITH_TEXT = [place for place in PLACES if place.truth]


def read(tree, place):
    return open_dataset(place.kind, tree.root, split=place.split)[place.index]


def of(places):
    return pytest.mark.parametrize("place", places, ids=[place.kind for place in places])


def change_lines(tree, place, change):
    path = tree.root / place.truth
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("\n".join(lines) + "\n")


@of(PLACES)
def test_a_missing_frame(build, place):
    tree = build(place.kind)
    (tree.root / place.frame).unlink()
    folder = place.frame.rpartition("/")[0]
    with pytest.raises(DatasetError, match=folder) as caught:
        read(tree, place)
    if place.kind != "tnl2k":
        assert "is followed by" in str(caught.value)


@of(PLACES)
def test_an_unreadable_image(build, place):
    tree = build(place.kind)
    path = tree.root / place.frame
    path.write_bytes(path.read_bytes()[:60])
    sequence = read(tree, place)
    index = sequence.frames.index(path)
    with pytest.raises(DatasetError, match=place.frame):
        sequence.read_frame(index)


@of(PLACES)
def test_files_that_macos_puts_beside_others_are_none(build, place):
    tree = build(place.kind)
    before = read(tree, place).frames
    for path in [path for path in tree.root.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    assert read(tree, place).frames == before


@of(PLACES)
def test_a_pipe_or_a_device_is_not_read(build, place):
    tree = build(place.kind)
    frame = tree.root / place.frame
    index = read(tree, place).frames.index(frame)
    frame.unlink()
    os.mkfifo(frame)
    with pytest.raises(DatasetError, match=f"{place.frame}: cannot be read: it is a pipe"):
        read(tree, place).read_frame(index)
    if place.truth:
        (tree.root / place.truth).unlink()
        (tree.root / place.truth).symlink_to("/dev/zero")
        with pytest.raises(DatasetError, match=f"{place.truth}: cannot be read.*it is a device"):
            read(tree, place)


@of(PLACES)
def test_no_images_at_all(build, place):
    tree = build(place.kind)
    folder = (tree.root / place.frame).parent
    for path in folder.glob("*.[jp][pn]g"):
        path.unlink()
    with pytest.raises(DatasetError, match="no image in it"):
        read(tree, place)


@of(WITH_TEXT)
@pytest.mark.parametrize("change", ["few", "many"])
def test_a_wrong_number_of_lines(build, place, change):
    tree = build(place.kind)

    def edit(lines):
        extra = 2 if place.kind == "nfs" else 1
        if change == "few":
            del lines[-extra:]
        elif place.kind == "nfs":
            lines += [lines[-1].replace(" 32 ", f" {number} ") for number in (33, 34)]
        else:
            lines.append(lines[-1])

    change_lines(tree, place, edit)
    with pytest.raises(DatasetError, match=rf"{place.truth}: \d+ lines for \d+ images in "):
        read(tree, place)


@of(WITH_TEXT)
@pytest.mark.parametrize("damage", ["nan", "word", "blank"])
def test_an_unparsable_line(build, place, damage):
    tree = build(place.kind)
    text = {"nan": "1,2,nan,4", "word": "1,2,three,4", "blank": ""}[damage]

    def edit(lines):
        lines[1] = text

    change_lines(tree, place, edit)
    with pytest.raises(DatasetError, match=rf"{place.truth}:2: .*expected"):
        read(tree, place)


@of([place for place in WITH_TEXT if place.kind not in ("folder", "uav123", "nfs", "vot")])
def test_nan_is_no_absent_target_where_the_dataset_has_none(build, place):
    tree = build(place.kind)

    def edit(lines):
        lines[2] = "NaN,NaN,NaN,NaN"

    change_lines(tree, place, edit)
    with pytest.raises(DatasetError, match=rf"{place.truth}:3: .*expected finite numbers"):
        read(tree, place)


@of(WITH_TEXT)
def test_a_target_that_is_absent_at_the_start(build, place):
    tree = build(place.kind)

    def edit(lines):
        nothing = {"folder": "nan,nan,nan,nan", "vot": "0"}.get(place.kind, "0,0,0,0")
        lines[0] = '0 0 2 3 6 1 1 0 0 "ball"' if place.kind == "nfs" else nothing

    change_lines(tree, place, edit)
    with pytest.raises(DatasetError, match=rf"{place.truth}:1: target absent"):
        read(tree, place)


@of(WITH_TEXT)
def test_an_empty_file_of_boxes(build, place):
    tree = build(place.kind)
    (tree.root / place.truth).write_text("")
    with pytest.raises(DatasetError, match=rf"{place.truth}: empty; expected"):
        read(tree, place)


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        ("got10k", "val/list.txt"),
        ("vot", "list.txt"),
        ("davis", "ImageSets/2017/val.txt"),
        ("lasot", "cat/cat-2/full_occlusion.txt"),
        ("lasot", "cat/cat-2/out_of_view.txt"),
        ("got10k", "val/GOT-10k_Val_000001/cover.label"),
    ],
)
def test_a_missing_file(build, kind, missing):
    tree = build(kind)
    (tree.root / missing).unlink()
    with pytest.raises(DatasetError, match=missing):
        open_dataset(kind, tree.root)[0]


@pytest.mark.parametrize(
    ("kind", "file", "where"),
    [
        ("lasot", "testing_set.txt", ":2: 'dog-1'"),
        ("got10k", "val/list.txt", ":2: 'dog-1'"),
        ("vot", "list.txt", ":3: 'dog-1'"),
        ("davis", "ImageSets/2017/val.txt", ":3: 'dog-1"),
    ],
)
def test_a_list_that_names_what_is_not_there(build, kind, file, where):
    tree = build(kind)
    with (tree.root / file).open("a") as opened:
        opened.write("dog-1\n")
    with pytest.raises(DatasetError, match=file + where):
        open_dataset(kind, tree.root)


@pytest.mark.parametrize(
    ("kind", "file", "text", "message"),
    [
        ("lasot", "cat/cat-2/out_of_view.txt", "0,1,0", "3 flags for 4 images"),
        ("lasot", "cat/cat-2/out_of_view.txt", "0,1,0,2", ":1: .*expected numbers from 0 to 1"),
        ("lasot", "cat/cat-2/full_occlusion.txt", "0,1,0,0.5", "0.5 for frame 4; expected 0 or 1"),
        ("got10k", "val/GOT-10k_Val_000001/cover.label", "8\n8\n9\n8", ":3: '9'; expected"),
        ("got10k", "val/GOT-10k_Val_000001/absence.label", "0\n0\nx\n0", ":3: 'x'; expected"),
        ("uav123", "anno/UAV123/att/bird1_2.txt", "1,0,1", ":1: '1,0,1'; expected 12 flags"),
        ("uav123", "configSeqs.m", "seqUAV123={};", ": nothing about bird1_2 in seqUAV123"),
        ("vot", "ants1/occlusion.tag", "0\n" * 5, "5 flags for 4 images"),
        ("vot", "ants1/sequence", "fps", ":1: 'fps'; expected key=value"),
        ("vot", "ants1/sequence", "channels.color=../x/%08d.jpg", "expected a path below"),
        ("vot", "ants1/groundtruth.txt", "1,2,3,4,5", ":1: .*expected a rectangle"),
        ("vot", "ants1/groundtruth.txt", "m1,2,3", ":1: .*expected a rectangle"),
        ("vot", "ants1/groundtruth.txt", "m1,2,3,3,5,6", ":1: .*runs of 11 pixels"),
        ("vot", "ants1/groundtruth.txt", "m1,2,99999,99999,1", ":1: .*runs of 1 pixels"),
        ("vot", "ants1/groundtruth.txt", "m1,2,3,3,inf", ":1: .*expected a rectangle"),
        ("nfs", "airboard_1/30/airboard_1.txt", '0 1 2 3 4 0 0 0 "a"', ":1: .*expected track"),
    ],
)
def test_damaged_flags_regions_and_settings(build, kind, file, text, message):
    tree = build(kind)
    (tree.root / file).write_text(text + "\n")
    with pytest.raises(DatasetError, match=file + ".*" + message):
        open_dataset(kind, tree.root)[0]


def test_a_frame_that_an_annotation_skips(build):
    tree = build("nfs")
    place = Place("nfs", "airboard_1/240/airboard_1.txt", "", "240")
    change_lines(tree, place, lambda lines: lines.pop(5))
    with pytest.raises(DatasetError, match=r"airboard_1\.txt:6: frame 7; expected 6"):
        read(tree, place)


def test_a_damaged_mask_and_a_missing_one(build):
    tree = build("davis")
    mask = tree.root / "Annotations/480p/dogs/00002.png"
    mask.write_bytes(mask.read_bytes()[:40])
    with pytest.raises(DatasetError, match=r"dogs/00002\.png: truncated JPEG or PNG"):
        open_dataset("davis", tree.root)[1]
    mask.unlink()
    with pytest.raises(DatasetError, match=r"00001\.png is followed by 00003\.png"):
        open_dataset("davis", tree.root)
    (mask.parent / "00003.png").unlink()
    with pytest.raises(DatasetError, match=r"Annotations/480p/dogs: 2 masks for 4 images"):
        open_dataset("davis", tree.root)[1]


def test_a_damaged_archive(build):
    tree = build("trackingnet")
    path = tree.root / "TRAIN_10/zips/ghi_1.zip"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DatasetError, match=r"ghi_1\.zip: cannot be read as an archive"):
        open_dataset("trackingnet", tree.root, split="train_10")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_without_the_dataset(tmp_path, kind):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=str(tmp_path / "empty")):
        open_dataset(kind, tmp_path / "empty")
    with pytest.raises(DatasetError, match="nowhere: no such directory"):
        open_dataset(kind, tmp_path / "nowhere")
