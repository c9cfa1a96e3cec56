# SPDX-License-Identifier: Apache-2.0
"""Sources of frames: a video file, a folder of images, or a webcam."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError

Frame = NDArray[np.uint8]
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})
DEFAULT_FPS = 30.0

_HIGHEST_FPS = 1000.0
# FFmpeg plays a text file as a film of its letters.
_LETTERS = cv2.VideoWriter.fourcc(*"ansi")


class FrameSource(ABC):
    """Frames in order.

    Attributes:
        fps: frames a second that it was made for; 30 where it does not say.
        count: how many frames the whole of it has; None where it does not say.
        is_live: it keeps its own time (a camera); otherwise frames come as fast as they are read.
    """

    fps = DEFAULT_FPS
    count: int | None = None
    is_live = False

    @abstractmethod
    def read_bgr(self) -> Frame | None:
        """Return the next frame, (H, W, 3) uint8 BGR as codecs deliver it; None at the end.

        Raises:
            InputError: an image of a folder cannot be read.
        """

    @abstractmethod
    def rewind(self) -> None:
        """Go back to the first frame; does nothing for a camera."""

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
        self._path, self._start, self._stop = path, start, stop
        self._capture = cv2.VideoCapture(str(path))
        is_text = int(self._capture.get(cv2.CAP_PROP_FOURCC)) == _LETTERS
        if is_text or not self._capture.isOpened() or not self._capture.grab():
            self._capture.release()
            raise InputError(f"{path} is not a video that OpenCV can read")
        self.fps = _frame_rate(self._capture)
        self.count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if self.count <= 0:
            self.count = None
        self.rewind()

    def read_bgr(self) -> Frame | None:
        """See `FrameSource`."""
        if self._stop is not None and self._next >= self._stop:
            return None
        good, frame = self._capture.read()
        self._next += good
        return np.asarray(frame, np.uint8) if good else None

    def rewind(self) -> None:
        """Go back to frame `start`."""
        self._capture.release()
        self._capture = cv2.VideoCapture(str(self._path))
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
        if not path.is_dir():
            raise InputError(f"image folder {path} does not exist")
        images = [file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES]
        if not images:
            raise InputError(f"{path} has no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        self._path, self._start, self._stop = path, start, stop
        self._files = sorted(images, key=_natural)[start:stop]
        if not self._files:
            raise InputError(f"{path} has {len(images)} images, none from number {start} on")
        self.count = len(images)
        self._next = 0

    def read_bgr(self) -> Frame | None:
        """See `FrameSource`."""
        if self._next >= len(self._files):
            return None
        file = self._files[self._next]
        self._next += 1
        image = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if image is None:
            raise InputError(f"{file} is not an image that OpenCV can read")
        return np.asarray(image, np.uint8)

    def rewind(self) -> None:
        """Go back to the first image."""
        self._next = 0

    def close(self) -> None:
        """Do nothing: no file is held open."""

    def _opened_again(self) -> ImageFolder:
        return ImageFolder(self._path, self._start, self._stop)


class Webcam(FrameSource):
    """A capture device by its index; at its end it is gone.

    Raises:
        InputError: there is no such device, or another program holds it.
    """

    is_live = True

    def __init__(self, index: int) -> None:
        self._capture = cv2.VideoCapture(index)
        if not self._capture.isOpened():
            raise InputError(
                f"camera {index} cannot be opened; check /dev/video{index} and who uses it"
            )
        self.fps = _frame_rate(self._capture)

    def read_bgr(self) -> Frame | None:
        """See `FrameSource`."""
        good, frame = self._capture.read()
        return np.asarray(frame, np.uint8) if good else None

    def rewind(self) -> None:
        """Do nothing: a camera has no beginning."""

    def close(self) -> None:
        """Release the device."""
        self._capture.release()


def open_source(name: str, start: int = 0, stop: int | None = None) -> FrameSource:
    """Open a video file, an image folder, or a webcam by its index ("0").

    Args:
        name: of it; "~" is the home folder.
        start, stop: first frame, and the one after the last (None: all), but for a webcam.

    Raises:
        InputError: empty name, or what the source itself says.
    """
    if not name:
        raise InputError("no source given; name a video file, a folder of images or a camera index")
    return Webcam(int(name)) if name.isdecimal() else open_recorded(name, start, stop)


def open_recorded(path: str | Path, start: int = 0, stop: int | None = None) -> RecordedSource:
    """Open a video file or an image folder; arguments as of `open_source`.

    Raises:
        InputError: nothing there, no images, or not a video that OpenCV reads.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        return ImageFolder(place, start, stop)
    if not place.is_file():
        raise InputError(f"{path} does not exist; give a video file or a folder of images")
    return VideoFile(place, start, stop)


def _frame_rate(capture: cv2.VideoCapture) -> float:
    """Return frames a second as a file or device says, the default where that cannot be right."""
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return fps if 0.0 < fps <= _HIGHEST_FPS else DEFAULT_FPS


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a sorting key that compares runs of digits as numbers."""
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name)
    return [(int(part), "") if part[0] in "0123456789" else (-1, part) for part in parts]
