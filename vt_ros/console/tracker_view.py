# SPDX-License-Identifier: Apache-2.0
"""One tracker as the console sees it: frames, reports, and requests to it.

The node's executor only hands messages over; all else happens in the event loop of the server.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import ParameterDescriptor, ParameterEvent, ParameterType, ParameterValue
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    ListParameters,
    SetParameters,
)
from rclpy.client import Client
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Detection2DArray, Point2D

from vt_interfaces.srv import SetTarget
from vt_ros.client import Estimate, EstimateSubscription
from vt_ros.common.convert import (
    NANOSECONDS,
    Box,
    bounding_box_from_xywh,
    serialised_stamp,
    stamp_nanoseconds,
    xywh_from_bounding_box,
)
from vt_ros.common.errors import describe_error
from vt_ros.console.commands import (
    Confirm,
    Request,
    SaveRecording,
    SetParameter,
    Start,
    Stop,
)
from vt_ros.console.encoder import FrameEncoder
from vt_ros.console.frame_pairing import Frame, FramePairing, Timeline
from vt_ros.console.messages import SILENT, finite
from vt_ros.console.parameters import ConsoleSettings, TrackerSource

_COMPRESSED = "compressed"
# Every publisher is received from, and only what is newest counts.
_NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
_LEVELS = {
    DiagnosticStatus.OK: "OK",
    DiagnosticStatus.WARN: "WARN",
    DiagnosticStatus.ERROR: "ERROR",
    DiagnosticStatus.STALE: "STALE",
}
_KINDS = {
    ParameterType.PARAMETER_BOOL: "bool",
    ParameterType.PARAMETER_INTEGER: "int",
    ParameterType.PARAMETER_DOUBLE: "float",
    ParameterType.PARAMETER_STRING: "text",
}
_BUFFER = ("frame_buffer.seconds", "frame_buffer.megabytes")
_CHOICES = "one of "  # as vt_ros.common.parameters describes them
_PROMPT_TIMEOUT = 5.0  # seconds for what takes a tracker no time
_DIAGNOSTICS_TIMEOUT = 5.0  # seconds; they come once a second
_FRESH_PREDICTION = 0.5  # seconds, by its stamp
_MOST_RATE_SAMPLES = 60


class UnavailableError(RuntimeError):
    """A tracker cannot be asked, or gives no answer; the text is one sentence."""


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    Attributes:
        ok: it was granted.
        message: for humans, the tracker's own words.
        candidates: boxes that may be meant, best first, where a text was ambiguous.
        stamp: of the image that they are in, nanoseconds.
    """

    ok: bool
    message: str
    candidates: tuple[Box, ...] = ()
    stamp: int = 0


@dataclass(frozen=True)
class Prediction:
    """Where the target is expected at a time: nanoseconds, and x, y, w, h in pixels."""

    stamp: int
    box: Box


