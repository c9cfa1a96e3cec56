# SPDX-License-Identifier: Apache-2.0
"""MAVLink 2 frames, and the messages that a tracking camera and who steers a gimbal speak.

Frames follow https://mavlink.io/en/guide/serialization.html, messages the dialect common.xml. The
tests compare numbers, layouts and bytes with pymavlink, which is LGPL and so not used here.
"""

from __future__ import annotations

import binascii
import re
from collections import Counter
from dataclasses import astuple, dataclass
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Annotated, ClassVar, NamedTuple, get_type_hints

NAN = float("nan")
UNKNOWN_INT32 = 2**31 - 1

# Types of fields, with their format on the wire (see `struct`).
_U8 = Annotated[int, "B"]
_U16 = Annotated[int, "H"]
_U32 = Annotated[int, "I"]
_I16 = Annotated[int, "h"]
_I32 = Annotated[int, "i"]
_F32 = Annotated[float, "f"]
_Chars32 = Annotated[bytes, "32s"]
_Chars50 = Annotated[bytes, "50s"]
_Chars140 = Annotated[bytes, "140s"]
_Chars160 = Annotated[bytes, "160s"]


class Command(IntEnum):
    """What COMMAND_LONG and COMMAND_INT ask for (MAV_CMD)."""

    SET_MESSAGE_INTERVAL = 511
    REQUEST_MESSAGE = 512
    REQUEST_CAMERA_INFORMATION = 521
    REQUEST_CAMERA_SETTINGS = 522
    REQUEST_STORAGE_INFORMATION = 525
    REQUEST_CAMERA_CAPTURE_STATUS = 527
    DO_GIMBAL_MANAGER_CONFIGURE = 1001
    IMAGE_START_CAPTURE = 2000
    CAMERA_TRACK_POINT = 2004
    CAMERA_TRACK_RECTANGLE = 2005
    CAMERA_STOP_TRACKING = 2010
    VIDEO_START_CAPTURE = 2500
    REQUEST_VIDEO_STREAM_INFORMATION = 2504
    REQUEST_VIDEO_STREAM_STATUS = 2505


class Result(IntEnum):
    """What COMMAND_ACK answers (MAV_RESULT)."""

    ACCEPTED = 0
    TEMPORARILY_REJECTED = 1
    DENIED = 2
    UNSUPPORTED = 3
    FAILED = 4
    IN_PROGRESS = 5


class Severity(IntEnum):
    """Urgency of a STATUSTEXT (MAV_SEVERITY)."""

    WARNING = 4
    NOTICE = 5


class ComponentType(IntEnum):
    """What a HEARTBEAT is of (MAV_TYPE)."""

    ONBOARD_CONTROLLER = 18
    CAMERA = 30


class SystemState(IntEnum):
    """How a component is (MAV_STATE)."""

    STANDBY = 3
    ACTIVE = 4


class Capability(IntFlag):
    """Flags of CAMERA_INFORMATION (CAMERA_CAP_FLAGS)."""

    CAPTURE_VIDEO = 1
    HAS_VIDEO_STREAM = 256
    HAS_TRACKING_POINT = 512
    HAS_TRACKING_RECTANGLE = 1024
    HAS_TRACKING_GEO_STATUS = 2048


class TrackingStatus(IntFlag):
    """Flags of CAMERA_TRACKING_IMAGE_STATUS (CAMERA_TRACKING_STATUS_FLAGS)."""

    IDLE = 0
    ACTIVE = 1
    ERROR = 2
    COASTING = 8


class TrackingMode(IntEnum):
    """What kind of target is tracked (CAMERA_TRACKING_MODE)."""

    NONE = 0
    RECTANGLE = 2


class GimbalFlag(IntFlag):
    """How a gimbal holds its axes (GIMBAL_MANAGER_FLAGS)."""

    NEUTRAL = 2
    ROLL_LOCK = 4
    PITCH_LOCK = 8
    YAW_LOCK = 16


