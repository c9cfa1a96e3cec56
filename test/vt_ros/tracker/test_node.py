# SPDX-License-Identifier: Apache-2.0
"""The tracker node in a process of its own, fed by this test."""

from __future__ import annotations

import itertools
import math
import signal
import threading
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import cv2
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import GetState
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters, ListParameters
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from vision_msgs.msg import Point2D

from vt_interfaces.msg import TrackStatus
from vt_interfaces.srv import SetTarget
from vt_models.video.image_messages import CompressedReader
from vt_ros.common.convert import (
    array_to_image,
    bounding_box_from_xywh,
    xywh_from_bounding_box,
)

pytestmark = pytest.mark.ros

TRACKING, COASTING, LOST, IDLE = (
    TrackStatus.STATE_TRACKING,
    TrackStatus.STATE_COASTING,
    TrackStatus.STATE_LOST,
    TrackStatus.STATE_IDLE,
)
Answer = SetTarget.Response


LIVE = {
    "target.coast_frames": 15,
    "set_target_timeout": 5.0,
    "debug_image.scale": 1.0,
    "debug_image.rate": 10.0,
}


@pytest.fixture(scope="module")
def running(shared_ros, tiny_model):
    """One active tracker for all tests that only need one; starting it takes seconds."""
    return shared_ros.start_tracker(tiny_model, set_target_timeout=5.0)


@pytest.fixture
def start(running, guest, scene):
    """Set live parameters of the running tracker; its feed. Afterwards all is as before."""

    def start(**parameters):
        for name, value in parameters.items():
            assert guest.set_parameter(name.replace("__", "."), value).successful
        return guest.feed(scene)

    yield start
    assert running.alive, running.output
    for name, value in LIVE.items():
        assert guest.set_parameter(name, value).successful
    guest.call(Trigger, "tracker/clear_target")


def test_follows_a_moving_target(ros, tiny_model, scene):
    ros.start_tracker(tiny_model, set_target_timeout=5.0)
    feed = ros.feed(scene)
    idle = feed.answered()
    assert (idle.state, idle.target_id, idle.score, idle.inference_ms) == (IDLE, 0, 0.0, 0.0)
    assert not feed.detection(idle).detections
    assert idle.model == "asymtrack_lite0"

    answer = feed.set_target()
    assert answer.success, answer.message
    assert (answer.error_code, answer.target_id) == (Answer.ERROR_NONE, 1)
    assert xywh_from_bounding_box(answer.box) == feed.scene.box(feed.step)
    assert answer.header.frame_id == "optical"

    for _ in range(25):
        feed.assert_on_target(feed.move(1))
    last = feed.status[-1]
    assert last.target_id == 1
    assert 0.5 < last.score <= 1.0
    assert last.inference_ms > 0.0
    detection = feed.detection(last).detections[0]
    assert detection.header == last.header
    assert detection.id == "1"
    assert detection.results[0].hypothesis.class_id == "target"
    assert detection.results[0].hypothesis.score == pytest.approx(last.score)
    stamps = {(s.header.stamp.sec, s.header.stamp.nanosec) for s in feed.status}
    assert last.frames_processed == len(stamps)


def test_target_that_disappears_coasts_is_lost_and_is_detected_again(start):
    feed = start(target__coast_frames=3)
    assert feed.set_target().success
    feed.assert_on_target(feed.move(5))
    states = [feed.answered(feed.scene.empty()) for _ in range(6)]
    assert [status.state for status in states] == [COASTING] * 3 + [LOST] * 3
    detections = [feed.detection(status).detections for status in states]
    assert [len(found) for found in detections] == [1, 1, 1, 0, 0, 0]
    for (predicted,) in detections[:3]:
        assert predicted.results[0].hypothesis.class_id == "coasting"
    assert states[0].message

    assert feed.until_tracked().target_id == states[0].target_id


@pytest.mark.parametrize("stamp", [0, 5_000_000_000])
def test_image_age(start, stamp):
    feed = start()
    message = array_to_image(feed.scene.frame(0), Header())
    sec = stamp and int(time.time()) - stamp // 1_000_000_000

    def attempt():
        message.header = Header(stamp=Time(sec=sec, nanosec=0))
        return feed.send_message(message)

    age = feed.ros.until(attempt, "a status").image_age_ms
    if stamp:
        assert 4000.0 < age < 65000.0
    else:
        assert math.isnan(age)


