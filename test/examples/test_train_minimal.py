# SPDX-License-Identifier: Apache-2.0
"""examples/train_minimal.py trains, and its labels say where the target is."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")
pytest.importorskip("timm", reason="needs the training packages")

import vt_models
from vt_models.datasets import open_dataset

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

pytestmark = pytest.mark.train

WIDTH, HEIGHT, SIDE, FRAMES = 160, 120, 24, 8


@pytest.fixture
def example(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "train_minimal", repository / "examples" / "train_minimal.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A green square that moves over black."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    writer = cv2.VideoWriter(
        str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (WIDTH, HEIGHT)
    )
    boxes = []
    for number in range(FRAMES):
        x, y = 20 + 8 * number, 30 + 4 * number
        frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        frame[y : y + SIDE, x : x + SIDE, 1] = 255
        writer.write(frame)
        boxes.append([x, y, SIDE, SIDE])
    writer.release()
    video = {"video": "a.mp4", "width": WIDTH, "height": HEIGHT, "frames": FRAMES, "fps": 25}
    line = json.dumps({**video, "tracks": [{"id": 1, "name": "square", "boxes": boxes}]})
    (tmp_path / "annotations.jsonl").write_text(line + "\n")
    return tmp_path


def test_pairs_show_the_target_where_the_label_says(example: ModuleType, videos: Path) -> None:
    sequence = open_dataset("videos", videos)[0]
    rng = np.random.default_rng(3)
    for _ in range(10):
        pair = example.draw_pair(sequence, vt_models.get_spec("asymtrack_lite0"), rng)
        template, (x, y, w, h), search, (cx, cy, width, height) = pair
        for crop, box in (
            (template, (x, y, w, h)),
            (search, (cx - width / 2, cy - height / 2, width, height)),
        ):
            rows, columns = np.nonzero(crop[..., 1] > 128)
            low = np.array([columns.min(), rows.min()]) / len(crop)
            high = np.array([columns.max() + 1, rows.max() + 1]) / len(crop)
            assert low == pytest.approx(np.array(box[:2]), abs=0.02)
            assert high == pytest.approx(np.array(box[:2]) + box[2:], abs=0.02)


def test_loss_is_least_for_the_truth(example: ModuleType) -> None:
    box = torch.tensor([[0.5, 0.4, 0.3, 0.2]])
    boxes = box[:, :, None, None].expand(1, 4, 16, 16)
    place = (torch.arange(16) + 0.5) / 16
    inside = ((place[None, :] - 0.5).abs() < 0.1) & ((place[:, None] - 0.4).abs() < 0.08)
    right = torch.where(inside, 8.0, -8.0)[None]
    best = example.dense_loss(right, boxes, box)
    assert best < 0.1
    assert example.dense_loss(-right, boxes, box) > best + 1
    assert example.dense_loss(right, boxes + 0.1, box) > best + 0.1


def test_a_few_steps_lower_the_loss(
    example: ModuleType,
    videos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["train_minimal.py", "--root", str(videos), "--steps", "6", "--batch", "2"]
    monkeypatch.setattr(sys, "argv", words)
    example.main()
    losses = [float(text) for text in re.findall(r"loss (\S+)", capsys.readouterr().out)]
    assert len(losses) == 6
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_the_example_fits_on_a_screen(repository: Path) -> None:
    lines = (repository / "examples" / "train_minimal.py").read_text().splitlines()
    assert len(lines) <= 150
