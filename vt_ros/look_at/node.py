# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node `look_at`: its parameters, transitions and diagnostics."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from rclpy.parameter import Parameter
from rclpy.task import Future

from vt_ros.common.diagnostic_updater import ERROR, OK, WARN, TaskReport
from vt_ros.common.lifecycle import ManagedNode
from vt_ros.common.tracker_silence import report_tracker
from vt_ros.look_at.controller import Phase
from vt_ros.look_at.dead_time import Measurement
from vt_ros.look_at.parameters import SETTINGS, LookAtSettings, read_settings
from vt_ros.look_at.session import Session

# Beginnings of parameters; after a change of one the dead time may be another.
_ABOUT_THE_DRIVE = ("output", "axes", "mount.", "joints.", "mavlink.", "onvif.", "dead_time.")


class LookAtNode(ManagedNode[LookAtSettings, Session]):
    """Turns a camera so that the tracker's target stays in the middle of its image.

    Args:
        finished: not completed by this node: it goes on until a signal.

    Raises:
        StartError: parameters that make no sense.
    """

    def __init__(self, finished: Future | None = None) -> None:  # noqa: ARG002 - as `run` calls it
        super().__init__("look_at", SETTINGS, read_settings)
        self._measurement: Measurement | None = None
        self.add_report("tracker", self._report_tracker)
        self.add_report("camera", self._report_camera)
        self.add_report("output", self._report_output)

    def open_session(self) -> Session:
        """Listen to the tracker, and command the camera."""
        measured = self._measurement if self.settings.controller.dead_time is None else None
        session = Session(self, self.settings, measured)
        self.get_logger().info(f"commands go to {self.settings.output}")
        return session

    def close_session(self, session: Session) -> None:
        """Stop the camera; the target is tracked on."""
        self._measurement = session.controller.measurement
        session.close()

    def on_settings(self, parameters: Iterable[Parameter]) -> None:
        """Use live parameters that have changed; for another drive, forget the dead time."""
        if self.session is not None:
            self.session.use(self.settings)
        elif any(parameter.name.startswith(_ABOUT_THE_DRIVE) for parameter in parameters):
            self._measurement = None

    def _report_tracker(self, session: Session, report: TaskReport) -> None:
        """Report whether the tracker is heard, and whether what it says can be used."""
        controller, tracker = session.controller, self.settings.tracker
        topic = self.resolve_topic_name(f"{tracker}/status")
        is_silent = session.last.phase is Phase.SILENT
        if is_silent and controller.last_refusal and self.count_publishers(topic):
            report.summary(WARN, f"{topic} is not used: {controller.last_refusal}")
        else:
            report_tracker(report, self, tracker, not is_silent)
        for name in ("used", "refused"):
            report.add(name, controller.counts[name])
        report.add("last refusal", controller.last_refusal)

    def _report_camera(self, session: Session, report: TaskReport) -> None:
        """Report what the camera does, and what is known of how it follows."""
        controller, command = session.controller, session.last
        report.summary(OK, command.phase.value)
        if controller.failure:
            unmeasured = command.phase is Phase.UNMEASURED
            level = ERROR if unmeasured else WARN
            remedy = "; call ~/measure_dead_time to try again" if unmeasured else ""
            report.summary(level, f"{command.phase.value}: {controller.failure}{remedy}")
        for name, value in zip(("pan", "tilt"), command.rates, strict=True):
            report.add(f"{name} rate", float(value))
        report.add("dead time", controller.law.dead_time)
        if controller.measurement is not None:
            response = np.diag(controller.measurement.response)
            for name, value in zip(("pan", "tilt"), response, strict=True):
                report.add(f"{name} response", float(value))

    def _report_output(self, session: Session, report: TaskReport) -> None:
        """Report whether commands arrive."""
        if session.output.problem:
            is_idle = session.last.phase is Phase.IDLE  # then nothing is to be commanded
            report.summary(OK if is_idle else WARN, session.output.problem)
        else:
            report.summary(OK, f"commands go to {self.settings.output}")
