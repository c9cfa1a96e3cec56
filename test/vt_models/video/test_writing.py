# SPDX-License-Identifier: Apache-2.0
"""Files appear whole or not at all."""

from __future__ import annotations

import subprocess
import sys

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


@pytest.mark.parametrize(("fps", "written"), [(1e-5, 0.01), (8e8, 1000.0), (0.5, 0.5)])
def test_video_writer_takes_the_nearest_rate_that_the_format_has(tmp_path, fps, written, caplog):
    """Bags have any: an image a day, or all images at one time."""
    with VideoWriter(tmp_path / "a.mp4", fps) as writer:
        for _ in range(3):
            writer.write(FRAME)
    video = VideoFile(tmp_path / "a.mp4")
    assert (video.fps, len(list(video))) == (written, 3)
    assert ("frames a second instead of" in caplog.text) == (fps != written)


def test_video_writer_that_could_not_open_is_not_closed_as_if_it_had(tmp_path):
    writer = VideoWriter(tmp_path / "a.mp4", 25.0)
    with pytest.raises(InputError, match="OpenCV does not open it for 70000x2 pixels"):
        writer.write(np.zeros((2, 70000, 3), np.uint8))
    with pytest.raises(InputError, match="OpenCV does not open it"):
        writer.close()
    writer.close()


@pytest.mark.parametrize("shape", [(47, 63), (47, 64), (48, 63)])
def test_video_writer_keeps_odd_rows_and_columns(tmp_path, shape, caplog):
    caplog.set_level("INFO")
    frame = np.zeros((*shape, 3), np.uint8)
    frame[-1], frame[:, -1] = 250, 250
    with VideoWriter(tmp_path / "a.mp4", 25.0) as writer:
        writer.write(frame)
    (read,) = VideoFile(tmp_path / "a.mp4")
    assert read.shape == (48, 64, 3)
    assert read[shape[0] - 1].mean() > 200
    assert read[:, shape[1] - 1].mean() > 200
    assert "48" in caplog.text


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from vt_models.errors import InputError
from vt_models.video.writing import VideoWriter, write_image
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
frames = np.random.default_rng(0).integers(0, 255, (12, 240, 320, 3), np.uint8)
for name in ("a.mp4", "a.png"):
    path = Path(sys.argv[1]) / name
    try:
        if path.suffix == ".png":
            write_image(path, frames[0])
        else:
            with VideoWriter(path, 25.0) as writer:
                for frame in frames:
                    writer.write(frame)
        print("written", name)
    except InputError as error:
        print(error)
"""


def test_a_file_that_the_disk_does_not_hold_is_an_error_and_leaves_the_previous_one(tmp_path):
    for name in ("a.mp4", "a.png"):
        (tmp_path / name).write_text("previous")
    said = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.splitlines()
    assert said[0].startswith(f"a video cannot be written to {tmp_path / 'a.mp4'}: 0 of 12 frames")
    assert said[1].startswith(f"{tmp_path / 'a.png'} cannot be written: ")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.mp4": "previous",
        "a.png": "previous",
    }


def test_write_image_names_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"a\.txt: OpenCV writes no such images"):
        write_image(tmp_path / "a.txt", FRAME)
    with pytest.raises(InputError, match="does its folder exist"):
        write_image(tmp_path / "nowhere" / "a.png", FRAME)
    write_image(tmp_path / "a.png", FRAME)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.png"]
