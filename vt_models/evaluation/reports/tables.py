# SPDX-License-Identifier: Apache-2.0
"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vt_models.evaluation.reports.comparison import Kinds, ao_difference, scores_by_kind
from vt_models.evaluation.runs.runner import Report

INTERVAL = "95 % interval"
"""Heading of an interval over videos; it stands beside its number."""
COLUMNS = {
    "AO": "ao",
    INTERVAL: "ao_interval",
    "SR0.50": "sr50",
    "SR0.75": "sr75",
    "AUC": "auc",
    "P": "precision",
    "NP": "norm_precision",
    "ms/frame": "ms_per_frame",
}
"""JSON names of the usual metrics by their heading."""


def to_text(reports: Sequence[Report]) -> str:
    """A table for each report and, if there are several, two that compare their totals."""
    tables = [table(report.model, COLUMNS, _rows(report)) for report in reports]
    first, *others = reports
    if others:
        totals = [(report.model, report.to_dict()["total"]) for report in reports]
        tables.append(table("total", COLUMNS, totals))
    if others and first.is_scored:
        columns = {f"AO less that of {first.model}": "value", INTERVAL: "interval"}
        rows = [(report.model, ao_difference(report, first)) for report in others]
        tables.append(table("difference", columns, rows))
    return "\n\n".join(tables)


def kinds_text(reports: Sequence[Report], kinds: Kinds) -> str:
    """A table of the kinds of videos: of each tracker the AO and its 95 % interval over videos."""
    found = {report.model: scores_by_kind(report, kinds) for report in reports}
    rows = []
    for kind, members in kinds.items():
        row = {"videos": str(len(members))}
        for model, scores in found.items():
            row[model] = f"{_text(scores[kind]['ao'])} {_text(scores[kind]['ao_interval']):>14}"
        rows.append((kind, row))
    return table(f"AO by kind, {INTERVAL}", {key: key for key in ("videos", *found)}, rows)


def table(
    title: str, columns: Mapping[str, str], rows: Sequence[tuple[str, Mapping[str, Any]]]
) -> str:
    """Lines of text: a heading, then a line a row; "-" where a number is unknown.

    Args:
        title: heading of the first column.
        columns: keys of the cells by their heading.
        rows: name and cells: numbers, intervals [low, high] or texts.
    """
    cells = [
        [_text(row.get(key), 2 if head == "ms/frame" else 3) for head, key in columns.items()]
        for _, row in rows
    ]
    first = max([len(title), *(len(name) for name, _ in rows)])
    widths = [max(10, 2 + max(map(len, column))) for column in zip(columns, *cells, strict=True)]
    lines = []
    for name, texts in zip((title, *(name for name, _ in rows)), (columns, *cells), strict=True):
        columns_text = (f"{text:>{width}}" for text, width in zip(texts, widths, strict=True))
        lines.append(f"{name:<{first}}" + "".join(columns_text))
    return "\n".join(lines)


def _rows(report: Report) -> list[tuple[str, Mapping[str, Any]]]:
    rows = [(result.name, result.to_dict()) for result in report.results]
    return [*rows, ("total", report.to_dict()["total"])]


def _text(value: float | str | Sequence[float] | None, digits: int = 3) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return f"[{', '.join(f'{end:.{digits}f}' for end in value)}]"
    return f"{value:.{digits}f}"
