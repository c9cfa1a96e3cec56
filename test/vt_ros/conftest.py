# SPDX-License-Identifier: Apache-2.0
"""Real nodes in processes of their own, over real DDS, each test in a domain of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

try:
    import rclpy
    from builtin_interfaces.msg import Time
    from diagnostic_msgs.msg import DiagnosticArray
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState, GetState
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
    from rclpy.executors import (
        ExternalShutdownException,
        ShutdownException,
        SingleThreadedExecutor,
    )
    from rclpy.qos import qos_profile_sensor_data
    from rclpy.task import Future
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header
    from vision_msgs.msg import Detection2DArray

    from vt_interfaces.msg import TrackStatus
    from vt_interfaces.srv import SetTarget
    from vt_ros.common.convert import array_to_image, bounding_box_from_xywh, xywh_from_bounding_box
except ImportError:  # every test module here skips itself then
    rclpy = None

from vt_models import text
from vt_models.grounding.export_directory import DetectorExport, TextFormat
from vt_models.registry import get_spec
from vt_models.runtime.export_directory import sha256_of, spec_fields

ROOT = Path(__file__).resolve().parents[2]

# Read by Fast DDS when the first participant of this process is made.
os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(ROOT / "config" / "fastdds.xml")
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

# Long enough for a loaded machine; a test that passes never waits this long.
PATIENCE = 60.0

# A service that does not answer within this is asked again, unless asking twice means something
# else than asking once.
ANSWER_LOST = 10.0
_NOT_TWICE = () if rclpy is None else (ChangeState,)

# The test models score about 0.8 on their target and 0 elsewhere; the defaults are tuned for real
# ones, and may change. Images of the scene differ in their noise alone, if at all.
SURE = {
    "target__track_threshold": 0.4,
    "target__confirm_threshold": 0.4,
    "target__doubt_threshold": 0.2,
    "target__redetection_threshold": 0.4,
    "target__frozen_frames": 0,
    "grounding__backend": "none",
    "recorder__on_lost": False,
}

# A server knows a new client a little later than the client knows the server.
DISCOVERY = 0.3


@contextlib.contextmanager
def own_domain():
    """A domain id that no other test on this machine uses meanwhile."""
    numbers = list(range(1, 102))
    random.shuffle(numbers)
    for number in numbers:
        lock = Path(tempfile.gettempdir()) / f"vt_ros_test_domain_{number}.lock"
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            yield number
            return
    pytest.fail("all ROS domains are in use")


class Process:
    """A node in a process, its output in a file."""

    def __init__(self, command, environment, log):
        self.log = log
        with log.open("w") as file:
            self._process = subprocess.Popen(
                command, env=environment, stdout=file, stderr=subprocess.STDOUT
            )

    @property
    def pid(self):
        return self._process.pid

    @property
    def output(self):
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def alive(self):
        return self._process.poll() is None

    def send(self, number):
        self._process.send_signal(number)

    def wait(self, timeout=PATIENCE):
        return self._process.wait(timeout)

    def stop(self):
        """SIGINT as by Ctrl-C; the exit code."""
        if self.alive:
            self.send(signal.SIGINT)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"did not end after SIGINT:\n{self.output}") from None


class Ros:
    """A ROS node of the test, spinning in a thread, and the processes it started."""

    def __init__(self, domain, folder):
        self.domain, self._folder = domain, folder
        self.processes, self.hosts = [], []
        self._clients, self._fresh = {}, set()
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = rclpy.create_node("test", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._closing = Future()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self):
        with contextlib.suppress(ExternalShutdownException, ShutdownException):
            self._executor.spin_until_future_complete(self._closing)

    def start(self, module, *arguments, **parameters):
        """Start `python -m vt_ros.MODULE` with parameters; `__` in a name stands for a dot."""
        command = [sys.executable, "-m", f"vt_ros.{module}", *arguments, "--ros-args"]
        for name, value in parameters.items():
            text = json.dumps(value)
            command += ["-p", f"{name.replace('__', '.')}:={text}"]
        environment = {**os.environ, "ROS_DOMAIN_ID": str(self.domain)}
        log = self._folder / f"{module}_{len(self.processes)}.log"
        process = Process(command, environment, log)
        self.processes.append(process)
        return process

    def start_tracker(self, model, **parameters):
        """Start a tracker on a model of the tests, with thresholds that fit its scores."""
        return self.start("tracker", weights=str(model), **{**SURE, **parameters})

    def collect(self, message_type, topic, qos=100):
        """A list that grows with every message of a topic."""
        messages = []
        self.node.create_subscription(message_type, topic, messages.append, qos)
        return messages

    def publisher(self, message_type, topic, qos=5, subscribers=1):
        """A publisher that has found its subscribers."""
        publisher = self.node.create_publisher(message_type, topic, qos)
        self.until(lambda: publisher.get_subscription_count() >= subscribers, f"who reads {topic}")
        return publisher

    def call(self, service_type, name, request=None, timeout=PATIENCE):
        """The response of a service.

        Asks again when no answer comes: Fast DDS gives up a response after 0.1 s if the server,
        on a loaded machine, has not discovered the client's reader by then.
        """
        end = time.monotonic() + timeout
        while True:
            future = self.call_async(service_type, name, request)
            patience = min(ANSWER_LOST, end - time.monotonic())
            if self._done_within(future, patience):
                return future.result()
            if time.monotonic() >= end or service_type in _NOT_TWICE:
                return self.finish(future, name, max(0.0, end - time.monotonic()))

    @staticmethod
    def _done_within(future, seconds):
        end = time.monotonic() + seconds
        while not future.done() and time.monotonic() < end:
            time.sleep(0.01)
        return future.done()

    def call_async(self, service_type, name, request=None):
        client = self._client(service_type, name)
        return client.call_async(request if request is not None else service_type.Request())

    def _client(self, service_type, name):
        """One client a service, so that discovery happens once."""
        if name not in self._clients:
            self._clients[name] = self.node.create_client(service_type, name)
            self._fresh.add(name)
        client = self._clients[name]
        assert client.wait_for_service(PATIENCE), f"no service {name}:\n{self.logs()}"
        if name in self._fresh:
            time.sleep(DISCOVERY)
            self._fresh.remove(name)
        return client

    def finish(self, future, what, timeout=PATIENCE):
        self.until(future.done, f"the answer of {what}", timeout)
        return future.result()

    def feed(self, scene, **options):
        return Feed(self, scene, **options)

    def set_parameter(self, name, value):
        """Set one parameter of the tracker; the result, with `successful` and `reason`."""
        return self.set_parameters({name: value}).results[0]

    def set_parameters(self, values, atomically=False):
        """The response of set_parameters, or of set_parameters_atomically."""
        kind = SetParametersAtomically if atomically else SetParameters
        request = kind.Request(parameters=[parameter(*item) for item in values.items()])
        suffix = "_atomically" if atomically else ""
        return self.call(kind, f"tracker/set_parameters{suffix}", request)

    def get_parameter(self, name):
        request = GetParameters.Request(names=[name])
        (value,) = self.call(GetParameters, "tracker/get_parameters", request).values
        return getattr(value, FIELDS[value.type])

    def change_state(self, transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.call(ChangeState, "tracker/change_state", request).success

    def configure_async(self):
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
        return self.call_async(ChangeState, "tracker/change_state", request)

    def state(self):
        return self.call(GetState, "tracker/get_state").current_state.id

    def diagnostics(self):
        """The newest reports by task, as a function to be called again and again."""
        messages = self.collect(DiagnosticArray, "/diagnostics")

        def newest():
            reports = {}
            for message in messages:
                for status in message.status:
                    node, _, task = status.name.partition(": ")
                    if node == "tracker":
                        reports[task] = status
            return reports

        return newest

    @staticmethod
    def values(newest, task):
        """The values of a task by name; none before its first report."""
        report = newest().get(task)
        return {value.key: value.value for value in report.values} if report else {}

    def until_diagnosed(self, newest, task, *words, level=None):
        """Wait until a task's message holds all words (and has a level); the report."""

        def told():
            report = newest().get(task)
            good = report is not None and all(word in report.message for word in words)
            return report if good and (level is None or report.level == level) else None

        return self.until(told, f"diagnostics of {task} with {words}")

    def until(self, condition, what, timeout=PATIENCE):
        """Wait until a condition holds; its value."""
        end = time.monotonic() + timeout
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > end:
                pytest.fail(f"waited {timeout:g} s for {what}; the processes say:\n{self.logs()}")
            time.sleep(0.01)

    def logs(self):
        return "\n".join(
            f"--- {p.log.name} ---\n{p.output}" for p in (*self.hosts, *self.processes)
        )

    def close(self):
        """End the processes; each must end well after Ctrl-C."""
        running = [process for process in self.processes if process.alive]
        codes = [process.stop() for process in running]
        self._closing.set_result(None)
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)
        assert not any(codes), f"exit codes {codes}:\n{self.logs()}"
        assert "Traceback" not in self.logs()


