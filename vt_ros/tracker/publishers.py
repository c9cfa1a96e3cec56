# SPDX-License-Identifier: Apache-2.0
"""What the tracker publishes about each frame: detections, status, bearing, debug images."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from geometry_msgs.msg import Vector3, Vector3Stamped
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from vt_interfaces.msg import TrackStatus
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
from vt_ros.tracker.bearing import NAN, Bearing, BearingFinder
from vt_ros.video.drawing import STATE_COLOURS, draw_target, draw_text, scaled

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.lifecycle import LifecycleNode

    from vt_ros.tracker.diagnostics import Health
    from vt_ros.tracker.parameters import LiveSettings
    from vt_ros.tracker.tracking_thread import Report


class Outputs:
    """Publishes reports; `publish` is called in the pipeline's thread.

    Args:
        node: whose lifecycle the publishers follow.
        live: asked at every frame.
        health: knows the model, and is told what was published.

    Attributes:
        bearings: finds directions; to be given every camera_info.
    """

    def __init__(
        self, node: LifecycleNode, live: Callable[[], LiveSettings], health: Health
    ) -> None:
        self.bearings = BearingFinder()
        self._node, self._live, self._health = node, live, health
        self._last_debug_image = float("-inf")
        self._last_state = TrackStatus.STATE_IDLE
        create = node.create_lifecycle_publisher
        self._detections = create(Detection2DArray, "~/detections", 10)
        self._status = create(TrackStatus, "~/status", 10)
        self._bearing = create(Vector3Stamped, "~/bearing", 10)
        self._debug_image = create(Image, "~/debug_image", 1)
        self._debug_jpeg = create(CompressedImage, "~/debug_image/compressed", 1)

    def publish(self, report: Report) -> None:
        """Publish a report."""
        live = self._live()
        bearing = self._bearing_of(report, live)
        detections = Detection2DArray(header=report.header)
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
        self._detections.publish(detections)
        if bearing is not None:
            x, y, z = bearing.ray
            vector = Vector3(x=x, y=y, z=z)
            self._bearing.publish(Vector3Stamped(header=report.header, vector=vector))
        self._publish_debug_image(report, live)
        status = self._status_of(report, bearing)
        self._status.publish(status)
        self._health.take(report, status.image_age_ms)
        self._log(report)

    def _bearing_of(self, report: Report, live: LiveSettings) -> Bearing | None:
        """The direction of a measured box; a predicted one has none, lest it look measured."""
        measured = report.state in (TrackStatus.STATE_TRACKING, TrackStatus.STATE_UNCERTAIN)
        if report.box is None or report.frame is None or not measured:
            return None
        size = report.frame.shape[1], report.frame.shape[0]
        return self.bearings.find(report.box, report.covariance, size, live.rectified)

    def _status_of(self, report: Report, bearing: Bearing | None) -> TrackStatus:
        model = self._health.model
        return TrackStatus(
            header=report.header,
            state=report.state,
            score=report.score,
            target_id=report.target_id,
            model=model.name,
            model_reason=model.reason,
            frames_processed=report.counters.processed,
            frames_dropped=report.counters.dropped,
            frames_rejected=report.counters.rejected,
            inference_ms=report.inference_ms,
            image_age_ms=self._age_ms(report),
            message=report.message,
            azimuth=bearing.azimuth if bearing else NAN,
            elevation=bearing.elevation if bearing else NAN,
            bearing_sigma=bearing.sigma if bearing else NAN,
        )

    def _age_ms(self, report: Report) -> float:
        """Milliseconds since the image's stamp; NaN if it has none."""
        stamp = stamp_nanoseconds(report.header.stamp)
        if not stamp:
            return NAN
        return (self._node.get_clock().now().nanoseconds - stamp) * 1000.0 / NANOSECONDS

    def _publish_debug_image(self, report: Report, live: LiveSettings) -> None:
        """Draw the report, if anybody looks and the last one is long enough ago."""
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
        picture = scaled(report.frame, live.debug_scale)
        name = STATE_NAMES[report.state]
        if report.box is not None:
            draw_target(picture, report.box, name, live.debug_scale)
        text = f"{name}  {report.score:.2f}  {report.inference_ms:.1f} ms"
        draw_text(picture, text, STATE_COLOURS[name])
        if raw:
            self._debug_image.publish(array_to_image(picture, report.header))
        if jpeg:
            self._debug_jpeg.publish(array_to_jpeg(picture, report.header))

    def _log(self, report: Report) -> None:
        """Say what was refused, and when the state changes."""
        log = self._node.get_logger()
        if report.refused:
            log.warning(report.message, throttle_duration_sec=5.0)
        if report.state == self._last_state:
            return
        self._last_state = report.state
        reason = f": {report.message}" if report.message else ""
        log.info(f"target {report.target_id} {STATE_NAMES[report.state]}{reason}")
