# SPDX-License-Identifier: Apache-2.0
"""Malformed inputs of the nodes beside the tracker: MAVLink, depth, clouds, TF, statuses."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Quaternion, TransformStamped, Vector3
from hypothesis import strategies as st
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header

from benchmarks.fuzz_inputs import NUMBERS, SIZES, Kind, spoilt
from vt_interfaces.msg import TrackStatus
from vt_models.errors import InputError
from vt_models.geometry.camera import Camera
from vt_models.geometry.depth import RangeGate
from vt_models.geometry.position import BoxView, Position
from vt_ros.client import Estimate, State
from vt_ros.common.parameters import Setting
from vt_ros.common.transforms import TransformBuffer, TransformError
from vt_ros.look_at.controller import LookAtController
from vt_ros.look_at.gimbal_manager import GimbalManagerClient
from vt_ros.look_at.parameters import SETTINGS as LOOK_AT_SETTINGS
from vt_ros.look_at.parameters import read_settings as read_look_at_settings
from vt_ros.look_at.session import read_observation
from vt_ros.mavlink.messages import MESSAGES, CommandLong, FrameReader, Result, encode
from vt_ros.mavlink_camera.camera_component import Answer, CameraComponent, Endpoint, Mark
from vt_ros.mavlink_camera.geo_report import GeoReport
from vt_ros.mavlink_camera.parameters import SETTINGS as MAVLINK_SETTINGS
from vt_ros.mavlink_camera.parameters import read_settings as read_mavlink_settings
from vt_ros.target_3d.errors import NoPositionError
from vt_ros.target_3d.parameters import SETTINGS as TARGET_3D_SETTINGS
from vt_ros.target_3d.parameters import read_settings as read_target_3d_settings
from vt_ros.target_3d.range_methods import DepthImageMethod, PointCloudMethod, Sighting

ROBOT_REFUSALS = (NoPositionError, TransformError)

BEGIN = 1_700_000_000  # seconds; the clock of all kinds starts here
NANOSECONDS = 1_000_000_000
FRAMES = ("odom", "base_link", "optical", "lidar", "", "/optical")
_LARGEST_F32 = 3.4e38


def robot_kinds() -> dict[str, Kind]:
    """Return what reaches the nodes that hand the target on."""
    node = rclpy.create_node("fuzz")
    values = {setting.name: setting.default for setting in TARGET_3D_SETTINGS}
    settings = read_target_3d_settings(values.__getitem__)
    camera = Camera(fx=40.0, fy=40.0, cx=15.5, cy=11.5)
    view = BoxView(camera, (8.0, 6.0, 16.0, 12.0), np.eye(4))
    sighting = Sighting(BEGIN * NANOSECONDS, "optical", (32, 24), view, settings, final=True)

    def locate_by_depth(data: bytes) -> None:
        method = DepthImageMethod(node, rectified=False, gate=RangeGate(5.0, 1.0))
        try:
            method.buffer.take(data)
            check_position(method.locate(sighting))
        finally:
            method.close()

    def locate_by_points(data: bytes) -> None:
        method = PointCloudMethod(node, _TransformBuffer(), RangeGate(5.0, 1.0))
        try:
            method.buffer.take(data)
            check_position(method.locate(sighting))
        finally:
            method.close()

    return {
        "MAVLink": Kind(st.lists(mavlink_steps(), max_size=40), speak_mavlink),
        "depth images": Kind(depth_images(), locate_by_depth),
        "point clouds": Kind(point_clouds(), locate_by_points),
        "TF": Kind(st.tuples(st.lists(transforms(), max_size=12), lookups()), look_up),
        "parameters of these nodes": Kind(changed_parameters(), read_parameters),
        "statuses of the tracker": Kind(st.lists(statuses(), max_size=60), look_at),
    }


class _TransformBuffer(TransformBuffer):
    """One that is not filled from topics."""

    def close(self) -> None:
        """Nothing is subscribed to."""


def stamps() -> st.SearchStrategy[Time]:
    """Stamps around the begin, and any."""
    return st.one_of(
        st.builds(
            Time, sec=st.integers(BEGIN - 1, BEGIN + 1), nanosec=st.integers(0, NANOSECONDS - 1)
        ),
        st.builds(
            Time, sec=st.integers(-(2**31), 2**31 - 1), nanosec=st.integers(0, NANOSECONDS - 1)
        ),
    )


def headers(frames: tuple[str, ...] = FRAMES) -> st.SearchStrategy[Header]:
    """Headers, most of them of the image that a position is wanted for."""
    right = st.builds(Header, stamp=st.just(Time(sec=BEGIN)), frame_id=st.just("optical"))
    return st.one_of(
        right, right, st.builds(Header, stamp=stamps(), frame_id=st.sampled_from(frames))
    )


# MAVLink


def mavlink_steps() -> st.SearchStrategy[tuple[str, Any]]:
    """What happens to a camera component and to one that steers a gimbal."""
    random_message = st.integers(0, 2**64 - 1).map(random_frame)
    command = encode(CommandLong(0.1, 0.1, 0.9, 0.9, command=2005, target_system=1), 255, 190, 1)
    return st.one_of(
        st.tuples(st.just("data"), random_message),
        st.tuples(st.just("data"), random_message.flatmap(lambda one: spoilt(one, is_text=False))),
        st.tuples(st.just("data"), spoilt(command, is_text=False)),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.05, 1.0, 20.0])),
        st.tuples(st.just("answer"), st.sampled_from([*Result])),
        st.tuples(st.just("status"), st.sampled_from([*State])),
    )


def random_frame(number: int) -> bytes:
    """Return a frame that is right, of any message with any values, for us more often than not."""
    random = Random(number)
    kind = random.choice([*MESSAGES.values(), CommandLong, CommandLong, CommandLong])
    values: list[Any] = []
    for name, code in kind.__annotations__.items():
        if code.startswith("_Chars"):
            values.append(random.randbytes(random.randint(0, int(code.removeprefix("_Chars")))))
        elif code == "_F32":
            special = (0.0, 1.0, 0.5, -1.0, math.nan, math.inf, 275.0, 276.0, 1e6, -_LARGEST_F32)
            values.append(random.choice((*special, random.uniform(-2.0, 600.0))))
        elif name == "command":
            commands = (511, 512, 521, 2000, 2004, 2005, 2010, 2500, 2504, 2505)
            values.append(random.choice((*commands, random.randrange(2**16))))
        elif name.startswith("target"):
            values.append(random.choice((0, 1, 1, 100, 100, 192, random.randrange(256))))
        else:
            bits = int(code[2:])
            low = -(2 ** (bits - 1)) if code[1] == "I" else 0
            values.append(
                random.choice((0, 1, low, low + 2**bits - 1, random.randrange(2**bits) + low))
            )
    sender = random.choice(((255, 190), (1, 1), (1, 100), (1, 154), (2, 1), (1, 192)))
    return encode(kind(*values), *sender, random.randrange(256))


class _Tracker:
    """Keeps requests until they are answered."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        self.answers: list[Answer] = []

    def start(self, mark: Mark, answer: Answer) -> None:
        self.marks.append(mark)
        self.answers.append(answer)

    def stop(self, answer: Answer) -> None:
        self.answers.append(answer)


