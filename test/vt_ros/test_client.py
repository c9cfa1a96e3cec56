# SPDX-License-Identifier: Apache-2.0
"""The Python client and the examples, against a real tracker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import rclpy
from geometry_msgs.msg import TwistStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Empty

from vt_interfaces.srv import SetTarget
from vt_ros.client import (
    State,
    TargetRefusedError,
    TrackerClient,
    TrackerError,
    TrackerTimeoutError,
)
from vt_ros.common.convert import stamp_nanoseconds

pytestmark = pytest.mark.ros

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Camera:
    """Publishes a scene in a thread until it is closed; the target moves on with every image."""

    def __init__(self, ros, scene):
        self.feed = ros.feed(scene)
        self._info = ros.node.create_publisher(CameraInfo, "camera_info", qos_profile_sensor_data)
        self._boxes = {}
        self.corner, self.twins = None, set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        matrix = [300.0, 0.0, 160.0, 0.0, 300.0, 120.0, 0.0, 0.0, 1.0]
        info = CameraInfo(width=320, height=240, k=matrix)
        while not self._stop.wait(0.04):
            self.feed.step += 1
            self._info.publish(info)
            message = self.feed.message(self.corner)
            stamp = stamp_nanoseconds(message.header.stamp)
            self._boxes[stamp] = self.box
            if self.corner is not None:
                self.twins.add(stamp)
            self.feed.publisher.publish(message)

    @property
    def box(self):
        """Where the target is now; on a loaded machine the tracker is some frames behind."""
        return self.feed.scene.box(self.feed.step)

    def box_at(self, stamp):
        return self._boxes[stamp]

    def point_out(self, tracker):
        """Start on the target where it was in the newest frame that the tracker has seen."""
        stamp = tracker.wait_for_state().stamp
        return tracker.start_box(self.box_at(stamp), stamp=stamp)

    def close(self):
        self._stop.set()
        self._thread.join()


@pytest.fixture(scope="module")
def running(shared_ros, tiny_model):
    return shared_ros.start_tracker(tiny_model, set_target_timeout=5.0, locked=[""])


@pytest.fixture
def camera(running, guest, scene, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(guest.domain))
    camera = Camera(guest, scene)
    yield camera
    camera.close()
    assert running.alive


def overlap(box, other):
    return all(abs(a - b) <= 25 for a, b in zip(box[:2], other[:2], strict=True))


def test_client_in_a_script_starts_follows_and_stops(camera):
    with TrackerClient(timeout=30.0) as tracker:
        assert tracker.wait_for_state(State.IDLE).box is None
        start = camera.point_out(tracker)
        assert start.target_id
        first = tracker.wait_for_state(State.TRACKING)
        assert first.target_id == start.target_id
        for estimate, _ in zip(tracker.estimates(), range(5), strict=False):
            assert estimate.measured
            assert overlap(estimate.box, camera.box_at(estimate.stamp))
            assert estimate.covariance is None or estimate.covariance.shape == (4, 4)
            assert estimate.frame_id == "optical"
        past = tracker.latest
        again = tracker.start_box(past.box, stamp=past.stamp)
        assert again.stamp == past.stamp
        assert tracker.wait_for_state(State.TRACKING).target_id == again.target_id
        assert tracker.stop() == f"target {again.target_id} cleared"
        assert tracker.wait_for_state(State.IDLE).target_id == 0


def test_client_inside_a_node_even_in_its_callbacks(camera, guest):
    """The host's own executor waits in the callback; the client has another."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=guest.domain)
    host = rclpy.create_node("host", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(host)
    states = []
    with TrackerClient(node=host, timeout=30.0) as tracker:

        def on_go(_):
            camera.point_out(tracker)
            states.append(tracker.wait_for_state(State.TRACKING).state)

        host.create_subscription(Empty, "go", on_go, 1)
        publisher = guest.publisher(Empty, "go")
        publisher.publish(Empty())
        end = time.monotonic() + 60.0
        while not states and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.1)
        tracker.stop()
    assert states == [State.TRACKING]
    executor.shutdown()
    host.destroy_node()
    rclpy.shutdown(context=context)


def test_client_refusal_has_the_trackers_reason(camera):
    with TrackerClient(timeout=30.0) as tracker:
        for ask, code in (
            (lambda: tracker.start_box((1e9, 0.0, 5.0, 5.0)), 1),
            (lambda: tracker.start_text("the red square"), 4),
            (lambda: tracker.start_box(camera.box, text="the red square"), 4),
            (lambda: tracker.start_point((-10.0, 10.0)), 5),
        ):
            with pytest.raises(TargetRefusedError) as refusal:
                ask()
            assert refusal.value.code == code
            assert str(refusal.value)
        assert code == SetTarget.Response.ERROR_INVALID_POINT


