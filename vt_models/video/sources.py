# SPDX-License-Identifier: Apache-2.0
"""Sources of frames: a video file, a folder of images, a bag, a webcam, or a stream."""

from __future__ import annotations

import atexit
import logging
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError, install_hint
from vt_models.files import read_bytes
from vt_models.video import av_capture
from vt_models.video.av_capture import AvCapture
from vt_models.video.bags.paths import is_bag
from vt_models.video.image_messages import ConversionError
from vt_models.video.images import (
    IMAGE_SUFFIXES,
    MOST_IMAGE_BYTES,
    UPRIGHT,
    decode_image,
    exif_orientation,
    is_hidden,
    is_image,
    natural_key,
)

if TYPE_CHECKING:
    from vt_models.video.bags.reader import BagImage

_LOG = logging.getLogger(__name__)

Frame = NDArray[np.uint8]
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})
DEFAULT_FPS = 30.0

_HIGHEST_FPS = 1000.0
_UNSURE_COUNT = 0.02
"""Share of the frames by which containers without a count of frames are wrong about it."""
_TURNED = "boxes belong to the turned image"
# OpenCV's own limit of 30 s would leave a robot that long without a word.
_STREAM_TIMEOUT_MS = 5000
_REOPENING_PAUSE = 1.0
"""Seconds between two tries to open a stream or a device."""
# FFmpeg plays a text file as a film of its letters.
_LETTERS = cv2.VideoWriter.fourcc(*"ansi")


