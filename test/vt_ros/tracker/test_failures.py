# SPDX-License-Identifier: Apache-2.0
"""What goes wrong around a robot, by name: the tracker survives, says what happened, tracks again.

One tracker in a process of its own serves all tests but the last.
"""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from vt_interfaces.msg import TrackStatus
from vt_interfaces.srv import SetTarget
from vt_models.video.image_messages import ENCODINGS
from vt_ros.common.convert import array_to_image, bounding_box_from_xywh

pytestmark = pytest.mark.ros

TRACKING, COASTING, LOST, IDLE = (
    TrackStatus.STATE_TRACKING,
    TrackStatus.STATE_COASTING,
    TrackStatus.STATE_LOST,
    TrackStatus.STATE_IDLE,
)
Answer = SetTarget.Response
RELIABLE = QoSProfile(depth=50)


@pytest.fixture(scope="module")
def running(shared_ros, tiny_model):
    """The tracker; a reliable input, so that a test knows what arrived."""
    return shared_ros.start_tracker(
        tiny_model,
        set_target_timeout=5.0,
        image_timeout=1.0,
        image_qos__reliability="reliable",
        image_qos__depth=5,
        locked=[""],
    )


@pytest.fixture
def feed(running, guest, scene):
    """Images for the tracker, which has a target; afterwards it has none, and is still there."""
    feed = guest.feed(scene, qos=RELIABLE)
    feed.diagnostics = guest.diagnostics()
    assert feed.set_target().success
    feed.until_tracked()
    yield feed
    assert running.alive, running.output
    assert "Traceback" not in running.output
    guest.call(Trigger, "tracker/clear_target")


@pytest.fixture
def slow(feed, slow_model, tiny_model):
    """The tracker with a slow network; the present target is handed over."""
    ros, target = feed.ros, feed.status[-1].target_id
    assert ros.set_parameter("weights", str(slow_model)).successful
    handed_over = ros.until(lambda: (s := feed.move(1)).inference_ms > 20.0 and s, "the slow model")
    assert handed_over.target_id == target
    yield feed
    assert ros.set_parameter("weights", str(tiny_model)).successful
    ros.until_diagnosed(feed.diagnostics, "model", level=DiagnosticStatus.OK)
    assert feed.set_target().success
    feed.until_tracked()


def test_overload(slow):
    """A camera three times faster than the network: the age stays, frames are dropped, counted."""
    ros, feed = slow.ros, type(slow)(slow.ros, slow.scene, qos=RELIABLE, real_time=True)
    feed.step = slow.step
    first = feed.answered()
    interval = min(feed.move(1).inference_ms for _ in range(4)) / 1000.0 / 3
    feed.status.clear()
    for _ in range(18):
        feed.step += 1
        feed.send(patience=0.0)
        time.sleep(interval)
    last = feed.answered()
    longest = max(status.inference_ms for status in feed.status)
    ages = [status.image_age_ms for status in feed.status]
    # It waits for one inference and takes another. A queue would end at an age of some 12.
    assert max(ages) <= 2 * longest + 300.0, (ages, longest)
    dropped = last.frames_dropped - first.frames_dropped
    assert dropped >= 4, (interval, longest, len(ages))

    def told():
        values = ros.values(slow.diagnostics, "images") | ros.values(slow.diagnostics, "model")
        ages = {"image age ms mean", "image age ms max", "inference ms mean", "inference ms max"}
        return int(values.get("dropped", 0)) >= dropped and ages <= set(values)

    ros.until(told, "dropped frames, ages and inference times in the diagnostics")


def test_covered_lens(feed):
    """Dark frames end in LOST within a stated number of frames, and never in TRACKING."""
    noise = np.random.default_rng(5)
    states = []
    for _ in range(20):
        dark = noise.integers(0, 4, (240, 320, 3), np.uint8)
        states.append(feed.answered(dark).state)
    assert set(states[:15]) <= {COASTING, LOST}
    assert set(states[16:]) == {LOST}
    assert "dark" in feed.status[-1].message
    assert not feed.detection(feed.status[-1]).detections
    feed.ros.until_diagnosed(feed.diagnostics, "target", "LOST", level=DiagnosticStatus.WARN)
    feed.until_tracked()


