# SPDX-License-Identifier: Apache-2.0
"""Heartbeats for a lifecycle manager, with a stand-in for the messages of `bond`."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from std_msgs.msg import Header

from vt_ros.common import bond


class Node:
    """Keeps what is published, and the callback of its timer."""

    def __init__(self):
        self.published, self.topics, self.beat = [], [], None
        self.get_name = lambda: "tracker"
        now = SimpleNamespace(to_msg=lambda: Header().stamp)
        self.get_clock = lambda: SimpleNamespace(now=lambda: now)
        self.destroy_publisher = self.destroy_timer = lambda _: None

    def create_publisher(self, _kind, topic, _depth):
        self.topics.append(topic)
        return SimpleNamespace(publish=self.published.append, wait_for_all_acked=lambda _: True)

    def create_timer(self, _period, callback, **_):
        self.beat = callback


def test_bond_beats_until_it_is_closed(monkeypatch):
    kind = lambda **fields: SimpleNamespace(header=Header(), **fields)  # noqa: E731
    monkeypatch.setattr(bond, "Status", kind)
    node = Node()
    made = bond.Bond(node)
    node.beat()
    node.beat()
    made.close()
    assert node.topics == ["bond"]
    assert [status.active for status in node.published] == [True, True, False]
    assert {status.id for status in node.published} == {"tracker"}
    assert len({status.instance_id for status in node.published}) == 1
    assert all(status.heartbeat_period < status.heartbeat_timeout for status in node.published)


def test_bond_without_the_package_is_none(monkeypatch):
    monkeypatch.setattr(bond, "Status", None)
    node = Node()
    bond.Bond(node).close()
    assert not node.topics