BAD_BOXES = {
    "nan": (math.nan, 10.0, 40.0, 40.0),
    "infinite": (10.0, 10.0, math.inf, 40.0),
    "no width": (10.0, 10.0, 0.0, 40.0),
    "negative": (10.0, 10.0, 40.0, -40.0),
    "right of the image": (320.0, 10.0, 40.0, 40.0),
    "above the image": (10.0, -80.0, 40.0, 40.0),
    "beyond all images": (1e9, 1e9, 1e9, 1e9),
}


def test_refused_request_leaves_the_target_alone(start):
    feed = start()
    target = feed.set_target().target_id
    assert target
    for name, box in BAD_BOXES.items():
        answer = feed.set_target(box)
        assert not answer.success, name
        assert answer.error_code == Answer.ERROR_INVALID_BOX, name
        assert answer.message, name
        assert answer.target_id == 0, name
    for fields, code in (
        ({"mode": SetTarget.Request.MODE_TEXT, "text": "the red square"}, 4),
        ({"mode": SetTarget.Request.MODE_BOX_AND_TEXT, "text": "the red square"}, 4),
        ({"mode": SetTarget.Request.MODE_POINT, "point": Point2D(x=math.nan)}, 5),
        ({"mode": 99}, Answer.ERROR_INVALID_MODE),
        ({"stamp": Time(sec=5)}, Answer.ERROR_STAMP_NOT_FOUND),
    ):
        answer = feed.set_target(**fields)
        assert (answer.success, answer.error_code) == (False, code), answer
    assert "grounding.backend is none" in feed.set_target(mode=2, text="it").message
    assert "asymtrack_lite0 takes no text" in feed.set_target(mode=3, text="it").message
    status = feed.move(3)
    feed.assert_on_target(status)
    assert status.target_id == target


def test_request_with_a_stamp_starts_on_that_frame(start):
    feed = start()
    status = feed.answered()
    answer = feed.ros.call(SetTarget, "tracker/set_target", feed.request(stamp=status.header.stamp))
    assert answer.success, answer.message
    assert answer.header == status.header
    feed.assert_on_target(feed.move(2))


def test_request_waits_for_the_frame_of_its_stamp(start):
    feed = start(set_target_timeout=60.0)
    message = array_to_image(feed.scene.frame(feed.step), feed.header())
    request = feed.request(stamp=message.header.stamp)
    future = feed.ros.call_async(SetTarget, "tracker/set_target", request)
    time.sleep(0.3)
    assert not future.done()
    feed.ros.until(lambda: feed.send_message(message), "the status")
    answer = feed.ros.finish(future, "set_target")
    assert answer.success, answer.message
    assert answer.header == message.header


def test_request_without_images_is_refused_in_time(ros, tiny_model):
    ros.start_tracker(tiny_model, set_target_timeout=0.3)
    ros.until(lambda: ros.node.count_subscribers("image_raw"), "an active tracker")
    request = SetTarget.Request(box=bounding_box_from_xywh((10.0, 10.0, 20.0, 20.0)))
    answer = ros.call(SetTarget, "tracker/set_target", request)
    assert (answer.success, answer.error_code) == (False, Answer.ERROR_NO_IMAGE)
    assert "0.3 s" in answer.message


def test_request_after_the_camera_stopped_is_refused(start):
    feed = start(set_target_timeout=0.3)
    feed.answered()
    time.sleep(1.0)
    answer = feed.ros.call(SetTarget, "tracker/set_target", feed.request())
    assert (answer.success, answer.error_code) == (False, Answer.ERROR_NO_IMAGE)
    assert "ago" in answer.message


