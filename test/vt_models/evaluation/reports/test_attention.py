# SPDX-License-Identifier: Apache-2.0
"""What networks saw in the worst sequences: which frames are shown, as PNG and in the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the training packages")
pytest.importorskip("jinja2", reason="needs the [report] extra")

from vt_models.cli.main import main
from vt_models.datasets.folder import FolderDataset
from vt_models.evaluation.reports.attention import worst_frames
from vt_models.evaluation.runs.runner import Report, SequenceResult, accuracy_of

FRAMES = 4


@pytest.fixture
def root(tmp_path: Path, write_sequence: Any) -> Path:
    """A bright square that the tracker follows, and one that the truth says is elsewhere."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 90, (96, 128, 3), dtype=np.uint8)
    for name, lefts in (("data/easy", (50, 52, 54, 56)), ("data/wrong", (50, 52, 2, 2))):
        folder = write_sequence(name, [f"{left},40,24,20" for left in lefts])
        for index in range(FRAMES):
            frame = noise.copy()
            frame[40:60, 50 + 2 * index : 74 + 2 * index] = (40, 200, 230)
            assert cv2.imwrite(str(folder / "img" / f"{index + 1:06d}.jpg"), frame)
    return tmp_path / "data"


def test_worst_frames_are_the_first_lost_ones_of_the_lowest_overlaps(root: Path) -> None:
    sequences = FolderDataset(root)
    results = []
    for sequence in (sequences[index] for index in range(len(sequences))):
        boxes = np.array([(50.0 + 2 * index, 40, 24, 20) for index in range(FRAMES)])
        boxes[2, 1] += 4  # the lowest overlap of "easy", and no failure
        accuracy = accuracy_of(boxes, sequence)
        results.append(SequenceResult(sequence.name, boxes, np.ones(FRAMES), np.ones(3), accuracy))
    found = worst_frames(Report("model", tuple(results)), sequences, 2)
    assert [(sequence.name, frame) for sequence, frame, _ in found] == [("wrong", 2), ("easy", 2)]
    assert found[0][2] == 0
    assert found[1][2] == pytest.approx(16 / 24)
    assert len(worst_frames(Report("model", tuple(results)), sequences, 1)) == 1


def test_eval_attention_writes_images_and_a_section_of_the_page(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["eval", "--model", "asymtrack_lite0", "--dataset", "folder", "--root", str(root)]
    words += ["--no-cache", "--device", "cpu", "--output", str(out)]
    assert main([*words, "--attention", "1"]) == 0
    (about,) = json.loads((out / "report.json").read_text())["attention"]
    assert (about["model"], about["sequence"], about["frame"]) == ("asymtrack_lite0", "wrong", 2)
    image = cv2.imread(str(out / about["file"]))
    assert image.shape[0] > 320
    page = (out / "report.html").read_text()
    assert "<h2>Inside the network</h2>" in page
    assert "asymtrack_lite0 in wrong, frame 3 (overlap 0.00)" in page
    assert all(panel["caption"].replace("'", "&#39;") in page for panel in about["panels"])
    assert main(words) == 0
    assert "Inside the network" not in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--attention", "1"], "give --output"),
        (["--attention", "-1"], "--attention -1: expected a number of sequences"),
        (["--attention", "1", "--output", "OUT", "--stream", "30"], "so --stream does not go"),
        (["--attention", "1", "--output", "OUT", "--protocol", "vot"], "--attention does not go"),
        (
            ["--attention", "1", "--output", "OUT", "--model", "asymtrack_t"],
            "has no weights.safetensors",
        ),
    ],
)
def test_eval_attention_that_cannot_be_drawn_is_refused_before_any_run(
    root: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vt_models.cli.eval.run_one_pass", lambda *_: pytest.fail("ran"))
    words = [str(tmp_path / "out") if word == "OUT" else word for word in options]
    model = [] if "--model" in words else ["--model", "asymtrack_lite0"]
    where = ["--dataset", "folder", "--root", str(root), "--no-cache", "--device", "cpu"]
    assert main(["eval", *model, *where, *words]) == 2
    assert message in capsys.readouterr().err
