# SPDX-License-Identifier: Apache-2.0
"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vt_models.evaluation.runner import Report

COLUMNS = {
    "AO": "ao",
    "SR0.50": "sr50",
    "SR0.75": "sr75",
    "AUC": "auc",
    "P": "precision",
    "NP": "norm_precision",
    "ms/frame": "ms_per_frame",
}
"""JSON names of the usual metrics by their heading."""


def to_text(reports: Sequence[Report]) -> str:
    """A table for each report and, if there are several, one that compares their totals."""
    tables = [table(report.model, COLUMNS, _rows(report)) for report in reports]
    if len(reports) > 1:
        totals = [(report.model, report.total) for report in reports]
        tables.append(table("total", COLUMNS, totals))
    return "\n\n".join(tables)


def table(
    title: str, columns: Mapping[str, str], rows: Sequence[tuple[str, Mapping[str, float]]]
) -> str:
    """Lines of text: a heading, then a line a row; "-" where a number is unknown.

    Args:
        title: heading of the first column.
        columns: keys of the numbers by their heading.
        rows: name and numbers.
    """
    width = max([len(title), *(len(name) for name, _ in rows)])
    widths = {head: max(len(head) + 2, 10) for head in columns}
    lines = [f"{title:<{width}}" + "".join(f"{head:>{widths[head]}}" for head in columns)]
    for name, numbers in rows:
        cells = (_cell(head, numbers.get(key), widths[head]) for head, key in columns.items())
        lines.append(f"{name:<{width}}" + "".join(cells))
    return "\n".join(lines)


def _rows(report: Report) -> list[tuple[str, Mapping[str, float]]]:
    rows = [(result.name, result.to_dict()) for result in report.results]
    return [*rows, ("total", report.total)]


def _cell(head: str, value: float | None, width: int) -> str:
    if value is None:
        return f"{'-':>{width}}"
    return f"{value:>{width}.{2 if head == 'ms/frame' else 3}f}"
