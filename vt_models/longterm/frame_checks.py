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

_THUMBNAIL = (64, 36)
_BINS = 8
_SUBSAMPLED_SIDE = 240
_ROW_STEP = 4
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
        grey: (2304,) float32 grey values of a 64 x 36 thumbnail, their mean taken away, of norm 1;
            zeros for a frame of one grey.
        histogram: (512,) float32 of the colours, sum 1.
        contrast: standard deviation of the grey values.
        detail: mean absolute Laplacian of the grey values.
    """

    grey: NDArray[np.float32]
    histogram: NDArray[np.float32]
    contrast: float
    detail: float


class SubsampledFrame(NamedTuple):
    """A frame reduced to a regular grid of its pixels.

    Attributes:
        colours: (h, w, 3) uint8, RGB or BGR as the frame lies in memory; 240 to 479 pixels in the
            longer side, if the frame has as many.
        grey: (h, w) uint8.
    """

    colours: NDArray[np.uint8]
    grey: NDArray[np.uint8]


def subsample(frame: NDArray[np.uint8]) -> SubsampledFrame:
    """Take a grid of pixels out of a (H, W, 3) uint8 RGB frame, at no cost for a BGR[..., ::-1]."""
    plain, is_rgb = as_stored(frame)
    step = max(1, max(frame.shape[:2]) // _SUBSAMPLED_SIDE)
    size = (max(frame.shape[1] // step, 1), max(frame.shape[0] // step, 1))
    colours = cv2.resize(plain, size, interpolation=cv2.INTER_NEAREST) if step > 1 else plain.copy()
    code = cv2.COLOR_RGB2GRAY if is_rgb else cv2.COLOR_BGR2GRAY
    return SubsampledFrame(colours, cv2.cvtColor(colours, code))


def frame_statistics(frame: SubsampledFrame) -> FrameStatistics:
    """Compute what the checks compare."""
    small = cv2.resize(frame.grey, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()
    norm = float(np.linalg.norm(small))
    grey = small.reshape(-1) / norm if norm > 1e-3 else np.zeros(small.size, np.float32)
    bins = cv2.calcHist([frame.colours], [0, 1, 2], None, [_BINS] * 3, [0, 256] * 3).reshape(-1)
    edges = cv2.Laplacian(frame.grey, cv2.CV_16S)
    pixels = float(frame.grey.size)
    return FrameStatistics(
        grey, bins / pixels, norm / small.size**0.5, cv2.norm(edges, cv2.NORM_L1) / pixels
    )


def frame_similarity(one: FrameStatistics, other: FrameStatistics) -> float:
    """Compute the similarity of two whole frames, in [-0.5, 1].

    The mean of the correlation of the grey values and of the share of colours in common. On the 16
    development sequences frames in a row have 0.63 or more and frames five apart 0.44 or more;
    of pairs of frames of different sequences 99.2 % have less than 0.45.
    """
    correlation = float(one.grey @ other.grey)
    return 0.5 * (correlation + float(np.minimum(one.histogram, other.histogram).sum()))


class FrameMonitor:
    """Compare each frame with the previous ones; every fourth row of the last one is copied.

    Attributes:
        reason: why the last frame is not good, with the values and the setting that decided.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._rows = np.zeros((0, 0, 3), np.uint8)
        self._size = (0, 0)
        self._subsampled = SubsampledFrame(self._rows, self._rows[..., 0])
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
        return self._subsampled.grey

    def reset(self, frame: NDArray[np.uint8]) -> None:
        """Take a (H, W, 3) uint8 RGB frame as good, and forget all others."""
        self._keep(frame, subsample(frame))
        self._last_good = frame_statistics(self._subsampled)
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
        difference = cv2.absdiff(subsampled.grey, self._subsampled.grey)
        residual = float(difference.mean())
        if self._is_repeated(frame, difference, residual) and not (is_dark and residual):
            self._repeats += 1
            if not 0 < settings.frozen_frames <= self._repeats:
                return FrameQuality.REPEATED
            self.reason = (
                f"the camera repeats the same frame, {self._repeats} times by now "
                f"(frozen_frames {settings.frozen_frames})"
            )
            return FrameQuality.FROZEN
        self._repeats = 0
        self._keep(frame, subsampled)
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
        still = cv2.compare(difference, _NOISE_LEVELS, cv2.CMP_LE)
        if cv2.countNonZero(still) > _STILL_SHARE * still.size:
            residual = cv2.mean(difference, still)[0]
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

    def _keep(self, frame: NDArray[np.uint8], subsampled: SubsampledFrame) -> None:
        rows = as_stored(frame)[0][::_ROW_STEP]
        if self._rows.shape != rows.shape:
            self._rows = np.empty(rows.shape, np.uint8)
        np.copyto(self._rows, rows)
        self._size, self._subsampled = (frame.shape[0], frame.shape[1]), subsampled

    def _is_repeated(
        self, frame: NDArray[np.uint8], difference: NDArray[np.uint8], residual: float
    ) -> bool:
        """Check for the frame that was kept last: the noise of any camera changes it.

        Args:
            frame: (H, W, 3) uint8 RGB.
            difference: (h, w) of the subsampled grey values.
            residual: its mean.
        """
        if residual == 0.0:
            return np.array_equal(as_stored(frame)[0][::_ROW_STEP], self._rows)
        changed = np.count_nonzero(difference > _NOISE_LEVELS) / difference.size
        return bool(changed <= _NOISE_SHARE and residual < _OWN_NOISE_SHARE * self._residual)
