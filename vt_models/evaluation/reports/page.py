# SPDX-License-Identifier: Apache-2.0
"""The report's page: one HTML text with its style, charts and images inside.

The layout is the Jinja2 template `report.html.j2` beside this module; here is what fills it. The
template escapes every text. Jinja2 and matplotlib come with the extra `report`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from markupsafe import Markup

from vt_models.evaluation.reports.attention import HOW_TO_READ, SeenFrame, figures_of
from vt_models.evaluation.reports.failures import Strips
from vt_models.evaluation.reports.plots import bar_chart, line_chart, reliability_chart, to_svg
from vt_models.evaluation.reports.tables import (
    TIME,
    Table,
    errors_section,
    real_time_section,
    summary,
    vot_totals,
)
from vt_models.evaluation.reports.templates import render

Sections: TypeAlias = "dict[str, list[Table | str]]"
"""Tables, paragraphs and charts by their heading."""
RELIABILITY = (
    "How often a box with such a score had an IoU of 0.5 or more; darker bars hold more frames. "
    "A calibrated score lies on the diagonal. Calibrated: the long-term tracker's confidence, over "
    "the frames in which it measured."
)


def page(
    data: Mapping[str, Any], strips: Sequence[Strips] | None, seen: Sequence[SeenFrame] = ()
) -> str:
    """Make the page of an evaluation.

    Args:
        data: what `report.write_report` or `VotOutcome.save` writes as JSON.
        strips: for each tracker its failures, each with the image as a data URI; None for a page
            without them.
        seen: what networks saw.
    """
    trackers = data["trackers"]
    failures = None
    if strips is not None:
        failures = [
            (tracker["model"], len(tracker["failures"]), shown)
            for tracker, shown in zip(trackers, strips, strict=True)
        ]
    return fill_page(
        f"Evaluation of {', '.join(one['model'] for one in trackers)}",
        _of_vot(data) if "protocol" in data else _of_one_pass(data),
        data.get("about"),
        data["frames"],
        failures,
        seen,
    )


def fill_page(
    title: str,
    sections: Sections,
    about: Mapping[str, Any] | None,
    frames: Mapping[str, int] | None = None,
    failures: Sequence[tuple[str, int, Sequence[Any]]] | None = None,
    seen: Sequence[SeenFrame] = (),
) -> str:
    """Fill the template of a report.

    Args:
        title: of the page.
        sections: its tables, paragraphs and charts (`side_by_side`).
        about: what a reader needs to repeat it.
        frames: of sequences, by name; None where there are none.
        failures: of each tracker its name, how many there are, and those that are shown.
        seen: what networks saw.
    """
    return render(
        "report.html.j2",
        title=title,
        frames=frames or {},
        sections=sections,
        failures=failures,
        attention=[{**vars(one), "figures": figures_of(one.explanation)} for one in seen],
        how_to_read=HOW_TO_READ,
        about=about,
    )


def _of_one_pass(data: Mapping[str, Any]) -> Sections:
    trackers = data["trackers"]
    models = [tracker["model"] for tracker in trackers]
    sections = summary(data)
    sections["Total"].append(
        "The interval says how far the AO would move with other videos of the same kinds "
        "(percentile bootstrap over the videos). A difference is paired by video."
    )
    charts = (
        ("Success (AUC)", "success", "auc", ("overlap threshold", 1.0)),
        ("Precision (at 20 px)", "precision", "precision", ("centre error, pixels", 50.0)),
        (
            "Normalised precision (area)",
            *("norm_precision", "norm_precision", ("centre error, target sizes", 0.5)),
        ),
    )
    drawn = []
    for title, curve, key, x_axis in charts:
        curves = [(t["model"], t["total"].get(key, 0.0), t["curves"][curve]) for t in trackers]
        drawn.append(line_chart(title, x_axis, "share of frames", curves))
    sections["Curves"] = [side_by_side(drawn)]
    times = {one["model"]: {TIME: one["total"]["ms_per_frame"]} for one in trackers}
    sections["Time"] = [
        "Of an update, by the clock, one tracker after the other; `vt-models bench` takes turns.",
        side_by_side([bar_chart("Time per frame", "milliseconds", times, ".1f")]),
    ]
    areas = [
        (f"{name} ({len(members)})", [t["attributes"].get(name, {}).get("auc") for t in trackers])
        for name, members in data["attributes"].items()
    ]
    sections["Attributes"] = ["No sequence has an attribute."]
    if areas:
        sections["Attributes"] = [Table("AUC (sequences)", models, areas, "row")]
    overlaps = [
        (f"{name} ({count})", [t["sequences"].get(name, {}).get("ao") for t in trackers])
        for name, count in data["frames"].items()
    ]
    sections["Sequences"] = [Table("AO (frames)", models, overlaps, "row")]
    if data["reliability"]:
        diagrams = [
            to_svg(reliability_chart(name, found["ece"], found["rows"]))
            for name, found in data["reliability"].items()
        ]
        sections["Reliability of the score"] = [
            RELIABILITY,
            side_by_side(diagrams),
        ]
    return sections


def _of_vot(data: Mapping[str, Any]) -> Sections:
    trackers, (low, high) = data["trackers"], data["eao_range"]
    models = [tracker["model"] for tracker in trackers]
    curves = [(t["model"], t["total"]["eao"], t["curve"]) for t in trackers]
    x_axis = (f"frames after the start; EAO: mean from {low} to {high}", high)
    title = "Expected average overlap"
    sections: Sections = {
        f"Total ({data['protocol']})": [vot_totals(trackers)],
        title: [side_by_side([line_chart(title, x_axis, "mean overlap", curves)])],
    }
    for key in next(iter(trackers[0]["sequences"].values())):
        rows = [
            (f"{name} ({count})", [t["sequences"].get(name, {}).get(key) for t in trackers])
            for name, count in data["frames"].items()
        ]
        sections[f"Sequences: {key}"] = [Table("sequence (frames)", models, rows, "row")]
    return {**errors_section(data), **real_time_section(trackers), **sections}


def side_by_side(charts: Sequence[str]) -> str:
    """Put charts, which are SVG, beside one another, as the template takes them as they are."""
    return Markup(f'<div class="charts">{"".join(charts)}</div>')  # noqa: S704 - of matplotlib
