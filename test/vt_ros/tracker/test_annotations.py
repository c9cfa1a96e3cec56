# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from builtin_interfaces.msg import Time
from foxglove_msgs.msg import PointsAnnotation
from rclpy.serialization import serialize_message
from std_msgs.msg import Header
from visualization_msgs.msg import ImageMarker

from vt_models.longterm import State
from vt_ros.tracker.annotations import image_annotations, image_markers
from vt_ros.tracker.current_target import FrameReport

HEADER = Header(stamp=Time(sec=5, nanosec=7), frame_id="optical")
BOX = (100.0, 50.0, 40.0, 20.0)


def report(state: State, **fields: object) -> FrameReport:
    has_box = state not in (State.IDLE, State.LOST)
    given = {"box": BOX, "covariance": np.diag((16.0, 4.0, 1.0, 1.0))} if has_box else {}
    return FrameReport(HEADER, int(state), **{**given, **fields})


def corners(points):
    return [(point.x, point.y) for point in points]


def test_measured_box_is_an_outline_with_an_ellipse_and_a_text() -> None:
    made = image_annotations(report(State.TRACKING, score=0.91))
    outline, ellipse = made.points
    assert corners(outline.points) == [(100, 50), (140, 50), (140, 70), (100, 70)]
    assert outline.type == ellipse.type == PointsAnnotation.LINE_LOOP
    around = np.array(corners(ellipse.points))
    assert around.mean(axis=0) == pytest.approx((120.0, 60.0))
    assert np.abs(around - (120.0, 60.0)).max(axis=0) == pytest.approx((8.0, 4.0), rel=0.01)
    (text,) = made.texts
    assert text.text == "TRACKING 0.91"
    assert (text.position.x, text.position.y) == (100.0, 46.0)
    assert {each.timestamp.nanosec for each in (outline, ellipse, text)} == {7}
    serialize_message(made)


def test_predicted_box_is_its_corners_and_none_is_a_text_alone() -> None:
    coasting = image_annotations(report(State.COASTING))
    assert coasting.points[0].type == PointsAnnotation.LINE_LIST
    assert len(coasting.points[0].points) == 16
    lost = image_annotations(report(State.LOST))
    assert not lost.points
    assert lost.texts[0].text == "LOST 0.00"
    waiting = image_annotations(report(State.UNCERTAIN, unconfirmed=True, score=0.8))
    assert waiting.texts[0].text == "UNCERTAIN 0.80 confirm?"
    assert waiting.points[0].outline_color != coasting.points[0].outline_color


def test_markers_follow_the_image_and_are_removed_without_a_box() -> None:
    box, ellipse = image_markers(report(State.TRACKING))
    assert corners(box.points) == [(100, 50), (140, 50), (140, 70), (100, 70), (100, 50)]
    assert ellipse.points[0] == ellipse.points[-1]
    assert box.header == ellipse.header == HEADER
    assert (box.type, box.action) == (ImageMarker.LINE_STRIP, ImageMarker.ADD)
    assert image_markers(report(State.COASTING))[0].type == ImageMarker.LINE_LIST
    removed = image_markers(report(State.LOST))
    assert [marker.action for marker in removed] == [ImageMarker.REMOVE] * 2
    assert [(m.ns, m.id) for m in removed] == [(m.ns, m.id) for m in (box, ellipse)]
    serialize_message(removed[0])


def test_layouts_of_viewers_name_topics_and_services_that_the_tracker_has(repository) -> None:
    """As they are in the policy, which is compared with a running node."""
    policy = (repository / "config" / "security" / "tracker.policy.xml").read_text()
    names = {text.replace("~", "/tracker") for text in re.findall(r">(~?[^<\s]+)<", policy)}
    names |= {"/image_raw", "/points"}
    layout = json.loads((repository / "config" / "foxglove" / "tracker.json").read_text())
    used = re.findall(r'"(/[a-z_/]+)[".]', json.dumps(layout))
    placed = set(re.findall(r'"(\w+!\w+)"', json.dumps(layout["layout"])))
    assert placed == set(layout["configById"])
    rviz = yaml.safe_load((repository / "config" / "rviz" / "tracker.rviz").read_text())
    manager = rviz["Visualization Manager"]
    for part in (*manager["Displays"], *manager["Tools"]):
        if "Topic" in part:
            used.append(part["Topic"]["Value"])
    assert len(used) >= 8
    assert set(used) <= names
