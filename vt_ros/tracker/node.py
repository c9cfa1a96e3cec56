# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node `tracker`: images in, detections and status out, targets by service."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from lifecycle_msgs.msg import Transition
from rclpy._rclpy_pybind11 import RCLError
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo

from vt_models.errors import InputError, VtModelsError
from vt_models.longterm import create_target
from vt_models.longterm.frame_buffer import FrameRing
from vt_ros.common.diagnostic_updater import Updater
from vt_ros.common.futures import until_done
from vt_ros.common.parameters import declare, freeze, refuse_if, value_of
from vt_ros.common.process import StartError
from vt_ros.tracker.bearing import BearingFinder
from vt_ros.tracker.diagnostics import Health
from vt_ros.tracker.grounding_thread import Finder, Question
from vt_ros.tracker.image_subscription import TOPIC, ImageInput
from vt_ros.tracker.model_loading import LoadError, load_in_background, load_model, objection_to
from vt_ros.tracker.parameters import (
    FIXED_REMEDY,
    MODEL_PARAMETERS,
    SETTINGS,
    ModelRequest,
    live_settings,
    model_request,
)
from vt_ros.tracker.publishers import Outputs
from vt_ros.tracker.target_service import TargetService, Works
from vt_ros.tracker.text_redetection import Words
from vt_ros.tracker.tracking_thread import Keeper, Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future as ThreadFuture

    from rclpy.subscription import Subscription
    from rclpy.timer import Timer
    from sensor_msgs.msg import CompressedImage, Image

    from vt_ros.common.parameters import Value
    from vt_ros.tracker.grounding_thread import Found
    from vt_ros.tracker.image_buffer import Arrival
    from vt_ros.tracker.model_loading import LoadedModel
    from vt_ros.tracker.parameters import WordsSettings

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
        self._finder: Finder | None = None
        self._outputs: Outputs | None = None
        self._last_target_id = 0
        self._health = Health(lambda: self._live)
        self._targets = TargetService(self, lambda: self._live, self._health)
        self._updater = Updater(self, lambda: self._live.hardware_id)
        self._updater.add("lifecycle", self._health.report_lifecycle)
        self._updater.add("images", self._health.report_images)
        self._updater.add("model", self._health.report_model)
        self._updater.add("target", self._health.report_target)
        self._updater.add("bearing", self._health.report_bearing)
        self._updater.add("grounding", self._health.report_grounding)
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
        self._outputs = Outputs(self, lambda: self._live, self._health)
        super().on_configure(state)
        self._finder = self._health.finder = Finder(lambda: self._live)
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
            self._outputs.publish,
            self.get_logger(),
            self._last_target_id,
        )
        self._pipeline.start()
        topic, bearings = self._camera_info_topic(), self._outputs.bearings
        self._camera_info = self.create_subscription(
            CameraInfo, topic, bearings.take, qos_profile_sensor_data
        )
        self._health.calibration = topic, bearings
        self._health.input = self._input
        self._targets.open(Works(self._pipeline, self._finder, self._input.message_type))
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
        self._targets.close()
        self._health.input = self._health.calibration = None
        if self._input is not None:
            self._input.close()
            self._input = None
        if self._camera_info is not None:
            self.destroy_subscription(self._camera_info)
            self._camera_info = None
            self._outputs.bearings = BearingFinder()
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
            self._finder = self._health.finder = None
        self._outputs = None
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

    def _make_words(self, finder: Finder, message_type: type[Image | CompressedImage]) -> Words:
        """What has the words of a lost target looked for, in the pipeline's thread."""

        def ask(arrival: Arrival, text: str) -> ThreadFuture[Found]:
            return finder.ask(Question(arrival, message_type, text), background=True)

        def settings() -> WordsSettings:
            words = self._live.words
            return replace(words, verify=False) if finder.facts.names_only else words

        return Words(ask, settings)

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
        await until_done(future, self.executor)
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
                await until_done(done, self.executor)
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


def _objection(value: Callable[[str], Value]) -> str:
    """What is wrong with parameters together; empty when nothing is."""
    try:
        live_settings(value)
    except InputError as error:
        return str(error)
    return objection_to(model_request(value))
