# SPDX-License-Identifier: Apache-2.0
"""Clicks and drawn regions, as RViz2 and rqt_image_view publish them, to a real process."""

from __future__ import annotations

import math
import time

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("tokenizers", reason="a point is found by a detector, which needs tokenizers")

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Point32, PointStamped, Polygon, PolygonStamped
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from vt_models.geometry.boxes import iou
from vt_ros.common.convert import NANOSECONDS, stamp_nanoseconds, xywh_from_bounding_box

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def running(shared_ros, tiny_model):
    return shared_ros.start_tracker(
        tiny_model, image_qos__reliability="reliable", image_qos__depth=5
    )


@pytest.fixture
def feed(running, guest, scene):
    feed = guest.feed(scene, qos=50)
    feed.move(1)
    yield feed
    assert running.alive, running.output
    guest.call(Trigger, "tracker/clear_target")


class Clicker:
    """Publishes clicks, and waits for what the log says of them."""

    def __init__(self, feed, running):
        self.feed, self.running = feed, running
        kinds = {
            "click": PointStamped,
            "click/point": Point,
            "click/polygon": PolygonStamped,
            "click/region": RegionOfInterest,
        }
        self.publishers = {
            name: feed.ros.publisher(kind, f"tracker/{name}") for name, kind in kinds.items()
        }

    def refused(self, name, message, *words):
        before = len(self.running.output)
        time.sleep(0.15)  # refusals are logged ten times a second at most
        self.publishers[name].publish(message)
        self.feed.ros.until(
            # Images come on meanwhile: without a recent one that would be the reason.
            lambda: (
                self.feed.answered()
                and all(word in self.running.output[before:] for word in ("refused", *words))
            ),
            f"a refusal of {message} with {words}",
        )

    def started(self, name, message):
        """The box, and the step of the scene that the target was in, from the report at start."""
        count = len(self.feed.status)
        self.publishers[name].publish(message)

        def is_set():
            self.feed.answered()
            return next((s for s in self.feed.status[count:] if s.message.endswith(" set")), None)

        status = self.feed.ros.until(is_set, f"a target by {name}")
        (detection,) = self.feed.detection(status).detections
        return status, xywh_from_bounding_box(detection.bbox)


@pytest.fixture
def clicker(feed, running):
    return Clicker(feed, running)


def polygon(*corners, header=None):
    points = [Point32(x=float(x), y=float(y)) for x, y in corners]
    return PolygonStamped(header=header or Header(), polygon=Polygon(points=points))


def test_region_starts_on_its_box(feed, clicker):
    x, y, w, h = (int(value) for value in feed.scene.box(feed.step))
    region = RegionOfInterest(x_offset=x, y_offset=y, width=w, height=h)
    _, box = clicker.started("click/region", region)
    assert box == (x, y, w, h)
    feed.assert_on_target(feed.move(3))
    clicker.refused("click/region", RegionOfInterest(x_offset=5, y_offset=5), "box")
    assert feed.move(1).target_id, "a refused click leaves the target"


def test_polygon_starts_on_what_surrounds_it_in_the_frame_of_its_stamp(feed, clicker):
    """The stamp of an image, or that of a click: the newest image up to it."""
    seen, (x, y, w, h) = feed.answered().header, feed.scene.box(feed.step)
    feed.move(12)
    corners = ((x, y), (x + w, y + 0.5 * h), (x + 0.5 * w, y + h))
    status, box = clicker.started("click/polygon", polygon(*corners, header=seen))
    assert (status.header, box) == (seen, (x, y, w, h))
    feed.assert_on_target(feed.move(1))

    late = stamp_nanoseconds(seen.stamp) + NANOSECONDS // 60  # half a frame later
    stamp = Time(sec=late // NANOSECONDS, nanosec=late % NANOSECONDS)
    clicked = Header(stamp=stamp, frame_id="optical")
    status, box = clicker.started("click/polygon", polygon((x, y), (x + w, y + h), header=clicked))
    assert (status.header, box) == (seen, (x, y, w, h))
    feed.assert_on_target(feed.move(1))


def test_latency_of_the_screen_counts_for_clicks_without_the_stamp_of_an_image(feed, clicker):
    seen = feed.answered().header
    feed.move(10)
    assert feed.ros.set_parameter("click.latency", 0.2).successful
    click = stamp_nanoseconds(seen.stamp) + NANOSECONDS // 5 + 1_000_000
    header = Header(stamp=Time(sec=click // NANOSECONDS, nanosec=click % NANOSECONDS))
    status, _ = clicker.started("click/polygon", polygon((30, 30), (70, 70), header=header))
    assert status.header == seen
    assert feed.ros.set_parameter("click.latency", 0.0).successful


def test_points_start_on_the_object_there(feed, clicker):
    """As rqt_image_view publishes it, and as RViz does; the last one also as a point in space."""
    feed.move(5)
    x, y, w, h = feed.scene.box(feed.step)
    u, v = x + 0.4 * w, y + 0.6 * h
    _, box = clicker.started("click/point", Point(x=u, y=v))
    assert float(iou(box, (x, y, w, h))) > 0.4, box
    _, box = clicker.started("click", PointStamped(point=Point(x=u, y=v)))
    assert float(iou(box, (x, y, w, h))) > 0.4, box

    header = Header(frame_id="optical")
    in_space = PointStamped(
        header=header, point=Point(x=(u - 160.0) / 50.0, y=(v - 120.0) / 50.0, z=4.0)
    )
    clicker.refused("click", in_space, "nothing has come on", "camera_info")
    info = CameraInfo(width=320, height=240, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [200.0, 0.0, 159.5, 0.0, 200.0, 119.5, 0.0, 0.0, 1.0]
    calibration = feed.ros.publisher(CameraInfo, "camera_info")
    calibration.publish(info)
    feed.ros.until(
        lambda: calibration.publish(info) or feed.answered().azimuth == pytest.approx(0.0, abs=9.0),
        "a calibration to count",
    )
    _, box = clicker.started("click", in_space)
    assert float(iou(box, (x, y, w, h))) > 0.4, box


def test_click_that_cannot_be_meant_is_refused_with_the_reason(feed, clicker):
    target = feed.set_target().target_id
    nan, header = math.nan, Header(frame_id="map")
    clicker.refused("click", PointStamped(header=header), "frame_id is 'map'", "'optical'")
    clicker.refused("click", PointStamped(point=Point(x=1.0, y=1.0, z=2.0)), "frame_id is empty")
    clicker.refused("click", PointStamped(point=Point(x=nan, y=1.0)), "not finite")
    clicker.refused("click/point", Point(x=-5.0, y=1.0), "point", "outside")
    clicker.refused("click/polygon", polygon((1, 1)), "two or more")
    clicker.refused("click/polygon", polygon((1, nan), (5, 5)), "two or more")
    clicker.refused("click/polygon", polygon((5, 5), (5, 5)), "box")
    old = Header(stamp=Time(sec=5), frame_id="optical")
    clicker.refused("click/polygon", polygon((5, 5), (50, 50), header=old), "is not held")
    status = feed.move(2)
    assert status.target_id == target
    feed.assert_on_target(status)
