# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.errors import BackendError, InputError, WeightsError
from vt_models.grounding import GroundingCancelledError, GroundingSettings, create_grounder
from vt_models.grounding.export_directory import TextFormat, read_detector
from vt_models.grounding.onnx_detector import PromptEncoder, place
from vt_models.runtime.export_directory import sha256_of
from vt_models.text import vocabulary

if TYPE_CHECKING:
    from pathlib import Path

onnx = pytest.importorskip("onnx")

TEXT = {"length": 16, "lower_case": True, "ending": ".", "separators": ".?", "pad_id": 0}
STYLE = TextFormat(length=8, lower_case=True, ending=".", separators=".?", pad_id=0)


@pytest.mark.parametrize(
    ("width", "height", "target"),
    [
        (320, 240, (200, 40, 40, 40)),  # the canvas' proportions, twice its size
        (640, 200, (500, 100, 60, 60)),  # wider: rows of the canvas are padding
        (200, 640, (60, 500, 60, 60)),  # higher: columns are
        (40, 30, (20, 10, 8, 8)),  # smaller than the canvas
    ],
)
def test_onnx_detector_finds_red_where_it_is(
    red: Any, red_detector: Path, width: int, height: int, target: tuple[int, int, int, int]
) -> None:
    frame = red.frame(width, height, target)
    settings = GroundingSettings(threshold=0.5, ambiguity_margin=0.0)
    grounding = create_grounder("onnx", red_detector, settings=settings).find(
        frame, "something red"
    )
    assert grounding.chosen is not None
    x, y, w, h = grounding.chosen.box
    cell = red.cell * max(width / red.canvas[1], height / red.canvas[0])
    assert (w, h) == pytest.approx((cell, cell), rel=0.03)
    inside = (target[0] + target[2] / 2, target[1] + target[3] / 2)
    assert abs(x + w / 2 - inside[0]) <= cell
    assert abs(y + h / 2 - inside[1]) <= cell


def test_swapped_and_read_only_frames_are_read_alike(red: Any, red_detector: Path) -> None:
    grounder = create_grounder("onnx", red_detector, settings=GroundingSettings(threshold=0.5))
    frame = red.frame(320, 240, (200, 40, 40, 40))
    swapped = np.ascontiguousarray(frame[..., ::-1])[..., ::-1]
    swapped.setflags(write=False)
    assert grounder.find(swapped, "red").candidates == grounder.find(frame, "red").candidates
    blue = red.frame(320, 240, (200, 40, 40, 40), colour=(0, 0, 255))
    assert grounder.find(blue, "red").status == "nothing"


def test_onnx_detector_two_equal_objects_are_ambiguous(red: Any, red_detector: Path) -> None:
    frame = red.frame(160, 120, (20, 20, 10, 10), (100, 60, 10, 10))
    grounding = create_grounder("onnx", red_detector).find(frame, "the red one")
    assert grounding.reason.startswith("ambiguous: 2 candidates")
    assert [candidate.box for candidate in grounding.candidates] == [
        pytest.approx((20, 20, 10, 10)),
        pytest.approx((100, 60, 10, 10)),
    ]


@given(st.integers(1, 300), st.integers(1, 300))
def test_onnx_detector_takes_frames_of_any_size(width: int, height: int) -> None:
    placed = place(np.full((height, width, 3), 200, np.uint8), (60, 80), (1, 2, 3))
    rows, columns = placed.size
    assert placed.image.shape == (60, 80, 3)
    assert rows == 60 or columns == 80
    assert (placed.image[:rows, :columns] == 200).all()
    assert (placed.image[rows:] == (1, 2, 3)).all()
    assert (placed.image[:, columns:] == (1, 2, 3)).all()
    assert abs(rows - height * min(60 / height, 80 / width)) <= 1


def test_text_becomes_padded_word_pieces() -> None:
    ids, mask = PromptEncoder(vocabulary(), STYLE)("The white CAR.")
    assert ids.tolist() == [[101, 1996, 2317, 2482, 1012, 102, 0, 0]]
    assert mask.tolist() == [[True] * 6 + [False] * 2]


