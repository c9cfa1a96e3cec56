# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import pytest

from vt_models.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def image(red: Any, tmp_path: Path) -> Path:
    """160 x 120 pixels with one red square at (20, 30)."""
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), red.frame(160, 120, (20, 30, 10, 10))[..., ::-1])
    return path


def ground(image: Path, detector: Path, *more: str) -> int:
    return main(
        [
            "ground",
            "--grounding-backend",
            "onnx",
            "--grounding-source",
            str(detector),
            "--image",
            str(image),
            *more,
        ]
    )


def test_one_box_is_found(
    red_detector: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = tmp_path / "out.png"
    assert ground(image, red_detector, "--text", "the red one", "--draw", str(drawn)) == 0
    out = capsys.readouterr().out
    assert "found 'the red one' with score" in out
    assert "20.0,30.0,10.0,10.0" in out
    image = cv2.imread(str(drawn))
    assert image.shape == (120, 160, 3)
    assert (image != cv2.imread(str(image))).any()
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_the_json_object_is_all_there_is_on_standard_output(
    red_detector: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ground(image, red_detector, "--text", " the  red one", "--json") == 0
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
    red_detector: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = ("--text", "red", "--grounding-threshold", "1.0", "--json")
    assert ground(image, red_detector, *text) == 1
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
        (("--text", "red", "--grounding-threshold", "2"), "threshold is 2.0"),
        (("--text", "red", "--draw", "out.xyz"), "OpenCV writes no such images"),
        (("--text", "red", "--image", "nowhere.png"), "nowhere.png: cannot be read"),
        (("--text", "red", "--image", __file__), "not a decodable image"),
        (("--text", "red", "--grounding-source", "nowhere"), "does not exist"),
        (("--text", "red", "--device", "tpu"), "no device called 'tpu'"),
        (("--text", "red", "--threads", "0"), "threads must be"),
    ],
)
def test_errors_are_one_line_and_status_2(
    red_detector: Path,
    image: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    message: str,
) -> None:
    assert ground(image, red_detector, *more) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.fixture
def clip(red: Any, tmp_path: Path) -> Path:
    """Six frames of 160 x 120 pixels in which a red square moves to the right."""
    folder = tmp_path / "clip"
    folder.mkdir()
    for index in range(6):
        frame = red.frame(160, 120, (20 + 2 * index, 30, 20, 20))
        cv2.imwrite(str(folder / f"{index}.png"), frame[..., ::-1])
    return folder


def track(clip: Path, detector: Path, *more: str) -> int:
    words = [
        "track",
        str(clip),
        "--grounding-backend",
        "onnx",
        "--grounding-source",
        str(detector),
        "--json",
    ]
    return main([*words, *more])


def test_a_video_is_tracked_from_what_the_text_finds(
    red: Any, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_cell = red.write(tmp_path / "red", red.graph(), default_threshold=0.95)
    assert track(clip, one_cell, "--text", "the red one") == 2  # four cells are red
    error = capsys.readouterr().err
    assert "ambiguous: 4 candidates for 'the red one'" in error
    assert "Give one --box: 20.0,30.0,10.0,10.0; " in error
    for path in clip.iterdir():  # now one of them is
        image = cv2.imread(str(path))
        image[:30], image[40:] = 90, 90
        image[:, :20], image[:, 30:] = 90, 90
        cv2.imwrite(str(path), image)
    assert track(clip, one_cell, "--text", "the red one") == 0
    streams = capsys.readouterr()
    assert json.loads(streams.out)["boxes"][0] == pytest.approx([20, 30, 10, 10], abs=0.1)
    assert "found 'the red one'" in streams.err


def test_tracking_without_box_and_text_says_what_to_give(
    red_detector: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert track(clip, red_detector) == 2
    assert (
        "give the target's --box X,Y,W,H in the first frame, or --text" in capsys.readouterr().err
    )
    assert track(clip, red_detector, "--text", " ") == 2
    assert "holds no word" in capsys.readouterr().err
