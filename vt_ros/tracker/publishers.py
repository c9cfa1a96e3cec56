# SPDX-License-Identifier: Apache-2.0
"""What the tracker publishes about each frame: detections, status, bearing, debug images."""

from __future__ import annotations

import time
from collections.abc import Callable

from geometry_msgs.msg import Vector3, Vector3Stamped
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from vt_interfaces.msg import TrackStatus
from vt_models.video.drawing import STATE_COLOURS, draw_target, draw_text, scaled
from vt_ros.common.convert import (
    MEASURED,
    NANOSECONDS,
    PREDICTED,
    STATE_NAMES,
    array_to_image,
    array_to_jpeg,
    detection_from_box,
    stamp_nanoseconds,
)
from vt_ros.tracker.bearing import NAN, BearingFinder
from vt_ros.tracker.current_target import FrameReport
from vt_ros.tracker.parameters import LiveSettings

_MEASURED_STATES = (TrackStatus.STATE_TRACKING, TrackStatus.STATE_UNCERTAIN)


class Publishers:
    """Publishes reports; `publish` is called in the tracking thread.

    Args:
        node: whose lifecycle the publishers follow.
        live: asked at every frame.
    """

    def __init__(self, node: LifecycleNode, live: Callable[[], LiveSettings]) -> None:
        self._node, self._live = node, live
        self._last_debug_image = float("-inf")
        self._last_state = TrackStatus.STATE_IDLE
        create = node.create_lifecycle_publisher
        self._detections = create(Detection2DArray, "~/detections", 10)
        self._status = create(TrackStatus, "~/status", 10)
        self._bearing = create(Vector3Stamped, "~/bearing", 10)
        self._debug_image = create(Image, "~/debug_image", 1)
        self._debug_jpeg = create(CompressedImage, "~/debug_image/compressed", 1)

    def publish(self, report: FrameReport, bearings: BearingFinder) -> TrackStatus:
        """Publish a report, and log what is new in it.

        Args:
            report: of a frame.
            bearings: finds the direction of a measured box.

        Returns:
            The status that was published.
        """
        live = self._live()
        detections = Detection2DArray(header=report.header)
        bearing = None
        if report.box is not None:
            predicted = report.state == TrackStatus.STATE_COASTING
            detections.detections.append(
                detection_from_box(
                    report.box,
                    report.score,
                    report.header,
                    report.target_id,
                    PREDICTED if predicted else MEASURED,
                    report.covariance,
                )
            )
            # A predicted box has no direction, lest it look measured.
            if report.frame is not None and report.state in _MEASURED_STATES:
                size = report.frame.shape[1], report.frame.shape[0]
                bearing = bearings.find(report.box, report.covariance, size, live.rectified)
        self._detections.publish(detections)
        if bearing is not None:
            x, y, z = bearing.ray
            vector = Vector3(x=x, y=y, z=z)
            self._bearing.publish(Vector3Stamped(header=report.header, vector=vector))
        self._publish_debug_image(report, live)
        age_ms, stamp = NAN, stamp_nanoseconds(report.header.stamp)
        if stamp:
            age_ms = (self._node.get_clock().now().nanoseconds - stamp) * 1000.0 / NANOSECONDS
        status = TrackStatus(
            header=report.header,
            state=report.state,
            score=report.score,
            target_id=report.target_id,
            model=report.model,
            model_reason=report.model_reason,
            frames_processed=report.counters.processed,
            frames_dropped=report.counters.dropped,
            frames_rejected=report.counters.rejected,
            inference_ms=report.inference_ms,
            image_age_ms=age_ms,
            message=report.message,
            azimuth=bearing.azimuth if bearing else NAN,
            elevation=bearing.elevation if bearing else NAN,
            bearing_sigma=bearing.sigma if bearing else NAN,
        )
        self._status.publish(status)
        self._log(report)
        return status

    def _publish_debug_image(self, report: FrameReport, live: LiveSettings) -> None:
        """Draw the report, if somebody subscribes and the last one is long enough ago."""
        raw, jpeg = (
            publisher.get_subscription_count() > 0
            for publisher in (self._debug_image, self._debug_jpeg)
        )
        now = time.monotonic()
        if report.frame is None or not (raw or jpeg):
            return
        if now - self._last_debug_image < live.debug_interval:
            return
        self._last_debug_image = now
        image = scaled(report.frame, live.debug_scale)
        name = STATE_NAMES[report.state]
        if report.box is not None:
            draw_target(image, report.box, name, live.debug_scale)
        text = f"{name}  {report.score:.2f}  {report.inference_ms:.1f} ms"
        draw_text(image, text, STATE_COLOURS[name])
        if raw:
            self._debug_image.publish(array_to_image(image, report.header))
        if jpeg:
            self._debug_jpeg.publish(array_to_jpeg(image, report.header))

    def _log(self, report: FrameReport) -> None:
        """Log what was refused, and when the state changes."""
        log = self._node.get_logger()
        if report.refused:
            log.warning(report.message, throttle_duration_sec=5.0)
        if report.state == self._last_state:
            return
        self._last_state = report.state
        reason = f": {report.message}" if report.message else ""
        log.info(f"target {report.target_id} {STATE_NAMES[report.state]}{reason}")
