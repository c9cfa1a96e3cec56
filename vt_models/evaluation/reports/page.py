# SPDX-License-Identifier: Apache-2.0
"""The report's page: one HTML text with its style, charts and images inside.

The layout is the Jinja2 template `report.html.j2` beside this module (extra `report`); here is what
fills it. The template escapes every text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.util import find_spec
from typing import Any, TypeAlias

from vt_models.evaluation.reports.failures import Failure
from vt_models.evaluation.reports.plots import FRACTION, Axis, Line, line_chart, reliability_chart
from vt_models.evaluation.reports.tables import COLUMNS, INTERVAL
from vt_models.evaluation.runs.text_start import starts_text

Strips = list[tuple["Failure", str]]
Row: TypeAlias = "list[Any]"
"""A name, then numbers, intervals [low, high] or None."""
Marks: TypeAlias = "set[tuple[int, int]]"
"""Rows and columns of the numbers that stand out."""

LONG_TERM = {
    "F-score": "f_score",
    "precision": "precision",
    "recall": "recall",
    "AO": "ao",
    "TRACKING while absent": "false_tracking",
    "TRACKING on something else": "wrong_tracking",
    "returns found in 2 s": "found",
    "s to LOST": "seconds_to_lost",
    "s to found": "seconds_to_found",
}
"""Numbers of `evaluation.longterm.metrics.summary` by their heading."""


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading of its own; what is empty is left out.

    Attributes:
        title: the heading.
        notes: paragraphs below it.
        charts: as SVG.
        tables: made by `table`.
        remarks: paragraphs below the tables.
    """

    title: str
    notes: Sequence[str] = ()
    charts: Sequence[str] = ()
    tables: Sequence[Mapping[str, Any]] = ()
    remarks: Sequence[str] = field(default_factory=list)


def can_render() -> bool:
    """Whether Jinja2, which makes the page, is installed."""
    return find_spec("jinja2") is not None


