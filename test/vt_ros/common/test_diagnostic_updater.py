# SPDX-License-Identifier: Apache-2.0
"""Reports merge as those of diagnostic_updater do."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import rclpy

from vt_ros.common.diagnostic_updater import ERROR, OK, STALE, WARN, TaskReport, Updater, _ask


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


@pytest.mark.ros
def test_publish_warns_of_a_second_node_of_the_same_name(ros, monkeypatch):
    def start(name):
        node = rclpy.create_node(name, context=ros.node.context)
        updater, published, logged = Updater(node, lambda: "none"), [], []
        updater.add("lifecycle", lambda report: report.summary(OK, "active"))
        updater.add("other", lambda report: report.summary(OK, "fine"))
        monkeypatch.setattr(updater._publisher, "publish", published.append)
        monkeypatch.setattr(node.get_logger(), "warning", lambda text, **_: logged.append(text))
        updater.publish()
        return node, logged, [(status.level, status.message) for status in published[0].status]

    first, logged, reports = start("follower")
    assert (logged, reports) == ([], [(OK, "active"), (OK, "fine")])
    second, logged, ((level, message), other) = start("follower")
    assert (level, other) == (WARN, (OK, "fine"))
    assert "another node is called /follower, too: both publish and answer" in message
    assert logged == [message]
    for node in (first, second):
        node.destroy_node()
