# SPDX-License-Identifier: Apache-2.0
"""The parameters of the node `look_at`, and the object that its parts read."""

from __future__ import annotations

import importlib.util
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vt_models.errors import InputError
from vt_models.files import open_regular
from vt_ros.common.parameters import AUTOSTART, HARDWARE_ID, TRACKER, Setting, Value, check_ros_name
from vt_ros.look_at.control_law import LawSettings
from vt_ros.look_at.controller import ControllerSettings
from vt_ros.look_at.mount import Mount
from vt_ros.mavlink.links import LinkUrl, parse_url

TWIST, JOINT_TRAJECTORY, JOINT_STATE, MAVLINK, ONVIF = (
    "twist",
    "joint_trajectory",
    "joint_state",
    "mavlink",
    "onvif",
)
_MOST_PASSWORD_BYTES = 1024
_HOLD, _SEARCH, _HOME = "hold", "search", "home"
_AXES = {"both": (True, True), "pan": (True, False), "tilt": (False, True)}
_HALF_TURN = 3.1416
_LONGEST_STROKE = 2.0  # seconds
# Least share of a camera's turn that pan and tilt of the drive can make, whatever way it turns.
_LEAST_SHARE = 0.3

SETTINGS = (
    AUTOSTART,
    TRACKER,
    Setting(
        "output",
        TWIST,
        "What is commanded: angular rates on ~/cmd_vel, positions of two joints on "
        "~/joint_trajectory, velocities of two joints on ~/joint_command, a MAVLink gimbal, or an "
        "ONVIF camera.",
        choices=(TWIST, JOINT_TRAJECTORY, JOINT_STATE, MAVLINK, ONVIF),
    ),
    Setting("rate", 50.0, "Commands a second.", 10.0, 200.0),
    Setting("axes", "both", "What turns.", choices=tuple(_AXES)),
    Setting(
        "gain",
        4.0,
        "Rate for each radian of bearing, 1/s: the bearing falls to a third in 1/gain seconds.",
        0.1,
        10.0,
        live=True,
    ),
    Setting("max_rate", 1.0, "Largest rate of an axis, rad/s.", 0.01, 10.0, live=True),
    Setting(
        "max_acceleration",
        6.0,
        "Largest change of the rate of an axis, rad/s^2; a stop for silence is at once.",
        0.1,
        100.0,
        live=True,
    ),
    Setting(
        "dead_zone",
        0.001,
        "Bearing up to which the camera stays as it is, rad.",
        0.0,
        0.2,
        live=True,
    ),
    Setting(
        "bandwidth",
        6.0,
        "Of the estimate of the target's motion, rad/s: a larger one follows turns sooner, and "
        "noise and play of the drive, too. It counts from the next target on.",
        0.5,
        30.0,
        live=True,
    ),
    Setting(
        "dead_time.measure",
        True,
        "Measure the dead time by a small motion when the first target is tracked.",
    ),
    Setting(
        "dead_time.value",
        0.15,
        "Seconds from a command to the stamp of the first image that shows it, if they are not "
        "measured.",
        0.0,
        2.0,
    ),
    Setting("dead_time.longest", 0.6, "Longest dead time that is looked for, s.", 0.1, 2.0),
    Setting("dead_time.motion", 0.0175, "Angle of the motion back and forth, rad.", 0.002, 0.2),
    Setting(
        "uncertain",
        "follow",
        "While UNCERTAIN: follow, with less weight on what is seen, or hold still.",
        choices=("follow", _HOLD),
        live=True,
    ),
    Setting(
        "coasting.action",
        "predict",
        "While COASTING: go on as the target moved, or hold still.",
        choices=("predict", _HOLD),
        live=True,
    ),
    Setting(
        "coasting.timeout", 1.0, "Seconds of going on like that, then hold.", 0.0, 5.0, live=True
    ),
    Setting(
        "lost.action",
        _HOLD,
        "After LOST: hold still, search slowly from side to side, or go home.",
        choices=(_HOLD, _SEARCH, _HOME),
        live=True,
    ),
    Setting("lost.wait", 2.0, "Seconds of holding still before that.", 0.0, 600.0, live=True),
    Setting("lost.rate", 0.15, "Rate of search and way home, rad/s.", 0.01, 1.0, live=True),
    Setting(
        "lost.search_angle", 0.5, "How far to each side it searches, rad.", 0.05, 3.0, live=True
    ),
    Setting(
        "lost.search_duration",
        30.0,
        "Seconds of searching, then hold.",
        1.0,
        3600.0,
        live=True,
    ),
    Setting(
        "silence_timeout",
        0.4,
        "Seconds without a usable status of the tracker after which the rates are zero.",
        0.05,
        0.5,
        live=True,
    ),
    Setting(
        "max_image_age",
        1.0,
        "Age by its stamp of the oldest image that counts, s.",
        0.05,
        2.0,
        live=True,
    ),
    Setting(
        "camera_frame",
        "",
        "frame_id that images must have; empty: that of the first one.",
    ),
    Setting("output_frame", "base_link", "frame_id of ~/cmd_vel: x forward, y left, z up."),
    Setting(
        "mount.roll",
        0.0,
        "How a camera that would look along x of output_frame is turned there, about x, rad.",
        -_HALF_TURN,
        _HALF_TURN,
    ),
    Setting("mount.pitch", 0.0, "About y, rad; positive looks down.", -_HALF_TURN, _HALF_TURN),
    Setting("mount.yaw", 0.0, "About z, rad; positive looks left.", -_HALF_TURN, _HALF_TURN),
    Setting("joints.pan", "pan_joint", "Joint that turns left about z."),
    Setting("joints.tilt", "tilt_joint", "Joint that turns down about y."),
    Setting("joints.pan_inverted", False, "The pan joint turns right."),
    Setting("joints.tilt_inverted", False, "The tilt joint turns up."),
    Setting("joints.home_pan", 0.0, "The pan joint at home, rad.", -10.0, 10.0),
    Setting("joints.home_tilt", 0.0, "The tilt joint at home, rad.", -10.0, 10.0),
    Setting(
        "mavlink.url",
        "udpout:127.0.0.1:14550",
        "Way to the gimbal manager: udpout:HOST:PORT, udpin:HOST:PORT, tcp:HOST:PORT or "
        "serial:DEVICE:BAUD.",
    ),
    Setting("mavlink.system_id", 1, "MAVLink system of this node, the vehicle's.", 1, 255),
    Setting("mavlink.component_id", 192, "MAVLink component of this node.", 1, 255),
    Setting("mavlink.manager_system", 1, "MAVLink system of the gimbal manager.", 1, 255),
    Setting(
        "mavlink.manager_component",
        1,
        "MAVLink component of the gimbal manager: 1 for an autopilot, 154 for most gimbals.",
        1,
        255,
    ),
    Setting("mavlink.gimbal_device_id", 0, "Which gimbal of that manager; 0: all.", 0, 255),
    Setting(
        "mavlink.yaw_lock",
        True,
        "Rates are off the horizon and the compass, so that the vehicle's turns do not count.",
    ),
    Setting("onvif.host", "", "Address or name of the ONVIF camera."),
    Setting("onvif.port", 80, "Its HTTP port.", 1, 65535),
    Setting("onvif.username", "", "User there; empty: none is asked for."),
    Setting(
        "onvif.password_file",
        "",
        "File with the user's password in its only line, that nobody else may read.",
    ),
    Setting("onvif.profile", "", "Token of a media profile with pan and tilt; empty: the first."),
    Setting("onvif.pan_rate", 1.0, "Rate of pan at the largest velocity, rad/s.", 0.01, 10.0),
    Setting("onvif.tilt_rate", 1.0, "Rate of tilt at the largest velocity, rad/s.", 0.01, 10.0),
    HARDWARE_ID,
)


