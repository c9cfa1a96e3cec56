# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node `tracker`: images in, detections and status out, targets by service."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from geometry_msgs.msg import Vector3, Vector3Stamped
from lifecycle_msgs.msg import Transition
from rclpy._rclpy_pybind11 import RCLError
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2DArray

from vt_interfaces.msg import TrackStatus
from vt_interfaces.srv import SetTarget
from vt_models.errors import InputError, VtModelsError
from vt_models.target import create_target
from vt_models.target.ring import FrameRing
from vt_ros import diagnostics
from vt_ros.bearing import NAN, Bearing, BearingFinder
from vt_ros.convert import (
    MEASURED,
    NANOSECONDS,
    PREDICTED,
    array_to_image,
    array_to_jpeg,
    bounding_box_from_xywh,
    detection_from_box,
    stamp_nanoseconds,
    xywh_from_bounding_box,
)
from vt_ros.draw import STATE_COLOURS, draw_target, draw_text, scaled
from vt_ros.health import Health
from vt_ros.image_input import TOPIC, ImageInput
from vt_ros.loading import LoadError, load_in_background, load_model, objection_to
from vt_ros.parameters import declare, freeze, refuse_if, value_of
from vt_ros.pipeline import Pipeline, Report, Started, TargetRefusedError, Wish
from vt_ros.process import StartError
from vt_ros.settings import (
    FIXED_REMEDY,
    MODEL_PARAMETERS,
    SETTINGS,
    ModelRequest,
    live_settings,
    model_request,
)
from vt_ros.states import STATE_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future as ThreadFuture

    from rclpy.subscription import Subscription
    from rclpy.timer import Timer

    from vt_ros.loading import LoadedModel
    from vt_ros.parameters import Value

_MEBIBYTE = 1024 * 1024