def is_video(path: Path) -> bool:
    """Return whether a file is a video by its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not is_hidden(path)


class FrameSource(ABC):
    """Frames in order.

    Attributes:
        fps: frames a second that it was made for; 30 where it does not say.
        count: how many frames the whole of it has; None where it does not say.
        is_live: it keeps its own time (a camera); otherwise frames come as fast as they are read.
        waits_for_frames: `read_bgr` waits until a frame comes, however long; `interrupt` ends that.
    """

    fps = DEFAULT_FPS
    count: int | None = None
    is_live = False
    waits_for_frames = False

    def __init__(self) -> None:
        self._said: set[str] = set()

    def _say_once(self, text: str, *values: object) -> None:
        """Log a warning, the first time only: sources are read again and again."""
        if text not in self._said:
            self._said.add(text)
            _LOG.warning(text, *values)

    @abstractmethod
    def read_bgr(self) -> Frame | None:
        """Return the next frame, (H, W, 3) uint8 BGR as codecs deliver it; None at the end.

        Raises:
            InputError: an image of a folder cannot be read.
        """

    @abstractmethod
    def rewind(self) -> None:
        """Go back to the first frame; does nothing for a camera.

        Raises:
            InputError: a file has changed meanwhile, and cannot be read any more.
        """

    def interrupt(self) -> None:  # noqa: B027 - most sources do not wait
        """End a `read_bgr` that waits in another thread, and all later ones: they return None."""

    @abstractmethod
    def close(self) -> None:
        """Release the file or the device."""


class RecordedSource(FrameSource):
    """Frames that can be read again and again; iterating gives them from the start, in RGB."""

    def __iter__(self) -> Iterator[Frame]:
        """Yield (H, W, 3) uint8 RGB frames from the start, independently of `read_bgr`.

        Raises:
            InputError: an image of a folder cannot be read.
        """
        source = self._opened_again()
        try:
            while (image := source.read_bgr()) is not None:
                yield np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
        finally:
            source.close()

    @abstractmethod
    def _opened_again(self) -> RecordedSource:
        """Return another source of the same frames."""


class VideoFile(RecordedSource):
    """A video file, from frame `start` up to and without frame `stop`.

    Args:
        path: of the file.
        start: first frame, counted from 0. Frames before it are decoded and skipped: seeking
            is not exact to the frame in every format.
        stop: None: to the end.

    Raises:
        InputError: no such file, not a video, or shorter than `start`.
    """

    def __init__(self, path: Path, start: int = 0, stop: int | None = None) -> None:
        if not path.is_file():
            raise InputError(f"video file {path} does not exist")
        super().__init__()
        self._path, self._start, self._stop = path, start, stop
        self._capture = self._open()
        is_text = int(self._capture.get(cv2.CAP_PROP_FOURCC)) == _LETTERS
        if is_text or not self._capture.isOpened() or not self._capture.grab():
            self._capture.release()
            remedy = av_capture.remedy()
            raise InputError(f"{path} is not a video that OpenCV can read{remedy}")
        self.fps = _frame_rate(self._capture)
        self.count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if self.count <= 0:
            self.count = None
        self._angle = int(self._capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 360
        self.rewind()

    def read_bgr(self) -> Frame | None:
        """See `FrameSource`."""
        if self._stop is not None and self._next >= self._stop:
            return None
        good, frame = self._capture.read()
        if not good:
            if is_cut_off(self.count, self._next):
                self._say_once(
                    "%s declares %d frames and ends after %d: it is cut off or damaged",
                    *(self._path, self.count, self._next),
                )
            return None
        self._next += 1
        if self._angle:
            self._say_once(
                "%s is turned by %d degrees, as it says; %s", self._path, self._angle, _TURNED
            )
        return np.asarray(frame, np.uint8)

    def rewind(self) -> None:
        """Go back to frame `start`."""
        self._capture.release()
        self._capture = self._open()
        if not self._capture.isOpened():
            raise InputError(f"{self._path} is gone, or no video that OpenCV can read any more")
        self._next = 0
        while self._next < self._start:
            if not self._capture.grab():
                raise InputError(
                    f"{self._path} has {self._next} frames, so none to start from at {self._start}"
                )
            self._next += 1

    def close(self) -> None:
        """Release the file."""
        self._capture.release()

    def _open(self) -> cv2.VideoCapture | AvCapture:
        if av_capture.is_needed():
            return AvCapture(str(self._path))
        return cv2.VideoCapture(str(self._path))

    def _opened_again(self) -> VideoFile:
        return VideoFile(self._path, self._start, self._stop)


class ImageFolder(RecordedSource):
    """The images of a folder in natural order of their names (9 before 10).

    Args:
        path: of the folder.
        start, stop: first image, and the one after the last (None: all); counted from 0.

    Raises:
        InputError: no such folder, or no image in this range.
    """

    def __init__(self, path: Path, start: int = 0, stop: int | None = None) -> None:
        super().__init__()
        if not path.is_dir():
            raise InputError(f"image folder {path} does not exist")
        images = [file for file in path.iterdir() if is_image(file)]
        if not images:
            raise InputError(f"{path} has no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        self._path, self._start, self._stop = path, start, stop
        self._files = sorted(images, key=natural_key)[start:stop]
        if not self._files:
            raise InputError(f"{path} has {len(images)} images, none from number {start} on")
        self.count = len(images)
        self._next, self._shape = 0, (0, 0)

    def read_bgr(self) -> Frame | None:
        """See `FrameSource`."""
        if self._next >= len(self._files):
            return None
        file = self._files[self._next]
        self._next += 1
        try:
            data = read_bytes(file, MOST_IMAGE_BYTES)
            image = decode_image(data, on_damage=lambda damage: self._say_once(f"{file} {damage}"))
        except (OSError, ValueError) as error:
            raise InputError(f"{file}: {error}") from error
        if exif_orientation(data) != UPRIGHT:
            self._say_once("%s is turned as its EXIF says; %s", file, _TURNED)
        (h, w), (h0, w0) = image.shape[:2], self._shape
        self._shape = (h, w)
        if h0 and (h, w) != (h0, w0):
            self._say_once(
                "%s has %dx%d pixels, the image before it %dx%d: a box in pixels is another place",
                *(file, w, h, w0, h0),
            )
        return image

    def rewind(self) -> None:
        """Go back to the first image."""
        self._next, self._shape = 0, (0, 0)

    def close(self) -> None:
        """Do nothing: no file is held open."""

    def _opened_again(self) -> ImageFolder:
        return ImageFolder(self._path, self._start, self._stop)


class BagVideo(RecordedSource):
    """The images of one topic of a bag, from image `start` up to and without image `stop`.

    An image that cannot be decoded is left out, and logged once.

    Args:
        path: of the bag.
        start, stop: first image, and the one after the last (None: all); counted from 0.
        topic: of the images; None where only one topic has images.

    Raises:
        InputError: the bag cannot be read, has no such topic, or fewer images than `start`.

    Attributes:
        latest: the image that was read last; None before the first.
        camera_info: the first calibration, a serialised sensor_msgs/CameraInfo; None for none.
    """

    def __init__(
        self, path: Path, start: int = 0, stop: int | None = None, topic: str | None = None
    ) -> None:
        super().__init__()
        try:
            from vt_models.video.bags.reader import Bag  # noqa: PLC0415 - needs the extra bags
        except ModuleNotFoundError as error:
            package = str(error.name).partition(".")[0]
            raise InputError(
                f"{path} is a bag, and to read one the Python package {package!r} is needed; "
                f"{install_hint('bags')}"
            ) from error
        self._start, self._stop = start, stop
        self._bag = Bag(path, topic)
        if start >= self._bag.count:
            self._bag.close()
            raise InputError(
                f"{path} has {self._bag.count} images on {self._bag.topic}, none from number "
                f"{start} on"
            )
        self.fps = self._bag.fps or DEFAULT_FPS
        self.count = self._bag.count
        self.latest: BagImage | None = None
        self.camera_info = self._bag.first_camera_info_data()
        self._images: Iterator[BagImage] = self._bag.images()

    def read_bgr(self) -> Frame | None:
        """See `FrameSource`."""
        for image in self._images:
            if self._stop is not None and image.number >= self._stop:
                return None
            if image.number < self._start:
                continue
            try:
                frame = image.decode()
            except ConversionError as error:
                self._say_once("%s: an image on %s: %s", self._bag.path, self._bag.topic, error)
                continue
            self.latest = image
            return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), np.uint8)
        return None

    def rewind(self) -> None:
        """Go back to image `start`."""
        self._images = self._bag.images()

    def close(self) -> None:
        """Release the files."""
        self._images = iter(())
        self._bag.close()

    def _opened_again(self) -> BagVideo:
        return BagVideo(self._bag.path, self._start, self._stop, self._bag.topic)


class CameraUnavailableError(InputError):
    """A capture device that is not there now, or that another program holds."""


class Webcam(FrameSource):
    """A capture device by its index or its path.

    One that is unplugged, or gives no more frames, is opened again and again.

    Raises:
        CameraUnavailableError: there is no such device, or another program holds it.
    """

    is_live = True
    waits_for_frames = True

    def __init__(self, device: int | str) -> None:
        super().__init__()
        self._device = device
        self._capture = self._open()
        if not self._capture.isOpened():
            path = f"/dev/video{device}" if isinstance(device, int) else "that it is a camera"
            raise CameraUnavailableError(
                f"camera {device} cannot be opened; check {path}, and who uses it"
            )
        self.fps = _frame_rate(self._capture)
        self._closed = threading.Event()
        self._is_gone = False

    def read_bgr(self) -> Frame | None:
        """See `FrameSource`; None after `interrupt`."""
        while not self._closed.is_set():
            good, frame = self._capture.read()
            if good:
                if self._is_gone:
                    _LOG.warning("camera %s is there again", self._device)
                self._is_gone = False
                return np.asarray(frame, np.uint8)
            if not self._is_gone:
                self._is_gone = True
                _LOG.warning(
                    "camera %s gives no more frames; it is opened again and again", self._device
                )
            self._capture.release()  # first: a device serves one program at a time
            if not self._closed.wait(_REOPENING_PAUSE):
                self._capture = self._open()
        return None

    def rewind(self) -> None:
        """Do nothing: a camera has no beginning."""

    def interrupt(self) -> None:
        """See `FrameSource`."""
        self._closed.set()

    def close(self) -> None:
        """Release the device."""
        self._capture.release()

    def _open(self) -> cv2.VideoCapture:
        by_index = isinstance(self._device, int)
        return cv2.VideoCapture(self._device, cv2.CAP_ANY if by_index else cv2.CAP_V4L2)


class NetworkStream(FrameSource):
    """A camera on the network by its address, which FFmpeg reads (rtsp, http, udp, ...).

    A thread reads it, so that `read_bgr` returns the newest frame, and waits for the next one. A
    stream that ends or falls silent is opened again and again.

    Args:
        address: of it; a name and a password in it appear in no message.

    Raises:
        CameraUnavailableError: it cannot be opened.
    """

    is_live = True
    waits_for_frames = True

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address, self._shown = address, without_password(address)
        self._capture = self._open()
        if not self._capture.isOpened():
            raise CameraUnavailableError(
                f"{self._shown} cannot be opened; check the address, name and password, and that "
                "the camera answers" + av_capture.remedy()
            )
        self._closed = threading.Event()
        self._arrived = threading.Condition()
        self._newest: Frame | None = None
        self._is_silent = False
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)
        self._thread.start()
        # Python would take itself down under OpenCV's read, which aborts the process for that.
        atexit.register(self._end)

    def read_bgr(self) -> Frame | None:
        """See `FrameSource`; None after `interrupt` or `close`."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._newest is not None or self._closed.is_set())
            frame, self._newest = self._newest, None
        return None if self._closed.is_set() else frame

    def rewind(self) -> None:
        """Do nothing: a stream has no beginning."""

    def interrupt(self) -> None:
        """See `FrameSource`."""
        with self._arrived:
            self._closed.set()
            self._arrived.notify_all()

    def close(self) -> None:
        """End the connection; if it is silent just then, some seconds later."""
        self._end(_REOPENING_PAUSE)
        if not self._thread.is_alive():
            atexit.unregister(self._end)

    def _end(self, seconds: float | None = None) -> None:
        """Wait for the end of the thread; it has OpenCV's time limits at most."""
        self.interrupt()
        self._thread.join(seconds)

    def _open(self) -> cv2.VideoCapture | AvCapture:
        if av_capture.is_needed():
            return AvCapture(self._address, _STREAM_TIMEOUT_MS / 1000.0)
        # The backend by name: others would write the address into their warnings.
        limits = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC)
        settings = [number for limit in limits for number in (limit, _STREAM_TIMEOUT_MS)]
        return cv2.VideoCapture(self._address, cv2.CAP_FFMPEG, settings)

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                self._read_on()
                self._capture.release()  # first: many cameras serve one connection at a time
                if not self._closed.wait(_REOPENING_PAUSE):
                    self._capture = self._open()
        finally:
            self.interrupt()  # or a reader would wait for ever
            self._capture.release()

    def _read_on(self) -> None:
        """Take frame after frame until there is none; say once that there is none."""
        while not self._closed.is_set():
            good, frame = self._capture.read()
            if not good:
                break
            self._is_silent = False
            with self._arrived:
                self._newest = np.asarray(frame, np.uint8)
                self._arrived.notify_all()
        if not self._is_silent and not self._closed.is_set():
            self._is_silent = True
            _LOG.warning("%s has ended or is silent; it is opened again and again", self._shown)