def test_client_starts_by_text_and_by_point(camera, guest, grounder):
    """The answer says what was found; where that is unclear, the candidates are there to choose."""
    values = {
        "grounding.backend": "onnx",
        "grounding.source": str(grounder),
        "grounding.threshold": 0.8,  # a square has 0.95, half a square 0.76
    }
    assert guest.set_parameters(values, atomically=True).result.successful
    with TrackerClient(timeout=30.0) as tracker:
        start = tracker.start_text("the red square")
        assert overlap(start.box, camera.box_at(start.stamp))
        assert 0.7 < start.score <= 1.0
        assert "onnx" in start.reason
        assert not start.alternatives
        past = tracker.wait_for_state(State.TRACKING)
        x, y, w, h = camera.box_at(past.stamp)
        start = tracker.start_point((x + 0.5 * w, y + 0.5 * h), stamp=past.stamp)
        assert overlap(start.box, (x, y, w, h))
        camera.corner = (10, 10)
        assert guest.set_parameter("grounding.ambiguity_margin", 0.3).successful
        guest.until(lambda: (s := tracker.latest.stamp) in camera.twins and s, "both squares")
        with pytest.raises(TargetRefusedError, match="ambiguous: 2") as refusal:
            tracker.start_text("the red square")
        candidates = refusal.value.candidates
        start = tracker.start_box(candidates[1].box, "the red square", refusal.value.stamp)
        assert (start.box, start.stamp) == (candidates[1].box, refusal.value.stamp)
        result = run_example(camera, "start_by_text.py", "the red square")
        assert result.returncode == 0, result.stderr
        assert "ambiguous: 2 candidates" in result.stdout
        result = run_example(camera, "start_by_text.py", "a green bird")
        assert (result.returncode, result.stdout) == (1, "")
        assert "nothing" in result.stderr
    assert guest.set_parameter("grounding.backend", "none").successful


def test_client_without_a_tracker_times_out(guest, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(guest.domain))
    with TrackerClient("nobody", timeout=0.3) as tracker:
        with pytest.raises(TrackerTimeoutError, match="no service /nobody/set_target"):
            tracker.start_box((0.0, 0.0, 9.0, 9.0))
        with pytest.raises(TrackerTimeoutError, match="nobody publishes /nobody/status"):
            tracker.wait_for_state(State.TRACKING)
        with pytest.raises(TrackerTimeoutError, match=r"no estimate for 0\.2 s"):
            next(tracker.estimates(timeout=0.2))
        with pytest.raises(TrackerError):
            tracker.stop()


def test_client_waiting_ends_when_ros_is_shut_down(guest):
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=guest.domain)
    host = rclpy.create_node("host", context=context)
    tracker = TrackerClient("nobody", node=host, timeout=60.0)
    estimates = tracker.estimates()
    begin = time.monotonic()
    threading.Timer(0.5, lambda: rclpy.shutdown(context=context)).start()
    assert list(estimates) == []
    with pytest.raises(TrackerError, match="ROS was shut down"):
        tracker.wait_for_state(State.TRACKING)
    assert list(tracker.estimates()) == []
    assert time.monotonic() - begin < 30.0
    tracker.close()


def is_zero(twist):
    return not any((twist.angular.x, twist.angular.y, twist.angular.z))


def run_example(camera, name, *arguments):
    environment = {**os.environ, "ROS_DOMAIN_ID": str(camera.feed.ros.domain)}
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=90, check=False
    )


def test_examples_run(camera):
    """The second and third follow the target that the client has started."""
    result = run_example(camera, "start_by_box.py", *camera.box, "--frames", 5)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert re.fullmatch(r"target \d+", lines[0])
    assert len(lines) == 7
    assert re.fullmatch(r"target \d+ cleared", lines[-1])
    result = run_example(camera, "start_by_box.py", 9999, 9999, 20, 20)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: box x=9999"), result.stderr

    with TrackerClient(timeout=30.0) as tracker:
        camera.point_out(tracker)
        tracker.wait_for_state(State.TRACKING)
        turns = camera.feed.ros.collect(TwistStamped, "turn")
        command = [sys.executable, str(EXAMPLES / "follow_centre.py")]
        environment = {**os.environ, "ROS_DOMAIN_ID": str(camera.feed.ros.domain)}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            camera.feed.ros.until(lambda: len(turns) > 5, "rates to turn the camera")
            process.terminate()
            assert process.wait(timeout=20.0) == 0, process.stderr.read()
        finally:
            process.kill()
            process.wait()
        assert any(turn.twist.angular.y for turn in turns)
        camera.feed.ros.until(lambda: is_zero(turns[-1].twist), "a last rate of zero")

        result = run_example(camera, "print_bearings.py", "--count", 3)
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("right") == 3, result.stdout