def test_camera_dies_and_returns(feed, tmp_path):
    """A camera process is killed and started again: said in /diagnostics, and found again."""
    ros, scene = feed.ros, feed.scene
    for step in range(90):
        bgr = cv2.cvtColor(scene.frame(feed.step), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(tmp_path / f"{step:03d}.png"), bgr)
        feed.step += 1
    camera = ros.start("camera", source=str(tmp_path), loop=True, rate=20.0)
    count = len(feed.status)
    ros.until(lambda: len(feed.status) > count + 5, "images of the camera")
    camera.send(signal.SIGKILL)
    assert camera.wait() == -signal.SIGKILL
    ros.node.destroy_publisher(feed.publisher)
    report = ros.until_diagnosed(
        feed.diagnostics, "images", "no image for", level=DiagnosticStatus.ERROR
    )
    assert "nobody publishes" in report.message or "silent" in report.message
    silent = len(feed.status)
    ros.start("camera", source=str(tmp_path), loop=True, rate=20.0)
    ros.until(lambda: len(feed.status) > silent, "images again")
    ros.until(lambda: feed.status[-1].state == TRACKING, "the target to be tracked again")
    ros.until_diagnosed(feed.diagnostics, "images", "in the last second", level=DiagnosticStatus.OK)
    ros.processes.remove(camera)


def test_incompatible_qos(feed):
    """A best-effort camera and a reliable input: no image ever comes, and it is said why."""
    ros = feed.ros
    ros.node.destroy_publisher(feed.publisher)
    camera = ros.node.create_publisher(Image, "image_raw", qos_profile_sensor_data)
    report = ros.until_diagnosed(
        feed.diagnostics, "images", "no image for", "RELIABILITY", level=DiagnosticStatus.ERROR
    )
    assert "image_qos" in report.message
    ros.node.destroy_publisher(camera)
    feed.publisher = ros.publisher(Image, "image_raw", RELIABLE)
    feed.until_tracked()


def test_images_under_another_type_or_topic(feed):
    """Nobody calls such a camera silent: it is said what it publishes, and how to take it."""
    ros = feed.ros
    ros.node.destroy_publisher(feed.publisher)
    context = rclpy.Context()  # a process that reads image_raw cannot give it another type
    rclpy.init(context=context, domain_id=ros.domain)
    camera = rclpy.create_node("camera", context=context)
    for topic, remedy in (
        ("image_raw/compressed", "set image_transport to compressed and remap image_raw to"),
        ("image_raw", "compressed images are expected on /image_raw/compressed"),
    ):
        publisher = camera.create_publisher(CompressedImage, topic, qos_profile_sensor_data)
        words = (f"/{topic} carries sensor_msgs/msg/CompressedImage", remedy)
        report = ros.until_diagnosed(feed.diagnostics, "images", "no image for", *words)
        assert "silent" not in report.message
        camera.destroy_publisher(publisher)
    camera.destroy_node()
    rclpy.shutdown(context=context)
    feed.publisher = ros.publisher(Image, "image_raw", RELIABLE)
    feed.until_tracked()


NUMBERS = st.one_of(st.integers(0, 400), st.sampled_from([2**16, 2**31, 2**32 - 1]))


@st.composite
def images(draw):
    """Image messages of which hardly one is right."""
    return Image(
        encoding=draw(
            st.one_of(st.sampled_from(ENCODINGS), st.sampled_from(["", "mono16", "32FC1"]))
        )
        if draw(st.booleans())
        else draw(st.text(max_size=8)).replace("\0", ""),
        width=draw(NUMBERS),
        height=draw(NUMBERS),
        step=draw(NUMBERS),
        is_bigendian=draw(st.integers(0, 255)),
        data=bytes(draw(st.integers(0, 3000))),
    )