def speak_mavlink(steps: list[tuple[str, Any]]) -> None:
    """Let a camera component and a gimbal's client hear and see these things."""
    now, sent, tracker = 100.0, [], _Tracker()

    def clock() -> float:
        return now

    values = defaults(MAVLINK_SETTINGS, **{"geo.source": "autopilot", "role": "both"})
    settings = read_mavlink_settings(values.__getitem__)
    if settings.geo is None:
        raise AssertionError("geo.source is set")
    geo = GeoReport(settings.geo, lambda: round((BEGIN + now) * NANOSECONDS))
    component = CameraComponent(
        settings,
        (Endpoint(0),),
        tracker,
        lambda _, data: sent.append(data),
        lambda _: None,
        clock,
        geo,
    )
    look_at_values = defaults(LOOK_AT_SETTINGS, output="mavlink")
    gimbal = read_look_at_settings(look_at_values.__getitem__).gimbal
    client = GimbalManagerClient(gimbal, sent.append, clock)
    client.wanted = True
    reader = FrameReader()
    for what, thing in steps:
        sent.clear()
        if what == "data":
            for frame in reader.read_datagram(thing):
                component.receive(frame, Endpoint(0))
                client.receive(frame)
        elif what == "wait":
            now += thing
        elif what == "answer" and tracker.answers:
            tracker.answers.pop(0)(thing, "as it is")
        elif what == "status":
            status = TrackStatus(state=int(thing), image_width=32, image_height=24)
            box = (1.0, 1.0, 5.0, 5.0) if thing not in (State.IDLE, State.LOST) else None
            component.take(Estimate(0, "", thing, 0.9, 1, box, None, math.nan, math.nan, status))
        component.tick()
        client.tick()
        client.set_rates(0.1, 0.1)
        check_frames(sent)
    for mark in tracker.marks:
        if not np.isfinite(mark.box or mark.point or (math.nan,)).all():
            raise AssertionError(f"the tracker was asked for {mark}")


