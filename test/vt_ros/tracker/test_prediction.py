# SPDX-License-Identifier: Apache-2.0
"""`~/prediction` and `~/annotations` of a real process."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticStatus
from foxglove_msgs.msg import ImageAnnotations
from geometry_msgs.msg import Vector3Stamped
from sensor_msgs.msg import CameraInfo
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2DArray
from visualization_msgs.msg import ImageMarker

from vt_interfaces.msg import TrackStatus
from vt_ros.common.convert import (
    NANOSECONDS,
    box_covariance,
    stamp_nanoseconds,
    xywh_from_bounding_box,
)

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def running(shared_ros, tiny_model):
    return shared_ros.start_tracker(tiny_model, prediction__rate=50.0, prediction__lead=0.2)


@pytest.fixture
def feed(running, guest, scene):
    feed = guest.feed(scene, real_time=True)
    feed.predictions = guest.collect(Detection2DArray, "tracker/prediction")
    yield feed
    assert running.alive, running.output
    guest.call(Trigger, "tracker/clear_target")


def until_predicted(feed):
    """Let the target move until there is a prediction of it."""
    assert feed.set_target().success
    feed.ros.until(
        lambda: feed.move(1) and feed.predictions and feed.predictions[-1].detections,
        "a prediction",
    )


def covered(feed):
    """The status of a frame with a covered lens; no two are alike to the last bit."""
    noise = np.random.default_rng(feed.published).integers(0, 3, (240, 320, 3), dtype=np.uint8)
    feed.published += 1
    return feed.answered(noise)


def test_prediction_is_of_the_time_that_it_says(feed):
    bearings = feed.ros.collect(Vector3Stamped, "tracker/prediction/bearing")
    info = CameraInfo(width=320, height=240, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [200.0, 0.0, 159.5, 0.0, 200.0, 119.5, 0.0, 0.0, 1.0]
    feed.ros.publisher(CameraInfo, "camera_info").publish(info)
    until_predicted(feed)
    feed.ros.until(lambda: feed.move(1) and bearings and len(feed.predictions) > 20, "bearings")
    now = feed.ros.node.get_clock().now().nanoseconds
    message = feed.predictions[-1]
    (detection,) = message.detections
    assert abs(stamp_nanoseconds(message.header.stamp) - now) < NANOSECONDS
    assert detection.header == message.header
    assert message.header.frame_id == "optical"
    assert detection.results[0].hypothesis.class_id == "target"
    size = xywh_from_bounding_box(detection.bbox)[2:]
    assert np.abs(np.subtract(size, 48.0)).max() < 12.0
    known = box_covariance(feed.detections[-1].detections[0].results[0].pose.covariance)
    ahead = box_covariance(detection.results[0].pose.covariance)
    assert ahead[0, 0] > known[0, 0] + (0.2 * 0.7 * 36.0) ** 2, "0.2 s ahead is less certain"
    stamps = [stamp_nanoseconds(each.header.stamp) for each in feed.predictions]
    assert stamps == sorted(stamps)
    vector = bearings[-1].vector
    assert np.linalg.norm((vector.x, vector.y, vector.z)) == pytest.approx(1.0)


def test_prediction_says_that_it_coasts_and_is_silent_while_lost(feed):
    annotations = feed.ros.collect(ImageAnnotations, "tracker/annotations")
    markers = feed.ros.collect(ImageMarker, "tracker/image_markers")
    until_predicted(feed)
    assert covered(feed).state == TrackStatus.STATE_COASTING
    feed.ros.until(
        lambda: feed.predictions[-1].detections[0].results[0].hypothesis.class_id == "coasting",
        "a prediction that coasts",
    )
    feed.ros.until(lambda: covered(feed).state == TrackStatus.STATE_LOST, "the loss")
    feed.ros.until(lambda: not feed.predictions[-1].detections, "the end of the predictions")
    count = len(feed.predictions)
    for _ in range(10):
        covered(feed)
    assert len(feed.predictions) == count, "one empty message, then silence"
    feed.ros.until(lambda: annotations[-1].texts[0].text == "LOST 0.00", "the annotation LOST")
    feed.ros.until(lambda: markers[-1].action == ImageMarker.REMOVE, "the markers removed")


def test_prediction_ends_without_images_and_with_a_cleared_target(feed):
    newest = feed.ros.diagnostics()
    until_predicted(feed)
    feed.ros.until_diagnosed(newest, "target", "no prediction", "old", level=DiagnosticStatus.WARN)
    feed.ros.until(lambda: not feed.predictions[-1].detections, "the end without images")
    feed.ros.until(lambda: feed.move(1) and feed.predictions[-1].detections, "predictions again")
    feed.ros.call(Trigger, "tracker/clear_target")
    feed.ros.until(lambda: not feed.predictions[-1].detections, "the end of a cleared target")
