# SPDX-License-Identifier: Apache-2.0
"""A video file from frames, and an image file from one; each appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import cv2

from vt_models.errors import InputError
from vt_models.video.sources import Frame


class VideoWriter:
    """Writes RGB frames to an .mp4 file; the first frame sets the size, others are resized.

    The file appears under its name with `close`. As a context it is closed at the end, or removed
    where the context ends with an error.

    Args:
        path: of the file.
        fps: frames a second.
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

    def close(self) -> None:
        """Finish the file; without a frame there is none."""
        if self._writer is not None:
            self._writer.release()
        if self._partial.exists():
            self._partial.replace(self._path)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
            return
        if self._writer is not None:
            self._writer.release()
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
