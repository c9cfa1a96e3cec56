# SPDX-License-Identifier: Apache-2.0
"""Checks of whole frames: dark, covered, frozen, of another scene or of another size."""

from __future__ import annotations

import enum
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.geometry.crop import as_stored
from vt_models.longterm.settings import LongTermSettings

_THUMBNAIL_SIDE = 64
# The share of colours in common of 80 x 60 pixels is less than that of all 76800 by 0.01, at most
# by 0.06 (10018 pairs of frames); their histogram takes 0.02 ms where all take 0.15.
_COLOUR_GRID = (80, 60)
_BINS = 8
_SUBSAMPLED_SIDE = 240
_LEAST_ROW_STEP = 4
# Frames of 134 videos of the training data have 0.34 of the usual detail or more, of a lens that is
# covered by something blurred and a tenth as bright 96 % less than this, or too little contrast.
_DETAIL_SHARE = 0.2
_DETAIL_RATE = 0.1
# A frozen image that a bridge encodes anew differs by a grey level or two and nowhere by more, in
# the mean by 0.65; frames of 16 videos differ by more than 4 in 0.4 % of the pixels at least. A
# camera at rest differs by its own noise, as it always does.
_NOISE_LEVELS, _NOISE_SHARE, _OWN_NOISE_SHARE = 4, 5e-4, 0.6
_STILL_SHARE = 0.8  # of the pixels that do not move, then the camera is at rest


class FrameQuality(enum.Enum):
    """What the checks say about a frame.

    REPEATED: the previous frame again, to the pixel or but for less noise than the camera's own,
    not yet `frozen_frames` times. RESIZED: another size than the previous frame.
    """

    GOOD = "good"
    DARK = "dark or covered"
    REPEATED = "repeated"
    FROZEN = "frozen"
    SCENE_CUT = "another scene"
    RESIZED = "another size"


class FrameStatistics(NamedTuple):
    """Statistics of a frame that the checks compare.

    Attributes:
        grey: (n,) float32 grey values of a thumbnail of 43 to 96 pixels in the longer side (less
            if the frame has less), their mean taken away, of norm 1; zeros for a frame of one grey.
        histogram: (512,) float32 of the colours, sum 1.
        contrast: standard deviation of the thumbnail's grey values.
        detail: mean absolute difference of a pixel's grey value to the next one's, along the row
            and along the column, the sum of both.
    """

    grey: NDArray[np.float32]
    histogram: NDArray[np.float32]
    contrast: float
    detail: float


class SubsampledFrame(NamedTuple):
    """A frame reduced to a regular grid of its pixels.

    Attributes:
        colours: (60, 80, 3) uint8, RGB or BGR as the frame lies in memory.
        grey: (h, w) uint8; 240 to 479 pixels in the longer side, if the frame has as many.
    """

    colours: NDArray[np.uint8]
    grey: NDArray[np.uint8]


