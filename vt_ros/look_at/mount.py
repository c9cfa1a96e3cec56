# SPDX-License-Identifier: Apache-2.0
"""From turns of the camera to turns of what carries it: a static rotation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vt_ros.look_at.control_law import Pair


@dataclass(frozen=True)
class Mount:
    """How a camera is turned in a frame with x forward, y to the left and z up (REP 103).

    Without an angle it looks along x. The angles are those of a URDF's `rpy`: about x, then y, then
    z of that frame, radians.
    """

    roll: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0

    def angular_velocity(self, rates: Pair) -> NDArray[np.float64]:
        """Return the angular velocity, (3,), of a camera that pans and tilts.

        Args:
            rates: of pan (to the right, about y of the optical frame) and of tilt (downwards, about
                -x of it), in a unit of choice, which is also that of the result.
        """
        pan, tilt = rates
        # In x forward, y left, z up the optical axes x and y are -y and -z.
        return self._rotation() @ np.array((0.0, tilt, -pan))

    def pan_and_tilt(self) -> NDArray[np.float64]:
        """Return the matrix (2, 2) from pan and tilt of the camera to turns about z and y."""
        columns = [self.angular_velocity(np.array(unit)) for unit in ((1.0, 0.0), (0.0, 1.0))]
        return np.stack(columns, axis=1)[[2, 1]]

    def _rotation(self) -> NDArray[np.float64]:
        (cr, sr), (cp, sp), (cy, sy) = (
            (math.cos(angle), math.sin(angle)) for angle in (self.roll, self.pitch, self.yaw)
        )
        roll = np.array(((1.0, 0.0, 0.0), (0.0, cr, -sr), (0.0, sr, cr)))
        pitch = np.array(((cp, 0.0, sp), (0.0, 1.0, 0.0), (-sp, 0.0, cp)))
        yaw = np.array(((cy, -sy, 0.0), (sy, cy, 0.0), (0.0, 0.0, 1.0)))
        return yaw @ pitch @ roll
