# SPDX-License-Identifier: Apache-2.0
"""What the tracker publishes about each frame."""

from __future__ import annotations

import time
from collections.abc import Callable

from geometry_msgs.msg import Vector3, Vector3Stamped
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from vt_interfaces.msg import TrackStatus
from vt_models.geometry.bearing import NAN, Bearing, BearingFinder
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
from vt_ros.common.errors import describe_error
from vt_ros.tracker.annotations import AnnotationPublisher
from vt_ros.tracker.current_target import FrameReport
from vt_ros.tracker.parameters import LiveSettings
from vt_ros.tracker.prediction import PredictionPublisher

_MEASURED_STATES = (TrackStatus.STATE_TRACKING, TrackStatus.STATE_UNCERTAIN)


class Publishers:
    """Publishes reports; `publish` is called in the tracking thread.

    Args:
        node: whose lifecycle the publishers follow.
        live: asked at every frame.

    Attributes:
        prediction: publishes by itself between the frames.
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
        self._annotations = AnnotationPublisher(node)
        self.prediction = PredictionPublisher(node, live)

    def publish(self, report: FrameReport, bearings: BearingFinder) -> TrackStatus:
        """Publish a report, and log what is new in it.

        Args:
            report: of a frame.
            bearings: finds the direction of a measured box.

        Returns:
            The status that was published.
        """
        live, predicted = self._live(), report.state == TrackStatus.STATE_COASTING
        detections = Detection2DArray(header=report.header)
        if report.box is not None:
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
        bearing = self._find_bearing(report, bearings, live)
        age_ms, stamp = NAN, stamp_nanoseconds(report.header.stamp)
        if stamp:
            age_ms = (self._node.get_clock().now().nanoseconds - stamp) * 1000.0 / NANOSECONDS
        height, width = report.frame.shape[:2] if report.frame is not None else (0, 0)
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
            image_width=width,
            image_height=height,
            unconfirmed=report.unconfirmed,
        )
        self.prediction.take(report)
        self._detections.publish(detections)
        self._status.publish(status)
        if bearing is not None:
            x, y, z = bearing.ray
            vector = Vector3(x=x, y=y, z=z)
            self._bearing.publish(Vector3Stamped(header=report.header, vector=vector))
        self._log(report)
        try:
            self._annotations.publish(report)
            self._publish_debug_image(report, live)
        except Exception as error:  # what is for humans must not cost a status
            self._node.get_logger().error(
                f"~/annotations or ~/debug_image failed: {describe_error(error)}",
                throttle_duration_sec=5.0,
            )
        return status

    def _find_bearing(
        self, report: FrameReport, bearings: BearingFinder, live: LiveSettings
    ) -> Bearing | None:
        """Return the direction of a measured box; a predicted one has none, lest it look so."""
        if report.box is None or report.frame is None or report.state not in _MEASURED_STATES:
            return None
        size = report.frame.shape[1], report.frame.shape[0]
        return bearings.find(report.box, report.covariance, size, live.rectified)

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
