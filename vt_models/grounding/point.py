# SPDX-License-Identifier: Apache-2.0
"""The box of the thing at a point, by a detector of anything that has a name.

The frame is searched three times, each time nearer, so that small things are found as well. Of the
boxes that hold the point those count most in whose middle it lies: people point at the middle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vt_models.errors import InputError
from vt_models.geometry.boxes import Box
from vt_models.geometry.crop import check_frame
from vt_models.grounding.description import ANYTHING
from vt_models.grounding.grounder import Cancelled, Detector, check_cancelled
from vt_models.grounding.results import Candidate, Frame

LEAST_SCORE = 0.3
"""A box with a lower score is no answer. Of 240 points in the targets of 16 sequences 150 get the
right box from 0.3 on and 1 gets none; from 0.5 on 140 and 23, and 147 with GrabCut for those 23."""
ZOOMS = (1.0, 2.0, 4.0)
SMALLEST_PART = 32
"""Pixels of the shorter side; a smaller part of a frame is not searched."""
AT_THE_EDGE = 0.5
"""Weight of a box with the point at its edge; 1 in its middle."""
CUT_OFF = 0.02
"""A box that comes so near to the border of a part, in parts of its side, goes on behind it."""


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
        Its box, inside the frame, with the detector's score; None where that is below
        `LEAST_SCORE`.

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
            bx, by, w, h = box
            off = max(abs(x - bx - w / 2) / (w / 2), abs(y - by - h / 2) / (h / 2))  # edge: 1
            worth = item.score * (1.0 - (1.0 - AT_THE_EDGE) * off**2)
            if off <= 1 and worth > 0 and (best is None or worth > best[0]):
                best = worth, Candidate(box, item.score, item.label)
    if best is None or best[1].score < LEAST_SCORE:
        return None
    found = best[1]
    x1, y1 = max(found.box[0], 0.0), max(found.box[1], 0.0)
    x2 = min(found.box[0] + found.box[2], float(width))
    y2 = min(found.box[1] + found.box[3], float(height))
    return Candidate((x1, y1, x2 - x1, y2 - y1), found.score, found.label)


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
