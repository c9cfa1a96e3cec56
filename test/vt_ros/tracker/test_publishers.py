# SPDX-License-Identifier: Apache-2.0
"""What is published about a frame: the essential arrives, whatever becomes of the optional."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from vt_interfaces.msg import TrackStatus
from vt_models.geometry.bearing import BearingFinder
from vt_models.longterm import State
from vt_ros.common.diagnostic_updater import TaskReport
from vt_ros.tracker import publishers
from vt_ros.tracker.current_target import FrameReport
from vt_ros.tracker.diagnostics import Diagnostics
from vt_ros.tracker.state import NodeState
from vt_ros.tracker.stream_statistics import StreamStatistics

LIVE = SimpleNamespace(rectified=False, debug_interval=0.0, debug_scale=1.0)


@pytest.mark.ros
def test_publish_debug_image_that_fails_costs_no_status(ros, monkeypatch):
    def fail(*_):
        raise MemoryError("too large")

    monkeypatch.setattr(publishers, "array_to_image", fail)
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=ros.domain)
    node = LifecycleNode("tracker", context=context)
    try:
        statuses = ros.collect(TrackStatus, "tracker/status")
        ros.collect(Image, "tracker/debug_image")
        output = publishers.Publishers(node, lambda: LIVE)
        node.trigger_configure()
        node.trigger_activate()
        ros.until(output._debug_image.get_subscription_count, "who wants debug images")
        ros.until(output._status.get_subscription_count, "who wants a status")
        report = FrameReport(Header(stamp=Time(sec=5)), State.TRACKING, box=(1.0, 2.0, 9.0, 9.0))
        frame = np.zeros((30, 40, 3), np.uint8)
        for _ in range(2):
            output.publish(FrameReport(**{**vars(report), "frame": frame}), BearingFinder())
        ros.until(lambda: len(statuses) == 2, "both statuses")
        assert {(status.image_width, status.image_height) for status in statuses} == {(40, 30)}
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_diagnostics_name_what_has_failed_three_times_in_a_row():
    statistics = StreamStatistics()
    session = SimpleNamespace(
        statistics=statistics,
        watchdog=SimpleNamespace(reason=""),
        recorder=SimpleNamespace(last=""),
    )
    state = NodeState(lifecycle="active", session=session)
    levels = []
    for failure in ("", "E: 1", "E: 2", "E: 3", "E: 4", ""):
        report = FrameReport(Header(), State.TRACKING, failure=failure)
        statistics.add(report, 0.0)
        said = TaskReport()
        Diagnostics(state, lambda: LIVE).report_target(said)
        levels.append(said.level)
        if failure == "E: 4":
            assert said.message == "4 frames in a row have failed: E: 4"
    ok, error = DiagnosticStatus.OK, DiagnosticStatus.ERROR
    assert levels == [ok, ok, ok, error, error, ok]
