# SPDX-License-Identifier: Apache-2.0
"""A miniature image pack, written to disk as real files."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

WIDTH, HEIGHT = 160, 120


def _textured(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    coarse = rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def _scene(rng: np.random.Generator, target: np.ndarray, x: int, y: int) -> np.ndarray:
    image = _textured(rng, HEIGHT, WIDTH) // 3
    image[y : y + target.shape[0], x : x + target.shape[1]] = target
    return image


@pytest.fixture(scope="session")
def mini_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight photographs with one object each, and two clips of six frames."""
    root = tmp_path_factory.mktemp("pack")
    rng = np.random.default_rng(0)
    lines = []

    def add(name: str, target: np.ndarray, x: int, y: int, **extra: object) -> None:
        cv2.imwrite(str(root / name), _scene(rng, target, x, y))
        box = [float(x), float(y), float(target.shape[1]), float(target.shape[0])]
        boxes = [{"bbox": box, "name": "thing", "track": 0}]
        lines.append(
            {"image": name, "width": WIDTH, "height": HEIGHT, "boxes": boxes}
            | {"source": "photographs"}
            | extra
        )

    for i in range(8):
        add(f"still{i}.png", _textured(rng, 24 + 2 * i, 40 - 2 * i), 20 + 5 * i, 30 + 3 * i)
    for clip in range(2):
        target = _textured(rng, 30, 24)
        for frame in range(6):
            extra = {"video": f"clip{clip}", "frame": frame, "orig_frame": 10 * frame}
            extra["source"] = f"clip{clip}"
            add(f"clip{clip}_{frame}.png", target, 30 + 8 * frame, 40 + 2 * frame, **extra)
    (root / "annotations.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return root