def test_clear_target(start):
    feed = start()
    answer = feed.ros.call(Trigger, "tracker/clear_target")
    assert (answer.success, answer.message) == (True, "there was no target")
    target = feed.set_target().target_id
    answer = feed.ros.call(Trigger, "tracker/clear_target")
    assert (answer.success, answer.message) == (True, f"target {target} cleared")
    status = feed.answered()
    assert (status.state, status.target_id) == (IDLE, 0)
    assert not feed.detection(status).detections
    assert feed.set_target().target_id == target + 1


def test_unreadable_images_are_counted_and_good_ones_tracked_after_them(start):
    feed = start()
    target = feed.set_target().target_id
    before = feed.answered().frames_rejected
    for name, value in (
        ("encoding", "mono16"),
        ("encoding", "nonsense"),
        ("step", 3),
        ("height", 0),
        ("width", 2**32 - 1),
        ("data", bytes(7)),
        ("data", b""),
    ):
        bad = array_to_image(feed.scene.frame(feed.step), Header())
        setattr(bad, name, value)
        status = feed.answered(message=bad)
        assert "image refused" in status.message, name
        assert status.state == COASTING
        (predicted,) = feed.detection(status).detections
        assert predicted.results[0].hypothesis.class_id == "coasting"
        feed.assert_on_target(feed.move(2))
    status = feed.answered()
    assert status.frames_rejected >= before + 7
    assert status.target_id == target
    assert "image refused" in feed.ros.logs()


def test_bytes_that_are_no_message_do_no_harm(start):
    feed = start()
    for garbage in (b"\x00", b"\x00\x01\x00\x00", bytes(40), b"\xff" * 64, bytes(range(256))):
        feed.publisher.publish(garbage)
    assert feed.answered().state == IDLE


@pytest.mark.parametrize("encoding", ["bgr8", "mono8", "nv12"])
def test_other_encodings_arrive_in_the_right_colours(start, encoding):
    """Frames of another encoding must still show the target that was set on an rgb8 frame."""
    feed = start()
    frame = feed.scene.frame(feed.step)
    header, size = Header(), {"width": 320, "height": 240}
    if encoding == "nv12":
        yuv = cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420)
        chroma = yuv[240:].reshape(2, -1).T.ravel()
        data = yuv[:240].tobytes() + chroma.tobytes()
        message = Image(encoding="nv12", step=320, data=data, **size)
    elif encoding == "mono8":
        message = array_to_image(frame[:, :, 0].copy(), header, "mono8")
    else:
        message = array_to_image(frame[:, :, ::-1], header, "bgr8")
    if encoding == "mono8":
        feed.answered(message=message)
        answer = feed.ros.call(SetTarget, "tracker/set_target", feed.request())
        assert answer.success
    else:
        assert feed.set_target().success
    feed.assert_on_target(feed.answered(message=message))


def test_services_answer_while_a_frame_is_processed(ros, slow_model, scene):
    """The slow network keeps the tracking thread busy; no service waits for that."""
    ros.start_tracker(slow_model, set_target_timeout=30.0)
    feed = ros.feed(scene)
    assert feed.set_target().success
    stop = threading.Event()

    def flood():
        for step in itertools.count():
            if stop.wait(0.02):
                return
            feed.publisher.publish(array_to_image(feed.scene.frame(step), feed.header()))

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        ros.until(
            lambda: next((s for s in feed.status if s.inference_ms > 20.0), None), "a slow frame"
        )
        for _ in range(20):
            assert ros.call(GetState, "tracker/get_state").current_state.id == 3
        number = 1
        for _ in range(3):
            answer = ros.call(SetTarget, "tracker/set_target", feed.request())
            assert answer.success, answer.message
            number += 1
            assert answer.target_id == number
        assert ros.call(Trigger, "tracker/clear_target").message == f"target {number} cleared"
    finally:
        stop.set()
        thread.join()
    assert feed.status[-1].frames_dropped > 0


