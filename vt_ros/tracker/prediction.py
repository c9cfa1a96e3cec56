# SPDX-License-Identifier: Apache-2.0
"""The topic `~/prediction`: where the target is by now, or a little later, at a fixed rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Vector3, Vector3Stamped
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from vt_models.geometry.bearing import BearingFinder
from vt_models.longterm.prediction import BoxMotion, follow
from vt_models.longterm.state_machine import State
from vt_ros.common.convert import (
    MEASURED,
    NANOSECONDS,
    PREDICTED,
    detection_from_box,
    stamp_nanoseconds,
)
from vt_ros.tracker.current_target import FrameReport
from vt_ros.tracker.parameters import LiveSettings

# Clocks of camera and tracker that agree may still differ by this, seconds.
_CLOCK_TOLERANCE = 0.1


@dataclass(frozen=True)
class _Known:
    """What the newest frame says; exchanged as a whole, by the tracking thread."""

    motion: BoxMotion
    target_id: int
    score: float
    frame_id: str
    size: tuple[int, int]


class PredictionPublisher:
    """Carries the newest estimate forward: `take` in the tracking thread, `publish` by a timer.

    Args:
        node: whose lifecycle the publishers follow, and whose clock says what "now" is.
        live: asked at every prediction.

    Attributes:
        problem: why nothing is predicted although there is a target; empty: nothing is wrong.
    """

    def __init__(self, node: LifecycleNode, live: Callable[[], LiveSettings]) -> None:
        self._node, self._live = node, live
        self._known: _Known | None = None
        self._bearings = BearingFinder()  # of its own: it serves one thread
        self._is_silent = True
        self.problem = ""
        self._boxes = node.create_lifecycle_publisher(Detection2DArray, "~/prediction", 10)
        self._bearing = node.create_lifecycle_publisher(Vector3Stamped, "~/prediction/bearing", 10)

    def take_camera_info(self, info: CameraInfo) -> None:
        """Use another calibration from now on."""
        self._bearings.take(info)

    def clear(self) -> None:
        """Forget the target; the next tick says that there is nothing to predict any more."""
        self._known = None

    def take(self, report: FrameReport) -> None:
        """Take the newest report; costs nothing while nobody subscribes."""
        box, covariance = report.box, report.covariance
        if box is None or covariance is None or not self._has_subscribers():
            self._known = None
            return
        # What was processed without a stamp is as old as the processing is.
        stamp = stamp_nanoseconds(report.header.stamp) or self._now() - round(
            report.inference_ms * 1e6
        )
        known, previous = self._known, None
        if known is not None and known.target_id == report.target_id:
            previous = known.motion
        size = (0, 0) if known is None else known.size
        if report.frame is not None:
            size = report.frame.shape[1], report.frame.shape[0]
        motion = follow(previous, stamp / NANOSECONDS, box, covariance, State(report.state))
        self._known = _Known(motion, report.target_id, report.score, report.header.frame_id, size)

    def publish(self) -> None:
        """Publish where the target will be `prediction.lead` seconds from now.

        One empty message says that there is nothing to predict any more; then there is silence.
        """
        if not self._has_subscribers():
            self._is_silent, self.problem = True, ""
            return
        live, known, now = self._live(), self._known, self._now()
        at = now + round(live.prediction_lead * NANOSECONDS)
        self.problem = "" if known is None else self._objection(known, now, live)
        if known is None or self.problem:
            if not self._is_silent:
                self._boxes.publish(Detection2DArray(header=_header(at, "")))
                self._is_silent = True
            return
        self._is_silent = False
        header = _header(at, known.frame_id)
        box, covariance = known.motion.at(at / NANOSECONDS)
        coasts = known.motion.state is State.COASTING
        detection = detection_from_box(
            box,
            known.score,
            header,
            known.target_id,
            PREDICTED if coasts else MEASURED,
            covariance,
        )
        self._boxes.publish(Detection2DArray(header=header, detections=[detection]))
        if coasts or not self._bearing.get_subscription_count():
            return
        bearing = self._bearings.find(box, covariance, known.size, live.rectified)
        if bearing is not None:
            x, y, z = bearing.ray
            self._bearing.publish(Vector3Stamped(header=header, vector=Vector3(x=x, y=y, z=z)))

    def _has_subscribers(self) -> bool:
        return bool(self._boxes.get_subscription_count() or self._bearing.get_subscription_count())

    def _now(self) -> int:
        nanoseconds: int = self._node.get_clock().now().nanoseconds
        return nanoseconds

    def _objection(self, known: _Known, now: int, live: LiveSettings) -> str:
        """Return why the newest frame is no ground for a prediction; empty if it is one."""
        age = now / NANOSECONDS - known.motion.time
        if age < -_CLOCK_TOLERANCE:
            return (
                f"the newest frame is of {-age:.2f} s in the future by its stamp: the clocks of "
                "camera and tracker disagree (use_sim_time?)"
            )
        if age > live.target.coast_seconds:
            return (
                f"the newest frame is {age:.2f} s old, more than target.coast_seconds "
                f"{live.target.coast_seconds:g}"
            )
        return ""


def _header(nanoseconds: int, frame_id: str) -> Header:
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    return Header(stamp=Time(sec=seconds, nanosec=rest), frame_id=frame_id)
