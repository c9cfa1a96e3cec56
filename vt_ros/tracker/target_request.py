# SPDX-License-Identifier: Apache-2.0
"""What `~/set_target` asks for, checked; what comes of it; and why not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vt_interfaces.srv import SetTarget
from vt_models.errors import InputError
from vt_models.grounding import check_text

if TYPE_CHECKING:
    from std_msgs.msg import Header

    from vt_models.grounding import Candidate
    from vt_ros.common.convert import Box
    from vt_ros.tracker.image_buffer import Arrival, Trail

Point = tuple[float, float]

_WITH_TEXT = (SetTarget.Request.MODE_TEXT, SetTarget.Request.MODE_BOX_AND_TEXT)
_FOUND_BY_LOOKING = (SetTarget.Request.MODE_TEXT, SetTarget.Request.MODE_POINT)


class TargetRefusedError(Exception):
    """A target that was asked for and cannot be started; the present one stays.

    Attributes:
        code: one of SetTarget.Response.ERROR_*.
        candidates: what could not be told apart, best first.
        header: of the image that was looked at, if there was one.
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
class Moment:
    """The frame that somebody means.

    Attributes:
        stamp: nanoseconds; 0 is the newest frame.
        patience: seconds to wait for such a frame. Without a stamp, a frame that is older than
            this is not the newest any more: the camera has stopped.
        tolerance: seconds by which the frame may miss the stamp.
    """

    stamp: int = 0
    patience: float = 1.0
    tolerance: float = 0.0


@dataclass(frozen=True)
class Picked:
    """A frame that something is looked for in, and those that come after it.

    Attributes:
        arrival: the frame.
        trail: the frames since; None if it has no stamp to order them by.
    """

    arrival: Arrival
    trail: Trail | None


@dataclass(frozen=True)
class Wish:
    """A target that is asked for.

    Attributes:
        box: x, y, w, h in pixels; unchecked.
        text: what it is, in words; empty: none.
        at: the frame that the box is in.
    """

    box: Box
    text: str = ""
    at: Moment | Picked = Moment()


@dataclass(frozen=True)
class Started:
    """The answer to an accepted request.

    Attributes:
        target_id: number of the target.
        box: that it started with, x, y, w, h in pixels.
        header: of the image that it started on.
    """

    target_id: int
    box: Box
    header: Header


@dataclass(frozen=True)
class Asked:
    """A checked request: a box, or what a box is to be found for.

    Attributes:
        text: in words; empty: none.
        point: x, y in pixels of the image; None: none.
        looks: the box is to be found.
    """

    text: str
    point: Point | None
    looks: bool

    def __str__(self) -> str:
        if self.point is not None:
            return f"point ({self.point[0]:g}, {self.point[1]:g})"
        return f"text {self.text!r}" if self.looks else "box"


def check(request: SetTarget.Request) -> Asked:
    """What a request asks for.

    Raises:
        TargetRefusedError: an unknown mode, a text without words or too long, a point that is not
            finite.
    """
    answer, mode = SetTarget.Response, request.mode
    if mode > SetTarget.Request.MODE_BOX_AND_TEXT:
        raise TargetRefusedError(
            answer.ERROR_INVALID_MODE, f"mode is {mode}, expected 0 (box) to 3"
        )
    text, point = "", None
    if mode in _WITH_TEXT:
        try:
            text = check_text(request.text)
        except InputError as error:
            raise TargetRefusedError(answer.ERROR_INVALID_TEXT, str(error)) from error
    if mode == SetTarget.Request.MODE_POINT:
        point = request.point.x, request.point.y
        if not all(map(math.isfinite, point)):
            raise TargetRefusedError(
                answer.ERROR_INVALID_POINT, f"the point {point} is not finite; give x, y in pixels"
            )
    return Asked(text, point, mode in _FOUND_BY_LOOKING)