class TrackerNode(LifecycleNode):
    """Tracks one object.

    unconfigured --configure--> inactive: loads the model.
    inactive --activate--> active: subscribes to the images, starts the worker thread.
    active --deactivate--> inactive: ends both; the target is forgotten.
    inactive --cleanup--> unconfigured: releases the model.

    A transition that fails returns FAILURE, which leads back to where it began, with the reason
    in the log and in `/diagnostics`. A model is loaded in a thread: services are answered
    meanwhile.

    Args:
        finished: completed by the process around this node.

    Raises:
        StartError: parameters that contradict each other.
    """

    def __init__(self, finished: Future | None = None) -> None:
        super().__init__("tracker")
        self.finished = finished if finished is not None else Future()
        declare(self, SETTINGS)
        try:
            self._live = live_settings(self._value)
        except InputError as error:
            raise StartError(str(error)) from error
        refuse_if(self, _objection)
        freeze(self, SETTINGS, FIXED_REMEDY, lambda: self._pipeline is not None)
        self.add_post_set_parameters_callback(self._on_parameters)
        self._model: LoadedModel | None = None
        self._prepared: tuple[ModelRequest, ThreadFuture[LoadedModel]] | None = None
        self._switching = False
        self._pipeline: Pipeline | None = None
        self._input: ImageInput | None = None
        self._camera_info: Subscription | None = None
        self._bearings = BearingFinder()
        self._last_target_id = 0
        self._last_debug_image = float("-inf")
        self._last_state = TrackStatus.STATE_IDLE
        # A request waits for a frame, and one request at a time: were it in the default group,
        # nothing else in that group would run meanwhile.
        self._requests = MutuallyExclusiveCallbackGroup()
        self.create_service(
            SetTarget, "~/set_target", self._on_set_target, callback_group=self._requests
        )
        self.create_service(Trigger, "~/clear_target", self._on_clear_target)
        self._health = Health(lambda: self._live.image_timeout)
        self._updater = diagnostics.Updater(self, lambda: self._live.hardware_id)
        self._updater.add("lifecycle", self._health.report_lifecycle)
        self._updater.add("images", self._health.report_images)
        self._updater.add("model", self._health.report_model)
        self._updater.add("target", self._health.report_target)
        self._updater.add("bearing", self._report_bearing)
        self._guard_transitions()
        self._autostart_timer: Timer | None = None
        if value_of(self, "autostart"):
            self._autostart_timer = self.create_timer(
                0.0,
                self._autostart,
                callback_group=MutuallyExclusiveCallbackGroup(),
                clock=Clock(clock_type=ClockType.STEADY_TIME),
            )

    def close(self) -> None:
        """Go to `finalized` in order, if a manager has not done that already."""
        with suppress(RCLError):
            self.trigger_shutdown()

    # Transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take the model, loading it if that has not happened yet, and create the publishers."""
        return self._transit("configure", "inactive", lambda: self._configure(state))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start working on images."""
        result = self._transit("activate", "active", lambda: self._activate(state))
        if result != TransitionCallbackReturn.SUCCESS:
            self._stop()
            super().on_deactivate(state)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop working on images; the target is forgotten."""
        return self._transit("deactivate", "inactive", lambda: self._deactivate(state))

    def on_cleanup(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Release the model."""
        return self._transit("clean up", "unconfigured", self._release)

    def on_shutdown(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and release everything, from any state."""
        return self._transit("shut down", "finalized", self._release)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A transition raised all the same: release everything; SUCCESS leads to unconfigured."""
        self.get_logger().error(f"a transition from {state.label} failed; cleaned up")
        self._release()
        self._health.lifecycle = "unconfigured"
        return TransitionCallbackReturn.SUCCESS

    def _transit(self, name: str, after: str, work: Callable[[], None]) -> TransitionCallbackReturn:
        """Do the work of a transition; whatever it raises becomes FAILURE and a reason."""
        try:
            work()
        except Exception as error:  # rclpy would hide the reason
            known = isinstance(error, LoadError | VtModelsError)
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            self._health.failure = f"cannot {name}: {reason}"
            self.get_logger().error(self._health.failure)
            self._updater.publish()
            return TransitionCallbackReturn.FAILURE
        self._health.failure = ""
        self._health.lifecycle = after
        return TransitionCallbackReturn.SUCCESS

    def _configure(self, state: LifecycleState) -> None:
        model = self._take_prepared() or load_model(model_request(self._value))
        self._detections = self.create_lifecycle_publisher(Detection2DArray, "~/detections", 10)
        self._status = self.create_lifecycle_publisher(TrackStatus, "~/status", 10)
        self._bearing = self.create_lifecycle_publisher(Vector3Stamped, "~/bearing", 10)
        self._debug_image = self.create_lifecycle_publisher(Image, "~/debug_image", 1)
        self._debug_jpeg = self.create_lifecycle_publisher(
            CompressedImage, "~/debug_image/compressed", 1
        )
        super().on_configure(state)
        self._use(model)
        chosen = f" (auto: {model.reason})" if model.reason else ""
        self.get_logger().info(
            f"configured: model {model.name}{chosen} loaded in {model.seconds:.2f} s"
        )

    def _activate(self, state: LifecycleState) -> None:
        super().on_activate(state)
        self._health.restart()
        self._input = ImageInput(self, self._value, self._offer)
        self._pipeline = Pipeline(
            create_target(self._model.tracker, self._live.target),
            self._input.message_type,
            FrameRing(
                float(self._value("ring.seconds")), int(self._value("ring.megabytes")) * _MEBIBYTE
            ),
            lambda: self._live,
            self._publish,
            self.get_logger(),
            self._last_target_id,
        )
        self._pipeline.start()
        self._camera_info = self.create_subscription(
            CameraInfo, self._camera_info_topic(), self._bearings.take, qos_profile_sensor_data
        )
        self._health.input = self._input
        self.get_logger().info(f"active: waiting for images on {self._input.topic}")

    def _deactivate(self, state: LifecycleState) -> None:
        self._stop()
        super().on_deactivate(state)
        self.get_logger().info("inactive")

    def _offer(self, message: bytes) -> None:
        """Hand an image to the worker, which is there a moment after the subscription."""
        if self._pipeline is not None:
            self._pipeline.offer(message)

    def _stop(self) -> None:
        """End the subscriptions and the worker."""
        self._health.input = None
        if self._input is not None:
            self._input.close()
            self._input = None
        if self._camera_info is not None:
            self.destroy_subscription(self._camera_info)
            self._camera_info = None
            self._bearings = BearingFinder()
        if self._pipeline is not None:
            self._pipeline.stop()
            self._last_target_id = self._pipeline.last_target_id
            self._pipeline = None

    def _release(self) -> None:
        """Stop, and let go of the publishers and the model."""
        self._stop()
        for publisher in list(self._managed_entities):
            self.destroy_lifecycle_publisher(publisher)
        self._model = self._health.model = self._prepared = None

    def _camera_info_topic(self) -> str:
        """`camera_info` where it is remapped; otherwise beside the images, as drivers do it."""
        topic = self.resolve_topic_name("camera_info")
        if topic != self.resolve_topic_name("camera_info", only_expand=True):
            return topic
        return f"{self.resolve_topic_name(TOPIC).rpartition('/')[0]}/camera_info"

    # Models

    def _use(self, model: LoadedModel) -> None:
        self._model = self._health.model = model
        self._health.switch_failure = ""

    def _take_prepared(self) -> LoadedModel | None:
        """The model that was loaded for what the parameters ask for now; raises its LoadError."""
        prepared, self._prepared = self._prepared, None
        if prepared is None or prepared[0] != model_request(self._value):
            return None
        return prepared[1].result()

    async def _prepare(self) -> None:
        """Load what the parameters ask for, in a thread, for the transition that follows."""
        while True:
            request = model_request(self._value)
            future = await self._load(request)
            if request == model_request(self._value):
                self._prepared = request, future
                return

    async def _load(self, request: ModelRequest) -> ThreadFuture[LoadedModel]:
        self._health.loading = request.model
        self.get_logger().info(f"loading model {request.model}")
        future = load_in_background(request)
        await self._until_done(future)
        self._health.loading = ""
        return future

    async def _switch(self) -> None:
        """Bring the running model in line with the parameters, or those with the model."""
        if self._switching:
            return
        self._switching = True
        try:
            while self._model is not None:
                request = model_request(self._value)
                if request == self._model.request:
                    return
                future = await self._load(request)
                if self._model is not None and request == model_request(self._value):
                    await self._exchange(future)
        finally:
            self._switching = False

    async def _exchange(self, future: ThreadFuture[LoadedModel]) -> None:
        """Put a loaded model to work between two frames; undo the parameters if that fails."""
        error = future.exception()
        served = None
        while error is None and self._pipeline is not served:
            served = self._pipeline  # another one, if the node went down and up meanwhile
            if served is not None:
                tracker = future.result().tracker
                target = create_target(tracker, self._live.target)
                done = served.swap(target, tracker.spec.language)
                await self._until_done(done)
                error = done.exception()
        if self._model is None:
            return
        former = self._model
        if error is not None:
            wanted = model_request(self._value)
            self._undo(former.request)
            self._health.switch_failure = f"cannot change to {wanted.model}: {error}"
            self.get_logger().error(f"{self._health.switch_failure}; {former.name} goes on")
            return
        self._use(future.result())
        self.get_logger().info(f"model {self._model.name} has taken over from {former.name}")

    def _undo(self, request: ModelRequest) -> None:
        """Let the parameters say again what runs."""
        self.set_parameters(
            [Parameter(name, value=getattr(request, name)) for name in MODEL_PARAMETERS]
        )

    async def _autostart(self) -> None:
        if self._autostart_timer is not None:
            self.destroy_timer(self._autostart_timer)
            self._autostart_timer = None
        await self._prepare()
        with suppress(RCLError):  # a manager was quicker
            if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
                self.trigger_activate()
            else:
                self.get_logger().error(
                    "autostart ended; set the parameters and configure the node"
                )

    def _guard_transitions(self) -> None:
        """Load the model before `configure`, and survive a transition that the state lacks.

        rclpy's service callback cannot wait for a thread, and raises RCLError for a transition
        that the present state does not have, which ends the process. This one answers
        `success: false`. It has a callback group of its own: while it waits, all others run.
        """
        service = self._service_change_state
        change_state = service.callback
        group = MutuallyExclusiveCallbackGroup()
        group.add_entity(service)
        service.callback_group = group

        async def guarded(request: object, response: object) -> object:
            asked = request.transition
            configure = asked.label == "configure" or (
                not asked.label and asked.id == Transition.TRANSITION_CONFIGURE
            )
            if configure and self._model is None:
                await self._prepare()
            try:
                return change_state(request, response)
            except RCLError as error:
                self.get_logger().error(f"transition refused: {error}")
                return response

        service.callback = guarded

    # Parameters

    def _value(self, name: str) -> Value:
        return value_of(self, name)

    def _on_parameters(self, parameters: Iterable[Parameter]) -> None:
        """Use parameters that were accepted."""
        self._live = live_settings(self._value)
        if self._model is None or self.executor is None:
            return
        if any(parameter.name in MODEL_PARAMETERS for parameter in parameters):
            self.executor.create_task(self._switch)

    # Services

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
        if self._pipeline is None or self._model is None:
            loading = f"; model {self._health.loading} is being loaded"
            raise TargetRefusedError(
                SetTarget.Response.ERROR_NOT_ACTIVE,
                f"the tracker is {self._health.lifecycle}, not active"
                + (loading if self._health.loading else "; activate it first"),
            )
        _check_mode(request, self._model)
        with_text = request.mode == SetTarget.Request.MODE_BOX_AND_TEXT
        live = self._live
        answer = self._pipeline.set_target(
            Wish(
                xywh_from_bounding_box(request.box),
                request.text if with_text else "",
                stamp_nanoseconds(request.stamp),
                live.set_target_timeout,
                live.set_target_tolerance,
            )
        )
        await self._until_done(answer)
        return answer.result()

    async def _until_done(self, answer: ThreadFuture[object]) -> None:
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

    # Results, in the pipeline's thread

    def _publish(self, report: Report) -> None:
        """Publish a report."""
        bearing = self._bearing_of(report)
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
        self._publish_debug_image(report)
        status = self._status_of(report, bearing)
        self._status.publish(status)
        self._health.take(report, status.image_age_ms)
        self._log(report)

    def _bearing_of(self, report: Report) -> Bearing | None:
        """The direction of a measured box; a predicted one has none, lest it look measured."""
        measured = report.state in (TrackStatus.STATE_TRACKING, TrackStatus.STATE_UNCERTAIN)
        if report.box is None or report.frame is None or not measured:
            return None
        size = report.frame.shape[1], report.frame.shape[0]
        return self._bearings.find(report.box, report.covariance, size, self._live.rectified)

    def _status_of(self, report: Report, bearing: Bearing | None) -> TrackStatus:
        model = self._model
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
        return (self.get_clock().now().nanoseconds - stamp) * 1000.0 / NANOSECONDS

    def _publish_debug_image(self, report: Report) -> None:
        """Draw the report, if anybody looks and the last one is long enough ago."""
        live, now = self._live, time.monotonic()
        raw, jpeg = (
            publisher.get_subscription_count() > 0
            for publisher in (self._debug_image, self._debug_jpeg)
        )
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
        if report.refused:
            self.get_logger().warning(report.message, throttle_duration_sec=5.0)
        if report.state == self._last_state:
            return
        self._last_state = report.state
        reason = f": {report.message}" if report.message else ""
        self.get_logger().info(f"target {report.target_id} {STATE_NAMES[report.state]}{reason}")

    def _report_bearing(self, report: diagnostics.Report) -> None:
        """Task "bearing" of the diagnostics."""
        if self._pipeline is None:
            report.summary(diagnostics.STALE, f"the node is {self._health.lifecycle}")
        elif self._bearings.problem:
            report.summary(diagnostics.WARN, f"no bearing: {self._bearings.problem}")
        elif not self._bearings.calibrated:
            report.summary(diagnostics.OK, f"no bearing: nothing on {self._camera_info.topic_name}")
        else:
            report.summary(diagnostics.OK, "calibrated")


def _objection(value: Callable[[str], Value]) -> str:
    """What is wrong with parameters together; empty when nothing is."""
    try:
        live_settings(value)
    except InputError as error:
        return str(error)
    return objection_to(model_request(value))


def _check_mode(request: SetTarget.Request, model: LoadedModel) -> None:
    """Refuse what cannot be tracked with this model."""
    mode, name = request.mode, model.name
    answer = SetTarget.Response
    if mode == SetTarget.Request.MODE_BOX:
        return
    if mode == SetTarget.Request.MODE_BOX_AND_TEXT:
        if not model.tracker.spec.language:
            raise TargetRefusedError(
                answer.ERROR_TEXT_UNSUPPORTED,
                f"text is not available with model {name}; give a box (mode 0)",
            )
        if not request.text.strip():
            raise TargetRefusedError(
                answer.ERROR_TEXT_UNSUPPORTED, "the text is empty; describe the object, or mode 0"
            )
        return
    if mode == SetTarget.Request.MODE_TEXT:
        raise TargetRefusedError(
            answer.ERROR_TEXT_UNSUPPORTED,
            f"text alone is not available with model {name}; give a box (mode 0)",
        )
    if mode == SetTarget.Request.MODE_POINT:
        raise TargetRefusedError(
            answer.ERROR_POINT_UNSUPPORTED,
            f"a point is not available with model {name}; give a box (mode 0)",
        )
    raise TargetRefusedError(answer.ERROR_INVALID_MODE, f"mode is {mode}, expected 0 (box) to 3")
