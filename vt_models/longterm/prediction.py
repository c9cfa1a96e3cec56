# SPDX-License-Identifier: Apache-2.0
"""Where the target is by now, or will be: an estimate carried forward by the motion of its box.

The box of a frame is known when the frame has been exposed, transferred and searched; until the
next answer comes the target moves on. `BoxMotion` says where to. Its constants were fitted on the
validation videos (docs/longterm.md, "Prediction"); the long-term tracker makes no use of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vt_models.geometry.boxes import Box
from vt_models.longterm.state_machine import State

# Seconds over which velocities are averaged. The filter of the long-term tracker averages over
# longer, which is better for bridging a gap and worse for the next frame: 0.632 against 0.638
# average overlap one frame ahead.
_AVERAGING = 0.04
# Seconds in which a velocity falls to 1 / e: targets and cameras turn back. Without it half of
# what prediction gains four frames ahead is lost again.
_DECAY = 0.15
# One standard deviation of the centre grows by so many sides a second, and by this share of the
# speed; that of width and height by a constant.
_CENTRE_GROWTH, _SPEED_SHARE, _SIZE_GROWTH = 0.7, 0.5, 0.45


@dataclass(frozen=True)
class BoxMotion:
    """An estimate with a box, and how that moves.

    Attributes:
        time: of the frame, seconds.
        box: x, y, w, h in pixels.
        covariance: (4, 4) of centre x, centre y, width, height in pixels squared.
        velocity: of the centre, pixels a second in x and in y.
        state: of the target in that frame; never IDLE or LOST.
    """

    time: float
    box: Box
    covariance: NDArray[np.float64]
    velocity: tuple[float, float]
    state: State

    def at(self, time: float) -> tuple[Box, NDArray[np.float64]]:
        """Predict the box at a time; its size stays.

        Args:
            time: seconds; before that of the frame it counts as that.

        Returns:
            The box, and its (4, 4) covariance, which grows with the time ahead.
        """
        ahead = max(0.0, time - self.time)
        travel = _DECAY * (1.0 - math.exp(-ahead / _DECAY))
        x, y, w, h = self.box
        side = math.sqrt(w * h)
        centre = (_CENTRE_GROWTH * side + _SPEED_SHARE * math.hypot(*self.velocity)) * ahead
        size = _SIZE_GROWTH * side * ahead
        growth = np.diag((centre**2, centre**2, size**2, size**2))
        box = x + travel * self.velocity[0], y + travel * self.velocity[1], w, h
        return box, self.covariance + growth


def follow(
    previous: BoxMotion | None,
    time: float,
    box: Box,
    covariance: NDArray[np.float64],
    state: State,
) -> BoxMotion:
    """Go on to the next frame of the same target.

    Args:
        previous: motion up to the frame before; None: nothing is known, and the box is at rest.
        time: of this frame, seconds.
        box: of the target in this frame, x, y, w, h in pixels.
        covariance: (4, 4) of it, as in `BoxMotion`.
        state: in this frame, neither IDLE nor LOST.
    """
    velocity = (0.0, 0.0)
    elapsed = 0.0 if previous is None else time - previous.time
    if previous is not None and elapsed > 0.0:
        velocity = previous.velocity
        if state is State.COASTING:  # nothing was measured
            kept = math.exp(-elapsed / _DECAY)
            velocity = velocity[0] * kept, velocity[1] * kept
        elif previous.state is not State.COASTING:
            weight = 1.0 - math.exp(-elapsed / _AVERAGING)
            before = previous.box
            steps = (
                box[0] - before[0] + 0.5 * (box[2] - before[2]),
                box[1] - before[1] + 0.5 * (box[3] - before[3]),
            )
            velocity = (
                velocity[0] + weight * (steps[0] / elapsed - velocity[0]),
                velocity[1] + weight * (steps[1] / elapsed - velocity[1]),
            )
    return BoxMotion(time, box, covariance, velocity, state)
