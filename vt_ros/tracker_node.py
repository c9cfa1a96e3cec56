# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node `tracker`: images in, detections and status out, targets by service."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rclpy._rclpy_pybind11 import RCLError
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.task import Future
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2DArray

from vt_interfaces.msg import TrackStatus
from vt_interfaces.srv import SetTarget
from vt_models import VtModelsError, create_tracker, list_models
from vt_ros.convert import (
    array_to_image,
    bounding_box_from_xywh,
    detection_from_box,
    xywh_from_bounding_box,
)
from vt_ros.draw import GREEN, GREY, RED, draw_box, draw_text, scaled
from vt_ros.parameters import Setting, declare, freeze, value_of
from vt_ros.pipeline import (
    NANOSECONDS,
    LossRule,
    Pipeline,
    Report,
    Started,
    TargetRefusedError,
    stamp_nanoseconds,
)
from vt_ros.process import run

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Future as ThreadFuture

    from rclpy.parameter import Parameter
    from rclpy.subscription import Subscription
    from rclpy.timer import Timer

    from vt_models.tracker import Tracker

SETTINGS = (
    Setting("autostart", True, "Configure and activate by itself at start; else a manager does."),
    Setting("model", "asymtrack_lite0", f"Tracking model: one of {', '.join(list_models())}."),
    Setting("weights", "", "Export directory or .safetensors file; empty: what ships."),
    Setting("backend", "onnxruntime", "Runs the network.", choices=("onnxruntime", "torch")),
    Setting(
        "device",
        "auto",
        "Where the network runs; auto takes CUDA where it works, a named one must be there.",
        choices=("auto", "cpu", "cuda", "tensorrt"),
    ),
    Setting("threads", 0, "CPU threads of the network; 0: the backend's choice.", 0, 256),
    Setting(
        "image_qos.reliability",
        "best_effort",
        "QoS of image_raw. best_effort receives from every publisher.",
        choices=("best_effort", "reliable"),
    ),
    Setting("image_qos.depth", 1, "QoS of image_raw: images kept by the middleware.", 1, 100),
    Setting("lost_threshold", 0.2, "A score below this is low.", 0.0, 1.0, live=True),
    Setting("lost_frames", 5, "Lost after this many low scores in a row.", 1, 10000, live=True),
    Setting(
        "set_target_timeout",
        1.0,
        "Seconds that set_target waits for a frame; an older frame is not the newest any more.",
        0.01,
        60.0,
        live=True,
    ),
    Setting(
        "debug_image.scale", 1.0, "Size of the debug image over the source.", 0.05, 1.0, live=True
    ),
    Setting(
        "debug_image.rate", 10.0, "Debug images per second at most; 0: all.", 0.0, 1000.0, live=True
    ),
)

_FIXED = "deactivate and clean up the node first, they take effect when it is configured"

_STATE_NAMES = {
    TrackStatus.STATE_IDLE: "IDLE",
    TrackStatus.STATE_TRACKING: "TRACKING",
    TrackStatus.STATE_LOST: "LOST",
}
_STATE_COLOURS = {
    TrackStatus.STATE_IDLE: GREY,
    TrackStatus.STATE_TRACKING: GREEN,
    TrackStatus.STATE_LOST: RED,
}


@dataclass(frozen=True)
class _Live:
    """Parameters that are read at every frame; replaced as a whole when one changes."""

    loss_rule: LossRule
    set_target_timeout: float
    debug_scale: float
    debug_interval: float


