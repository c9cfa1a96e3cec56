# SPDX-License-Identifier: Apache-2.0
"""The parameters of the node `mavlink_camera`, and the object that its parts read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from vt_models.errors import InputError
from vt_models.geometry.geodesy import GeodeticPoint
from vt_ros.common.parameters import AUTOSTART, HARDWARE_ID, TRACKER, Setting, Value, check_ros_name
from vt_ros.mavlink.links import LinkUrl, parse_url
from vt_ros.mavlink.messages import ComponentType

_CAMERA, _CONTROLLER, _BOTH = "camera", "onboard_controller", "both"

_PORT = r"(udp://[^\s:]+:)?\d{1,5}"
# By name: VIDEO_STREAM_TYPE, the form of the address, and an example.
_STREAM_TYPES = {
    "rtsp": (0, r"rtsps?://\S+", "rtsp://192.168.1.10:8554/main"),
    "rtp_udp": (1, _PORT, "5600, the port that the ground station listens to"),
    "tcp_mpeg": (2, r"tcp://\S+", "tcp://192.168.1.10:5000"),
    "mpeg_ts": (3, _PORT, "5600, the port that the ground station listens to"),
}
_ENCODINGS = {"unknown": 0, "h264": 1, "h265": 2}  # VIDEO_STREAM_ENCODING

_NOWHERE, _ORIGIN, _AUTOPILOT = "none", "origin", "autopilot"
_FRAMES = {_NOWHERE: "", _ORIGIN: "map", _AUTOPILOT: "base_link"}

_LONGEST_NAME, _LONGEST_URI = 32, 159  # bytes

SETTINGS = (
    AUTOSTART,
    Setting(
        "url",
        "udpout:127.0.0.1:14550",
        "Ways to ground stations and autopilots, separated by commas: udpout:HOST:PORT, "
        "udpin:HOST:PORT (all that send there are answered), tcp:HOST:PORT, serial:DEVICE:BAUD.",
    ),
    Setting("system_id", 1, "The vehicle's MAVLink system.", 1, 255),
    Setting(
        "role",
        _CAMERA,
        "What the heartbeat says: a camera at component_id, an onboard controller at "
        "controller_component_id, or both.",
        choices=(_CAMERA, _CONTROLLER, _BOTH),
    ),
    Setting(
        "component_id",
        100,
        "MAVLink component of the camera; QGroundControl looks at 100 to 105.",
        1,
        255,
    ),
    Setting("controller_component_id", 191, "MAVLink component of the controller.", 1, 255),
    Setting("signed", "accept", "Signed messages; no key is held.", choices=("accept", "refuse")),
    TRACKER,
    Setting("camera_name", "vt_ros", "Name that ground stations show, at most 32 bytes."),
    Setting(
        "horizontal_fov",
        0.0,
        "Horizontal field of view, degrees; 0: not known.",
        0.0,
        180.0,
        live=True,
    ),
    Setting(
        "claim_capture",
        True,
        "Claim to record video: without that QGroundControl 4.4 to 5.0 has no button for tracking. "
        "Commands to record are refused.",
    ),
    Setting(
        "video_uri",
        "",
        "Where ground stations find the video that the tracker sees: an RTSP or TCP address, or a "
        "UDP port; empty: not told.",
    ),
    Setting("video_type", "rtsp", "What is at video_uri.", choices=tuple(_STREAM_TYPES)),
    Setting("video_encoding", "h264", "How that is encoded.", choices=tuple(_ENCODINGS)),
    Setting(
        "video_latency",
        0.0,
        "Seconds from exposure until the operator sees a frame: what is marked starts on the frame "
        "of so long ago; 0: on the newest one.",
        0.0,
        10.0,
        live=True,
    ),
    Setting(
        "status_delay",
        0.0,
        "Seconds after exposure at which a frame's box is reported, so that it meets the video on "
        "the operator's screen; 0: at once, as an autopilot wants it.",
        0.0,
        10.0,
        live=True,
    ),
    Setting(
        "status_interval",
        0.2,
        "Seconds between two tracking statuses where the station leaves that to us, and to an "
        "autopilot that has not asked.",
        0.02,
        60.0,
        live=True,
    ),
    Setting(
        "max_rate",
        50.0,
        "Messages of one kind per second to one station, at most, whatever it asks for.",
        1.0,
        200.0,
    ),
    Setting(
        "announce_interval",
        60.0,
        "Seconds between descriptions of the camera that nobody asked for, for stations that gave "
        "up asking; the first ones come sooner. 0: none but the first ones.",
        0.0,
        3600.0,
    ),
    Setting(
        "station_timeout",
        10.0,
        "Seconds without a word from a station after which nothing is sent to it.",
        2.0,
        3600.0,
    ),
    Setting(
        "tracker_timeout",
        2.0,
        "Seconds without a status of the tracker after which tracking is reported as an error.",
        0.1,
        60.0,
        live=True,
    ),
    Setting(
        "request_timeout",
        30.0,
        "Seconds that the tracker may take to start a target, a search included.",
        1.0,
        600.0,
        live=True,
    ),
    Setting(
        "geo.source",
        _NOWHERE,
        "What says where on earth the positions of target_3d are: origin, they are in an east, "
        "north, up frame at geo.latitude, geo.longitude, geo.altitude; autopilot, they are in a "
        "frame of the vehicle, whose GLOBAL_POSITION_INT and ATTITUDE are heard on a link; none: "
        "no CAMERA_TRACKING_GEO_STATUS.",
        choices=tuple(_FRAMES),
    ),
    Setting("geo.target_3d", "target_3d", "Name of the node target_3d, relative or absolute."),
    Setting(
        "geo.frame",
        "",
        "Its output_frame: others are refused. With the source origin x points to the east, y to "
        "the north, z up; with autopilot x to the front of the vehicle, y to the left, z up. "
        "Empty: map with origin, base_link with autopilot.",
    ),
    Setting("geo.latitude", 0.0, "Of the origin, degrees.", -90.0, 90.0),
    Setting("geo.longitude", 0.0, "Of the origin, degrees.", -180.0, 180.0),
    Setting("geo.altitude", 0.0, "Of the origin, metres above mean sea level.", -1000.0, 20000.0),
    Setting(
        "geo.position_sigma",
        0.0,
        "One standard deviation of where the origin or the vehicle is, metres; 0: not known, and "
        "so the accuracy of the target's place is not, either.",
        0.0,
        1000.0,
    ),
    Setting(
        "geo.attitude_sigma",
        0.03,
        "One standard deviation of how the frame lies, above all of its heading, radians.",
        0.0,
        0.5,
    ),
    HARDWARE_ID,
)


@dataclass(frozen=True)
class GeoSettings:
    """What says where on earth the target is.

    Attributes:
        target_3d: name of the node.
        frame: that its positions are in.
        origin: where that frame is; None: it is the vehicle's, and the autopilot says where.
        position_sigma: one standard deviation of that place, metres; 0: not known.
        attitude_sigma: of how the frame lies, radians.
    """

    target_3d: str
    frame: str
    origin: GeodeticPoint | None
    position_sigma: float
    attitude_sigma: float


@dataclass(frozen=True)
class MavlinkSettings:
    """The parameters together.

    Attributes:
        links: where to.
        components: type of each component that the node is, by component id.
        video_type, video_encoding: numbers of VIDEO_STREAM_TYPE and VIDEO_STREAM_ENCODING.
        shortest_interval: seconds between two messages of one kind.
        geo: what says where on earth the target is; None: nothing does.

    The others are parameters as they are; all times in seconds, the field of view in degrees.
    """

    links: tuple[LinkUrl, ...]
    system: int
    components: dict[int, ComponentType]
    accept_signed: bool
    tracker: str
    camera_name: str
    horizontal_fov: float
    claim_capture: bool
    video_uri: str
    video_type: int
    video_encoding: int
    video_latency: float
    status_delay: float
    status_interval: float
    shortest_interval: float
    announce_interval: float
    station_timeout: float
    tracker_timeout: float
    request_timeout: float
    geo: GeoSettings | None
    hardware_id: str


def read_settings(value: Callable[[str], Value]) -> MavlinkSettings:
    """Return the parameters together; `value` gives a parameter's value by name.

    Raises:
        InputError: one of them, or two together, make no sense; the message says which.
    """
    urls = [text for text in re.split(r"[,\s]+", str(value("url"))) if text]
    if not urls:
        raise InputError("url is empty; give for example udpout:127.0.0.1:14550")
    role, components = value("role"), {}
    if role != _CONTROLLER:
        components[int(value("component_id"))] = ComponentType.CAMERA
    if role != _CAMERA:
        controller = int(value("controller_component_id"))
        if controller in components:
            raise InputError(
                f"component_id and controller_component_id are both {controller}; with the role "
                f"{_BOTH} they must differ"
            )
        components[controller] = ComponentType.ONBOARD_CONTROLLER
    name = str(value("camera_name"))
    if not 0 < len(name.encode()) <= _LONGEST_NAME:
        raise InputError(f"camera_name is {name!r}, expected 1 to {_LONGEST_NAME} bytes")
    check_ros_name("tracker", str(value("tracker")), "a node")
    uri, kind = str(value("video_uri")), str(value("video_type"))
    type_number, form, example = _STREAM_TYPES[kind]
    if uri and (not re.fullmatch(form, uri) or len(uri.encode()) > _LONGEST_URI):
        raise InputError(f"video_uri is {uri!r}, expected for video_type {kind}: {example}")
    return MavlinkSettings(
        links=tuple(parse_url(url, "url") for url in urls),
        system=int(value("system_id")),
        components=components,
        accept_signed=value("signed") == "accept",
        tracker=str(value("tracker")),
        camera_name=name,
        horizontal_fov=float(value("horizontal_fov")),
        claim_capture=bool(value("claim_capture")),
        video_uri=uri,
        video_type=type_number,
        video_encoding=_ENCODINGS[str(value("video_encoding"))],
        video_latency=float(value("video_latency")),
        status_delay=float(value("status_delay")),
        status_interval=float(value("status_interval")),
        shortest_interval=1.0 / float(value("max_rate")),
        announce_interval=float(value("announce_interval")),
        station_timeout=float(value("station_timeout")),
        tracker_timeout=float(value("tracker_timeout")),
        request_timeout=float(value("request_timeout")),
        geo=_read_geo(value),
        hardware_id=str(value("hardware_id")),
    )


def _read_geo(value: Callable[[str], Value]) -> GeoSettings | None:
    """Return what says where the target is; see `read_settings`."""
    source, name = str(value("geo.source")), str(value("geo.target_3d"))
    check_ros_name("geo.target_3d", name, "a node")
    if source == _NOWHERE:
        return None
    origin = None
    if source == _ORIGIN:
        latitude, longitude = float(value("geo.latitude")), float(value("geo.longitude"))
        if latitude == longitude == 0.0:
            raise InputError(
                "geo.source is origin, but geo.latitude and geo.longitude are both 0; give the "
                "place of the frame's origin"
            )
        origin = GeodeticPoint(latitude, longitude, float(value("geo.altitude")))
    return GeoSettings(
        target_3d=name,
        frame=str(value("geo.frame")).removeprefix("/") or _FRAMES[source],
        origin=origin,
        position_sigma=float(value("geo.position_sigma")),
        attitude_sigma=float(value("geo.attitude_sigma")),
    )
