# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node `tracker`: its parameters, its transitions, and what they make."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from concurrent.futures import Future as ThreadFuture
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy._rclpy_pybind11 import RCLError
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.task import Future
from rclpy.timer import Timer

from vt_interfaces.srv import SetTarget
from vt_models.errors import InputError
from vt_ros.common.bond import Bond
from vt_ros.common.diagnostic_updater import Updater
from vt_ros.common.errors import describe_error
from vt_ros.common.futures import until_done
from vt_ros.common.lifecycle import log_refused_transition
from vt_ros.common.parameters import Value, declare, freeze, lock, refuse_if, value_of
from vt_ros.common.process import EXIT_STUCK, StartError
from vt_ros.tracker.clicks import ClickSubscriptions
from vt_ros.tracker.diagnostics import Diagnostics
from vt_ros.tracker.grounding_thread import GroundingThread
from vt_ros.tracker.model_loading import (
    LoadedModel,
    load_in_background,
    load_model,
    objection_to,
)
from vt_ros.tracker.parameters import (
    FIXED_REMEDY,
    MODEL_PARAMETERS,
    SETTINGS,
    LiveSettings,
    ModelRequest,
    live_settings,
    model_request,
)
from vt_ros.tracker.publishers import Publishers
from vt_ros.tracker.session import Session
from vt_ros.tracker.state import NodeState, Resources
from vt_ros.tracker.target_service import TargetService

# Seconds that the present frame has to end when the process does; it must not take longer than 2.
_PATIENCE_AT_END = 1.0


class _StuckError(Exception):
    """The tracking thread does not end."""