AUTOPILOT_INVALID = 8  # MAV_AUTOPILOT of everything that is no autopilot
STORAGE_NOT_SUPPORTED = 3  # STORAGE_STATUS
TARGET_DATA_IN_STATUS = 4  # CAMERA_TRACKING_TARGET_DATA
CAMERA_MODE_VIDEO = 1
STREAM_RUNNING = 1  # VIDEO_STREAM_STATUS_FLAGS


@dataclass(frozen=True)
class Message:
    """A MAVLink message; its fields are declared in the order in which they are sent."""

    NUMBER: ClassVar[int]
    CRC_EXTRA: ClassVar[int]
    LAYOUT: ClassVar[Struct]

    def __init_subclass__(cls, number: int, crc_extra: int) -> None:
        hints = get_type_hints(cls, include_extras=True)
        formats = (hints[name].__metadata__[0] for name in cls.__annotations__)
        cls.NUMBER, cls.CRC_EXTRA = number, crc_extra
        cls.LAYOUT = Struct("<" + "".join(formats))

    def payload(self) -> bytes:
        """Return the fields as bytes, without the zeros at their end, but at least one byte."""
        return self.LAYOUT.pack(*astuple(self)).rstrip(b"\0") or b"\0"

    @classmethod
    def from_payload(cls, payload: bytes) -> Message:
        """Read the fields; what is cut off is zero, what is beyond them is of a later version."""
        size = cls.LAYOUT.size
        return cls(*cls.LAYOUT.unpack(payload[:size].ljust(size, b"\0")))


@dataclass(frozen=True)
class Heartbeat(Message, number=0, crc_extra=50):
    """A component is there."""

    custom_mode: _U32 = 0
    type: _U8 = ComponentType.CAMERA
    autopilot: _U8 = AUTOPILOT_INVALID
    base_mode: _U8 = 0
    system_status: _U8 = SystemState.ACTIVE
    mavlink_version: _U8 = 3


@dataclass(frozen=True)
class Attitude(Message, number=30, crc_extra=39):
    """How a vehicle lies (radians): yaw, pitch and roll from north, east, down to its own axes."""

    time_boot_ms: _U32 = 0
    roll: _F32 = 0.0
    pitch: _F32 = 0.0
    yaw: _F32 = 0.0
    rollspeed: _F32 = 0.0
    pitchspeed: _F32 = 0.0
    yawspeed: _F32 = 0.0


@dataclass(frozen=True)
class GlobalPositionInt(Message, number=33, crc_extra=104):
    """Where a vehicle is: 1e-7 degrees, and millimetres above mean sea level."""

    time_boot_ms: _U32 = 0
    lat: _I32 = 0
    lon: _I32 = 0
    alt: _I32 = 0
    relative_alt: _I32 = 0
    vx: _I16 = 0
    vy: _I16 = 0
    vz: _I16 = 0
    hdg: _U16 = 0


@dataclass(frozen=True)
class CommandInt(Message, number=75, crc_extra=158):
    """A command whose fifth and sixth parameter are integers."""

    param1: _F32 = 0.0
    param2: _F32 = 0.0
    param3: _F32 = 0.0
    param4: _F32 = 0.0
    x: _I32 = 0
    y: _I32 = 0
    z: _F32 = 0.0
    command: _U16 = 0
    target_system: _U8 = 0
    target_component: _U8 = 0
    frame: _U8 = 0
    current: _U8 = 0
    autocontinue: _U8 = 0


@dataclass(frozen=True)
class CommandLong(Message, number=76, crc_extra=152):
    """A command."""

    param1: _F32 = 0.0
    param2: _F32 = 0.0
    param3: _F32 = 0.0
    param4: _F32 = 0.0
    param5: _F32 = 0.0
    param6: _F32 = 0.0
    param7: _F32 = 0.0
    command: _U16 = 0
    target_system: _U8 = 0
    target_component: _U8 = 0
    confirmation: _U8 = 0


