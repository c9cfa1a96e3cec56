# SPDX-License-Identifier: Apache-2.0
"""Sources of frames: a video file, a folder of images, or a webcam."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.video import LETTERS

Pixels = NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
DEFAULT_RATE = 30.0

_HIGHEST_RATE = 1000.0


class SourceError(ValueError):
    """A source that cannot be opened; the message is one sentence with its name."""


class FrameSource(Protocol):
    """Frames in order. All are (H, W, 3) uint8 BGR, the order cameras and codecs deliver.

    Attributes:
        rate: frames per second it was made for.
        live: it keeps its own time (a camera); otherwise frames come as fast as they are read.
    """

    rate: float
    live: bool

    def read(self) -> Pixels | None:
        """Return the next frame; None at the end."""

    def rewind(self) -> None:
        """Go back to the first frame."""

    def close(self) -> None:
        """Release the file or the device."""


class VideoFile:
    """A video file, from frame `start` up to and without frame `stop`.

    Args:
        path: of the file.
        start: first frame, counted from 0. Frames before it are decoded and skipped: seeking
            is not exact to the frame in every format.
        stop: None: to the end.

    Raises:
        SourceError: no such file, not a video, or shorter than `start`.
    """

    live = False

    def __init__(self, path: Path, start: int = 0, stop: int | None = None) -> None:
        if not path.is_file():
            raise SourceError(f"video file {path} does not exist")
        self._path, self._start, self._stop = path, start, stop
        self._open()
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = float(rate) if 0.0 < rate <= _HIGHEST_RATE else DEFAULT_RATE

    @property
    def length(self) -> int:
        """Frames in the whole file, as it says itself; some files do not know."""
        return max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def read(self) -> Pixels | None:
        """Return the next frame; None at the end."""
        if self._stop is not None and self._next >= self._stop:
            return None
        good, frame = self._capture.read()
        self._next += good
        return frame if good else None

    def rewind(self) -> None:
        """Go back to frame `start`."""
        self.close()
        self._open()

    def close(self) -> None:
        """Release the file."""
        self._capture.release()

    def _open(self) -> None:
        self._capture = cv2.VideoCapture(str(self._path))
        is_text = int(self._capture.get(cv2.CAP_PROP_FOURCC)) == LETTERS
        if is_text or not self._capture.isOpened():
            raise SourceError(f"{self._path} is not a video that OpenCV can read")
        self._next = 0
        while self._next < self._start:
            if not self._capture.grab():
                raise SourceError(
                    f"{self._path} has {self._next} frames, so none to start from at {self._start}"
                )
            self._next += 1


class ImageFolder:
    """The images of a folder in natural order of their names (9 before 10).

    Args:
        path: of the folder.
        start, stop: first image, and the one after the last (None: all); counted from 0.

    Raises:
        SourceError: no such folder, or no image in this range.
    """

    live = False
    rate = DEFAULT_RATE

    def __init__(self, path: Path, start: int = 0, stop: int | None = None) -> None:
        if not path.is_dir():
            raise SourceError(f"image folder {path} does not exist")
        images = [file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES]
        self._files = sorted(images, key=_natural)[start:stop]
        if not self._files:
            raise SourceError(f"{path} holds {len(images)} images, none from number {start} on")
        self._next = 0

    def read(self) -> Pixels | None:
        """Return the next image; None at the end.

        Raises:
            SourceError: a file that OpenCV cannot read.
        """
        if self._next >= len(self._files):
            return None
        file = self._files[self._next]
        self._next += 1
        image = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if image is None:
            raise SourceError(f"{file} is not an image that OpenCV can read")
        return np.asarray(image, np.uint8)

    def rewind(self) -> None:
        """Go back to the first image."""
        self._next = 0

    def close(self) -> None:
        """Do nothing: no file is held open."""


class Webcam:
    """A capture device by its index.

    Raises:
        SourceError: there is no such device, or another program holds it.
    """

    live = True

    def __init__(self, index: int) -> None:
        self._index = index
        self._capture = cv2.VideoCapture(index)
        if not self._capture.isOpened():
            raise SourceError(
                f"camera {index} cannot be opened; check /dev/video{index} and who uses it"
            )
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = float(rate) if 0.0 < rate <= _HIGHEST_RATE else DEFAULT_RATE

    def read(self) -> Pixels | None:
        """Return the next frame; None when the camera is gone."""
        good, frame = self._capture.read()
        return frame if good else None

    def rewind(self) -> None:
        """Do nothing: a camera has no beginning."""

    def close(self) -> None:
        """Release the device."""
        self._capture.release()


def open_source(name: str, start: int = 0, stop: int | None = None) -> FrameSource:
    """Open a video file, an image folder, or a webcam by its index ("0").

    Raises:
        SourceError: empty name, or what the source itself says.
    """
    if not name:
        raise SourceError("no source given; set the parameter source to a file, folder or index")
    if name.isdecimal():
        return Webcam(int(name))
    path = Path(name).expanduser()
    if path.is_dir():
        return ImageFolder(path, start, stop)
    return VideoFile(path, start, stop)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a sorting key that puts 9 before 10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
