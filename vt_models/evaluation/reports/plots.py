# SPDX-License-Identifier: Apache-2.0
"""Small charts as SVG text for the report: nothing but strings, no further package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#000000")
"""Okabe and Ito's, which colour-blind readers tell apart."""

_WIDTH, _HEIGHT = 440, 330
_LEFT, _TOP, _RIGHT, _BOTTOM = 52, 34, 428, 280
_DASHES = ("", "7 3", "2 3")


@dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Attributes:
        label: what it shows, with its unit.
        last: its largest value; it begins at 0.
        ticks: values that are written.
    """

    label: str
    last: float
    ticks: tuple[float, ...]


FRACTION = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        name: in the legend.
        values: y over equidistant x from 0 to the axis' end.
        style: number of its colour and dashes, the same for one tracker in all charts.
    """

    name: str
    values: Sequence[float]
    style: int


def line_chart(title: str, x_axis: Axis, y_label: str, lines: Sequence[Line]) -> str:
    """Curves with y in [0, 1], and a legend below in the order of `lines`. All text is escaped."""
    parts = [_frame(title, x_axis, y_label)]
    for line in lines:
        steps = max(len(line.values) - 1, 1)
        points = " ".join(
            f"{_x(step / steps):.1f},{_y(value):.1f}" for step, value in enumerate(line.values)
        )
        parts.append(f'<polyline points="{points}" {_stroke(line.style)}/>')
    for index, line in enumerate(lines):
        top = _HEIGHT + 4 + 18 * index
        parts.append(f'<path d="M{_LEFT} {top}h28" {_stroke(line.style)}/>')
        parts.append(f'<text x="{_LEFT + 36}" y="{top + 4}">{escape(line.name)}</text>')
    return _svg(title, _HEIGHT + 18 * len(lines), parts)


def reliability_chart(
    title: str, error: float, rows: Sequence[Mapping[str, float]], bins: int = 10
) -> str:
    """Bars of how often a box was right, over the confidence; ideal is the dashed diagonal.

    Args:
        title: text above.
        error: the expected calibration error.
        rows: bins with `confidence`, `right` and `frames`, as `calibrate.reliability` gives.
        bins: of equal width in [0, 1].
    """
    axis = Axis(f"confidence (expected calibration error {error:.3f})", 1.0, FRACTION)
    parts = [_frame(title, axis, "share of right boxes")]
    frames = sum(row["frames"] for row in rows) or 1
    for row in rows:
        index = min(int(row["confidence"] * bins), bins - 1)
        left, width = _x(index / bins) + 2, (_RIGHT - _LEFT) / bins - 4
        top = _y(row["right"])
        share = 0.3 + 0.7 * row["frames"] / frames
        parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_BOTTOM - top:.1f}" '
            f'fill="{COLOURS[0]}" fill-opacity="{share:.2f}"><title>{row["right"]:.3f} right at '
            f"{row['confidence']:.3f}, {row['frames']:.0f} frames</title></rect>"
        )
    parts.append(
        f'<path d="M{_LEFT} {_BOTTOM}L{_RIGHT} {_TOP}" stroke="#4a545e" stroke-dasharray="5 4"/>'
    )
    return _svg(title, _HEIGHT, parts)


def _svg(title: str, height: int, parts: Sequence[str]) -> str:
    body = "".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" aria-label="{escape(title)}">{body}</svg>'
    )


def _frame(title: str, x_axis: Axis, y_label: str) -> str:
    middle = (_LEFT + _RIGHT) / 2
    parts = [f'<text x="{middle}" y="20" text-anchor="middle" class="title">{escape(title)}</text>']
    for tick in FRACTION:
        y = _y(tick)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_RIGHT}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_axis.ticks:
        x = _x(tick / x_axis.last)
        parts.append(f'<path d="M{x:.1f} {_TOP}V{_BOTTOM}" class="grid"/>')
        parts.append(f'<text x="{x:.1f}" y="{_BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
    parts.append(
        f'<text x="{middle}" y="{_BOTTOM + 34}" text-anchor="middle">{escape(x_axis.label)}</text>'
        f'<text transform="translate(14 {(_TOP + _BOTTOM) / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _stroke(index: int) -> str:
    colour = COLOURS[index % len(COLOURS)]
    dash = _DASHES[index // len(COLOURS) % len(_DASHES)]
    return f'fill="none" stroke="{colour}" stroke-width="2.2" stroke-dasharray="{dash}"'


def _x(share: float) -> float:
    return _LEFT + share * (_RIGHT - _LEFT)


def _y(value: float) -> float:
    return _BOTTOM - min(max(value, 0.0), 1.0) * (_BOTTOM - _TOP)
