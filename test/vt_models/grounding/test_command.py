# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import pytest

from vt_models.cli import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def picture(red: Any, tmp_path: Path) -> Path:
    """160 x 120 pixels with one red square at (20, 30)."""
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), red.frame(160, 120, (20, 30, 10, 10))[..., ::-1])
    return path


def ground(picture: Path, detector: Path, *more: str) -> int:
    return main(
        ["ground", "--backend", "onnx", "--source", str(detector), "--image", str(picture), *more]
    )


def test_one_box_is_found(
    red_detector: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = tmp_path / "out.png"
    assert ground(picture, red_detector, "--text", "the red one", "--draw", str(drawn)) == 0
    out = capsys.readouterr().out
    assert "found 'the red one' with score" in out
    assert "20.0,30.0,10.0,10.0" in out
    image = cv2.imread(str(drawn))
    assert image.shape == (120, 160, 3)
    assert (image != cv2.imread(str(picture))).any()
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_the_json_object_is_all_there_is_on_standard_output(
    red_detector: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ground(picture, red_detector, "--text", " the  red one", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["status"], found["text"], found["backend"]) == ("found", "the red one", "onnx")
    assert found["chosen"] == found["candidates"][0]
    assert found["chosen"]["box"] == pytest.approx([20, 30, 10, 10], abs=0.1)
    assert 0.9 < found["chosen"]["score"] <= 1
    assert set(found) == {
        "image", "text", "status", "reason", "chosen", "candidates", "best_score", "backend",
        "seconds",
    }  # fmt: skip


def test_nothing_found_is_status_1(
    red_detector: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = ("--text", "red", "--threshold", "1.0", "--json")
    assert ground(picture, red_detector, *text) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["status"], found["chosen"], found["candidates"]) == ("nothing", None, [])


def test_several_alike_are_status_1(
    red: Any, red_detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "two.png"
    frame = red.frame(160, 120, (20, 30, 10, 10), (100, 30, 10, 10))
    cv2.imwrite(str(path), frame[..., ::-1])
    assert ground(path, red_detector, "--text", "red") == 1
    assert "ambiguous: 2 candidates" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--text", " "), "holds no word"),
        (("--text", "x" * 10240), "10240 characters"),
        (("--text", "red", "--threshold", "2"), "threshold is 2.0"),
        (("--text", "red", "--draw", "out.xyz"), "OpenCV writes no such images"),
        (("--text", "red", "--image", "nowhere.png"), "nowhere.png does not exist"),
        (("--text", "red", "--image", __file__), "not an image"),
        (("--text", "red", "--source", "nowhere"), "does not exist"),
        (("--text", "red", "--device", "tpu"), "no device called 'tpu'"),
        (("--text", "red", "--threads", "0"), "threads must be"),
    ],
)
def test_errors_are_one_line_and_status_2(
    red_detector: Path,
    picture: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    message: str,
) -> None:
    assert ground(picture, red_detector, *more) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
