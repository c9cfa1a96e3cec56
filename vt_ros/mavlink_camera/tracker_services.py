# SPDX-License-Identifier: Apache-2.0
"""The services of the tracker, for the camera component."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger
from vision_msgs.msg import Point2D

from vt_interfaces.srv import SetTarget
from vt_ros.common.convert import NANOSECONDS, bounding_box_from_xywh
from vt_ros.common.errors import describe_error
from vt_ros.mavlink.messages import Result
from vt_ros.mavlink_camera.camera_component import Answer, Mark

_Code = SetTarget.Response

# The other codes mean that something is wrong for longer: FAILED.
_RESULTS = {
    _Code.ERROR_INVALID_BOX: Result.DENIED,
    _Code.ERROR_INVALID_POINT: Result.DENIED,
    _Code.ERROR_NO_IMAGE: Result.TEMPORARILY_REJECTED,
    _Code.ERROR_NOT_ACTIVE: Result.TEMPORARILY_REJECTED,
    _Code.ERROR_STAMP_NOT_FOUND: Result.TEMPORARILY_REJECTED,
    _Code.ERROR_CANCELLED: Result.TEMPORARILY_REJECTED,
}


class TrackerServices:
    """Asks a tracker node to start and stop; any thread may.

    Args:
        node: whose clock is that of the images' stamps.
        tracker: name of the tracker node.
        video_latency: asked at every start, seconds.
    """

    def __init__(self, node: Node, tracker: str, video_latency: Callable[[], float]) -> None:
        self._node, self._video_latency = node, video_latency
        self._set_target = node.create_client(SetTarget, f"{tracker}/set_target")
        self._clear_target = node.create_client(Trigger, f"{tracker}/clear_target")

    def close(self) -> None:
        """Release the clients; requests that wait stay without an answer."""
        self._node.destroy_client(self._set_target)
        self._node.destroy_client(self._clear_target)

    def start(self, mark: Mark, answer: Answer) -> None:
        """Start on what was marked, in the frame of `video_latency` seconds ago."""
        request = SetTarget.Request()
        if mark.box is not None:
            request.mode, request.box = request.MODE_BOX, bounding_box_from_xywh(mark.box)
        elif mark.point is not None:
            request.mode = request.MODE_POINT
            request.point = Point2D(x=mark.point[0], y=mark.point[1])
        latency = round(self._video_latency() * NANOSECONDS)
        if latency:  # without one the newest frame is meant, which a stamp of zero says
            stamp = self._node.get_clock().now().nanoseconds - latency
            if stamp <= 0:
                answer(Result.TEMPORARILY_REJECTED, "the clock has not begun: nothing on /clock")
                return
            request.stamp.sec, request.stamp.nanosec = divmod(stamp, NANOSECONDS)
        self._call(self._set_target, request, _start_result, answer)

    def stop(self, answer: Answer) -> None:
        """Forget the target, also one that is still being searched for."""
        self._call(self._clear_target, Trigger.Request(), _stop_result, answer)

    def _call(
        self,
        client: Client,
        request: object,
        read: Callable[[object], tuple[Result, str]],
        answer: Answer,
    ) -> None:
        if not client.service_is_ready():
            reason = f"there is no {client.srv_name}: is the tracker running?"
            answer(Result.TEMPORARILY_REJECTED, reason)
            return

        def done(future: Future) -> None:
            try:
                result, reason = read(future.result())
            except Exception as error:  # of whatever type, the station waits for an answer
                result, reason = Result.FAILED, describe_error(error)
            answer(result, reason)

        client.call_async(request).add_done_callback(done)


def _start_result(response: SetTarget.Response) -> tuple[Result, str]:
    if response.success:
        return Result.ACCEPTED, response.message
    return _RESULTS.get(response.error_code, Result.FAILED), response.message


def _stop_result(response: Trigger.Response) -> tuple[Result, str]:
    return Result.ACCEPTED if response.success else Result.FAILED, response.message
