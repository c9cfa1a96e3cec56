# SPDX-License-Identifier: Apache-2.0
"""What a tracked stream leaves behind: an annotated video, a table, a contact sheet, numbers."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vt_models.geometry.boxes import Box
from vt_models.video.drawing import (
    GREY,
    STATE_COLOURS,
    contact_sheet,
    draw_target,
    draw_text,
    scaled,
)
from vt_models.video.sources import Frame
from vt_models.video.writing import VideoWriter, write_image

VIDEO, TABLE, SHEET = "tracked.mp4", "track.csv", "contact_sheet.png"
COLUMNS = ("frame", "stamp", "state", "x", "y", "w", "h", "score", "inference_ms", "latency_ms")

_TILES = 12
_TILE_COLUMNS = 4
_TILE_WIDTH = 480
_MOST_TILES_HELD = 240


@dataclass(frozen=True)
class Row:
    """The result of one frame.

    Attributes:
        frame: number in the file, from 0.
        stamp: of the image, nanoseconds.
        state: name of the tracker's state.
        box: x, y, w, h in pixels; None while there is none.
        score: in [0, 1].
        inference_ms: time in the tracker.
        latency_ms: from the image's stamp to the result.
    """

    frame: int
    stamp: int
    state: str
    box: Box | None
    score: float
    inference_ms: float
    latency_ms: float

    def values(self) -> list[str]:
        """Return cells in the order of `COLUMNS`; a box that is not there is empty."""
        box = [f"{value:.2f}" for value in self.box] if self.box else [""] * 4
        times = f"{self.inference_ms:.2f}", f"{self.latency_ms:.2f}"
        stamp = f"{self.stamp / 1e9:.9f}"
        return [str(self.frame), stamp, self.state, *box, f"{self.score:.4f}", *times]


@dataclass(frozen=True)
class Summary:
    """Numbers over all rows; milliseconds, and frames per second by the images' stamps."""

    frames: int
    missed: int
    fps: float
    latency_p50: float
    latency_p99: float
    inference_p50: float
    lowest_score: float
    states: dict[str, int]  # frames in each state, in the order in which they came up
    last_state: str

    @property
    def good(self) -> bool:
        """The target is tracked at the end: it was never lost, or it was found again."""
        return self.last_state == "TRACKING"


class Recorder:
    """Writes results as they come.

    Args:
        folder: made if it is not there; files of a previous run are replaced.
        rate: of the video, frames per second.
    """

    def __init__(self, folder: Path, rate: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._video = VideoWriter(folder / VIDEO, rate)
        self._table = (folder / TABLE).open("w", newline="", encoding="utf-8")
        self._csv = csv.writer(self._table)
        self._csv.writerow(COLUMNS)
        self._rows: list[Row] = []
        self._newest = np.empty((0, 0, 3), np.uint8)
        self._tiles: list[Frame] = []
        self._tile_stride = 1

    def add(self, row: Row, frame: Frame) -> None:
        """Record one result and its (H, W, 3) uint8 RGB frame."""
        # Frames between two results were not processed. The one before stays on for so long, so
        # that the video keeps its time.
        missed = row.frame - self._rows[-1].frame - 1 if self._rows else 0
        for _ in range(missed):
            self._video.write(self._newest)
        self._newest = _annotated(frame, row, 1.0)
        self._video.write(self._newest)
        self._rows.append(row)
        self._csv.writerow(row.values())
        # Of a long video only every second, fourth ... tile is kept.
        if (len(self._rows) - 1) % self._tile_stride == 0:
            self._tiles.append(_annotated(frame, row, _TILE_WIDTH / frame.shape[1]))
        if len(self._tiles) > _MOST_TILES_HELD:
            self._tiles = self._tiles[::2]
            self._tile_stride *= 2

    def close(self) -> Summary:
        """Finish all files, and return the numbers."""
        self._table.close()
        self._video.close()
        if self._tiles:
            chosen = _evenly(self._tiles, _TILES)
            sheet = contact_sheet(chosen, _TILE_COLUMNS)
            write_image(self._folder / SHEET, sheet)
        return summarise(self._rows)


def summarise(rows: Sequence[Row]) -> Summary:
    """Return numbers over rows in the order of their frames."""
    if not rows:
        nan = float("nan")
        return Summary(0, 0, 0.0, nan, nan, nan, nan, {}, "nothing")
    span = (rows[-1].stamp - rows[0].stamp) / 1e9
    latency = [row.latency_ms for row in rows]
    return Summary(
        frames=len(rows),
        missed=rows[-1].frame - rows[0].frame + 1 - len(rows),
        fps=(len(rows) - 1) / span if span > 0 else 0.0,
        latency_p50=float(np.percentile(latency, 50)),
        latency_p99=float(np.percentile(latency, 99)),
        inference_p50=float(np.median([row.inference_ms for row in rows])),
        lowest_score=min(row.score for row in rows),
        states=dict(Counter(row.state for row in rows)),
        last_state=rows[-1].state,
    )


def _annotated(frame: Frame, row: Row, scale: float) -> Frame:
    """Return a copy of the frame, its sides times `scale`, with box, number, state and score."""
    annotated = scaled(frame, scale)
    if row.box is not None:
        draw_target(annotated, row.box, row.state, scale)
    colour = STATE_COLOURS.get(row.state, GREY)
    draw_text(annotated, f"frame {row.frame}  {row.state}  {row.score:.2f}", colour)
    return annotated


def _evenly(frames: Sequence[Frame], count: int) -> list[Frame]:
    """Return at most `count` frames, the first and the last among them."""
    if len(frames) <= count:
        return list(frames)
    return [frames[round(k)] for k in np.linspace(0, len(frames) - 1, count)]
