# SPDX-License-Identifier: Apache-2.0
"""A tracker from Python, without topics, services or executors: `TrackerClient`.

with TrackerClient() as tracker:
    tracker.start_box((320.0, 240.0, 80.0, 60.0))
    for estimate in tracker.estimates():
        print(estimate.state, estimate.box)
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.executors import ExternalShutdownException, ShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Detection2D, Detection2DArray, Point2D

from vt_interfaces.msg import TrackStatus
from vt_interfaces.srv import SetTarget
from vt_ros.common.convert import (
    NANOSECONDS,
    Box,
    bounding_box_from_xywh,
    box_covariance,
    stamp_nanoseconds,
    xywh_from_bounding_box,
)
from vt_ros.common.tracker_silence import describe_silence

# A server knows a new client a little later than the client knows the server, and Fast DDS gives
# up an answer after 0.1 s if it does not know the client by then: wait, and ask again.
_DISCOVERY = 0.3
_ANSWER_LOST = 3.0

_PAIRS = 32

SEARCH_TIMEOUT = 60.0
"""Seconds that the search for a text or a point may take, unless another time is given."""


class TrackerError(RuntimeError):
    """Base of what a `TrackerClient` raises."""


class TrackerTimeoutError(TrackerError, TimeoutError):
    """Nothing came in time; the message says what was waited for."""


class TargetRefusedError(TrackerError):
    """The tracker refused a target; the one it has is still tracked.

    Attributes:
        code: one of SetTarget.Response.ERROR_*.
        candidates: what could not be told apart, best first: start with one of their boxes.
        stamp: of the image they are in, nanoseconds; 0 if no image was searched.
    """

    def __init__(
        self, code: int, message: str, candidates: tuple[Candidate, ...] = (), stamp: int = 0
    ) -> None:
        super().__init__(message)
        self.code = code
        self.candidates = candidates
        self.stamp = stamp


class State(IntEnum):
    """What is known about the target."""

    IDLE = TrackStatus.STATE_IDLE
    TRACKING = TrackStatus.STATE_TRACKING
    UNCERTAIN = TrackStatus.STATE_UNCERTAIN
    COASTING = TrackStatus.STATE_COASTING
    LOST = TrackStatus.STATE_LOST


@dataclass(frozen=True)
class Estimate:
    """What the tracker says about one frame.

    Attributes:
        stamp: of the image, nanoseconds.
        frame_id: of the image.
        state: see `State`.
        score: confidence in the box, in [0, 1].
        target_id: 0 for none.
        box: x, y, w, h (left, top, width, height) in pixels of the image; None while there is
            none. Only predicted while `state` is COASTING, see `measured`.
        covariance: (4, 4) of the box's centre x, centre y, width and height in pixels squared.
        azimuth, elevation: of a measured box's centre off the optical axis, to the right and
            downwards, radians; NaN without camera_info.
        status: the whole message.
    """

    stamp: int
    frame_id: str
    state: State
    score: float
    target_id: int
    box: Box | None
    covariance: NDArray[np.float64] | None
    azimuth: float
    elevation: float
    status: TrackStatus

    @property
    def measured(self) -> bool:
        """The box was measured in exactly this frame."""
        return self.state in (State.TRACKING, State.UNCERTAIN)

    @property
    def unconfirmed(self) -> bool:
        """The target was found again after LOST, and waits for `TrackerClient.confirm`."""
        return bool(self.status.unconfirmed)


@dataclass(frozen=True)
class Candidate:
    """A box that may be meant: x, y, w, h in pixels, and the confidence, in [0, 1]."""

    box: Box
    score: float


@dataclass(frozen=True)
class Start:
    """An accepted target.

    Attributes:
        target_id: its number.
        box: that it started with, x, y, w, h in pixels.
        stamp: of the image that it started on, nanoseconds.
        score: confidence that the box is what was asked for; 1 if the box was given.
        alternatives: what else fits the text, best first.
        reason: what decided for this box; empty if it was given.
    """

    target_id: int
    box: Box
    stamp: int
    score: float = 1.0
    alternatives: tuple[Candidate, ...] = ()
    reason: str = ""


class EstimateSubscription:
    """Subscribes to what a tracker says about each frame.

    Args:
        node: subscribes.
        tracker: name of the tracker node, relative to the node's namespace or absolute.
        take: called with every estimate, in the thread that spins the node.
    """

    def __init__(self, node: Node, tracker: str, take: Callable[[Estimate], None]) -> None:
        self._node, self._take_estimate = node, take
        self._statuses: deque[TrackStatus] = deque(maxlen=_PAIRS)
        self._detections: deque[Detection2DArray] = deque(maxlen=_PAIRS)
        subscribe = node.create_subscription
        self._subscriptions = (
            subscribe(TrackStatus, f"{tracker}/status", self._on_status, 10),
            subscribe(Detection2DArray, f"{tracker}/detections", self._on_detections, 10),
        )

    def close(self) -> None:
        """End the subscription."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _on_status(self, message: TrackStatus) -> None:
        self._statuses.append(message)
        self._pair()

    def _on_detections(self, message: Detection2DArray) -> None:
        self._detections.append(message)
        self._pair()

    def _pair(self) -> None:
        """Put a status and the detections of the same image together; what is older is dropped."""
        for status in list(self._statuses):
            for detections in list(self._detections):
                if detections.header == status.header:
                    _drop_through(self._statuses, status)
                    _drop_through(self._detections, detections)
                    try:
                        estimate = _estimate(status, detections)
                    except (ValueError, IndexError) as error:  # another program's, or a later one's
                        self._node.get_logger().warning(
                            f"status and detections refused: {error}", throttle_duration_sec=5.0
                        )
                        return
                    self._take_estimate(estimate)
                    return


