# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node `tracker`: images in, detections and status out, targets by service."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from geometry_msgs.msg import Vector3, Vector3Stamped
from lifecycle_msgs.msg import Transition
from rclpy._rclpy_pybind11 import RCLError
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
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
    candidates_to_detections,
    detection_from_box,
    stamp_nanoseconds,
    xywh_from_bounding_box,
)
from vt_ros.draw import STATE_COLOURS, draw_target, draw_text, scaled
from vt_ros.finder import Finder, Question
from vt_ros.health import Health
from vt_ros.image_input import TOPIC, ImageInput
from vt_ros.loading import LoadError, load_in_background, load_model, objection_to
from vt_ros.parameters import declare, freeze, refuse_if, value_of
from vt_ros.pipeline import Keeper, Pipeline, Report
from vt_ros.process import StartError
from vt_ros.requests import Moment, TargetRefusedError, Wish, check
from vt_ros.settings import (
    FIXED_REMEDY,
    MODEL_PARAMETERS,
    SETTINGS,
    ModelRequest,
    live_settings,
    model_request,
)
from vt_ros.states import STATE_NAMES
from vt_ros.words import Words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future as ThreadFuture

    from rclpy.subscription import Subscription
    from rclpy.timer import Timer

    from vt_ros.arrivals import Arrival
    from vt_ros.finder import Found
    from vt_ros.loading import LoadedModel
    from vt_ros.parameters import Value
    from vt_ros.requests import Asked, Started

_MEBIBYTE = 1024 * 1024

_T = TypeVar("_T")


