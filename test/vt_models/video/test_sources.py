# SPDX-License-Identifier: Apache-2.0
"""Sources of frames: video files, folders of images, and what is neither."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vt_models.errors import InputError
from vt_models.video.sources import ImageFolder, VideoFile, open_source


def numbers(source, most=100):
    found = []
    while len(found) < most and (frame := source.read_bgr()) is not None:
        found.append(round((float(np.mean(frame)) - 10) / 20))
    return found


def test_video_file_reads_from_start_to_stop(numbered):
    assert VideoFile(numbered.video).fps == numbered.fps
    assert numbers(VideoFile(numbered.video)) == list(range(numbered.count))
    part = VideoFile(numbered.video, 3, 7)
    assert numbers(part) == [3, 4, 5, 6]
    part.rewind()
    assert numbers(part) == [3, 4, 5, 6]
    assert numbers(VideoFile(numbered.video, numbered.count)) == []
    with pytest.raises(InputError, match=f"has {numbered.count} frames"):
        VideoFile(numbered.video, numbered.count + 1)


def test_image_folder_reads_in_natural_order(numbered):
    assert numbers(ImageFolder(numbered.folder)) == list(range(numbered.count))
    assert numbers(ImageFolder(numbered.folder, 9, 11)) == [9, 10]


def test_image_folder_names_a_broken_image(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"a\.png"):
        ImageFolder(tmp_path).read_bgr()


def test_open_source_refuses_what_is_no_source(tmp_path):
    texts = [tmp_path / "text.mp4", tmp_path / "text.txt"]
    for text in texts:
        text.write_text("not a video\n" * 100)
    for name in ("", tmp_path / "absent.mp4", tmp_path, *texts, "99"):
        with pytest.raises(InputError):
            open_source(str(name))


def test_iterating_gives_rgb_from_the_start_whatever_was_read(tmp_path):
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 2] = 255  # BGR
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), red)
    source = ImageFolder(tmp_path, 1)
    assert source.read_bgr()[0, 0].tolist() == [0, 0, 255]
    frames = iter(source)
    assert next(frames)[0, 0].tolist() == [255, 0, 0]
    assert source.read_bgr() is not None
    assert len(list(frames)) == 1
    assert source.read_bgr() is None


def test_video_file_can_be_read_while_it_is_iterated(numbered):
    source = VideoFile(numbered.video, 2, 6)
    frames = iter(source)
    assert round(float(np.mean(next(frames)))) == pytest.approx(50, abs=2)
    assert numbers(source) == [2, 3, 4, 5]
    assert len(list(frames)) == 3
    assert source.count == numbered.count
