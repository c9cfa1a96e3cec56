# SPDX-License-Identifier: Apache-2.0
"""A lifecycle node with parameters as a table, and a session while it is active.

Its transitions say why they fail, and it survives impossible ones.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy._rclpy_pybind11 import RCLError
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.timer import Timer

from vt_models.errors import InputError
from vt_ros.common.bond import Bond
from vt_ros.common.diagnostic_updater import ERROR, OK, STALE, TaskReport, Updater
from vt_ros.common.errors import describe_error
from vt_ros.common.parameters import Setting, Value, declare, freeze, refuse_if, value_of
from vt_ros.common.process import StartError

_FIXED_REMEDY = "deactivate the node first"


class NodeSettings(Protocol):
    """The parameters of a node together, as `read_settings` of its room returns them."""

    @property
    def hardware_id(self) -> str:
        """In /diagnostics."""


class NodeSession(Protocol):
    """What exists while a node is active."""

    def close(self) -> None:
        """Release everything."""


SettingsT = TypeVar("SettingsT", bound=NodeSettings)
SessionT = TypeVar("SessionT", bound=NodeSession)


def log_refused_transition(node: Node, wanted: Transition, state: str) -> None:
    """Say which transition was refused; rcl names it not, but a line of its own source."""
    node.get_logger().error(
        f"transition {wanted.id or reprlib.repr(wanted.label)} refused: there is none such from "
        f"the state {state}",
        throttle_duration_sec=1.0,
    )


class ManagedNode(LifecycleNode, Generic[SettingsT, SessionT]):
    """Base of nodes that a manager starts and stops, or that start themselves.

    unconfigured --configure--> inactive --activate--> active, and back by deactivate and cleanup.
    A transition that raises leads back to where it began; the reason is in the log and in
    `/diagnostics`. A session is opened by `activate`, and closed by `deactivate`. While there is
    one, only live parameters may change.

    Args:
        name: of the node.
        table: its parameters; `autostart` and `hardware_id` are among them.
        read_settings: given a lookup of values by name, returns the parameters together; raises
            InputError for what makes no sense, which is refused at start and in every change.

    Raises:
        StartError: parameters that make no sense.

    Attributes:
        lifecycle: the present state.
        failure: why the last transition failed; empty if it did not.
        settings: the parameters, as they are now.
        session: None while the node is not active.
    """

    def __init__(
        self,
        name: str,
        table: Sequence[Setting],
        read_settings: Callable[[Callable[[str], Any]], SettingsT],
    ) -> None:
        super().__init__(name)
        self.lifecycle, self.failure = "unconfigured", ""
        self.session: SessionT | None = None
        self._autostart_timer: Timer | None = None
        self._bond: Bond | None = None
        self._survive_impossible_transitions()
        declare(self, table)

        def read_present() -> SettingsT:
            return read_settings(lambda name: value_of(self, name))

        def objection(value: Callable[[str], Value]) -> str:
            try:
                read_settings(value)
            except InputError as error:
                return str(error)
            return ""

        def use(parameters: Iterable[Parameter]) -> None:
            self.settings = read_present()
            self.on_settings(parameters)

        try:
            self.settings = read_present()
        except InputError as error:
            raise StartError(str(error)) from error
        refuse_if(self, objection)
        freeze(self, table, _FIXED_REMEDY, lambda: self.session is not None)
        self.add_post_set_parameters_callback(use)
        self._updater = Updater(self, lambda: self.settings.hardware_id)
        self._updater.add("lifecycle", self._report_lifecycle)
        if value_of(self, "autostart"):
            self._autostart_timer = self.create_timer(
                0.0, self._on_autostart, clock=Clock(clock_type=ClockType.STEADY_TIME)
            )

    def open_session(self) -> SessionT:
        """Begin to work; whatever this raises is why the node stays inactive."""
        raise NotImplementedError

    def close_session(self, session: SessionT) -> None:
        """Stop working."""
        session.close()

    def on_settings(self, parameters: Iterable[Parameter]) -> None:
        """Use parameters that were accepted; `settings` has them already."""

    def add_report(self, name: str, report: Callable[[SessionT, TaskReport], None]) -> None:
        """Add a task to `/diagnostics`; while the node is not active it is STALE."""

        def task(status: TaskReport) -> None:
            if self.session is None:
                status.summary(STALE, f"the node is {self.lifecycle}")
            else:
                report(self.session, status)

        self._updater.add(name, task)

    def close(self) -> None:
        """Go to `finalized` in order, if a manager has not done that already."""
        with suppress(RCLError):
            self.trigger_shutdown()

    def on_configure(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Only the state changes: everything is made by `activate`."""
        return self._transit("configure", "inactive", lambda: None)

    def on_activate(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to work."""
        result = self._transit("activate", "active", self._activate)
        if result == TransitionCallbackReturn.SUCCESS:
            self._bond = Bond(self)
        else:
            self._deactivate()
        return result

    def on_deactivate(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Stop working."""
        return self._transit("deactivate", "inactive", self._end)

    def on_cleanup(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Only the state changes."""
        return self._transit("clean up", "unconfigured", lambda: None)

    def on_shutdown(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Stop working, from any state."""
        return self._transit("shut down", "finalized", self._end)

    def _report_lifecycle(self, report: TaskReport) -> None:
        """Report the state, and why the last transition failed."""
        report.summary(OK, self.lifecycle)
        if self.failure:
            report.summary(ERROR, f"{self.lifecycle}: {self.failure}")
        report.add("state", self.lifecycle)

    def _activate(self) -> None:
        self.session = self.open_session()

    def _deactivate(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            self.close_session(session)

    def _end(self) -> None:
        bond, self._bond = self._bond, None
        if bond is not None:
            bond.close()
        self._deactivate()

    def _transit(self, name: str, after: str, work: Callable[[], None]) -> TransitionCallbackReturn:
        """Do the work of a transition; whatever it raises becomes FAILURE, with a reason."""
        try:
            work()
        except Exception as error:  # rclpy would hide the reason
            self.failure = f"cannot {name}: {describe_error(error)}"
            self.get_logger().error(self.failure)
            return TransitionCallbackReturn.FAILURE
        self.failure, self.lifecycle = "", after
        self.get_logger().info(after)
        return TransitionCallbackReturn.SUCCESS

    def _on_autostart(self) -> None:
        if self._autostart_timer is not None:
            self.destroy_timer(self._autostart_timer)
            self._autostart_timer = None
        with suppress(RCLError):  # a manager was quicker
            if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
                self.trigger_activate()

    def _survive_impossible_transitions(self) -> None:
        """Answer `success: false` to a transition that the present state does not have.

        rclpy's service callback raises RCLError then, which would end the process.
        """
        service = self._service_change_state
        change_state = service.callback

        def guarded(
            request: ChangeState.Request, response: ChangeState.Response
        ) -> ChangeState.Response:
            try:
                return change_state(request, response)
            except RCLError:
                log_refused_transition(self, request.transition, self.lifecycle)
                return response

        service.callback = guarded
