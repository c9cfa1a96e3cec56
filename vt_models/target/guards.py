# SPDX-License-Identifier: Apache-2.0
"""Is the picture one in which a target could be seen? Dark, covered, frozen, another scene."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vt_models.target.settings import TargetSettings

_THUMBNAIL = (64, 36)
_BINS = 8
_ROW_STEP = 4
_DETAIL_SHARE = 0.2
_DETAIL_RATE = 0.1


class Picture(enum.Enum):
    """What a frame is, seen as a whole.

    REPEATED: the very pixels of the former frame, not yet `frozen_frames` times. RESIZED: another
    size than the former frame.
    """

    GOOD = "good"
    DARK = "dark or covered"
    REPEATED = "repeated"
    FROZEN = "frozen"
    CUT = "another scene"
    RESIZED = "another size"


class Glance(NamedTuple):
    """A frame reduced to what the checks compare.

    Attributes:
        grey: (36, 64) float32 grey values.
        histogram: (512,) float32 of the colours, sum 1.
        contrast: standard deviation of the grey values.
        detail: mean absolute Laplacian of the grey values.
    """

    grey: NDArray[np.float32]
    histogram: NDArray[np.float32]
    contrast: float
    detail: float


def glance(frame: NDArray[np.uint8]) -> Glance:
    """Reduce a (H, W, 3) uint8 RGB frame; 0.3 ms at 1080p, for it reads one pixel in many."""
    step = max(1, min(frame.shape[:2]) // 180)
    sparse = np.ascontiguousarray(frame[::step, ::step])
    small = cv2.resize(sparse, _THUMBNAIL, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    histogram = cv2.calcHist([sparse], [0, 1, 2], None, [_BINS] * 3, [0, 256] * 3).reshape(-1)
    edges = cv2.Laplacian(cv2.cvtColor(sparse, cv2.COLOR_RGB2GRAY), cv2.CV_16S)
    histogram /= histogram.sum()
    return Glance(
        grey.astype(np.float32), histogram, float(grey.std()), float(np.abs(edges).mean())
    )


def similarity(one: Glance, other: Glance) -> float:
    """How alike two pictures are as a whole, in [-0.5, 1].

    The mean of the correlation of the grey values and of the share of colours in common. On the 16
    development sequences frames in a row have 0.64 or more and frames five apart 0.42 or more;
    of pairs of frames of different sequences 99.3 % have less than 0.45.
    """
    a, b = one.grey - one.grey.mean(), other.grey - other.grey.mean()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    correlation = float((a * b).sum()) / norm if norm > 1e-3 else 0.0
    return 0.5 * (correlation + float(np.minimum(one.histogram, other.histogram).sum()))


class Guard:
    """Compares each frame with the former ones; holds a copy of some of the former's rows."""

    def __init__(self) -> None:
        self._rows = np.zeros((0, 0, 3), np.uint8)
        self._size = (0, 0)
        self._good: Glance | None = None
        self._detail = 0.0
        self._repeats = 0

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the last frame; zeros before the first."""
        return self._size

    def start(self, frame: NDArray[np.uint8]) -> None:
        """Take a (H, W, 3) uint8 RGB frame as good, and forget all others."""
        self._keep(frame)
        self._good = glance(frame)
        self._detail = self._good.detail
        self._repeats = 0

    def look(self, frame: NDArray[np.uint8], settings: TargetSettings) -> Picture:
        """Judge the next (H, W, 3) uint8 RGB frame.

        A dark picture is not compared with later ones: what comes after it is compared with the
        last good one, so that a covered lens that is uncovered is no other scene.
        """
        if frame.shape[:2] != self._size:
            self.start(frame)
            return Picture.RESIZED
        if self._is_repeated(frame):
            self._repeats += 1
            frozen = 0 < settings.frozen_frames <= self._repeats
            return Picture.FROZEN if frozen else Picture.REPEATED
        self._repeats = 0
        self._keep(frame)
        now = glance(frame)
        if now.contrast < settings.blind_contrast or now.detail < _DETAIL_SHARE * self._detail:
            return Picture.DARK
        former, self._good = self._good, now
        if former is not None and similarity(former, now) < settings.cut_similarity:
            self._detail = now.detail
            return Picture.CUT
        self._detail += _DETAIL_RATE * (now.detail - self._detail)
        return Picture.GOOD

    def _keep(self, frame: NDArray[np.uint8]) -> None:
        self._size = (frame.shape[0], frame.shape[1])
        self._rows = frame[::_ROW_STEP].copy()

    def _is_repeated(self, frame: NDArray[np.uint8]) -> bool:
        """Are the kept rows the very same? The noise of any camera changes them."""
        return bool(np.array_equal(frame[::_ROW_STEP], self._rows))
