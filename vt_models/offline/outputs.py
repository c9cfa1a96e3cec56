# SPDX-License-Identifier: Apache-2.0
"""What becomes of the reports: a table, a video. Each file appears whole or not at all."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from types import TracebackType
from typing import Protocol

from vt_models.errors import InputError
from vt_models.files import write_text
from vt_models.offline.tracking import FrameReports, TargetReport
from vt_models.video.drawing import STATE_COLOURS, draw_target, draw_text, scaled
from vt_models.video.writing import VideoWriter


class Output(Protocol):
    """A file that is written frame by frame; as a context it goes if that ends with an error."""

    def __enter__(self) -> Output: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def write(self, reports: FrameReports) -> None:
        """Take the next frame; InputError where it cannot be written."""

    def close(self) -> None:
        """Finish the file; InputError where it cannot be written."""


class CsvOutput:
    """A table with a line for each frame and target; empty where there is no box or direction.

    Columns: frame (from 0), stamp in seconds, target, state, score, x, y, w, h in pixels, azimuth
    and elevation in radians, message.
    """

    _COLUMNS = (
        *("frame", "stamp", "target", "state", "score", "x", "y", "w", "h"),
        *("azimuth", "elevation", "message"),
    )

    def __init__(self, path: Path) -> None:
        self._path, self._text = path, io.StringIO()
        self._writer = csv.writer(self._text)
        self._writer.writerow(self._COLUMNS)

    def __enter__(self) -> CsvOutput:
        return self

    def __exit__(self, *_: object) -> None:
        self._text.close()

    def write(self, reports: FrameReports) -> None:
        """See `Output`."""
        header = reports.frame.header
        for one in reports.targets:
            box = [f"{value:.4f}" for value in one.box] if one.box else [""] * 4
            angles = ["", ""]
            if one.bearing is not None:
                angles = [f"{one.bearing.azimuth:.6f}", f"{one.bearing.elevation:.6f}"]
            stamp = f"{header.sec}.{header.nanosec:09d}"
            state, score = one.state.name, f"{one.score:.4f}"
            row = (reports.frame.number, stamp, one.name, state, score, *box, *angles, one.message)
            self._writer.writerow(row)

    def close(self) -> None:
        """See `Output`."""
        try:
            write_text(self._path, self._text.getvalue())
        except OSError as error:
            raise InputError(
                f"{self._path} cannot be written: {error.strerror or error}"
            ) from error


class VideoOutput:
    """An .mp4 of the frames with the boxes; a frame that cannot be read is left out."""

    def __init__(self, path: Path, fps: float) -> None:
        self._writer = VideoWriter(path, fps)

    def __enter__(self) -> VideoOutput:
        self._writer.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.__exit__(kind, error, traceback)

    def write(self, reports: FrameReports) -> None:
        """See `Output`."""
        if reports.pixels is not None:
            image = scaled(reports.pixels, 1.0)
            for one in reports.targets:
                if one.box is not None:
                    draw_target(image, one.box, one.state.name)
            labels = [label_of(one, len(reports.targets) > 1) for one in reports.targets]
            worst = max(reports.targets, key=lambda one: one.state)
            draw_text(image, "  ".join(labels), STATE_COLOURS[worst.state.name])
            self._writer.write(image)

    def close(self) -> None:
        """See `Output`."""
        self._writer.close()


def label_of(one: TargetReport, named: bool) -> str:
    """Return the state of a target in one line, with its name if that is wanted."""
    score = f" {one.score:.2f}" if one.score else ""
    return f"{one.name}: {one.state.name}{score}" if named else f"{one.state.name}{score}"