class Feed:
    """Publishes a scene to a tracker, frame by frame, and collects what it answers."""

    def __init__(self, ros, scene, qos=None, real_time=False):
        self.ros, self.scene, self._real_time = ros, scene, real_time
        self.status = ros.collect(TrackStatus, "tracker/status")
        self.detections = ros.collect(Detection2DArray, "tracker/detections")
        self.step = 0
        self.published = 0
        self._start = int(time.time())
        self.publisher = ros.publisher(Image, "image_raw", qos or qos_profile_sensor_data)
        ros.until(lambda: ros.node.count_publishers("tracker/status") == 1, "tracker/status")
        self.until_connected()

    @contextlib.contextmanager
    def playing(self, period=0.05, step=1):
        """Publish the scene as a camera does, while the test does something else."""
        ended = threading.Event()

        def play():
            while not ended.wait(period):
                self.step += step
                self.publisher.publish(self.message())

        thread = threading.Thread(target=play)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def until_connected(self):
        """Until an image gets through and its status and detections come back."""
        self.ros.until(lambda: self.send() and self.detections, "the first answer")

    def header(self):
        """The time, or thirty images a second, however long they really take."""
        if self._real_time:
            return Header(stamp=self.ros.node.get_clock().now().to_msg(), frame_id="optical")
        nanoseconds = self.published * 1_000_000_000 // 30
        self.published += 1
        seconds, nanosec = divmod(nanoseconds, 1_000_000_000)
        return Header(stamp=Time(sec=self._start + seconds, nanosec=nanosec), frame_id="optical")

    def message(self, corner=None):
        """The scene as it is now, with a second target if its corner is given."""
        if corner is None:
            return array_to_image(self.scene.frame(self.step), self.header())
        return array_to_image(self.scene.with_another(self.step, corner), self.header())

    def send(self, pixels=None, patience=1.0):
        """Publish one frame and wait a little for its status, which is returned (or None)."""
        pixels = self.scene.frame(self.step) if pixels is None else pixels
        return self.send_message(array_to_image(pixels, self.header()), patience)

    def send_message(self, message, patience=1.0):
        self.publisher.publish(message)
        end = time.monotonic() + patience
        while time.monotonic() < end:
            for status in reversed(self.status):
                if status.header == message.header:
                    return status
            time.sleep(0.002)
        return None

    def answered(self, pixels=None, message=None):
        """The status of a frame that must be processed; it is sent again if it got lost."""

        def attempt():
            if message is None:
                return self.send(pixels, patience=5.0)
            message.header = self.header()
            return self.send_message(message, patience=5.0)

        return self.ros.until(attempt, "a status")

    def move(self, steps):
        """Let the target move on; the last status."""
        status = None
        for _ in range(steps):
            self.step += 1
            status = self.answered()
        return status

    def until_tracked(self):
        """Let the target move on until it is tracked; that status."""

        def tracked():
            status = self.move(1)
            return status if status.state == TrackStatus.STATE_TRACKING else None

        status = self.ros.until(tracked, "the target to be tracked")
        self.assert_on_target(status, pixels=20.0)  # a box found again may have another size
        return status

    def detection(self, status):
        """The detections that belong to a status."""
        return self.ros.until(
            lambda: next((d for d in self.detections[::-1] if d.header == status.header), None),
            "the detections",
        )

    def request(self, box=None, **fields):
        box = self.scene.box(self.step) if box is None else box
        return SetTarget.Request(box=bounding_box_from_xywh(box), **fields)

    def set_target(self, box=None, **fields):
        self.answered()
        return self.ros.call(SetTarget, "tracker/set_target", self.request(box, **fields))

    def assert_on_target(self, status, pixels=6.0):
        assert status.state == TrackStatus.STATE_TRACKING, status
        (detection,) = self.detection(status).detections
        box, true = xywh_from_bounding_box(detection.bbox), self.scene.box(self.step)
        assert np.abs(np.subtract(box, true)).max() <= pixels, (box, true)