class TrackerView:
    """Subscribes to a tracker and its images, and asks it.

    Args:
        node: subscribes and calls.
        source: which tracker, and which images.
        settings: asked at every use, as live ones change.
        loop: of the server.
        workers: decode and encode.

    Attributes:
        name: of the tracker, in full.
        topic: of the images.
        frame: the newest; None before the first.
        encoder: of the frames.
    """

    def __init__(
        self,
        node: Node,
        source: TrackerSource,
        settings: Callable[[], ConsoleSettings],
        loop: asyncio.AbstractEventLoop,
        workers: ThreadPoolExecutor,
    ) -> None:
        self._node, self._settings, self._loop = node, settings, loop
        self.name = node.resolve_service_name(f"{source.name}/set_target").removesuffix(
            "/set_target"
        )
        self._compressed = settings().image_transport == _COMPRESSED
        base = source.images or f"{self.name.rpartition('/')[0]}/image_raw"
        base = node.resolve_topic_name(base)
        self.topic = f"{base}/{_COMPRESSED}" if self._compressed else base
        self.frame: Frame | None = None
        self.encoder = FrameEncoder(workers, self._compressed, lambda: settings().max_megapixels)
        self._pairing = FramePairing(settings().buffer_bytes, settings().tracker_timeout)
        self._timeline = Timeline()
        self._arrived = asyncio.Event()
        self._heard = self._diagnosed = -math.inf
        self._image_times: deque[float] = deque(maxlen=_MOST_RATE_SAMPLES)
        self._image_bytes = self._processed = 0
        self._prediction: Prediction | None = None
        self._diagnostics: dict[str, tuple[str, str]] = {}
        self._parameters: dict[str, dict[str, Any]] = {}
        self._buffer_limits: tuple[float, ...] = ()
        self._parameters_changed = True
        self._watched = self._closed = False
        self._image_subscription: Subscription | None = None
        self._estimates = EstimateSubscription(
            node, source.name, self._hand_over(self._on_estimate)
        )
        subscribe = node.create_subscription
        self._subscriptions = [
            subscribe(
                Detection2DArray,
                f"{self.name}/prediction",
                self._hand_over(self._on_prediction),
                _NEWEST,
            ),
            subscribe(DiagnosticArray, "/diagnostics", self._hand_over(self._on_diagnostics), 10),
            subscribe(
                ParameterEvent, "/parameter_events", self._hand_over(self._on_parameter_event), 10
            ),
        ]
        self._clients = {
            name: node.create_client(kind, f"{self.name}/{name}")
            for name, kind in (
                ("set_target", SetTarget),
                ("clear_target", Trigger),
                ("confirm_target", SetBool),
                ("save_recording", Trigger),
                ("list_parameters", ListParameters),
                ("describe_parameters", DescribeParameters),
                ("get_parameters", GetParameters),
                ("set_parameters", SetParameters),
            )
        }

    def close(self) -> None:
        """Release everything; requests that wait stay without an answer."""
        self._closed = True
        self._estimates.close()
        self._subscribe_images(wanted=False)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        for client in self._clients.values():
            self._node.destroy_client(client)

    # In the event loop

    def watch(self, watched: bool) -> None:
        """Subscribe to the images while somebody looks: large ones cost the camera, too."""
        if watched != self._watched:
            self._watched = watched
            self._node.executor.create_task(lambda: self._subscribe_images(watched))

    async def next_frame(self, after: int) -> Frame:
        """Wait for a frame that is newer than the one of that number, and return the newest."""
        while self.frame is None or self.frame.number <= after:
            await self._arrived.wait()
        return self.frame

    @property
    def is_silent(self) -> bool:
        """Whether the tracker has said nothing for `tracker_timeout`."""
        return self._loop.time() - self._heard > self._settings().tracker_timeout

    def predicted_box(self) -> Box | None:
        """Return where the target is expected by now; None where nothing says so."""
        prediction, now = self._prediction, self._node.get_clock().now().nanoseconds
        if prediction is None or abs(now - prediction.stamp) > _FRESH_PREDICTION * NANOSECONDS:
            return None
        return prediction.box

    def age_ms(self, frame: Frame) -> float | None:
        """Return the milliseconds since a frame's stamp; None if it has none."""
        if not frame.stamp:
            return None
        return (self._node.get_clock().now().nanoseconds - frame.stamp) / 1e6

    def describe(self) -> dict[str, Any]:
        """Return what the page shows beside the frames."""
        now = self._loop.time()
        if self.is_silent:
            self._timeline.note(None, now)
        return {
            "state": self._situation(),
            "rate": self._image_rate(now),
            "diagnostics": self._describe_diagnostics(now),
            "timeline": [
                {
                    "begin_ms": round(episode.begin * 1e3),
                    "state": SILENT if episode.state is None else episode.state.name,
                    "target": episode.target,
                    "reason": episode.reason,
                }
                for episode in self._timeline.episodes
            ],
            "parameters": list(self._parameters.values()),
            "hold": self._held_seconds(),
            "records": self._clients["save_recording"].service_is_ready(),
        }

    async def request(self, request: Request) -> Answer:
        """Carry out a request of an operator; every refusal is an answer, in one sentence."""
        timeout = self._settings().request_timeout
        prompt = min(timeout, _PROMPT_TIMEOUT)
        try:
            if isinstance(request, Start):
                return await self._start(request, timeout)
            if isinstance(request, SetParameter):
                return await self._set_parameter(request, timeout)
            if isinstance(request, Confirm):
                message: object = SetBool.Request(data=request.accept)
                answer = await self._call("confirm_target", message, prompt)
            elif isinstance(request, Stop):
                answer = await self._call("clear_target", Trigger.Request(), prompt)
            elif isinstance(request, SaveRecording):
                answer = await self._call("save_recording", Trigger.Request(), timeout)
        except UnavailableError as error:
            return Answer(ok=False, message=str(error))
        return Answer(bool(answer.success), str(answer.message))

    async def refresh_parameters(self) -> None:
        """Ask for the parameters that may be changed here, if they may have changed."""
        if not self._parameters_changed:
            return
        self._parameters_changed = False
        try:
            known = await self._call("list_parameters", ListParameters.Request(), _PROMPT_TIMEOUT)
            patterns = self._settings().controls
            names = sorted(
                name
                for name in known.result.names
                if any(fnmatchcase(name, pattern) for pattern in patterns)
            )
            described = await self._call(
                "describe_parameters", DescribeParameters.Request(names=names), _PROMPT_TIMEOUT
            )
            asked = [*names, *(name for name in _BUFFER if name in known.result.names)]
            values = await self._call(
                "get_parameters", GetParameters.Request(names=asked), _PROMPT_TIMEOUT
            )
        except UnavailableError:
            self._parameters_changed = True  # asked for again at the next report
            return
        self._parameters = {
            descriptor.name: _describe_parameter(descriptor, value)
            for descriptor, value in zip(described.descriptors, values.values, strict=False)
            if descriptor.type in _KINDS and not descriptor.read_only
        }
        limits = values.values[len(names) :]
        self._buffer_limits = tuple(float(parameter_value_to_python(one)) for one in limits)

    async def _start(self, start: Start, timeout: float) -> Answer:
        request = SetTarget.Request(text=start.text)
        request.stamp.sec, request.stamp.nanosec = divmod(start.stamp, NANOSECONDS)
        if start.box is not None:
            request.box = bounding_box_from_xywh(start.box)
            request.mode = request.MODE_BOX_AND_TEXT if start.text else request.MODE_BOX
        elif start.point is not None:
            request.mode = request.MODE_POINT
            request.point = Point2D(x=start.point[0], y=start.point[1])
        else:
            request.mode = request.MODE_TEXT
        answer = await self._call("set_target", request, timeout)
        ambiguous = answer.error_code == answer.ERROR_AMBIGUOUS
        found = answer.alternatives.detections if ambiguous else ()
        boxes = (xywh_from_bounding_box(item.bbox) for item in found)
        return Answer(
            bool(answer.success),
            str(answer.message),
            tuple(box for box in boxes if all(map(math.isfinite, box))),
            stamp_nanoseconds(answer.header.stamp),
        )

    async def _set_parameter(self, change: SetParameter, timeout: float) -> Answer:
        known, value = self._parameters.get(change.name), change.value
        if known is None:
            return Answer(
                ok=False,
                message=f"{change.name} is not among the parameters that this console may change "
                "(parameter controls)",
            )
        if known["kind"] == "float" and type(value) is int:
            value = float(value)
        parameter = Parameter(change.name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])
        answer = await self._call("set_parameters", request, timeout)
        self._parameters_changed = True
        if not answer.results:
            return Answer(ok=False, message=f"{self.name} did not say whether it took the value")
        result = answer.results[0]
        message = f"{change.name} is {value} now" if result.successful else result.reason
        return Answer(bool(result.successful), message)

    async def _call(self, name: str, request: object, timeout: float) -> Any:
        """Call a service of the tracker.

        Raises:
            UnavailableError: there is no such service, or no answer in time.
        """
        client: Client = self._clients[name]
        if not client.service_is_ready():
            raise UnavailableError(f"there is no {client.srv_name}: is the tracker running?")
        answer: asyncio.Future[Any] = self._loop.create_future()

        def settle(done: Future) -> None:
            if answer.done():
                return
            if done.exception() is not None:
                answer.set_exception(UnavailableError(describe_error(done.exception())))
            else:
                answer.set_result(done.result())

        future = client.call_async(request)
        future.add_done_callback(self._hand_over(settle))
        try:
            return await asyncio.wait_for(answer, timeout)
        except asyncio.TimeoutError:
            raise UnavailableError(f"{client.srv_name} did not answer in {timeout:g} s") from None
        finally:
            client.remove_pending_request(future)

    def _on_image(self, image: bytes) -> None:
        now = self._loop.time()
        self._image_times.append(now)
        self._image_bytes = len(image)
        self._pairing.patience = self._settings().tracker_timeout
        self._show(self._pairing.add_image(serialised_stamp(image), image, now))

    def _on_estimate(self, estimate: Estimate) -> None:
        now = self._loop.time()
        self._heard = now
        processed = estimate.status.frames_processed
        if processed < self._processed:  # started anew, perhaps with other parameters and tasks
            self._parameters_changed = True
            self._diagnostics.clear()
        self._processed = processed
        self._timeline.note(estimate, now)
        self._show(self._pairing.add_estimate(estimate, now))

    def _show(self, frame: Frame | None) -> None:
        if frame is not None:
            self.frame = frame
            self._arrived.set()
            self._arrived = asyncio.Event()

    def _on_prediction(self, message: Detection2DArray) -> None:
        self._prediction = None
        if message.detections:
            box = xywh_from_bounding_box(message.detections[0].bbox)
            if all(map(math.isfinite, box)):
                self._prediction = Prediction(stamp_nanoseconds(message.header.stamp), box)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        prefix = f"{self.name.lstrip('/')}: "
        for status in message.status:
            if status.name.startswith(prefix):
                self._diagnosed = self._loop.time()
                task = status.name.removeprefix(prefix)
                self._diagnostics[task] = _LEVELS.get(status.level, "STALE"), status.message

    def _on_parameter_event(self, message: ParameterEvent) -> None:
        if message.node == self.name:
            self._parameters_changed = True

    def _situation(self) -> str:
        """Say what is missing for frames with a state; empty: nothing."""
        topic = f"{self.name}/status"
        if self._watched and not self._node.count_publishers(self.topic):
            return f"nobody publishes {self.topic}: is the camera running?"
        if not self.is_silent:
            if self.frame is not None and not self.frame.stamp:
                return "the images carry no stamp, so their state cannot be told"
            if self._pairing.missed and self._unpaired():
                return (
                    f"{topic} is about images that are not here: they come too late or not at "
                    f"all on {self.topic}; or raise buffer_megabytes"
                )
            return ""
        if self._node.count_publishers(topic):
            images_come = self._image_rate(self._loop.time()) > 0.0
            return f"{topic} is silent" + (
                ", though images come: is the tracker active and alive?"
                if images_come
                else ", and no images arrive here"
            )
        return f"nobody publishes {topic}: is the tracker running?"

    def _unpaired(self) -> bool:
        return self.frame is None or self.frame.estimate is None

    def _image_rate(self, now: float) -> float:
        """Images per second, over the last two seconds."""
        recent = [one for one in self._image_times if now - one <= 2.0]
        return round((len(recent) - 1) / (recent[-1] - recent[0]), 1) if len(recent) > 2 else 0.0

    def _held_seconds(self) -> float:
        """Seconds that the tracker holds a frame to start on, by its own parameters; 0: unknown."""
        if len(self._buffer_limits) < len(_BUFFER):
            return 0.0
        seconds, megabytes = self._buffer_limits
        rate = self._image_rate(self._loop.time())
        if not rate or not self._image_bytes:
            return seconds
        return round(min(seconds, megabytes * 2**20 / self._image_bytes / rate), 2)

    def _describe_diagnostics(self, now: float) -> list[dict[str, str]]:
        if now - self._diagnosed > _DIAGNOSTICS_TIMEOUT:
            return []
        return [
            {"task": task, "level": level, "message": message}
            for task, (level, message) in self._diagnostics.items()
        ]

    # In the executor

    def _hand_over(self, take: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return a callback that has `take` called in the event loop."""

        def callback(message: Any) -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(take, message)

        return callback

    def _subscribe_images(self, wanted: bool) -> None:
        subscription, self._image_subscription = self._image_subscription, None
        if subscription is not None:
            self._node.destroy_subscription(subscription)
        if wanted and not self._closed:
            self._image_subscription = self._node.create_subscription(
                CompressedImage if self._compressed else Image,
                self.topic,
                self._hand_over(self._on_image),
                _NEWEST,
                raw=True,  # deserialised only when it is encoded
            )


def _describe_parameter(descriptor: ParameterDescriptor, value: ParameterValue) -> dict[str, Any]:
    """Return what the page needs to offer a parameter."""
    constraints = descriptor.additional_constraints
    limits = [*descriptor.floating_point_range, *descriptor.integer_range]
    given = parameter_value_to_python(value)
    return {
        "name": descriptor.name,
        "kind": _KINDS[descriptor.type],
        "value": finite(given) if isinstance(given, float) else given,
        "description": descriptor.description,
        "low": finite(limits[0].from_value) if limits else None,
        "high": finite(limits[0].to_value) if limits else None,
        "choices": (
            constraints.removeprefix(_CHOICES).split(", ")
            if constraints.startswith(_CHOICES)
            else []
        ),
    }
