# SPDX-License-Identifier: Apache-2.0
"""What is said of a tracker that is heard, silent, or not there."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from vt_interfaces.msg import TrackStatus
from vt_ros.common.diagnostic_updater import OK, WARN, TaskReport
from vt_ros.common.tracker_silence import describe_silence, report_tracker

pytestmark = pytest.mark.ros

NOBODY = "nobody publishes /robot/tracker/status: is the tracker running and configured?"
SILENT = "/robot/tracker/status is silent: is the tracker active, and do images arrive there?"


def test_of_a_tracker_no_more_is_said_than_was_seen(ros):
    report = TaskReport()
    assert describe_silence(ros.node, "/robot/tracker") == NOBODY
    report_tracker(report, ros.node, "/robot/tracker", is_heard=False)
    assert (report.level, report.message) == (WARN, NOBODY)
    publisher = ros.node.create_publisher(TrackStatus, "/robot/tracker/status", 1)
    try:
        ros.until(lambda: ros.node.count_publishers("/robot/tracker/status"), "the publisher")
        assert describe_silence(ros.node, "/robot/tracker") == SILENT
        report_tracker(report, ros.node, "/robot/tracker", is_heard=False)
        assert (report.level, report.message) == (WARN, SILENT)
        report_tracker(report, ros.node, "/robot/tracker", is_heard=True)
        assert (report.level, report.message) == (OK, "/robot/tracker/status comes")
    finally:
        ros.node.destroy_publisher(publisher)