def open_source(
    name: str, start: int = 0, stop: int | None = None, topic: str | None = None
) -> FrameSource:
    """Open a video file, an image folder, a bag, a webcam or a stream.

    Args:
        name: path of a file, folder or device ("~" is the home folder), index of a webcam ("0"), or
            address of a stream ("rtsp://..."), see `NetworkStream`.
        start, stop: first frame, and the one after the last (None: all) of a file or folder.
        topic: of a bag's images; None where only one topic has images.

    Raises:
        InputError: empty name, or what the source itself says.
    """
    if not name:
        raise InputError(
            "no source given; name a video file, a folder of images, a bag, a camera index, a "
            "device or the address of a stream"
        )
    if "://" in name:
        return NetworkStream(name)
    place = Path(name).expanduser()
    if place.is_char_device() or (place.is_relative_to("/dev") and not place.exists()):
        return Webcam(str(place))
    if name.isdecimal() and not place.exists():
        return Webcam(int(name))
    return open_recorded(name, start, stop, topic)


def open_recorded(
    path: str | Path, start: int = 0, stop: int | None = None, topic: str | None = None
) -> RecordedSource:
    """Open a video file, an image folder or a bag; arguments as of `open_source`.

    Raises:
        InputError: nothing there, no images, not a video that OpenCV reads, a damaged bag, or a
            topic of what is no bag.
    """
    place = Path(path).expanduser()
    if place.exists() and is_bag(place):
        return BagVideo(place, start, stop, topic)
    if topic is not None:
        raise InputError(f"{path} is no bag, and has no topic {topic}; leave the topic out")
    if place.is_dir():
        return ImageFolder(place, start, stop)
    if place.is_file():
        return VideoFile(place, start, stop)
    wanted = "give a video file, a folder of images or a bag"
    shown = without_password(str(path))
    if shown != str(path):
        raise InputError(f"{shown} is the address of a stream, which goes on for ever; {wanted}")
    if place.exists():
        raise InputError(f"{shown} is a device or a pipe, which may have no end; {wanted}")
    raise InputError(f"{shown} does not exist; {wanted}")


def without_password(address: str) -> str:
    """Return an address with its host alone: the rest may hold a name and a password.

    A path stays as it is. `Path` makes "rtsp:/" of "rtsp://", which is an address still.

    >>> without_password("rtsp://operator:secret@10.0.0.7:554/cam?token=1234")
    'rtsp://10.0.0.7:554/***'
    >>> without_password("/data/what?/a.mp4")
    '/data/what?/a.mp4'
    """
    match = re.match(r"(\w+:/+)(?:.*@)?([^/?#]*)", address)
    return f"{match[1]}{match[2]}/***" if match else address


def is_cut_off(declared: int | None, read: int) -> bool:
    """Return whether a recording that declares so many frames lacks some of them.

    Args:
        declared: None where it declares nothing; such containers' counts are a few frames off.
        read: frames that could be read.
    """
    return declared is not None and declared - read > max(2, _UNSURE_COUNT * read)


def _frame_rate(capture: cv2.VideoCapture | AvCapture) -> float:
    """Return frames a second as a file or device says, the default where that cannot be right."""
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return fps if 0.0 < fps <= _HIGHEST_FPS else DEFAULT_FPS