class TrackerNode(LifecycleNode):
    """Tracks one object.

    unconfigured --configure--> inactive: loads the model.
    inactive --activate--> active: subscribes to the images, starts the tracking thread.
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
        self._state = NodeState()
        refuse_if(self, _objection)
        freeze(self, SETTINGS, FIXED_REMEDY, lambda: self._state.session is not None)
        patterns: Any = value_of(self, "locked")
        names = self.get_parameters_by_prefix("")
        for pattern in filter(None, patterns):
            if not any(fnmatchcase(name, pattern) for name in names):
                raise StartError(
                    f"locked: {pattern!r} matches no parameter of this node; correct it"
                )
        lock(self, patterns, lambda: self._was_active and not self._undoing)
        self.add_post_set_parameters_callback(self._on_parameters)
        self._prepared: tuple[ModelRequest, ThreadFuture[LoadedModel]] | None = None
        self._switching = self._was_active = self._undoing = False
        self._last_target_id = 0
        self._bond: Bond | None = None
        self._targets = TargetService(self, self._live_settings, self._state)
        self._clicks = ClickSubscriptions(self, self._live_settings, self._state, self._targets)
        self._diagnostics = Diagnostics(self._state, self._live_settings)
        self._updater = Updater(self, lambda: self._live.hardware_id)
        self._diagnostics.add_to(self._updater)
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
        self._state.lifecycle = "unconfigured"
        return TransitionCallbackReturn.SUCCESS

    def _transit(self, name: str, after: str, work: Callable[[], None]) -> TransitionCallbackReturn:
        """Do the work of a transition; whatever it raises becomes FAILURE, with a reason."""
        try:
            work()
        except Exception as error:  # rclpy would hide the reason
            self._state.failure = f"cannot {name}: {describe_error(error)}"
            self.get_logger().error(self._state.failure)
            self._updater.publish()
            is_stuck = isinstance(error, _StuckError)
            return TransitionCallbackReturn.ERROR if is_stuck else TransitionCallbackReturn.FAILURE
        self._state.failure = ""
        self._state.lifecycle = after
        return TransitionCallbackReturn.SUCCESS

    def _configure(self, state: LifecycleState) -> None:
        model = self._take_prepared() or load_model(model_request(self._value))
        publishers = Publishers(self, self._live_settings)
        super().on_configure(state)
        grounding = GroundingThread(self._live_settings)
        self._state.resources = Resources(model, publishers, grounding)
        self._state.switch_failure = ""
        chosen = f" (auto: {model.reason})" if model.reason else ""
        self.get_logger().info(
            f"configured: model {model.name}{chosen} loaded in {model.seconds:.2f} s"
        )

    def _activate(self, state: LifecycleState) -> None:
        resources = self._state.resources
        if resources is None:
            raise RuntimeError("the node was not configured")
        super().on_activate(state)
        self._state.session = session = Session(
            self,
            self._live_settings,
            resources.model,
            resources.grounding,
            resources.publishers,
            self._last_target_id,
            self._exit_stuck,
        )
        self._bond = Bond(self)
        self._was_active = True  # for good: who may deactivate may not thereby unlock
        self.get_logger().info(f"active: waiting for images on {session.subscription.topic}")

    def _deactivate(self, state: LifecycleState) -> None:
        # A slow network may finish its frame. One that is stuck keeps the model, so that the node
        # must not go on with it: `on_error` leads to unconfigured.
        if not self._stop(self._live.watchdog_timeout):
            raise _StuckError("the tracking thread is stuck; the model was given up with it")
        super().on_deactivate(state)
        self.get_logger().info("inactive")

    def _exit_stuck(self) -> None:
        """End the process because the tracking thread is stuck."""
        self._updater.publish()
        if not self.finished.done():
            self.finished.set_result(EXIT_STUCK)

    def _stop(self, patience: float = _PATIENCE_AT_END) -> bool:
        """End the session, if there is one; False if its thread is stuck, and left behind."""
        session, self._state.session = self._state.session, None
        bond, self._bond = self._bond, None
        if bond is not None:
            bond.close()
        if session is None:
            return True
        self._targets.cancel_search(
            SetTarget.Response.ERROR_NOT_ACTIVE, "the tracker was deactivated"
        )
        if session.watchdog.reason:
            patience = _PATIENCE_AT_END
        has_ended = session.close(patience)
        self._last_target_id = session.tracking.last_target_id
        return has_ended

    def _release(self) -> None:
        """Stop, and let go of the publishers and the model."""
        self._stop()
        for publisher in list(self._managed_entities):
            self.destroy_lifecycle_publisher(publisher)
        if self._state.resources is not None:
            self._state.resources.grounding.close()
            self._state.resources = None
        self._prepared = None
        # A session's parts refer to one another, and most of their memory (frames, the model's
        # buffers) is not seen by the collector: half a megabyte a session would pile up.
        gc.collect()

    # Models

    def _take_prepared(self) -> LoadedModel | None:
        """Return the model that was loaded for what the parameters ask for now, if one was.

        Raises:
            LoadError: it could not be loaded.
        """
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
        self._state.loading = request.model
        self.get_logger().info(f"loading model {request.model}")
        future = load_in_background(request)
        await until_done(future, self.executor)
        self._state.loading = ""
        return future

    async def _switch(self) -> None:
        """Bring the model at work in line with the parameters, or those with the model."""
        if self._switching:
            return
        self._switching = True
        try:
            while self._state.resources is not None:
                request = model_request(self._value)
                if request == self._state.resources.model.request:
                    return
                future = await self._load(request)
                if request == model_request(self._value):
                    await self._exchange(future)
                    if request == model_request(self._value):
                        return  # at work, or nothing can undo it: it is not loaded again and again
        finally:
            self._switching = False

    async def _exchange(self, future: ThreadFuture[LoadedModel]) -> None:
        """Put a loaded model to work between two frames; undo the parameters if that fails."""
        error: BaseException | None = future.exception()
        served: Session | None = None
        while error is None and self._state.session is not served:
            served = self._state.session  # another one, if the node went down and up meanwhile
            if served is None:
                continue
            try:
                done = served.change_model(future.result())
                await until_done(done, self.executor)
                done.result()
            except Exception as failure:  # whatever it is, the previous model goes on
                error = failure
        state, resources = self._state, self._state.resources
        if resources is None:  # cleaned up meanwhile
            return
        previous = resources.model
        if error is not None:
            wanted = model_request(self._value)
            # The parameters say again what is at work, also those that are locked by now.
            self._undoing = True
            try:
                self.set_parameters_atomically(
                    [
                        Parameter(name, value=getattr(previous.request, name))
                        for name in MODEL_PARAMETERS
                    ]
                )
            finally:
                self._undoing = False
            state.switch_failure = f"cannot change to {wanted.model}: {describe_error(error)}"
            self.get_logger().error(f"{state.switch_failure}; {previous.name} goes on")
            return
        resources.model, state.switch_failure = future.result(), ""
        self.get_logger().info(f"model {resources.model.name} has taken over from {previous.name}")

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

        async def guarded(
            request: ChangeState.Request, response: ChangeState.Response
        ) -> ChangeState.Response:
            asked = request.transition
            configure = asked.label == "configure" or (
                not asked.label and asked.id == Transition.TRANSITION_CONFIGURE
            )
            if configure and self._state.resources is None:
                await self._prepare()
            try:
                return change_state(request, response)
            except RCLError:
                log_refused_transition(self, asked, self._state.lifecycle)
                return response

        service.callback = guarded

    # Parameters

    def _value(self, name: str) -> Value:
        return value_of(self, name)

    def _live_settings(self) -> LiveSettings:
        return self._live

    def _on_parameters(self, parameters: Iterable[Parameter]) -> None:
        """Use parameters that were accepted."""
        self._live = live_settings(self._value)
        if self._state.resources is None or self.executor is None:
            return
        if any(parameter.name in MODEL_PARAMETERS for parameter in parameters):
            self.executor.create_task(self._switch)


def _objection(value: Callable[[str], Value]) -> str:
    """Return what is wrong with parameters together; empty when nothing is."""
    try:
        live_settings(value)
    except InputError as error:
        return str(error)
    return objection_to(model_request(value))
