# SPDX-License-Identifier: Apache-2.0
"""Sources of frames: video files, folders of images, and what is neither."""

from __future__ import annotations

import contextlib
import http.server
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import cv2
import numpy as np
import pytest

from vt_models.errors import InputError
from vt_models.video import sources
from vt_models.video.sources import (
    CameraUnavailableError,
    ImageFolder,
    VideoFile,
    Webcam,
    open_recorded,
    open_source,
)


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


def test_image_folder_says_once_that_its_images_are_of_several_sizes(tmp_path, caplog):
    for name, shape in (("1", (48, 64)), ("2", (48, 64)), ("3", (24, 32)), ("4", (48, 64))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((*shape, 3), np.uint8))
    source = ImageFolder(tmp_path)
    for _ in range(2):
        assert len(numbers(source)) == 4
        source.rewind()
    (said,) = [record.message for record in caplog.records]
    assert said.startswith(f"{tmp_path / '3.png'} has 32x24 pixels, the image before it 64x48")


def test_image_folder_says_once_which_image_is_damaged_inside(tmp_path, caplog):
    pytest.importorskip("simplejpeg", reason="tells of damage")
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    for name in ("1", "2", "3"):
        (tmp_path / f"{name}.jpg").write_bytes(data)
    for name in ("2", "3"):
        (tmp_path / f"{name}.jpg").write_bytes(data[:2000] + data[2200:])
    source = ImageFolder(tmp_path)
    for _ in range(2):
        assert all(source.read_bgr() is not None for _ in range(3))
        source.rewind()
    said = [record.message.partition(" is damaged inside (Corrupt")[0] for record in caplog.records]
    assert said == [str(tmp_path / "2.jpg"), str(tmp_path / "3.jpg")]


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


def test_video_file_that_is_gone_cannot_be_rewound(numbered, tmp_path):
    path = tmp_path / "video.avi"
    shutil.copy(numbered.video, path)
    source = VideoFile(path)
    assert numbers(source)
    source.rewind()
    assert numbers(source)
    path.unlink()
    with pytest.raises(InputError, match="is gone, or no video"):
        source.rewind()


def test_video_file_says_once_that_frames_are_missing(numbered, caplog):
    source = VideoFile(numbered.video)
    source.count = 120
    for _ in range(2):
        numbers(source)
        source.rewind()
    said = f"declares 120 frames and ends after {numbered.count}: it is cut off or damaged"
    assert [said in record.message for record in caplog.records] == [True]


def test_video_file_says_once_that_it_is_turned(tmp_path, caplog):
    path = tmp_path / "turned.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    upright = VideoFile(path)
    assert numbers(upright)
    assert not caplog.records
    data = bytearray(path.read_bytes())
    # the matrix of ISO/IEC 14496-12's track header, for a quarter
    place = data.index(b"tkhd") + 44
    data[place : place + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30)
    path.write_bytes(data)
    assert next(iter(VideoFile(path))).shape == (64, 48, 3)
    assert [record.message for record in caplog.records] == [
        f"{path} is turned by 90 degrees, as it says; boxes belong to the turned image"
    ]


@pytest.mark.parametrize(
    ("name", "said", "secret"),
    [
        ("rtsp://operator:pass@word@10.0.0.7/cam", "rtsp://10.0.0.7/*** is the address of", "word"),
        ("rtsp:/operator:secret@10.0.0.7/cam", "rtsp:/10.0.0.7/*** is the address of", "secret"),
        ("rtsp://10.0.0.7/user=me&password=secret", "//10.0.0.7/*** is the address of", "secret"),
        ("/data/what?/a.mp4", "/data/what?/a.mp4 does not exist", "stream,"),
        ("/data/x:/me@home/a.mp4", "/data/x:/me@home/a.mp4 does not exist", "stream,"),
        ("http://10.0.0.7/mjpg?user=me&pwd=secret", "is the address of a stream", "secret"),
        ("/dev/zero", "/dev/zero is a device", "absent"),
        ("absent.mp4", "absent.mp4 does not exist; give a video file", "device"),
    ],
)
def test_open_recorded_names_what_it_was_given_without_its_password(name, said, secret):
    with pytest.raises(InputError) as caught:
        open_recorded(name)
    assert said in str(caught.value)
    assert secret not in str(caught.value)


class Device:
    """What is used of `cv2.VideoCapture`; it is unplugged after a frame, and there again later."""

    opened = 0

    def __init__(self, *_):
        type(self).opened += 1
        self._frames = 1 if type(self).opened in (1, 3) else 0

    def isOpened(self):  # noqa: N802 - as OpenCV calls it
        return type(self).opened != 2

    def get(self, _):
        return 30.0

    def read(self):
        self._frames -= 1
        return self._frames >= 0, np.full((4, 4, 3), self.opened, np.uint8)

    def release(self):
        self._frames = 0


def test_webcam_that_was_unplugged_is_opened_again(monkeypatch, caplog):
    """With a device of the test's own: there is none on the machines that run it."""
    monkeypatch.setattr(sources.cv2, "VideoCapture", Device)
    monkeypatch.setattr(sources, "_REOPENING_PAUSE", 0.01)
    source = open_source("/dev/video7")
    assert source.is_live
    assert source.waits_for_frames
    assert [int(source.read_bgr()[0, 0, 0]) for _ in range(2)] == [1, 3]
    assert caplog.messages == [
        "camera /dev/video7 gives no more frames; it is opened again and again",
        "camera /dev/video7 is there again",
    ]
    waiting = threading.Timer(0.1, source.interrupt)
    waiting.start()
    assert source.read_bgr() is None
    source.close()