class TrackerNode(LifecycleNode):
    """Tracks one object.

    unconfigured --configure--> inactive: loads the model. FAILURE (stays unconfigured, reason
    in the log) when that is not possible.
    inactive --activate--> active: subscribes to `image_raw`, starts the worker thread.
    active --deactivate--> inactive: ends both; the target is forgotten.
    inactive --cleanup--> unconfigured: releases the model.

    Args:
        finished: completed by the process around this node.
    """

    def __init__(self, finished: Future | None = None) -> None:
        super().__init__("tracker")
        self.finished = finished if finished is not None else Future()
        declare(self, SETTINGS)
        self._live = self._read_live()
        self.add_post_set_parameters_callback(self._take_live)
        self._tracker: Tracker | None = None
        freeze(self, SETTINGS, _FIXED, lambda: self._tracker is not None)
        self._pipeline: Pipeline | None = None
        self._subscription: Subscription | None = None
        self._last_target_id = 0
        self._last_debug_image = float("-inf")
        # A request waits for a frame, and one request at a time: were it in the default group,
        # nothing else in that group would run meanwhile.
        self._requests = MutuallyExclusiveCallbackGroup()
        self.create_service(
            SetTarget, "~/set_target", self._on_set_target, callback_group=self._requests
        )
        self.create_service(Trigger, "~/clear_target", self._on_clear_target)
        self._survive_wrong_transitions()
        self._autostart_timer: Timer | None = None
        if value_of(self, "autostart"):
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self._autostart_timer = self.create_timer(0.0, self._autostart, clock=steady)

    def close(self) -> None:
        """Go to `finalized` in order, if a manager has not done that already."""
        with suppress(RCLError):
            self.trigger_shutdown()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create the publishers. FAILURE leads back to unconfigured."""
        begin = time.monotonic()
        name = str(value_of(self, "model"))
        try:
            self._tracker = self._create_tracker(name)
        except VtModelsError as error:
            self.get_logger().error(f"cannot configure: {error}")
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # a broken installation; rclpy would hide the reason
            self.get_logger().error(f"cannot configure: {type(error).__name__}: {error}")
            return TransitionCallbackReturn.FAILURE
        self._detections = self.create_lifecycle_publisher(Detection2DArray, "~/detections", 10)
        self._status = self.create_lifecycle_publisher(TrackStatus, "~/status", 10)
        self._debug_image = self.create_lifecycle_publisher(Image, "~/debug_image", 1)
        elapsed = time.monotonic() - begin
        self.get_logger().info(f"configured: model {name} loaded in {elapsed:.2f} s")
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start working on images."""
        result = super().on_activate(state)
        if self._tracker is None or result != TransitionCallbackReturn.SUCCESS:
            return TransitionCallbackReturn.FAILURE
        self._pipeline = Pipeline(
            self._tracker,
            lambda: self._live.loss_rule,
            self._publish,
            self.get_logger(),
            self._last_target_id,
        )
        self._pipeline.start()
        # Bytes: deserialising is the worker's, and only for the frames it takes.
        self._subscription = self.create_subscription(
            Image,
            "image_raw",
            self._pipeline.offer,
            self._image_qos(),
            callback_group=MutuallyExclusiveCallbackGroup(),
            raw=True,
        )
        topic = self.resolve_topic_name("image_raw")
        self.get_logger().info(f"active: waiting for images on {topic}")
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop working on images; the target is forgotten."""
        self._stop()
        self.get_logger().info("inactive")
        return super().on_deactivate(state)

    def on_cleanup(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Release the model."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and release everything, from any state."""
        self._stop()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A transition raised: release everything; SUCCESS leads to unconfigured."""
        self.get_logger().error(f"a transition from {state.label} failed; cleaned up")
        self._stop()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def _create_tracker(self, name: str) -> Tracker:
        return create_tracker(
            name,
            weights=str(value_of(self, "weights")) or None,
            backend=str(value_of(self, "backend")),
            device=str(value_of(self, "device")),
            threads=int(value_of(self, "threads")) or None,
        )

    def _autostart(self) -> None:
        if self._autostart_timer is not None:
            self.destroy_timer(self._autostart_timer)
            self._autostart_timer = None
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()
        else:
            self.get_logger().error("autostart ended; set the parameters and configure the node")

    def _stop(self) -> None:
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
            self._subscription = None
        if self._pipeline is not None:
            self._pipeline.stop()
            self._last_target_id = self._pipeline.last_target_id
            self._pipeline = None

    def _release(self) -> None:
        for publisher in list(self._managed_entities):
            self._managed_entities.discard(publisher)
            self.destroy_publisher(publisher)
        self._tracker = None

    def _image_qos(self) -> QoSProfile:
        reliable = value_of(self, "image_qos.reliability") == "reliable"
        return QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=int(value_of(self, "image_qos.depth")),
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        )

    def _read_live(self) -> _Live:
        rate = float(value_of(self, "debug_image.rate"))
        return _Live(
            LossRule(float(value_of(self, "lost_threshold")), int(value_of(self, "lost_frames"))),
            float(value_of(self, "set_target_timeout")),
            float(value_of(self, "debug_image.scale")),
            1.0 / rate if rate else 0.0,
        )

    def _take_live(self, _parameters: Iterable[Parameter]) -> None:
        self._live = self._read_live()

    async def _on_set_target(
        self, request: SetTarget.Request, response: SetTarget.Response
    ) -> SetTarget.Response:
        try:
            started = await self._start_target(request)
        except TargetRefusedError as refusal:
            response.error_code = refusal.code
            response.message = str(refusal)
            self.get_logger().warning(f"set_target refused: {refusal}")
            return response
        response.success = True
        response.target_id = started.target_id
        response.box = bounding_box_from_xywh(started.box)
        response.header = started.header
        x, y, w, h = started.box
        self.get_logger().info(f"target {started.target_id} set: x={x:g} y={y:g} w={w:g} h={h:g}")
        return response

    async def _start_target(self, request: SetTarget.Request) -> Started:
        if self._pipeline is None or self._tracker is None:
            raise TargetRefusedError(
                SetTarget.Response.ERROR_NOT_ACTIVE, "the tracker is not active; activate it first"
            )
        _check_mode(request.mode, self._tracker.spec.name)
        answer = self._pipeline.set_target(
            xywh_from_bounding_box(request.box),
            stamp_nanoseconds(request.stamp),
            self._live.set_target_timeout,
        )
        await self._until_done(answer)
        return answer.result()

    async def _until_done(self, answer: ThreadFuture[Started]) -> None:
        """Wait for another thread's future without blocking the executor."""
        arrived = Future(executor=self.executor)

        def wake(_: object) -> None:
            arrived.set_result(None)
            self.executor.wake()

        answer.add_done_callback(wake)
        await arrived

    def _on_clear_target(
        self, _request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        if self._pipeline is None:
            response.message = "the tracker is not active; there is no target"
            return response
        number = self._pipeline.clear_target()
        response.success = True
        response.message = f"target {number} cleared" if number else "there was no target"
        self.get_logger().info(response.message)
        return response

    def _publish(self, report: Report) -> None:
        """Publish a report; called in the pipeline's thread."""
        detections = Detection2DArray(header=report.header)
        if report.box is not None:
            detections.detections.append(
                detection_from_box(report.box, report.score, report.header, report.target_id)
            )
        self._detections.publish(detections)
        self._publish_debug_image(report)
        self._status.publish(self._status_of(report))
        if report.message and report.frame is None:
            self.get_logger().warning(report.message, throttle_duration_sec=5.0)

    def _status_of(self, report: Report) -> TrackStatus:
        return TrackStatus(
            header=report.header,
            state=report.state,
            score=report.score,
            target_id=report.target_id,
            model=str(value_of(self, "model")),
            frames_processed=report.counters.processed,
            frames_dropped=report.counters.dropped,
            frames_rejected=report.counters.rejected,
            inference_ms=report.inference_ms,
            image_age_ms=self._age_ms(report),
            message=report.message,
        )

    def _age_ms(self, report: Report) -> float:
        """Milliseconds since the image's stamp; NaN if it has none."""
        stamp = stamp_nanoseconds(report.header.stamp)
        if not stamp:
            return float("nan")
        return (self.get_clock().now().nanoseconds - stamp) * 1000.0 / NANOSECONDS

    def _publish_debug_image(self, report: Report) -> None:
        """Draw the report, if anybody looks and the last one is long enough ago."""
        live, now = self._live, time.monotonic()
        if report.frame is None or not self._debug_image.get_subscription_count():
            return
        if now - self._last_debug_image < live.debug_interval:
            return
        self._last_debug_image = now
        picture = scaled(report.frame, live.debug_scale)
        colour = _STATE_COLOURS[report.state]
        if report.box is not None:
            draw_box(picture, report.box, colour, live.debug_scale)
        draw_text(
            picture,
            f"{_STATE_NAMES[report.state]}  {report.score:.2f}  {report.inference_ms:.1f} ms",
            colour,
        )
        self._debug_image.publish(array_to_image(picture, report.header))

    def _survive_wrong_transitions(self) -> None:
        """Answer a transition that the present state does not have with `success: false`.

        rclpy raises RCLError from the service's callback there, which ends the process.
        """
        change_state = self._service_change_state.callback

        def guarded(request: object, response: object) -> object:
            try:
                return change_state(request, response)
            except RCLError as error:
                self.get_logger().error(f"transition refused: {error}")
                return response

        self._service_change_state.callback = guarded


def _check_mode(mode: int, model: str) -> None:
    """Refuse what cannot be tracked with this model."""
    if mode == SetTarget.Request.MODE_BOX:
        return
    if mode in (SetTarget.Request.MODE_TEXT, SetTarget.Request.MODE_BOX_AND_TEXT):
        raise TargetRefusedError(
            SetTarget.Response.ERROR_TEXT_UNSUPPORTED,
            f"text is not available with model {model}; give a box (mode 0)",
        )
    if mode == SetTarget.Request.MODE_POINT:
        raise TargetRefusedError(
            SetTarget.Response.ERROR_POINT_UNSUPPORTED,
            f"a point is not available with model {model}; give a box (mode 0)",
        )
    raise TargetRefusedError(
        SetTarget.Response.ERROR_INVALID_MODE, f"mode is {mode}, expected 0 (box)"
    )


def main() -> int:
    """Run the node `tracker` in this process."""
    return run(TrackerNode)


if __name__ == "__main__":
    sys.exit(main())