FIELDS = {}
if rclpy is not None:
    KINDS = {
        bool: ParameterType.PARAMETER_BOOL,
        int: ParameterType.PARAMETER_INTEGER,
        float: ParameterType.PARAMETER_DOUBLE,
        str: ParameterType.PARAMETER_STRING,
    }
    FIELDS = {
        ParameterType.PARAMETER_BOOL: "bool_value",
        ParameterType.PARAMETER_INTEGER: "integer_value",
        ParameterType.PARAMETER_DOUBLE: "double_value",
        ParameterType.PARAMETER_STRING: "string_value",
    }


def parameter(name, value):
    kind = KINDS[type(value)]
    return Parameter(name=name, value=ParameterValue(type=kind, **{FIELDS[kind]: value}))


@contextlib.contextmanager
def ros_session(domain, folder):
    """A session that is closed, and its processes ended, whatever happens."""
    session = Ros(domain, folder)
    try:
        yield session
    finally:
        session.close()


@pytest.fixture
def ros(tmp_path):
    """A ROS node in a domain of its own, for one test."""
    with own_domain() as domain, ros_session(domain, tmp_path) as session:
        yield session


@pytest.fixture(scope="module")
def shared_ros(tmp_path_factory):
    """The same for a module: its processes serve all tests."""
    folder = tmp_path_factory.mktemp("ros")
    with own_domain() as domain, ros_session(domain, folder) as session:
        yield session


