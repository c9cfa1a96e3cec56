# SPDX-License-Identifier: Apache-2.0
"""Training clips from videos without labels, by a tracker that checks itself.

A teacher follows an arbitrary region through a clip and, started anew on what it found there, back
again. Where it returns to the box it came from, the boxes on the way are taken as labels
(forward-backward error: Kalal et al., ICPR 2010; cycle consistency: Wang et al., CVPR 2019).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.datasets.json_lines import ANNOTATIONS
from vt_models.errors import InputError
from vt_models.evaluation.runs.runner import SingleObjectTracker
from vt_models.files import write_text
from vt_models.geometry.boxes import Box, clip_box, iou
from vt_models.tracker.tracker import Estimate
from vt_models.video import (
    VIDEO_SUFFIXES,
    RecordedSource,
    is_image,
    is_video,
    open_recorded,
)

Frame = NDArray[np.uint8]

JPEG_QUALITY = 92
LEAST_FRAMES = 6
"""A clip, and what is kept of it, has at least so many frames."""
LEAST_SIDE = 16.0
LEAST_CONTRAST = 8.0
"""Standard deviation of the grey values of a region worth following."""
LEAST_INSIDE = 2
"""At least so many pixels of a box lie in its frame."""
MOST_OVERLAP = 0.3
"""Two regions of a clip have at most this IoU."""
CANDIDATES = 16
"""So many regions are drawn for each one that is tried."""


@dataclass(frozen=True)
class PseudoSettings:
    """How clips are cut and labels accepted.

    Attributes:
        clips: So many clips are cut from each video, spread evenly.
        length: A clip has at most so many frames.
        stride: Every such frame of the video is taken.
        regions: So many regions are tried in each clip.
        threshold: The box that the teacher returns to must have this IoU with the one it came from.
        score: The mean of the teacher's scores must reach this.
        max_side: Frames are shrunk to this width or height, pixels.
        seed: Regions are drawn by it.
    """

    clips: int = 4
    length: int = 30
    stride: int = 1
    regions: int = 6
    threshold: float = 0.7
    score: float = 0.4
    max_side: int = 384
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("clips", "stride", "regions"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if self.length < LEAST_FRAMES or self.max_side < 4 * LEAST_SIDE:
            raise InputError(
                f"length is {self.length} and max_side {self.max_side}; expected at least "
                f"{LEAST_FRAMES} frames of {4 * LEAST_SIDE:g} pixels"
            )
        if not (0 <= self.threshold <= 1 and 0 <= self.score <= 1):
            raise InputError(
                f"threshold is {self.threshold:g} and score {self.score:g}; expected [0, 1]"
            )


@dataclass(frozen=True)
class PseudoTrack:
    """What a teacher followed there and back.

    Attributes:
        boxes: x, y, w, h in pixels, one a frame up to where it turned.
        closure: IoU of the start with the box that the way back ended in.
        score: mean of the teacher's scores, both ways.
    """

    boxes: list[Box]
    closure: float
    score: float


class InsideFrame:
    """A tracker whose boxes end where the frame does, as those of models; baselines' may not.

    A box that lies outside becomes one of 2 pixels at the edge, on which a tracker can start.
    """

    def __init__(self, tracker: SingleObjectTracker) -> None:
        self._tracker = tracker

    def init(self, frame: Frame, box: Box) -> None:
        """Start on the target at `box` (x, y, w, h in pixels) of an (H, W, 3) RGB frame."""
        self._tracker.init(frame, box)

    def update(self, frame: Frame) -> Estimate:
        """Find the target in the next (H, W, 3) RGB frame."""
        found = self._tracker.update(frame)
        return Estimate(clip_box(found.box, frame.shape, LEAST_INSIDE), found.score)


@dataclass
class Tally:
    """How much was tried and kept."""

    videos: int = 0
    clips: int = 0
    regions: int = 0
    kept: int = 0
    frames: int = 0


def follow(
    tracker: SingleObjectTracker, frames: list[Frame], box: Box, settings: PseudoSettings
) -> PseudoTrack | None:
    """Follow a region of the first frame through a clip, as far as there is a way back.

    From the end of the clip first; where the way back ends elsewhere, from half as far, and so on.

    Args:
        tracker: the teacher.
        frames: of the clip, (H, W, 3) uint8 RGB.
        box: x, y, w, h in pixels of the first frame.
        settings: what is accepted.

    Returns:
        The boxes up to where it turned, None where nothing was accepted.
    """
    boxes, scores = _pass(tracker, frames, box)
    count = len(frames)
    while count >= LEAST_FRAMES:
        back, back_scores = _pass(tracker, frames[count - 1 :: -1], boxes[count - 1])
        closure = float(iou([back[-1]], [box])[0])
        score = float(np.mean(scores[: count - 1] + back_scores))
        if closure >= settings.threshold and score >= settings.score:
            return PseudoTrack(boxes[:count], closure, score)
        count //= 2
    return None


def _pass(
    tracker: SingleObjectTracker, frames: list[Frame], box: Box
) -> tuple[list[Box], list[float]]:
    tracker.init(frames[0], box)
    estimates = [tracker.update(frame) for frame in frames[1:]]
    boxes = [box, *(estimate.box for estimate in estimates)]
    return boxes, [estimate.score for estimate in estimates]


def propose(frames: list[Frame], count: int, rng: np.random.Generator) -> list[Box]:
    """Return regions of the first frame worth following: textured, apart, half of them moving.

    Args:
        frames: of a clip.
        count: how many at most.
        rng: where the randomness comes from.
    """
    first, last = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (frames[0], frames[-1]))
    change = cv2.absdiff(first, last)
    drawn = [_region(first.shape, rng) for _ in range(CANDIDATES * count)]
    textured = [box for box in drawn if _cut(first, box).std() >= LEAST_CONTRAST]
    moving = sorted(textured, key=lambda box: -float(_cut(change, box).mean()))
    chosen: list[Box] = []
    for row, wanted in ((moving, (count + 1) // 2), (textured, count)):
        for box in row:
            apart = not chosen or iou([box] * len(chosen), chosen).max() < MOST_OVERLAP
            if len(chosen) < wanted and apart:
                chosen.append(box)
    return chosen


def _region(shape: tuple[int, ...], rng: np.random.Generator) -> Box:
    height, width = shape
    most = max(0.4 * min(height, width), LEAST_SIDE + 1)
    side = float(np.exp(rng.uniform(np.log(LEAST_SIDE), np.log(most))))
    aspect = float(np.exp(rng.uniform(-0.7, 0.7)))
    w, h = min(side * aspect**0.5, 0.9 * width), min(side / aspect**0.5, 0.9 * height)
    return float(rng.uniform(0, width - w)), float(rng.uniform(0, height - h)), w, h


def _cut(image: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    x, y, w, h = (round(value) for value in box)
    return image[y : y + max(h, 1), x : x + max(w, 1)]


def find_videos(folder: Path) -> list[tuple[str, Path]]:
    """Yield the name and place of every video in a folder: files, folders of images, or NAME/img.

    Raises:
        InputError: no such folder, or no video in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist; give a folder of videos or of image folders")
    found = [
        (path.stem if path.is_file() else path.name, _place(path)) for path in folder.iterdir()
    ]
    videos = sorted((name, place) for name, place in found if place is not None)
    if not videos:
        kinds = ", ".join(sorted(VIDEO_SUFFIXES))
        raise InputError(f"{folder} has no video in it ({kinds}) and no folder of images")
    names = [name for name, _ in videos]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise InputError(f"{folder} has two videos called {double}; rename one")
    return videos


