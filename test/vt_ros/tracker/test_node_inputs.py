# SPDX-License-Identifier: Apache-2.0
"""Compressed images, QoS overrides, past frames, models changed at run time, bearings."""

from __future__ import annotations

import json
import math
import re
import shutil
import struct
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import cv2
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Vector3Stamped
from lifecycle_msgs.msg import Transition
from rcl_interfaces.srv import ListParameters
from rclpy.qos import ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, RegionOfInterest
from std_srvs.srv import Trigger

from vt_interfaces.msg import TrackStatus
from vt_interfaces.srv import SetTarget
from vt_ros import parameter_reference
from vt_ros.common.convert import box_covariance, stamp_nanoseconds, xywh_from_bounding_box

pytestmark = pytest.mark.ros

Answer = SetTarget.Response
OVERRIDE = "qos_overrides./image_raw.subscription.reliability"


@pytest.fixture(scope="module")
def running(shared_ros, tiny_model):
    parameters = {OVERRIDE: "reliable", "image_qos__depth": 5}
    return shared_ros.start_tracker(tiny_model, set_target_timeout=5.0, locked=[""], **parameters)


@pytest.fixture
def feed(running, guest, scene):
    feed = guest.feed(scene, qos=5)
    yield feed
    assert running.alive, running.output
    guest.call(Trigger, "tracker/clear_target")


def test_qos_overrides_are_applied(feed):
    (info,) = feed.ros.node.get_subscriptions_info_by_topic("/image_raw")
    assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert feed.ros.get_parameter(OVERRIDE) == "reliable"
    assert feed.ros.get_parameter("image_qos.reliability") == "best_effort"


class Stream:
    """A camera that goes on at thirty frames a second while the test does something else."""

    def __init__(self, feed):
        self.feed = feed
        self.boxes = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        while not self._stop.wait(1 / 30):
            self.feed.step += 1
            message = self.feed.message()
            self.boxes[stamp_nanoseconds(message.header.stamp)] = self.feed.scene.box(
                self.feed.step
            )
            self.feed.publisher.publish(message)

    def seen_half_a_second_ago(self):
        """The header and the box of the image that a slow operator has before them."""
        wanted = len(self.feed.status) + 15
        self.feed.ros.until(lambda: len(self.feed.status) > wanted, "half a second of images")
        header = self.feed.status[-15].header
        return header, self.boxes[stamp_nanoseconds(header.stamp)]


def test_starts_on_the_frame_that_the_operator_saw(feed):
    """Half a second late the old box shows the background; the frame of its stamp is held."""
    ros = feed.ros
    with Stream(feed) as stream:
        header, box = stream.seen_half_a_second_ago()
        request = feed.request(box, stamp=header.stamp)
        answer = ros.call(SetTarget, "tracker/set_target", request)
        assert answer.success, answer.message
        assert answer.header == header
        assert xywh_from_bounding_box(answer.box) == box

        def on_target():
            new = [s for s in feed.status if s.target_id == answer.target_id and s.header != header]
            return new[3] if len(new) > 3 else None

        status = ros.until(on_target, "estimates after catching up")
        assert status.state == TrackStatus.STATE_TRACKING
        found = xywh_from_bounding_box(feed.detection(status).detections[0].bbox)
        true = stream.boxes[stamp_nanoseconds(status.header.stamp)]
        assert np.abs(np.subtract(found, true)).max() <= 6.0, (found, true)
        assert np.hypot(*np.subtract(true, box)[:2]) > 20.0, "it has moved meanwhile"

        near = header.stamp
        near.nanosec += 10_000_000  # a stamp that no frame has, ten milliseconds beside one
        near.sec, near.nanosec = near.sec + near.nanosec // 10**9, near.nanosec % 10**9
        answer = ros.call(SetTarget, "tracker/set_target", feed.request(box, stamp=near))
        assert answer.success, answer.message
        wanted, got = (stamp_nanoseconds(stamp) for stamp in (near, answer.header.stamp))
        assert 0 < abs(wanted - got) <= 17_000_000
        assert ros.set_parameter("set_target_tolerance", 0.0).successful
        answer = ros.call(SetTarget, "tracker/set_target", feed.request(box, stamp=near))
        assert answer.error_code == Answer.ERROR_STAMP_NOT_FOUND
        assert "are, from" in answer.message
        assert ros.set_parameter("set_target_tolerance", 0.05).successful


def test_models_change_while_a_target_is_tracked(feed, tiny_model, tmp_path):
    ros = feed.ros
    diagnostics = ros.diagnostics()
    target = feed.set_target().target_id
    feed.until_tracked()

    assert ros.set_parameter("weights", str(tmp_path / "nowhere")).successful
    ros.until_diagnosed(diagnostics, "model", "cannot change", level=DiagnosticStatus.WARN)
    assert ros.get_parameter("weights") == str(tiny_model), "the parameter tells what runs"
    status = feed.until_tracked()
    assert (status.target_id, status.model) == (target, "asymtrack_lite0")

    assert ros.set_parameters({"model": "auto", "weights": ""}).results[1].successful
    status = ros.until(lambda: (s := feed.move(1)).model_reason and s, "the model that auto chose")
    assert status.target_id == target, "the target is handed over"
    assert status.model
    assert ros.until_diagnosed(diagnostics, "model", status.model, level=DiagnosticStatus.OK)

    both = {"model": "asymtrack_lite0", "weights": str(tiny_model)}
    assert ros.set_parameters(both, atomically=True).result.successful
    ros.until(lambda: not feed.move(1).model_reason, "the model asked for by name")
    assert feed.set_target().success
    feed.until_tracked()


