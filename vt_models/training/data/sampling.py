# SPDX-License-Identifier: Apache-2.0
"""Which two crops make a training pair.

Every pair is a pure function of (seed, sample number): a run that is killed and resumed continues
with exactly the pairs it would have seen, however many workers read the data.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from vt_models.errors import DatasetError
from vt_models.training.data.lookalikes import LookAlikes
from vt_models.training.data.targets import IndexedSequence, Source, Target, Track, TrainingData
from vt_models.training.recipe.settings import SamplingConfig


@dataclass(frozen=True, slots=True)
class Pair:
    """A template and a search view.

    Attributes:
        template: What to track.
        search: Where to look for it; its box is the answer, or, for a negative pair, the object
            the search crop is centred on.
        present: False when the target is not in the search view.
        dynamic: A second template, nearer to the search view in time; the template itself where
            there is none.
    """

    template: Target
    search: Target
    present: bool
    dynamic: Target


class PairSampler:
    """Draws pairs from sources by their weights and by the shares of a `SamplingConfig`.

    First a source is drawn, then a kind of pair among those it has.

    Args:
        data: Images and targets.
        config: Shares and order.
        seed: Of every pair.
        dynamic: Whether a second template is drawn.

    Raises:
        DatasetError: A source has nothing of the kinds that the shares ask for.
    """

    def __init__(
        self, data: TrainingData, config: SamplingConfig, seed: int, dynamic: bool = False
    ) -> None:
        self._dynamic = dynamic
        self._images = data.images
        self._config = config
        self._seed = seed
        self._sources = [_Drawn.of(source, config) for source in data.sources]
        weights = np.array([source.weight for source in data.sources], np.float64)
        self._weights = weights / weights.sum()
        self._lookalikes = LookAlikes(data.sources)

    def rng(self, number: int) -> np.random.Generator:
        """Return the random stream of sample `number`; augmentation goes on drawing from it."""
        return np.random.default_rng([self._seed, number])

    def draw(self, rng: np.random.Generator) -> Pair:
        """Draw one pair."""
        source = self._any_source(rng)
        kind = source.kinds[rng.choice(len(source.kinds), p=source.probabilities)]
        hidden: IndexedSequence[Target] = ()
        if kind == "clip":
            track = source.tracks[rng.choice(len(source.tracks), p=source.track_weights)]
            pair, hidden = self._clip(source, track, rng), track.hidden
        else:
            pair = (self._still if kind == "still" else self._region)(source, rng)
        if rng.random() < self._config.negative_share:
            return self._negative(pair, hidden, rng)
        return pair

    def _any_source(self, rng: np.random.Generator) -> _Drawn:
        """Draw by weight. A single source draws no number: older recipes keep their pairs."""
        if len(self._sources) == 1:
            return self._sources[0]
        return self._sources[rng.choice(len(self._sources), p=self._weights)]

    def _clip(self, source: _Drawn, track: Track, rng: np.random.Generator) -> Pair:
        order = {"any": self._any, "causal": self._causal, "trident": self._trident}
        first, second = order[self._config.order](track, source.max_gap, rng)
        third = first
        if self._dynamic:
            third = self._nearer(track, source.max_gap, first, second, rng)
        template, search, dynamic = (track.targets[i] for i in (first, second, third))
        return Pair(template, search, True, dynamic)

    def _any(self, track: Track, most: int, rng: np.random.Generator) -> tuple[int, int]:
        """Draw two frames within the gap."""
        first = int(rng.integers(len(track.targets)))
        gap = np.abs(np.asarray(track.frames) - track.frames[first])
        near = np.flatnonzero((gap > 0) & (gap <= most))
        return first, int(rng.choice(near)) if len(near) else first

    def _causal(self, track: Track, most: int, rng: np.random.Generator) -> tuple[int, int]:
        """Draw as published: the search frame comes later; the next one where all are too far."""
        first = int(rng.integers(len(track.targets) - 1))
        gap = np.asarray(track.frames) - track.frames[first]
        near = np.flatnonzero((gap > 0) & (gap <= most))
        return first, int(rng.choice(near)) if len(near) else first + 1

    def _trident(self, track: Track, _most: int, rng: np.random.Generator) -> tuple[int, int]:
        """Draw in STARK's order: template and search frame lie anywhere in the video."""
        first, second = rng.integers(len(track.targets), size=2)
        return int(first), int(second)

    def _nearer(
        self, track: Track, most: int, first: int, second: int, rng: np.random.Generator
    ) -> int:
        """Draw STARK's second template: in the gap of the search frame, on the template's side."""
        ahead = np.asarray(track.frames) - track.frames[second]
        ahead = ahead if first >= second else -ahead
        near = np.flatnonzero((ahead > 0) & (ahead <= most))
        return int(rng.choice(near)) if len(near) else first

    def _still(self, source: _Drawn, rng: np.random.Generator) -> Pair:
        target = source.stills[int(rng.integers(len(source.stills)))]
        return Pair(target, target, True, target)

    def _region(self, source: _Drawn, rng: np.random.Generator) -> Pair:
        """Draw any region of any image: its box under a known warp is known."""
        index = source.images[int(rng.integers(len(source.images)))]
        height, width = self._images[index].shape[:2]
        side = np.exp(rng.uniform(np.log(16.0), np.log(max(0.5 * min(height, width), 17.0))))
        aspect = np.exp(rng.uniform(-0.7, 0.7))
        w, h = min(side * aspect**0.5, 0.9 * width), min(side / aspect**0.5, 0.9 * height)
        box = (float(rng.uniform(0, width - w)), float(rng.uniform(0, height - h)), w, h)
        target = Target(index, box, "", f"region of {index}")
        return Pair(target, target, True, target)

    def _negative(
        self, pair: Pair, hidden: IndexedSequence[Target], rng: np.random.Generator
    ) -> Pair:
        """Draw a view without the target: it is hidden, or around an object of another scene."""
        if self._config.hidden_share > 0 and rng.random() < self._config.hidden_share and hidden:
            gone = hidden[int(rng.integers(len(hidden)))]
            return Pair(pair.template, gone, False, pair.dynamic)
        alike = rng.random() < self._config.lookalike_share
        other = self._lookalikes.draw(pair.template, rng) if alike else None
        other = other or self._elsewhere(pair.template, rng)
        return pair if other is None else Pair(pair.template, other, False, pair.dynamic)

    def lookalike(self, target: Target, rng: np.random.Generator) -> Target | None:
        """Draw another object, of the same name if there is one; None in a pack of one scene."""
        alike = self._lookalikes.draw(target, rng)
        return self._elsewhere(target, rng) if alike is None else alike

    def _elsewhere(self, target: Target, rng: np.random.Generator) -> Target | None:
        for _ in range(20):
            other = self._any_target(rng)
            if other.scene != target.scene and other.image != target.image:
                return other
        return None

    def _any_target(self, rng: np.random.Generator) -> Target:
        source = self._any_source(rng)
        if source.tracks and (not source.stills or rng.random() < 0.5):
            track = source.tracks[int(rng.integers(len(source.tracks)))]
            return track.targets[int(rng.integers(len(track.targets)))]
        if source.stills:
            return source.stills[int(rng.integers(len(source.stills)))]
        return self._region(source, rng).template


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A source with what drawing from it needs."""

    stills: IndexedSequence[Target]
    tracks: IndexedSequence[Track]
    images: range
    max_gap: int
    kinds: tuple[str, ...]
    probabilities: np.ndarray
    track_weights: np.ndarray

    @classmethod
    def of(cls, source: Source, config: SamplingConfig) -> _Drawn:
        shares = {
            "clip": config.clip_share if source.tracks else 0.0,
            "still": config.still_share if source.stills else 0.0,
            "region": config.region_share,
        }
        if not source.tracks and not source.stills and source.is_unlabelled:
            shares["region"] = 1.0
        total = sum(shares.values())
        if total <= 0:
            raise DatasetError(
                f"No pair can be drawn from {source.name}: it has {len(source.tracks)} tracks and "
                f"{len(source.stills)} targets in stills, and the recipe asks for clip_share "
                f"{config.clip_share}, still_share {config.still_share}, region_share "
                f"{config.region_share} (under `sampling`)."
            )
        return cls(
            source.stills,
            source.tracks,
            source.images,
            config.max_gap if source.max_gap is None else source.max_gap,
            tuple(shares),
            np.array([share / total for share in shares.values()]),
            _balanced_track_weights(source.tracks),
        )


def _balanced_track_weights(tracks: IndexedSequence[Track]) -> np.ndarray:
    """Weight tracks by a root: a crowd scene with many must not crowd out the other videos."""
    videos = [track.key.rsplit("/", 1)[0] for track in tracks]
    if not videos:
        return np.zeros(0)
    counts = Counter(videos)
    weights = np.array([1.0 / counts[video] ** 0.5 for video in videos])
    return weights / weights.sum()
