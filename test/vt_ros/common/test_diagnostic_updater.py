# SPDX-License-Identifier: Apache-2.0
"""Reports merge as those of diagnostic_updater do."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from vt_ros.common.diagnostic_updater import ERROR, OK, STALE, WARN, TaskReport, _ask


@pytest.mark.parametrize(
    ("findings", "level", "message"),
    [
        ([(OK, "a")], OK, "a"),
        ([(OK, "a"), (OK, "b")], OK, "a; b"),
        ([(OK, "a"), (WARN, "b")], WARN, "b"),
        ([(WARN, "a"), (OK, "b")], WARN, "a"),
        ([(WARN, "a"), (ERROR, "b")], ERROR, "a; b"),
        ([(ERROR, "a"), (WARN, "b"), (OK, "c")], ERROR, "a; b"),
        ([(STALE, "a"), (WARN, "b")], STALE, "a; b"),
    ],
)
def test_merge_keeps_the_worst_level(findings, level, message):
    report = TaskReport()
    for finding in findings:
        report.merge(*finding)
    assert (report.level, report.message) == (level, message)


def test_add_shows_values_as_text():
    report = TaskReport()
    report.add("a", 1.23456)
    report.add("b", 7)
    report.add("c", "text")
    assert report.values == [("a", "1.235"), ("b", "7"), ("c", "text")]


def test_publish_with_a_failing_task_reports_it():
    def task(_):
        raise ValueError("no")

    report = _ask(task)
    assert (report.level, report.message) == (ERROR, "the diagnostic itself failed: ValueError: no")