def test_debug_image_is_drawn_while_there_is_a_subscriber(start):
    feed = start(debug_image__scale=0.5, debug_image__rate=0.0)
    assert feed.set_target().success
    images = feed.ros.collect(Image, "tracker/debug_image", 1)
    feed.ros.until(lambda: feed.move(1) and images, "a debug image")
    image = images[-1]
    assert (image.width, image.height, image.encoding) == (160, 120, "rgb8")
    assert image.header in [status.header for status in feed.status]
    pixels = np.frombuffer(image.data, np.uint8).reshape(120, 160, 3)
    assert (pixels == (60, 220, 60)).all(-1).any(), "no green box"
    jpegs = feed.ros.collect(CompressedImage, "tracker/debug_image/compressed", 1)
    feed.ros.until(lambda: feed.move(1) and jpegs, "a compressed debug image")
    assert CompressedReader().read(jpegs[-1]).shape == (120, 160, 3)


def test_lifecycle_from_outside(ros, tiny_model, scene):
    ros.start_tracker(tiny_model, autostart=False)
    assert ros.state() == State.PRIMARY_STATE_UNCONFIGURED
    request = SetTarget.Request(box=bounding_box_from_xywh(scene.box(0)))
    for transition in (None, Transition.TRANSITION_CONFIGURE):
        if transition is not None:
            assert ros.change_state(transition)
        answer = ros.call(SetTarget, "tracker/set_target", request)
        assert (answer.success, answer.error_code) == (False, Answer.ERROR_NOT_ACTIVE)
        assert not ros.call(Trigger, "tracker/clear_target").success
        assert ros.node.count_subscribers("image_raw") == 0
    assert ros.state() == State.PRIMARY_STATE_INACTIVE
    assert not ros.change_state(Transition.TRANSITION_CONFIGURE), "there is no such transition"

    for _ in range(2):
        assert ros.change_state(Transition.TRANSITION_ACTIVATE)
        feed = ros.feed(scene)
        assert feed.answered().state == IDLE
        assert feed.set_target().success
        feed.assert_on_target(feed.move(2))
        assert ros.change_state(Transition.TRANSITION_DEACTIVATE)
        assert ros.state() == State.PRIMARY_STATE_INACTIVE
        before = len(feed.status)
        feed.send(patience=0.3)
        assert len(feed.status) == before, "an inactive tracker works"
        assert ros.change_state(Transition.TRANSITION_CLEANUP)
        assert ros.state() == State.PRIMARY_STATE_UNCONFIGURED
        assert ros.change_state(Transition.TRANSITION_CONFIGURE)
        ros.node.destroy_publisher(feed.publisher)
    assert feed.status[-1].target_id == 2, "numbers of targets go on"
    assert ros.change_state(Transition.TRANSITION_INACTIVE_SHUTDOWN)
    assert ros.state() == State.PRIMARY_STATE_FINALIZED


def test_deactivate_answers_a_request_that_waits(ros, tiny_model):
    ros.start_tracker(tiny_model, set_target_timeout=60.0)
    ros.until(lambda: ros.node.count_subscribers("image_raw"), "an active tracker")
    request = SetTarget.Request(box=bounding_box_from_xywh((10.0, 10.0, 20.0, 20.0)))
    future = ros.call_async(SetTarget, "tracker/set_target", request)
    time.sleep(0.3)
    assert ros.change_state(Transition.TRANSITION_DEACTIVATE)
    assert ros.finish(future, "set_target").error_code == Answer.ERROR_NOT_ACTIVE


def test_configure_with_a_model_that_cannot_be_loaded_can_be_corrected(ros, tiny_model, tmp_path):
    diagnostics = ros.diagnostics()
    process = ros.start("tracker", autostart=True, model="asymtrack_lite9")
    ros.until(lambda: "autostart ended" in process.output, "the failure in the log")
    assert "no model called 'asymtrack_lite9'" in process.output
    assert ros.state() == State.PRIMARY_STATE_UNCONFIGURED
    answer = ros.call(SetTarget, "tracker/set_target")
    assert answer.error_code == Answer.ERROR_NOT_ACTIVE
    assert "unconfigured, not active; cannot configure: no model called" in answer.message
    ros.until(lambda: process.output.count("no model called") > 1, "a reminder in the log")

    assert ros.set_parameter("model", "asymtrack_lite0").successful
    assert ros.set_parameter("weights", str(tmp_path / "nowhere")).successful
    assert not ros.change_state(Transition.TRANSITION_CONFIGURE)
    assert "nowhere do not exist" in process.output
    ros.until_diagnosed(
        diagnostics, "lifecycle", "cannot configure", "nowhere", level=DiagnosticStatus.ERROR
    )
    assert ros.state() == State.PRIMARY_STATE_UNCONFIGURED

    assert ros.set_parameter("weights", str(tiny_model)).successful
    assert ros.change_state(Transition.TRANSITION_CONFIGURE)
    ros.until_diagnosed(diagnostics, "lifecycle", "inactive", level=DiagnosticStatus.OK)
    assert ros.change_state(Transition.TRANSITION_ACTIVATE)