@dataclass(frozen=True)
class JointSettings:
    """Joints of pan and tilt: their names, directions (1 or -1) and angles at home, radians."""

    names: tuple[str, str]
    signs: tuple[float, float]
    home: tuple[float, float]


@dataclass(frozen=True)
class GimbalSettings:
    """A MAVLink gimbal manager, and who this node is; see the parameters mavlink.*."""

    link: LinkUrl
    system: int
    component: int
    manager_system: int
    manager_component: int
    gimbal_device_id: int
    yaw_lock: bool


@dataclass(frozen=True)
class OnvifSettings:
    """An ONVIF camera; see the parameters onvif.*. The password is in no representation."""

    host: str
    port: int
    username: str
    password: str = field(repr=False)
    profile: str
    pan_rate: float
    tilt_rate: float


@dataclass(frozen=True)
class LookAtSettings:
    """The parameters together.

    Attributes:
        controller: what to do when.
        tracker: name of the tracker node.
        output: one of the choices.
        period: seconds between two commands.
        output_frame: of ~/cmd_vel.
        mount: of the camera there.
        joints: of the outputs that have some.
        gimbal: of the output that is one.
        onvif: the camera of the output that is one; None: it is another output.
        hardware_id: in /diagnostics.
    """

    controller: ControllerSettings
    tracker: str
    output: str
    period: float
    output_frame: str
    mount: Mount
    joints: JointSettings
    gimbal: GimbalSettings
    onvif: OnvifSettings | None
    hardware_id: str


