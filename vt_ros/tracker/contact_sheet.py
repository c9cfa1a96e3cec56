# SPDX-License-Identifier: Apache-2.0
"""One image that says what happened to a target, and why it was lost.

At the top stand the reason and the states in words, below them the score over time, and then the
search windows of the last frames, each beside the network's map of scores.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.geometry.boxes import Box, CropWindow
from vt_models.video.drawing import (
    GREY,
    STATE_COLOURS,
    Colour,
    contact_sheet,
    draw_target,
    draw_text,
    scaled,
    with_heat,
)

_TILE, _COLUMNS, _TILES = 160, 4, 16
_GAP, _MARGIN, _LINE = 4, 8, 20
_WIDTH = _COLUMNS * (2 * _TILE + _GAP) + _GAP
_PLOT_HEIGHT = 110
_BACKGROUND = 24
_WHITE: Colour = (235, 235, 235)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TEXT = 0.45
_LONGEST = 150  # characters that fit
_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class RecordedFrame:
    """What is kept of one frame.

    Attributes:
        seconds: of its stamp.
        target_id: number of the target.
        state: by name.
        score: calibrated confidence, in [0, 1].
        raw_score: the network's own.
        reason: why the state is what it is; empty while TRACKING.
        box: x, y, w, h in pixels of the image; None for none.
        window: square of the image that the crop shows.
        crop: (S, S, 3) uint8 RGB.
        scores: (h, w) map over the window, in [0, 1]; None where the network was not asked, or
            has no such map.
    """

    seconds: float
    target_id: int
    state: str
    score: float
    raw_score: float
    reason: str
    box: Box | None
    window: CropWindow
    crop: NDArray[np.uint8]
    scores: NDArray[np.float16] | None = None


def draw_sheet(
    frames: Sequence[RecordedFrame], title: str, thresholds: tuple[float, float]
) -> NDArray[np.uint8]:
    """Draw the sheet of a recording.

    Args:
        frames: at least one, the oldest first.
        title: its first line.
        thresholds: confidence below which the target counts as missed, and from which it is
            tracked.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    lines = [title, *describe(frames)]
    head = np.full((len(lines) * _LINE + 2 * _MARGIN, _WIDTH, 3), _BACKGROUND, np.uint8)
    for number, line in enumerate(lines):
        colour = _WHITE if number == 0 else GREY
        place = (_MARGIN, _MARGIN + (number + 1) * _LINE - 6)
        cv2.putText(head, line, place, _FONT, _TEXT, colour, 1, cv2.LINE_AA)
    end = frames[-1].seconds
    tiles = contact_sheet([_tile(frame, end) for frame in chosen(frames)], _COLUMNS, _GAP)
    narrow = np.full((tiles.shape[0], _WIDTH, 3), _BACKGROUND, np.uint8)
    narrow[:, : tiles.shape[1]] = tiles
    return np.vstack((head, _plot(frames, thresholds), narrow))


def describe(frames: Sequence[RecordedFrame]) -> list[str]:
    """Say in words what the recorded frames show: one line a stretch of a state, the last eight.

    A stretch is a run of frames with the same state for the same reason, but for its numbers.
    """
    end, lines = frames[-1].seconds, []
    for (state, _), run in groupby(
        frames, lambda frame: (frame.state, _NUMBER.sub("", frame.reason))
    ):
        part = list(run)
        reason = part[0].reason
        scores = [frame.score for frame in part]
        raw = [frame.raw_score for frame in part]
        said = f"{part[0].seconds - end:+.2f} s  {state} for {_count(len(part))}"
        if reason:
            said += f": {reason}"
        if any(scores):
            said += f"; score {min(scores):.2f} to {max(scores):.2f}"
        elif any(raw):
            said += f"; the best that the network saw was {max(raw):.2f}"
        lines.append(said if len(said) <= _LONGEST else f"{said[:_LONGEST]} ...")
    return lines[-8:]