@dataclass(frozen=True)
class CommandAck(Message, number=77, crc_extra=143):
    """The answer to a command; it is for the target, who asked."""

    command: _U16 = 0
    result: _U8 = Result.ACCEPTED
    progress: _U8 = 0
    result_param2: _I32 = 0
    target_system: _U8 = 0
    target_component: _U8 = 0


@dataclass(frozen=True)
class StatusText(Message, number=253, crc_extra=83):
    """A text for the operator; a longer one comes in chunks of one id."""

    severity: _U8 = Severity.WARNING
    text: _Chars50 = b""
    id: _U16 = 0
    chunk_seq: _U8 = 0


@dataclass(frozen=True)
class CameraInformation(Message, number=259, crc_extra=92):
    """What a camera is and can do."""

    time_boot_ms: _U32 = 0
    firmware_version: _U32 = 0
    focal_length: _F32 = NAN
    sensor_size_h: _F32 = NAN
    sensor_size_v: _F32 = NAN
    flags: _U32 = 0
    resolution_h: _U16 = 0
    resolution_v: _U16 = 0
    cam_definition_version: _U16 = 0
    vendor_name: _Chars32 = b""
    model_name: _Chars32 = b""
    lens_id: _U8 = 0
    cam_definition_uri: _Chars140 = b""
    gimbal_device_id: _U8 = 0
    camera_device_id: _U8 = 0


@dataclass(frozen=True)
class CameraSettings(Message, number=260, crc_extra=146):
    """In which mode a camera is."""

    time_boot_ms: _U32 = 0
    mode_id: _U8 = CAMERA_MODE_VIDEO
    zoom_level: _F32 = NAN
    focus_level: _F32 = NAN
    camera_device_id: _U8 = 0


@dataclass(frozen=True)
class StorageInformation(Message, number=261, crc_extra=179):
    """What a camera can store: nothing, as long as the fields are the defaults."""

    time_boot_ms: _U32 = 0
    total_capacity: _F32 = 0.0
    used_capacity: _F32 = 0.0
    available_capacity: _F32 = 0.0
    read_speed: _F32 = 0.0
    write_speed: _F32 = 0.0
    storage_id: _U8 = 0
    storage_count: _U8 = 0
    status: _U8 = STORAGE_NOT_SUPPORTED
    type: _U8 = 0
    name: _Chars32 = b""
    storage_usage: _U8 = 0


@dataclass(frozen=True)
class CameraCaptureStatus(Message, number=262, crc_extra=12):
    """What a camera records: nothing, as long as the fields are the defaults."""

    time_boot_ms: _U32 = 0
    image_interval: _F32 = 0.0
    recording_time_ms: _U32 = 0
    available_capacity: _F32 = 0.0
    image_status: _U8 = 0
    video_status: _U8 = 0
    image_count: _I32 = 0
    camera_device_id: _U8 = 0


@dataclass(frozen=True)
class VideoStreamInformation(Message, number=269, crc_extra=109):
    """Where to see the video."""

    framerate: _F32 = 0.0
    bitrate: _U32 = 0
    flags: _U16 = STREAM_RUNNING
    resolution_h: _U16 = 0
    resolution_v: _U16 = 0
    rotation: _U16 = 0
    hfov: _U16 = 0
    stream_id: _U8 = 1
    count: _U8 = 1
    type: _U8 = 0
    name: _Chars32 = b""
    uri: _Chars160 = b""
    encoding: _U8 = 0
    camera_device_id: _U8 = 0


@dataclass(frozen=True)
class VideoStreamStatus(Message, number=270, crc_extra=59):
    """How the video is."""

    framerate: _F32 = 0.0
    bitrate: _U32 = 0
    flags: _U16 = STREAM_RUNNING
    resolution_h: _U16 = 0
    resolution_v: _U16 = 0
    rotation: _U16 = 0
    hfov: _U16 = 0
    stream_id: _U8 = 1
    camera_device_id: _U8 = 0