@st.composite
def nearly_right_images(draw):
    """Images that are right but for one number, or one byte."""
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    image = array_to_image(np.zeros((height, width, 3), np.uint8), Header())
    spoilt = draw(st.sampled_from(["width", "height", "step", "data", "encoding"]))
    if spoilt == "data":
        longer = draw(st.booleans())
        image.data = bytes(len(image.data) + 1) if longer else bytes(image.data)[:-1]
    elif spoilt == "encoding":
        image.encoding = draw(st.sampled_from(["rgb16", "RGB8", "rgba8", "nv21", "rgb8 "]))
    else:
        setattr(image, spoilt, getattr(image, spoilt) + draw(st.sampled_from([-1, 2])))
    return image


def test_malformed_images(feed):
    """Each gets an answer; none ends the node or moves the target; the next good one is tracked."""
    refused = []

    @settings(max_examples=40, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(image=st.one_of(images(), nearly_right_images()))
    def publish(image):
        status = feed.answered(message=image)
        refused.append("image refused" in status.message)
        assert status.state in (COASTING, LOST)

    target = feed.status[-1].target_id
    publish()
    assert sum(refused) > 30
    feed.ros.until_diagnosed(feed.diagnostics, "images", "refused", level=DiagnosticStatus.WARN)
    assert feed.until_tracked().target_id == target


NAN, INFINITE = math.nan, math.inf
BAD_BOXES = {
    "not a number": (NAN, 10.0, 40.0, 40.0),
    "infinite": (10.0, 10.0, INFINITE, 40.0),
    "negative": (100.0, 100.0, -40.0, 40.0),
    "empty": (100.0, 100.0, 0.0, 0.0),
    "one pixel": (100.0, 100.0, 1.0, 1.0),
    "outside": (900.0, 900.0, 40.0, 40.0),
}


def test_bad_requests(feed):
    """Refused with a reason; the present target stays. Asked twice, two targets start."""
    ros = feed.ros
    target = feed.status[-1].target_id
    for name, box in BAD_BOXES.items():
        answer = feed.set_target(box)
        assert (answer.success, answer.error_code) == (False, Answer.ERROR_INVALID_BOX), name
        assert answer.message, name
    assert feed.until_tracked().target_id == target
    assert [feed.set_target().target_id for _ in range(2)] == [target + 1, target + 2]
    assert feed.until_tracked().target_id == target + 2

    assert ros.change_state(Transition.TRANSITION_DEACTIVATE)
    answer = ros.call(SetTarget, "tracker/set_target", feed.request())
    assert answer.error_code == Answer.ERROR_NOT_ACTIVE
    assert ros.set_parameter("set_target_timeout", 0.2).successful
    assert ros.change_state(Transition.TRANSITION_ACTIVATE)
    answer = ros.call(SetTarget, "tracker/set_target", feed.request())
    assert answer.error_code == Answer.ERROR_NO_IMAGE, "before the first image"
    assert ros.set_parameter("set_target_timeout", 5.0).successful
    ros.until(feed.publisher.get_subscription_count, "the subscription")
    assert feed.set_target().success
    feed.until_tracked()


def test_flood_of_bad_requests_does_not_fill_the_log(feed):
    ros = feed.ros
    log, begin = ros.hosts[0], time.monotonic()
    before = log.output.count("refused: box")
    client = ros.node.create_client(SetTarget, "tracker/set_target")
    assert client.wait_for_service(60.0)
    time.sleep(1.0)  # the server knows a client a little later than that knows the server
    bad = SetTarget.Request(box=bounding_box_from_xywh(BAD_BOXES["negative"]))
    answers = [client.call_async(bad) for _ in range(200)]
    ros.until(lambda: all(answer.done() for answer in answers), "200 answers")
    lines = log.output.count("refused: box") - before
    assert 0 < lines <= 10 * (time.monotonic() - begin) + 1
    ros.node.destroy_client(client)


def memory_of(process):
    """Megabytes that a process holds."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (resident,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return int(resident) / 1024


def test_forty_clients_at_once(feed):
    """None is left without an answer, neither for its request nor among the responses to others."""
    ros = feed.ros
    clients = [ros.node.create_client(SetTarget, "tracker/set_target") for _ in range(40)]
    ros.until(lambda: ros.node.count_clients("/tracker/set_target") >= 40, "all clients")
    assert all(client.wait_for_service(60.0) for client in clients)
    time.sleep(1.0)  # the server knows a client a little later than that knows the server
    before = memory_of(ros.hosts[0])
    answers = [client.call_async(feed.request()) for client in clients]
    ros.until(lambda: feed.answered() and all(a.done() for a in answers), "40 answers")
    assert memory_of(ros.hosts[0]) - before < 50
    codes = {answer.result().error_code for answer in answers}
    assert codes <= {Answer.ERROR_NONE, Answer.ERROR_CANCELLED, Answer.ERROR_NO_IMAGE}
    for client in clients:
        ros.node.destroy_client(client)
    assert feed.set_target().success
    feed.until_tracked()


def test_bad_requests_during_loading(feed, tiny_model):
    """While a model is loaded everything is answered: here torch, which takes seconds."""
    pytest.importorskip("timm", reason="the slow backend needs the training packages")
    ros = feed.ros
    assert ros.change_state(Transition.TRANSITION_DEACTIVATE)
    assert ros.change_state(Transition.TRANSITION_CLEANUP)
    assert ros.set_parameters({"backend": "torch", "weights": ""}).results[1].successful
    configured = ros.configure_async()
    ros.until_diagnosed(feed.diagnostics, "lifecycle", "loading")
    answer = ros.call(SetTarget, "tracker/set_target", feed.request())
    if not configured.done():
        assert answer.error_code == Answer.ERROR_NOT_ACTIVE
        assert "is being loaded" in answer.message
        assert ros.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert ros.finish(configured, "configure").success
    assert ros.change_state(Transition.TRANSITION_CLEANUP)
    assert ros.set_parameters({"backend": "onnxruntime", "weights": str(tiny_model)})
    assert ros.change_state(Transition.TRANSITION_CONFIGURE)
    assert ros.change_state(Transition.TRANSITION_ACTIVATE)
    ros.until(feed.publisher.get_subscription_count, "the subscription")
    assert feed.set_target().success
    feed.until_tracked()


def stamped(feed, nanoseconds, frame_id="optical"):
    seconds, nanosec = divmod(nanoseconds, 1_000_000_000)
    header = Header(stamp=Time(sec=seconds, nanosec=nanosec), frame_id=frame_id)
    feed.step += 1
    return array_to_image(feed.scene.frame(feed.step), header)


def test_clock_jump(feed):
    """Stamps that go back, stand still, are zero or leap: tracking goes by arrival."""
    ros, second = feed.ros, 1_000_000_000
    start = 1_600_000_000 * second
    back = feed.send_message(stamped(feed, start), patience=30.0)
    assert "stamps went back by" in back.message
    feed.assert_on_target(back)
    missed = ros.call(SetTarget, "tracker/set_target", feed.request(stamp=Time(sec=1_700_000_000)))
    assert missed.error_code == Answer.ERROR_STAMP_NOT_FOUND

    for _ in range(3):  # a duplicate: the status has the same header, so it is counted
        count = len(feed.status)
        feed.publisher.publish(stamped(feed, start))
        ros.until(lambda count=count: len(feed.status) > count, "the status of a duplicate stamp")
        feed.assert_on_target(feed.status[-1], pixels=12.0)
    zero = feed.send_message(stamped(feed, 0), patience=30.0)
    feed.assert_on_target(zero)
    assert math.isnan(zero.image_age_ms)
    renamed = feed.send_message(stamped(feed, start + second // 30, "other"), patience=30.0)
    assert "frame_id changed from 'optical' to 'other'" in renamed.message

    leap = feed.send_message(stamped(feed, start + 3600 * second), patience=30.0)
    assert leap.state != TRACKING, "an hour without a frame"
    assert leap.message
    feed.until_tracked()


def test_stream_changes(feed):
    """Another encoding changes nothing; in another resolution the target is found again."""
    ros = feed.ros
    for encoding in ("bgr8", "rgb8"):
        feed.step += 1
        pixels = feed.scene.frame(feed.step)
        pixels = pixels[:, :, ::-1] if encoding == "bgr8" else pixels
        image = array_to_image(pixels, feed.header(), encoding)
        status = feed.send_message(image, patience=30.0)
        feed.assert_on_target(status)
        assert f"to '{encoding}'" in status.message
    feed.scene = type(feed.scene)(640, 480, side=96)
    status = feed.move(1)
    assert "image size changed from 320x240 to 640x480" in status.message
    ros.until(lambda: feed.move(1).state == TRACKING, "the target in the other resolution")
    feed.scene = type(feed.scene)()


def test_clock_jump_of_simulated_time(feed):
    """use_sim_time: ages by /clock; a clock that disagrees is said; nothing else changes."""
    ros = feed.ros
    clock = ros.publisher(Clock, "/clock", 10, subscribers=0)
    assert ros.set_parameter("use_sim_time", True).successful
    ros.until(clock.get_subscription_count, "who reads /clock")

    def age(seconds, stamp):
        """Of an image, milliseconds, when /clock shows `seconds`."""
        clock.publish(Clock(clock=Time(sec=seconds)))
        image = stamped(feed, stamp * 1_000_000_000)
        status = feed.send_message(image, patience=30.0)
        assert status.state != IDLE
        return status.image_age_ms

    try:
        ros.until(lambda: age(5002, 5000) == 2000.0, "an age by /clock")
        ros.until(lambda: age(10, 5000) < -4_000_000.0, "an age after the jump back")
        ros.until_diagnosed(
            feed.diagnostics, "images", "clocks of camera and tracker", level=DiagnosticStatus.WARN
        )
    finally:
        assert ros.set_parameter("use_sim_time", False).successful
    feed.until_tracked()


def resident_kib(pid):
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    return 0


def test_up_down(feed, running):
    """A hundred times through all states of the lifecycle: memory stays flat.

    After 40 cycles it goes up and down by 2 MB; a session that is kept is half a megabyte.
    """
    ros = feed.ros
    down = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP
    up = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE

    def cycles(count):
        for _ in range(count):
            for transition in (*down, *up):
                assert ros.change_state(transition)

    cycles(40)
    before = resident_kib(running.pid)
    cycles(60)
    grown = resident_kib(running.pid) - before
    assert grown < 6 * 1024, f"{grown} KiB more after 60 cycles"
    ros.until(feed.publisher.get_subscription_count, "the subscription")
    ros.until_diagnosed(feed.diagnostics, "lifecycle", "active", level=DiagnosticStatus.OK)
    assert feed.set_target().success
    feed.until_tracked()


def test_tracker_killed_and_respawned(ros, tiny_model, scene):
    """Whoever watches sees silence; the new process takes a target and tracks."""
    process = ros.start_tracker(tiny_model, set_target_timeout=5.0)
    feed = ros.feed(scene)
    assert feed.set_target().success
    feed.until_tracked()
    process.send(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert feed.send(patience=0.3) is None
    ros.processes.remove(process)
    ros.start_tracker(tiny_model, set_target_timeout=5.0)
    idle = feed.answered()
    assert (idle.state, idle.target_id) == (IDLE, 0)
    assert ros.call(SetTarget, "tracker/set_target", feed.request()).target_id == 1
    box = bounding_box_from_xywh(scene.box(feed.step))
    assert box.size_x == 48.0
    feed.until_tracked()
