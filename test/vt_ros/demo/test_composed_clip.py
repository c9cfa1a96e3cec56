# SPDX-License-Identifier: Apache-2.0
"""The demonstration's clip: where the view is, and that each run makes the same one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vt_models.errors import InputError
from vt_models.video.sources import VideoFile
from vt_ros.common.resources import footage_file
from vt_ros.demo.composed_clip import AWAY, HIDDEN, compose


def test_clip_shows_the_shot_as_filmed_and_swings_away_and_back(tmp_path):
    footage = footage_file("bikes.mp4")
    if not footage.is_file():
        pytest.skip("the footage is not here; `make demo` brings it")
    compose(footage, tmp_path / "clip.mp4")
    clip, montage = (list(VideoFile(path)) for path in (tmp_path / "clip.mp4", footage))
    assert {frame.shape for frame in clip} == {(272, 340, 3)}
    assert HIDDEN.stop < AWAY.start < AWAY.stop < len(clip)

    def is_view(index, source, left):
        view = montage[source][:, left : left + 340]
        return np.abs(cv2.subtract(clip[index], view)).mean() < 4.0

    assert all(is_view(index, 78 + index, 300) for index in range(0, 137 - 78, 10))
    assert is_view(59, 135, 300)  # the shot's end, backwards
    for index, left in ((AWAY[0], 0), (AWAY[-1], 0), (len(clip) - 1, 300)):
        assert any(is_view(index, source, left) for source in range(107, 137)), index
    compose(footage, tmp_path / "again.mp4")
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "clip.mp4").read_bytes()


def test_clip_without_footage_names_the_file(tmp_path):
    with pytest.raises(InputError, match=r"film\.mp4 does not exist"):
        compose(tmp_path / "film.mp4", tmp_path / "clip.mp4")
    assert not list(tmp_path.iterdir())
