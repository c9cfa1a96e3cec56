# SPDX-License-Identifier: Apache-2.0
"""Frames from a video file or an image folder, and a video file from frames."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vt_models.geometry.boxes import Box

Frame = NDArray[np.uint8]
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
DEFAULT_FPS = 30.0
# FFmpeg plays a text file as a film of its letters.
LETTERS = cv2.VideoWriter.fourcc(*"ansi")


class FrameSource:
    """Frames of a video file, or of a folder's images in the natural order of their names.

    Args:
        path: the file or folder.

    Attributes:
        fps: frames a second; 30 for a folder and where a file does not say.
        count: how many frames, None where a file does not say.

    Raises:
        InputError: nothing there, no images, or not a video that OpenCV reads.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._images: list[Path] = []
        self.fps = DEFAULT_FPS
        self.count: int | None = None
        if self._path.is_dir():
            self._images = _images_in(self._path)
            self.count = len(self._images)
        elif self._path.is_file():
            self._probe()
        else:
            raise InputError(f"{path} does not exist; give a video file or a folder of images")

    def __iter__(self) -> Iterator[Frame]:
        """Yield (H, W, 3) uint8 RGB frames, from the start.

        Raises:
            InputError: an image of a folder cannot be read.
        """
        return self._from_images() if self._images else self._from_video()

    def _probe(self) -> None:
        capture = cv2.VideoCapture(str(self._path))
        try:
            is_text = int(capture.get(cv2.CAP_PROP_FOURCC)) == LETTERS
            if is_text or not capture.isOpened() or not capture.grab():
                raise InputError(f"{self._path} is not a video that OpenCV can read")
            fps = float(capture.get(cv2.CAP_PROP_FPS))
            count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        finally:
            capture.release()
        self.fps = fps if 0.0 < fps <= 1000.0 else DEFAULT_FPS
        self.count = count if count > 0 else None

    def _from_images(self) -> Iterator[Frame]:
        for path in self._images:
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is None:
                raise InputError(f"{path} is not an image that OpenCV can read")
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def _from_video(self) -> Iterator[Frame]:
        capture = cv2.VideoCapture(str(self._path))
        try:
            read, image = capture.read()
            while read:
                yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
                read, image = capture.read()
        finally:
            capture.release()


def _images_in(folder: Path) -> list[Path]:
    """Images in the order 1, 2, 10."""
    images = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise InputError(f"{folder} has no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return sorted(images, key=lambda path: _natural(path.name))


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorting key that compares runs of digits as numbers."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(int(part), "") if part[0] in "0123456789" else (-1, part) for part in parts]


class VideoWriter:
    """Writes RGB frames to an .mp4 file; the first frame sets the size, others are resized.

    Use as a context. The file appears under its name when the context ends without an error.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, frame: Frame) -> None:
        """Append a (H, W, 3) uint8 RGB frame.

        Raises:
            InputError: the file cannot be written.
        """
        image = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        if self._writer is None:
            self._size = (frame.shape[1], frame.shape[0])
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._partial), codec, self._fps, self._size)
            if not self._writer.isOpened():
                raise InputError(f"cannot write a video to {self._path}")
        if (image.shape[1], image.shape[0]) != self._size:
            image = cv2.resize(image, self._size)
        self._writer.write(image)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writer is not None:
            self._writer.release()
        if kind is None and self._partial.exists():
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)


def write_image(path: Path, frame: Frame) -> None:
    """Write an RGB frame to a .png, .jpg or another image file; it appears whole or not at all.

    Raises:
        InputError: OpenCV does not write such files, or the file cannot be written.
    """
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        written = cv2.imwrite(str(partial), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        raise InputError(f"{path}: OpenCV writes no such images; end it in .png") from error
    if not written:
        raise InputError(f"{path} cannot be written; does its folder exist?")
    partial.replace(path)


def draw_box(frame: Frame, box: Box, label: str) -> Frame:
    """A copy of an RGB frame with a box x, y, w, h and a label in it."""
    image = frame.copy()
    x, y, w, h = (round(value) for value in box)
    thickness = max(1, round(min(frame.shape[:2]) / 240))
    cv2.rectangle(image, (x, y), (x + w, y + h), (40, 220, 80), thickness)
    place = (max(x, 2), max(y - 4, 12))
    cv2.putText(image, label, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 220, 80), 1, cv2.LINE_AA)
    return image
