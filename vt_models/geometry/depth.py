# SPDX-License-Identifier: Apache-2.0
"""The range of a target from depth samples of which many show something else, or nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_HALF_WIDTH = 0.05
"""Samples belong to one mode within 5 % of its range: 2.5 deviations of a stereo camera at 8 m."""
_MAD_TO_DEVIATION = 1.4826  # of a normal distribution
_GATE_DEVIATIONS = 3.0


@dataclass(frozen=True)
class DepthMode:
    """A range at which many of the samples lie.

    Attributes:
        range: median of its samples, metres.
        spread: their robust standard deviation (1.4826 times the median absolute deviation).
        share: of all samples that belong to it, in [0, 1].
    """

    range: float
    spread: float
    share: float


def strong_modes(ranges: NDArray[np.floating], least_share: float) -> list[DepthMode]:
    """Find the ranges at which a share of the samples or more lies, the nearest first.

    A mean or a median over a box mixes the target with what is before and behind it. Here the
    density of log range is estimated with a box kernel, so that a mode is as wide in per cent at
    any range. The densest mode takes its samples away before the next one is looked for: the tail
    of one surface makes no second mode.

    Args:
        ranges: (N,) metres, finite and above 0; see `usable`.
        least_share: of all samples that a mode needs, in (0, 1].

    >>> ranges = np.array([2.0] * 30 + [5.0] * 50 + [3.1, 3.7, 4.4])
    >>> nearest, farther = strong_modes(ranges, 0.2)
    >>> round(nearest.range, 3), round(nearest.share, 2), round(farther.range, 3)
    (2.0, 0.36, 5.0)
    """
    logs = np.sort(np.log(np.asarray(ranges, np.float64)))
    least = max(1.0, least_share * len(logs))
    total, modes = len(logs), []
    while len(logs) >= least:
        first = np.searchsorted(logs, logs - _HALF_WIDTH, "left")
        last = np.searchsorted(logs, logs + _HALF_WIDTH, "right")
        counts = last - first
        # The middle of the densest stretch: a flat top has many equal maxima.
        densest = np.flatnonzero(counts == counts.max())
        peak = densest[len(densest) // 2]
        if counts[peak] < least:
            break
        members = np.exp(logs[first[peak] : last[peak]])
        middle = float(np.median(members))
        spread = _MAD_TO_DEVIATION * float(np.median(np.abs(members - middle)))
        modes.append(DepthMode(middle, spread, len(members) / total))
        logs = np.delete(logs, np.s_[first[peak] : last[peak]])
    return sorted(modes, key=lambda mode: mode.range)


def usable(
    ranges: NDArray[np.floating], nearest: float, farthest: float, most: int = 4096
) -> NDArray[np.float64]:
    """Return those of the ranges that are finite and within limits, at most `most` of them.

    Args:
        ranges: any shape; holes are 0, NaN or infinite, as drivers write them.
        nearest, farthest: metres.
        most: every k-th one is taken where there are more.
    """
    flat = ranges.ravel()
    flat = flat[:: max(1, math.ceil(len(flat) / most))]
    with np.errstate(invalid="ignore"):
        return np.asarray(flat[(flat >= nearest) & (flat <= farthest)], np.float64)


class RangeGate:
    """Chooses among the modes of a frame by the range that the target had before.

    The first frame of a target takes the nearest mode: the box is drawn round the target, and what
    shines through is behind it. Later the nearest mode that the target can have reached since is
    taken, so an object that passes before it is not. A nearest mode out of reach that stays for
    `patience` seconds is taken nevertheless: the tracker, which looks at the image, holds the box,
    so it was the earlier range that belonged to something else.

    Args:
        fastest: change of the range, metres a second.
        patience: seconds.
    """

    def __init__(self, fastest: float, patience: float) -> None:
        self._fastest, self._patience = fastest, patience
        self._last: tuple[float, float] | None = None  # seconds, range
        self._rival: tuple[float, float, float] | None = None  # since when, seconds, range

    def reset(self) -> None:
        """Forget the target."""
        self._last = self._rival = None

    def choose(self, modes: Sequence[DepthMode], seconds: float, deviation: float) -> int | None:
        """Return the index of the target's mode; None if all are out of reach.

        Args:
            modes: the nearest first, one or more.
            seconds: time of exposure.
            deviation: one standard deviation of a range, metres.
        """
        chosen: int | None = 0
        if self._last is not None:
            slack = _GATE_DEVIATIONS * deviation
            then, before = self._last
            reach = self._fastest * max(0.0, seconds - then) + slack
            chosen = next(
                (k for k, mode in enumerate(modes) if abs(mode.range - before) <= reach), None
            )
            if chosen != 0 and self._has_stayed(modes[0].range, seconds, slack):
                chosen = 0
        if chosen == 0:
            self._rival = None
        if chosen is not None:
            self._last = seconds, modes[chosen].range
        return chosen

    @property
    def last_range(self) -> float:
        """Metres; NaN before the first one."""
        return math.nan if self._last is None else self._last[1]

    def _has_stayed(self, nearest: float, seconds: float, slack: float) -> bool:
        """Note that the nearest mode is out of reach, and return whether it has been for long."""
        since = seconds
        if self._rival is not None:
            begin, then, before = self._rival
            if abs(nearest - before) <= self._fastest * max(0.0, seconds - then) + slack:
                since = begin
        self._rival = since, seconds, nearest
        return seconds - since >= self._patience