def subsample(frame: NDArray[np.uint8]) -> SubsampledFrame:
    """Take a grid of pixels out of a (H, W, 3) uint8 RGB frame, at no cost for a BGR[..., ::-1]."""
    plain, is_rgb = as_stored(frame)
    colours = cv2.resize(plain, _COLOUR_GRID, interpolation=cv2.INTER_NEAREST)
    code = cv2.COLOR_RGB2GRAY if is_rgb else cv2.COLOR_BGR2GRAY
    height, width = plain.shape[:2]
    step = _subsampling_step(frame)
    if step == 2 and height % 2 == width % 2 == 0:
        # Two grey values as one number, of which the lower byte is kept: 0.05 ms for 640 x 480,
        # and 0.10 as below, with the same result.
        pairs = cv2.cvtColor(plain[::2], code).view("<u2")
        return SubsampledFrame(colours, pairs.astype(np.uint8))
    size = (max(width // step, 1), max(height // step, 1))
    grid = cv2.resize(plain, size, interpolation=cv2.INTER_NEAREST) if step > 1 else plain
    return SubsampledFrame(colours, cv2.cvtColor(grid, code))


def _subsampling_step(frame: NDArray[np.uint8]) -> int:
    return max(1, max(frame.shape[:2]) // _SUBSAMPLED_SIDE)


def _rows_to_compare(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the rows, as they lie in memory, in which a repeated frame has the same pixels."""
    return as_stored(frame)[0][:: max(_LEAST_ROW_STEP, _subsampling_step(frame))]


def frame_statistics(frame: SubsampledFrame) -> FrameStatistics:
    """Compute what the checks compare."""
    small = _thumbnail(frame.grey).astype(np.float32)
    small -= cv2.mean(small)[0]
    norm = cv2.norm(small)
    grey = small.reshape(-1) / norm if norm > 1e-3 else np.zeros(small.size, np.float32)
    bins = cv2.calcHist([frame.colours], [0, 1, 2], None, [_BINS] * 3, [0, 256] * 3).reshape(-1)
    bins /= _COLOUR_GRID[0] * _COLOUR_GRID[1]
    return FrameStatistics(grey, bins, norm / small.size**0.5, _detail(frame.grey))


def _thumbnail(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average (h, w) grey values over squares of whole pixels.

    OpenCV does that in 0.02 ms; any other ratio of the sizes, such as to 64 x 36, takes 0.09.
    """
    cell = max(1, round(max(grey.shape) / _THUMBNAIL_SIDE))
    height, width = (max(side // cell, 1) for side in grey.shape)
    whole = grey[: height * cell, : width * cell]
    return cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)


def _detail(grey: NDArray[np.uint8]) -> float:
    """Compute the mean absolute differences of neighbours; 0.01 ms, a Laplacian takes 0.04."""
    along_rows = cv2.norm(grey[:, 1:], grey[:, :-1], cv2.NORM_L1)
    along_columns = cv2.norm(grey[1:], grey[:-1], cv2.NORM_L1)
    return float(along_rows + along_columns) / grey.size


def frame_similarity(one: FrameStatistics, other: FrameStatistics) -> float:
    """Compute the similarity of two whole frames, in [-0.5, 1].

    The mean of the correlation of the grey values and of the share of colours in common. On 134
    videos of the training data one of 10018 pairs of frames in a row has less than 0.45, and
    99 % have 0.78 or more; of pairs of frames of different videos 98.1 % have less than 0.45.
    """
    correlation = float(one.grey @ other.grey)
    return 0.5 * (correlation + float(np.minimum(one.histogram, other.histogram).sum()))


class FrameMonitor:
    """Compare each frame with the previous ones.

    Of the last one every fourth row is copied; of one beyond 1199 pixels in the longer side the
    rows of the subsampled frame, which the processor has just read: other rows of a frame of
    1920 x 1080 take 0.1 ms.

    Attributes:
        reason: why the last frame is not good, with the values and the setting that decided.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._rows = np.zeros((0, 0, 3), np.uint8)
        self._size = (0, 0)
        self._grey = np.zeros((0, 0), np.uint8)
        self._last_good: FrameStatistics | None = None
        self._detail = 0.0
        self._repeats = 0
        self._residual = 0.0

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the last frame; zeros before the first."""
        return self._size

    @property
    def grey(self) -> NDArray[np.uint8]:
        """(h, w) grey values of the last frame, subsampled; never written to again."""
        return self._grey

    def reset(self, frame: NDArray[np.uint8]) -> None:
        """Take a (H, W, 3) uint8 RGB frame as good, and forget all others."""
        subsampled = subsample(frame)
        self._keep(frame, subsampled.grey)
        self._last_good = frame_statistics(subsampled)
        self._detail = self._last_good.detail
        self._repeats = 0
        self._residual = 0.0

    def check(self, frame: NDArray[np.uint8], settings: LongTermSettings) -> FrameQuality:
        """Check the next (H, W, 3) uint8 RGB frame.

        A dark frame is not compared with later ones: what comes after it is compared with the
        last good one, so that uncovering a covered lens is no scene cut.
        """
        self.reason = ""
        if frame.shape[:2] != self._size:
            (h0, w0), (h, w) = self._size, frame.shape[:2]
            self.reason = f"the frame changed: {w}x{h} pixels, before {w0}x{h0}"
            self.reset(frame)
            return FrameQuality.RESIZED
        subsampled = subsample(frame)
        now = frame_statistics(subsampled)
        is_dark = (
            now.contrast < settings.blind_contrast or now.detail < _DETAIL_SHARE * self._detail
        )
        difference = cv2.absdiff(subsampled.grey, self._grey)
        residual = cv2.mean(difference)[0]
        _, still = cv2.threshold(difference, _NOISE_LEVELS, 255, cv2.THRESH_BINARY_INV)
        still_share = cv2.countNonZero(still) / still.size
        is_repeated = self._is_repeated(frame, 1.0 - still_share, residual)
        if is_repeated and not (is_dark and residual):
            self._repeats += 1
            if not 0 < settings.frozen_frames <= self._repeats:
                return FrameQuality.REPEATED
            self.reason = (
                f"the camera repeats the same frame, {self._repeats} times by now "
                f"(frozen_frames {settings.frozen_frames})"
            )
            return FrameQuality.FROZEN
        self._repeats = 0
        self._keep(frame, subsampled.grey)
        if is_dark:  # its noise is not that of the scene
            self.reason = (
                f"the frame is dark or covered: its grey values deviate by {now.contrast:.1f} "
                f"(blind_contrast {settings.blind_contrast:g})"
                if now.contrast < settings.blind_contrast
                else f"the frame is covered or blurred: its detail is {now.detail:.2f}, less than "
                f"{_DETAIL_SHARE:g} of the usual {self._detail:.2f}"
            )
            return FrameQuality.DARK
        # What moves before a camera at rest is not its noise.
        if still_share > _STILL_SHARE:
            # Without what moves; as a mask of cv2.mean this takes 0.12 ms, so 0.01.
            noise = cv2.bitwise_and(difference, still)
            residual = cv2.mean(noise)[0] / still_share
        rate = _DETAIL_RATE if self._residual else 1.0
        self._residual += rate * (residual - self._residual)
        previous, self._last_good = self._last_good, now
        similarity = 1.0 if previous is None else frame_similarity(previous, now)
        if similarity < settings.cut_similarity:
            self.reason = (
                f"the frame changed: another scene, similar by {similarity:.2f} "
                f"(cut_similarity {settings.cut_similarity:g})"
            )
            self._detail = now.detail
            self._residual = 0.0  # another scene has another noise
            return FrameQuality.SCENE_CUT
        self._detail += _DETAIL_RATE * (now.detail - self._detail)
        return FrameQuality.GOOD

    def _keep(self, frame: NDArray[np.uint8], grey: NDArray[np.uint8]) -> None:
        rows = _rows_to_compare(frame)
        if self._rows.shape != rows.shape:
            self._rows = np.empty(rows.shape, np.uint8)
        np.copyto(self._rows, rows)
        self._size, self._grey = (frame.shape[0], frame.shape[1]), grey

    def _is_repeated(self, frame: NDArray[np.uint8], changed_share: float, residual: float) -> bool:
        """Check for the frame that was kept last: the noise of any camera changes it.

        Args:
            frame: (H, W, 3) uint8 RGB.
            changed_share: share of the subsampled pixels that changed by more than noise.
            residual: mean absolute difference of the subsampled grey values.
        """
        if residual == 0.0:
            return np.array_equal(_rows_to_compare(frame), self._rows)
        return changed_share <= _NOISE_SHARE and residual < _OWN_NOISE_SHARE * self._residual
