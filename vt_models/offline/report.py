# SPDX-License-Identifier: Apache-2.0
"""A page about a tracked recording: states over time, confidence, and an image of every change."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import cv2
import matplotlib
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from vt_models.errors import InputError
from vt_models.evaluation.reports.plots import STYLE, to_svg
from vt_models.files import write_text
from vt_models.offline.tracking import FrameReports, TargetReport
from vt_models.video.drawing import STATE_COLOURS, draw_target, scaled
from vt_models.video.sources import Frame

MOST_CHANGES = 40
"""Of the state of one target that have an image; what comes after is in the table alone."""
_WIDTH = 320  # pixels of such an image
_MOST_POINTS = 2000  # of the curve: a bag of an hour has 108,000 frames


@dataclass
class _Change:
    """A change of state.

    Attributes:
        seconds: since the first frame.
        state: from here on.
        message: why.
        image: data URI of the frame; empty: none.
    """

    seconds: float
    state: str
    message: str
    image: str = ""


@dataclass
class _Course:
    """What became of one target.

    Attributes:
        seconds, scores, states: of every frame.
        changes: of its state.
    """

    seconds: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    changes: list[_Change] = field(default_factory=list)


class ReportOutput:
    """An HTML file with everything inside; see `vt_models.offline.outputs.Output`.

    Args:
        path: of the file.
        source: name of the recording.
        model: name of the model.
    """

    def __init__(self, path: Path, source: str, model: str) -> None:
        self._path, self._source, self._model = path, source, model
        self._courses: dict[str, _Course] = {}
        self._last: FrameReports | None = None

    def __enter__(self) -> ReportOutput:
        return self

    def __exit__(self, *_: object) -> None:
        self._courses.clear()

    def write(self, reports: FrameReports) -> None:
        """See `Output`."""
        self._last = reports
        for one in reports.targets:
            course = self._courses.setdefault(one.name, _Course())
            if not course.states or course.states[-1] != one.state.name:
                change = _Change(reports.seconds, one.state.name, one.message)
                if reports.pixels is not None and len(course.changes) < MOST_CHANGES:
                    change.image = _data_uri(reports.pixels, one)
                course.changes.append(change)
            course.seconds.append(reports.seconds)
            course.scores.append(one.score)
            course.states.append(one.state.name)

    def close(self) -> None:
        """See `Output`."""
        environment = Environment(autoescape=True, undefined=StrictUndefined)
        template = (files(__package__) / "report.html.j2").read_text(encoding="utf-8")
        targets = []
        for name, course in self._courses.items():
            counts = Counter(course.states)
            rows = [(state, counts[state], counts[state] / len(course.states)) for state in counts]
            # Of matplotlib, with nothing of the recording's in it but numbers.
            chart = Markup(_chart(course))  # noqa: S704
            targets.append({"name": name, "rows": rows, "changes": course.changes, "chart": chart})
        last = self._last
        text = environment.from_string(template).render(
            source=self._source,
            model=self._model,
            frames=last.processed if last else 0,
            dropped=last.dropped if last else 0,
            rejected=last.rejected if last else 0,
            seconds=last.seconds if last else 0.0,
            targets=targets,
        )
        try:
            write_text(self._path, text)
        except OSError as error:
            raise InputError(
                f"{self._path} cannot be written: {error.strerror or error}"
            ) from error


@matplotlib.rc_context(STYLE)
def _chart(course: _Course) -> str:
    """Draw the states as a band of colours, and the confidence above it, as an `svg` element."""
    end = max(course.seconds[-1], course.seconds[0] + 1e-3)
    figure = Figure(figsize=(10.0, 2.6), layout="constrained")
    score, band = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    step = max(1, -(-len(course.seconds) // _MOST_POINTS))
    score.plot(course.seconds[::step], course.scores[::step], color="#0072b2", linewidth=1.2)
    score.set(ylim=(0.0, 1.05), ylabel="confidence", xlim=(course.seconds[0], end))
    score.grid(color="#e1e5e9")
    edges = [*(change.seconds for change in course.changes), end]
    for change, left, right in zip(course.changes, edges, edges[1:], strict=False):
        colour = tuple(part / 255 for part in STATE_COLOURS[change.state])
        band.axvspan(left, max(right, left), color=colour, linewidth=0)
        if right - left > 0.06 * (end - edges[0]):  # or the word would not fit
            band.text((left + right) / 2, 0.5, change.state, ha="center", va="center", fontsize=8)
    band.set(yticks=[], ylim=(0, 1), xlabel="seconds since the first frame")
    return to_svg(figure)


def _data_uri(pixels: Frame, one: TargetReport) -> str:
    scale = min(1.0, _WIDTH / pixels.shape[1])
    image = scaled(pixels, scale)
    if one.box is not None:
        draw_target(image, one.box, one.state.name, scale)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, 80))[1]
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
