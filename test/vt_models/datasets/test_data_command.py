# SPDX-License-Identifier: Apache-2.0
"""`vt-models data` names everything that is wrong with a dataset at once."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest

from vt_models.cli.data import check
from vt_models.cli.main import main
from vt_models.datasets import open_dataset


def test_a_sound_dataset_is_counted(build, capsys):
    tree = build("lasot")
    words = ["data", "--dataset", "lasot", "--root", str(tree.root), "--split", "all"]
    assert main([*words, "--images", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "entries": 2,
        "images": 8,
        "boxes": 4,
        "absent": 4,
        "occluded": 2,
        "texts": 2,
        "problems": [],
    }
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("2 entries, 8 images, 4 boxes, 4 absent")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_all_problems_are_named(build, capsys, jobs):
    tree = build("lasot")
    truth = tree.root / "cat/cat-2/groundtruth.txt"
    truth.write_text(truth.read_text().replace("4,2,3,4", "4,two,3,4"))
    frames = [tree.root / f"cat/cat-10/img/0000000{number}.jpg" for number in (1, 3)]
    for frame in frames:
        frame.write_bytes(frame.read_bytes()[:80])
    words = ["data", "--dataset", "lasot", "--root", str(tree.root), "--split", "all"]
    assert main([*words, "--images", "--jobs", jobs]) == 1
    first, *problems = capsys.readouterr().out.splitlines()
    assert "2 entries, 4 images" in first
    assert first.endswith("3 problems")
    assert [problem.partition(": ")[0] for problem in problems] == [
        f"{truth}:4",
        *(str(frame) for frame in frames),
    ]
    assert main(words) == 1
    found = capsys.readouterr().out.splitlines()
    assert found[0].endswith("2 problems"), "the first image is always read"


def test_images(tree, capsys):
    tree.frames("train2017/%012d.jpg", range(1, 3))
    images = [
        {"id": number, "file_name": f"{number:012d}.jpg", "width": 32, "height": 24 + number - 1}
        for number in (1, 2)
    ]
    boxes = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 5, 5], "iscrowd": 0}
        for n in (1, 2)
    ]
    content = {"images": images, "categories": [{"id": 1, "name": "dog"}], "annotations": boxes}
    tree.json("annotations/instances_train2017.json", content)
    words = ["data", "--dataset", "coco", "--root", str(tree.root)]
    assert main(words) == 0
    assert capsys.readouterr().out == "2 entries, 2 images, 2 boxes: no problem\n"
    assert main([*words, "--images"]) == 1
    assert (
        "000000000002.jpg: 32 x 24 pixels; its annotation says 32 x 25" in capsys.readouterr().out
    )


def test_bad_arguments_end_in_one_line(build, capsys):
    tree = build("otb")
    words = ["data", "--dataset", "otb", "--root", str(tree.root)]
    assert main([*words, "--jobs", "0"]) == 2
    assert main([*words, "--split", "none"]) == 2
    assert "otb has no split 'none'" in capsys.readouterr().err


def write_images(folder, sizes, orientation=1):
    (folder / "img").mkdir(parents=True)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0" + bytes((orientation, 0, 0))
    segment = b"\xff\xe1" + (len(exif) + 6).to_bytes(2, "big") + exif + bytes(4)
    for number, (width, height) in enumerate(sizes, start=1):
        data = cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))[1].tobytes()
        (folder / f"img/{number:06d}.jpg").write_bytes(data[:2] + segment + data[2:])
    (folder / "groundtruth.txt").write_text("50,50,40,40\n" * len(sizes))


def test_images_of_several_sizes_are_named(tmp_path):
    write_images(tmp_path / "s", [(320, 240)] * 2 + [(160, 120)] * 2)
    problems = check(open_dataset("folder", tmp_path), decode=True).problems
    said = "s: images of several sizes: 320x240 from frame 1 on, 160x120 from frame 3 on"
    assert problems == [said]


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_images_that_are_turned_as_their_exif_says_are_named(tmp_path, orientation):
    write_images(tmp_path / "s", [(320, 240)] * 2, orientation)
    problems = check(open_dataset("folder", tmp_path), decode=False).problems
    assert len(problems) == (orientation != 1)
    if problems:
        assert "000001.jpg is turned as its EXIF says (orientation" in problems[0]


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        (["200,150,260,210"] * 4, "corners instead of sizes"),
        (["0.2,0.2,0.1,0.1"] * 4, "fractions of the image"),
        (["50,50,40,40"] * 2 + ["5000,5000,40,40"] * 2, "2 of 4 boxes.* shows nothing"),
        (["300,50,60,40"] + ["50,50,40,40"] * 3, None),  # a target that leaves on the right
    ],
)
def test_boxes_that_cannot_be_right_are_named(tmp_path, boxes, said):
    (tmp_path / "s" / "img").mkdir(parents=True)
    for number in range(1, 5):
        cv2.imwrite(str(tmp_path / f"s/img/{number:06d}.jpg"), np.zeros((240, 320, 3), np.uint8))
    (tmp_path / "s" / "groundtruth.txt").write_text("\n".join(boxes))
    problems = check(open_dataset("folder", tmp_path), decode=False).problems
    assert len(problems) == (said is not None)
    if said:
        assert re.search(said, problems[0])