def _place(path: Path) -> Path | None:
    if path.is_file():
        return path if is_video(path) else None
    places = (place for place in (path / "img", path) if place.is_dir())
    return next((place for place in places if _has_images(place)), None)


def _has_images(folder: Path) -> bool:
    return any(is_image(path) for path in folder.iterdir())


def cut_clips(
    source: RecordedSource, settings: PseudoSettings
) -> Iterator[list[tuple[int, Frame]]]:
    """Yield clips of a video, one at a time: number in the video and shrunk frame of each."""
    span = settings.length * settings.stride
    apart = span
    if source.count is not None:
        apart = max(span, source.count // settings.clips)
    clip: list[tuple[int, Frame]] = []
    for number, frame in enumerate(itertools.islice(source, apart * settings.clips)):
        place = number % apart
        if place == 0 and clip:
            yield clip
            clip = []
        if place < span and place % settings.stride == 0:
            clip.append((number, _shrunk(frame, settings.max_side)))
    if len(clip) >= LEAST_FRAMES:
        yield clip


def _shrunk(frame: Frame, most: int) -> Frame:
    scale = most / max(frame.shape[:2])
    if scale >= 1:
        return frame
    size = (max(round(frame.shape[1] * scale), 1), max(round(frame.shape[0] * scale), 1))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def write_pseudo_pack(
    tracker: SingleObjectTracker,
    videos: list[tuple[str, Path]],
    output: Path,
    settings: PseudoSettings,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Tally:
    """Write an image pack of what a teacher follows there and back.

    `annotations.jsonl` comes last: without it there is no pack.

    Args:
        tracker: the teacher.
        videos: from `find_videos`.
        output: folder of the pack.
        settings: how clips are cut and labels accepted.
        progress: wraps the iteration over the videos (a progress bar).

    Raises:
        InputError: a pack is there already, a video cannot be read, or nothing was kept.
    """
    annotations = output / ANNOTATIONS
    if annotations.exists():
        raise InputError(f"{annotations} exists already; give another --output")
    tally, records = Tally(), []
    for index, (name, place) in enumerate(progress(videos)):
        tally.videos += 1
        rng = np.random.default_rng([settings.seed, index])
        for number, clip in enumerate(cut_clips(open_recorded(place), settings)):
            kept = _label(tracker, clip, settings, rng, tally)
            if kept:
                records += _write_clip(output, f"{name}_{number}", name, clip, kept)
    if not records:
        raise InputError(
            f"none of {tally.regions} regions came back with an IoU of {settings.threshold:g} and "
            f"a mean score of {settings.score:g}: lower them, or give other videos"
        )
    write_text(annotations, "".join(f"{json.dumps(record)}\n" for record in records))
    tally.frames = len(records)
    return tally


def _label(
    tracker: SingleObjectTracker,
    clip: list[tuple[int, Frame]],
    settings: PseudoSettings,
    rng: np.random.Generator,
    tally: Tally,
) -> dict[int, PseudoTrack]:
    """Return what came back, by a number that no other track of the run has."""
    frames = [frame for _, frame in clip]
    tally.clips += 1
    kept = {}
    for box in propose(frames, settings.regions, rng):
        tally.regions += 1
        track = follow(tracker, frames, box, settings)
        if track is not None:
            kept[tally.kept] = track
            tally.kept += 1
    return kept


def _write_clip(
    output: Path,
    clip_name: str,
    video: str,
    clip: list[tuple[int, Frame]],
    kept: dict[int, PseudoTrack],
) -> list[dict[str, Any]]:
    """Write the images of a clip; return the lines that annotate them."""
    folder = output / "video" / clip_name
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    used = max(len(track.boxes) for track in kept.values())
    for index, (number, frame) in enumerate(clip[:used]):
        path = folder / f"{index:05d}.jpg"
        image = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
            raise InputError(f"{path} cannot be written; is the disk full?")
        boxes = [
            {"bbox": [round(value, 2) for value in track.boxes[index]], "name": "", "track": key}
            for key, track in kept.items()
            if index < len(track.boxes)
        ]
        records.append(
            {
                "image": path.relative_to(output).as_posix(),
                "width": frame.shape[1],
                "height": frame.shape[0],
                "source": video,
                "video": clip_name,
                "frame": index,
                "orig_frame": number,
                "boxes": boxes,
            }
        )
    return records
