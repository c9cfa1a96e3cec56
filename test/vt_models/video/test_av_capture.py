# SPDX-License-Identifier: Apache-2.0
"""PyAV in place of an OpenCV without FFmpeg: the same frames, sizes and errors."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

av = pytest.importorskip("av", reason="the extra streams is not installed")

from vt_models.errors import InputError
from vt_models.video import av_capture
from vt_models.video.av_capture import AvCapture
from vt_models.video.sources import open_recorded, open_source


@pytest.fixture
def without_ffmpeg(monkeypatch):
    """An OpenCV as that of a Jetson: GStreamer alone, and no video is opened."""
    monkeypatch.setattr(av_capture, "opencv_has_ffmpeg", lambda: False)

    def refuse(*_):
        raise AssertionError("OpenCV was asked")

    monkeypatch.setattr(cv2, "VideoCapture", refuse)


@pytest.fixture(scope="module")
def h264(tmp_path_factory):
    """A video in H.264; its frames are greys that tell their number."""
    path = tmp_path_factory.mktemp("h264") / "a.mp4"
    with av.open(str(path), "w") as container:
        try:
            stream = container.add_stream("libx264", rate=25)
        except (av.FFmpegError, ValueError):
            pytest.skip("this PyAV has no encoder of H.264")
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(12):
            grey = np.full((48, 64, 3), 20 * number + 10, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def numbers(source):
    return [round((float(frame.mean()) - 10) / 20) for frame in source]


def test_h264_is_read_frame_by_frame_as_opencv_reads_it(h264, without_ffmpeg, monkeypatch):
    source = open_recorded(h264)
    assert (source.fps, source.count) == (25.0, 12)
    assert numbers(source) == list(range(12))
    assert numbers(open_recorded(h264, 3, 5)) == [3, 4]
    first = source.read_bgr()
    monkeypatch.undo()
    assert np.abs(first.astype(int) - open_recorded(h264).read_bgr()).max() <= 2


def test_what_is_no_video_is_refused(tmp_path, without_ffmpeg):
    text = tmp_path / "a.mp4"
    text.write_text("no video at all " * 100)
    with pytest.raises(InputError, match="is not a video that OpenCV can read"):
        open_recorded(text)
    with pytest.raises(InputError, match=r"rtsp://127\.0\.0\.1:9/\*\*\* cannot be opened"):
        open_source("rtsp://operator:secret@127.0.0.1:9/cam")


def test_remedy_is_named_where_nothing_has_ffmpeg(tmp_path, monkeypatch):
    text = tmp_path / "a.mp4"
    text.write_text("no video at all " * 100)
    monkeypatch.setattr(av_capture, "opencv_has_ffmpeg", lambda: False)
    monkeypatch.setattr(av_capture, "av", None)
    with pytest.raises(InputError, match=r"built without FFmpeg.*pip install '\.\[streams\]'"):
        open_recorded(text)


def test_capture_after_its_end_and_after_release_gives_nothing(h264):
    capture = AvCapture(str(h264))
    assert all(capture.grab() for _ in range(12))
    assert capture.read() == (False, None)
    capture.release()
    assert not capture.isOpened()
    assert not capture.grab()
    assert capture.get(cv2.CAP_PROP_FPS) == 0.0