def page(data: Mapping[str, Any], strips: Sequence[Strips]) -> str:
    """Make the page of a one-pass evaluation.

    Args:
        data: what `report.write_report` writes as JSON.
        strips: for each tracker its failures, each with the image as a data URI.
    """
    trackers = data["trackers"]
    models = [tracker["model"] for tracker in trackers]

    def side_by_side(head: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
        return [table([head, *models], rows, best_of_row)] if rows else []

    attributes: list[Row] = [
        [
            f"{name} ({len(members)})",
            *(tracker["attributes"].get(name, {}).get("auc") for tracker in trackers),
        ]
        for name, members in data["attributes"].items()
    ]
    sequences: list[Row] = [
        [f"{name} ({count})", *(one["sequences"].get(name, {}).get("ao") for one in trackers)]
        for name, count in data["frames"].items()
    ]
    sections = [
        _total(data),
        *_kinds(data),
        *_benchmark(data.get("benchmark")),
        Section("Curves", charts=_charts(trackers)),
        Section(
            "Attributes",
            notes=[] if attributes else ["No sequence has an attribute."],
            tables=side_by_side("AUC (sequences)", attributes),
        ),
        Section("Sequences", tables=side_by_side("AO (frames)", sequences)),
        *_reliability(data["reliability"]),
        *_long_term(data.get("long_term")),
    ]
    failures = [
        (tracker["model"], len(tracker["failures"]), shown)
        for tracker, shown in zip(trackers, strips, strict=True)
    ]
    return _render(data, sections, failures)


def vot_page(data: Mapping[str, Any]) -> str:
    """Make the page of VOT's short-term runs.

    Args:
        data: what `VotOutcome.save` writes as JSON.
    """
    trackers = data["trackers"]
    keys = list(trackers[0]["total"])
    totals = [[one["model"], *(one["total"][key] for key in keys)] for one in trackers]
    sections = [
        Section(f"Total ({data['protocol']})", tables=[table(["tracker", *keys], totals)]),
        Section("Expected average overlap", charts=[_overlap_chart(data)]),
    ]
    for key in next(iter(trackers[0]["sequences"].values())):
        rows = [
            [f"{name} ({count})", *(one["sequences"][name][key] for one in trackers)]
            for name, count in data["frames"].items()
        ]
        head = ["sequence (frames)", *(one["model"] for one in trackers)]
        sections.append(Section(f"Sequences: {key}", tables=[table(head, rows, best_of_row)]))
    return _render(data, sections, None)


def none(_rows: Sequence[Row]) -> Marks:
    """No number stands out."""
    return set()


def best_of_row(rows: Sequence[Row]) -> Marks:
    """The largest number of each row, where there are two or more."""
    marks = set()
    for index, row in enumerate(rows):
        known = [value for value in row if isinstance(value, (int, float))]
        if len(known) > 1:
            marks |= {(index, place) for place, value in enumerate(row) if value == max(known)}
    return marks


def best_of_column(rows: Sequence[Row]) -> Marks:
    """The largest number of each column, where there are two or more."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    return {(index, place) for place, index in best_of_row(columns)}


def best_total(rows: Sequence[Row]) -> Marks:
    """The same but for the last column, in which less is better."""
    turned = [[*row[:-1], None if row[-1] is None else -row[-1]] for row in rows]
    return best_of_column(turned)


def table(
    head: Sequence[str], rows: Sequence[Row], best: Callable[[Sequence[Row]], Marks] = none
) -> dict[str, Any]:
    """Return a table for the template: its first column is text; `best` says what stands out."""
    marks = best([row[1:] for row in rows])
    cells = [
        (
            str(first),
            [(_cell(value), (index, place) in marks) for place, value in enumerate(values)],
        )
        for index, (first, *values) in enumerate(rows)
    ]
    return {"head": head, "rows": cells}


def _cell(value: float | Sequence[float] | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, Sequence):
        return f"[{', '.join(f'{end:.3f}' for end in value)}]"
    return f"{value:.3f}"


def _render(data: Mapping[str, Any], sections: Sequence[Section], failures: Any) -> str:
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - in the extra `report`

    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["plain"] = _plain
    source = (files(__package__) / "report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        title=f"Evaluation of {', '.join(one['model'] for one in data['trackers'])}",
        frames=data["frames"],
        sections=sections,
        failures=failures,
        about=data.get("about"),
    )


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    return str(value)


def _total(data: Mapping[str, Any]) -> Section:
    """Totals, differences to the first tracker, and how the runs were made."""
    trackers = data["trackers"]
    rows = [
        [tracker["model"], *(tracker["total"].get(key) for key in COLUMNS.values())]
        for tracker in trackers
    ]
    tables = [table(["tracker", *COLUMNS], rows, best_total)]
    differences = [
        [one["model"], one["ao_difference"]["value"], one["ao_difference"]["interval"]]
        for one in trackers
        if "ao_difference" in one
    ]
    if differences:
        title = f"AO less that of {trackers[0]['model']}, paired by video"
        tables.append(table(["tracker", title, INTERVAL], differences))
    interval = (
        "The interval says how far the AO would move with other videos of the same kinds "
        "(percentile bootstrap over the videos)."
    )
    remarks = [interval]
    streams = data.get("stream") or {}
    parts = []
    for name, one in streams.items():
        given = one["latency_ms"]
        latency = "as measured" if given is None else f"{given:g} ms"
        parts.append(f"{name}: {latency}, {one['processed']:.1%} of frames processed")
    if parts:
        fps = next(iter(streams.values()))["fps"]
        latencies = "; ".join(parts)
        remarks.append(f"As a stream of {fps:g} frames a second, with the latency of {latencies}.")
    if data.get("start"):
        remarks.append("; ".join(starts_text(data["start"]).splitlines()) + ".")
    return Section("Total", tables=tables, remarks=remarks)


def _kinds(data: Mapping[str, Any]) -> list[Section]:
    if not data["kinds"]:
        return []
    trackers = data["trackers"]
    rows: list[Row] = []
    for kind, members in data["kinds"].items():
        rows.append([f"{kind} ({len(members)})"])
        for tracker in trackers:
            rows[-1] += [tracker["kinds"][kind]["ao"], tracker["kinds"][kind]["ao_interval"]]
    head = ["AO (videos)"]
    for tracker in trackers:
        head += [tracker["model"], INTERVAL]
    return [Section("Kinds", tables=[table(head, rows, best_of_row)])]


def _benchmark(about: Mapping[str, Any] | None) -> list[Section]:
    if not about:
        return []
    totals = about["totals"]
    keys = list(next(iter(totals.values())))
    rows = [[name, *(numbers[key] for key in keys)] for name, numbers in totals.items()]
    best = none if "threshold" in keys else best_of_column
    title = f"By the rules of {about['name']}"
    return [Section(title, tables=[table(["tracker", *keys], rows, best)])]


def _long_term(about: Mapping[str, Any] | None) -> list[Section]:
    if not about:
        return []
    names = ("long_term", "short_term")
    rows = [[name, *(about[name][key] for key in LONG_TERM.values())] for name in names]
    return [Section(f"Long term: {about['model']}", tables=[table(["", *LONG_TERM], rows)])]


def _reliability(found: Mapping[str, Mapping[str, Any]]) -> list[Section]:
    if not found:
        return []
    note = (
        "How often a box with such a score had an IoU of 0.5 or more; darker bars hold more "
        "frames. A calibrated score lies on the diagonal. Calibrated: the long-term tracker's "
        "confidence, over the frames in which it measured."
    )
    charts = [reliability_chart(name, about["ece"], about["rows"]) for name, about in found.items()]
    return [Section("Reliability of the score", notes=[note], charts=charts)]


def _charts(trackers: Sequence[Mapping[str, Any]]) -> list[str]:
    pixels = Axis("centre error, pixels", 50.0, (0, 10, 20, 30, 40, 50))
    sizes = Axis("centre error, target sizes", 0.5, (0, 0.1, 0.2, 0.3, 0.4, 0.5))
    charts = (
        ("Success (AUC)", "success", "auc", Axis("overlap threshold", 1.0, FRACTION)),
        ("Precision (at 20 px)", "precision", "precision", pixels),
        ("Normalised precision (area)", "norm_precision", "norm_precision", sizes),
    )
    drawn = []
    for title, curve, key, axis in charts:
        ranked = _ranked(trackers, key)
        lines = [
            Line(f"{one['model']}  {one['total'].get(key, 0.0):.3f}", one["curves"][curve], style)
            for style, one in ranked
        ]
        drawn.append(line_chart(title, axis, "share of frames", lines))
    return drawn


def _overlap_chart(data: Mapping[str, Any]) -> str:
    low, high = data["eao_range"]
    axis = Axis(f"frames after the start; EAO: mean from {low} to {high}", high, (0, low, high))
    ranked = _ranked(data["trackers"], "eao")
    lines = [
        Line(f"{one['model']}  {one['total']['eao']:.3f}", one["curve"], style)
        for style, one in ranked
    ]
    return line_chart("Expected average overlap", axis, "mean overlap", lines)


def _ranked(trackers: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, Mapping[str, Any]]]:
    """The best first, each with its number."""
    return sorted(enumerate(trackers), key=lambda one: -one[1]["total"].get(key, 0.0))
