# SPDX-License-Identifier: Apache-2.0
"""`/diagnostics` with the semantics of the package diagnostic_updater.

That package is not on PyPI, and the little of it that a node needs is here: named tasks that fill
a status once a second, levels that merge to the worst, a hardware id.
"""

from __future__ import annotations

from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from vt_ros.common.errors import describe_error

OK = DiagnosticStatus.OK
WARN = DiagnosticStatus.WARN
ERROR = DiagnosticStatus.ERROR
STALE = DiagnosticStatus.STALE

PERIOD = 1.0
"""Seconds between two publications."""

_SECONDS_BETWEEN_WARNINGS = 30.0


class TaskReport:
    """What one task says: a level, a sentence, and values by name."""

    def __init__(self) -> None:
        self.level: bytes = OK
        self.message = ""
        self.values: list[tuple[str, str]] = []

    def summary(self, level: bytes, message: str) -> None:
        """Set level and sentence."""
        self.level, self.message = level, message

    def merge(self, level: bytes, message: str) -> None:
        """Add a finding: the worst level counts; sentences of OK give way to worse ones."""
        if (level > OK) == (self.level > OK) and self.message:
            self.message = f"{self.message}; {message}"
        elif level > OK or not self.message:
            self.message = message
        self.level = max(self.level, level)

    def add(self, key: str, value: object) -> None:
        """Add a value; floats are shown with three digits after the point."""
        self.values.append((key, f"{value:.3f}" if isinstance(value, float) else str(value)))


class Updater:
    """Publishes the reports of its tasks every `PERIOD` of real time, whatever /clock says.

    The first one, about the node as a whole, warns of another node of the same name, too. What is
    wrong in it is in the log every 30 s, for those who come after it has happened.

    Args:
        node: they are about; its name stands before each task's.
        hardware_id: asked at every publication.
    """

    def __init__(self, node: Node, hardware_id: Callable[[], str]) -> None:
        self._node = node
        self._hardware_id = hardware_id
        self._tasks: list[tuple[str, Callable[[TaskReport], None]]] = []
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._timer = node.create_timer(
            PERIOD,
            self.publish,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def add(self, name: str, task: Callable[[TaskReport], None]) -> None:
        """Add a task; it is called at every publication, in the executor's thread."""
        self._tasks.append((name, task))

    def publish(self) -> None:
        """Ask all tasks and publish, now."""
        prefix = self._node.get_fully_qualified_name().lstrip("/")
        hardware_id = self._hardware_id()
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        for number, (name, task) in enumerate(self._tasks):
            report = _ask(task)
            if number == 0:
                self._warn_of_namesakes(report)
                if report.level in (WARN, ERROR):
                    self._node.get_logger().warning(
                        report.message, throttle_duration_sec=_SECONDS_BETWEEN_WARNINGS
                    )
            message.status.append(
                DiagnosticStatus(
                    level=report.level,
                    name=f"{prefix}: {name}",
                    message=report.message,
                    hardware_id=hardware_id,
                    values=[KeyValue(key=key, value=value) for key, value in report.values],
                )
            )
        self._publisher.publish(message)

    def _warn_of_namesakes(self, report: TaskReport) -> None:
        own = self._node.get_name(), self._node.get_namespace()
        if self._node.get_node_names_and_namespaces().count(own) < 2:
            return
        report.merge(
            WARN,
            f"another node is called {self._node.get_fully_qualified_name()}, too: both publish "
            "and answer; end one, or give it another name or namespace (a killed one is gone in "
            "20 s)",
        )


def _ask(task: Callable[[TaskReport], None]) -> TaskReport:
    report = TaskReport()
    try:
        task(report)
    except Exception as error:  # what watches the node must not end it
        report.summary(ERROR, f"the diagnostic itself failed: {describe_error(error)}")
    return report
