# SPDX-License-Identifier: Apache-2.0
"""Miniature datasets that the evaluation tests write to disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

WriteSequence = Callable[..., Path]


@pytest.fixture
def write_sequence(tmp_path: Path) -> WriteSequence:
    """Write a sequence of grey 64 x 48 frames into `tmp_path` and return its directory."""

    def write(name: str, lines: list[str], frames: int | None = None, text: str = "") -> Path:
        directory = tmp_path / name
        (directory / "img").mkdir(parents=True)
        for number in range(1, (len(lines) if frames is None else frames) + 1):
            frame = np.full((48, 64, 3), (255, 128, number), np.uint8)
            assert cv2.imwrite(str(directory / "img" / f"{number:06d}.jpg"), frame)
        (directory / "groundtruth.txt").write_text("\n".join(lines) + "\n")
        if text:
            (directory / "language.txt").write_text(text + "\n")
        return directory

    return write
