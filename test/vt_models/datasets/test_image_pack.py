# SPDX-License-Identifier: Apache-2.0
"""Image packs: what is read from `annotations.jsonl`, and how its mistakes are named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from vt_models.datasets.image_pack import PackImage, PackObject, is_held_out, read_image_pack
from vt_models.errors import DatasetError

BOX = {"bbox": [1, 2, 30.5, 40], "name": "car"}
STILL = {"image": "img/a.jpg", "width": 160, "height": 120, "boxes": [BOX]}
FRAME = {**STILL, "image": "clip/0.jpg", "source": "v", "video": "v_0", "frame": 3}


def write(root: Path, *lines: Any) -> Path:
    texts = [one if isinstance(one, str) else json.dumps(one) for one in lines]
    (root / "annotations.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return root


def test_image_pack_with_an_image_and_frames_is_read(tmp_path: Path) -> None:
    described = {**BOX, "sentence": "a red car", "track": 7, "difficult": 1, "poly": [[0, 0]]}
    frame = {**FRAME, "orig_frame": 103, "boxes": [described]}
    unknown = {**FRAME, "orig_frame": None, "boxes": []}
    image, first, second = read_image_pack(write(tmp_path, STILL, "", frame, unknown))
    box = (1.0, 2.0, 30.5, 40.0)
    assert image == PackImage("img/a.jpg", 160, 120, (PackObject(box, "car"),))
    assert first.objects == (PackObject(box, "car", "a red car", "7", is_difficult=True),)
    assert (first.source, first.clip, first.frame) == ("v", "v_0", 103)
    assert (second.frame, second.objects) == (3, ())


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\u0085"])
def test_line_separator_of_unicode_does_not_end_a_line(tmp_path: Path, sign: str) -> None:
    described = {**STILL, "boxes": [{**BOX, "sentence": f"a red{sign}car"}]}
    line = json.dumps(described, ensure_ascii=False)

    images = read_image_pack(write(tmp_path, line, STILL))

    assert [image.objects[0].sentence for image in images] == [f"a red{sign}car", ""]


def test_byte_order_mark_and_carriage_returns_are_no_part_of_a_line(tmp_path: Path) -> None:
    line = json.dumps(STILL).encode()
    (tmp_path / "annotations.jsonl").write_bytes(b"\xef\xbb\xbf" + line + b"\r\n" + line + b"\r\n")

    assert [image.image for image in read_image_pack(tmp_path)] == ["img/a.jpg", "img/a.jpg"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[]", "list instead of an object"),
        ({**STILL, "image": 3}, '"image" is 3'),
        ({**STILL, "width": 0}, '"width" is 0; expected a whole number above 0'),
        ({**STILL, "height": "12"}, "\"height\" is '12'"),
        ({**STILL, "boxes": None}, '"boxes" is None'),
        ({**STILL, "boxes": [BOX, {}]}, '"bbox" of box 1 is None'),
        ({**STILL, "boxes": [3]}, '"bbox" of box 0 is None'),
        ({**STILL, "boxes": [{"bbox": [1, 2, 3]}]}, "box 0 is [1, 2, 3]; expected four"),
        ({**STILL, "boxes": [{"bbox": [1, 2, 3, float("inf")]}]}, "four finite numbers"),
        ({**STILL, "boxes": [{"bbox": [1, 2, True, 4]}]}, "four finite numbers"),
        ({**FRAME, "source": None}, '"source" is None; expected the video'),
        ({**FRAME, "frame": "first"}, "\"frame\" is 'first'; expected a whole number"),
        ({**FRAME, "orig_frame": 1.5}, '"orig_frame" is 1.5'),
    ],
)
def test_wrong_line_is_named_with_file_and_line(tmp_path: Path, line: Any, message: str) -> None:
    write(tmp_path, STILL, line)
    pattern = re.escape("annotations.jsonl:2: ") + ".*" + re.escape(message)
    with pytest.raises(DatasetError, match=pattern):
        read_image_pack(tmp_path)


def test_all_wrong_lines_are_named_at_once(tmp_path: Path) -> None:
    write(tmp_path, "{", STILL, {}, *["[]"] * 30)
    with pytest.raises(DatasetError) as found:
        read_image_pack(tmp_path)
    lines = str(found.value).splitlines()
    named = [re.search(r"jsonl:(\d+): ", one)[1] for one in lines[:-1]]
    assert named == ["1", "3", *(str(number) for number in range(4, 22))]
    assert lines[-1] == "and 12 more lines"


def test_missing_and_empty_annotations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"annotations.jsonl does not exist"):
        read_image_pack(tmp_path)
    with pytest.raises(DatasetError, match="holds no images"):
        read_image_pack(write(tmp_path, ""))
    (tmp_path / "annotations.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_image_pack(tmp_path)


def test_held_out_images_are_every_so_many() -> None:
    assert [number for number in range(30) if is_held_out(number, 12)] == [11, 23]
    assert not any(is_held_out(number, 0) for number in range(30))


def test_shared_packs_are_read(shared_dir: Path) -> None:
    """Of all lines of both packs none is wrong."""
    for name, count in (("train_pack", 6652), ("train_stills", 2200)):
        root = shared_dir / name
        if root.is_dir():
            assert len(read_image_pack(root)) == count
