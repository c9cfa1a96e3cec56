# SPDX-License-Identifier: Apache-2.0
"""The box of the thing at a point, by a detector that knows what things look like.

The frame is looked at three times, each time nearer, so that small things are seen as well. Of the
boxes that hold the point those count most in whose middle it lies: people point at the middle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vt_models.errors import InputError
from vt_models.geometry.boxes import Box, iou
from vt_models.geometry.crop import check_frame
from vt_models.grounding.description import ANYTHING
from vt_models.grounding.grounder import Cancelled, Detector, Frame, check_cancelled
from vt_models.grounding.outline import box_around
from vt_models.grounding.results import Candidate

THING, OUTLINE = "thing", "outline"
"""Labels of what `box_at` finds."""
LEAST_THING = 0.5
"""Score from which on what the detector sees counts. Of 48 points in real targets 27 are right with
it, 26 with 0.3 and 10 with outlines alone."""
AGREED = 0.7
"""IoU of two boxes for one thing."""
ZOOMS = (1.0, 2.0, 4.0)
SMALLEST_PART = 32
"""Pixels of the shorter side; a smaller part of a frame is not looked at."""
AT_THE_EDGE = 0.5
"""Weight of a box with the point at its edge; 1 in its middle."""
CUT_OFF = 0.02
"""A box that comes so near to the border of a part, in parts of its side, goes on behind it."""


def box_at(
    detector: Detector | None, frame: Frame, point: Sequence[float], cancelled: Cancelled
) -> Candidate | None:
    """What is at a point: the thing that a detector is sure of, else what has an outline.

    Where the two agree the outline gives the box, as it follows edges.

    Args:
        detector: as for `thing_at`; None for outlines alone.
        frame, point, cancelled: as for `thing_at`.

    Returns:
        A box with the label "thing" or "outline"; None where there is neither.
    """
    thing = None if detector is None else thing_at(detector, frame, point, cancelled)
    outline = box_around(frame, point)
    drawn = None if outline is None else Candidate(outline.box, outline.score, OUTLINE)
    if thing is None or thing.score < LEAST_THING:
        return drawn
    agreed = drawn is not None and float(iou(drawn.box, thing.box)) >= AGREED
    return drawn if agreed else Candidate(thing.box, thing.score, THING)


def thing_at(
    detector: Detector, frame: Frame, point: Sequence[float], cancelled: Cancelled
) -> Candidate | None:
    """The thing at a point.

    Args:
        detector: asked for "object".
        frame: (H, W, 3) uint8 RGB.
        point: x, y in pixels, inside the frame.
        cancelled: as for `Detector.detect`.

    Returns:
        Its box, inside the frame, with the detector's score; None where it sees nothing.

    Raises:
        InputError: not a frame, or a point that is not finite or outside.
        GroundingCancelledError: `cancelled()` was true.
        BackendError: the network failed.
    """
    frame = check_frame(frame)
    height, width = frame.shape[:2]
    x, y = (float(value) for value in point)
    if not (0 <= x <= width and 0 <= y <= height):
        raise InputError(f"the point ({x:g}, {y:g}) is outside the {width}x{height} frame")
    best: tuple[float, Candidate] | None = None
    for left, top, part in _parts(frame, (x, y)):
        check_cancelled(cancelled)
        for item in detector.detect(part, ANYTHING, cancelled):
            box = (item.box[0] + left, item.box[1] + top, *item.box[2:])
            if not _is_whole(item.box, part.shape, (left, top), frame.shape):
                continue
            worth = item.score * _centred(box, (x, y))
            if worth > 0 and (best is None or worth > best[0]):
                best = worth, Candidate(box, item.score, item.label)
    return None if best is None else _inside(best[1], frame.shape)


def _inside(found: Candidate, frame: Sequence[int]) -> Candidate:
    """The part of a box that is in the frame."""
    x, y, w, h = found.box
    left, top = max(x, 0.0), max(y, 0.0)
    box = (left, top, min(x + w, float(frame[1])) - left, min(y + h, float(frame[0])) - top)
    return Candidate(box, found.score, found.label)


def _parts(frame: Frame, point: tuple[float, float]) -> Iterator[tuple[int, int, Frame]]:
    """Left, top and pixels of ever smaller parts of a frame around a point, inside the frame."""
    height, width = frame.shape[:2]
    for zoom in ZOOMS:
        sides = (round(width / zoom), round(height / zoom))
        if zoom > 1 and min(sides) < SMALLEST_PART:
            return
        left, top = (
            min(max(round(value - side / 2), 0), whole - side)
            for value, side, whole in zip(point, sides, (width, height), strict=True)
        )
        yield left, top, frame[top : top + sides[1], left : left + sides[0]]


def _is_whole(box: Box, part: Sequence[int], corner: tuple[int, int], frame: Sequence[int]) -> bool:
    """Whether a box, in pixels of a part, ends before the part does, or with the frame."""
    x, y, w, h = box
    for low, length, start, inner, outer in (
        (x, w, corner[0], part[1], frame[1]),
        (y, h, corner[1], part[0], frame[0]),
    ):
        near = CUT_OFF * inner
        if (start > 0 and low < near) or (start + inner < outer and low + length > inner - near):
            return False
    return True


def _centred(box: Box, point: tuple[float, float]) -> float:
    """1 for a point in the middle of a box, `AT_THE_EDGE` at its edge, 0 outside."""
    x, y, w, h = box
    off = max(abs(point[0] - x - w / 2) / (w / 2), abs(point[1] - y - h / 2) / (h / 2))
    return 0.0 if off > 1 else 1.0 - (1.0 - AT_THE_EDGE) * off**2
