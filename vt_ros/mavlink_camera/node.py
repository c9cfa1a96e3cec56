# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node `mavlink_camera`: its parameters, transitions and diagnostics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rclpy.parameter import Parameter
from rclpy.task import Future

from vt_ros.common.diagnostic_updater import ERROR, OK, WARN, TaskReport
from vt_ros.common.lifecycle import ManagedNode
from vt_ros.common.tracker_silence import report_tracker
from vt_ros.mavlink_camera.parameters import SETTINGS, MavlinkSettings, read_settings
from vt_ros.mavlink_camera.session import Session


class MavlinkCameraNode(ManagedNode[MavlinkSettings, Session]):
    """Makes a tracker a MAVLink 2 camera that ground stations and autopilots can use.

    Args:
        finished: not completed by this node: it goes on until a signal.

    Raises:
        StartError: parameters that make no sense.
    """

    def __init__(self, finished: Future | None = None) -> None:  # noqa: ARG002 - as `run` calls it
        super().__init__("mavlink_camera", SETTINGS, read_settings)
        self.add_report("links", self._report_links)
        self.add_report("stations", self._report_stations)
        self.add_report("tracker", self._report_tracker)
        self.add_report("geo", self._report_geo)

    def open_session(self) -> Session:
        """Open the links, and listen to the tracker."""
        session = Session(self, self.settings)
        urls = ", ".join(map(str, self.settings.links))
        components = ", ".join(
            f"{number} ({kind.name})" for number, kind in self.settings.components.items()
        )
        self.get_logger().info(f"system {self.settings.system}, component {components} on {urls}")
        return session

    def on_settings(self, _parameters: Iterable[Parameter]) -> None:
        """Use live parameters that have changed."""
        if self.session is not None:
            self.session.component.settings = self.settings

    def _report_links(self, session: Session, report: TaskReport) -> None:
        """Report whether the links are open, and what goes through them."""
        counts: Counter[str] = Counter()
        for link in session.links:
            counts.update(link.counts)
            if link.problem:
                report.merge(ERROR, f"{link.url}: {link.problem}")
            else:
                report.merge(OK, f"{link.url} is open")
        if counts["signed"]:
            report.merge(WARN, f"{counts['signed']} signed messages refused (parameter signed)")
        for name in ("sent", "unsent", "damaged", "incompatible", "signed"):
            report.add(name, counts[name])

    def _report_stations(self, session: Session, report: TaskReport) -> None:
        """Report who has been heard."""
        stations = session.component.describe_stations()
        if stations:
            report.summary(OK, "; ".join(stations))
        else:
            report.summary(WARN, "nobody has been heard: check url, and system_id at the vehicle")
        for name in ("answered", "refused", "for others"):
            report.add(f"commands {name}", session.component.counts[name])
        report.add("last refusal", session.component.last_refusal)

    def _report_tracker(self, session: Session, report: TaskReport) -> None:
        """Report whether the tracker is heard."""
        is_heard = not session.component.tracker_is_silent
        report_tracker(report, self, self.settings.tracker, is_heard)

    def _report_geo(self, session: Session, report: TaskReport) -> None:
        """Report whether it is known where on earth the target is."""
        problem = session.component.describe_geo()
        if problem is None:
            report.summary(OK, "no place of the target is wanted (geo.source is none)")
        elif problem:
            report.summary(WARN, problem)
        else:
            report.summary(OK, "it is known where a measured target is")