def read_settings(value: Callable[[str], Value]) -> LookAtSettings:
    """Return the parameters together; `value` gives a parameter's value by name.

    Raises:
        InputError: one of them, or two together, make no sense; the message says which.
    """

    def number(name: str) -> float:
        return float(value(name))

    output, action = str(value("output")), str(value("lost.action"))
    check_ros_name("tracker", str(value("tracker")), "a node")
    if action == _HOME and output == TWIST:
        raise InputError(
            "lost.action is home, but with the output twist nobody says where the camera stands; "
            "use hold or search, or another output"
        )
    stroke = number("dead_time.motion") / number("max_rate")
    if value("dead_time.measure") and stroke > _LONGEST_STROKE:
        raise InputError(
            f"dead_time.motion takes {stroke:.1f} s at max_rate, expected {_LONGEST_STROKE:g} s or "
            "less; turn less far, or faster"
        )
    mount = Mount(number("mount.roll"), number("mount.pitch"), number("mount.yaw"))
    if output != TWIST and abs(np.linalg.det(mount.pan_and_tilt())) < _LEAST_SHARE:
        raise InputError(
            f"with mount.pitch {mount.pitch:g} and mount.yaw {mount.yaw:g} the camera does not "
            f"look where pan and tilt of the output {output} turn it"
        )
    names = str(value("joints.pan")), str(value("joints.tilt"))
    if not all(names) or names[0] == names[1]:
        raise InputError(f"joints.pan and joints.tilt are {names}, expected two names")
    law = LawSettings(
        gain=number("gain"),
        max_rate=number("max_rate"),
        max_acceleration=number("max_acceleration"),
        dead_zone=number("dead_zone"),
        bandwidth=number("bandwidth"),
    )
    controller = ControllerSettings(
        law=law,
        axes=_AXES[str(value("axes"))],
        dead_time=None if value("dead_time.measure") else number("dead_time.value"),
        longest_dead_time=number("dead_time.longest"),
        probe_angle=number("dead_time.motion"),
        uncertain=str(value("uncertain")),
        coasting=str(value("coasting.action")),
        coasting_timeout=number("coasting.timeout"),
        lost=action,
        lost_wait=number("lost.wait"),
        search_angle=number("lost.search_angle"),
        search_rate=number("lost.rate"),
        search_duration=number("lost.search_duration"),
        silence_timeout=number("silence_timeout"),
        max_image_age=number("max_image_age"),
        camera_frame=str(value("camera_frame")),
    )
    return LookAtSettings(
        controller=controller,
        tracker=str(value("tracker")),
        output=output,
        period=1.0 / number("rate"),
        output_frame=str(value("output_frame")),
        mount=mount,
        joints=JointSettings(
            names=names,
            signs=(
                -1.0 if value("joints.pan_inverted") else 1.0,
                -1.0 if value("joints.tilt_inverted") else 1.0,
            ),
            home=(number("joints.home_pan"), number("joints.home_tilt")),
        ),
        gimbal=GimbalSettings(
            link=parse_url(str(value("mavlink.url")), "mavlink.url"),
            system=int(value("mavlink.system_id")),
            component=int(value("mavlink.component_id")),
            manager_system=int(value("mavlink.manager_system")),
            manager_component=int(value("mavlink.manager_component")),
            gimbal_device_id=int(value("mavlink.gimbal_device_id")),
            yaw_lock=bool(value("mavlink.yaw_lock")),
        ),
        onvif=_read_onvif(value) if output == ONVIF else None,
        hardware_id=str(value("hardware_id")),
    )


def _read_onvif(value: Callable[[str], Value]) -> OnvifSettings:
    """Return how to reach the camera; see `read_settings`."""
    if importlib.util.find_spec("onvif") is None:
        raise InputError(
            "output is onvif, which needs the Python package onvif-zeep-async: "
            "pip install 'vt_ros[onvif]'"
        )
    host, username = str(value("onvif.host")), str(value("onvif.username"))
    if not host or any(sign in host for sign in "/@: \t"):
        raise InputError(f"onvif.host is {host!r}, expected an address or a name, as 192.168.1.64")
    if bool(username) != bool(value("onvif.password_file")):
        raise InputError("onvif.username and onvif.password_file belong together: give both")
    return OnvifSettings(
        host=host,
        port=int(value("onvif.port")),
        username=username,
        password=_read_password(str(value("onvif.password_file"))),
        profile=str(value("onvif.profile")),
        pan_rate=float(value("onvif.pan_rate")),
        tilt_rate=float(value("onvif.tilt_rate")),
    )


def _read_password(given: str) -> str:
    """Return the password in a file; its content is in no message.

    Raises:
        InputError: the file cannot be read, others may read it, or it holds no line of text.
    """
    if not given:
        return ""
    path = Path(given).expanduser()
    try:
        with open_regular(path, _MOST_PASSWORD_BYTES) as file:
            mode = os.fstat(file.fileno()).st_mode
            password = file.read().decode("utf-8").rstrip("\r\n")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"onvif.password_file: {path} cannot be read ({reason})") from error
    except UnicodeDecodeError:
        raise InputError(f"onvif.password_file: {path} holds no UTF-8 text") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(
            f"onvif.password_file: others than the owner may use {path} (mode "
            f"{stat.S_IMODE(mode):o}); run `chmod 600 {path}`"
        )
    if not password or "\n" in password:
        raise InputError(f"onvif.password_file: {path} holds no password in one line")
    return password
