# SPDX-License-Identifier: Apache-2.0
"""Targets by a click or a drawn region in a program that knows no services, such as RViz2.

A click has no answer: what comes of it is in the log and in `~/status`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, PointStamped, PolygonStamped
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import Header
from vision_msgs.msg import Point2D

from vt_interfaces.srv import SetTarget
from vt_models.errors import InputError
from vt_models.geometry.bearing import camera_of
from vt_ros.common.convert import (
    NANOSECONDS,
    Box,
    bounding_box_from_xywh,
    stamp_nanoseconds,
)
from vt_ros.tracker.parameters import LiveSettings
from vt_ros.tracker.state import NodeState
from vt_ros.tracker.target_request import FrameRef
from vt_ros.tracker.target_service import TargetService

_Request = SetTarget.Request


class ClickSubscriptions:
    """Subscribes to `~/click` and its kin, while the node lives.

    Args:
        node: subscribes.
        live: asked at every click.
        state: of the node.
        targets: starts what is asked for.
    """

    def __init__(
        self,
        node: Node,
        live: Callable[[], LiveSettings],
        state: NodeState,
        targets: TargetService,
    ) -> None:
        self._node, self._live, self._state, self._targets = node, live, state, targets
        # A click that is still searched for must not keep the next one waiting: that cancels it.
        group = ReentrantCallbackGroup()
        for kind, name, callback in (
            (PointStamped, "~/click", self._on_point_stamped),
            (Point, "~/click/point", self._on_point),
            (PolygonStamped, "~/click/polygon", self._on_polygon),
            (RegionOfInterest, "~/click/region", self._on_region),
        ):
            node.create_subscription(kind, name, callback, 10, callback_group=group)

    async def _on_point_stamped(self, message: PointStamped) -> None:
        x, y, z = message.point.x, message.point.y, message.point.z
        try:
            self._check_frame_id(message.header)
            if z != 0.0:  # metres in the camera's frame, as RViz2's Publish Point has them
                x, y = self._pixel(message)
        except InputError as refusal:
            self._log_refusal(refusal)
            return
        await self._start_point(x, y, message.header.stamp)

    async def _on_point(self, message: Point) -> None:
        await self._start_point(message.x, message.y, Time())

    async def _on_polygon(self, message: PolygonStamped) -> None:
        try:
            self._check_frame_id(message.header)
            box = _surrounding_box(message)
        except InputError as refusal:
            self._log_refusal(refusal)
            return
        await self._start_box(box, message.header.stamp)

    async def _on_region(self, message: RegionOfInterest) -> None:
        box = (message.x_offset, message.y_offset, message.width, message.height)
        x, y, w, h = (float(value) for value in box)
        await self._start_box((x, y, w, h), Time())

    async def _start_point(self, x: float, y: float, stamp: Time) -> None:
        request = _Request(mode=_Request.MODE_POINT, point=Point2D(x=x, y=y))
        await self._targets.start(request, self._frame(stamp), "click")

    async def _start_box(self, box: Box, stamp: Time) -> None:
        request = _Request(mode=_Request.MODE_BOX, box=bounding_box_from_xywh(box))
        await self._targets.start(request, self._frame(stamp), "click")

    def _frame(self, stamp: Time) -> FrameRef:
        """Return the frame that was on the operator's screen.

        A stamp is that of a frame, or the time of the click, as RViz and Foxglove fill it in;
        without one the click is of now. What was on the screen is `click.latency` older.
        """
        live = self._live()
        clicked = stamp_nanoseconds(stamp)
        if not clicked and live.click_latency:
            clicked = self._node.get_clock().now().nanoseconds
        return FrameRef(
            clicked,
            live.set_target_timeout,
            live.set_target_tolerance,
            latency=round(live.click_latency * NANOSECONDS),
            is_click=True,
        )

    def _log_refusal(self, refusal: InputError) -> None:
        self._node.get_logger().warning(f"click refused: {refusal}", throttle_duration_sec=0.1)

    def _check_frame_id(self, header: Header) -> None:
        """Refuse a click in another frame than the camera's."""
        session = self._state.session
        expected = session.statistics.facts.frame_id if session is not None else ""
        if header.frame_id and expected and header.frame_id != expected:
            raise InputError(
                f"frame_id is {header.frame_id!r}, but the images are of {expected!r}; click in "
                "the image, or make that the Fixed Frame of RViz2"
            )

    def _pixel(self, message: PointStamped) -> tuple[float, float]:
        """Return the pixel in which a point in space is seen."""
        session, header, point = self._state.session, message.header, message.point
        where = f"the point has z {point.z:g}, so that it is one in space, metres"
        if session is None or not session.statistics.facts.frame_id:
            raise InputError(f"{where}; no image has come yet to say in which frame")
        if not header.frame_id:
            raise InputError(f"{where}, but its frame_id is empty; for a pixel let z be 0")
        if session.camera_info is None:
            raise InputError(f"{where}, and nothing has come on {session.camera_info_topic} yet")
        camera = camera_of(
            session.camera_info, session.statistics.facts.image_size, self._live().rectified
        )
        u, v = camera.pixel(point.x, point.y, point.z)
        return u + 0.5, v + 0.5  # from the image's border, as boxes count


def _surrounding_box(message: PolygonStamped) -> Box:
    """Return the box round a polygon in pixels; InputError if it has no two corners."""
    corners = [(float(point.x), float(point.y)) for point in message.polygon.points]
    if len(corners) < 2 or not all(math.isfinite(value) for corner in corners for value in corner):
        raise InputError(f"the polygon's corners are {corners}; expected two or more, in pixels")
    left, top = (min(values) for values in zip(*corners, strict=True))
    right, bottom = (max(values) for values in zip(*corners, strict=True))
    return left, top, right - left, bottom - top
