# SPDX-License-Identifier: Apache-2.0
"""The moving picture of the README."""

from __future__ import annotations

import runpy

import numpy as np
import pytest

from vt_models.video.sources import VideoFile

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed; `make train-setup`")


def test_gif_starts_with_the_first_frame_and_lasts_as_long_as_the_video(
    numbered, repository, tmp_path
):
    video = VideoFile(numbered.video)
    script = runpy.run_path(str(repository / "scripts" / "demo_gif.py"))
    script["write_gif"](video, tmp_path / "demo.gif")
    with Image.open(tmp_path / "demo.gif") as picture:
        first = np.asarray(picture.convert("RGB"))
        shown = []
        for index in range(picture.n_frames):  # Pillow makes one of frames that look the same
            picture.seek(index)
            shown.append(picture.info["duration"])
    assert abs(int(first.mean()) - 10) < 6
    assert sum(shown) == 1000 + 80 * (numbered.count // 2 - 1)


def test_gif_in_the_repository_is_small(repository):
    assert (repository / "docs" / "images" / "demo.gif").stat().st_size < 3_000_000
