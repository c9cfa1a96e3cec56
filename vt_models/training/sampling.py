# SPDX-License-Identifier: Apache-2.0
"""Which two crops make a training pair.

Every pair is a pure function of (seed, sample number): a run that is killed and resumed continues
with the very pairs it would have seen, however many workers read the data.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vt_models.errors import DatasetError
from vt_models.training.data import ImagePack, Target, Track
from vt_models.training.lookalikes import LookAlikes

if TYPE_CHECKING:
    from vt_models.training.recipe import SamplingConfig


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
    """Draws pairs from an `ImagePack` by the shares of a `SamplingConfig`.

    Args:
        pack: Images and targets.
        config: Shares and order.
        seed: Of every pair.
        dynamic: Whether a second template is drawn.

    Raises:
        DatasetError: The pack has nothing of the kinds that the shares ask for.
    """

    def __init__(
        self, pack: ImagePack, config: SamplingConfig, seed: int, dynamic: bool = False
    ) -> None:
        self._dynamic = dynamic
        self._pack = pack
        self._config = config
        self._seed = seed
        shares = {
            "clip": config.clip_share if pack.tracks else 0.0,
            "still": config.still_share if pack.stills else 0.0,
            "region": config.region_share,
        }
        total = sum(shares.values())
        if total <= 0:
            raise DatasetError(
                f"No pair can be drawn: the pack has {len(pack.tracks)} tracks and "
                f"{len(pack.stills)} targets in stills, and the recipe asks for clip_share "
                f"{config.clip_share}, still_share {config.still_share}, region_share "
                f"{config.region_share} (under `sampling`)."
            )
        self._kinds = tuple(shares)
        self._probabilities = np.array([shares[k] / total for k in self._kinds])
        self._lookalikes = LookAlikes(pack)
        self._track_weights = _balanced_track_weights(pack.tracks)

    def rng(self, number: int) -> np.random.Generator:
        """The random stream of sample `number`; augmentation goes on drawing from it."""
        return np.random.default_rng([self._seed, number])

    def draw(self, rng: np.random.Generator) -> Pair:
        """Draws one pair."""
        kind = self._kinds[rng.choice(len(self._kinds), p=self._probabilities)]
        pair = {"clip": self._clip, "still": self._still, "region": self._region}[kind](rng)
        if rng.random() < self._config.negative_share:
            return self._negative(pair, rng)
        return pair

    def _clip(self, rng: np.random.Generator) -> Pair:
        track = self._pack.tracks[rng.choice(len(self._pack.tracks), p=self._track_weights)]
        order = {"any": self._any, "causal": self._causal, "trident": self._trident}
        first, second = order[self._config.order](track, rng)
        third = self._nearer(track, first, second, rng) if self._dynamic else first
        template, search, dynamic = (track.targets[i] for i in (first, second, third))
        return Pair(template, search, True, dynamic)

    def _any(self, track: Track, rng: np.random.Generator) -> tuple[int, int]:
        """Two frames within `max_gap`."""
        first = int(rng.integers(len(track.targets)))
        gap = np.abs(np.asarray(track.frames) - track.frames[first])
        near = np.flatnonzero((gap > 0) & (gap <= self._config.max_gap))
        return first, int(rng.choice(near)) if len(near) else first

    def _causal(self, track: Track, rng: np.random.Generator) -> tuple[int, int]:
        """The authors' order: the search frame comes later; the next one where all are too far."""
        first = int(rng.integers(len(track.targets) - 1))
        gap = np.asarray(track.frames) - track.frames[first]
        near = np.flatnonzero((gap > 0) & (gap <= self._config.max_gap))
        return first, int(rng.choice(near)) if len(near) else first + 1

    def _trident(self, track: Track, rng: np.random.Generator) -> tuple[int, int]:
        """STARK's order: template and search frame lie anywhere in the video."""
        first, second = rng.integers(len(track.targets), size=2)
        return int(first), int(second)

    def _nearer(self, track: Track, first: int, second: int, rng: np.random.Generator) -> int:
        """STARK's second template: within `max_gap` of the search frame, on the template's side."""
        ahead = np.asarray(track.frames) - track.frames[second]
        ahead = ahead if first >= second else -ahead
        near = np.flatnonzero((ahead > 0) & (ahead <= self._config.max_gap))
        return int(rng.choice(near)) if len(near) else first

    def _still(self, rng: np.random.Generator) -> Pair:
        target = self._pack.stills[int(rng.integers(len(self._pack.stills)))]
        return Pair(target, target, True, target)

    def _region(self, rng: np.random.Generator) -> Pair:
        """Any region of any image is a target whose box under a known warp is known."""
        index = int(rng.integers(len(self._pack.images)))
        height, width = self._pack.images[index].shape[:2]
        side = np.exp(rng.uniform(np.log(16.0), np.log(max(0.5 * min(height, width), 17.0))))
        aspect = np.exp(rng.uniform(-0.7, 0.7))
        w, h = min(side * aspect**0.5, 0.9 * width), min(side / aspect**0.5, 0.9 * height)
        box = (float(rng.uniform(0, width - w)), float(rng.uniform(0, height - h)), w, h)
        target = Target(index, box, "", f"region of {index}")
        return Pair(target, target, True, target)

    def _negative(self, pair: Pair, rng: np.random.Generator) -> Pair:
        """A view without the target: around an object of another scene."""
        alike = rng.random() < self._config.lookalike_share
        other = self._lookalikes.draw(pair.template, rng) if alike else None
        other = other or self._elsewhere(pair.template, rng)
        return pair if other is None else Pair(pair.template, other, False, pair.dynamic)

    def lookalike(self, target: Target, rng: np.random.Generator) -> Target | None:
        """Another object, of the same name where there is one; None in a pack of one scene."""
        alike = self._lookalikes.draw(target, rng)
        return self._elsewhere(target, rng) if alike is None else alike

    def _elsewhere(self, target: Target, rng: np.random.Generator) -> Target | None:
        for _ in range(20):
            other = self._any_target(rng)
            if other.scene != target.scene and other.image != target.image:
                return other
        return None

    def _any_target(self, rng: np.random.Generator) -> Target:
        if self._pack.tracks and (not self._pack.stills or rng.random() < 0.5):
            track = self._pack.tracks[int(rng.integers(len(self._pack.tracks)))]
            return track.targets[int(rng.integers(len(track.targets)))]
        if self._pack.stills:
            return self._pack.stills[int(rng.integers(len(self._pack.stills)))]
        return self._region(rng).template


def _balanced_track_weights(tracks: list[Track]) -> np.ndarray:
    """Square-root weights: a crowd scene with many tracks must not crowd out the other videos."""
    if not tracks:
        return np.zeros(0)
    videos = [track.key.rsplit("/", 1)[0] for track in tracks]
    counts = Counter(videos)
    weights = np.array([1.0 / counts[video] ** 0.5 for video in videos])
    return weights / weights.sum()