def test_names_of_special_tokens_are_text() -> None:
    style = dataclasses.replace(STYLE, length=16)
    ids, _ = PromptEncoder(vocabulary(), style)("[SEP] car")
    assert ids[0].tolist().count(102) == 1


def test_text_that_would_be_cut_is_refused() -> None:
    with pytest.raises(InputError, match="10 word pieces, this detector reads 6"):
        PromptEncoder(vocabulary(), STYLE)("one two three four five six seven eight nine")


def test_text_of_unknown_words_is_refused() -> None:
    with pytest.raises(InputError, match="knows no word"):
        PromptEncoder(vocabulary(), STYLE)("🚗🚗")


def test_a_run_is_stopped_by_a_later_request(red: Any, tmp_path: Path) -> None:
    slow = red.write(tmp_path / "slow", red.graph(rounds=200_000))  # a minute
    begin = time.monotonic()
    with pytest.raises(GroundingCancelledError):
        create_grounder("onnx", slow).find(
            red.frame(160, 120), "red", lambda: time.monotonic() > begin + 0.5
        )
    assert time.monotonic() - begin < 30


def test_missing_directory_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="vt-models ground-export"):
        create_grounder("onnx", tmp_path)


def test_a_changed_file_is_refused(red: Any, red_detector: Path, tmp_path: Path) -> None:
    directory = red.write(tmp_path / "red", (red_detector / "detector.onnx").read_bytes())
    with (directory / "detector.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(WeightsError, match="changed or damaged"):
        read_detector(directory)
    (directory / "tokenizer.json").unlink()
    (directory / "detector.onnx").write_bytes((red_detector / "detector.onnx").read_bytes())
    with pytest.raises(WeightsError, match=r"tokenizer\.json cannot be read"):
        read_detector(directory)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format_version": 2}, "format_version 2"),
        ({"canvas": [0, 10]}, "0 where a whole number from 1 to 4096 belongs"),
        ({"canvas": [10**9, 10**9]}, "1000000000 where a whole number"),
        ({"canvas": [1.5, 10]}, "where a whole number"),
        ({"text": {**TEXT, "length": 10**9}}, "where a whole number from 1 to 1024"),
        ({"padding": [10**30] * 3}, "where a whole number from 0 to 255"),
        ({"default_threshold": 1e300}, "where a number from 0 to 1 belongs"),
        ({"canvas": "large"}, "not a complete description"),
        ({"text": {"length": 16}}, "lower_case"),
        ({"padding": [0, 0]}, "not a complete description"),
        ({"names": "car"}, "up to 10000 names"),
        ({"names": ["car", 7]}, "7 where a name belongs"),
        ({"names": [""]}, "where a name belongs"),
        ({"files": {}}, "detector.onnx"),
    ],
)
def test_a_broken_description_is_refused(
    red: Any, red_detector: Path, tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    graph = (red_detector / "detector.onnx").read_bytes()
    with pytest.raises(WeightsError, match=match):
        read_detector(red.write(tmp_path / "red", graph, **changes))


def test_another_graph_is_refused(red: Any, tmp_path: Path) -> None:
    helper, value = onnx.helper, onnx.helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "other",
        [value("x", onnx.TensorProto.FLOAT, [1])],
        [value("y", onnx.TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    directory = red.write(tmp_path / "other", model.SerializeToString())
    with pytest.raises(WeightsError, match=r"inputs \['x'\] and outputs \['y'\]; expected image"):
        create_grounder("onnx", directory)
    broken = red.write(tmp_path / "broken", b"not a graph")
    with pytest.raises(BackendError, match=r"cannot load detector\.onnx"):
        create_grounder("onnx", broken)


def test_a_broken_tokenizer_is_refused(red: Any, red_detector: Path, tmp_path: Path) -> None:
    graph = (red_detector / "detector.onnx").read_bytes()
    directory = red.write(tmp_path / "red", graph)
    (directory / "tokenizer.json").write_bytes(b"{}")
    manifest = json.loads((directory / "grounding.json").read_text())
    manifest["files"]["tokenizer.json"]["sha256"] = sha256_of(b"{}")
    (directory / "grounding.json").write_text(json.dumps(manifest))
    with pytest.raises(WeightsError, match=r"tokenizer\.json: this is not a vocabulary"):
        create_grounder("onnx", directory)
