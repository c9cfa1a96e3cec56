# SPDX-License-Identifier: Apache-2.0
"""What exists while the tracker is active: made by `activate`, closed by `deactivate`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo

from vt_models.geometry.bearing import BearingFinder
from vt_models.longterm import create_long_term_tracker
from vt_ros.common.errors import describe_error
from vt_ros.common.parameters import value_of
from vt_ros.tracker.current_target import FrameReport, RunningModel
from vt_ros.tracker.flight_recorder import FlightRecorder
from vt_ros.tracker.grounding_thread import GroundingThread
from vt_ros.tracker.image_buffer import ImageBuffer
from vt_ros.tracker.image_subscription import TOPIC, ImageSubscription
from vt_ros.tracker.model_loading import LoadedModel
from vt_ros.tracker.parameters import LiveSettings, RedetectionSettings
from vt_ros.tracker.publishers import Publishers
from vt_ros.tracker.stream_statistics import StreamStatistics
from vt_ros.tracker.text_redetection import TextRedetection
from vt_ros.tracker.tracking_thread import TrackingThread
from vt_ros.tracker.watchdog import Watchdog

_MEBIBYTE = 1024 * 1024
_WATCHDOG_PERIOD = 0.25


class Session:
    """Images in, reports out, until `close`.

    Args:
        node: subscribes.
        live: parameters that may change at any time.
        model: at work first.
        grounding: searches for descriptions.
        publishers: of the reports.
        last_target_id: numbers of targets go on from here.
        exit_process: called if the tracking thread is stuck and the parameters want that.

    Raises:
        Exception: whatever keeps it from starting; nothing is left open then.

    Attributes:
        subscription: to the images.
        tracking: the thread that works on them.
        grounding: as given.
        watchdog: of the threads.
        statistics: about the frames.
        recorder: of the last seconds.
        camera_info_topic: where a calibration is expected.
        camera_info: the newest one; None before the first.
        bearings: by that.
    """

    def __init__(
        self,
        node: LifecycleNode,
        live: Callable[[], LiveSettings],
        model: LoadedModel,
        grounding: GroundingThread,
        publishers: Publishers,
        last_target_id: int,
        exit_process: Callable[[], None],
    ) -> None:
        self._live, self._publishers, self.grounding = live, publishers, grounding
        self.statistics, self.bearings = StreamStatistics(), BearingFinder()
        self.camera_info: CameraInfo | None = None
        self._log = node.get_logger()
        self.recorder = FlightRecorder(live, node.get_fully_qualified_name(), self._log)
        self._redetection = TextRedetection(grounding.submit, self._redetection_settings)
        seconds = float(value_of(node, "frame_buffer.seconds"))
        max_bytes = int(value_of(node, "frame_buffer.megabytes")) * _MEBIBYTE
        self.tracking = TrackingThread(
            self._running(model),
            ImageBuffer(seconds, max_bytes),
            live,
            self._publish,
            node.get_logger(),
            self._redetection,
            last_target_id,
        )
        self.watchdog = Watchdog(
            self.tracking, grounding, live, self._publish, node.get_logger(), exit_process
        )
        with ExitStack() as opened:
            self.subscription = ImageSubscription(
                node, lambda name: value_of(node, name), self.tracking.offer
            )
            opened.callback(self.subscription.close)
            self.camera_info_topic = _camera_info_topic(node)
            camera_info = node.create_subscription(
                CameraInfo, self.camera_info_topic, self._on_camera_info, qos_profile_sensor_data
            )
            opened.callback(node.destroy_subscription, camera_info)
            timer = node.create_timer(
                _WATCHDOG_PERIOD, self.watchdog.check, clock=Clock(clock_type=ClockType.STEADY_TIME)
            )
            opened.callback(node.destroy_timer, timer)
            publishers.prediction.clear()
            prediction = node.create_timer(
                1.0 / float(value_of(node, "prediction.rate")), publishers.prediction.publish
            )
            opened.callback(node.destroy_timer, prediction)
            self.tracking.start()
            self._opened = opened.pop_all()

    def close(self, patience: float) -> bool:
        """Finish the present frame, and end the thread and the subscriptions.

        Returns:
            Whether the thread has ended within so many seconds; if not, it is left behind, with
            its model.
        """
        has_ended = self.tracking.stop(patience)
        self.recorder.close()
        self._opened.close()
        return has_ended

    def change_model(self, model: LoadedModel) -> Future[None]:
        """Go on with another model; see `TrackingThread.change_model`."""
        return self.tracking.change_model(self._running(model))

    def _running(self, model: LoadedModel) -> RunningModel:
        tracker = create_long_term_tracker(
            model.tracker, self._live().target, model.calibration, self._redetection.verify
        )
        return RunningModel(tracker, model.tracker.spec.language, model.name, model.reason)

    def _redetection_settings(self) -> RedetectionSettings:
        settings = self._live().redetection
        # A backend that knows names only cannot tell one of two cars from the other.
        return replace(settings, verify=False) if self.grounding.status.names_only else settings

    def _on_camera_info(self, info: CameraInfo) -> None:
        self.camera_info = info
        self.bearings.take(info)
        self._publishers.prediction.take_camera_info(info)

    def _publish(self, report: FrameReport) -> None:
        status = self._publishers.publish(report, self.bearings)
        self.statistics.add(report, status.image_age_ms)
        try:
            self.recorder.record(report, status, self.tracking.last_search)
        except Exception as error:  # what is for humans must not cost a frame
            self._log.error(
                f"the flight recorder failed: {describe_error(error)}", throttle_duration_sec=5.0
            )


def _camera_info_topic(node: LifecycleNode) -> str:
    """Return `camera_info` where it is remapped; otherwise beside the images, as drivers do it."""
    topic: str = node.resolve_topic_name("camera_info")
    if topic != node.resolve_topic_name("camera_info", only_expand=True):
        return topic
    return f"{node.resolve_topic_name(TOPIC).rpartition('/')[0]}/camera_info"