class TrackerClient:
    """Talks to one tracker node.

    Works in a plain script, and inside a node: it spins a node of its own in a thread of its own,
    so its methods may be called from any thread, also from another node's callbacks (which wait
    meanwhile). Use it in a `with` block, or call `close`.

    Args:
        tracker: name of the tracker node, relative to the namespace or absolute.
        node: whose context and namespace are used; None: a context of its own.
        timeout: seconds that every call waits at most, unless it is given another time.
    """

    def __init__(
        self, tracker: str = "tracker", node: Node | None = None, timeout: float = 10.0
    ) -> None:
        self._tracker, self._timeout = tracker, timeout
        self._owns_context = node is None
        self._context = rclpy.Context() if node is None else node.context
        if node is None:
            rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node(
            "tracker_client",
            context=self._context,
            namespace=None if node is None else node.get_namespace(),
            start_parameter_services=False,
            enable_rosout=False,
            use_global_arguments=False,
        )
        self._changed = threading.Condition()
        self._latest: Estimate | None = None
        self._started = 0
        self._queues: list[queue.Queue[Estimate | None]] = []
        self._over = False
        self._clients: dict[str, Any] = {}
        EstimateSubscription(self._node, tracker, self._take)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._closing = Future()
        self._thread = threading.Thread(target=self._spin, name="tracker_client", daemon=True)
        self._thread.start()

    def __enter__(self) -> TrackerClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread and the node; the target goes on being tracked."""
        if self._closing.done():
            return
        # Not `Executor.shutdown` alone: it destroys what wakes the thread, which may not wait yet
        # and then waits for ever.
        self._closing.set_result(None)
        self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()
        if self._owns_context:
            rclpy.shutdown(context=self._context)

    @property
    def latest(self) -> Estimate | None:
        """The newest estimate; None before the first."""
        return self._latest

    def start_box(
        self, box: Sequence[float], text: str = "", stamp: int = 0, timeout: float | None = None
    ) -> Start:
        """Track what is inside a box.

        Args:
            box: x, y, w, h (left, top, width, height) in pixels of the image.
            text: the description: for models with a language input, and for re-detection.
            stamp: of the image that the box was seen in, nanoseconds; 0: the newest.
            timeout: seconds; None: that of the client.

        Raises:
            TargetRefusedError: with the tracker's reason.
            TrackerTimeoutError: no tracker, or no answer.
        """
        request = SetTarget.Request(box=bounding_box_from_xywh(box), text=text)
        request.mode = request.MODE_BOX_AND_TEXT if text else request.MODE_BOX
        return self._start(request, stamp, timeout)

    def start_text(self, text: str, stamp: int = 0, timeout: float = SEARCH_TIMEOUT) -> Start:
        """Find what a text describes, and track it.

        Args:
            text: such as "the white car on the left".
            stamp: of the image that it was seen in, nanoseconds; 0: the newest.
            timeout: seconds; a search takes some, the first one loads the backend.

        Raises:
            TargetRefusedError: nothing fits, or several do (`candidates`), or another reason.
            TrackerTimeoutError: no tracker, or no answer.
        """
        request = SetTarget.Request(mode=SetTarget.Request.MODE_TEXT, text=text)
        return self._start(request, stamp, timeout)

    def start_point(
        self, point: Sequence[float], stamp: int = 0, timeout: float = SEARCH_TIMEOUT
    ) -> Start:
        """Find the object at a point (x, y) in pixels, and track it.

        Otherwise as `start_text`. Where no object stands out it is refused: draw a box.
        """
        x, y = (float(value) for value in point)
        request = SetTarget.Request(mode=SetTarget.Request.MODE_POINT, point=Point2D(x=x, y=y))
        return self._start(request, stamp, timeout)

    def stop(self, timeout: float | None = None) -> str:
        """Stop tracking, and return what the tracker says to that.

        Raises:
            TrackerError: it is not active.
            TrackerTimeoutError: no tracker, or no answer.
        """
        answer = self._call(Trigger, "clear_target", Trigger.Request(), timeout)
        if not answer.success:
            raise TrackerError(answer.message)
        return str(answer.message)

    def confirm(self, accept: bool = True, timeout: float | None = None) -> str:
        """Say whether what was found again after LOST is the target; return what comes of it.

        Args:
            accept: False sends the tracker on searching.
            timeout: seconds; None: that of the client.

        Raises:
            TrackerError: nothing waits for that answer, or the tracker is not active.
            TrackerTimeoutError: no tracker, or no answer.
        """
        # Not asked again where the answer is lost: the second one would be refused.
        request = SetBool.Request(data=accept)
        answer = self._call(SetBool, "confirm_target", request, timeout, again=False)
        if not answer.success:
            raise TrackerError(answer.message)
        return str(answer.message)

    def save_recording(self, timeout: float = SEARCH_TIMEOUT) -> str:
        """Have the flight recorder written; return the folder on the tracker's machine.

        Raises:
            TrackerError: nothing was recorded, it cannot be written, or the tracker is not active.
            TrackerTimeoutError: no tracker, or no answer.
        """
        answer = self._call(Trigger, "save_recording", Trigger.Request(), timeout, again=False)
        if not answer.success:
            raise TrackerError(answer.message)
        return str(answer.message)

    def wait_for_state(self, *states: State, timeout: float | None = None) -> Estimate:
        """Wait until the newest estimate has one of these states, and return it.

        Without a state, return the next estimate, whatever it says. An estimate of a target before
        the one that this client started last does not count.

        Raises:
            TrackerTimeoutError: it did not come; the message says what came instead.
            TrackerError: ROS was shut down, or the client closed.
        """
        seconds = self._timeout if timeout is None else timeout
        end = time.monotonic() + seconds
        with self._changed:
            previous = None if states else self._latest
            while True:
                latest = self._latest
                if latest is not None and latest is not previous and self._counts(latest, states):
                    return latest
                if self._over:
                    raise TrackerError("ROS was shut down, or the client closed")
                if not self._changed.wait(max(0.0, end - time.monotonic())):
                    wanted = " or ".join(state.name for state in states) or "an estimate"
                    raise TrackerTimeoutError(
                        f"waited {seconds:g} s for {wanted}; {self._situation()}"
                    )

    def estimates(self, timeout: float | None = None, backlog: int = 1) -> Iterator[Estimate]:
        """Yield estimates as they come, until ROS is shut down or the client closed.

        Args:
            timeout: seconds without one that end the iteration with an error; None: the client's.
            backlog: how many wait for a slow reader, the newest ones; 1: only the newest counts.

        Raises:
            TrackerTimeoutError: none came in time: no images, or no tracker.
        """
        seconds = self._timeout if timeout is None else timeout
        waiting: queue.Queue[Estimate | None] = queue.Queue(backlog)
        with self._changed:
            self._queues.append(waiting)
            if self._over:
                waiting.put_nowait(None)
        try:
            while True:
                try:
                    estimate = waiting.get(timeout=seconds)
                except queue.Empty:
                    raise TrackerTimeoutError(
                        f"no estimate for {seconds:g} s; {self._situation()}"
                    ) from None
                if estimate is None:
                    return
                yield estimate
        finally:
            with self._changed:
                self._queues.remove(waiting)

    def _start(self, request: SetTarget.Request, stamp: int, timeout: float | None) -> Start:
        request.stamp.sec, request.stamp.nanosec = divmod(stamp, NANOSECONDS)
        # A search must not be asked for again: the second request would cancel the first.
        searches = request.mode in (request.MODE_TEXT, request.MODE_POINT)
        answer = self._call(SetTarget, "set_target", request, timeout, again=not searches)
        candidates = tuple(_candidate(item) for item in answer.alternatives.detections)
        stamp = stamp_nanoseconds(answer.header.stamp)
        if not answer.success:
            raise TargetRefusedError(answer.error_code, answer.message, candidates, stamp)
        self._started = answer.target_id
        box = xywh_from_bounding_box(answer.box)
        return Start(answer.target_id, box, stamp, answer.score, candidates, answer.message)

    def _counts(self, estimate: Estimate, states: tuple[State, ...]) -> bool:
        """Return whether it has one of the states, and is of no target before the last one."""
        if states and estimate.state not in states:
            return False
        return estimate.state is State.IDLE or estimate.target_id >= self._started

    def _call(
        self, service: Any, name: str, request: object, timeout: float | None, again: bool = True
    ) -> Any:
        """Call a service, and again, where that may be, when no answer comes in time."""
        seconds = self._timeout if timeout is None else timeout
        end = time.monotonic() + seconds
        client = self._client(service, f"{self._tracker}/{name}", seconds)
        while True:
            arrived = threading.Event()
            future = client.call_async(request)
            future.add_done_callback(lambda _, arrived=arrived: arrived.set())
            patience = end - time.monotonic()
            if arrived.wait(max(0.0, min(_ANSWER_LOST, patience) if again else patience)):
                return future.result()
            client.remove_pending_request(future)
            if time.monotonic() >= end:
                raise TrackerTimeoutError(f"{self._tracker}/{name} did not answer in {seconds:g} s")

    def _client(self, service: Any, name: str, seconds: float) -> Any:
        """Return the client of a service; there is one, so that discovery happens once."""
        client = self._clients.get(name)
        if client is not None and client.service_is_ready():
            return client
        if client is None:
            client = self._node.create_client(service, name)
        if not client.wait_for_service(seconds):
            raise TrackerTimeoutError(
                f"no service {self._node.resolve_service_name(name)} after {seconds:g} s; is the "
                "tracker running, in this namespace and with this ROS_DOMAIN_ID?"
            )
        time.sleep(_DISCOVERY)
        self._clients[name] = client
        return client

    def _situation(self) -> str:
        """Say what is known, for an error message."""
        if self._latest is None:
            return describe_silence(self._node, self._tracker)
        return f"the last estimate was {self._latest.state.name}: {self._latest.status.message}"

    def _spin(self) -> None:
        try:
            with suppress(ExternalShutdownException, ShutdownException):
                self._executor.spin_until_future_complete(self._closing)
        finally:
            with self._changed:
                self._over = True
                self._hand_out(None)

    def _take(self, estimate: Estimate) -> None:
        with self._changed:
            self._latest = estimate
            if estimate.state is State.IDLE:  # a tracker that was started anew counts from one
                self._started = 0
            self._hand_out(estimate)

    def _hand_out(self, estimate: Estimate | None) -> None:
        """Give an estimate to all that wait; None: no more will come. The lock must be held."""
        for waiting in self._queues:
            if waiting.full():
                with suppress(queue.Empty):
                    waiting.get_nowait()
            waiting.put_nowait(estimate)
        self._changed.notify_all()


def _drop_through(messages: deque[Any], last: object) -> None:
    """Remove messages from the left up to and with one of them."""
    while messages.popleft() is not last:
        pass


def _candidate(detection: Detection2D) -> Candidate:
    score = detection.results[0].hypothesis.score
    return Candidate(xywh_from_bounding_box(detection.bbox), score)


def _estimate(status: TrackStatus, detections: Detection2DArray) -> Estimate:
    box = covariance = None
    if detections.detections:
        detection = detections.detections[0]
        box = xywh_from_bounding_box(detection.bbox)
        covariance = box_covariance(detection.results[0].pose.covariance)
    return Estimate(
        stamp=stamp_nanoseconds(status.header.stamp),
        frame_id=status.header.frame_id,
        state=State(status.state),
        score=status.score,
        target_id=status.target_id,
        box=box,
        covariance=covariance,
        azimuth=status.azimuth,
        elevation=status.elevation,
        status=status,
    )
