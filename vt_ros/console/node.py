# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node `console`: its parameters, transitions and diagnostics."""

from __future__ import annotations

from rclpy.task import Future

from vt_ros.common.diagnostic_updater import OK, WARN, TaskReport
from vt_ros.common.lifecycle import ManagedNode
from vt_ros.console.access import Role
from vt_ros.console.parameters import SETTINGS, ConsoleSettings, read_settings
from vt_ros.console.session import Session


class ConsoleNode(ManagedNode[ConsoleSettings, Session]):
    """Serves a page on which an operator sees what trackers see, and gives them targets.

    Args:
        finished: not completed by this node: it goes on until a signal.

    Raises:
        StartError: parameters that make no sense, or a token file that is not to be relied on.
    """

    def __init__(self, finished: Future | None = None) -> None:  # noqa: ARG002 - as `run` calls it
        super().__init__("console", SETTINGS, read_settings)
        self.add_report("server", self._report_server)
        self.add_report("trackers", self._report_trackers)

    def open_session(self) -> Session:
        """Listen for browsers, and to the trackers."""
        session = Session(self, lambda: self.settings)
        self.get_logger().info(f"open {session.url} in a browser")
        return session

    def _report_server(self, session: Session, report: TaskReport) -> None:
        """Report where the page is, and who looks at it."""
        viewers = list(session.server.viewers)
        operators = sum(viewer.role is Role.OPERATOR for viewer in viewers)
        report.summary(OK, f"{session.url} is open: {len(viewers)} browsers")
        report.add("browsers", len(viewers))
        report.add("browsers that may act", operators)
        report.add("refused", session.server.refused)
        report.add("frames sent", sum(viewer.frames for viewer in viewers))
        report.add("megabytes sent", sum(viewer.bytes for viewer in viewers) / 1e6)

    def _report_trackers(self, session: Session, report: TaskReport) -> None:
        """Report which trackers are heard."""
        for view in session.views:
            if view.is_silent:
                report.merge(WARN, f"nothing is heard of {view.name}")
            else:
                report.merge(OK, f"{view.name} is heard")
