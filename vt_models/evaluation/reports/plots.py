# SPDX-License-Identifier: Apache-2.0
"""Charts of the report, drawn by matplotlib (extra `report`): SVG for the page, PNG for a file."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vt_models.errors import InputError

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#000000")
"""Okabe and Ito's, which colour-blind readers tell apart."""
DASHES = ("-", "--", ":")
BINS = 10
"""Of a reliability diagram: of equal width in [0, 1]."""
STYLE = {
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "vt_models",  # equal charts are equal texts
    "text.parse_math": False,  # a name may hold a $
}


@matplotlib.rc_context(STYLE)
def line_chart(
    title: str,
    x_axis: tuple[str, float],
    y_label: str,
    curves: Sequence[tuple[str, float, Sequence[float]]],
) -> str:
    """Draw a curve for each tracker, with y in [0, 1], as an `svg` element.

    Args:
        title: text above.
        x_axis: what it shows with its unit, and its end; it begins at 0.
        y_label: what y shows.
        curves: of each tracker the name, the number that ranks it in the legend, and y over
            equidistant x. Colours and dashes go by the place, so that a tracker whose place is the
            same in several charts looks the same in all.
    """
    figure, axes = _new_chart(title, x_axis, y_label, legend=len(curves))
    drawn = []
    for place, (name, number, values) in enumerate(curves):
        colour, dashes = COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]
        x = np.linspace(0.0, x_axis[1], len(values))
        (line,) = axes.plot(x, values, dashes, color=colour, linewidth=1.6)
        drawn.append((number, line, f"{name}  {number:.3f}"))
    drawn.sort(key=lambda one: -one[0])
    handles = [line for _, line, _ in drawn]
    legend = figure.legend(handles, "." * len(drawn), loc="outside lower left", frameon=False)
    for text, (_, _, label) in zip(legend.get_texts(), drawn, strict=True):
        text.set_text(label)  # given above, one that begins with "_" would be left out
    return to_svg(figure)


@matplotlib.rc_context(STYLE)
def reliability_chart(title: str, error: float, rows: Sequence[Mapping[str, float]]) -> Figure:
    """Draw bars of how often a box was right, over the confidence; ideal is the dashed diagonal.

    Args:
        title: text above.
        error: the expected calibration error.
        rows: bins with `confidence`, `right` and `frames`, as `calibration.reliability` gives.
    """
    label = f"confidence (expected calibration error {error:.3f})"
    figure, axes = _new_chart(title, (label, 1.0), "share of right boxes")
    frames = sum(row["frames"] for row in rows) or 1
    for row in rows:
        left = min(int(row["confidence"] * BINS), BINS - 1) / BINS
        alpha = 0.3 + 0.7 * row["frames"] / frames
        axes.bar(left, row["right"], 0.9 / BINS, align="edge", color=COLOURS[0], alpha=alpha)
    axes.plot((0, 1), (0, 1), "--", color="#4a545e", linewidth=1)
    return figure


@matplotlib.rc_context(STYLE)
def bar_chart(
    title: str,
    x_label: str,
    rows: Mapping[str, Mapping[str, float]],
    style: str = ".2f",
    stacked: bool = False,
) -> str:
    """Draw numbers as horizontal bars, the first on top, as an `svg` element.

    Args:
        title: text above.
        x_label: what x shows, with its unit.
        rows: of each row the numbers by name; a name has one colour, and the legend has it where
            there are several.
        style: of the numbers at the bars, as `format` takes it.
        stacked: the bars of a row follow one another, without numbers; else they lie below one
            another.
    """
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = len(rows) * (1 if stacked else len(names))
    figure = Figure(figsize=(6.4, 1.2 + 0.24 * (lines + len(names))), layout="constrained")
    axes = figure.add_subplot()
    height = 0.8 if stacked else 0.8 / len(names)
    for number, name in enumerate(names):
        places = [index for index, row in enumerate(rows.values()) if name in row]
        values = [row[name] for row in rows.values() if name in row]
        begins = [0.0] * len(values)
        if stacked:
            begins = [sum(row.get(n, 0.0) for n in names[:number]) for row in rows.values()]
            begins = [begins[place] for place in places]
        shift = 0.0 if stacked else (number - 0.5 * (len(names) - 1)) * height
        colour = COLOURS[number % len(COLOURS)]
        ys = [place + shift for place in places]
        bars = axes.barh(ys, values, height, begins, color=colour)
        if not stacked:
            axes.bar_label(bars, [format(value, style) for value in values], padding=3)
    axes.set(title=title, xlabel=x_label, yticks=range(len(rows)), yticklabels=list(rows))
    axes.set_axisbelow(True)
    axes.grid(axis="x", color="#e1e5e9")
    axes.margins(x=0.12 if not stacked else 0.0)
    axes.invert_yaxis()
    if len(names) > 1:
        patches = [Patch(color=COLOURS[place % len(COLOURS)]) for place in range(len(names))]
        figure.legend(patches, names, loc="outside lower left", frameon=False)
    return to_svg(figure)


@matplotlib.rc_context(STYLE)
def to_svg(figure: Figure) -> str:
    """Return the element `svg`, to stand in a page."""
    text = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(text, format="svg", metadata=nothing)
    return text.getvalue()[text.getvalue().index("<svg") :]


def check_chart_path(path: Path) -> None:
    """Refuse a file that `save_reliability` cannot write, before anything is measured for it.

    Raises:
        InputError: its ending is no format, it is a folder, or it lies in a file.
    """
    formats = Figure().canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in formats:
        raise InputError(f"{path} has no ending of an image; give a path that ends in .png")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a file that ends in .png")
    above = next(one for one in path.absolute().parents if one.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"{path} cannot be written: {above} is no folder to write to")


def save_reliability(
    path: Path, title: str, error: float, rows: Sequence[Mapping[str, float]]
) -> None:
    """Write a `reliability_chart` to a file whose ending says the format, such as .png.

    Raises:
        InputError: it cannot be written.
    """
    figure = reliability_chart(title, error, rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except (OSError, ValueError) as problem:
        message = f"{path} cannot be written: {problem}; give a path that ends in .png"
        raise InputError(message) from problem


def _new_chart(
    title: str, x_axis: tuple[str, float], y_label: str, legend: int = 0
) -> tuple[Figure, Axes]:
    """Axes from 0 to their ends; the figure has room for so many lines of a legend."""
    figure = Figure(figsize=(4.6, 3.5 + 0.18 * legend), layout="constrained")
    axes = figure.add_subplot(xlim=(0.0, x_axis[1]), ylim=(0.0, 1.0))
    axes.set(title=title, xlabel=x_axis[0], ylabel=y_label, axisbelow=True)
    axes.grid(color="#e1e5e9")
    return figure, axes
