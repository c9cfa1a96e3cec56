# SPDX-License-Identifier: Apache-2.0
"""A tracker, the camera node and ground stations, MAVSDK's among them, as real processes."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import random
import socket
import threading
import time

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
common = pytest.importorskip("pymavlink.dialects.v20.common", reason="make setup installs it")
mavsdk = pytest.importorskip("mavsdk", reason="make setup installs it")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Quaternion, TransformStamped, Vector3
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from mavsdk.plugins.camera import Camera, CameraError, CameraResult
from mavsdk.plugins.mavlink_direct import MavlinkDirect
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from vt_ros.common.convert import NANOSECONDS, stamp_nanoseconds
from vt_ros.mavlink.messages import (
    CameraInformation,
    CameraTrackingGeoStatus,
    CameraTrackingImageStatus,
    Command,
    CommandAck,
    CommandLong,
    FrameReader,
    Heartbeat,
    Result,
    StatusText,
    encode,
)

pytestmark = pytest.mark.ros

STATUS = float(CameraTrackingImageStatus.NUMBER)
CAMERA = 100


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


class Station:
    """A ground station on a socket of its own."""

    def __init__(self, ros, port, system=255):
        self.ros, self.system, self.messages = ros, system, []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        self._reader, self._sequence = FrameReader(), 0

    def send(self, message):
        self.socket.send(encode(message, self.system, 190, self._sequence))
        self._sequence += 1

    def read(self):
        """Read what has come; all that came since the last `command`."""
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            while True:
                for frame in self._reader.read_datagram(self.socket.recv(2000)):
                    assert (frame.system, frame.component) == (1, CAMERA)
                    self.messages.append(frame.message)
        return self.messages

    def of(self, kind):
        return [message for message in self.read() if type(message) is kind]

    def until(self, kind, good=lambda _: True):
        """Wait for a message; heartbeats go out meanwhile."""
        told = [0.0]

        def found():
            if time.monotonic() - told[0] > 1.0:
                told[0] = time.monotonic()
                self.send(Heartbeat(type=6))
            return next((message for message in self.of(kind) if good(message)), None)

        return self.ros.until(found, f"{kind.__name__} for station {self.system}")

    def command(self, command, *parameters, **fields):
        """Send a command; its final result. Sent again if there is no answer, as stations do."""
        self.messages.clear()
        fields = {"target_system": 1, "target_component": CAMERA, **fields}
        while True:
            self.send(CommandLong(*parameters, command=command, **fields))
            end = time.monotonic() + 3.0
            while time.monotonic() < end:
                for ack in self.of(CommandAck):
                    if ack.command == command and ack.result != Result.IN_PROGRESS:
                        assert ack.target_system == self.system
                        return Result(ack.result)
                time.sleep(0.01)
            assert len(self.of(CommandAck)) < 1000

    def until_said(self, words):
        """Until a STATUSTEXT has these words: it comes after the acknowledgement."""
        end = time.monotonic() + 30.0
        while words not in (texts := self._texts()):
            assert time.monotonic() < end, texts
            time.sleep(0.01)

    def _texts(self):
        return b"".join(text.text.rstrip(b"\0") for text in self.of(StatusText)).decode()


@pytest.fixture(scope="module")
def port():
    return free_port()


@pytest.fixture(scope="module")
def tracker(shared_ros, tiny_model):
    return shared_ros.start_tracker(
        tiny_model, set_target_timeout=5.0, set_target_tolerance=1.0, watchdog__timeout=60.0
    )


@pytest.fixture(scope="module")
def camera(shared_ros, tracker, port):
    url = f"udpin:127.0.0.1:{port}"
    return shared_ros.start("mavlink_camera", url=url, tracker_timeout=60.0)


@pytest.fixture
def feed(tracker, camera, guest, scene):
    feed = guest.feed(scene, real_time=True)
    yield feed
    assert camera.alive, camera.output
    assert "Traceback" not in camera.output
    guest.call(Trigger, "tracker/clear_target")


@pytest.fixture
def station(guest, feed, port):
    """A ground station that gets the tracking status."""
    station = Station(guest, port)
    assert station.command(Command.SET_MESSAGE_INTERVAL, STATUS, 50_000.0) is Result.ACCEPTED
    station.until(CameraTrackingImageStatus, lambda status: status.tracking_status == 0)
    yield station
    station.socket.close()


def corners(feed):
    """The target as fractions of the image: left, top, right, bottom."""
    (x, y, w, h), (width, height) = feed.scene.box(feed.step), feed.scene.size
    return x / width, y / height, (x + w) / width, (y + h) / height


def is_on_target(status, feed):
    """Whether the middle of a reported box is on the target."""
    left, top, right, bottom = corners(feed)
    x, y = (
        0.5 * (status["rec_top_x"] + status["rec_bottom_x"]),
        0.5 * (status["rec_top_y"] + status["rec_bottom_y"]),
    )
    return left < x < right and top < y < bottom


def diagnosed(ros, task):
    """The newest report of a task of the camera node."""
    messages = ros.collect(DiagnosticArray, "/diagnostics")

    def newest():
        return next(
            (
                status
                for message in reversed(messages)
                for status in message.status
                if status.name == f"mavlink_camera: {task}"
            ),
            None,
        )

    return newest


@pytest.fixture
def sdk(port):
    """MAVSDK as a ground station, and what must be released before it."""
    kind = mavsdk.ComponentType.GROUND_STATION
    station = mavsdk.Mavsdk(mavsdk.Configuration.create_with_component_type(kind))
    plugins = []
    assert station.add_any_connection(f"udpout://127.0.0.1:{port}") == 0
    yield station, plugins
    for plugin in plugins:
        plugin.destroy()
    station.destroy()


def test_mavsdk_finds_the_camera_tracks_a_rectangle_and_gets_the_box_back(feed, sdk):
    ros, (ground, plugins) = feed.ros, sdk
    system = ros.until(lambda: next(iter(ground.get_systems()), None), "a system in MAVSDK")
    camera, direct = Camera(system), MavlinkDirect(system)
    plugins += [camera, direct]
    found = ros.until(lambda: camera.camera_list().cameras, "a camera in MAVSDK")
    assert [(one.component_id, one.model_name) for one in found] == [(CAMERA, "vt_ros")]

    received = []
    direct.subscribe_message(
        "CAMERA_TRACKING_IMAGE_STATUS",
        lambda message, _: received.append(json.loads(message.fields_json)),
    )
    with feed.playing():
        count = len(feed.status)
        ros.until(lambda: len(feed.status) > count + 3, "a steady stream of images")
        camera.track_rectangle(CAMERA, *corners(feed))
        interval = {
            "target_system": 1,
            "target_component": CAMERA,
            "command": Command.SET_MESSAGE_INTERVAL.value,
            "param1": STATUS,
            "param2": 100_000.0,
        }
        answers = []
        command = mavsdk.plugins.mavlink_direct.MavlinkMessage(
            "COMMAND_LONG", 0, 0, 1, CAMERA, json.dumps(interval)
        )
        direct.send_command_async(command, lambda *answer: answers.append(answer))
        ros.until(lambda: any(status["tracking_status"] == 1 for status in received), "the target")

    def follows():
        feed.move(1)  # a scene that stands still may be taken for a frozen camera
        status = received[-1]
        return status["tracking_status"] == 1 and is_on_target(status, feed)

    ros.until(follows, "the box on the target")
    assert received[-1]["tracking_mode"] == 2
    camera.track_stop(CAMERA)
    feed.answered()
    ros.until(lambda: received[-1]["tracking_status"] == 0, "no target")
    with pytest.raises(CameraError) as refusal:
        camera.track_rectangle(CAMERA, 0.2, 0.2, 0.1, 0.1)
    assert refusal.value.result is CameraResult.DENIED


def test_lost_target_is_an_error_and_the_operator_is_told(feed, station):
    feed.answered()
    assert station.command(Command.CAMERA_TRACK_RECTANGLE, *corners(feed)) is Result.ACCEPTED
    feed.until_tracked()
    station.until(CameraTrackingImageStatus, lambda status: status.tracking_status == 1)
    ros = feed.ros

    def lost():
        feed.answered(feed.scene.empty())
        return station.of(CameraTrackingImageStatus)[-1].tracking_status == 2

    ros.until(lost, "the loss")
    statuses = station.of(CameraTrackingImageStatus)
    coasting = [status for status in statuses if status.tracking_status == 9]
    assert all(not math.isnan(status.rec_top_x) for status in coasting)
    assert math.isnan(statuses[-1].rec_top_x)
    station.until_said("Target lost: ")
    feed.until_tracked()
    station.until(StatusText, lambda text: b"found again" in text.text)


def test_two_stations_are_served_and_the_second_may_stop_what_the_first_began(feed, station, port):
    other = Station(feed.ros, port, system=254)
    feed.answered()
    assert station.command(Command.CAMERA_TRACK_RECTANGLE, *corners(feed)) is Result.ACCEPTED
    feed.until_tracked()
    station.until(CameraTrackingImageStatus, lambda status: status.tracking_status == 1)
    assert other.command(Command.REQUEST_CAMERA_INFORMATION, 1.0) is Result.ACCEPTED
    other.until(CameraInformation, lambda message: message.resolution_h == feed.scene.size[0])
    assert not other.of(CameraTrackingImageStatus)  # it has not asked
    assert other.command(Command.CAMERA_STOP_TRACKING) is Result.ACCEPTED
    feed.answered()
    station.messages.clear()
    station.until(CameraTrackingImageStatus, lambda status: status.tracking_status == 0)
    other.socket.close()


def test_refusal_of_the_tracker_comes_back_with_its_reason(feed, station):
    feed.answered()
    feed.set_target()
    before = feed.answered().target_id
    tiny = (0.5, 0.5, 0.5 + 1e-3, 0.5 + 1e-3)
    assert station.command(Command.CAMERA_TRACK_RECTANGLE, *tiny) is Result.DENIED
    station.until_said("2x2")
    assert feed.answered().target_id == before


def set_parameter(ros, name, value):
    value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
    change = SetParameters.Request(parameters=[Parameter(name=name, value=value)])
    assert ros.call(SetParameters, "mavlink_camera/set_parameters", change).results[0].successful


def test_what_was_marked_starts_on_the_frame_that_the_operator_saw(feed, station):
    latency, ros = 0.7, feed.ros
    set_parameter(ros, "video_latency", latency)
    with feed.playing():
        time.sleep(1.5)
        published = len(feed.status)
        begin = ros.node.get_clock().now().nanoseconds
        assert station.command(Command.CAMERA_TRACK_RECTANGLE, *corners(feed)) is Result.ACCEPTED
        end = ros.node.get_clock().now().nanoseconds
        ros.until(lambda: len(feed.status) > published + 3, "the frames after")
    set_parameter(ros, "video_latency", 0.0)
    (first,) = (status for status in feed.status if status.message.endswith("set"))
    seen = stamp_nanoseconds(first.header.stamp) / NANOSECONDS + latency
    stamps = sorted({stamp_nanoseconds(status.header.stamp) for status in feed.status})
    gap = max(b - a for a, b in itertools.pairwise(stamps)) / NANOSECONDS
    assert begin / NANOSECONDS - gap <= seen <= end / NANOSECONDS + gap


def test_datagrams_of_all_kinds_leave_the_node_as_it_was(feed, station):
    chance = random.Random(5)
    whole = encode(CommandLong(0.1, 0.1, 0.9, 0.9, command=2005, target_system=1), 255, 190, 1)
    for _ in range(10):  # no more at a time than a socket holds
        for _ in range(100):
            data = bytearray(whole if chance.random() < 0.5 else chance.randbytes(80))
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            station.socket.send(bytes(data[: chance.randrange(len(data) + 1)]))
        station.socket.send(chance.randbytes(20_000))
        assert station.command(Command.REQUEST_MESSAGE, STATUS) is Result.ACCEPTED
    assert station.of(CameraTrackingImageStatus)[-1].tracking_status == 0
    report = diagnosed(feed.ros, "links")

    def counted():
        values = {value.key: value.value for value in report().values} if report() else {}
        return int(values.get("damaged", 0)) > 300

    feed.ros.until(counted, "what was damaged in /diagnostics")


def test_diagnostics_say_who_is_there_and_a_manager_closes_and_opens_the_link(feed, station):
    ros = feed.ros
    stations, tracker = diagnosed(ros, "stations"), diagnosed(ros, "tracker")
    ros.until(lambda: stations() and "station 255/190" in stations().message, "the station")
    set_parameter(ros, "tracker_timeout", 0.1)
    ros.until(lambda: tracker() and tracker().level == DiagnosticStatus.WARN, "a silent tracker")
    assert "/tracker/status is silent: is the tracker active" in tracker().message
    station.until(CameraTrackingImageStatus, lambda status: status.tracking_status == 2)
    set_parameter(ros, "tracker_timeout", 60.0)
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_DEACTIVATE):
        change = ChangeState.Request(transition=Transition(id=transition))
        last = ros.call(ChangeState, "mavlink_camera/change_state", change)
    assert not last.success  # it is inactive already, and still there
    ros.until(lambda: stations().level == DiagnosticStatus.STALE, "the end of the session")
    change = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_ACTIVATE))
    assert ros.call(ChangeState, "mavlink_camera/change_state", change).success
    assert station.command(Command.REQUEST_CAMERA_INFORMATION, 1.0) is Result.ACCEPTED


def test_without_a_tracker_commands_are_rejected_for_now_and_the_status_is_an_error(ros):
    port = free_port()
    process = ros.start("mavlink_camera", url=f"udpin:127.0.0.1:{port}")
    station = Station(ros, port)
    station.until(Heartbeat)
    for command in ((Command.CAMERA_TRACK_POINT, 0.5, 0.5), (Command.CAMERA_STOP_TRACKING,)):
        assert station.command(*command) is Result.TEMPORARILY_REJECTED
    station.until_said("is the tracker running")
    station.command(Command.REQUEST_MESSAGE, STATUS)
    assert station.until(CameraTrackingImageStatus).tracking_status == 2
    station.socket.close()
    assert process.stop() == 0


def test_parameter_that_makes_no_sense_is_one_sentence(ros):
    process = ros.start("mavlink_camera", url="udp:14550")
    assert process.wait() == 2
    assert "error: url is 'udp:14550', expected udpout:HOST:PORT" in process.output
    assert "Traceback" not in process.output


@contextlib.contextmanager
def flying(port, yaw, place):
    """An autopilot written with pymavlink: who and where it is, ten times a second."""
    ended, begin = threading.Event(), time.monotonic()
    writer = common.MAVLink(None, 1, 1)

    def fly():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            while not ended.wait(0.1):
                boot = int(1000 * (time.monotonic() - begin))
                for message in (
                    common.MAVLink_heartbeat_message(2, 3, 0, 0, 4, 3),
                    common.MAVLink_attitude_message(boot, 0.0, 0.0, yaw, 0.0, 0.0, 0.0),
                    common.MAVLink_global_position_int_message(boot, *place, 0, 0, 0, 0, 0),
                ):
                    link.sendto(message.pack(writer), ("127.0.0.1", port))

    thread = threading.Thread(target=fly)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_place_on_earth_comes_from_target_3d_and_the_autopilot(ros, tiny_model, scene):
    """A target of known height, seen from a vehicle that looks to the east."""
    port, focal, (width, height) = free_port(), 300.0, scene.size
    ros.start_tracker(tiny_model, watchdog__timeout=60.0)
    ros.start(
        "target_3d",
        methods=["known_size"],
        size__height=1.0,
        output_frame="base_link",
        fixed_frame="",
        max_age=60.0,
    )
    camera = ros.start(
        "mavlink_camera",
        url=f"udpin:127.0.0.1:{port}",
        tracker_timeout=60.0,
        geo__source="autopilot",
    )
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    optical = TransformStamped(header=Header(frame_id="base_link"), child_frame_id="optical")
    optical.transform.translation = Vector3(x=2.0)
    optical.transform.rotation = Quaternion(x=-0.5, y=0.5, z=-0.5, w=0.5)
    ros.publisher(TFMessage, "/tf_static", latched).publish(TFMessage(transforms=[optical]))
    info = CameraInfo(width=width, height=height)
    info.k = [focal, 0.0, (width - 1) / 2, 0.0, focal, (height - 1) / 2, 0.0, 0.0, 1.0]
    calibration = ros.publisher(CameraInfo, "camera_info", qos_profile_sensor_data, subscribers=2)
    station = Station(ros, port)
    geo = CameraTrackingGeoStatus.NUMBER
    feed = ros.feed(scene, real_time=True)
    calibration.publish(info)
    feed.set_target()
    feed.until_tracked()
    station.until(CameraInformation, lambda message: not message.flags & 2048)
    with flying(port, math.pi / 2, (471_234_567, 85_000_000, 400_000)):
        station.until(CameraInformation, lambda message: message.flags & 2048)
        assert station.command(Command.SET_MESSAGE_INTERVAL, geo, 50_000.0) is Result.ACCEPTED

        def located():
            calibration.publish(info)
            feed.move(1)
            statuses = station.of(CameraTrackingGeoStatus)
            return statuses[-1] if statuses and statuses[-1].tracking_status == 1 else None

        status = ros.until(located, "a place on earth")
    x, _, w, h = scene.box(feed.step)
    distance = focal * 1.0 / h
    east = 2.0 + distance
    south = distance * (x + 0.5 * w - width / 2) / focal  # to the right of who looks east
    assert camera.alive
    metres = 111_132.0  # of a degree of latitude
    assert (status.lat - 471_234_567) * 1e-7 * metres == pytest.approx(-south, abs=1.0)
    per_degree = metres * math.cos(math.radians(47.12))
    assert (status.lon - 85_000_000) * 1e-7 * per_degree == pytest.approx(east, abs=1.0)
    assert status.dist == pytest.approx(distance, rel=0.2)
    ros.until(
        lambda: (
            feed.answered(scene.empty())
            and station.of(CameraTrackingGeoStatus)[-1].tracking_status == 2
        ),
        "no place of a lost target",
    )
    assert math.isnan(station.of(CameraTrackingGeoStatus)[-1].alt)
    station.until(CameraInformation, lambda message: not message.flags & 2048)
    station.socket.close()
