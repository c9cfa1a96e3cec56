# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node `target_3d`: its parameters, transitions and diagnostics."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rclpy.parameter import Parameter
from rclpy.task import Future

from vt_ros.common.diagnostic_updater import ERROR, OK, WARN, TaskReport
from vt_ros.common.lifecycle import ManagedNode
from vt_ros.common.tracker_silence import report_tracker
from vt_ros.target_3d.parameters import SETTINGS, Target3dSettings, read_settings
from vt_ros.target_3d.session import Session

_SILENCE = 2.0  # seconds without a word of the tracker


class Target3dNode(ManagedNode[Target3dSettings, Session]):
    """Turns the tracker's box into a position: pose, detection in space, TF, velocity.

    Args:
        finished: not completed by this node: it goes on until a signal.

    Raises:
        StartError: parameters that make no sense.
    """

    def __init__(self, finished: Future | None = None) -> None:  # noqa: ARG002 - as `run` calls it
        super().__init__("target_3d", SETTINGS, read_settings)
        self.add_report("tracker", self._report_tracker)
        self.add_report("position", self._report_position)
        self.add_report("velocity", self._report_velocity)
        self.add_report("stop", self._report_stop)

    def open_session(self) -> Session:
        """Listen to the tracker, and to what gives a range."""
        return Session(self, self.settings)

    def on_settings(self, _parameters: Iterable[Parameter]) -> None:
        """Use live parameters that have changed."""
        if self.session is not None:
            self.session.settings = self.settings

    def _report_tracker(self, session: Session, report: TaskReport) -> None:
        """Report whether the tracker is heard."""
        is_heard = time.monotonic() - session.heard <= _SILENCE
        report_tracker(report, self, self.settings.tracker, is_heard)

    def _report_position(self, session: Session, report: TaskReport) -> None:
        """Report how the last position was found, or why there is none."""
        wrong = session.measured and not session.located
        report.summary(WARN if wrong else OK, session.last or "no frame yet")
        for name in (*self.settings.methods, "none", "not measured"):
            report.add(name, session.counts[name])

    def _report_velocity(self, session: Session, report: TaskReport) -> None:
        """Report whether TF has what the velocity needs; none is nothing wrong."""
        if not self.settings.fixed_frame:
            report.summary(OK, "not wanted: fixed_frame is empty")
        elif session.velocity_problem:
            report.summary(OK, f"no velocity: {session.velocity_problem}")
        else:
            report.summary(OK, f"in {self.settings.fixed_frame}")

    def _report_stop(self, session: Session, report: TaskReport) -> None:
        """Report whether a navigation could be stopped."""
        if session.stop is None:
            report.summary(OK, "not wanted: stop.action is empty")
        elif session.stop.problem:
            report.summary(ERROR, f"the navigation is not stopped: {session.stop.problem}")
        else:
            report.summary(OK, f"{session.stop.stops} times stopped")