@dataclass(frozen=True)
class CameraFovStatus(Message, number=271, crc_extra=22):
    """Where a camera looks, and how wide; places and directions are not known by default."""

    time_boot_ms: _U32 = 0
    lat_camera: _I32 = UNKNOWN_INT32
    lon_camera: _I32 = UNKNOWN_INT32
    alt_camera: _I32 = UNKNOWN_INT32
    lat_image: _I32 = UNKNOWN_INT32
    lon_image: _I32 = UNKNOWN_INT32
    alt_image: _I32 = UNKNOWN_INT32
    q_w: _F32 = NAN
    q_x: _F32 = NAN
    q_y: _F32 = NAN
    q_z: _F32 = NAN
    hfov: _F32 = NAN
    vfov: _F32 = NAN
    camera_device_id: _U8 = 0


@dataclass(frozen=True)
class CameraTrackingImageStatus(Message, number=275, crc_extra=126):
    """Where the target is in the image, as fractions of its width and height."""

    point_x: _F32 = NAN
    point_y: _F32 = NAN
    radius: _F32 = NAN
    rec_top_x: _F32 = NAN
    rec_top_y: _F32 = NAN
    rec_bottom_x: _F32 = NAN
    rec_bottom_y: _F32 = NAN
    tracking_status: _U8 = TrackingStatus.IDLE
    tracking_mode: _U8 = TrackingMode.NONE
    target_data: _U8 = TARGET_DATA_IN_STATUS
    camera_device_id: _U8 = 0


@dataclass(frozen=True)
class CameraTrackingGeoStatus(Message, number=276, crc_extra=18):
    """Where on earth the target is; degrees times 1e7, metres above mean sea level, radians.

    `dist` and `hdg` are from the camera to the target.
    """

    lat: _I32 = UNKNOWN_INT32
    lon: _I32 = UNKNOWN_INT32
    alt: _F32 = NAN
    h_acc: _F32 = NAN
    v_acc: _F32 = NAN
    vel_n: _F32 = NAN
    vel_e: _F32 = NAN
    vel_d: _F32 = NAN
    vel_acc: _F32 = NAN
    dist: _F32 = NAN
    hdg: _F32 = NAN
    hdg_acc: _F32 = NAN
    tracking_status: _U8 = TrackingStatus.IDLE
    camera_device_id: _U8 = 0


@dataclass(frozen=True)
class GimbalManagerStatus(Message, number=281, crc_extra=48):
    """Who is in control of a gimbal; zeros: nobody."""

    time_boot_ms: _U32 = 0
    flags: _U32 = 0
    gimbal_device_id: _U8 = 0
    primary_control_sysid: _U8 = 0
    primary_control_compid: _U8 = 0
    secondary_control_sysid: _U8 = 0
    secondary_control_compid: _U8 = 0


@dataclass(frozen=True)
class GimbalManagerSetPitchyaw(Message, number=287, crc_extra=1):
    """Angles (radians) and rates (radians a second), up and to the right; NaN is not set."""

    flags: _U32 = 0
    pitch: _F32 = NAN
    yaw: _F32 = NAN
    pitch_rate: _F32 = NAN
    yaw_rate: _F32 = NAN
    target_system: _U8 = 0
    target_component: _U8 = 0
    gimbal_device_id: _U8 = 0


MESSAGES: dict[int, type[Message]] = {kind.NUMBER: kind for kind in Message.__subclasses__()}
"""All messages, by number."""


_BITS_REVERSED = bytes(int(f"{number:08b}"[::-1], 2) for number in range(256))


def checksum(data: bytes, crc_extra: int) -> int:
    """Return the X.25 checksum (CRC-16/MCRF4XX) of a frame and the CRC_EXTRA of its message.

    That is `crc_hqx` with the bits of every byte, and of the result, in the other order.

    Args:
        data: the frame without magic number, checksum and signature.
        crc_extra: says that sender and receiver mean the same fields.
    """
    crc = binascii.crc_hqx((data + bytes((crc_extra,))).translate(_BITS_REVERSED), 0xFFFF)
    return _BITS_REVERSED[crc & 0xFF] << 8 | _BITS_REVERSED[crc >> 8]


