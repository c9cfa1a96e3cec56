# SPDX-License-Identifier: Apache-2.0
"""A MAVLink camera component: what it says to whom and when, without sockets or ROS nodes.

The camera protocol is https://mavlink.io/en/services/camera.html, commands are
https://mavlink.io/en/services/command.html.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from typing import NamedTuple, Protocol

from vt_ros.client import Estimate, State
from vt_ros.common.convert import Box
from vt_ros.mavlink.links import Address
from vt_ros.mavlink.messages import (
    AUTOPILOT_INVALID,
    MESSAGES,
    NAN,
    UNKNOWN_INT32,
    Attitude,
    CameraCaptureStatus,
    CameraFovStatus,
    CameraInformation,
    CameraSettings,
    CameraTrackingGeoStatus,
    CameraTrackingImageStatus,
    Command,
    CommandAck,
    CommandInt,
    CommandLong,
    Frame,
    GlobalPositionInt,
    Heartbeat,
    Message,
    Result,
    Severity,
    StatusText,
    StorageInformation,
    SystemState,
    VideoStreamInformation,
    VideoStreamStatus,
    encode,
)
from vt_ros.mavlink_camera.description import describe
from vt_ros.mavlink_camera.geo_report import GeoReport
from vt_ros.mavlink_camera.parameters import MavlinkSettings
from vt_ros.mavlink_camera.target_position import TargetPosition
from vt_ros.mavlink_camera.tracking_report import TrackingReport

_HEARTBEAT_INTERVAL = 1.0
_MOST_STATIONS = 32  # that are remembered; the one that is silent for longest makes room
_AUTOPILOT_GAP = 3.0  # seconds; an autopilot is silent for longer while it restarts

# Seconds after which the description is repeated for who is new, before `announce_interval` counts.
_FIRST_ANNOUNCEMENTS = (1.0, 2.0, 4.0, 8.0)

# QGroundControl sends a command again after 3 s without an answer; nobody marks the same place to
# the last digit twice within that time.
_REPETITION = 3.5

# MAVSDK sends a command again after 0.5 s without a sign that it is being worked on.
_PROGRESS_INTERVAL = 0.3

# Fractions that miss 0 or 1 by less are clipped: a box that was drawn to the edge, rounded.
_EDGE = 1e-3

# What an autopilot is asked for while it does not say where the vehicle is, seconds between two.
_VEHICLE_INTERVALS: dict[type[Message], float] = {GlobalPositionInt: 0.2, Attitude: 0.05}
_ASK_VEHICLE_INTERVAL = 5.0

_TEXT_CHUNK, _LONGEST_TEXT = 50, 250  # bytes
_SAME_TEXT = 2.0  # seconds before the same text is said again

_ON_REQUEST: tuple[type[Message], ...] = (
    CameraInformation,
    CameraSettings,
    StorageInformation,
    CameraCaptureStatus,
    VideoStreamInformation,
    VideoStreamStatus,
    CameraFovStatus,
    CameraTrackingImageStatus,
    CameraTrackingGeoStatus,
)
_STREAMED = (CameraTrackingImageStatus, CameraTrackingGeoStatus)  # others only come when asked for
# Deprecated commands that ask for one message, and the parameter that says which of several.
_OLD_REQUESTS: dict[int, tuple[type[Message], int | None]] = {
    Command.REQUEST_CAMERA_INFORMATION: (CameraInformation, None),
    Command.REQUEST_CAMERA_SETTINGS: (CameraSettings, None),
    Command.REQUEST_STORAGE_INFORMATION: (StorageInformation, 0),
    Command.REQUEST_CAMERA_CAPTURE_STATUS: (CameraCaptureStatus, None),
    Command.REQUEST_VIDEO_STREAM_INFORMATION: (VideoStreamInformation, 0),
    Command.REQUEST_VIDEO_STREAM_STATUS: (VideoStreamStatus, 0),
}
# Commands for the tracker, and the parameter that says which camera is meant.
_CAMERA_ID_PARAMETER: dict[int, int] = {
    Command.CAMERA_TRACK_POINT: 3,
    Command.CAMERA_TRACK_RECTANGLE: 4,
    Command.CAMERA_STOP_TRACKING: 0,
}

Parameters = tuple[float, float, float, float, float, float, float]


class Endpoint(NamedTuple):
    """Where something came from, and where answers go.

    Attributes:
        link: number of the link.
        address: the other end, if the link has several.
    """

    link: int
    address: Address | None = None

    def __str__(self) -> str:
        return f"link {self.link}" if self.address is None else "{}:{}".format(*self.address)


@dataclass(frozen=True)
class Mark:
    """What an operator marked: a box (x, y, w, h) or a point (x, y), pixels of the image."""

    box: Box | None = None
    point: tuple[float, float] | None = None


Answer = Callable[[Result, str], None]
"""Called once with what became of a request, and with the reason; any thread may."""


class Tracker(Protocol):
    """What the component needs of a tracker. Neither method waits."""

    def start(self, mark: Mark, answer: Answer) -> None:
        """Start on what was marked a moment ago."""

    def stop(self, answer: Answer) -> None:
        """Forget the target, also one that is still being searched for."""


class RefusedError(Exception):
    """A command that is not carried out; the message says why."""

    def __init__(self, result: Result, reason: str) -> None:
        super().__init__(reason)
        self.result = result


class OtherCameraError(RefusedError):
    """A command for another camera, or for none."""


@dataclass(eq=False)
class _Station:
    """A ground station, an autopilot or a program that has been heard.

    Attributes:
        intervals: seconds between messages that it asked for, by our component and the message's
            number; 0 is our choice.
        accepted: the last command to start that was carried out, and when it came.
    """

    system: int
    component: int
    endpoint: Endpoint
    last_heard: float
    is_autopilot: bool = False
    state: int = SystemState.STANDBY
    intervals: dict[tuple[int, int], float] = field(default_factory=dict)
    accepted: tuple[int, Parameters, float] | None = None


@dataclass(eq=False)
class _Request:
    """A command of a station; one that the tracker works on waits for its answer."""

    station: _Station
    component: int
    command: int
    parameters: Parameters
    arrived: float
    progress_at: float = math.inf
    given_up: bool = False

    @property
    def key(self) -> tuple[_Station, int, int]:
        """What an answer names: of two requests with the same one, the later counts."""
        return self.station, self.component, self.command


class CameraComponent:
    """Answers ground stations and autopilots; any thread may call its methods.

    Args:
        settings: the parameters; may be replaced at any time by ones with the same components.
        fixed_endpoints: are sent heartbeats whether anything was heard from there or not.
        tracker: carries out what is asked for.
        send: sends a frame; must not wait.
        warn: is told what operators were refused, and why.
        clock: gives seconds.
        geo: knows where on earth the target is; None: nothing does.

    Attributes:
        counts: of commands "answered", "refused", and "for others".
        last_refusal: the command and the reason; empty if there was none.
    """

    def __init__(
        self,
        settings: MavlinkSettings,
        fixed_endpoints: tuple[Endpoint, ...],
        tracker: Tracker,
        send: Callable[[Endpoint, bytes], None],
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        geo: GeoReport | None = None,
    ) -> None:
        self.settings, self._fixed_endpoints, self._tracker = (
            settings,
            set(fixed_endpoints),
            tracker,
        )
        self._send_frame, self._warn, self._clock = send, warn, clock
        self.counts: Counter[str] = Counter()
        self.last_refusal = ""
        self._lock = threading.RLock()  # a tracker may answer at once
        self._begin = self._heartbeat_at = clock()
        self._stations: dict[tuple[Endpoint, int, int], _Station] = {}
        self._sequences: Counter[tuple[Endpoint, int]] = Counter()
        self._sent_at: dict[tuple[Endpoint, int, int], float] = {}
        self._announcements: dict[Endpoint, tuple[float, int]] = {}
        self._said: dict[Endpoint, tuple[str, float]] = {}
        self._text_id = 0
        self._waiting: dict[tuple[_Station, int, int], _Request] = {}
        self._stops = 0
        self._report = TrackingReport()
        self._geo, self._had_geo_status, self._ask_vehicle_at = geo, False, clock()

    # What comes in

    def receive(self, frame: Frame, endpoint: Endpoint) -> None:
        """Take a frame that has arrived, and answer it."""
        with self._lock:
            settings, message, now = self.settings, frame.message, self._clock()
            if frame.system == settings.system and frame.component in settings.components:
                return  # our own, sent back by a router
            station = self._station(frame, endpoint, now)
            if isinstance(message, Heartbeat):
                self._take_heartbeat(station, message)
            elif isinstance(message, CommandLong):
                self._take_command(station, message, astuple(message)[:7], now)
            elif isinstance(message, CommandInt):
                x, y = (NAN if n == UNKNOWN_INT32 else float(n) for n in (message.x, message.y))
                parameters = (*astuple(message)[:4], x, y, message.z)
                self._take_command(station, message, parameters, now)
            elif (
                isinstance(message, (Attitude, GlobalPositionInt))
                and self._geo is not None
                and station.is_autopilot  # ours: another vehicle's would say nothing of the target
            ):
                self._geo.take_vehicle(message)

    def take_position(self, position: TargetPosition) -> None:
        """Take what target_3d says about a frame."""
        with self._lock:
            if self._geo is not None:
                self._geo.take_position(position)

    def take(self, estimate: Estimate, image_age: float = 0.0) -> None:
        """Take what the tracker says about a frame.

        Args:
            estimate: of the frame.
            image_age: seconds since its exposure.
        """
        with self._lock:
            state = self._report.state
            self._report.take(estimate, self._clock(), image_age, self.settings.status_delay)
            if estimate.state is State.LOST and state is not State.LOST:
                self._say_to_all(Severity.WARNING, f"Target lost: {estimate.status.message}")
            elif state is State.LOST and estimate.measured:
                self._say_to_all(Severity.NOTICE, "Target found again")

    def tick(self) -> float:
        """Send what is due; return for how many seconds nothing will be."""
        with self._lock:
            now = self._clock()
            self._notice_geo_status(now)
            self._ask_for_vehicle(now)
            return max(
                0.0,
                min(
                    self._send_heartbeats(now),
                    self._send_streams(now),
                    self._send_announcements(now),
                    self._send_progress(now),
                )
                - now,
            )

    def describe_stations(self) -> list[str]:
        """Return who has been heard, and for how long those are silent that are."""
        with self._lock:
            now, lines = self._clock(), []
            for station in self._stations.values():
                kind = "autopilot" if station.is_autopilot else "station"
                silence = now - station.last_heard
                silent = "" if self._is_alive(station, now) else f", silent for {silence:.0f} s"
                name = f"{kind} {station.system}/{station.component}"
                lines.append(f"{name} at {station.endpoint}{silent}")
            return lines

    @property
    def tracker_is_silent(self) -> bool:
        """The tracker has said nothing for `tracker_timeout` seconds."""
        return self._report.silence(self._clock()) > self.settings.tracker_timeout

    def describe_geo(self) -> str | None:
        """Return why there is no place of the target; empty: nothing keeps it; None: not wanted."""
        with self._lock:
            if self._geo is None:
                return None
            report, timeout = self._report, self.settings.tracker_timeout
            return self._geo.describe(report.state, report.target_id, timeout)

    # Stations

    def _station(self, frame: Frame, endpoint: Endpoint, now: float) -> _Station:
        """Return who sent a frame, and describe the camera to who is new, or was silent."""
        key = endpoint, frame.system, frame.component
        station = self._stations.get(key)
        if station is None:
            if len(self._stations) >= _MOST_STATIONS:
                self._forget(min(self._stations.values(), key=lambda other: other.last_heard))
            station = self._stations[key] = _Station(frame.system, frame.component, endpoint, now)
            self._announce(endpoint, now)
        elif not self._is_alive(station, now):
            self._announce(endpoint, now)
        if station.is_autopilot and now - station.last_heard > _AUTOPILOT_GAP:
            self._greet_autopilot(station, now)
        station.last_heard = now
        return station

    def _forget(self, station: _Station) -> None:
        del self._stations[station.endpoint, station.system, station.component]
        if any(other.endpoint == station.endpoint for other in self._stations.values()):
            return
        self._announcements.pop(station.endpoint, None)
        self._said.pop(station.endpoint, None)
        for component in self.settings.components:
            self._sequences.pop((station.endpoint, component), None)

    def _is_alive(self, station: _Station, now: float) -> bool:
        return now - station.last_heard <= self.settings.station_timeout

    def _living_endpoints(self) -> set[Endpoint]:
        """Return from where somebody is heard."""
        now = self._clock()
        return {s.endpoint for s in self._stations.values() if self._is_alive(s, now)}

    def _take_heartbeat(self, station: _Station, heartbeat: Heartbeat) -> None:
        """Notice an autopilot, and that it has restarted."""
        if station.system != self.settings.system or heartbeat.autopilot == AUTOPILOT_INVALID:
            return
        is_new = not station.is_autopilot
        station.is_autopilot = True
        restarted = heartbeat.system_status < SystemState.STANDBY <= station.state
        station.state = heartbeat.system_status
        if is_new or restarted:
            self._greet_autopilot(station, station.last_heard)

    def _greet_autopilot(self, station: _Station, now: float) -> None:
        """Describe the camera and stream the target to an autopilot: ArduPilot does not ask.

        What it had asked for before a restart is forgotten, as it is there.
        """
        component = list(self.settings.components)[-1]  # the onboard controller, if there is one
        station.intervals = {(component, CameraTrackingImageStatus.NUMBER): 0.0}
        self._announce(station.endpoint, now)

    # Commands

    def _take_command(
        self,
        station: _Station,
        message: CommandLong | CommandInt,
        parameters: Parameters,
        now: float,
    ) -> None:
        """Carry out a command that is for us, and answer it; now, or when the tracker has."""
        ours = list(self.settings.components)
        is_for_all = message.target_component == 0
        if message.target_system not in (0, self.settings.system) or not (
            is_for_all or message.target_component in ours
        ):
            self.counts["for others"] += 1
            return
        component = ours[0] if is_for_all else message.target_component
        request = _Request(station, component, message.command, parameters, now)
        is_for_tracker = message.command in _CAMERA_ID_PARAMETER
        try:
            if is_for_tracker:
                self._check_camera_id(request)
                self._hand_on(request)
                return
            reply = self._execute(request)
        except OtherCameraError as refusal:
            self._refuse(request, refusal, is_silent=is_for_all)
            return
        except RefusedError as refusal:
            # What another component has, it knows; what is wrong with a mark, only we do.
            self._refuse(request, refusal, is_silent=is_for_all and not is_for_tracker)
            return
        self._answer(request, Result.ACCEPTED)
        if reply is not None:
            self._send(station.endpoint, component, reply)

    def _refuse(self, request: _Request, refusal: RefusedError, is_silent: bool) -> None:
        if is_silent:
            self.counts["for others"] += 1
        else:
            self._answer(request, refusal.result, str(refusal))

    @staticmethod
    def _check_camera_id(request: _Request) -> None:
        """Raise OtherCameraError if another camera is meant; 0, or nothing, means all."""
        camera = request.parameters[_CAMERA_ID_PARAMETER[request.command]]
        if not math.isnan(camera) and camera not in (0.0, float(request.component)):
            raise OtherCameraError(
                Result.DENIED, f"camera {camera:g} is meant, this is camera {request.component}"
            )

    def _execute(self, request: _Request) -> Message | None:
        """Carry out a command that the tracker is not needed for; return what it asks for.

        Raises:
            RefusedError: with what is wrong.
        """
        command, parameters = request.command, request.parameters
        if command == Command.REQUEST_MESSAGE:
            kind = self._kind(parameters[0])
            return self._message(kind, request.component, parameters[1])
        if command in _OLD_REQUESTS:
            kind, index = _OLD_REQUESTS[command]
            return self._message(
                kind, request.component, 0.0 if index is None else parameters[index]
            )
        if command == Command.SET_MESSAGE_INTERVAL:
            self._set_interval(request, parameters[1])
            return None
        if command in (Command.IMAGE_START_CAPTURE, Command.VIDEO_START_CAPTURE):
            raise RefusedError(Result.UNSUPPORTED, "this camera tracks and records nothing")
        raise RefusedError(Result.UNSUPPORTED, f"command {command} is not known here")

    @staticmethod
    def _kind(number: float) -> type[Message]:
        """Return the message of a number."""
        kind = MESSAGES.get(int(number)) if number.is_integer() else None
        if kind is Heartbeat or kind in _ON_REQUEST:
            return kind
        raise RefusedError(Result.DENIED, f"message {number:g} is not sent by this camera")

    def _set_interval(self, request: _Request, microseconds: float) -> None:
        kind = self._kind(request.parameters[0])
        if kind is Heartbeat or not -1.0 <= microseconds < math.inf or -1.0 < microseconds < 0.0:
            raise RefusedError(
                Result.DENIED,
                f"the interval of message {kind.NUMBER} cannot be {microseconds:g} us",
            )
        self._message(kind, request.component, 0.0)  # refuse what could not be sent
        intervals, key = request.station.intervals, (request.component, kind.NUMBER)
        # By default only the tracking statuses come again and again.
        if microseconds > 0.0 or (microseconds == 0.0 and kind in _STREAMED):
            intervals[key] = microseconds * 1e-6
        else:
            intervals.pop(key, None)

    def _hand_on(self, request: _Request) -> None:
        """Ask the tracker to start or stop, unless it has been asked that already.

        Raises:
            RefusedError: it cannot be tracked, or not yet.
        """
        station, waiting = request.station, self._waiting.get(request.key)
        if waiting is not None and _same(waiting.parameters, request.parameters):
            self._acknowledge(waiting, Result.IN_PROGRESS)
            return
        if request.command == Command.CAMERA_STOP_TRACKING:
            self._stops += 1
            for other in self._stations.values():
                other.accepted = None
            self._wait_for(request)
            self._tracker.stop(lambda result, reason: self._finish(request, result, reason))
            return
        mark = self._mark(request)
        if station.accepted is not None:
            command, parameters, arrived = station.accepted
            again = command == request.command and _same(parameters, request.parameters)
            if again and request.arrived - arrived < _REPETITION:
                # Its answer was lost; to start once more would take what is there by now.
                self._acknowledge(request, Result.ACCEPTED)
                return
        self._wait_for(request)
        stops = self._stops

        def answer(result: Result, reason: str) -> None:
            with self._lock:
                overtaken = self._stops != stops
                if result == Result.ACCEPTED and (overtaken or request.given_up):
                    self._tracker.stop(lambda *_: None)
                    result, reason = Result.TEMPORARILY_REJECTED, "stopped before it had begun"
                self._finish(request, result, reason)

        self._tracker.start(mark, answer)

    def _mark(self, request: _Request) -> Mark:
        """Return what is marked, in pixels of the image that the tracker sees."""
        parameters = request.parameters
        is_point = request.command == Command.CAMERA_TRACK_POINT
        x, y = _fraction("x", parameters[0]), _fraction("y", parameters[1])
        if is_point:
            if not math.isnan(parameters[2]):
                _fraction("radius", parameters[2])  # else unused: the object there has a size
        else:
            right = _fraction("right edge", parameters[2])
            bottom = _fraction("lower edge", parameters[3])
            if right <= x or bottom <= y:
                raise RefusedError(
                    Result.DENIED,
                    f"the rectangle from {x:g}, {y:g} to {right:g}, {bottom:g} is empty; give the "
                    "upper left corner, then the lower right one",
                )
        width, height = self._report.size
        if not width:
            raise RefusedError(
                Result.TEMPORARILY_REJECTED, "no image has come through the tracker yet"
            )
        if is_point:
            # The right and the lower edge of an image are outside of it.
            return Mark(point=(min(x * width, width - 0.5), min(y * height, height - 0.5)))
        return Mark(box=(x * width, y * height, (right - x) * width, (bottom - y) * height))

    def _wait_for(self, request: _Request) -> None:
        request.progress_at = request.arrived + _PROGRESS_INTERVAL
        self._waiting[request.key] = request

    def _finish(self, request: _Request, result: Result, reason: str) -> None:
        """Answer a request that waits; one that a later one has replaced is not answered."""
        with self._lock:
            if self._waiting.get(request.key) is not request:
                return
            del self._waiting[request.key]
            if result == Result.ACCEPTED and request.command != Command.CAMERA_STOP_TRACKING:
                request.station.accepted = request.command, request.parameters, request.arrived
            self._answer(request, result, reason)

    def _answer(self, request: _Request, result: Result, reason: str = "") -> None:
        """Acknowledge a command; say to operator and log why it is not carried out."""
        self._acknowledge(request, result)
        if result == Result.ACCEPTED:
            self.counts["answered"] += 1
            return
        self.counts["refused"] += 1
        station, name = request.station, _NAMES.get(request.command, "")
        self.last_refusal = f"{name or f'command {request.command}'}: {result.name}, {reason}"
        if name:  # others are sent again and again by programs that try what there is
            self._say(station.endpoint, request.component, Severity.WARNING, f"{name}: {reason}")
            self._warn(
                f"{station.system}/{station.component} at {station.endpoint}: {self.last_refusal}"
            )

    def _acknowledge(self, request: _Request, result: Result) -> None:
        station = request.station
        ack = CommandAck(
            command=request.command,
            result=result,
            progress=255 if result == Result.IN_PROGRESS else 0,  # not known how far it is
            target_system=station.system,
            target_component=station.component,
        )
        self._send(station.endpoint, request.component, ack)

    # What goes out by itself

    def _send_heartbeats(self, now: float) -> float:
        """Send heartbeats if they are due; return when they are next."""
        if now >= self._heartbeat_at:
            # After a delay the next ones are not hurried to make up for it.
            self._heartbeat_at = max(self._heartbeat_at, now - 0.5) + _HEARTBEAT_INTERVAL
            for endpoint in self._living_endpoints() | self._fixed_endpoints:
                for component in self.settings.components:
                    self._send(endpoint, component, self._heartbeat(component))
        return self._heartbeat_at

    def _send_streams(self, now: float) -> float:
        """Send what was asked for by intervals; return when something is next.

        Stations behind one endpoint hear all that is sent there, so it is sent at the shortest
        interval that one of them has asked for.
        """
        settings = self.settings
        intervals: dict[tuple[Endpoint, int, int], float] = {}
        for station in self._stations.values():
            if not self._is_alive(station, now):
                continue
            for (component, number), wanted in station.intervals.items():
                key = station.endpoint, component, number
                interval = max(wanted or settings.status_interval, settings.shortest_interval)
                intervals[key] = min(interval, intervals.get(key, math.inf))
        sent_at, following = self._sent_at, math.inf
        self._sent_at = {}
        for key, interval in intervals.items():
            due = sent_at.get(key, -math.inf) + interval
            if now >= due:
                endpoint, component, number = key
                self._send(endpoint, component, self._message(MESSAGES[number], component, 0.0))
                # A little delay is made up for, so that the rate is kept; a longer one is not.
                due = (due if now - due < 0.5 * interval else now) + interval
            self._sent_at[key] = due - interval
            following = min(following, due)
        return following

    def _has_geo_status(self) -> bool:
        return self._geo is not None and self._geo.is_available(self.settings.tracker_timeout)

    def _notice_geo_status(self, now: float) -> None:
        """Describe the camera anew when it begins or ceases to be known where targets are."""
        has_geo_status = self._has_geo_status()
        if has_geo_status is not self._had_geo_status:
            self._had_geo_status = has_geo_status
            for endpoint in self._living_endpoints():
                self._announcements[endpoint] = (now, 0)

    def _ask_for_vehicle(self, now: float) -> None:
        """Ask the autopilot to say where the vehicle is, and how it lies, while it does not."""
        if self._geo is None or now < self._ask_vehicle_at or self._geo.vehicle_is_heard():
            return
        self._ask_vehicle_at = now + _ASK_VEHICLE_INTERVAL
        component = list(self.settings.components)[-1]
        for station in self._stations.values():
            if not station.is_autopilot or not self._is_alive(station, now):
                continue
            for kind, interval in _VEHICLE_INTERVALS.items():
                command = CommandLong(
                    param1=float(kind.NUMBER),
                    param2=interval * 1e6,
                    command=Command.SET_MESSAGE_INTERVAL,
                    target_system=station.system,
                    target_component=station.component,
                )
                self._send(station.endpoint, component, command)

    def _announce(self, endpoint: Endpoint, now: float) -> None:
        """Begin to describe the camera to a endpoint, unless that has just begun."""
        at, number = self._announcements.get(endpoint, (now, 0))
        has_just_begun = number == 1 and at > now
        if not has_just_begun:
            self._announcements[endpoint] = (now, 0)

    def _send_announcements(self, now: float) -> float:
        """Send descriptions that are due; return when one is next."""
        following = math.inf
        for endpoint in self._living_endpoints() & self._announcements.keys():
            at, number = self._announcements[endpoint]
            if now >= at:
                for component in self.settings.components:
                    self._send(
                        endpoint, component, self._message(CameraInformation, component, 0.0)
                    )
                later = self.settings.announce_interval or math.inf
                first = number < len(_FIRST_ANNOUNCEMENTS)
                at = now + (_FIRST_ANNOUNCEMENTS[number] if first else later)
                self._announcements[endpoint] = (at, number + 1)
            following = min(following, at)
        return following

    def _send_progress(self, now: float) -> float:
        """Say that requests are being worked on, or give them up; return when that is next."""
        following = math.inf
        for request in tuple(self._waiting.values()):
            deadline = request.arrived + self.settings.request_timeout
            if now >= deadline:
                request.given_up = True
                reason = f"no answer of the tracker in {self.settings.request_timeout:g} s"
                self._finish(request, Result.TEMPORARILY_REJECTED, reason)
                continue
            if now >= request.progress_at:
                self._acknowledge(request, Result.IN_PROGRESS)
                request.progress_at = now + _PROGRESS_INTERVAL
            following = min(following, request.progress_at, deadline)
        return following

    def _say_to_all(self, severity: Severity, text: str) -> None:
        for endpoint in self._living_endpoints():
            self._say(endpoint, next(iter(self.settings.components)), severity, text)

    def _say(self, endpoint: Endpoint, component: int, severity: Severity, text: str) -> None:
        """Send a text in chunks of 50 bytes, but not the same again and again."""
        now = self._clock()
        last, at = self._said.get(endpoint, ("", -math.inf))
        if last == text and now - at < _SAME_TEXT:
            return
        self._said[endpoint] = text, now
        data = text.encode()[:_LONGEST_TEXT]
        if len(data) <= _TEXT_CHUNK:
            self._send(endpoint, component, StatusText(severity, data))
            return
        self._text_id = self._text_id % 0xFFFF + 1
        # A chunk that is not full ends the text; a full last one is followed by an empty one.
        for number, begin in enumerate(range(0, len(data) + 1, _TEXT_CHUNK)):
            chunk = data[begin : begin + _TEXT_CHUNK]
            self._send(endpoint, component, StatusText(severity, chunk, self._text_id, number))

    def _send(self, endpoint: Endpoint, component: int, message: Message) -> None:
        sequence = self._sequences[endpoint, component]
        self._sequences[endpoint, component] = (sequence + 1) & 0xFF
        self._send_frame(endpoint, encode(message, self.settings.system, component, sequence))

    # Messages

    def _message(self, kind: type[Message], component: int, index: float) -> Message:
        """Return a message as it is now.

        Args:
            kind: one of `_ON_REQUEST`, or the heartbeat.
            component: whose it is.
            index: which video stream or storage; 0 or NaN: all, which is the first.

        Raises:
            RefusedError: there is no such stream or storage.
        """
        if not math.isnan(index) and index not in (0.0, 1.0):
            raise RefusedError(Result.DENIED, f"there is no number {index:g}, only 1")
        now = self._clock()
        if kind is Heartbeat:
            return self._heartbeat(component)
        if kind is CameraTrackingImageStatus:
            return self._report.image_status(now, self.settings.tracker_timeout)
        if kind is CameraTrackingGeoStatus:
            if self._geo is None:
                raise RefusedError(
                    Result.DENIED, "where on earth the target is, is not known: geo.source is none"
                )
            timeout = self.settings.tracker_timeout
            state = State.LOST if self.tracker_is_silent else self._report.state
            return self._geo.status(state, self._report.target_id, timeout)
        milliseconds = int((now - self._begin) * 1000.0) & 0xFFFFFFFF
        has_geo_status = self._has_geo_status()
        message = describe(kind, self.settings, self._report.size, milliseconds, has_geo_status)
        if message is None:
            raise RefusedError(Result.DENIED, "there is no video here: video_uri is not set")
        return message

    def _heartbeat(self, component: int) -> Heartbeat:
        state = SystemState.STANDBY if self.tracker_is_silent else SystemState.ACTIVE
        return Heartbeat(type=self.settings.components[component], system_status=state)


def _fraction(name: str, value: float) -> float:
    """Return a fraction of the image's width or height; refuse what is none."""
    if not -_EDGE <= value <= 1.0 + _EDGE:
        raise RefusedError(Result.DENIED, f"{name} is {value:g}, expected 0 to 1")
    return min(max(value, 0.0), 1.0)


def _same(one: Parameters, other: Parameters) -> bool:
    """Return whether two commands say the same; one NaN is like another."""
    return all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(one, other, strict=True))


_NAMES: dict[int, str] = {
    Command.CAMERA_TRACK_POINT: "Track point",
    Command.CAMERA_TRACK_RECTANGLE: "Track rectangle",
    Command.CAMERA_STOP_TRACKING: "Stop tracking",
    Command.IMAGE_START_CAPTURE: "Photo",
    Command.VIDEO_START_CAPTURE: "Recording",
}
"""Commands of operators, who are told why they are refused."""