@pytest.fixture
def guest(shared_ros, tmp_path):
    """A ROS node of one test, in the domain where the module's processes run."""
    with ros_session(shared_ros.domain, tmp_path) as session:
        session.hosts = shared_ros.processes
        yield session


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """An export directory of a network that follows a colour; small, exact, without training."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny_model"))


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory):
    """The same network with needless work, so that a frame takes at least some 0.1 s."""
    return write_tiny_model(tmp_path_factory.mktemp("slow_model"), needless_products=8)


@pytest.fixture(scope="session")
def stuck_model(tmp_path_factory):
    """The same network; in a bright search region it never returns."""
    return write_tiny_model(tmp_path_factory.mktemp("stuck_model"), never_returns=True)


CELLS = 32


def write_tiny_model(folder, needless_products=0, never_returns=False):
    """Write the two graphs and their description, as `vt-models export` lays them out."""
    onnx = pytest.importorskip("onnx", reason="the tiny test model is written with onnx")
    graphs = {
        "template.onnx": template_graph(onnx.helper, onnx.TensorProto),
        "search.onnx": search_graph(
            onnx.helper, onnx.TensorProto, needless_products, never_returns
        ),
    }
    files = {}
    for name, graph in graphs.items():
        opset = [onnx.helper.make_opsetid("", 17)]
        model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
        onnx.checker.check_model(model)
        data = model.SerializeToString()
        (folder / name).write_bytes(data)
        files[name] = {"sha256": sha256_of(data), "bytes": len(data)}
    # Its sizes are those of its windows, not of what they show: a fit of them would add up.
    spec = dataclasses.replace(get_spec("asymtrack_lite0"), size_calibration=0.0)
    manifest = {
        "format_version": 1,
        "model": "asymtrack_lite0",
        "spec": spec_fields(spec),
        "state": {"colour": [1, 3, 1, 1], "size": [1, 2, 1, 1]},
        "outputs": {"score_map": [1, CELLS, CELLS], "box_map": [1, 4, CELLS, CELLS]},
        "files": files,
        "producer": {},
        "weights": {},
        "parity": {},
    }
    (folder / "model.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def constant(helper, proto, name, values):
    values = np.asarray(values)
    kind = proto.INT64 if values.dtype == np.int64 else proto.FLOAT
    return helper.make_tensor(name, kind, values.shape, values.ravel().tolist())


def template_graph(h, proto):
    """Colour: the mean of the crop's middle, RGB in [0, 1]. Size: of the box in a search crop."""
    nodes = [
        h.make_node("Slice", ["template", "from", "to", "axes"], ["middle"]),
        h.make_node("Cast", ["middle"], ["numbers"], to=proto.FLOAT),
        h.make_node("Div", ["numbers", "white"], ["fractions"]),
        h.make_node("ReduceMean", ["fractions"], ["mean"], axes=[1, 2], keepdims=1),
        h.make_node("Transpose", ["mean"], ["colour"], perm=[0, 3, 1, 2]),
        h.make_node("Slice", ["template_box", "two", "four", "one"], ["sides"]),
        h.make_node("Mul", ["sides", "half"], ["sides_in_search"]),
        h.make_node("Reshape", ["sides_in_search", "shape"], ["size"]),
    ]
    constants = {
        "from": np.array([48, 48]),
        "to": np.array([80, 80]),
        "axes": np.array([1, 2]),
        "white": np.float32(255),
        "two": np.array([2]),
        "four": np.array([4]),
        "one": np.array([1]),
        "half": np.float32(0.5),
        "shape": np.array([1, 2, 1, 1]),
    }
    return h.make_graph(
        nodes,
        "template",
        [
            h.make_tensor_value_info("template", proto.UINT8, [1, 128, 128, 3]),
            h.make_tensor_value_info("template_box", proto.FLOAT, [1, 4]),
        ],
        [
            h.make_tensor_value_info("colour", proto.FLOAT, [1, 3, 1, 1]),
            h.make_tensor_value_info("size", proto.FLOAT, [1, 2, 1, 1]),
        ],
        [constant(h, proto, name, value) for name, value in constants.items()],
    )