class Frame(NamedTuple):
    """A message and who sent it."""

    system: int
    component: int
    message: Message


_MAGIC_1, _MAGIC_2 = 0xFE, 0xFD
_MAGIC = re.compile(b"[\xfd\xfe]")
_SIGNED = 0x01  # the only incompatibility flag there is
_CHECKSUM, _SIGNATURE = 2, 13  # bytes


def encode(message: Message, system: int, component: int, sequence: int) -> bytes:
    """Write a message into a MAVLink 2 frame, unsigned.

    Args:
        message: any.
        system, component: of the sender, 1 to 255.
        sequence: counts the frames of this sender on this connection; its lowest byte is sent.
    """
    payload = message.payload()
    number = message.NUMBER.to_bytes(3, "little")
    head = bytes((len(payload), 0, 0, sequence & 0xFF, system, component)) + number
    crc = checksum(head + payload, message.CRC_EXTRA)
    return bytes((_MAGIC_2,)) + head + payload + crc.to_bytes(2, "little")


class FrameReader:
    """Finds the frames of known messages in bytes, of MAVLink 2 and of MAVLink 1.

    Never raises: what is no frame is passed over. A signature is not verified, since no key is
    held; signed frames are read all the same, or refused.

    Args:
        accept_signed: read signed frames.

    Attributes:
        counts: frames that were "damaged", "signed" and refused, or "incompatible".
    """

    def __init__(self, accept_signed: bool = True) -> None:
        self._accept_signed = accept_signed
        self._rest = b""
        self.counts: Counter[str] = Counter()

    def read_datagram(self, data: bytes) -> list[Frame]:
        """Return the frames of a datagram; one that is cut off at its end is lost."""
        frames, rest = self._cut(data)
        self.counts["damaged"] += bool(rest)
        return frames

    def read_stream(self, data: bytes) -> list[Frame]:
        """Return the frames that are complete with these bytes of a stream."""
        frames, self._rest = self._cut(self._rest + data)
        return frames

    def _cut(self, data: bytes) -> tuple[list[Frame], bytes]:
        """Return the frames, and the bytes from where a frame begins that may go on."""
        frames: list[Frame] = []
        at = 0
        while True:
            found = _MAGIC.search(data, at)
            if found is None:
                return frames, b""
            at = found.start()
            is_2 = data[at] == _MAGIC_2
            body = at + (10 if is_2 else 6)
            if len(data) < body:
                return frames, data[at:]
            length, flags = data[at + 1], data[at + 2] if is_2 else 0
            if flags & ~_SIGNED:  # such a frame must not be read, and its length is a guess
                self.counts["incompatible"] += 1
                at += 1
                continue
            end = body + length + _CHECKSUM
            following = end + (_SIGNATURE if flags & _SIGNED else 0)
            if len(data) < following:
                return frames, data[at:]
            if is_2:
                system, component = data[at + 5], data[at + 6]
                number = int.from_bytes(data[at + 7 : body], "little")
            else:
                system, component, number = data[at + 3], data[at + 4], data[at + 5]
            kind = MESSAGES.get(number)
            if kind is None:  # its CRC_EXTRA is not known, and nobody here needs it
                at = following
                continue
            crc = int.from_bytes(data[end - _CHECKSUM : end], "little")
            if crc != checksum(data[at + 1 : end - _CHECKSUM], kind.CRC_EXTRA):
                self.counts["damaged"] += 1
                at += 1  # the magic number may have been part of something else
                continue
            if flags & _SIGNED and not self._accept_signed:
                self.counts["signed"] += 1
            else:
                payload = data[body : end - _CHECKSUM]
                frames.append(Frame(system, component, kind.from_payload(payload)))
            at = following