def other_calibration(model, folder):
    """A copy of a model's directory with the calibration of a version that nobody reads."""
    shutil.copytree(model, folder)
    manifest = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    manifest["calibration"] = {"version": 99, "weight": 1.0}
    (folder / "model.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def test_change_to_a_model_with_an_unusable_calibration_leaves_model_and_target(
    feed, running, tiny_model, tmp_path
):
    ros, unusable = feed.ros, other_calibration(tiny_model, tmp_path / "unusable")
    diagnostics = ros.diagnostics()
    target = feed.set_target().target_id
    feed.until_tracked()

    assert ros.set_parameter("weights", str(unusable)).successful
    report = ros.until_diagnosed(diagnostics, "model", "cannot change", level=DiagnosticStatus.WARN)
    assert "calibration" in report.message
    assert "vt-models calibrate" in report.message, "it says what to do"
    assert ros.get_parameter("weights") == str(tiny_model), "the parameter tells what runs"
    status = feed.move(3)
    assert (status.target_id, status.state) == (target, TrackStatus.STATE_TRACKING)
    assert running.alive
    assert "Traceback" not in running.output

    assert ros.change_state(Transition.TRANSITION_DEACTIVATE)
    assert ros.set_parameter("weights", str(unusable)).successful
    ros.until(lambda: ros.get_parameter("weights") == str(tiny_model), "the same while inactive")
    assert ros.change_state(Transition.TRANSITION_ACTIVATE), "the previous model is still there"
    assert feed.set_target().success
    feed.until_tracked()


def test_compressed_images(feed):
    """JPEG and PNG are tracked; one that is cut off is refused and counted."""
    ros = feed.ros
    assert ros.change_state(Transition.TRANSITION_DEACTIVATE)
    assert ros.set_parameter("image_transport", "compressed").successful
    assert ros.change_state(Transition.TRANSITION_ACTIVATE)
    raw = feed.publisher
    feed.publisher = ros.publisher(CompressedImage, "image_raw/compressed", 5)

    def compressed(suffix=".jpg"):
        feed.step += 1
        bgr = cv2.cvtColor(feed.scene.frame(feed.step), cv2.COLOR_RGB2BGR)
        data = cv2.imencode(suffix, bgr)[1].tobytes()
        return CompressedImage(header=feed.header(), format=suffix[1:], data=data)

    feed.answered(message=compressed())
    assert ros.call(SetTarget, "tracker/set_target", feed.request()).success
    for suffix in (".jpg", ".png", ".jpg"):
        feed.assert_on_target(feed.send_message(compressed(suffix), patience=30.0))
    before = feed.status[-1].frames_rejected
    huge = b"\xff\xc0\0\x11\x08" + struct.pack(">HH", 16000, 65500)
    damages = (
        lambda d: d[: len(d) // 2],
        lambda d: b"",
        lambda d: b"no",
        lambda d: re.sub(rb"\xff\xc0.{7}", lambda _: huge, d, flags=re.DOTALL),
    )
    for number, damage in enumerate(damages, 1):
        message = compressed()
        message.data = damage(bytes(message.data))
        status = feed.send_message(message, patience=30.0)
        assert "image refused: compressed image" in status.message
        assert status.frames_rejected == before + number
    assert "1048.0 megapixels; image.max_megapixels is 64" in status.message
    for _ in range(3):
        status = feed.send_message(compressed(), patience=30.0)
    feed.assert_on_target(status)

    assert ros.change_state(Transition.TRANSITION_DEACTIVATE)
    assert ros.set_parameter("image_transport", "raw").successful
    assert ros.change_state(Transition.TRANSITION_ACTIVATE)
    feed.publisher = raw
    ros.until(raw.get_subscription_count, "the subscription")


def undistorted(info, pixel):
    """x, y at distance 1 of a pixel of the full image, by OpenCV."""
    matrix, coefficients = np.reshape(info.k, (3, 3)), np.array(info.d)
    if info.distortion_model == "equidistant":
        return cv2.fisheye.undistortPoints(pixel, matrix, coefficients).ravel()
    exact = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 100, 1e-12)
    undistort = getattr(cv2, "undistortPointsIter", cv2.undistortPoints)
    return undistort(pixel, matrix, coefficients, R=None, P=None, criteria=exact).ravel()