def test_activate_that_fails_leads_back_with_a_reason(ros, tiny_model):
    """And leaves nothing behind: the node can be cleaned up and go on."""
    diagnostics = ros.diagnostics()
    nonsense = {"qos_overrides./image_raw.subscription.reliability": "sometimes"}
    process = ros.start_tracker(tiny_model, autostart=False, **nonsense)
    assert ros.change_state(Transition.TRANSITION_CONFIGURE)
    for _ in range(2):
        assert not ros.change_state(Transition.TRANSITION_ACTIVATE)
        assert ros.state() == State.PRIMARY_STATE_INACTIVE
    assert "cannot activate" in process.output
    assert "sometimes" in process.output
    ros.until_diagnosed(
        diagnostics, "lifecycle", "cannot activate", "sometimes", level=DiagnosticStatus.ERROR
    )
    assert ros.node.count_subscribers("image_raw") == 0
    assert ros.change_state(Transition.TRANSITION_CLEANUP)
    ros.until_diagnosed(diagnostics, "lifecycle", "unconfigured", level=DiagnosticStatus.OK)


def test_parameters(start):
    feed = start()
    ros = feed.ros
    for name, value, reason in (
        ("model", "asymtrack_x", "no model called 'asymtrack_x'"),
        ("update", "nan", "has no dynamic template, so update='nan' means nothing"),
        ("update", math.nan, "type"),
        ("device", "abacus", "expected one of auto, cpu"),
        ("image_transport", "compressed", "image_transport cannot change now; deactivate"),
        ("autostart", False, "read-only"),
        ("target.track_threshold", 1.5, "range"),
        ("target.confirm_frames", 0, "range"),
        ("target.track_threshold", "high", "type"),
        ("target.track_threshold", 0.1, "above track_threshold"),
        ("debug_image.scale", 0.0, "range"),
    ):
        result = ros.set_parameter(name, value)
        assert not result.successful, name
        assert reason in result.reason, (name, result.reason)
    assert ros.set_parameter("target.coast_frames", 0).successful
    assert feed.set_target().success
    assert feed.answered(feed.scene.empty()).state == LOST, "the new rule counts at once"

    together = {"target.doubt_threshold": 0.1, "target.track_threshold": 2.0}
    assert not ros.set_parameters(together, atomically=True).result.successful
    assert ros.get_parameter("target.doubt_threshold") == 0.2, "one of two was taken"

    names = ros.call(ListParameters, "tracker/list_parameters").result.names
    own = [name for name in names if not name.startswith(("use_sim_time", "qos", "start_type"))]
    request = DescribeParameters.Request(names=own)
    descriptors = ros.call(DescribeParameters, "tracker/describe_parameters", request).descriptors
    for descriptor in descriptors:
        assert descriptor.description, descriptor.name
        if descriptor.type == ParameterType.PARAMETER_DOUBLE:
            assert descriptor.floating_point_range, descriptor.name
        if descriptor.type == ParameterType.PARAMETER_INTEGER:
            assert descriptor.integer_range, descriptor.name


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"device": "abacus"}, "expected one of auto, cpu"),
        ({"target__redetection_frames": 0}, "target.redetection_frames"),
        ({"target__track_threshold": "high"}, "target.track_threshold"),
        ({"target__doubt_threshold": 0.9}, "above track_threshold"),
        ({"target__find_frames": 0}, "target.redetection_frames"),
        ({"ring__megabytes": "much"}, "frame_buffer.megabytes"),
    ],
)
def test_wrong_parameter_at_start_is_one_sentence(ros, parameters, reason):
    process = ros.start("tracker", **parameters)
    assert process.wait() == 2
    assert reason in process.output
    assert "Traceback" not in process.output


