# SPDX-License-Identifier: Apache-2.0
"""What is known of a tracker that is listened to: that it speaks, or no more than its silence."""

from __future__ import annotations

from rclpy.node import Node

from vt_ros.common.diagnostic_updater import OK, WARN, TaskReport


def describe_silence(node: Node, tracker: str) -> str:
    """Say what is seen of a tracker of which nothing is heard, and what to look at.

    Args:
        node: listens to `~/status` of the tracker.
        tracker: name of its node, as the listener was given it.
    """
    topic = node.resolve_topic_name(f"{tracker}/status")
    if not node.count_publishers(topic):
        return f"nobody publishes {topic}: is the tracker running and configured?"
    return f"{topic} is silent: is the tracker active, and do images arrive there?"


def report_tracker(report: TaskReport, node: Node, tracker: str, is_heard: bool) -> None:
    """Report whether a tracker is heard.

    Args:
        report: gets level and sentence.
        node, tracker: as for `describe_silence`.
        is_heard: its status came a short time ago.
    """
    if is_heard:
        report.summary(OK, f"{node.resolve_topic_name(f'{tracker}/status')} comes")
    else:
        report.summary(WARN, describe_silence(node, tracker))