def check_frames(sent: list[bytes]) -> None:
    """Raise if something that was sent is no frame, or if a flood was."""
    reader = FrameReader()
    for data in sent:
        if len(reader.read_datagram(data)) != 1:
            raise AssertionError(f"no frame: {data.hex()}")
    if len(sent) > 60:
        raise AssertionError(f"{len(sent)} frames in one step")


def defaults(table: tuple[Setting, ...], **changes: Any) -> dict[str, Any]:
    """Return the parameters of a table with some changed."""
    return {setting.name: setting.default for setting in table} | changes


# Depth


def check_position(position: Position) -> None:
    """Raise if a position is none."""
    numbers = (*position.point, *position.covariance.ravel(), position.range, position.range_sigma)
    if not np.isfinite(numbers).all() or position.range <= 0.0:
        raise AssertionError(f"no position: {position}")


def depth_images() -> st.SearchStrategy[bytes]:
    """Depth images, right and wrong, one in four damaged on its way."""
    flat = np.full((24, 32), 2.0)
    pixels = [
        ("16UC1", (1000 * flat).astype("<u2"), 64),
        ("32FC1", flat.astype("<f4"), 128),
        ("32FC1", (flat * 1e38).astype("<f4"), 128),
        ("32FC1", np.where(np.eye(24, 32), np.nan, np.inf).astype("<f4"), 128),
    ]

    def whole(header: Header, one: tuple[str, Any, int], is_bigendian: int) -> Image:
        encoding, values, step = one
        return Image(
            header=header,
            width=32,
            height=24,
            encoding=encoding,
            step=step,
            is_bigendian=is_bigendian,
            data=values.tobytes(),
        )

    right = st.builds(whole, headers(), st.sampled_from(pixels), st.sampled_from([0, 0, 1, 255]))
    wrong = st.builds(
        Image,
        header=headers(),
        encoding=st.sampled_from(["16UC1", "mono16", "32FC1", "64FC1", "rgb8", "", "32fc1"]),
        width=SIZES,
        height=SIZES,
        step=SIZES,
        is_bigendian=st.integers(0, 255),
        data=st.binary(max_size=300),
    )
    return damaged_on_the_way(st.one_of(right, wrong))


