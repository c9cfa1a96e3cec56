# SPDX-License-Identifier: Apache-2.0
"""Opens the sources of a recipe: every annotation is read and checked here, before the first batch.

Boxes and the names of image files are kept as arrays (20 to 40 bytes a frame); images are read when
a pair is drawn, but for those of image packs, which are decoded at once unless told otherwise, and
those of video files, which are decoded once into a cache.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vt_models.datasets import IMAGE_SETS, FolderDataset, SequenceDataset, open_dataset, open_images
from vt_models.datasets.frame_cache import CachedVideo
from vt_models.datasets.image_pack import read_image_pack
from vt_models.datasets.json_lines import ANNOTATIONS
from vt_models.datasets.sequence import sentence_or_classes
from vt_models.datasets.text import read_lines
from vt_models.datasets.video_list import VideoList, read_video_list
from vt_models.datasets.videos import AnnotatedVideo, VideosDataset, read_annotated_videos
from vt_models.errors import DatasetError
from vt_models.training.data.image_store import ImageFiles, ImageStore, ImageTargets, VideoTargets
from vt_models.training.data.targets import (
    Mixture,
    Source,
    Track,
    annotated_in,
    decode_all,
    stills_of,
    tracks_of,
)
from vt_models.training.recipe.rules import IMAGES, PACK
from vt_models.training.recipe.settings import Recipe, SamplingConfig, SourceConfig
from vt_models.video import is_image

NO_BOX = (float("nan"),) * 4
TRAINING_SPLITS = {
    "coco": "train2017",
    "davis": "train",
    "got10k": "train",
    "lasot": "train",
    "tnl2k": "train",
    "trackingnet": "train",
}
"""This split is read where a recipe names none and the dataset has some."""


def parse_roots(words: Iterable[str], recipe: Recipe) -> dict[str, Path]:
    """Return the folders of a recipe's sources: its own, replaced by those of the command line.

    Args:
        words: "NAME=DIR" each, or "DIR" for a recipe with one source.
        recipe: Whose sources they are.

    Returns:
        A folder for every source, by name.

    Raises:
        DatasetError: Names no source, a source without a folder, or a folder that does not exist.
    """
    names = [source.called for source in recipe.sources]
    given: dict[str, Path] = {}
    for word in words:
        match = re.match(r"([\w.-]+)=(.+)$", word)
        if match is None and len(names) > 1:
            raise DatasetError(
                f"--data {word}: the recipe has several sources; give --data NAME=DIR for "
                f"{', '.join(names)}."
            )
        name, folder = match.groups() if match else (names[0], word)
        if name not in names:
            raise DatasetError(
                f"--data {word}: the recipe has no source {name!r}; it has {', '.join(names)}."
            )
        given[name] = Path(folder)
    roots = {source.called: _own_root(source) for source in recipe.sources} | given
    missing = [name for name, root in roots.items() if root is None]
    if missing:
        wanted = " ".join(f"--data {name}=DIR" for name in missing)
        raise DatasetError(f"the folder of {', '.join(missing)} is not known: give {wanted}.")
    found = {name: root for name, root in roots.items() if root is not None}
    gone = [f"{root} ({name})" for name, root in found.items() if not root.is_dir()]
    if gone:
        raise DatasetError(f"no such folder: {', '.join(gone)}.")
    return found


def _own_root(source: SourceConfig) -> Path | None:
    """Return the folder that a recipe names; None where a variable in it is not set."""
    root = os.path.expandvars(source.root)
    return Path(root).expanduser() if root and "$" not in root else None


def _plain(items: Iterable[Any], _what: str) -> Iterable[Any]:
    return items


def open_sources(
    recipe: Recipe,
    roots: dict[str, Path],
    progress: Callable[[Iterable[Any], str], Iterable[Any]] = _plain,
) -> Mixture:
    """Read the annotations of all sources of a recipe.

    Args:
        recipe: Names the sources.
        roots: From `parse_roots`.
        progress: Wraps the iteration over what is read (a progress bar); its second argument says
            what that is.

    Raises:
        DatasetError: Anything that is missing or malformed; names the file, and the line.
    """
    listed = read_video_list(Path(recipe.validation)) if recipe.validation else None
    reader = _Reader(recipe.sampling, listed, progress)
    sources = tuple(reader.read(config, roots[config.called]) for config in recipe.sources)
    unknown = sorted(set(recipe.sampling.hold_out) - reader.videos)
    if unknown:
        near = difflib.get_close_matches(unknown[0], reader.videos, n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise DatasetError(f"sampling.hold_out: no source has a video {', '.join(unknown)}.{hint}")
    left_out = frozenset(name for name in reader.videos if listed and listed.concerns(name))
    return Mixture(reader.store, sources, left_out)


def open_validation(folder: Path, recipe: Recipe, data: Mixture) -> SequenceDataset:
    """Open the sequences to judge by, none of which may be trained on.

    Args:
        folder: of sequences (kind `folder`), or of annotated videos (kind `videos`), of which only
            those run that the recipe's `validation` list marks so.
        recipe: of the run.
        data: what it trains on, from `open_sources`.

    Raises:
        DatasetError: Nothing to judge by, or a source draws from one of the videos.
    """
    if (folder / ANNOTATIONS).is_file():
        chosen: list[str] | None = None
        if recipe.validation:
            listed = read_video_list(Path(recipe.validation))
            chosen = list(listed.validation_sequences(VideosDataset(folder).names))
        sequences: SequenceDataset = VideosDataset(folder, chosen)
    else:
        sequences = FolderDataset(folder)
    names = set(sequences.names)
    if isinstance(sequences, VideosDataset):
        names |= sequences.video_names
    judged = {name.casefold() for name in names}
    for source in data.sources:
        both = sorted(name for name in source.videos if name.casefold() in judged)
        if both:
            raise DatasetError(
                f"--validate-on {folder}: source {source.name} trains on {', '.join(both)}; put "
                "them under sampling.hold_out, or into the recipe's `validation` list"
            )
    return sequences


@dataclass
class _Reader:
    """Opens one source after the other into one store of images."""

    sampling: SamplingConfig
    listed: VideoList | None
    progress: Callable[[Iterable[Any], str], Iterable[Any]]
    store: ImageStore = field(default_factory=ImageStore)
    videos: set[str] = field(default_factory=set)

    def read(self, config: SourceConfig, root: Path) -> Source:
        if config.kind == PACK:
            return self._pack(config, root)
        if config.kind == IMAGES:
            return self._images(config, root)
        if config.kind in IMAGE_SETS:
            return self._annotated_images(config, root)
        if config.kind == VideosDataset.kind:
            return self._video_files(config, root)
        return self._videos(config, root)

    def _chosen(self, config: SourceConfig, name: str) -> bool:
        """Return whether a source draws from the video of this name."""
        is_wanted = not config.match or any(fnmatchcase(name, one) for one in config.match)
        is_skipped = any(fnmatchcase(name, one) for one in config.skip)
        return is_wanted and not is_skipped and not self._held_out(name)

    def _held_out(self, name: str) -> bool:
        """Return whether nobody may train on the video of this name."""
        is_listed = self.listed is not None and self.listed.concerns(name)
        return is_listed or name in self.sampling.hold_out

    def _pack(self, config: SourceConfig, root: Path) -> Source:
        records = read_image_pack(root)
        self.videos |= {r.source for r in records if r.clip is not None}
        # A still image may be a frame of a video, too, which its source then names.
        records = [
            record
            for record in records
            if (
                not self._held_out(record.source)
                if record.clip is None
                else self._chosen(config, record.source)
            )
        ]
        if config.in_memory:
            decoded = decode_all(root, records, lambda files: self.progress(files, config.called))
            images = self.store.add(decoded)
        else:
            sizes = np.array([(r.width, r.height) for r in records], np.int32)
            images = self.store.add(ImageFiles(root, [r.image for r in records], sizes))
        max_cover = config.max_cover or self.sampling.max_cover
        limits = (self.sampling.min_side, max_cover, images.start)
        stills, tracks = stills_of(records, *limits), tracks_of(records, *limits)
        if not stills and not tracks:
            sides = [min(item.box[2:]) for record in records for item in record.objects]
            self._require_targets(config, root, np.array(sides))
        return Source(
            config.called,
            stills,
            tracks,
            images,
            config.weight,
            config.max_gap or None,
            annotated=annotated_in(records, images.start),
            videos=frozenset(record.source for record in records),
        )

    def _images(self, config: SourceConfig, root: Path) -> Source:
        found = (path for path in root.rglob("*") if is_image(path))
        names = sorted(
            path.relative_to(root).as_posix() for path in self.progress(found, config.called)
        )
        if not names:
            raise DatasetError(f"{root}: no image in it or below it; expected a folder of images")
        images = self.store.add(ImageFiles(root, names))
        return Source(config.called, (), (), images, config.weight, is_unlabelled=True)

    def _annotated_images(self, config: SourceConfig, root: Path) -> Source:
        found = open_images(config.kind, root, split=_split(config))
        if not found:
            raise DatasetError(f"{root} ({config.called}): no usable object in any image")
        names = [image.path.name for image in found]
        sizes = np.array([(image.width, image.height) for image in found], np.int32)
        directory = found[0].path.parent
        images = self.store.add(ImageFiles(directory, names, sizes))
        classes = sorted({name for image in found for name in image.names})
        label = {name: number for number, name in enumerate(classes)}
        boxes = np.concatenate([image.boxes for image in found]).astype(np.float32)
        labels = np.array([label[name] for image in found for name in image.names], np.int32)
        counts = [len(image.boxes) for image in found]
        numbers = np.repeat(np.arange(len(found), dtype=np.int32), counts)
        covers = boxes[:, 2] * boxes[:, 3] / sizes[numbers].prod(axis=1)
        usable = boxes[:, 2:].min(axis=1) >= self.sampling.min_side
        max_cover = config.max_cover or self.sampling.max_cover
        usable &= (covers < max_cover) | (max_cover >= 1)
        if not usable.any():
            self._require_targets(config, root, boxes[:, 2:].min(axis=1))
        stills = ImageTargets(
            numbers[usable] + np.int32(images.start),
            boxes[usable],
            labels[usable],
            tuple(classes),
            config.called,
        )
        return Source(config.called, stills, (), images, config.weight)

    def _require_targets(
        self, config: SourceConfig, root: Path, sides: NDArray[np.floating]
    ) -> None:
        """Refuse a source of whose boxes none is a target; `sides` are the shorter ones, pixels.

        One without any box is a source of regions.
        """
        small, least = int((sides < self.sampling.min_side).sum()), self.sampling.min_side
        if sides.size:
            raise DatasetError(
                f"{root} ({config.called}): none of {sides.size} boxes can be a target: {small} "
                f"have a side below {least:g} pixels (sampling.min_side; are they fractions of the "
                f"image?), {sides.size - small} cover too much (sampling.max_cover), are difficult "
                "or are tracks of one frame"
            )

    def _videos(self, config: SourceConfig, root: Path) -> Source:
        dataset = open_dataset(config.kind, root, split=_split(config), needs_start=False)
        listed = set(_only(config, root, dataset.names))
        self.videos |= set(dataset.names)
        numbers = [
            number
            for number, name in enumerate(dataset.names)
            if name in listed and self._chosen(config, name)
        ]
        first = len(self.store)
        tracks = []
        annotated = False
        for number in self.progress(numbers, config.called):
            record = dataset.record(number)
            annotated |= bool(record["absent"]) or any(record["boxes"][1:])
            track = self._track(config, dataset.root, record)
            if track is not None:
                tracks.append(track)
        if not tracks:
            reason = (
                f"no video with two targets of at least {self.sampling.min_side:g} pixels "
                "(sampling.min_side)"
                if annotated
                else "no boxes but the first of each video: use another split"
            )
            raise DatasetError(f"{root} ({config.called}): {reason}")
        images = range(first, len(self.store))
        drawn = frozenset(dataset.names[number] for number in numbers)
        gap = config.max_gap or None
        return Source(config.called, (), tracks, images, config.weight, gap, videos=drawn)

    def _video_files(self, config: SourceConfig, root: Path) -> Source:
        """Decode the chosen videos into the cache, two at a time."""
        found = read_annotated_videos(root)
        names = [video.name for video in found]
        self.videos |= set(names)
        listed = set(_only(config, root, names))
        videos = [one for one in found if one.name in listed and self._chosen(config, one.name)]
        first, tracks = len(self.store), []
        with ThreadPoolExecutor(2) as pool:
            cached = self.progress(pool.map(CachedVideo, videos), config.called)
            for video, frames in zip(videos, cached, strict=True):
                images = self.store.add(frames)
                tracks += self._tracks_of(config, video, images.start)
        if not tracks:
            raise DatasetError(
                f"{root} ({config.called}): none of {len(videos)} chosen videos has a track with "
                f"two boxes of at least {self.sampling.min_side:g} pixels (sampling.min_side)"
            )
        images = range(first, len(self.store))
        drawn = frozenset(video.name for video in videos)
        gap = config.max_gap or None
        return Source(config.called, (), tracks, images, config.weight, gap, videos=drawn)

    def _tracks_of(self, config: SourceConfig, video: AnnotatedVideo, first: int) -> list[Track]:
        """Return the tracks with two usable boxes or more; `first` is the video's first image."""
        scene = f"{config.called}/{video.name}"
        tracks = []
        for track in video.tracks:
            usable = track.boxes[:, 2:].min(axis=1) >= self.sampling.min_side  # nan is not
            shown = np.flatnonzero(usable).astype(np.int32)
            if len(shown) >= 2:
                boxes = track.boxes[shown].astype(np.float32)
                sentence = sentence_or_classes(track.sentence, (track.name,))
                targets = VideoTargets(first, shown, boxes, track.name, scene, sentence)
                tracks.append(Track(f"{scene}/{track.id}", targets, shown))
        return tracks

    def _track(self, config: SourceConfig, root: Path, record: Mapping[str, Any]) -> Track | None:
        """Return a video's frames and its target; None if it has less than two usable boxes."""
        boxes = np.array([box or NO_BOX for box in record["boxes"]], np.float32)
        usable = boxes[:, 2:].min(axis=1) >= self.sampling.min_side
        shown = np.flatnonzero(usable).astype(np.int32)
        if len(shown) < 2:
            return None
        folder, slash, _ = record["frames"][0].rpartition("/")
        names = [name[len(folder + slash) :] for name in record["frames"]]
        first = self.store.add(ImageFiles(root / folder, names)).start
        scene = f"{config.called}/{record['name']}"
        sentence = sentence_or_classes(record["language"], record["classes"])
        words = (record["category"] or "", scene, sentence)
        gone = np.array(record["absent"], np.int32)
        gone = gone[gone > shown[0]]  # before that there is no box to look around
        last_seen = shown[np.searchsorted(shown, gone) - 1]
        return Track(
            f"{scene}/0",
            VideoTargets(first, shown, boxes[shown], *words),
            shown,
            VideoTargets(first, gone, boxes[last_seen], *words),
        )


def _split(config: SourceConfig) -> str | None:
    return config.split or TRAINING_SPLITS.get(config.kind)


def _only(config: SourceConfig, root: Path, names: list[str]) -> list[str]:
    """Return the videos that a source's file names, all where it has none.

    Raises:
        DatasetError: A missing file, or a line that is neither a name nor a number of the split.
    """
    if not config.only:
        return names
    path = root / os.path.expandvars(config.only)
    known, chosen = set(names), []
    for number, line in enumerate(read_lines(path, "a name or number of a video a line"), start=1):
        word = line.strip()
        if word in known:
            chosen.append(word)
        elif word.isdecimal() and int(word) < len(names):
            chosen.append(names[int(word)])
        else:
            raise DatasetError(
                f"{path}:{number}: {line!r}; expected the name of a video of {config.called}, or "
                f"its number from 0 to {len(names) - 1}"
            )
    return chosen
