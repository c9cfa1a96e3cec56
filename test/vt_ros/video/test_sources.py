# SPDX-License-Identifier: Apache-2.0
"""Sources of frames: video files, folders of images, and what is neither."""

from __future__ import annotations

import numpy as np
import pytest

from vt_ros.video.sources import ImageFolder, SourceError, VideoFile, open_source


def numbers(source, most=100):
    found = []
    while len(found) < most and (frame := source.read()) is not None:
        found.append(round((float(np.mean(frame)) - 10) / 20))
    return found


def test_video_file_reads_from_start_to_stop(numbered):
    assert VideoFile(numbered.video).rate == numbered.rate
    assert numbers(VideoFile(numbered.video)) == list(range(numbered.count))
    part = VideoFile(numbered.video, 3, 7)
    assert numbers(part) == [3, 4, 5, 6]
    part.rewind()
    assert numbers(part) == [3, 4, 5, 6]
    assert numbers(VideoFile(numbered.video, numbered.count)) == []
    with pytest.raises(SourceError, match=f"has {numbered.count} frames"):
        VideoFile(numbered.video, numbered.count + 1)


def test_image_folder_reads_in_natural_order(numbered):
    assert numbers(ImageFolder(numbered.folder)) == list(range(numbered.count))
    assert numbers(ImageFolder(numbered.folder, 9, 11)) == [9, 10]


def test_image_folder_names_a_broken_image(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not an image")
    with pytest.raises(SourceError, match=r"a\.png"):
        ImageFolder(tmp_path).read()


def test_open_source_refuses_what_is_no_source(tmp_path):
    texts = [tmp_path / "text.mp4", tmp_path / "text.txt"]
    for text in texts:
        text.write_text("not a video\n" * 100)
    for name in ("", tmp_path / "absent.mp4", tmp_path, *texts, "99"):
        with pytest.raises(SourceError):
            open_source(str(name))
