# SPDX-License-Identifier: Apache-2.0
"""Random access to the frames of video files, each decoded once into a file of JPEGs.

Training draws frames at random; seeking in H.264 takes 10 ms a frame (384x216, a keyframe every 8
frames), a JPEG of the cache 0.5 ms. At quality 95 a frame takes 25 kB and differs from the video's
by 1.1 grey levels on average. Evaluation does not use the cache: it reads the videos in order.

A cache file is named after the video's path and after its size and time of change, so that a
changed video is decoded again; it is written beside its place and renamed, so that any number of
processes may share the folder.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.datasets.cache import user_cache
from vt_models.datasets.videos import AnnotatedVideo, decode_video
from vt_models.errors import DatasetError
from vt_models.files import draft_of

FORMAT = b"vt_models frames 1\n"
"""Ends every cache file; to be changed with what is in one."""
JPEG_QUALITY = 95
_COUNT = struct.Struct("<Q")


def frame_cache_directory() -> Path:
    """Where frames are kept by default: `vt_models/frames` in the user's cache directory."""
    return user_cache().parent / "frames"


class CachedVideo:
    """The frames of a video by number, (H, W, 3) uint8 RGB, decoded into the cache if need be.

    An instance holds no open file, so it may be pickled or forked to any number of workers.

    Args:
        video: what to read.
        directory: of the cache; None for `frame_cache_directory()`.

    Raises:
        DatasetError: the video is missing, damaged or not as annotated, or the cache cannot be
            written (a full disk among other reasons).
    """

    def __init__(self, video: AnnotatedVideo, directory: Path | None = None) -> None:
        self._video = video
        self._path = _cache_path(video.path, directory or frame_cache_directory())
        offsets = _read_offsets(self._path, video.frames)
        if offsets is None:
            _decode_into(video, self._path)
            offsets = _read_offsets(self._path, video.frames)
        if offsets is None:
            raise DatasetError(f"{self._path} was changed while it was written; run it again")
        self._offsets = offsets

    def __len__(self) -> int:
        return self._video.frames

    def __getitem__(self, number: int, /) -> NDArray[np.uint8]:
        number = range(len(self))[number]
        start, stop = (int(offset) for offset in self._offsets[number : number + 2])
        try:
            # Opened for each frame (0.01 ms): thousands of videos would be more open files than a
            # process may have.
            with self._path.open("rb") as file:
                file.seek(start)
                data = file.read(stop - start)
        except OSError as error:
            raise DatasetError(
                f"{self._path}, frames of {self._video.path}: {error.strerror}; did the video "
                "change meanwhile? Start again"
            ) from error
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        if image is None:
            raise DatasetError(f"{self._path} is damaged at frame {number}: delete it")
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[number] for number in range(len(self)))


def _cache_path(video: Path, directory: Path) -> Path:
    """`<digest of the path>-<digest of the file's state>.frames`."""
    try:
        status = video.stat()
    except OSError as error:
        raise DatasetError(f"{video} cannot be read: {error.strerror}") from error
    state = f"{status.st_size} {status.st_mtime_ns} {JPEG_QUALITY} {FORMAT!r}"
    place = hashlib.sha256(str(video.resolve()).encode()).hexdigest()[:20]
    return directory / f"{place}-{hashlib.sha256(state.encode()).hexdigest()[:20]}.frames"


def _read_offsets(path: Path, frames: int) -> NDArray[np.uint64] | None:
    """Where each JPEG begins, and where the last one ends; None for no usable cache file."""
    tail = (frames + 1) * 8 + _COUNT.size + len(FORMAT)
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size < tail:
                return None
            file.seek(size - tail)
            data = file.read(tail)
    except OSError:
        return None
    (count,) = _COUNT.unpack_from(data, (frames + 1) * 8)
    offsets = np.frombuffer(data, np.uint64, frames + 1)
    fits = (
        count == frames
        and int(offsets[-1]) == size - tail
        and bool((offsets[1:] > offsets[:-1]).all())
    )
    return offsets if fits and data.endswith(FORMAT) else None


def _decode_into(video: AnnotatedVideo, path: Path) -> None:
    """Write a cache file whole or not at all, and drop those of the same video's earlier states."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        offsets = [0]
        with draft_of(path) as draft, draft.open("wb") as file:
            for image in decode_video(video):
                _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
                offsets.append(offsets[-1] + file.write(data.tobytes()))
            file.write(np.array(offsets, np.uint64).tobytes())
            file.write(_COUNT.pack(len(offsets) - 1) + FORMAT)
        for old in path.parent.glob(f"{path.name.split('-')[0]}-*.frames"):
            if old != path:
                old.unlink(missing_ok=True)
    except OSError as error:
        raise DatasetError(
            f"the frames of {video.path} cannot be kept in {path.parent}: {error.strerror}; free "
            "some space, or set XDG_CACHE_HOME to another place"
        ) from error
