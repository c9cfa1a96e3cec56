# SPDX-License-Identifier: Apache-2.0
"""What `~/set_target` asks for, checked; what comes of it; and why not."""

from __future__ import annotations

import math
from dataclasses import dataclass

from std_msgs.msg import Header

from vt_interfaces.srv import SetTarget
from vt_models.errors import InputError
from vt_models.grounding import Candidate, check_text
from vt_ros.common.convert import Box, xywh_from_bounding_box
from vt_ros.tracker.image_buffer import FrameBacklog

Point = tuple[float, float]


class TargetRefusedError(Exception):
    """A target that was asked for and cannot be started; the present one stays.

    Attributes:
        code: one of SetTarget.Response.ERROR_*.
        candidates: what could not be told apart, best first.
        header: of the image that was searched, if one was.
    """

    def __init__(
        self,
        code: int,
        message: str,
        candidates: tuple[Candidate, ...] = (),
        header: Header | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.candidates = candidates
        self.header = header


@dataclass(frozen=True)
class FrameRef:
    """The frame that a request is about.

    Attributes:
        stamp: nanoseconds; 0 is the newest frame.
        patience: seconds to wait for such a frame. Without a stamp, a frame that is older than
            this is not the newest any more: the camera has stopped.
        tolerance: seconds by which the frame may miss the stamp.
        is_click: the stamp may also be the time of a click; then the frame is the one that was on
            the screen at that time: the newest one up to `latency` before it.
        latency: nanoseconds from a frame's stamp to its appearance on the operator's screen.
    """

    stamp: int = 0
    patience: float = 1.0
    tolerance: float = 0.0
    is_click: bool = False
    latency: int = 0


@dataclass(frozen=True)
class TargetRequest:
    """A target that is asked for: by its box, or by what a box is to be found for.

    Attributes:
        box: x, y, w, h in pixels, unchecked; None: it is to be found.
        text: the description; empty: none.
        frame: that the target is in; a backlog once it was found there.
        point: x, y in pixels, of which the object is the target; None: none.
    """

    box: Box | None = None
    text: str = ""
    frame: FrameRef | FrameBacklog = FrameRef()
    point: Point | None = None

    def __str__(self) -> str:
        if self.point is not None:
            return f"point ({self.point[0]:g}, {self.point[1]:g})"
        return "box" if self.box is not None else f"text {self.text!r}"


@dataclass(frozen=True)
class TargetStarted:
    """The answer to an accepted request.

    Attributes:
        target_id: number of the target.
        box: that it started with, x, y, w, h in pixels.
        header: of the image that it started on.
    """

    target_id: int
    box: Box
    header: Header


def read_request(message: SetTarget.Request, frame: FrameRef) -> TargetRequest:
    """Read and check a service request.

    Args:
        message: of the service.
        frame: that it is about.

    Raises:
        TargetRefusedError: an unknown mode, a text without words or too long, a point that is not
            finite.
    """
    codes, mode = SetTarget.Response, message.mode
    if mode > message.MODE_BOX_AND_TEXT:
        raise TargetRefusedError(codes.ERROR_INVALID_MODE, f"mode is {mode}, expected 0 (box) to 3")
    box, text, point = None, "", None
    if mode in (message.MODE_BOX, message.MODE_BOX_AND_TEXT):
        box = xywh_from_bounding_box(message.box)
    if mode in (message.MODE_TEXT, message.MODE_BOX_AND_TEXT):
        try:
            text = check_text(message.text)
        except InputError as error:
            raise TargetRefusedError(codes.ERROR_INVALID_TEXT, str(error)) from error
    if mode == message.MODE_POINT:
        point = message.point.x, message.point.y
        if not all(map(math.isfinite, point)):
            raise TargetRefusedError(
                codes.ERROR_INVALID_POINT, f"the point {point} is not finite; give x, y in pixels"
            )
    return TargetRequest(box, text, frame, point)
