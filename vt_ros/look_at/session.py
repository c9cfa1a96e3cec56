# SPDX-License-Identifier: Apache-2.0
"""What exists while the node is active: made by `activate`, closed by `deactivate`."""

from __future__ import annotations

import math
import time

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_srvs.srv import Trigger

from vt_interfaces.msg import TrackStatus
from vt_models.errors import InputError
from vt_ros.common.convert import NANOSECONDS, STATE_NAMES, stamp_nanoseconds
from vt_ros.common.errors import frame_id_problem
from vt_ros.look_at.controller import (
    Command,
    LookAtController,
    Observation,
    Phase,
    TargetState,
)
from vt_ros.look_at.dead_time import Measurement
from vt_ros.look_at.outputs import create_output
from vt_ros.look_at.parameters import LookAtSettings

_WARNING_PERIOD = 5.0  # seconds between two warnings of one kind
# Seconds of zeros while there is nothing to look at; then others may command the drive.
_REST = 1.0
_CLOCK_TIMEOUT = 2.0  # seconds that /clock may stand still, as that of a slow simulation does


class Session:
    """Listens to a tracker, and commands a camera, until `close`.

    All of it happens in the executor's thread.

    Args:
        node: subscribes and publishes.
        settings: the parameters.
        measurement: of the dead time, of an earlier session; None: it is measured, if the settings
            say so.

    Attributes:
        controller: says what to do.
        output: carries it out.
        last: the last command.
    """

    def __init__(
        self, node: Node, settings: LookAtSettings, measurement: Measurement | None
    ) -> None:
        self._node, self._settings, self._log = node, settings, node.get_logger()
        self.controller = LookAtController(settings.controller, measurement)
        self.last = Command(np.zeros(2), Phase.SILENT)
        self._now, self._advanced = 0.0, time.monotonic()
        self._resting_since = -math.inf
        self.output = create_output(node, settings)
        self._subscription = node.create_subscription(
            TrackStatus, f"{settings.tracker}/status", self._take, 10
        )
        self._service = node.create_service(Trigger, "~/measure_dead_time", self._measure_again)
        # By a clock that goes on when /clock stops: then the camera has to stop, too.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(settings.period, self._tick, clock=steady)

    def close(self) -> None:
        """Stop the camera, and release everything."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_service(self._service)
        self._node.destroy_subscription(self._subscription)
        self.output.close()

    def use(self, settings: LookAtSettings) -> None:
        """Use live parameters that have changed."""
        self._settings = settings
        self.controller.use(settings.controller)

    def _seconds(self) -> float:
        return self._node.get_clock().now().nanoseconds / NANOSECONDS

    def _take(self, status: TrackStatus) -> None:
        """Hand a status on; one that cannot be used is in the log, with the reason."""
        try:
            self.controller.observe(read_observation(status), self._seconds())
        except InputError as error:
            self._log.warning(f"not used: {error}", throttle_duration_sec=_WARNING_PERIOD)

    def _tick(self) -> None:
        """Command the camera."""
        now, steady = self._seconds(), time.monotonic()
        if now < self._now:
            self._log.warning("the clock was set back: the target's motion is forgotten")
            self.controller = LookAtController(
                self._settings.controller, self.controller.measurement
            )
        if now != self._now:
            self._now, self._advanced = now, steady
        if steady - self._advanced > _CLOCK_TIMEOUT:
            command = Command(self.controller.law.stop(now), Phase.SILENT)
        else:
            self.controller.position = self.output.position
            command = self.controller.command(now, blocked=bool(self.output.problem))
        if command.phase not in (Phase.IDLE, Phase.SILENT):
            self._resting_since = steady
        if steady - self._resting_since < _REST:
            self.output.send(command.rates, command.phase)
        else:
            self.output.rest()
        self._log_change(command)
        self.last = command

    def _log_change(self, command: Command) -> None:
        """Log what is done, when that changes."""
        before, phase, controller = self.last.phase, command.phase, self.controller
        if phase is before:
            return
        if before is Phase.MEASURING:
            measured, failure = controller.measurement, controller.failure
            if failure:
                self._log.warning(f"dead time not measured: {failure}")
            elif measured is not None:
                pan, tilt = np.diag(measured.response)
                self._log.info(
                    f"dead time {measured.dead_time:.3f} s; pan turned by {pan:.2f}, tilt by "
                    f"{tilt:.2f} of what was asked"
                )
        reason = f": {self.output.problem}" if phase is Phase.BLOCKED else ""
        if phase in (Phase.BLOCKED, Phase.UNMEASURED):
            self._log.warning(f"{phase.value}{reason}")
        else:
            self._log.info(phase.value)

    def _measure_again(
        self, _request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        self.controller.measure_again()
        response.success = True
        response.message = "measured as soon as a confirmed target is tracked"
        return response


def read_observation(status: TrackStatus) -> Observation:
    """Return what a status says.

    Raises:
        InputError: it has a state that there is not, or a frame_id that is none.
    """
    problem = frame_id_problem(status.header.frame_id)
    if problem:
        raise InputError(problem)
    if status.state not in STATE_NAMES:
        raise InputError(f"the state is {status.state}, which is none of TrackStatus")
    return Observation(
        stamp=stamp_nanoseconds(status.header.stamp) / NANOSECONDS,
        frame_id=status.header.frame_id,
        state=TargetState(status.state),
        bearing=(status.azimuth, status.elevation),
        target_id=status.target_id,
        unconfirmed=status.unconfirmed,
    )
