# SPDX-License-Identifier: Apache-2.0
"""What the camera component answers, to whom and when: real frames in and out, a clock by hand."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
common = pytest.importorskip("pymavlink.dialects.v20.common", reason="make setup installs it")


from vt_interfaces.msg import TrackStatus
from vt_models.errors import InputError
from vt_ros.client import Estimate, State
from vt_ros.mavlink.messages import (
    CameraCaptureStatus,
    CameraFovStatus,
    CameraInformation,
    CameraSettings,
    CameraTrackingImageStatus,
    Command,
    CommandAck,
    CommandInt,
    CommandLong,
    FrameReader,
    Heartbeat,
    Result,
    StatusText,
    StorageInformation,
    VideoStreamInformation,
    VideoStreamStatus,
    encode,
)
from vt_ros.mavlink_camera.camera_component import CameraComponent, Endpoint, Mark
from vt_ros.mavlink_camera.parameters import SETTINGS, read_settings

LINK = Endpoint(0)
STATION, OTHER_STATION, AUTOPILOT = (255, 190), (254, 190), (1, 1)
GCS = Heartbeat(type=6)
FLYING = Heartbeat(type=2, autopilot=3, system_status=4)
BOOTING = replace(FLYING, system_status=1)
RECTANGLE = (0.25, 0.25, 0.5, 0.75)


def settings_of(**values):
    given = {setting.name: setting.default for setting in SETTINGS} | values
    return read_settings(given.__getitem__)


class FakeTracker:
    """Remembers what it is asked for, and answers when the test wants."""

    def __init__(self):
        self.starts, self.stops = [], []

    def start(self, mark, answer):
        self.starts.append((mark, answer))

    def stop(self, answer):
        self.stops.append(answer)


class Bench:
    """A component between a fake tracker and stations that the test plays."""

    def __init__(self, **values):
        self.now, self.sent, self.warnings = 100.0, [], []
        self.tracker, self.reader = FakeTracker(), FrameReader()
        self.component = CameraComponent(
            settings_of(**values),
            (LINK,),
            self.tracker,
            lambda endpoint, data: self.sent.append((self.now, endpoint, data)),
            self.warnings.append,
            lambda: self.now,
        )
        self.target_id = 0

    def hear(self, message, source=STATION, endpoint=LINK):
        """Let a message of somebody come in; what was sent since."""
        self.sent.clear()
        (frame,) = FrameReader().read_datagram(encode(message, *source, 0))
        self.component.receive(frame, endpoint)
        return self.messages()

    def command(self, command, *parameters, source=STATION, endpoint=LINK, **fields):
        fields = {"target_system": 1, "target_component": 100, **fields}
        return self.hear(CommandLong(*parameters, command=command, **fields), source, endpoint)

    def result(self, command, *parameters, **fields):
        """The result in the one acknowledgement of a command; None if there is none."""
        acks = [m for m in self.command(command, *parameters, **fields) if type(m) is CommandAck]
        assert len(acks) <= 1
        return Result(acks[0].result) if acks else None

    def messages(self, *kinds, endpoint=None):
        """What was sent, or what of it is of some kinds, or went to one endpoint."""
        found = []
        for _, to, data in self.sent:
            (frame,) = self.reader.read_datagram(data)
            assert frame.system == 1
            if (not kinds or type(frame.message) in kinds) and endpoint in (None, to):
                found.append(frame.message)
        return found

    def run(self, seconds, step=0.01):
        """Let time pass; what was sent meanwhile."""
        self.sent.clear()
        for _ in range(round(seconds / step)):
            self.now += step
            self.component.tick()

    def see(self, state=State.TRACKING, box=(100.0, 50.0, 200.0, 100.0), age=0.0, size=(400, 200)):
        """Let the tracker say something about a frame."""
        status = TrackStatus(state=int(state), image_width=size[0], image_height=size[1])
        status.message = "left the image" if state is State.LOST else ""
        box = None if state in (State.IDLE, State.LOST) else box
        estimate = Estimate(0, "", state, 0.9, 1, box, None, math.nan, math.nan, status)
        self.component.take(estimate, age)

    def status(self):
        """The tracking status, as a station gets it that asks."""
        _, status = self.command(Command.REQUEST_MESSAGE, CameraTrackingImageStatus.NUMBER)
        return status

    def texts(self):
        """Texts for the operator, put together."""
        whole = []
        for text in self.messages(StatusText):
            part = text.text.rstrip(b"\0")
            if text.chunk_seq:
                whole[-1] += part
            else:
                whole.append(part)
        return [text.decode() for text in whole]


@pytest.fixture
def bench():
    bench = Bench()
    bench.see(State.IDLE)
    return bench


# Being found and described


@pytest.mark.parametrize(
    ("role", "kinds"),
    [
        ("camera", {100: 30}),
        ("onboard_controller", {191: 18}),
        ("both", {100: 30, 191: 18}),
    ],
)
def test_heartbeat_comes_once_a_second_from_each_component_of_the_role(role, kinds):
    bench = Bench(role=role)
    bench.run(10.0)
    heard = {component: [] for component in kinds}
    for _, _, data in bench.sent:
        (frame,) = bench.reader.read_datagram(data)
        assert frame.message.type == kinds[frame.component]
        heard[frame.component].append(frame.message)
    assert {len(messages) for messages in heard.values()} <= {10, 11}


@pytest.mark.parametrize(
    ("kind", "old", "parameter"),
    [
        (CameraInformation, 521, 1.0),
        (CameraSettings, 522, 1.0),
        (StorageInformation, 525, 0.0),
        (CameraCaptureStatus, 527, 1.0),
        (VideoStreamInformation, 2504, 0.0),
        (VideoStreamInformation, 2504, math.nan),
        (VideoStreamStatus, 2505, 1.0),
        (CameraFovStatus, None, 0.0),
        (CameraTrackingImageStatus, None, 0.0),
        (Heartbeat, None, 0.0),
    ],
)
def test_messages_are_sent_on_request_also_by_the_deprecated_commands(kind, old, parameter):
    bench = Bench(video_uri="rtsp://10.0.0.2/main")
    asked = [(Command.REQUEST_MESSAGE, float(kind.NUMBER))] + ([(old, parameter)] if old else [])
    for command, *parameters in asked:
        ack, message = bench.command(command, *parameters)
        assert (ack.command, ack.result) == (command, Result.ACCEPTED)
        assert (ack.target_system, ack.target_component) == STATION
        assert type(message) is kind


def test_description_holds_what_the_parameters_and_the_images_say():
    bench = Bench(camera_name="front", video_uri="5600", video_type="rtp_udp", horizontal_fov=90.0)
    bench.see(State.IDLE, size=(640, 480))
    _, information = bench.command(Command.REQUEST_CAMERA_INFORMATION, 1.0)
    assert information.flags == 1 | 256 | 512 | 1024
    assert information.model_name.rstrip(b"\0") == b"front"
    assert (information.resolution_h, information.resolution_v) == (640, 480)
    assert math.isnan(information.focal_length)
    _, stream = bench.command(Command.REQUEST_VIDEO_STREAM_INFORMATION)
    assert (stream.type, stream.uri.rstrip(b"\0"), stream.encoding) == (1, b"5600", 1)
    assert (stream.stream_id, stream.count, stream.hfov) == (1, 1, 90)
    _, fov = bench.command(Command.REQUEST_MESSAGE, CameraFovStatus.NUMBER)
    assert fov.hfov == 90.0
    assert fov.vfov == pytest.approx(2 * math.degrees(math.atan(0.75)))
    assert math.isnan(fov.q_w)


def test_what_is_not_known_is_not_claimed():
    bench = Bench(claim_capture=False)
    _, information = bench.command(Command.REQUEST_CAMERA_INFORMATION, 1.0)
    assert information.flags == 512 | 1024
    assert information.resolution_h == 0
    assert bench.result(Command.REQUEST_VIDEO_STREAM_INFORMATION) is Result.DENIED
    _, fov = bench.command(Command.REQUEST_MESSAGE, CameraFovStatus.NUMBER)
    assert math.isnan(fov.hfov)
    # Where the target is on earth is not known: no flag, no message.
    assert bench.result(Command.REQUEST_MESSAGE, 276.0) is Result.DENIED
    assert bench.result(Command.SET_MESSAGE_INTERVAL, 276.0, 1e6) is Result.DENIED


def test_camera_is_described_to_who_is_new_and_again_later(bench):
    described = []
    for second in range(80):
        bench.hear(GCS)
        bench.run(1.0, step=0.1)
        described += [second] * len(bench.messages(CameraInformation))
    assert described == [0, 1, 3, 7, 15, 75]
    bench.run(30.0)  # it has died
    assert not bench.messages(CameraInformation)
    bench.hear(GCS)
    bench.run(0.1)
    assert len(bench.messages(CameraInformation)) == 1


# Commands of and for others


@pytest.mark.parametrize(
    "target",
    [
        {"target_system": 2},
        {"target_component": 1},
        {"target_component": 101},
        {"target_component": 154},
    ],
)
def test_command_for_another_component_is_not_answered(bench, target):
    assert bench.command(Command.CAMERA_TRACK_RECTANGLE, *RECTANGLE, **target) == []
    assert bench.command(400, 1.0, **target) == []
    assert not bench.tracker.starts


def test_command_for_all_is_answered_only_if_it_is_known(bench):
    everybody = {"target_system": 0, "target_component": 0}
    assert bench.result(Command.REQUEST_CAMERA_INFORMATION, 1.0, **everybody) is Result.ACCEPTED
    assert bench.result(400, 1.0, **everybody) is None  # arming is not ours to refuse
    assert bench.result(Command.REQUEST_MESSAGE, 148.0, **everybody) is None
    nan, another = math.nan, 101.0
    assert bench.result(Command.CAMERA_TRACK_POINT, nan, 0.5, **everybody) is Result.DENIED
    assert bench.result(Command.CAMERA_TRACK_POINT, 0.5, 0.5, 0.0, another, **everybody) is None


def test_unknown_command_is_unsupported(bench):
    assert bench.result(400, 1.0) is Result.UNSUPPORTED
    assert bench.texts() == []
    assert bench.result(Command.VIDEO_START_CAPTURE) is Result.UNSUPPORTED
    assert bench.texts() == ["Recording: this camera tracks and records nothing"]


def test_own_message_that_comes_back_is_ignored(bench):
    assert bench.hear(Heartbeat(), (1, 100)) == []
    assert bench.component.describe_stations() == []


# Starting and stopping


def test_rectangle_starts_and_is_acknowledged_when_the_tracker_has_answered(bench):
    assert bench.command(Command.CAMERA_TRACK_RECTANGLE, *RECTANGLE) == []
    ((mark, answer),) = bench.tracker.starts
    assert mark == Mark(box=(100.0, 50.0, 100.0, 100.0))
    answer(Result.ACCEPTED, "")
    (ack,) = bench.messages()
    assert (ack.command, ack.result) == (Command.CAMERA_TRACK_RECTANGLE, Result.ACCEPTED)


def test_point_starts_and_progress_is_told_while_it_is_searched_for(bench):
    assert bench.command(Command.CAMERA_TRACK_POINT, 0.5, 1.0, 0.02) == []
    ((mark, answer),) = bench.tracker.starts
    assert mark == Mark(point=(200.0, 199.5))
    bench.run(1.0)
    progress = bench.messages(CommandAck)
    assert {ack.result for ack in progress} == {Result.IN_PROGRESS}
    assert len(progress) == 3
    bench.sent.clear()
    answer(Result.FAILED, "no object stands out there")
    assert [ack.result for ack in bench.messages(CommandAck)] == [Result.FAILED]
    assert bench.texts() == ["Track point: no object stands out there"]


def test_command_int_is_as_good_as_command_long(bench):
    fields = {"target_system": 1, "target_component": 100}
    bench.hear(CommandInt(*RECTANGLE, x=2**31 - 1, command=2005, **fields))
    assert bench.tracker.starts[0][0] == Mark(box=(100.0, 50.0, 100.0, 100.0))


@pytest.mark.parametrize(
    ("command", "parameters", "word"),
    [
        (2005, (math.nan, 0.0, 1.0, 1.0), "x is nan"),
        (2005, (0.0, -0.1, 1.0, 1.0), "y is -0.1"),
        (2005, (0.0, 0.0, 1.1, 1.0), "right edge is 1.1"),
        (2005, (0.0, 0.0, 0.5, math.inf), "lower edge is inf"),
        (2005, (0.5, 0.5, 0.4, 0.6), "is empty"),
        (2005, (0.5, 0.5, 0.6, 0.5), "is empty"),
        (2005, (*RECTANGLE, 3.0), "camera 3 is meant"),
        (2004, (2.0, 0.5, 0.0), "x is 2"),
        (2004, (0.5, math.nan, 0.0), "y is nan"),
        (2004, (0.5, 0.5, 20.0), "radius is 20"),
        (2004, (0.5, 0.5, 0.0, 101.0), "camera 101 is meant"),
        (2010, (101.0,), "camera 101 is meant"),
    ],
)
def test_nonsense_is_denied_with_a_reason_and_the_tracker_hears_nothing(
    bench, command, parameters, word
):
    assert bench.result(command, *parameters) is Result.DENIED
    assert word in bench.texts()[0]
    assert word in bench.warnings[0]
    assert not bench.tracker.starts
    assert not bench.tracker.stops


@pytest.mark.parametrize("camera", [0.0, math.nan, 100.0])
def test_camera_id_may_be_ours_all_or_missing(bench, camera):
    bench.command(Command.CAMERA_TRACK_RECTANGLE, *RECTANGLE, camera)
    assert len(bench.tracker.starts) == 1


def test_edge_of_the_image_may_be_missed_by_a_rounding_error(bench):
    bench.command(Command.CAMERA_TRACK_RECTANGLE, -1e-7, 0.5, 1.0000001, 1.0)
    assert bench.tracker.starts[0][0] == Mark(box=(0.0, 100.0, 400.0, 100.0))


def test_start_before_the_first_image_is_rejected_for_now():
    bench = Bench()
    result = bench.result(Command.CAMERA_TRACK_RECTANGLE, *RECTANGLE)
    assert result is Result.TEMPORARILY_REJECTED
    assert "no image" in bench.texts()[0]


def test_long_reason_comes_in_chunks(bench):
    reason = "a reason that goes on and on, " * 4 + "é" * 10
    bench.command(Command.CAMERA_TRACK_RECTANGLE, *RECTANGLE)
    bench.tracker.starts[0][1](Result.TEMPORARILY_REJECTED, reason)
    assert bench.texts() == [f"Track rectangle: {reason}"]
    last = bench.messages(StatusText)[-1]
    assert last.text.endswith(b"\0")


def test_repeated_command_does_not_start_again(bench):
    for _ in range(3):  # sent again while no answer has come
        bench.command(Command.CAMERA_TRACK_RECTANGLE, *RECTANGLE)
    assert [ack.result for ack in bench.messages()] == [Result.IN_PROGRESS]
    bench.tracker.starts[0][1](Result.ACCEPTED, "")
    bench.now += 3.0  # or because the answer was lost
    assert bench.result(2005, *RECTANGLE, confirmation=1) is Result.ACCEPTED
    assert len(bench.tracker.starts) == 1
    bench.now += 1.0
    bench.command(Command.CAMERA_TRACK_RECTANGLE, *RECTANGLE)
    assert len(bench.tracker.starts) == 2


def test_refused_command_may_be_tried_again_at_once(bench):
    bench.command(Command.CAMERA_TRACK_RECTANGLE, *RECTANGLE)
    bench.tracker.starts[0][1](Result.TEMPORARILY_REJECTED, "no image")
    bench.command(Command.CAMERA_TRACK_RECTANGLE, *RECTANGLE)
    assert len(bench.tracker.starts) == 2


def test_of_two_rectangles_only_the_later_is_acknowledged(bench):
    bench.command(Command.CAMERA_TRACK_RECTANGLE, *RECTANGLE)
    bench.command(Command.CAMERA_TRACK_RECTANGLE, 0.0, 0.0, 0.5, 0.5)
    first, second = (answer for _, answer in bench.tracker.starts)
    first(Result.TEMPORARILY_REJECTED, "cancelled")
    assert bench.messages() == []
    second(Result.ACCEPTED, "")
    assert [ack.result for ack in bench.messages()] == [Result.ACCEPTED]


def test_stop_is_handed_on_and_acknowledged(bench):
    assert bench.command(Command.CAMERA_STOP_TRACKING) == []
    bench.tracker.stops[0](Result.ACCEPTED, "target 1 cleared")
    assert [ack.result for ack in bench.messages()] == [Result.ACCEPTED]


def test_stop_overtakes_a_start_that_still_goes_on(bench):
    bench.command(Command.CAMERA_TRACK_POINT, 0.5, 0.5)
    bench.command(Command.CAMERA_STOP_TRACKING, source=OTHER_STATION)
    bench.tracker.stops[0](Result.ACCEPTED, "there was no target")
    bench.sent.clear()
    bench.tracker.starts[0][1](Result.ACCEPTED, "")
    assert len(bench.tracker.stops) == 2
    (ack,) = bench.messages(CommandAck)
    assert ack.result == Result.TEMPORARILY_REJECTED


def test_tracker_that_does_not_answer_is_given_up_and_a_late_start_undone():
    bench = Bench(request_timeout=5.0)
    bench.see(State.IDLE)
    bench.command(Command.CAMERA_TRACK_POINT, 0.5, 0.5)
    bench.run(5.1)
    ack = bench.messages(CommandAck)[-1]
    assert ack.result == Result.TEMPORARILY_REJECTED
    assert bench.texts() == ["Track point: no answer of the tracker in 5 s"]
    bench.sent.clear()
    bench.tracker.starts[0][1](Result.ACCEPTED, "")
    assert len(bench.tracker.stops) == 1
    assert bench.messages() == []


# The tracking status


def test_status_of_a_measured_box_is_active(bench):
    for state in (State.TRACKING, State.UNCERTAIN):
        bench.see(state)
        status = bench.status()
        assert (status.tracking_status, status.tracking_mode, status.target_data) == (1, 2, 4)
        corners = (status.rec_top_x, status.rec_top_y, status.rec_bottom_x, status.rec_bottom_y)
        assert corners == (0.25, 0.25, 0.75, 0.75)
        assert all(map(math.isnan, (status.point_x, status.point_y, status.radius)))


def test_status_of_a_predicted_box_is_active_and_coasting(bench):
    bench.see(State.COASTING, box=(300.0, 50.0, 200.0, 100.0), size=(0, 0))
    status = bench.status()
    assert status.tracking_status == 9
    assert (status.rec_top_x, status.rec_bottom_x) == (0.75, 1.0)


def test_status_of_a_lost_target_is_an_error_without_a_box(bench):
    bench.see()
    bench.see(State.LOST)
    status = bench.status()
    assert (status.tracking_status, status.target_data) == (2, 4)
    assert math.isnan(status.rec_top_x)


@pytest.mark.parametrize("size", [(2**32 - 1, 480), (640, 70_000)])
def test_size_of_no_image_is_an_error_and_silences_nothing(bench, size):
    """16 bits hold a side: it was an exception in the thread that sends everything."""
    bench.see(size=(640, 480))
    bench.see(size=size)
    assert bench.status().tracking_status == 2
    _, information = bench.command(Command.REQUEST_CAMERA_INFORMATION, 1.0)
    assert (information.resolution_h, information.resolution_v) == (640, 480)
    bench.see(size=(640, 480))
    assert bench.status().tracking_status == 1


def test_box_that_is_not_finite_is_an_error(bench):
    bench.see(box=(math.nan, 50.0, 200.0, 100.0))
    assert bench.status().tracking_status == 2
    assert math.isnan(bench.status().rec_top_x)


def test_status_without_a_target_is_idle(bench):
    status = bench.status()
    assert (status.tracking_status, status.tracking_mode) == (0, 0)
    assert math.isnan(status.rec_top_x)


def test_silent_tracker_is_an_error_not_its_last_box(bench):
    bench.see()
    bench.now += 2.1
    assert bench.status().tracking_status == 2
    assert math.isnan(bench.status().rec_top_x)
    bench.see()
    assert bench.status().tracking_status == 1


def test_operator_is_told_of_loss_and_return(bench):
    bench.hear(GCS)
    bench.see()
    for state in (State.LOST, State.LOST, State.UNCERTAIN, State.TRACKING):
        bench.see(state)
    assert bench.texts() == ["Target lost: left the image", "Target found again"]


def test_status_is_delayed_until_the_operator_sees_the_frame():
    bench = Bench(status_delay=0.45)
    for step in range(10):  # a box that moves a tenth of the width every 0.1 s
        bench.see(box=(40.0 * step, 0.0, 40.0, 40.0), age=0.1)
        bench.now += 0.1
    assert bench.status().rec_top_x == pytest.approx(0.6)


# Intervals


def streamed(bench, seconds=10.0, endpoint=None):
    """Tracking statuses a second, while stations go on being heard and the tracker speaks."""
    count = 0
    for _ in range(round(seconds)):
        bench.hear(GCS)
        bench.see()
        bench.run(1.0, step=0.005)
        count += len(bench.messages(CameraTrackingImageStatus, endpoint=endpoint))
    return count / seconds


@pytest.mark.parametrize(
    ("microseconds", "rate"),
    [(500_000, 2.0), (100_000, 10.0), (0, 5.0), (-1, 0.0), (1, 50.0), (2.5e6, 0.4)],
)
def test_status_comes_as_often_as_asked_for_but_never_floods(bench, microseconds, rate):
    assert bench.result(511, 275.0, float(microseconds)) is Result.ACCEPTED
    assert streamed(bench) == pytest.approx(rate, rel=0.1, abs=0.05)
    assert bench.result(511, 275.0, -1.0) is Result.ACCEPTED
    assert streamed(bench, 2.0) == 0.0


@pytest.mark.parametrize(
    ("number", "microseconds"),
    [(275.0, math.nan), (275.0, -2.0), (275.0, -0.5), (275.0, math.inf), (0.0, 1e6)]
    + [(number, 1e6) for number in (math.nan, math.inf, 30.0, 275.5, -1.0, 1e30)],
)
def test_impossible_interval_is_denied(bench, number, microseconds):
    assert bench.result(511, number, microseconds) is Result.DENIED
    assert streamed(bench, 2.0) == 0.0


def test_other_messages_come_by_interval_too(bench):
    assert bench.result(511, float(CameraFovStatus.NUMBER), 1e6) is Result.ACCEPTED
    bench.run(5.0)
    assert len(bench.messages(CameraFovStatus)) == pytest.approx(5, abs=1)
    assert bench.result(511, float(CameraFovStatus.NUMBER), 0.0) is Result.ACCEPTED
    bench.run(5.0)
    assert not bench.messages(CameraFovStatus)


def test_stations_at_other_places_get_what_each_asked_for(bench):
    one, other = Endpoint(1, ("10.0.0.1", 1000)), Endpoint(1, ("10.0.0.2", 1000))
    bench.result(511, 275.0, 5e5, endpoint=one)
    bench.result(511, 275.0, 1e5, endpoint=other)
    bench.see()
    bench.run(2.0)
    counts = [
        len(bench.messages(CameraTrackingImageStatus, endpoint=endpoint))
        for endpoint in (one, other, LINK)
    ]
    assert counts == [4, 20, 0]
    bench.result(511, 275.0, -1.0, endpoint=other)
    bench.run(2.0)
    assert len(bench.messages(CameraTrackingImageStatus, endpoint=one)) == 4
    assert not bench.messages(CameraTrackingImageStatus, endpoint=other)


def test_stations_behind_one_router_share_the_fastest_stream(bench):
    bench.result(511, 275.0, 5e5)
    bench.result(511, 275.0, 1e5, source=OTHER_STATION)
    bench.see()
    bench.run(2.0)
    assert len(bench.messages(CameraTrackingImageStatus)) == 20
    bench.result(511, 275.0, -1.0, source=OTHER_STATION)
    bench.run(2.0)
    assert len(bench.messages(CameraTrackingImageStatus)) == 4


def test_nothing_is_sent_to_a_station_that_died_until_it_is_back(bench):
    endpoint = Endpoint(1, ("10.0.0.1", 1000))
    bench.result(511, 275.0, 1e5, endpoint=endpoint)
    bench.run(9.0)
    assert len(bench.messages(CameraTrackingImageStatus, endpoint=endpoint)) == pytest.approx(
        90, abs=2
    )
    bench.run(2.0)
    bench.run(20.0)
    assert bench.messages(endpoint=endpoint) == []
    assert bench.messages(Heartbeat, endpoint=LINK)
    assert "silent for" in bench.component.describe_stations()[0]
    bench.hear(GCS, endpoint=endpoint)
    bench.run(1.0)
    assert len(bench.messages(CameraTrackingImageStatus, endpoint=endpoint)) == 10
    assert len(bench.messages(Heartbeat, endpoint=endpoint)) == 1


def test_autopilot_gets_description_and_status_unasked_and_again_after_a_restart(bench):
    bench.hear(FLYING, AUTOPILOT)
    bench.see()
    bench.run(2.0)
    assert len(bench.messages(CameraInformation)) == 2
    assert len(bench.messages(CameraTrackingImageStatus)) == 10
    bench.result(511, 275.0, -1.0, source=AUTOPILOT)
    bench.run(8.0)
    assert not bench.messages(CameraTrackingImageStatus)
    bench.hear(FLYING, AUTOPILOT)
    bench.now += 1.0
    for restarted in (BOOTING, FLYING):
        bench.hear(restarted, AUTOPILOT)
        bench.see()
        bench.run(2.0)
        assert len(bench.messages(CameraTrackingImageStatus)) == 10
    bench.result(511, 275.0, -1.0, source=AUTOPILOT)
    bench.now += 5.0  # so long is nobody silent who has not restarted
    bench.hear(FLYING, AUTOPILOT)
    bench.see()
    bench.run(2.0)
    assert len(bench.messages(CameraInformation)) == 2
    assert len(bench.messages(CameraTrackingImageStatus)) == 10


def test_autopilot_of_another_vehicle_is_no_autopilot_of_ours(bench):
    bench.hear(FLYING, (2, 1))
    bench.run(2.0)
    assert not bench.messages(CameraTrackingImageStatus)


def test_strangers_do_not_fill_the_memory(bench):
    for number in range(2000):
        endpoint = Endpoint(1, (f"10.0.{number // 250}.{number % 250}", 1000))
        bench.now += 0.001
        bench.hear(GCS, (1 + number % 250, 190), endpoint)
        bench.component.tick()
    component = bench.component
    assert len(component._stations) == 32
    assert len(component._announcements) <= 33
    assert len(component._sequences) <= 33
    assert len(component._sent_at) <= 33


def test_sequence_numbers_have_no_gaps_at_either_endpoint(bench):
    endpoints = Endpoint(1, ("10.0.0.1", 1)), Endpoint(1, ("10.0.0.2", 1))
    for endpoint in endpoints:
        bench.result(511, 275.0, 1e5, endpoint=endpoint)
    bench.see()
    bench.run(1.5)
    for endpoint in endpoints:
        numbers = [data[4] for _, to, data in bench.sent if to == endpoint]
        assert len(numbers) > 10
        assert all((b - a) % 256 == 1 for a, b in itertools.pairwise(numbers))


# Parameters


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"url": ""}, "url is empty"),
        (
            {"url": "udp:127.0.0.1:14550"},
            "^url is 'udp:127.0.0.1:14550', expected udpout:HOST:PORT",
        ),
        ({"url": "udpout:127.0.0.1"}, "expected udpout:HOST:PORT"),
        ({"url": "udpin:0.0.0.0:70000"}, "port from 1 to 65535"),
        ({"url": "serial:/dev/ttyUSB0:12345"}, "baud rate"),
        ({"role": "both", "controller_component_id": 100}, "must differ"),
        ({"camera_name": ""}, "1 to 32 bytes"),
        ({"camera_name": "ä" * 17}, "1 to 32 bytes"),
        ({"tracker": "a//b"}, "tracker is 'a//b', expected the name of a node"),
        ({"video_uri": "10.0.0.2"}, "rtsp://"),
        ({"video_uri": "rtsp://10.0.0.2/main", "video_type": "rtp_udp"}, "5600"),
        ({"video_uri": "rtsp://" + "x" * 200}, "rtsp://"),
    ],
)
def test_parameters_that_make_no_sense_are_one_sentence(values, word):
    with pytest.raises(InputError, match=word):
        settings_of(**values)


def test_several_links_and_their_forms():
    settings = settings_of(url="udpin:[::]:14550, tcp:autopilot:5760,serial:/dev/ttyACM0:921600")
    assert [(link.kind, link.place, link.number) for link in settings.links] == [
        ("udpin", "::", 14550),
        ("tcp", "autopilot", 5760),
        ("serial", "/dev/ttyACM0", 921600),
    ]


# Damage


def damaged(chance, whole):
    """Random bytes, or a datagram with a few bits changed, its end cut off, bytes put in."""
    if chance.random() < 0.3:
        begin = chance.choice([b"", b"\xfd", b"\xfe"])
        return begin + chance.randbytes(chance.randrange(60))
    data = bytearray(whole)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(data))
        how = chance.random()
        if how < 0.7:
            data[place] ^= 1 << chance.randrange(8)
        elif how < 0.85:
            data[place:] = b"\0"
        else:
            data.insert(place, chance.randrange(256))
    return bytes(data)


def pymavlink_reads(data):
    """Whether a frame begins somewhere, as pymavlink judges."""
    for begin in (place for place, byte in enumerate(data) if byte in (0xFD, 0xFE)):
        theirs = common.MAVLink(None)
        theirs.robust_parsing = True
        if any(message.get_msgId() >= 0 for message in theirs.parse_buffer(data[begin:]) or []):
            return True
    return False


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_damaged_datagrams_are_never_fatal_and_never_answered(bench, count):
    chance = random.Random(count)
    whole = [
        encode(CommandLong(*RECTANGLE, command=2005, target_system=1), *STATION, 1),
        encode(CommandLong(275.0, 0.0, command=511, target_system=1), *STATION, 2),
        encode(GCS, *STATION, 3),
    ]
    for _ in range(count):
        data = damaged(chance, chance.choice(whole))
        for frame in bench.reader.read_datagram(data):
            # Of longer damage a checksum of 16 bits lets one in 65536 pass, for whoever reads it.
            if data not in whole:
                assert pymavlink_reads(data), data.hex()
            bench.component.receive(frame, LINK)
        bench.component.tick()
    assert bench.reader.counts["damaged"] > count / 4
    assert len(bench.messages(CommandAck)) < count / 1000
