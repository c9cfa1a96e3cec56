# SPDX-License-Identifier: Apache-2.0
"""The report's page: one HTML text with its style, charts and images inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from vt_models.evaluation.reports.html import (
    about_list,
    best_of_column,
    best_of_row,
    best_total,
    document,
    none,
    table,
)
from vt_models.evaluation.reports.plots import FRACTION, Axis, Line, line_chart, reliability_chart
from vt_models.evaluation.reports.tables import COLUMNS, INTERVAL
from vt_models.evaluation.runs.text_start import starts_text

if TYPE_CHECKING:
    from vt_models.evaluation.reports.failures import Failure

Strips = list[tuple["Failure", str]]

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
"""Numbers of `longterm.summary` by their heading."""

INTERVAL_NOTE = (
    "<p>The interval says how far the AO would move with other videos of the same kinds "
    "(percentile bootstrap over the videos).</p>"
)

FAILURES_INTRODUCTION = (
    "<h2>Failures</h2><p>Where the boxes part, the longest first: five frames before, the first "
    'without overlap, five after. <b class="truth">Truth</b>, <b class="tracker">tracker</b>.</p>'
)


def page(data: Mapping[str, Any], strips: Sequence[Strips]) -> str:
    """The page of a one-pass evaluation; every text that is not ours is escaped.

    Args:
        data: what `report.write_report` writes as JSON.
        strips: for each tracker its failures, each with the image as a data URI.
    """
    trackers = data["trackers"]
    sections = [
        _heading(data),
        "<h2>Total</h2>"
        + _total_table(trackers)
        + _differences(trackers)
        + _stream(data.get("stream"))
        + _starts(data.get("start")),
        _kinds(data),
        _benchmark(data.get("benchmark")),
        "<h2>Curves</h2>" + _charts(trackers),
        "<h2>Attributes</h2>" + _attribute_table(data),
        "<h2>Sequences</h2>" + _sequence_table(data),
        _reliability(data["reliability"]),
        _long_term(data.get("long_term")),
        _failures(trackers, strips),
        about_list(data.get("about")),
    ]
    return document(_title(data), sections)


def vot_page(data: Mapping[str, Any]) -> str:
    """The page of VOT's short-term runs.

    Args:
        data: what `VotOutcome.save` writes as JSON.
    """
    trackers = data["trackers"]
    keys = list(trackers[0]["total"])
    totals = [[one["model"], *(one["total"][key] for key in keys)] for one in trackers]
    sections = [
        _heading(data),
        f"<h2>Total ({escape(data['protocol'])})</h2>" + table(["tracker", *keys], totals),
        "<h2>Expected average overlap</h2>" + _overlap_chart(data),
    ]
    for key in next(iter(trackers[0]["sequences"].values())):
        rows = [
            [f"{name} ({count})", *(one["sequences"][name][key] for one in trackers)]
            for name, count in data["frames"].items()
        ]
        head = ["sequence (frames)", *(one["model"] for one in trackers)]
        sections.append(f"<h2>Sequences: {escape(key)}</h2>{table(head, rows, best_of_row)}")
    return document(_title(data), [*sections, about_list(data.get("about"))])


def _title(data: Mapping[str, Any]) -> str:
    return f"Evaluation of {', '.join(one['model'] for one in data['trackers'])}"


def _heading(data: Mapping[str, Any]) -> str:
    frames = data["frames"]
    return (
        f"<h1>{escape(_title(data))}</h1>"
        f"<p>{len(frames)} sequences, {sum(frames.values())} frames.</p>"
    )


def _total_table(trackers: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [tracker["model"], *(tracker["total"].get(key) for key in COLUMNS.values())]
        for tracker in trackers
    ]
    return table(["tracker", *COLUMNS], rows, best_total) + INTERVAL_NOTE


def _differences(trackers: Sequence[Mapping[str, Any]]) -> str:
    """Of each tracker but the first, where AO is known."""
    rows = [
        [one["model"], one["ao_difference"]["value"], one["ao_difference"]["interval"]]
        for one in trackers
        if "ao_difference" in one
    ]
    head = ["tracker", f"AO less that of {trackers[0]['model']}, paired by video", INTERVAL]
    return table(head, rows) if rows else ""


def _kinds(data: Mapping[str, Any]) -> str:
    if not data["kinds"]:
        return ""
    trackers = data["trackers"]
    rows: list[list[Any]] = []
    for kind, members in data["kinds"].items():
        rows.append([f"{kind} ({len(members)})"])
        for tracker in trackers:
            rows[-1] += [tracker["kinds"][kind]["ao"], tracker["kinds"][kind]["ao_interval"]]
    head = ["AO (videos)"]
    for tracker in trackers:
        head += [tracker["model"], INTERVAL]
    return "<h2>Kinds</h2>" + table(head, rows, best_of_row)


def _stream(about: Mapping[str, Mapping[str, Any]] | None) -> str:
    if not about:
        return ""
    parts = []
    for name, one in about.items():
        given = one["latency_ms"]
        latency = "as measured" if given is None else f"{given:g} ms"
        parts.append(f"{name}: {latency}, {one['processed']:.1%} of frames processed")
    fps = next(iter(about.values()))["fps"]
    text = f"As a stream of {fps:g} frames a second, with the latency of {'; '.join(parts)}."
    return f"<p>{escape(text)}</p>"


def _starts(about: Mapping[str, Mapping[str, Any]] | None) -> str:
    return f"<p>{escape('; '.join(starts_text(about).splitlines()))}.</p>" if about else ""


def _benchmark(about: Mapping[str, Any] | None) -> str:
    if not about:
        return ""
    totals = about["totals"]
    keys = list(next(iter(totals.values())))
    rows = [[name, *(numbers[key] for key in keys)] for name, numbers in totals.items()]
    best = none if "threshold" in keys else best_of_column
    return (
        f"<h2>By the rules of {escape(about['name'])}</h2>{table(['tracker', *keys], rows, best)}"
    )


def _charts(trackers: Sequence[Mapping[str, Any]]) -> str:
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
    return f'<div class="charts">{"".join(drawn)}</div>'


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


def _attribute_table(data: Mapping[str, Any]) -> str:
    trackers = data["trackers"]
    rows = [
        [
            f"{name} ({len(members)})",
            *(tracker["attributes"].get(name, {}).get("auc") for tracker in trackers),
        ]
        for name, members in data["attributes"].items()
    ]
    if not rows:
        return "<p>No sequence has an attribute.</p>"
    head = ["AUC (sequences)", *(tracker["model"] for tracker in trackers)]
    return table(head, rows, best_of_row)


def _sequence_table(data: Mapping[str, Any]) -> str:
    trackers = data["trackers"]
    rows = [
        [
            f"{name} ({count})",
            *(tracker["sequences"].get(name, {}).get("ao") for tracker in trackers),
        ]
        for name, count in data["frames"].items()
    ]
    head = ["AO (frames)", *(tracker["model"] for tracker in trackers)]
    return table(head, rows, best_of_row)


def _long_term(about: Mapping[str, Any] | None) -> str:
    if not about:
        return ""
    rows = [
        [name, *(about[name][key] for key in LONG_TERM.values())]
        for name in ("long_term", "short_term")
    ]
    return f"<h2>Long term: {escape(about['model'])}</h2>" + table(["", *LONG_TERM], rows)


def _reliability(found: Mapping[str, Mapping[str, Any]]) -> str:
    if not found:
        return ""
    charts = [reliability_chart(name, about["ece"], about["rows"]) for name, about in found.items()]
    return (
        "<h2>Reliability of the score</h2><p>How often a box with such a score had an IoU of 0.5 "
        "or more; darker bars hold more frames. An honest score lies on the diagonal. Calibrated: "
        "the long-term tracker's confidence, over the frames in which it measured.</p>"
        f'<div class="charts">{"".join(charts)}</div>'
    )


def _failures(trackers: Sequence[Mapping[str, Any]], strips: Sequence[Strips]) -> str:
    parts = [FAILURES_INTRODUCTION]
    for tracker, shown in zip(trackers, strips, strict=True):
        count = len(tracker["failures"])
        of = "" if len(shown) == count else f", {len(shown)} shown"
        noun = "failure" if count == 1 else "failures"
        parts.append(f"<h3>{escape(tracker['model'])}: {count} {noun}{of}</h3>")
        figures = [_figure(failure, uri) for failure, uri in shown]
        parts.append(f'<div class="strips">{"".join(figures)}</div>')
    return "".join(parts)


def _figure(failure: Failure, uri: str) -> str:
    count = f"{failure.frames} frame{'' if failure.frames == 1 else 's'}"
    end = "then found again" if failure.returned else "never found again"
    text = f"{failure.sequence}, frame {failure.frame + 1}: lost for {count}, {end}"
    return (
        f'<figure><img src="{escape(uri)}" alt="{escape(text)}" loading="lazy">'
        f"<figcaption>{escape(text)}</figcaption></figure>"
    )
