# SPDX-License-Identifier: Apache-2.0
"""Where to look for a lost target: windows over the whole frame, near ones first, three sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vt_models.geometry.boxes import Box

SCALES = (1.3, 0.8, 2.0)
"""Sizes looked for, in units of the last known one; a network finds from half to 1.4 times each."""
OVERLAP = 0.35
"""Of neighbouring windows; a target inside a window's central 65 % is whole in it."""


def sweep(frame_shape: Sequence[int], box: Box, search_factor: float) -> list[Box]:
    """Boxes to search around, one whole sweep.

    Each scale covers the frame with a grid of windows. A window's turn comes by the distance of
    its centre from the last position; coarser windows, which cover more, come before finer ones
    of the same distance, and every scale starts at the last position itself.

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
        for x in _places(frame_shape[1], step, cx):
            for y in _places(frame_shape[0], step, cy):
                distance = math.hypot(x - cx, y - cy)
                ordered.append((distance + rank * reach, (x - 0.5 * w, y - 0.5 * h, w, h)))
    return [place for _, place in sorted(ordered, key=lambda item: item[0])]


def _places(length: int, step: float, around: float) -> list[float]:
    """Centres along an axis, `step` apart or less, one at `around` where that is in the frame."""
    around = min(max(around, 0.0), float(length))
    before, after = math.ceil(around / step - 0.5), math.ceil((length - around) / step - 0.5)
    places = [around + index * step for index in range(-max(before, 0), max(after, 0) + 1)]
    return [min(max(place, 0.0), float(length)) for place in places]


class Sweep:
    """Hands out the windows of one sweep after the other."""

    def __init__(self, frame_shape: Sequence[int], box: Box, search_factor: float) -> None:
        self._places = sweep(frame_shape, box, search_factor)
        self._turn = 0

    def __len__(self) -> int:
        """Windows in a whole sweep."""
        return len(self._places)

    def round(self) -> Iterator[Box]:
        """Every window once, going on after the one handed out last; a new sweep follows."""
        for _ in range(len(self._places)):
            place = self._places[self._turn % len(self._places)]
            self._turn += 1
            yield place
