# SPDX-License-Identifier: Apache-2.0
"""Where on earth the target is: frames in and out of the component, a clock by hand, pymavlink."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
common = pytest.importorskip("pymavlink.dialects.v20.common", reason="make setup installs it")

from geometry_msgs.msg import TwistWithCovarianceStamped
from hypothesis import given, settings
from hypothesis import strategies as st
from std_msgs.msg import Header
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

from vt_interfaces.msg import PositionStatus, TrackStatus
from vt_models.errors import InputError
from vt_models.geometry.rigid import facing, quaternion_of
from vt_ros.client import Estimate, State
from vt_ros.common.convert import NANOSECONDS
from vt_ros.mavlink.messages import (
    UNKNOWN_INT32,
    Attitude,
    CameraInformation,
    CameraTrackingGeoStatus,
    Command,
    CommandAck,
    CommandLong,
    FrameReader,
    GlobalPositionInt,
    Heartbeat,
    Result,
    encode,
)
from vt_ros.mavlink_camera.camera_component import CameraComponent, Endpoint
from vt_ros.mavlink_camera.geo_report import GeoReport
from vt_ros.mavlink_camera.parameters import SETTINGS, read_settings
from vt_ros.mavlink_camera.target_position import read_position

LINK, AUTOPILOT = Endpoint(0), (1, 1)
GEO = CameraTrackingGeoStatus.NUMBER
HAS_GEO = 2048
FLYING = Heartbeat(type=2, autopilot=3, system_status=4)
METRES_PER_DEGREE = 111_319.49  # of longitude, at the equator
START = 1_700_000_000


def settings_of(**values):
    given = {setting.name: setting.default for setting in SETTINGS} | values
    return read_settings(given.__getitem__)


ORIGIN = {"geo.source": "origin", "geo.latitude": 1e-6, "geo.longitude": 10.0}
VEHICLE = {"geo.source": "autopilot"}


def position_messages(point, now, *, frame="map", target_id=1, method="depth_image", **fields):
    """What target_3d publishes of a frame."""
    header = Header(frame_id=frame)
    header.stamp.sec, header.stamp.nanosec = divmod(now, NANOSECONDS)
    status = PositionStatus(header=header, target_id=target_id, method=method)
    status.range = math.hypot(*point)
    status.message = "" if method else "no depth"
    array = Detection3DArray(header=header)
    if method:
        result = ObjectHypothesisWithPose()
        place, turn = result.pose.pose.position, result.pose.pose.orientation
        place.x, place.y, place.z = map(float, point)
        axes = facing(np.clip(np.nan_to_num(point), -1e6, 1e6) + 1e-9, (0.0, 0.0, 1.0))
        turn.x, turn.y, turn.z, turn.w = map(float, quaternion_of(axes))
        covariance = np.zeros((6, 6))
        covariance[:3, :3] = fields.get("covariance", np.eye(3))
        result.pose.covariance = covariance.ravel()
        array.detections.append(Detection3D(header=header, results=[result], id=str(target_id)))
    velocity = None
    if "velocity" in fields:
        velocity = TwistWithCovarianceStamped(
            header=Header(stamp=header.stamp, frame_id=fields.get("velocity_frame", frame))
        )
        linear = velocity.twist.twist.linear
        linear.x, linear.y, linear.z = map(float, fields["velocity"])
        velocity.twist.covariance = np.eye(6).ravel() * 0.04
    return status, array, velocity


class Bench:
    """A component whose target, vehicle and stations the test plays."""

    def __init__(self, **values):
        self.now, self.sent = 0.0, []
        settings = settings_of(**values)
        geo = GeoReport(settings.geo, lambda: self.nanoseconds) if settings.geo else None
        self.component = CameraComponent(
            settings,
            (LINK,),
            None,
            lambda _, data: self.sent.append(data),
            lambda _: None,
            lambda: self.now,
            geo,
        )
        self.see()

    @property
    def nanoseconds(self):
        return START * NANOSECONDS + round(self.now * NANOSECONDS)

    def hear(self, message, source=(255, 190)):
        (frame,) = FrameReader().read_datagram(encode(message, *source, 0))
        self.component.receive(frame, LINK)

    def fly(self, yaw=0.0, roll=0.0, pitch=0.0, source=AUTOPILOT, **place):
        """The autopilot says how and where the vehicle is."""
        boot = round(1000 * self.now) + 1
        self.hear(Attitude(boot, roll, pitch, yaw), source)
        place = {"lat": 1, "lon": 100_000_000, "alt": 50_000, **place}
        self.hear(GlobalPositionInt(boot, **place), source)

    def see(self, state=State.TRACKING, target_id=1):
        """Let the tracker say something about a frame."""
        status = TrackStatus(state=int(state), image_width=400, image_height=200)
        box = None if state in (State.IDLE, State.LOST) else (1.0, 1.0, 9.0, 9.0)
        self.component.take(
            Estimate(0, "", state, 0.9, target_id, box, None, math.nan, math.nan, status)
        )

    def locate(self, point, age=0.0, **fields):
        """Let target_3d say something about a frame."""
        now = self.nanoseconds - round(age * NANOSECONDS)
        self.component.take_position(read_position(*position_messages(point, now, **fields)))

    def answers(self, command, *parameters):
        self.sent.clear()
        self.hear(CommandLong(*parameters, command=command, target_system=1, target_component=100))
        found = []
        for data in self.sent:
            found += [frame.message for frame in FrameReader().read_datagram(data)]
        return found

    def geo(self):
        """The status as pymavlink reads it."""
        ack, _ = self.answers(Command.REQUEST_MESSAGE, GEO)
        assert ack.result == Result.ACCEPTED
        (message,) = common.MAVLink(None).parse_buffer(self.sent[-1])
        return message

    def flags(self):
        _, information = self.answers(Command.REQUEST_CAMERA_INFORMATION, 1.0)
        return information.flags

    def run(self, seconds, step=0.05):
        """Let time pass; the messages that were sent meanwhile."""
        self.sent.clear()
        for _ in range(round(seconds / step)):
            self.now += step
            self.component.tick()
        return [frame.message for data in self.sent for frame in FrameReader().read_datagram(data)]


def assert_unknown(status, tracking_status=2):
    assert status.tracking_status == tracking_status
    assert (status.lat, status.lon) == (UNKNOWN_INT32, UNKNOWN_INT32)
    assert all(math.isnan(getattr(status, name)) for name in ("alt", "dist", "hdg", "h_acc"))


def east_of(status, longitude=10.0):
    return (status.lon * 1e-7 - longitude) * METRES_PER_DEGREE


def north_of(status):
    return status.lat * 1e-7 * 110_574.3


def test_position_in_a_frame_with_an_origin_becomes_a_place_on_earth():
    bench = Bench(**{**ORIGIN, "geo.altitude": 120.0, "geo.position_sigma": 3.0})
    bench.locate((40.0, 30.0, -7.0), velocity=(1.0, 2.0, 3.0), covariance=np.diag((4.0, 1.0, 9.0)))
    status = bench.geo()
    assert status.tracking_status == 1
    assert east_of(status) == pytest.approx(40.0, abs=0.02)
    assert north_of(status) == pytest.approx(30.1, abs=0.02)  # the origin is 0.11 m north of 0
    assert status.alt == pytest.approx(113.0, abs=0.01)
    assert status.dist == pytest.approx(math.sqrt(40**2 + 30**2 + 7**2))
    assert status.hdg == pytest.approx(math.atan2(40.0, 30.0))
    assert (status.vel_n, status.vel_e, status.vel_d) == pytest.approx((2.0, 1.0, -3.0))
    assert status.vel_acc == pytest.approx(0.2)
    far = (40**2 + 30**2 + 7**2) * 0.03**2
    assert status.h_acc == pytest.approx(math.sqrt(4.0 + 9.0 + far))
    assert status.v_acc == pytest.approx(math.sqrt(9.0 + 9.0 + far))
    assert bench.component.describe_geo() == ""


def test_what_is_not_known_beside_the_place_is_nan():
    bench = Bench(**ORIGIN)
    bench.locate((40.0, 30.0, 0.0), velocity=(1.0, 0.0, 0.0), velocity_frame="odom")
    status = bench.geo()
    assert status.tracking_status == 1
    for name in ("h_acc", "v_acc", "vel_n", "vel_e", "vel_d", "vel_acc", "hdg_acc"):
        assert math.isnan(getattr(status, name)), name


@pytest.mark.parametrize(
    ("attitude", "point", "east", "north", "up"),
    [
        # Forward, left and up of the vehicle, in the direction that it has.
        ({}, (50.0, 0.0, 0.0), 0.0, 50.0, 0.0),
        ({"yaw": math.pi / 2}, (50.0, 0.0, 0.0), 50.0, 0.0, 0.0),
        ({"yaw": math.pi / 2}, (0.0, 50.0, 5.0), 0.0, 50.0, 5.0),
        ({"pitch": math.radians(30.0)}, (50.0, 0.0, 0.0), 0.0, 43.301, 25.0),  # nose up
        ({"roll": math.radians(30.0)}, (0.0, -50.0, 0.0), 43.301, 0.0, -25.0),  # right wing down
        ({"yaw": -math.pi / 2, "pitch": -0.5}, (50.0, 0.0, 0.0), -43.879, 0.0, -23.971),
    ],
)
def test_position_relative_to_the_vehicle_is_turned_and_moved_as_the_autopilot_says(
    attitude, point, east, north, up
):
    bench = Bench(**VEHICLE)
    bench.hear(FLYING, AUTOPILOT)
    for _ in range(3):
        bench.fly(**attitude)
        bench.now += 0.1
    bench.locate(point, age=0.15, frame="base_link")
    status = bench.geo()
    assert status.tracking_status == 1
    assert east_of(status) == pytest.approx(east, abs=0.02)
    assert north_of(status) == pytest.approx(north, abs=0.03)
    assert status.alt == pytest.approx(50.0 + up, abs=0.01)


def test_vehicle_is_where_it_was_at_the_exposure_also_across_the_date_line():
    bench = Bench(**VEHICLE)
    bench.hear(FLYING, AUTOPILOT)
    bench.fly(yaw=-0.2, lon=1_799_999_000)
    bench.now += 0.4
    bench.fly(yaw=0.2, lon=-1_799_999_000)
    bench.locate((100.0, 0.0, 0.0), age=0.2, frame="base_link")
    status = bench.geo()
    assert abs(status.lon) == pytest.approx(1_800_000_000, abs=2)
    assert status.hdg == pytest.approx(0.0, abs=1e-5)
    bench.locate((100.0, 0.0, 0.0), age=0.1, frame="base_link")
    assert bench.geo().hdg == pytest.approx(0.1, abs=1e-3)


def test_nothing_is_extrapolated_or_taken_from_across_a_gap():
    bench = Bench(**VEHICLE)
    bench.hear(FLYING, AUTOPILOT)
    bench.fly()
    bench.now += 0.3
    bench.locate((10.0, 0.0, 0.0), age=0.1, frame="base_link")
    assert_unknown(bench.geo())
    assert "ends 0.20 s before the image" in bench.component.describe_geo()
    bench.now += 0.7
    bench.fly(yaw=2.0)  # nobody knows what it did meanwhile
    assert_unknown(bench.geo())
    assert "gap of 1.00 s" in bench.component.describe_geo()
    bench.now += 0.1
    bench.locate((10.0, 0.0, 0.0), age=0.05, frame="base_link")
    bench.fly(yaw=2.0)
    assert bench.geo().tracking_status == 1
    bench.now += 3.0
    bench.see()
    bench.fly()
    assert_unknown(bench.geo())
    assert bench.component.describe_geo() == "target_3d is silent"


@pytest.mark.parametrize(
    ("state", "expected"), [(State.IDLE, 0), (State.LOST, 2), (State.COASTING, 2)]
)
def test_target_that_is_not_measured_has_no_place(state, expected):
    bench = Bench(**ORIGIN)
    bench.locate((10.0, 0.0, 0.0))
    bench.see(state)
    assert_unknown(bench.geo(), expected)


def test_silent_tracker_and_silent_target_3d_have_no_place():
    bench = Bench(**ORIGIN)
    bench.locate((10.0, 0.0, 0.0))
    assert bench.geo().tracking_status == 1
    bench.now += 2.1
    bench.see()
    assert_unknown(bench.geo())
    bench.locate((10.0, 0.0, 0.0))
    assert bench.geo().tracking_status == 1
    bench.now += 1.0
    bench.locate((10.0, 0.0, 0.0))
    bench.now += 1.1
    assert_unknown(bench.geo())


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"method": ""}, "no depth"),
        ({"frame": "odom"}, "positions are in 'odom', expected 'map'"),
        ({"frame": "f" * 100_000}, "frame_id has 100000 characters"),
        ({"target_id": 7}, "of another target"),
        ({"point": (math.nan, 0.0, 0.0)}, "the position is"),
        ({"point": (1e300, 0.0, 0.0)}, "the position is"),
        ({"covariance": np.full((3, 3), math.inf)}, "the covariance of the position"),
        ({"covariance": -np.eye(3)}, "the covariance of the position"),
        ({"velocity": (math.nan, 0.0, 0.0)}, "the velocity is"),
        ({"age": -5.0}, "5.00 s in the future"),
        ({"age": 3.0}, "no position for 2 s"),
    ],
)
def test_position_that_makes_no_sense_ends_the_one_before_and_says_why(fields, reason):
    bench = Bench(**ORIGIN)
    bench.locate((10.0, 0.0, 0.0), age=4.0 if "age" in fields else 0.0)
    fields = dict(fields)
    bench.locate(fields.pop("point", (10.0, 0.0, 0.0)), **fields)
    assert_unknown(bench.geo())
    assert reason in bench.component.describe_geo()
    assert len(bench.component.describe_geo()) < 1000


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ({"lat": 0, "lon": 0}, "no position yet"),
        ({"lat": 910_000_000}, "latitude is 91"),
        ({"lon": UNKNOWN_INT32}, "longitude is 214.7"),
        ({"yaw": math.nan}, "ATTITUDE has the angles"),
    ],
)
def test_autopilot_that_makes_no_sense_is_refused(place, reason):
    bench = Bench(**VEHICLE)
    bench.hear(FLYING, AUTOPILOT)
    for _ in range(3):
        bench.fly(**place)
        bench.now += 0.1
    bench.locate((10.0, 0.0, 0.0), age=0.15, frame="base_link")
    assert_unknown(bench.geo())
    assert reason in bench.component.describe_geo()


@pytest.mark.parametrize("source", [(2, 1), (1, 154), (255, 190)])
def test_pose_of_another_vehicle_or_component_is_not_ours(source):
    bench = Bench(**VEHICLE)
    bench.hear(FLYING, AUTOPILOT)
    bench.hear(FLYING, (2, 1))
    for _ in range(3):
        bench.fly(source=source)
        bench.now += 0.1
    bench.locate((10.0, 0.0, 0.0), age=0.15, frame="base_link")
    assert_unknown(bench.geo())
    assert not bench.flags() & HAS_GEO


def test_the_same_message_over_a_slower_link_does_not_move_the_vehicle():
    bench = Bench(**VEHICLE)
    bench.hear(FLYING, AUTOPILOT)
    turning = Attitude(1000, yaw=0.0)
    for attitude in (turning, Attitude(1200, yaw=0.4)):
        bench.hear(attitude, AUTOPILOT)
        bench.hear(GlobalPositionInt(attitude.time_boot_ms, 1, 100_000_000), AUTOPILOT)
        bench.now += 0.1
        bench.hear(turning, AUTOPILOT)
        bench.now += 0.1
    bench.locate((10.0, 0.0, 0.0), age=0.3, frame="base_link")
    assert bench.geo().hdg == pytest.approx(0.2, abs=1e-3)


def test_flag_is_set_while_both_are_heard_and_stations_are_told_when_that_changes():
    bench = Bench(**VEHICLE)
    bench.hear(FLYING, AUTOPILOT)
    bench.hear(Heartbeat(type=6))
    bench.run(20.0)
    bench.hear(Heartbeat(type=6))
    assert not bench.flags() & HAS_GEO
    bench.fly()
    assert not bench.flags() & HAS_GEO  # the vehicle's pose alone
    bench.locate((1.0, 0.0, 0.0), method="", frame="base_link")
    assert bench.flags() & HAS_GEO  # it need not have a target
    told = [m.flags for m in bench.run(0.1) if type(m) is CameraInformation]
    assert told
    assert all(flags & HAS_GEO for flags in told)
    told = [m.flags for m in bench.run(3.0) if type(m) is CameraInformation]
    assert not told[-1] & HAS_GEO
    assert not bench.flags() & HAS_GEO


def test_without_a_source_there_is_no_flag_and_no_message():
    bench = Bench()
    assert not bench.flags() & HAS_GEO
    (ack,) = (m for m in bench.answers(Command.REQUEST_MESSAGE, GEO) if type(m) is CommandAck)
    assert ack.result == Result.DENIED
    assert bench.component.describe_geo() is None


@pytest.mark.parametrize(("microseconds", "count"), [(500_000.0, 10), (0.0, 25), (-1.0, 0)])
def test_status_comes_by_interval(microseconds, count):
    bench = Bench(**ORIGIN)
    (ack,) = bench.answers(Command.SET_MESSAGE_INTERVAL, GEO, microseconds)
    assert ack.result == Result.ACCEPTED
    statuses = [m for m in bench.run(5.0) if type(m) is CameraTrackingGeoStatus]
    assert len(statuses) in (count, count + bool(count))


def test_autopilot_is_asked_for_the_vehicle_as_long_as_it_says_nothing():
    bench = Bench(**VEHICLE)
    bench.hear(FLYING, AUTOPILOT)
    asked = [m for m in bench.run(9.0) if type(m) is CommandLong]
    assert {(m.command, m.param1, m.param2) for m in asked} == {
        (511, 33.0, 200_000.0),
        (511, 30.0, 50_000.0),
    }
    assert {(m.target_system, m.target_component) for m in asked} == {AUTOPILOT}
    assert len(asked) == 4
    bench.hear(FLYING, AUTOPILOT)
    for _ in range(10):
        bench.fly()
        assert not [m for m in bench.run(1.0) if type(m) is CommandLong]
    assert not [m for m in Bench(**ORIGIN).run(9.0) if type(m) is CommandLong]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"geo.source": "origin"}, "both 0; give the place"),
        ({"geo.source": "autopilot", "geo.target_3d": "a//b"}, "geo.target_3d is 'a//b'"),
    ],
)
def test_parameters_that_make_no_sense_are_one_sentence(values, word):
    with pytest.raises(InputError, match=word):
        settings_of(**values)


numbers = st.one_of(st.floats(), st.sampled_from([0.0, 1e300, -1e30, 5.0]))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(numbers, min_size=10, max_size=10),
    st.lists(numbers, min_size=3, max_size=3),
    st.sampled_from(["map", "odom", ""]),
    st.booleans(),
)
def test_positions_of_all_kinds_give_a_finite_place_or_none(values, angles, frame, is_vehicle):
    bench = Bench(**({**VEHICLE, "geo.frame": "map"} if is_vehicle else ORIGIN))
    bench.hear(FLYING, AUTOPILOT)
    float_max = 3.4e38
    for _ in range(2):
        roll, pitch, yaw = (x if not abs(x) > float_max else math.inf for x in angles)
        bench.fly(roll=roll, pitch=pitch, yaw=yaw)
        bench.now += 0.1
    status, array, velocity = position_messages(
        values[:3], bench.nanoseconds - NANOSECONDS // 10, frame=frame, velocity=values[3:6]
    )
    turn = array.detections[0].results[0].pose.pose.orientation
    if values[9] != 5.0:
        turn.x, turn.y, turn.z, turn.w = values[6:10]
    bench.component.take_position(read_position(status, array, velocity))
    geo = bench.geo()
    if geo.tracking_status == 1:
        assert all(map(math.isfinite, (geo.alt, geo.hdg)))
        assert abs(geo.lat) <= 900_000_000
        assert abs(geo.lon) <= 1_800_000_000
    else:
        assert_unknown(geo)
