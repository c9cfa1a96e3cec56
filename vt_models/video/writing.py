# SPDX-License-Identifier: Apache-2.0
"""A video file from frames, and an image file from one; each appears whole or not at all."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import cv2

from vt_models.errors import InputError
from vt_models.files import draft_of, write_bytes
from vt_models.video.sources import Frame

_LOG = logging.getLogger(__name__)

_SLOWEST_FPS, _FASTEST_FPS = 0.01, 1000.0
"""MPEG-4 has 16 bits for the denominator of a time, and OpenCV keeps three digits of the rate."""


class VideoWriter:
    """Writes RGB frames to an .mp4 file; the first frame sets the size, others are resized.

    The codec wants even sides: an odd one gets one more row or column, like its last one, which is
    logged. The file appears under its name with `close`. As a context it is closed at the end, or
    removed where the context ends with an error.

    Args:
        path: of the file.
        fps: frames a second; the nearest of 0.01 to 1000 is taken for one that the format has not.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._fps = min(max(fps, _SLOWEST_FPS), _FASTEST_FPS)
        if self._fps != fps:
            _LOG.warning("%s has %g frames a second instead of %g", path, self._fps, fps)
        self._failure: InputError | None = None  # to open it
        self._stack = ExitStack()
        self._draft = path
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._count = 0

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
            self._writer = self._open()
        if (image.shape[1], image.shape[0]) != self._size:
            image = cv2.resize(image, self._size)
        odd = (image.shape[0] % 2, image.shape[1] % 2)
        if any(odd):
            image = cv2.copyMakeBorder(image, 0, odd[0], 0, odd[1], cv2.BORDER_REPLICATE)
        self._writer.write(image)
        self._count += 1

    def close(self) -> None:
        """Finish the file; without a frame there is none.

        Raises:
            InputError: it is not whole: the disk is full, for instance, or it was never opened.
        """
        if self._failure is not None:
            failure, self._failure = self._failure, None  # once: closing again does nothing
            raise failure
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        try:
            with self._stack:
                self._require_whole()
        except OSError as error:
            raise self._failed(error) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
            return
        if self._writer is not None:
            self._writer.release()
        self._stack.__exit__(kind, error, traceback)

    def _open(self) -> cv2.VideoWriter:
        width, height = self._size
        even = (width + width % 2, height + height % 2)
        if even != self._size:
            _LOG.info("%s is %dx%d: its codec has no odd sides", self._path, *even)
        try:
            self._draft = self._stack.enter_context(draft_of(self._path))
        except OSError as error:
            raise self._failed(error) from error
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(self._draft), codec, self._fps, even)
        if not writer.isOpened():
            self._failure = self._failed(f"OpenCV does not open it for {even[0]}x{even[1]} pixels")
            raise self._failure
        return writer

    def _require_whole(self) -> None:
        """OpenCV says nothing of a failed write: the last frame must be there to be read."""
        capture = cv2.VideoCapture(str(self._draft))
        try:
            capture.set(cv2.CAP_PROP_POS_FRAMES, self._count - 1)
            found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            if found != self._count or not capture.grab():
                raise self._failed(
                    f"{max(found, 0)} of {self._count} frames are in it; is the disk full?"
                )
        finally:
            capture.release()

    def _failed(self, reason: object) -> InputError:
        return InputError(f"a video cannot be written to {self._path}: {reason}")


def write_image(path: Path, frame: Frame) -> None:
    """Write an RGB frame to a .png, .jpg or another image file; it appears whole or not at all.

    Raises:
        InputError: OpenCV does not write such files, or the file cannot be written.
    """
    try:
        _, data = cv2.imencode(path.suffix, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        raise InputError(f"{path}: OpenCV writes no such images; end it in .png") from error
    try:
        write_bytes(path, data.tobytes())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}; does its folder exist?") from error