def point_clouds() -> st.SearchStrategy[bytes]:
    """Clouds, right and wrong, one in four damaged on its way."""
    points = np.random.default_rng(0).normal((0.0, 0.0, 2.0), 0.05, (50, 3))
    names = st.sampled_from(["x", "y", "z", "intensity", ""])
    fields = st.builds(
        PointField,
        name=names,
        offset=st.one_of(st.integers(0, 24), st.sampled_from([2**31, 2**32 - 1])),
        datatype=st.integers(0, 9),
        count=st.sampled_from([0, 1, 2**32 - 1]),
    )

    def right_fields(kind: int, size: int) -> list[PointField]:
        return [
            PointField(name=name, offset=size * number, datatype=kind, count=1)
            for number, name in enumerate("xyz")
        ]

    def whole(header: Header, scale: float, kind: int) -> PointCloud2:
        size = 4 if kind == PointField.FLOAT32 else 8
        with np.errstate(over="ignore"):
            values = (points * scale).astype(f"<f{size}")
        return PointCloud2(
            header=header,
            height=1,
            width=50,
            fields=right_fields(kind, size),
            point_step=3 * size,
            row_step=150 * size,
            data=values.tobytes(),
        )

    right = st.builds(
        whole,
        headers(),
        st.sampled_from([1.0, 1.0, 0.0, 1e30, 1e300, math.nan]),
        st.sampled_from([PointField.FLOAT32, PointField.FLOAT64]),
    )
    wrong = st.builds(
        PointCloud2,
        header=headers(),
        height=SIZES,
        width=SIZES,
        fields=st.lists(fields, max_size=5),
        point_step=SIZES,
        row_step=SIZES,
        is_bigendian=st.booleans(),
        data=st.binary(max_size=300),
        is_dense=st.booleans(),
    )
    return damaged_on_the_way(st.one_of(right, wrong))


