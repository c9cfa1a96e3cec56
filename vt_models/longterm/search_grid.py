# SPDX-License-Identifier: Apache-2.0
"""Search windows of re-detection: over the whole frame, near ones first, in three sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from vt_models.geometry.boxes import Box

SCALES = (1.3, 0.8, 2.0)
"""Sizes in units of the last known one; a network finds from half to 1.4 times each."""
OVERLAP = 0.35
"""Neighbouring windows overlap by this share; a target in the middle 65 % of one is whole in it."""


def search_windows(frame_shape: Sequence[int], box: Box, search_factor: float) -> list[Box]:
    """Return the boxes to search around, one whole pass over the frame.

    Each scale covers the frame with a grid of windows. Windows are ordered by the distance
    of their centre from the last position; coarser windows, which cover more, come before finer
    ones of the same distance, and every scale starts at the last position itself.

    Args:
        frame_shape: (H, W, ...) of the frame.
        box: x, y, w, h in pixels, the last known.
        search_factor: side of a window over the mean side of the box searched around.

    Returns:
        x, y, w, h in pixels; every pixel of the frame is in a window of each scale.
    """
    cx, cy = box[0] + 0.5 * box[2], box[1] + 0.5 * box[3]
    reach = math.hypot(*frame_shape[:2])
    ordered: list[tuple[float, Box]] = []
    for rank, scale in enumerate(SCALES):
        w, h = scale * box[2], scale * box[3]
        step = (1.0 - OVERLAP) * search_factor * math.sqrt(w * h)
        for x in _centres(frame_shape[1], step, cx):
            for y in _centres(frame_shape[0], step, cy):
                distance = math.hypot(x - cx, y - cy)
                ordered.append((distance + rank * reach, (x - 0.5 * w, y - 0.5 * h, w, h)))
    return [window for _, window in sorted(ordered, key=lambda item: item[0])]


def _centres(length: int, step: float, around: float) -> list[float]:
    """Centres along an axis, `step` apart or less, one at `around` where that is in the frame."""
    around = min(max(around, 0.0), float(length))
    before, after = math.ceil(around / step - 0.5), math.ceil((length - around) / step - 0.5)
    centres = [around + index * step for index in range(-max(before, 0), max(after, 0) + 1)]
    return [min(max(centre, 0.0), float(length)) for centre in centres]


class SearchGrid:
    """Hand out the search windows, pass after pass over the frame."""

    def __init__(self, frame_shape: Sequence[int], box: Box, search_factor: float) -> None:
        self._windows = search_windows(frame_shape, box, search_factor)
        self._next = 0

    def __len__(self) -> int:
        """Number of windows in one pass."""
        return len(self._windows)

    def one_pass(self) -> Iterator[Box]:
        """Yield every window once, continuing after the one that was handed out last."""
        for _ in range(len(self._windows)):
            window = self._windows[self._next % len(self._windows)]
            self._next += 1
            yield window
