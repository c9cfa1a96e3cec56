# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from vt_models.errors import DatasetError
from vt_models.grounding import Grounder
from vt_models.grounding.confusion import KINDS, Case, absent_cases, cases, judge

if TYPE_CHECKING:
    from pathlib import Path

BLUE, RED = (20, 40, 220), (220, 20, 30)
CLIP_FRAME = {"video": "clip", "source": "x", "frame": 0}


def write_pack(root: Path, *images: dict[str, Any]) -> Path:
    """Images of 200 x 100 pixels; a box has its colour in the key "rgb"."""
    lines = []
    for number, entry in enumerate(images):
        image = np.full((100, 200, 3), 120, np.uint8)
        for item in entry["boxes"]:
            x, y, w, h = item["bbox"]
            image[y : y + h, x : x + w] = item.pop("rgb", (90, 90, 90))
        cv2.imwrite(str(root / f"{number}.png"), image[..., ::-1])
        lines.append(json.dumps({"image": f"{number}.png", "width": 200, "height": 100, **entry}))
    (root / "annotations.jsonl").write_text("\n".join(lines))
    return root


def box(name: str, x: int, w: int = 40, **more: Any) -> dict[str, Any]:
    return {"bbox": [x, 20, w, w], "name": name, **more}


def test_sides_sizes_and_colours_tell_two_apart(tmp_path: Path) -> None:
    pack = write_pack(
        tmp_path,
        {"boxes": [box("car", 10, rgb=RED), box("car", 140, rgb=BLUE)]},
        {"boxes": [box("dog", 10, 25), box("dog", 100, 60)]},
        {"boxes": [box("cat", 10), box("cat", 55)]},
    )
    found = {case.text: case for case in cases(pack)}
    assert set(found) == {
        "the car on the left", "the car on the right", "the red car", "the blue car",
        "the small dog", "the large dog",
    }  # fmt: skip
    assert found["the car on the left"].box == found["the red car"].box == (10, 20, 40, 40)
    assert found["the blue car"].rivals == ((10, 20, 40, 40),)
    assert found["the small dog"].box == (10, 20, 25, 25)
    assert {case.kind for case in found.values()} == set(KINDS) - {"alone"}


def test_what_is_alone_has_a_name_and_what_is_absent_another(tmp_path: Path) -> None:
    pack = write_pack(
        tmp_path,
        {"boxes": [box("car", 10), box("dog", 60), box("dog", 140)], "source": "x"},
        {"boxes": [box("cat", 10), box("bus", 100, 12)], "source": "x"},
        {"boxes": [box("boat", 10)], "source": "y"},
        {"boxes": [box("", 10)], "source": "x"},
    )
    alone = {case.text: case for case in cases(pack) if case.kind == "alone"}
    assert set(alone) == {"the car", "the cat", "the boat"}
    assert alone["the car"].rivals == ()
    absent = list(absent_cases(pack))
    assert absent == list(absent_cases(pack))
    by_image = {case.image.name: case.text for case in absent}
    assert by_image["0.png"] in {"the cat", "the bus"}
    assert by_image["1.png"] in {"the car", "the dog"}
    assert "2.png" not in by_image, "nobody looked for anything else there"
    assert [case.image.name for case in cases(pack, every=3)] == ["2.png"]
    assert list(absent_cases(pack, every=4)) == []


def test_words_that_fit_both_or_one_alone_make_no_case(tmp_path: Path) -> None:
    pack = write_pack(
        tmp_path,
        {"boxes": [box("car", 10, 12), box("dog", 140, 12)]},
        {"boxes": [box("car", 10, rgb=RED), box("car", 80, rgb=RED), box("car", 150)]},
        {"boxes": [box("car", 10, 8), box("car", 140, 40)]},
        {"boxes": [box("car", 100, 25), box("car", 100, 55)]},
        {**CLIP_FRAME, "boxes": [box("car", 10), box("car", 140)]},
    )
    assert list(cases(pack)) == []


def test_cases_people_have_no_colour_cases(tmp_path: Path) -> None:
    pack = write_pack(
        tmp_path, {"boxes": [box("person", 10, rgb=RED), box("person", 50, rgb=BLUE)]}
    )
    assert list(cases(pack)) == []


@pytest.mark.parametrize(
    ("answer", "precise", "wrong_one"),
    [
        (((12.0, 20.0, 40.0, 40.0), 0.05), True, False),
        (((140.0, 20.0, 40.0, 40.0), 0.9), False, True),
        (((80.0, 20.0, 40.0, 40.0), 0.9), False, False),
    ],
)
def test_a_backend_is_judged_by_its_best_box(
    tmp_path: Path, fake: Any, answer: Any, precise: bool, wrong_one: bool
) -> None:
    pack = write_pack(tmp_path, {"boxes": [box("car", 10), box("car", 140)]})
    left = next(case for case in cases(pack) if case.text == "the car on the left")
    outcome = judge(Grounder(fake(answer)), left)
    assert (outcome.precise, outcome.wrong_one) == (precise, wrong_one)
    assert judge(Grounder(fake()), left).precise is False
    alone = Case(left.image, "the car", left.box, (), "alone")
    assert judge(Grounder(fake(answer)), alone).precise is precise


def test_broken_packs_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        list(cases(tmp_path))
    (tmp_path / "annotations.jsonl").write_text("{")
    with pytest.raises(DatasetError, match=r"annotations.jsonl:1: not JSON"):
        list(cases(tmp_path))
    with pytest.raises(DatasetError, match=r"none\.png"):
        Case(tmp_path / "none.png", "x", (0, 0, 1, 1), (), "side").read()


def test_the_real_pack_has_cases_of_every_kind(shared_dir: Path) -> None:
    found = list(cases(shared_dir / "train_pack"))
    assert {case.kind for case in found} == set(KINDS)
    assert len(found) > 300
    assert all(case.image.is_file() for case in found)