def test_bearing(feed):
    """The direction of the box in the camera's optical frame, with the image's header."""
    ros = feed.ros
    diagnostics = ros.diagnostics()
    bearings = ros.collect(Vector3Stamped, "tracker/bearing")
    assert feed.set_target().success
    assert math.isnan(feed.move(1).azimuth), "there is no camera_info yet"
    info = CameraInfo(width=640, height=480, k=[500.0, 0, 300.0, 0, 510.0, 250.0, 0, 0, 1])
    info.roi = RegionOfInterest(x_offset=160, y_offset=120, width=320, height=240)
    calibration = ros.publisher(CameraInfo, "camera_info", qos_profile_sensor_data)

    def compare():
        """A bearing by this camera_info and OpenCV's; None as long as it is by the previous one."""
        calibration.publish(info)
        status = feed.move(1)
        if not math.isfinite(status.azimuth):
            return None
        bearing = ros.until(
            lambda: next((b for b in bearings if b.header == status.header), None), "~/bearing"
        ).vector
        detection = feed.detection(status).detections[0]
        centre = detection.bbox.center.position
        pixel = np.array([[[centre.x - 0.5 + 160, centre.y - 0.5 + 120]]])
        x, y = undistorted(info, pixel)
        ray = np.array((bearing.x, bearing.y, bearing.z))
        assert np.linalg.norm(ray) == pytest.approx(1.0)
        covariance = box_covariance(detection.results[0].pose.covariance)
        assert (covariance is None) == math.isnan(status.bearing_sigma)
        alike = ray[:2] / ray[2] == pytest.approx((x, y), abs=1e-6)
        return alike and status.azimuth == pytest.approx(math.atan2(x, 1.0), abs=1e-6)

    for lens, coefficients in (
        ("plumb_bob", [-0.2, 0.05, 0.001, 0.002, 0.0]),
        ("equidistant", [-0.02, 0.013, -0.011, 0.002]),
    ):
        info.distortion_model, info.d = lens, coefficients
        ros.until(compare, f"the bearing that OpenCV finds for {lens}")
    ros.until_diagnosed(diagnostics, "bearing", "calibrated", level=DiagnosticStatus.OK)

    info.roi = RegionOfInterest()
    ros.until(lambda: calibration.publish(info) or math.isnan(feed.move(1).azimuth), "no bearing")
    report = ros.until_diagnosed(diagnostics, "bearing", "640x480", level=DiagnosticStatus.WARN)
    assert "but the images have 320x240" in report.message


def described(page, name):
    """The section of a page of docs/ros."""
    text = (Path(__file__).resolve().parents[3] / "docs" / "ros" / page).read_text(encoding="utf-8")
    return text.partition(f"## {name}\n")[2].partition("\n## ")[0] if name else text


def test_docs_name_what_the_node_has(feed):
    """Topics, services, parameters and diagnostics of the running node are in docs/ros."""
    node, page = feed.ros.node, described("README.md", "Node `tracker`")
    own = {"/parameter_events", "/rosout", "/clock"}
    feed.ros.until(lambda: "tracker" in node.get_node_names(), "the name of the node")
    names = {name for name, _ in node.get_publisher_names_and_types_by_node("tracker", "/")}
    names |= {name for name, _ in node.get_subscriber_names_and_types_by_node("tracker", "/")}
    for name in names - own:
        shown = name.replace("/tracker/", "~/") if name.startswith("/tracker/") else name
        assert f"`{shown}`" in page or f"`{shown.lstrip('/')}`" in page, name
    for name, _ in node.get_service_names_and_types_by_node("tracker", "/"):
        shown = name.replace("/tracker/", "~/")
        known = "parameter" in name or "/get_" in name or "type_description" in name
        assert known or f"`{shown}`" in page, name

    reports = feed.ros.diagnostics()
    feed.ros.until(lambda: len(reports()) == 6, "all tasks")
    rows = described("diagnostics.md", "")
    for task, report in reports().items():
        (row,) = [line for line in rows.splitlines() if line.startswith(f"| `{task}`")]
        for value in report.values:
            assert f"`{value.key}`" in row, (task, value.key)

    request = ListParameters.Request()
    declared = feed.ros.call(ListParameters, "tracker/list_parameters", request).result.names
    tables = described("parameters.md", "Node `tracker`")
    listed = re.findall(r"^\| `([^`]+)`", tables, re.MULTILINE)
    foreign = ("use_sim_time", "qos_overrides", "start_type_description_service")
    assert {name for name in declared if not name.startswith(foreign)} == set(listed)


def test_parameters_in_docs_and_in_the_parameter_file_are_those_of_the_code():
    root, hint = Path(__file__).resolve().parents[3], "run `python -m vt_ros.parameter_reference`"
    text = (root / parameter_reference.PARAMETER_FILE).read_text(encoding="utf-8")
    assert text == parameter_reference.parameter_file(), hint
    pages = (
        ("docs/ros/parameters.md", 2),
        ("docs/longterm.md", 1),
        ("docs/robots/qgroundcontrol.md", 1),
    )
    for name, tables in pages:
        page = (root / name).read_text(encoding="utf-8")
        assert name in parameter_reference.PAGES
        assert len(parameter_reference.TABLE.findall(page)) >= tables
        assert page == parameter_reference.with_tables(page), hint
