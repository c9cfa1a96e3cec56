# SPDX-License-Identifier: Apache-2.0
"""From what the tracker says about a frame to CAMERA_TRACKING_IMAGE_STATUS."""

from __future__ import annotations

import math
from collections import deque

from vt_ros.client import Estimate, State
from vt_ros.mavlink.messages import (
    CameraTrackingImageStatus,
    TrackingMode,
    TrackingStatus,
)

_LARGEST_SIDE = 65_535  # pixels; MAVLink has 16 bits for it
_MOST_ESTIMATES = 1024  # 10 s, the longest delay, at 100 images a second

_ERROR = CameraTrackingImageStatus(tracking_status=TrackingStatus.ERROR)


class TrackingReport:
    """What there is to report about the target, now or with a delay.

    Attributes:
        size: width and height of the images, pixels; zeros before the first one.
        state, target_id: the newest ones, without delay.
    """

    def __init__(self) -> None:
        self.size = (0, 0)
        self.state, self.target_id = State.IDLE, 0
        self._heard = -math.inf
        # Oldest first: from when it is reported, the estimate, and the size of its image.
        self._estimates: deque[tuple[float, Estimate, tuple[int, int]]] = deque(
            maxlen=_MOST_ESTIMATES
        )

    def take(self, estimate: Estimate, now: float, image_age: float, delay: float) -> None:
        """Take an estimate.

        Args:
            estimate: of the newest frame.
            now: the time, seconds.
            image_age: seconds since the frame's exposure; one that makes no sense, as of clocks
                that disagree, counts as none or as the whole delay.
            delay: seconds after exposure at which it is to be reported.
        """
        size = estimate.status.image_width, estimate.status.image_height
        if not all(size):  # the frame could not be read: a predicted box is of the one before
            size = self.size
        elif max(size) > _LARGEST_SIDE:  # of no image, so the box is of none
            size = 0, 0
        else:
            self.size = size
        self.state, self._heard = estimate.state, now
        self.target_id = estimate.target_id
        report_at = now + min(max(delay - image_age, 0.0), delay)
        self._estimates.append((report_at, estimate, size))

    def silence(self, now: float) -> float:
        """Return for how many seconds no estimate has come; infinity before the first one."""
        return now - self._heard

    def image_status(self, now: float, timeout: float) -> CameraTrackingImageStatus:
        """Return the newest report that is due.

        TRACKING and UNCERTAIN are ACTIVE, COASTING is ACTIVE and COASTING; LOST is an ERROR, and so
        is a tracker that has been silent for longer than `timeout` seconds.
        """
        estimates = self._estimates
        while len(estimates) > 1 and estimates[1][0] <= now:
            estimates.popleft()
        if self.silence(now) > timeout or not estimates or estimates[0][0] > now:
            return _ERROR
        _, estimate, (width, height) = estimates[0]
        if estimate.state is State.IDLE:
            return CameraTrackingImageStatus()
        box = estimate.box
        if (
            estimate.state is State.LOST
            or box is None
            or not width
            or not all(map(math.isfinite, box))
        ):
            return CameraTrackingImageStatus(
                tracking_status=TrackingStatus.ERROR, tracking_mode=TrackingMode.RECTANGLE
            )
        status = TrackingStatus.ACTIVE
        if estimate.state is State.COASTING:
            status |= TrackingStatus.COASTING
        x, y, w, h = box
        left, top, right, bottom = (
            min(max(value, 0.0), 1.0)
            for value in (x / width, y / height, (x + w) / width, (y + h) / height)
        )
        return CameraTrackingImageStatus(
            rec_top_x=left,
            rec_top_y=top,
            rec_bottom_x=right,
            rec_bottom_y=bottom,
            tracking_status=status,
            tracking_mode=TrackingMode.RECTANGLE,
        )