OLD_NAMES = {
    "target.find_threshold": "target.redetection_threshold",
    "target.find_likeness": "target.redetection_similarity",
    "target.find_frames": "target.redetection_frames",
    "ring.seconds": "frame_buffer.seconds",
    "ring.megabytes": "frame_buffer.megabytes",
}


def said(process, old):
    """How often a process has named the new name of a parameter."""
    return process.output.count(f"the parameter {old} is now called {OLD_NAMES[old]};")


def test_old_names_of_parameters_at_start_count_with_one_warning_each(ros, tiny_model, tmp_path):
    """By `-p` and by a file; a new name that is given too counts instead, and that is said."""
    file = tmp_path / "old.yaml"
    lines = ["target.find_frames: 4", "ring.seconds: 1.5", "ring.megabytes: 64"]
    file.write_text("\n".join(["tracker:", "  ros__parameters:", *(f"    {x}" for x in lines)]))
    process = ros.start(
        "tracker",
        "--ros-args",
        "--params-file",
        str(file),
        weights=str(tiny_model),
        target__find_threshold=0.45,
        target__find_likeness=0.35,
        target__redetection_similarity=0.3,
    )
    ros.until(lambda: ros.state() == State.PRIMARY_STATE_ACTIVE, "the active tracker")
    expected = dict(zip(OLD_NAMES.values(), (0.45, 0.3, 4, 1.5, 64), strict=True))
    assert {name: ros.get_parameter(name) for name in expected} == expected
    assert [said(process, old) for old in OLD_NAMES] == [1, 0, 1, 1, 1]
    assert (
        "both target.find_likeness and target.redetection_similarity are given; "
        "target.redetection_similarity counts"
    ) in process.output


def test_old_name_of_a_parameter_at_run_time_sets_the_new_one(ros, tiny_model):
    process = ros.start("tracker", weights=str(tiny_model))
    ros.until(lambda: ros.state() == State.PRIMARY_STATE_ACTIVE, "the active tracker")
    for value in (0.5, 0.6):
        assert ros.set_parameter("target.find_threshold", value).successful
        assert ros.get_parameter("target.redetection_threshold") == value
    assert said(process, "target.find_threshold") == 1, "one warning, however often it is used"

    refused = ros.set_parameter("target.find_threshold", 1.5)
    assert not refused.successful
    assert "target.redetection_threshold out of range" in refused.reason
    refused = ros.set_parameter("ring.seconds", 1.0)
    assert "frame_buffer.seconds may not change since the node has been active" in refused.reason
    assert "undeclared" in ros.set_parameter("target.find_everything", 1).reason

    both = {"target.redetection_frames": 3, "target.find_frames": 7, "target.find_threshold": 0.65}
    assert ros.set_parameters(both, atomically=True).result.successful
    assert ros.get_parameter("target.redetection_frames") == 3, "the new name counts"
    assert ros.get_parameter("target.redetection_threshold") == 0.65, "the others count too"
    assert "both target.find_frames and target.redetection_frames are given" in process.output


@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM"])
def test_ends_well_by_a_signal_while_tracking(ros, slow_model, scene, signal_name):
    process = ros.start_tracker(slow_model, set_target_timeout=30.0)
    feed = ros.feed(scene)
    assert feed.set_target().success
    feed.send(patience=0.02)
    process.send(getattr(signal, signal_name))
    assert process.wait() == 0, process.output
    assert "Traceback" not in process.output


@pytest.mark.ros
def test_images_lost_on_the_way_are_diagnosed(ros, tiny_model, tmp_path, monkeypatch):
    """As most large ones are where the camera's process has no profile for Fast DDS."""
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE")
    image = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "0.bmp"), image)
    newest = ros.diagnostics()
    ros.start_tracker(tiny_model)
    ros.start(
        "camera", source=str(tmp_path), loop=True, rate=20.0, image_qos__reliability="best_effort"
    )
    report = ros.until_diagnosed(newest, "images", "were lost on the way", level=b"\x01")
    assert "config/fastdds.xml" in report.message
