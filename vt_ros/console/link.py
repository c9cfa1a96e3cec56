# SPDX-License-Identifier: Apache-2.0
"""How large and how good the next frame may be, from how long the last ones took."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Size and quality over what is wanted, best first. Each takes about two thirds of the bytes of the
# one before: quality goes first, it is missed less than sharpness; below 40 blocks hide a target.
_LADDER = (
    *((1.0, 1.0), (1.0, 0.8), (1.0, 0.6), (0.8, 0.6), (0.8, 0.5)),
    *((0.65, 0.5), (0.5, 0.5), (0.4, 0.5), (0.32, 0.5), (0.25, 0.5), (0.18, 0.5), (0.12, 0.5)),
)
_STEP = 2.0 / 3.0
_NARROWEST, _WORST = 96, 25
_SHORTEST_TRANSFER = 1e-3  # seconds; what browsers round times to
_SMOOTHING = 0.3  # weight of the newest throughput
_PATIENCE = 8  # frames with room to spare until a better one is tried
_ROOM = 0.55  # a better frame must fit: it takes 1 / _STEP = 1.5 times the bytes


@dataclass(frozen=True)
class Level:
    """What is sent: frames at most `width` pixels wide, in JPEG of a quality of 1 to 100."""

    width: int
    quality: int


class LinkController:
    """Chooses the level for one tile of one browser.

    Just before each frame goes a mark of a few bytes; the browser says how much later than the mark
    the frame was there whole. That is the frame's size over the throughput of the link, whatever
    delay the link has and however busy the browser is. A frame may take `transfer_time`: the level
    goes down as far as that needs, at once, and up by one after `_PATIENCE` frames with room.

    Args:
        transfer_time: seconds; may change.
    """

    def __init__(self, transfer_time: float) -> None:
        self.transfer_time = transfer_time
        self._rung = 0
        self._patience = 0
        self._throughput = 0.0

    def level(self, width: int, max_quality: int) -> Level:
        """Return what to send now, where `width` pixels and `max_quality` would be wanted."""
        scale, quality = _LADDER[self._rung]
        return Level(
            max(min(width, _NARROWEST), round(width * scale)),
            max(min(max_quality, _WORST), round(max_quality * quality)),
        )

    def note_frame(self, size: int, seconds: float) -> None:
        """Take how long after its mark a frame of `size` bytes, at least 1, was there."""
        throughput = size / max(seconds, _SHORTEST_TRANSFER)
        weight = _SMOOTHING if self._throughput else 1.0
        self._throughput += weight * (throughput - self._throughput)
        budget = min(throughput, self._throughput) * self.transfer_time
        if size > budget:
            # To the rung whose frames fit, by the ratio of bytes from rung to rung.
            rungs = math.ceil(math.log(budget / size) / math.log(_STEP))
            self._rung = min(self._rung + rungs, len(_LADDER) - 1)
            self._patience = 0
        elif size < _ROOM * budget and self._rung:
            self._patience += 1
            if self._patience >= _PATIENCE:
                self._rung, self._patience = self._rung - 1, 0
        else:
            self._patience = 0
