# SPDX-License-Identifier: Apache-2.0
"""Files appear whole or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from vt_models.errors import InputError
from vt_models.video.sources import VideoFile
from vt_models.video.writing import VideoWriter, write_image

FRAME = np.full((48, 64, 3), 90, np.uint8)


def test_video_writer_file_appears_when_it_is_closed(tmp_path):
    path = tmp_path / "a.mp4"
    writer = VideoWriter(path, 25.0)
    for frame in (FRAME, FRAME[:24], FRAME):  # the first one sets the size
        writer.write(frame)
    assert not path.exists()
    writer.close()
    video = VideoFile(path)
    assert (video.fps, [frame.shape for frame in video]) == (25.0, [FRAME.shape] * 3)
    assert list(tmp_path.iterdir()) == [path]


def test_video_writer_leaves_nothing_after_an_error_or_without_a_frame(tmp_path):
    def write_and_fail():
        with VideoWriter(tmp_path / "a.mp4", 25.0) as writer:
            writer.write(FRAME)
            raise RuntimeError("the tracker failed")

    with pytest.raises(RuntimeError, match="the tracker failed"):
        write_and_fail()
    with VideoWriter(tmp_path / "b.mp4", 25.0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_write_image_names_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"a\.txt: OpenCV writes no such images"):
        write_image(tmp_path / "a.txt", FRAME)
    with pytest.raises(InputError, match="does its folder exist"):
        write_image(tmp_path / "nowhere" / "a.png", FRAME)
    write_image(tmp_path / "a.png", FRAME)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.png"]
