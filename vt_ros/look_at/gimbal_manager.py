# SPDX-License-Identifier: Apache-2.0
"""Steers a MAVLink gimbal through its manager: takes control, sends rates, gives control back.

The protocol is https://mavlink.io/en/services/gimbal_v2.html. No sockets are in here.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from vt_ros.look_at.parameters import GimbalSettings
from vt_ros.mavlink.messages import (
    Command,
    CommandAck,
    CommandLong,
    ComponentType,
    Frame,
    GimbalFlag,
    GimbalManagerSetPitchyaw,
    GimbalManagerStatus,
    Heartbeat,
    Message,
    Result,
    encode,
)

_HEARTBEAT_INTERVAL = 1.0
_REQUEST_INTERVAL = 1.0
_MANAGER_TIMEOUT = 5.0  # seconds without a word of the manager
_UNCHANGED, _REMOVE_CONTROL = -1.0, -3.0  # in place of a system or component


class GimbalManagerClient:
    """Says what goes to a gimbal manager, and reads what it answers; any thread may call.

    Args:
        settings: who is who.
        send: sends a frame; must not wait.
        clock: gives seconds.

    Attributes:
        wanted: ask for control where there is none.
        problem: why rates are not sent; empty while this node is in control.
    """

    def __init__(
        self,
        settings: GimbalSettings,
        send: Callable[[bytes], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._send_frame, self._clock = settings, send, clock
        self._lock = threading.Lock()
        self._sequence = 0
        self._heard = self._heartbeat_at = self._request_at = -math.inf
        self._has_control, self._is_taken = False, False
        self.wanted = False
        name = f"{settings.manager_system}/{settings.manager_component}"
        self._silent = (
            f"nothing is heard of the gimbal manager {name}; check mavlink.url, "
            "mavlink.manager_system and mavlink.manager_component"
        )
        self._asking = (
            f"the gimbal manager {name} has not given control, which is asked for when there is a "
            "target"
        )
        self.problem = self._silent

    def receive(self, frame: Frame) -> None:
        """Take a frame that has arrived; what is not of the manager is passed over."""
        settings, message = self._settings, frame.message
        if (frame.system, frame.component) != (
            settings.manager_system,
            settings.manager_component,
        ):
            return
        with self._lock:
            self._heard = self._clock()
            if isinstance(message, CommandAck):
                self._take_answer(message)
            elif isinstance(message, GimbalManagerStatus):
                self._take_status(message)

    def tick(self) -> None:
        """Send heartbeats, and ask for control if it is wanted; to be called every 0.1 s."""
        with self._lock:
            now = self._clock()
            if now >= self._heartbeat_at + _HEARTBEAT_INTERVAL:
                self._heartbeat_at = now
                self._send(Heartbeat(type=ComponentType.ONBOARD_CONTROLLER))
            if now - self._heard > _MANAGER_TIMEOUT:
                self._has_control, self.problem = False, self._silent
            elif self.problem == self._silent:
                self.problem = self._asking
            may_ask = not (self._has_control or self._is_taken or self.problem == self._silent)
            if may_ask and self.wanted and now >= self._request_at + _REQUEST_INTERVAL:
                self._request_at = now
                self._configure(self._settings.system, self._settings.component)

    def set_rates(self, pitch_rate: float, yaw_rate: float) -> None:
        """Send rates, radians a second, upwards and to the right, if this node is in control."""
        with self._lock:
            if self._has_control:
                flags = GimbalFlag.ROLL_LOCK | GimbalFlag.PITCH_LOCK
                if self._settings.yaw_lock:
                    flags |= GimbalFlag.YAW_LOCK
                self._set_pitchyaw(flags, pitch_rate, yaw_rate)

    def go_home(self) -> None:
        """Send the gimbal to its neutral position, if this node is in control."""
        with self._lock:
            if self._has_control:
                self._set_pitchyaw(GimbalFlag.NEUTRAL, math.nan, math.nan)

    def give_control_back(self) -> None:
        """Stop the gimbal and let others have it, if this node is in control; ask no more."""
        self.set_rates(0.0, 0.0)
        with self._lock:
            self.wanted = False
            if self._has_control:
                self._configure(_REMOVE_CONTROL, _REMOVE_CONTROL)
                self._has_control, self.problem = False, self._asking

    def _take_answer(self, answer: CommandAck) -> None:
        settings = self._settings
        for_us = (answer.target_system, answer.target_component) in (
            (settings.system, settings.component),
            (0, 0),  # of a manager that does not say for whom
        )
        if not for_us or answer.command != Command.DO_GIMBAL_MANAGER_CONFIGURE or self._is_taken:
            return
        if answer.result == Result.ACCEPTED:
            # The answer to giving it back, too, is one to this command.
            if self.wanted:
                self._has_control, self.problem = True, ""
        elif answer.result != Result.IN_PROGRESS:
            known = {result.value for result in Result}
            name = Result(answer.result).name if answer.result in known else str(answer.result)
            self.problem = f"{self._asking}: {name}; asked again every {_REQUEST_INTERVAL:g} s"

    def _take_status(self, status: GimbalManagerStatus) -> None:
        """See who is in control; another component's control is respected until the next start."""
        settings = self._settings
        if settings.gimbal_device_id and status.gimbal_device_id != settings.gimbal_device_id:
            return
        owner = status.primary_control_sysid, status.primary_control_compid
        if owner == (settings.system, settings.component):
            if self.wanted:
                self._has_control, self._is_taken, self.problem = True, False, ""
        elif owner == (0, 0):
            if self._has_control:
                self._has_control, self.problem = False, self._asking
            self._is_taken = False
        elif self._has_control:
            self._has_control, self._is_taken = False, True
            self.problem = (
                f"{owner[0]}/{owner[1]} has taken control of the gimbal; deactivate and activate "
                "this node to take it back"
            )

    def _configure(self, system: float, component: float) -> None:
        settings = self._settings
        self._send(
            CommandLong(
                param1=float(system),
                param2=float(component),
                param3=_UNCHANGED,
                param4=_UNCHANGED,
                param7=float(settings.gimbal_device_id),
                command=Command.DO_GIMBAL_MANAGER_CONFIGURE,
                target_system=settings.manager_system,
                target_component=settings.manager_component,
            )
        )

    def _set_pitchyaw(self, flags: GimbalFlag, pitch_rate: float, yaw_rate: float) -> None:
        settings = self._settings
        self._send(
            GimbalManagerSetPitchyaw(
                flags=flags,
                pitch_rate=pitch_rate,
                yaw_rate=yaw_rate,
                target_system=settings.manager_system,
                target_component=settings.manager_component,
                gimbal_device_id=settings.gimbal_device_id,
            )
        )

    def _send(self, message: Message) -> None:
        settings = self._settings
        self._send_frame(encode(message, settings.system, settings.component, self._sequence))
        self._sequence = (self._sequence + 1) & 0xFF
