# SPDX-License-Identifier: Apache-2.0
"""`vt-models data` names everything that is wrong with a dataset at once."""

from __future__ import annotations

import json

import pytest

from vt_models.cli.main import main


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
    assert capsys.readouterr().out.splitlines()[0].endswith("1 problem")


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
