# SPDX-License-Identifier: Apache-2.0
"""What makes a sequence hard, read from its boxes where the dataset does not say.

The rules are those by which LaSOT (Fan et al. 2019, table 2) labels what can be computed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vt_models.datasets.sequence import VideoSequence

SMALL_AREA = 1000.0
CHANGE = 2.0


def sequence_attributes(sequence: VideoSequence) -> tuple[str, ...]:
    """The dataset's own words, or else `box_attributes`."""
    return sequence.attributes or box_attributes(sequence.boxes)


def box_attributes(boxes: NDArray[np.float64]) -> tuple[str, ...]:
    """Attributes of (N, 4) boxes x, y, w, h in pixels, nan where the target is absent.

    "absent": in some frame. "aspect ratio change": w / h leaves [1/2, 2] times that of the first
    frame. "fast motion": from one frame to the next the centre moves by more than the mean side.
    "low resolution": fewer than 1000 pixels in some frame. "scale variation": the area leaves
    [1/2, 2] times that of the first frame.
    """
    present = np.isfinite(boxes).all(axis=1)
    x, y, w, h = boxes[present].T
    centres = np.stack((x + w / 2, y + h / 2))
    moved = np.hypot(*np.diff(centres, axis=1)) > np.sqrt(w * h)[1:]
    next_to = np.diff(np.flatnonzero(present)) == 1
    rules = {
        "absent": not present.all(),
        "aspect ratio change": _leaves(w / h),
        "fast motion": bool((moved & next_to).any()),
        "low resolution": bool((w * h < SMALL_AREA).any()),
        "scale variation": _leaves(w * h),
    }
    return tuple(name for name, holds in rules.items() if holds)


def _leaves(values: NDArray[np.float64]) -> bool:
    ratio = values / values[0]
    return bool(((ratio > CHANGE) | (ratio < 1 / CHANGE)).any())
