# SPDX-License-Identifier: Apache-2.0
"""What is given to a node and means nothing to it is said."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import rclpy

from vt_ros.common.parameters import Setting, declare
from vt_ros.common.start_arguments import warn_of_unused

pytestmark = pytest.mark.ros

SETTINGS = (
    Setting("target.track_threshold", 0.5, "Of something.", 0.0, 1.0, old_name="keep_threshold"),
)


@pytest.fixture
def warnings_of(ros, tmp_path, monkeypatch):
    """What a node of a name says about a parameter file."""

    def start(name, text):
        file = tmp_path / "parameters.yaml"
        file.write_text(text, encoding="utf-8")
        given = ["program", "--ros-args", "--params-file", str(file)]
        context = rclpy.Context()
        rclpy.init(args=given, context=context, domain_id=ros.domain)
        node, said = rclpy.create_node(name, namespace="robot", context=context), []
        declare(node, SETTINGS)
        monkeypatch.setattr(node.get_logger(), "warning", said.append)
        warn_of_unused(node, given)
        node.destroy_node()
        rclpy.shutdown(context=context)
        return said

    return start


VALUES = "  ros__parameters: {target.track_threshold: 0.4}"


@pytest.mark.parametrize("pattern", ["/**", "/**/tracker", "/*/tracker", "/robot/tracker"])
def test_parameters_for_the_node_are_no_warning(warnings_of, pattern):
    other = "\n/**/camera:\n  ros__parameters: {source: '0'}\n"
    late = "\n/robot:\n  ros__parameters: {x: 1}\n"
    assert warnings_of("tracker", f"{pattern}:\n{VALUES}{other}{late}") == []


def test_parameter_that_is_not_declared_is_named_with_the_nearest_one(warnings_of):
    text = "/**:\n  ros__parameters: {target: {track_treshold: 0.5}, qos_overrides: {/a: {b: 1}}}"
    (said,) = warnings_of("tracker", text)
    assert "target.track_treshold was given" in said
    assert said.endswith("did you mean target.track_threshold?")


def test_parameter_file_for_another_node_is_named(warnings_of):
    (said,) = warnings_of("follower", f"/**/tracker:\n{VALUES}\ncamera:\n{VALUES}")
    assert "for this node, /robot/follower, only for /**/tracker, /camera" in said
