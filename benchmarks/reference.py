# SPDX-License-Identifier: Apache-2.0
"""A fixed piece of work that takes turns with what is measured: times become ratios to it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from vt_models.tracker.tracker import Estimate

_SIDE, _SMALL = 512, (256, 256)


class FixedWork:
    """Work of a frame in OpenCV, with a tracker's `init` and `update`; nothing here changes it.

    A JPEG is decoded, blurred and made smaller: arithmetic and memory, some 3 ms on one core.
    """

    def __init__(self) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), np.uint8)
        self._jpeg = cv2.imencode(".jpg", cv2.GaussianBlur(noise, (0, 0), 2.0))[1]

    def init(self, frame: Any, box: Any) -> None:
        """Keep nothing."""

    def update(self, frame: Any) -> Estimate:  # noqa: ARG002 - the same work whatever is shown
        """Do the work."""
        image = cv2.GaussianBlur(cv2.imdecode(self._jpeg, cv2.IMREAD_COLOR), (0, 0), 3.0)
        cv2.resize(image, _SMALL, interpolation=cv2.INTER_AREA)
        return Estimate((0.0, 0.0, 1.0, 1.0), 1.0)