def search_graph(h, proto, needless_products, never_returns):
    """Score: how much of a target-sized square around a cell has the colour."""
    centres = (np.arange(CELLS, dtype=np.float32) + 0.5) / CELLS
    grid = np.stack(np.meshgrid(centres, centres))[None]
    side = 1024
    nodes = [
        h.make_node("Cast", ["search"], ["numbers"], to=proto.FLOAT),
        h.make_node("Div", ["numbers", "white"], ["fractions"]),
        h.make_node("Transpose", ["fractions"], ["planes"], perm=[0, 3, 1, 2]),
        h.make_node("AveragePool", ["planes"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        h.make_node("Sub", ["cells", "colour"], ["difference"]),
        h.make_node("Mul", ["difference", "difference"], ["square"]),
        h.make_node("ReduceSum", ["square", "channel"], ["distance"], keepdims=1),
        h.make_node("Mul", ["distance", "steepness"], ["exponent"]),
        h.make_node("Exp", ["exponent"], ["alike"]),
        h.make_node("AveragePool", ["alike"], ["smooth"], kernel_shape=[7, 7], pads=[3, 3, 3, 3]),
        h.make_node("Reshape", ["smooth", "map_shape"], ["plain_map"]),
        h.make_node("Expand", ["size", "size_shape"], ["sizes"]),
        h.make_node("Concat", ["grid", "sizes"], ["box_map"], axis=1),
        h.make_node("ReduceMean", ["cells"], ["mean"], axes=[1, 2, 3], keepdims=0),
        h.make_node("Mul", ["mean", "nothing"], ["zero"]),
        h.make_node("Expand", ["zero", "matrix_shape"], ["product_0"]),
    ]
    nodes += [
        h.make_node("MatMul", [f"product_{k}", "product_0"], [f"product_{k + 1}"])
        for k in range(needless_products)
    ]
    product = f"product_{needless_products}"
    if never_returns:
        flag, number = (proto.BOOL, [1]), (proto.FLOAT, [])
        value = h.make_tensor_value_info
        body = h.make_graph(
            [
                h.make_node("Identity", ["bright_now"], ["bright_again"]),
                h.make_node("Identity", ["number_now"], ["number_again"]),
            ],
            "for_ever",
            [
                value("turn", proto.INT64, []),
                value("bright_now", *flag),
                value("number_now", *number),
            ],
            [value("bright_again", *flag), value("number_again", *number)],
        )
        nodes += [
            h.make_node("Greater", ["mean", "bright"], ["is_bright"]),
            h.make_node("Loop", ["", "is_bright", "nothing"], ["number"], body=body),
            h.make_node("Add", [product, "number"], ["product"]),
        ]
        product = "product"
    nodes += [
        h.make_node("ReduceSum", [product], ["rest"], keepdims=0),
        h.make_node("Add", ["plain_map", "rest"], ["score_map"]),
    ]
    constants = {
        "white": np.float32(255),
        "channel": np.array([1]),
        "steepness": np.float32(-50),
        "map_shape": np.array([1, CELLS, CELLS]),
        "size_shape": np.array([1, 2, CELLS, CELLS]),
        "grid": grid,
        "nothing": np.float32(0),
        "bright": np.float32(0.7),
        "matrix_shape": np.array([side, side] if needless_products else [1, 1]),
    }
    return h.make_graph(
        nodes,
        "search",
        [
            h.make_tensor_value_info("search", proto.UINT8, [1, 256, 256, 3]),
            h.make_tensor_value_info("colour", proto.FLOAT, [1, 3, 1, 1]),
            h.make_tensor_value_info("size", proto.FLOAT, [1, 2, 1, 1]),
        ],
        [
            h.make_tensor_value_info("score_map", proto.FLOAT, [1, CELLS, CELLS]),
            h.make_tensor_value_info("box_map", proto.FLOAT, [1, 4, CELLS, CELLS]),
        ],
        [constant(h, proto, name, value) for name, value in constants.items()],
    )


# What the test grounder knows about words: colours of targets, RGB.
COLOURS = {"red": (220, 40, 50), "blue": (40, 60, 220), "green": (40, 200, 60)}
GROUNDER_CELL = 8


@pytest.fixture(scope="session")
def grounder(tmp_path_factory):
    """A directory of the backend `onnx` whose network finds squares of a colour in an image."""
    return write_grounder(tmp_path_factory.mktemp("grounder"))


@pytest.fixture(scope="session")
def slow_grounder(tmp_path_factory):
    """The same with needless work, so that a search outlasts the period of the diagnostics, 1 s."""
    return write_grounder(tmp_path_factory.mktemp("slow_grounder"), needless_products=180)


def write_grounder(folder, needless_products=0, size=(240, 320), side=48):
    """Write an exported detector of one's own, as docs/grounding.md describes the directory."""
    onnx = pytest.importorskip("onnx", reason="the test's grounder is written with onnx")
    tokenizers = pytest.importorskip("tokenizers", reason="a text needs tokenizers")
    vocabulary = text.vocabulary()
    ids = {name: tokenizers.Tokenizer.from_buffer(vocabulary).token_to_id(name) for name in COLOURS}
    graph = grounder_graph(onnx.helper, onnx.TensorProto, ids, (size, side), needless_products)
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model)
    exported = DetectorExport(
        architecture="colours of the tests",
        canvas=size,
        padding=(0, 0, 0),
        text=TextFormat(length=16, lower_case=True, ending=".", separators=".", pad_id=0),
        default_threshold=0.76,
        files={"detector.onnx": model.SerializeToString(), "tokenizer.json": vocabulary},
    )
    for name, data in exported.files.items():
        (folder / name).write_bytes(data)
    (folder / "grounding.json").write_text(json.dumps(exported.manifest()), encoding="utf-8")
    return folder


def grounder_graph(h, proto, ids, image, needless_products):
    """A box around every cell; its score says how much of it has the colour that a word names."""
    (height, width), side = image
    rows, columns = height // GROUNDER_CELL, width // GROUNDER_CELL
    y, x = np.mgrid[:rows, :columns].reshape(2, -1).astype(np.float32) + 0.5
    sides = np.full_like(x, side)
    boxes = np.stack((x / columns, y / rows, sides / width, sides / height), -1, dtype=np.float32)
    colours = np.array([COLOURS[name] for name in ids], np.float32) / 255
    product = 1024 if needless_products else 1
    nodes = [
        h.make_node("Unsqueeze", ["text_ids", "last"], ["pieces"]),
        h.make_node("Equal", ["pieces", "known"], ["named"]),
        h.make_node("Cast", ["named"], ["named_number"], to=proto.FLOAT),
        h.make_node("ReduceMax", ["named_number"], ["wanted"], axes=[1], keepdims=0),
        h.make_node("MatMul", ["wanted", "colours"], ["flat_colour"]),
        h.make_node("Reshape", ["flat_colour", "colour_shape"], ["colour"]),
        h.make_node("Cast", ["image"], ["numbers"], to=proto.FLOAT),
        h.make_node("Div", ["numbers", "white"], ["fractions"]),
        h.make_node("Transpose", ["fractions"], ["planes"], perm=[0, 3, 1, 2]),
        h.make_node(
            "AveragePool",
            ["planes"],
            ["cells"],
            kernel_shape=[GROUNDER_CELL] * 2,
            strides=[GROUNDER_CELL] * 2,
        ),
        h.make_node("Sub", ["cells", "colour"], ["difference"]),
        h.make_node("Mul", ["difference", "difference"], ["square"]),
        h.make_node("ReduceSum", ["square", "channel"], ["distance"], keepdims=1),
        h.make_node("Mul", ["distance", "steepness"], ["exponent"]),
        h.make_node("Exp", ["exponent"], ["alike"]),
        h.make_node("AveragePool", ["alike"], ["smooth"], kernel_shape=[5, 5], pads=[2, 2, 2, 2]),
        h.make_node("Reshape", ["smooth", "scores_shape"], ["plain_scores"]),
        h.make_node("ReduceMean", ["cells"], ["mean"], axes=[1, 2, 3], keepdims=0),
        h.make_node("Mul", ["mean", "nothing"], ["zero"]),
        h.make_node("Cast", ["text_mask"], ["mask_number"], to=proto.FLOAT),
        h.make_node("ReduceMean", ["mask_number"], ["mask_mean"], keepdims=0),
        h.make_node("Mul", ["mask_mean", "nothing"], ["mask_zero"]),
        h.make_node("Expand", ["zero", "matrix_shape"], ["product_0"]),
    ]
    nodes += [
        h.make_node("MatMul", [f"product_{k}", "product_0"], [f"product_{k + 1}"])
        for k in range(needless_products)
    ]
    nodes += [
        h.make_node("ReduceSum", [f"product_{needless_products}"], ["rest"], keepdims=0),
        h.make_node("Sum", ["plain_scores", "rest", "mask_zero"], ["scores"]),
        h.make_node("Identity", ["places"], ["boxes"]),
    ]
    constants = {
        "last": np.array([2]),
        "known": np.array(list(ids.values()), np.int64),
        "colours": colours,
        "colour_shape": np.array([1, 3, 1, 1]),
        "white": np.float32(255),
        "channel": np.array([1]),
        "steepness": np.float32(-50),
        "scores_shape": np.array([1, rows * columns]),
        "nothing": np.float32(0),
        "matrix_shape": np.array([product, product]),
        "places": boxes[None],
    }
    return h.make_graph(
        nodes,
        "detector",
        [
            h.make_tensor_value_info("image", proto.UINT8, [1, height, width, 3]),
            h.make_tensor_value_info("text_ids", proto.INT64, [1, 16]),
            h.make_tensor_value_info("text_mask", proto.BOOL, [1, 16]),
        ],
        [
            h.make_tensor_value_info("scores", proto.FLOAT, [1, rows * columns]),
            h.make_tensor_value_info("boxes", proto.FLOAT, [1, rows * columns, 4]),
        ],
        [constant(h, proto, name, value) for name, value in constants.items()],
    )


class Scene:
    """A shaded square of 48 pixels that moves over a grey, textured background."""

    def __init__(self, width=320, height=240, side=48, colour=(220, 40, 50)):
        self.size, self.side = (width, height), side
        self._target = self.square(colour)
        self._noise = np.random.default_rng(4)
        noise = np.random.default_rng(3).integers(40, 200, (height // 20, width // 20), np.uint8)
        self._background = cv2.cvtColor(
            cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR), cv2.COLOR_GRAY2RGB
        )

    def square(self, colour):
        """A target of another colour."""
        shades = np.linspace(-8, 8, self.side, dtype=np.int16)
        shade = np.add.outer(shades, -2 * np.abs(shades))[..., None] // 2
        return np.uint8(np.int16(colour) + shade)

    def with_another(self, step, corner, colour=(220, 40, 50)):
        """The frame of a step, with a second square whose top left corner is given."""
        frame, (x, y) = self.frame(step), corner
        frame[y : y + self.side, x : x + self.side] = self.square(colour)
        return frame

    def box(self, step):
        """x, y, w, h at a step; it moves 3 pixels a step along a closed path."""
        width, height = self.size
        angle = step * 0.035
        x = (width - self.side) * (0.5 + 0.4 * np.cos(angle))
        y = (height - self.side) * (0.5 + 0.35 * np.sin(angle))
        return float(round(x)), float(round(y)), float(self.side), float(self.side)

    def frame(self, step):
        """(H, W, 3) uint8 RGB; no two are alike to the last bit, as with a real camera."""
        x, y, w, h = map(int, self.box(step))
        frame = self.empty()
        frame[y : y + h, x : x + w] = self._target
        return frame

    def empty(self):
        """The background alone."""
        return self._background + self._noise.integers(0, 3, self._background.shape, np.uint8)


@pytest.fixture
def scene():
    return Scene()
