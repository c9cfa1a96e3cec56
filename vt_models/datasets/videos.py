# SPDX-License-Identifier: Apache-2.0
"""Annotated video files: one JSON object a line in `annotations.jsonl`, beside the videos.

    {"video": "videos/car.mp4", "width": 384, "height": 216, "frames": 300, "fps": 25,
     "tracks": [{"id": 1, "name": "car", "boxes": [[x, y, w, h], null, ...]}], "cuts": [120]}

A box is four numbers in pixels of the video, counted from 0; null stands for a frame in which the
object is absent or not annotated. `fps`, `cuts` (the first frame of each further shot), `source`,
and a track's `sentence` are optional. A track must not go on across a cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.datasets.json_lines import ANNOTATIONS, count_in, is_box, read_annotations, shown
from vt_models.datasets.reader import Entry, SequenceDataset
from vt_models.datasets.sequence import VideoSequence
from vt_models.errors import DatasetError
from vt_models.video import VIDEO_SUFFIXES

MOST_SIDE = 100_000
"""Pixels of a box; more is a mistake, and its square too large for a float32."""


@dataclass(frozen=True)
class AnnotatedTrack:
    """One object of a video.

    Attributes:
        id: unique within the video.
        name: class of the object, "" where the annotation has none.
        boxes: (N, 4) float64 x, y, w, h in pixels, a row of nan in frames without a box.
        sentence: a description, "" where there is none.
    """

    id: str
    name: str
    boxes: NDArray[np.float64]
    sentence: str = ""


@dataclass(frozen=True)
class AnnotatedVideo:
    """One line of `annotations.jsonl`.

    Attributes:
        name: the file's name without its suffix; unique in the folder.
        path: the video file.
        width, height: pixels.
        frames: how many frames the file has.
        tracks: the annotated objects.
        where: FILE:LINE.
    """

    name: str
    path: Path
    width: int
    height: int
    frames: int
    tracks: tuple[AnnotatedTrack, ...]
    where: str


def read_annotated_videos(root: Path) -> list[AnnotatedVideo]:
    """Read and check the annotations of a folder of videos; no video is opened.

    Args:
        root: the folder that holds `annotations.jsonl`.

    Raises:
        DatasetError: the file is missing, empty or not UTF-8, or some lines are wrong; the message
            names each problem with FILE:LINE.
    """
    videos: dict[str, AnnotatedVideo] = {}

    def parse(record: dict[str, Any], where: str) -> AnnotatedVideo:
        video = _parse(record, root, where)
        before = videos.setdefault(video.name, video)
        if before is not video:
            raise ValueError(f"the name {video.name!r} is taken by {before.where}")
        return video

    if not read_annotations(root, parse):
        raise DatasetError(
            f"{root / ANNOTATIONS} is empty; expected one JSON object a line, one a video"
        )
    return list(videos.values())


def _parse(record: dict[str, Any], root: Path, where: str) -> AnnotatedVideo:
    """One line; ValueError says what is wrong with it."""
    file = record.get("video")
    if not isinstance(file, str) or not file:
        raise ValueError(
            f'"video" is {shown(file)}; expected the path of a file seen from the folder'
        )
    path = root / file
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        # OpenCV also plays text files, playlists of other files, and numbered images.
        raise ValueError(
            f'"video" {shown(file)} is no video file; expected {", ".join(sorted(VIDEO_SUFFIXES))}'
        )
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(f'"video" {shown(file)} leads out of the folder')
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    width, height, frames = (count_in(record, key) for key in ("width", "height", "frames"))
    cuts = record.get("cuts") or []
    whole = isinstance(cuts, list) and all(isinstance(cut, int) for cut in cuts)
    if not whole or any(not 0 < cut < frames for cut in cuts):
        raise ValueError(
            f'"cuts" is {shown(cuts)}; expected numbers of frames from 1 to {frames - 1}'
        )
    listed = record.get("tracks")
    if not isinstance(listed, list):
        raise ValueError(f'"tracks" is {shown(listed)}; expected a list')  # noqa: TRY004
    size = width, height
    tracks = tuple(_track(entry, frames, size, number) for number, entry in enumerate(listed))
    ids = [track.id for track in tracks]
    for number, track in enumerate(tracks):
        if track.id in ids[:number]:
            raise ValueError(f"two tracks have the id {track.id}")
        seen = np.flatnonzero(np.isfinite(track.boxes[:, 0]))
        crossed = [cut for cut in cuts if seen.size and seen[0] < cut <= seen[-1]]
        if crossed:
            raise ValueError(
                f"track {track.id} goes on across the cut at frame {crossed[0]}; split it there"
            )
    return AnnotatedVideo(path.stem, path, width, height, frames, tracks, where)


def _track(entry: Any, frames: int, size: tuple[int, int], number: int) -> AnnotatedTrack:
    if not isinstance(entry, dict) or not isinstance(entry.get("boxes"), list):
        raise ValueError(f'track {number} has no "boxes"')  # noqa: TRY004
    found = str(entry.get("id", number))
    if not re.fullmatch(r"[\w-]{1,64}", found):
        # It becomes a part of names of sequences and files, after a dot.
        raise ValueError(f"track id {shown(found)}; expected 1 to 64 letters, digits, _ or -")
    listed = entry["boxes"]
    if len(listed) != frames:
        raise ValueError(f"track {found} has {len(listed)} boxes for {frames} frames")
    boxes = np.full((frames, 4), np.nan)
    for frame, box in enumerate(listed):
        if box is None:
            continue
        if not is_box(box) or box[2] <= 0 or box[3] <= 0:
            raise ValueError(
                f"track {found}, frame {frame}: box {shown(box)}; expected x, y, width, height, "
                "both sizes above 0, or null"
            )
        x, y, w, h = box
        if x >= size[0] or y >= size[1] or x + w <= 0 or y + h <= 0 or max(w, h) > MOST_SIDE:
            raise ValueError(
                f"track {found}, frame {frame}: box {shown(box)} shows nothing of a frame of "
                f"{size[0]}x{size[1]} pixels; write null where the object is not in view"
            )
        boxes[frame] = box
    name, sentence = entry.get("name") or "", entry.get("sentence") or ""
    return AnnotatedTrack(found, str(name), boxes, str(sentence))


def decode_video(video: AnnotatedVideo) -> Iterator[NDArray[np.uint8]]:
    """Decode a video from its first frame to its last.

    Yields:
        (H, W, 3) uint8 BGR, as OpenCV decodes.

    Raises:
        DatasetError: the file is not a video, or its frames are not of the annotated size or
            number.
    """
    capture = cv2.VideoCapture(str(video.path))
    try:
        count = 0
        while True:
            read, image = capture.read()
            if not read:
                break
            if image.shape[:2] != (video.height, video.width):
                raise DatasetError(
                    f"{video.where}: {video.path} has frames of {image.shape[1]}x{image.shape[0]} "
                    f"pixels, its annotation says {video.width}x{video.height}"
                )
            count += 1
            yield image
        if count == 0:
            raise DatasetError(f"{video.where}: {video.path} is not a video that OpenCV can read")
        if count != video.frames:
            raise DatasetError(
                f"{video.where}: {video.path} has {count} frames that can be decoded, its "
                f"annotation says {video.frames}: use matching, undamaged files"
            )
    finally:
        capture.release()


class VideoReader:
    """Frames of one video by number.

    Reading in order decodes each frame once. Going back starts at the beginning of the file again,
    because seeking is not exact in every video. It may be pickled; an open file stays behind.
    """

    def __init__(self, video: AnnotatedVideo) -> None:
        self._video = video
        self._rest: Iterator[NDArray[np.uint8]] | None = None
        self._next = 0

    def read(self, number: int) -> NDArray[np.uint8]:
        """Return frame `number` as (H, W, 3) uint8 RGB.

        Raises:
            DatasetError: from `decode_video`, or the video has no such frame.
        """
        if self._rest is None or number < self._next:
            self._rest, self._next = decode_video(self._video), 0
        for image in self._rest:
            self._next += 1
            if self._next > number:
                return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
        raise DatasetError(f"{self._video.where}: {self._video.path} has no frame {number}")

    def __getstate__(self) -> dict[str, Any]:
        return {"_video": self._video, "_rest": None, "_next": 0}


@dataclass(frozen=True, eq=False)
class VideoFileSequence(VideoSequence):
    """One track of a video file, from the first frame with a box to the last.

    `frames` holds `VIDEO/NUMBER`, which are no files: `read_frame` decodes the video.

    Attributes:
        reader: of the video.
        first: the frame of the video that is frame 0 here.
    """

    reader: VideoReader = field(kw_only=True)
    first: int = field(kw_only=True)

    def read_frame(self, index: int) -> NDArray[np.uint8]:
        """Return frame `index` as (H, W, 3) uint8 RGB; DatasetError names what is wrong."""
        return self.reader.read(self.first + range(len(self))[index])


class VideosDataset(SequenceDataset):
    """A folder of video files with `annotations.jsonl`, for one's own labelled videos.

    A video with one track is a sequence of the name of its file, without suffix; of several, each
    track is a sequence `NAME.ID`. A sequence begins with the first box of its track and ends with
    the last. It has no splits, and is not cached: the annotations are one file.
    """

    kind = "videos"
    is_cached = False

    def _find(self) -> list[Entry]:
        self._tracks: dict[str, tuple[AnnotatedVideo, AnnotatedTrack]] = {}
        for video in read_annotated_videos(self.root):
            for name, track in named_tracks(video):
                if np.isfinite(track.boxes[:, 0]).sum() < 2:
                    continue  # nothing to track
                if name in self._tracks:
                    other = self._tracks[name][0].where
                    raise DatasetError(
                        f"{video.where}: a sequence {name!r} is at {other} already; rename one"
                    )
                self._tracks[name] = video, track
        if not self._tracks:
            raise DatasetError(f"{self.root / ANNOTATIONS}: no track has two boxes")
        return [Entry(name, video.path) for name, (video, _) in self._tracks.items()]

    @property
    def video_names(self) -> set[str]:
        """The names of the videos that the sequences are from."""
        return {self._tracks[name][0].name for name in self.names}

    def _load(self, entry: Entry) -> VideoSequence:
        video, track = self._tracks[entry.name]
        shown = np.flatnonzero(np.isfinite(track.boxes[:, 0]))
        first, stop = int(shown[0]), int(shown[-1]) + 1
        return VideoFileSequence(
            name=entry.name,
            frames=tuple(video.path / f"{number:06d}" for number in range(first, stop)),
            boxes=track.boxes[first:stop].copy(),
            language=track.sentence or None,
            absent=np.zeros(stop - first, np.bool_),  # null may as well mean "not annotated"
            category=track.name or None,
            reader=VideoReader(video),
            first=first,
        )

    def _start_of(self, entry: Entry) -> str:
        return self._tracks[entry.name][0].where


def named_tracks(video: AnnotatedVideo) -> Iterable[tuple[str, AnnotatedTrack]]:
    """The tracks of a video by the names of their sequences."""
    if len(video.tracks) == 1:
        return [(video.name, video.tracks[0])]
    return [(f"{video.name}.{track.id}", track) for track in video.tracks]