class NetworkCamera(http.server.BaseHTTPRequestHandler):
    """Sends a few greys as Motion JPEG and hangs up; the next connection gets the next ones."""

    protocol_version = "HTTP/1.0"
    connections = 0

    def do_GET(self):
        kind = type(self)
        kind.connections += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace;boundary=frame")
        self.end_headers()
        for _ in range(4):
            grey = np.full((48, 64, 3), 20 * kind.connections + 10, np.uint8)
            data = cv2.imencode(".jpg", grey)[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            with contextlib.suppress(OSError):
                self.wfile.write(head.encode() + data + b"\r\n")

    def log_message(self, *_):
        """Say nothing."""


def test_network_stream_gives_the_newest_frame_and_connects_again(caplog, capfd):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), NetworkCamera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = open_source(
            f"http://operator:secret@127.0.0.1:{server.server_port}/cam?pwd=secret"
        )
        seen = set()
        while len(seen) < 2:
            seen.update(numbers(source, 1))
        waiting = threading.Thread(target=source.close)
        waiting.start()
        while source.read_bgr() is not None:
            pass
        waiting.join()
        server.shutdown()
    assert seen == {1, 2}
    assert source.is_live
    assert "http://127.0.0.1" in caplog.text
    assert "has ended or is silent; it is opened again" in caplog.text
    assert "secret" not in caplog.text + "".join(capfd.readouterr())


class SilentCamera(NetworkCamera):
    """Sends a few greys and then nothing, for as long as anybody listens."""

    def do_GET(self):
        super().do_GET()
        with contextlib.suppress(OSError):
            self.rfile.read(1)


def test_network_stream_that_is_not_closed_does_not_abort_the_process():
    """C++ code would, if Python took itself down while it reads."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), SilentCamera) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code = (
            "from vt_models.video.sources import open_source\n"
            f"source = open_source('http://127.0.0.1:{server.server_port}/cam')\n"
            "print(source.read_bgr().shape)\n"
        )
        command = [sys.executable, "-c", code]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        server.shutdown()
    assert (ended.returncode, ended.stdout) == (0, "(48, 64, 3)\n"), ended.stderr


# On Debian and Ubuntu: apt install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-ugly
RTSP_CAMERA = """
import gi, sys
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer as rtsp
Gst.init(None)
server = rtsp.RTSPServer(service=sys.argv[1], address="127.0.0.1")
factory = rtsp.RTSPMediaFactory(shared=True)
factory.set_launch(
    "( videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=20/1 ! "
    "x264enc tune=zerolatency key-int-max=10 ! rtph264pay name=pay0 )"
)
token = rtsp.RTSPToken()
token.set_string("media.factory.role", "viewer")
auth = rtsp.RTSPAuth()
auth.add_basic(rtsp.RTSPAuth.make_basic("viewer", "secret"), token)
server.set_auth(auth)
permissions = rtsp.RTSPPermissions()
permissions.add_permission_for_role("viewer", "media.factory.access", True)
permissions.add_permission_for_role("viewer", "media.factory.construct", True)
factory.set_permissions(permissions)
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
assert Gst.ElementFactory.find("x264enc") and Gst.ElementFactory.find("rtph264pay")
print("ready", flush=True)
GLib.MainLoop().run()
"""


@contextlib.contextmanager
def rtsp_camera(port):
    """A camera that speaks RTSP, by GStreamer's server, for the user viewer with a password."""
    command = ["/usr/bin/python3", "-c", RTSP_CAMERA, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            if server.stdout.readline() != b"ready\n":
                pytest.skip("GStreamer's RTSP server is not installed")
            yield server
        finally:
            server.kill()


def test_network_stream_from_an_rtsp_camera(caplog, capfd):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"rtsp://viewer:secret@127.0.0.1:{port}/cam"
    with rtsp_camera(port):
        for wrong in (address.replace("viewer:secret@", "viewer:secre@"), address + "era"):
            with pytest.raises(InputError, match=rf"rtsp://127\.0\.0\.1:{port}/\*\*\* cannot be"):
                open_source(wrong)
        source = open_source(address)
        assert source.is_live
        assert source.waits_for_frames
        assert all(source.read_bgr().shape == (48, 64, 3) for _ in range(5))
    while "has ended or is silent" not in caplog.text:
        time.sleep(0.05)
    with rtsp_camera(port):
        for _ in range(2):  # one may have been waiting
            assert source.read_bgr().shape == (48, 64, 3), "it is opened again"
        source.close()
        assert source.read_bgr() is None
    assert not [thread for thread in threading.enumerate() if thread.name == "stream"]
    assert "secre" not in caplog.text + "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rtsp://operator:secret@127.0.0.1:9/cam", "rtsp://127.0.0.1:9/*** cannot be opened"),
        ("/dev/null", "camera /dev/null cannot be opened"),
        ("/dev/v4l/by-id/absent", "camera /dev/v4l/by-id/absent cannot be opened"),
        ("98765", "camera 98765 cannot be opened; check /dev/video98765"),
    ],
)
def test_open_source_says_that_a_camera_is_not_there(name, said, capfd):
    with pytest.raises(CameraUnavailableError) as caught:
        open_source(name)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value) + "".join(capfd.readouterr())


def test_open_source_takes_a_video_in_shared_memory_for_a_video(numbered):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = shutil.copy(numbered.video, folder)
        assert isinstance(open_source(str(path)), VideoFile)


def test_open_source_takes_a_folder_of_digits_for_a_folder(numbered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2024").symlink_to(numbered.folder)
    assert isinstance(open_source("2024"), ImageFolder)
    with pytest.raises(CameraUnavailableError):
        Webcam(2024)