class _Pursuit:
    """A request whose target is being looked for; it can be given up, whatever it waits for."""

    def __init__(self) -> None:
        self.refusal: TargetRefusedError | None = None
        self._waits_for: ThreadFuture[object] | None = None

    def wait_for(self, answer: ThreadFuture[object]) -> None:
        """The next thing it waits for; cancelled at once if it was given up before."""
        self._waits_for = answer
        if self.refusal is not None:
            answer.cancel()

    def give_up(self, refusal: TargetRefusedError) -> None:
        """Answer with this refusal, unless its target is being started already."""
        self.refusal = refusal
        if self._waits_for is not None:
            self._waits_for.cancel()


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
        self._finder: Finder | None = None
        self._pursuit: _Pursuit | None = None
        self._bearings = BearingFinder()
        self._last_target_id = 0
        self._last_debug_image = float("-inf")
        self._last_state = TrackStatus.STATE_IDLE
        # A request waits for a frame, or for what is looked for in it; a later one must be heard.
        self.create_service(
            SetTarget,
            "~/set_target",
            self._on_set_target,
            callback_group=ReentrantCallbackGroup(),
        )
        self.create_service(Trigger, "~/clear_target", self._on_clear_target)
        self._health = Health(lambda: self._live.image_timeout)
        self._updater = diagnostics.Updater(self, lambda: self._live.hardware_id)
        self._updater.add("lifecycle", self._health.report_lifecycle)
        self._updater.add("images", self._health.report_images)
        self._updater.add("model", self._health.report_model)
        self._updater.add("target", self._health.report_target)
        self._updater.add("bearing", self._report_bearing)
        self._updater.add("grounding", self._report_grounding)
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
        self._finder = Finder(lambda: self._live)
        self._use(model)
        chosen = f" (auto: {model.reason})" if model.reason else ""
        self.get_logger().info(
            f"configured: model {model.name}{chosen} loaded in {model.seconds:.2f} s"
        )

    def _activate(self, state: LifecycleState) -> None:
        super().on_activate(state)
        self._health.restart()
        self._input = ImageInput(self, self._value, self._offer)
        self._words = self._make_words(self._finder, self._input.message_type)
        self._pipeline = Pipeline(
            self._keeper(self._model),
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
        self._give_up_pursuit(SetTarget.Response.ERROR_NOT_ACTIVE, "the tracker was deactivated")
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
        if self._finder is not None:
            self._finder.close()
            self._finder = None
        self._model = self._health.model = self._prepared = None

    def _camera_info_topic(self) -> str:
        """`camera_info` where it is remapped; otherwise beside the images, as drivers do it."""
        topic = self.resolve_topic_name("camera_info")
        if topic != self.resolve_topic_name("camera_info", only_expand=True):
            return topic
        return f"{self.resolve_topic_name(TOPIC).rpartition('/')[0]}/camera_info"

    # Models

    def _keeper(self, model: LoadedModel) -> Keeper:
        words = self._words
        target = create_target(model.tracker, self._live.target, verifier=words.agree)
        return Keeper(target, model.tracker.spec.language, words)

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
                done = served.swap(self._keeper(future.result()))
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
            asked = check(request)
            started, found = await self._start_target(request, asked)
        except TargetRefusedError as refusal:
            response.error_code = refusal.code
            response.message = str(refusal)
            if refusal.header is not None:
                response.header = refusal.header
                response.alternatives = candidates_to_detections(refusal.candidates, refusal.header)
            self.get_logger().warning(f"set_target refused: {refusal}")
            return response
        response.success = True
        response.target_id = started.target_id
        response.box = bounding_box_from_xywh(started.box)
        response.header = started.header
        response.score = 1.0
        if found is not None:
            response.score, response.message = found.score, found.reason
            response.alternatives = candidates_to_detections(found.alternatives, found.header)
        x, y, w, h = started.box
        self.get_logger().info(
            f"target {started.target_id} set: x={x:g} y={y:g} w={w:g} h={h:g} {response.message}"
        )
        return response

    async def _start_target(
        self, request: SetTarget.Request, asked: Asked
    ) -> tuple[Started, Found | None]:
        """Start a target, and say what was found if one had to be looked for."""
        pipeline, live = self._pipeline, self._live
        if pipeline is None or self._model is None:
            loading = f"; model {self._health.loading} is being loaded"
            raise TargetRefusedError(
                SetTarget.Response.ERROR_NOT_ACTIVE,
                f"the tracker is {self._health.lifecycle}, not active"
                + (loading if self._health.loading else "; activate it first"),
            )
        self._check_text_is_read(asked)
        self._give_up_pursuit(
            SetTarget.Response.ERROR_CANCELLED, f"cancelled by a later set_target ({asked})"
        )
        moment = Moment(
            stamp_nanoseconds(request.stamp), live.set_target_timeout, live.set_target_tolerance
        )
        if asked.looks:
            return await self._pursue(pipeline, asked, moment)
        answer = pipeline.set_target(Wish(xywh_from_bounding_box(request.box), asked.text, moment))
        await self._until_done(answer)
        return answer.result(), None

    async def _pursue(
        self, pipeline: Pipeline, asked: Asked, moment: Moment
    ) -> tuple[Started, Found]:
        """Pick the frame, look for the target in it, start there, and catch up."""
        pursuit = self._pursuit = _Pursuit()
        finder, message_type = self._finder, self._input.message_type
        picked = await self._outcome(pursuit, pipeline.pick(moment))
        try:
            question = Question(picked.arrival, message_type, asked.text, asked.point)
            found = await self._outcome(pursuit, finder.ask(question))
            wish = Wish(found.box, asked.text, picked)
            return await self._outcome(pursuit, pipeline.set_target(wish)), found
        finally:
            pipeline.release(picked)

    async def _outcome(self, pursuit: _Pursuit, answer: ThreadFuture[_T]) -> _T:
        """What another thread answers; or the refusal, if the pursuit was given up."""
        pursuit.wait_for(answer)
        await self._until_done(answer)
        if answer.cancelled():
            raise pursuit.refusal or TargetRefusedError(
                SetTarget.Response.ERROR_CANCELLED, "cancelled"
            )
        return answer.result()

    def _give_up_pursuit(self, code: int, reason: str) -> None:
        """Refuse the request whose target is still being looked for, if there is one."""
        if self._pursuit is not None:
            self._pursuit.give_up(TargetRefusedError(code, reason))
            self._pursuit = None

    def _check_text_is_read(self, asked: Asked) -> None:
        """Refuse a text that neither the model nor a grounding back end reads."""
        if not asked.text or self._live.grounder is not None:
            return
        name = self._model.name
        if asked.looks:
            reason = "a text alone is not looked for: grounding.backend is none"
        elif not self._model.tracker.spec.language:
            reason = f"model {name} takes no text, and grounding.backend is none"
        else:
            return
        raise TargetRefusedError(
            SetTarget.Response.ERROR_TEXT_UNSUPPORTED,
            f"{reason}; set grounding.backend, or give a box alone (mode 0)",
        )

    def _make_words(self, finder: Finder, message_type: type[Image | CompressedImage]) -> Words:
        """What has the words of a lost target looked for, in the pipeline's thread."""

        def ask(arrival: Arrival, text: str) -> ThreadFuture[Found]:
            return finder.ask(Question(arrival, message_type, text), background=True)

        return Words(ask, lambda: self._live.words)

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
        self._give_up_pursuit(SetTarget.Response.ERROR_CANCELLED, "cancelled by clear_target")
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

    def _report_grounding(self, report: diagnostics.Report) -> None:
        """Task "grounding" of the diagnostics."""
        request, finder = self._live.grounder, self._finder
        if request is None:
            report.summary(diagnostics.OK, "off: grounding.backend is none")
        elif finder is None:
            report.summary(diagnostics.STALE, f"the node is {self._health.lifecycle}")
        elif finder.facts.failure:
            report.summary(diagnostics.WARN, f"{request.backend}: {finder.facts.failure}")
        elif finder.facts.busy:
            report.summary(diagnostics.OK, f"looking for {finder.facts.busy}")
        else:
            loaded = finder.facts.backend or f"{request.backend}, loaded when a text comes"
            report.summary(diagnostics.OK, loaded)
        if request is not None and finder is not None:
            report.add("backend", request.backend)
            report.add("source", request.source or "what ships or is installed")
            report.add("last search", finder.facts.last)
            report.add("last search s", finder.facts.seconds)


def _objection(value: Callable[[str], Value]) -> str:
    """What is wrong with parameters together; empty when nothing is."""
    try:
        live_settings(value)
    except InputError as error:
        return str(error)
    return objection_to(model_request(value))