def chosen(frames: Sequence[RecordedFrame]) -> list[RecordedFrame]:
    """Return the frames that are shown: half of them as the state changes last, half evenly spread.

    The last change is that which ends the tracking, such as from COASTING to LOST; what led to it
    is in the last frames with a measured box.
    """
    if len(frames) <= _TILES:
        return list(frames)
    measured = [n for n, frame in enumerate(frames) if frame.state in ("TRACKING", "UNCERTAIN")]
    turn = min(max(measured[-1] if measured else 0, _TILES // 4), len(frames) - _TILES // 4 - 1)
    near = range(turn - _TILES // 4 + 1, turn + _TILES // 4 + 1)
    others = [n for n in range(len(frames)) if n not in near]
    spread = np.linspace(0, len(others) - 1, _TILES - len(near)).round().astype(int)
    return [frames[n] for n in sorted({*near, *(others[n] for n in spread)})]


def _count(frames: int) -> str:
    return "1 frame" if frames == 1 else f"{frames} frames"


def _tile(frame: RecordedFrame, end: float) -> NDArray[np.uint8]:
    """Draw a frame's window, with its box, beside the same under the map of scores."""
    crop = scaled(frame.crop, _TILE / frame.crop.shape[0])
    shown = crop.copy()
    if frame.box is not None:
        (x, y, w, h), (left, top, side) = frame.box, frame.window
        zoom = _TILE / side
        box = ((x - left) * zoom, (y - top) * zoom, w * zoom, h * zoom)
        draw_target(shown, box, frame.state)
    when = f"{frame.seconds - end:+.2f} s {frame.state}"
    draw_text(shown, when, STATE_COLOURS[frame.state])
    if frame.scores is None:
        beside = crop // 3
        draw_text(beside, "not searched", GREY)
    else:
        heat = frame.scores.astype(np.float32)
        beside = with_heat(crop // 2, heat)
        draw_text(beside, f"score {frame.score:.2f} net {frame.raw_score:.2f}", _WHITE)
    return np.hstack((shown, beside))


def _plot(frames: Sequence[RecordedFrame], thresholds: tuple[float, float]) -> NDArray[np.uint8]:
    """Draw the score frame by frame on a band of the states' colours, with the two thresholds.

    By frames and not by time: stamps may stand still or go back.
    """
    plot = np.full((_PLOT_HEIGHT, _WIDTH, 3), _BACKGROUND, np.uint8)
    top, bottom, left, right = 6, _PLOT_HEIGHT - 22, 70, _WIDTH - _MARGIN
    edges = np.linspace(left, right, len(frames) + 1).round().astype(int).tolist()
    middles = [(start + stop) // 2 for start, stop in pairwise(edges)]

    def down(score: float) -> int:
        return round(bottom - (bottom - top) * score)

    for frame, (start, stop) in zip(frames, pairwise(edges), strict=True):
        colour = tuple(part // 3 for part in STATE_COLOURS[frame.state])
        cv2.rectangle(plot, (start, top), (stop, bottom), colour, cv2.FILLED)
    for threshold, name in zip(thresholds, ("missed", "tracked"), strict=True):
        height = down(threshold)
        cv2.line(plot, (left, height), (right, height), GREY, 1)
        cv2.putText(plot, name, (_MARGIN, height + 4), _FONT, 0.4, GREY, 1, cv2.LINE_AA)
    for score, colour in (("raw_score", GREY), ("score", _WHITE)):
        line = [(x, down(getattr(f, score))) for x, f in zip(middles, frames, strict=True)]
        cv2.polylines(plot, [np.array(line, np.int32)], False, colour, 1, cv2.LINE_AA)
    seconds = frames[-1].seconds - frames[0].seconds
    label = f"score (white), the network's own (grey); {len(frames)} frames in {seconds:.1f} s"
    cv2.putText(plot, label, (left, _PLOT_HEIGHT - 6), _FONT, 0.4, GREY, 1, cv2.LINE_AA)
    return plot