def damaged_on_the_way(messages: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Serialised messages, one in four with damage."""
    data = messages.map(lambda message: bytes(serialize_message(message)))
    damaged = data.flatmap(lambda whole: spoilt(whole, is_text=False))
    return st.one_of(data, data, data, damaged)


# TF


def transforms() -> st.SearchStrategy[tuple[TransformStamped, bool]]:
    """Transforms, and whether they are static."""
    turns = st.one_of(
        st.just(Quaternion(w=1.0)),
        st.just(Quaternion(x=-0.5, y=0.5, z=-0.5, w=0.5)),
        st.builds(Quaternion, x=NUMBERS, y=NUMBERS, z=NUMBERS, w=NUMBERS),
    )

    def message(
        header: Header, child: str, shift: tuple[float, ...], turn: Quaternion
    ) -> TransformStamped:
        stamped = TransformStamped(header=header, child_frame_id=child)
        x, y, z = shift
        stamped.transform.translation = Vector3(x=x, y=y, z=z)
        stamped.transform.rotation = turn
        return stamped

    one = st.builds(
        message, headers(), st.sampled_from(FRAMES), st.tuples(NUMBERS, NUMBERS, NUMBERS), turns
    )
    return st.tuples(one, st.booleans())


def lookups() -> st.SearchStrategy[tuple[str, str, Time]]:
    """Queries of a buffer."""
    return st.tuples(st.sampled_from(FRAMES), st.sampled_from(FRAMES), stamps())


def look_up(given: tuple[list[tuple[TransformStamped, bool]], tuple[str, str, Time]]) -> None:
    """Fill a buffer, and look something up in it."""
    added, (target, source, stamp) = given
    buffer = TransformBuffer()
    for message, is_static in added:
        buffer.add(message, is_static)
    found = buffer.lookup(target, source, stamp.sec * NANOSECONDS + stamp.nanosec)
    point = found.apply((1.0, 2.0, 3.0))
    if not np.isfinite(point).all():
        raise AssertionError(f"no transform: {found}")
    if not np.allclose(found.rotation @ found.rotation.T, np.eye(3), atol=1e-6):
        raise AssertionError(f"no rotation: {found.rotation}")


# Parameters

TABLES = {
    "look_at": (LOOK_AT_SETTINGS, read_look_at_settings),
    "mavlink_camera": (MAVLINK_SETTINGS, read_mavlink_settings),
    "target_3d": (TARGET_3D_SETTINGS, read_target_3d_settings),
}


def changed_parameters() -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """A node, and values for some of its parameters that ROS would let pass: by type and range."""

    def value(setting: Setting) -> st.SearchStrategy[Any]:
        default = setting.default
        if setting.choices:
            return st.sampled_from(setting.choices)
        if isinstance(default, bool):
            return st.booleans()
        if (
            isinstance(default, int | float)
            and setting.low is not None
            and setting.high is not None
        ):
            if isinstance(default, int):
                return st.integers(int(setting.low), int(setting.high))
            return st.floats(setting.low, setting.high)
        words = st.one_of(
            st.text(max_size=20),
            st.sampled_from(
                ["", "/", "~", "a/b", "udpin:[::]:0", "serial:/dev/null:57600", "é" * 99]
            ),
            st.sampled_from(
                ["tcp:a:99999", "udpout:\0:1", "..", "/etc/shadow", "http://a", "target"]
            ),
        )
        return st.lists(words, max_size=4) if isinstance(default, list) else words

    return st.one_of(
        *(
            st.tuples(
                st.just(name),
                st.fixed_dictionaries({}, optional={one.name: value(one) for one in table}),
            )
            for name, (table, _) in TABLES.items()
        )
    )


def read_parameters(given: tuple[str, dict[str, Any]]) -> None:
    """Read parameters together; they make sense, or are refused with a reason."""
    name, changes = given
    table, read = TABLES[name]
    try:
        read(defaults(table, **changes).__getitem__)
    except InputError as error:
        if not str(error):
            raise AssertionError("refused without a reason") from error
        raise


# Statuses


def statuses() -> st.SearchStrategy[tuple[TrackStatus, float, float]]:
    """Statuses, their age and the time that passes before them, both in seconds."""
    angles = st.one_of(
        st.floats(-0.5, 0.5, width=32), st.floats(width=32), st.sampled_from([0.0, math.nan])
    )
    status = st.builds(
        TrackStatus,
        state=st.one_of(st.just(1), st.just(1), st.integers(0, 5)),
        target_id=st.sampled_from([1, 1, 1, 0, 2**64 - 1]),
        azimuth=angles,
        elevation=angles,
        unconfirmed=st.sampled_from([False, False, False, True]),
    )
    ages = st.one_of(st.just(0.05), st.sampled_from([-1e9, -0.05, 0.0, 0.049999, 1.5, 1e9]))
    waits = st.sampled_from([0.0, 1e-6, 0.02, 0.033, 0.033, 0.1, 1.0])
    return st.tuples(status, ages, waits)


def look_at(steps: list[tuple[TrackStatus, float, float]]) -> None:
    """Hand statuses to a controller that commands fifty times a second."""
    values = defaults(LOOK_AT_SETTINGS, **{"dead_time.measure": False})
    settings = read_look_at_settings(values.__getitem__).controller
    controller, now, accepted = LookAtController(settings), float(BEGIN), -math.inf
    for status, age, wait in steps:
        for _ in range(max(1, round(wait / 0.02))):
            now += wait / max(1, round(wait / 0.02))
            rates = controller.command(now).rates
            if not (np.abs(rates) <= settings.law.max_rate).all():
                raise AssertionError(f"rates {rates} beyond {settings.law.max_rate:g}")
            if now - accepted > 0.5 and rates.any():
                raise AssertionError(f"rates {rates} after {now - accepted:g} s of silence")
        seconds, fraction = divmod(min(max(now - age, 0.0), 2.0**31 - 1.0), 1.0)
        status.header.stamp = Time(sec=int(seconds), nanosec=int(fraction * 1e9))
        status.header.frame_id = "optical"
        try:
            controller.observe(read_observation(status), now)
        except InputError:
            continue
        accepted = now
