# SPDX-License-Identifier: Apache-2.0
"""Tables of numbers, and those that the terminal and the report's page both show.

A package for tables, such as tabulate, would replace the lines of `Table.__str__` and no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

Cell: TypeAlias = "float | str | Sequence[float] | None"
"""A number, a text, an interval [low, high], or None for what is unknown."""

INTERVAL = "95 % interval"
"""Heading of an interval over videos; it stands beside its number."""
TIME = "ms/frame"
COLUMNS = {
    "AO": "ao",
    INTERVAL: "ao_interval",
    "SR0.50": "sr50",
    "SR0.75": "sr75",
    "AUC": "auc",
    "P": "precision",
    "NP": "norm_precision",
    TIME: "ms_per_frame",
}
"""JSON names of the usual metrics by their heading."""
LONG_TERM = {
    "F-score": "f_score",
    "precision": "precision",
    "recall": "recall",
    "AO": "ao",
    "TRACKING while absent": "false_tracking",
    "TRACKING elsewhere": "wrong_tracking",
    "found in 2 s": "found",
    "s to LOST": "seconds_to_lost",
    "s to found": "seconds_to_found",
}
"""Numbers of `evaluation.longterm.metrics.summary` by their heading."""


@dataclass(frozen=True)
class Table:
    """Numbers by row and column; `str()` gives lines of text, texts to the left.

    Attributes:
        title: heading of the first column.
        columns: headings of the other ones.
        rows: a name and a cell for each column.
        best_of: of what the best number stands out on a page: "row", "column", or "" for nothing.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    best_of: str = ""

    def __str__(self) -> str:
        rows = [[self.title, *self.columns], *([name, *cells] for name, cells in self.rows)]
        lines = [""] * len(rows)
        for head, *cells in zip(*rows, strict=True):
            texts = [head, *(cell_text(cell, 2 if head == TIME else 3) for cell in cells)]
            width = max(map(len, texts))
            for index, text in enumerate(texts):
                if all(isinstance(cell, str) for cell in cells):
                    lines[index] += f"{text:<{width}}  "
                else:
                    lines[index] += f"{text:>{max(8, width)}}  "
        return "\n".join(line.rstrip() for line in lines)

    @cached_property
    def best(self) -> set[tuple[int, int]]:
        """Row and column of the best of two or more numbers, of times the least."""
        compared: dict[int, list[tuple[float, tuple[int, int]]]] = {}
        for row, (_, cells) in enumerate(self.rows):
            for column, cell in enumerate(cells):
                if self.best_of and isinstance(cell, (int, float)):
                    value = -cell if self.columns[column] == TIME else cell
                    line = row if self.best_of == "row" else column
                    compared.setdefault(line, []).append((value, (row, column)))
        return {
            place
            for line in compared.values()
            for value, place in line
            if len(line) > 1 and value == max(line)[0]
        }


def table(
    title: str,
    columns: Mapping[str, str] | Iterable[str],
    rows: Iterable[tuple[str, Mapping[str, Any]]],
    best_of: str = "",
) -> Table:
    """Return a table of named objects; `columns` has their keys by the heading, or keys alone."""
    keys = columns if isinstance(columns, Mapping) else {key: key for key in columns}
    cells = [(name, [row.get(key) for key in keys.values()]) for name, row in rows]
    return Table(title, list(keys), cells, best_of)


def cell_text(cell: Cell, digits: int = 3) -> str:
    """Return a cell as text, "-" for None."""
    if cell is None or isinstance(cell, (int, str)):
        return "-" if cell is None else str(cell)
    if isinstance(cell, Sequence):
        return f"[{', '.join(f'{end:.{digits}f}' for end in cell)}]"
    return f"{cell:.{digits}f}"


def summary(data: Mapping[str, Any]) -> dict[str, list[Table | str]]:
    """Return tables and sentences by their heading: what a run says of all its sequences.

    Args:
        data: "trackers" (`Report.to_dict` with `compare`) and, where there is such,
            "kinds" (names of sequences by kind), "benchmark" ({"name", "totals"}), "stream" and
            "start" (by tracker), "long_term" (`LongTermReport.to_dict` with "model"), "errors"
            (`errors_as_json`).
    """
    trackers = data["trackers"]
    totals = [(one["model"], one["total"]) for one in trackers]
    sections: dict[str, list[Table | str]] = {"Total": [table("total", COLUMNS, totals, "column")]}
    differences = [
        (one["model"], one["ao_difference"]) for one in trackers if "ao_difference" in one
    ]
    if differences:
        columns = {f"AO less that of {trackers[0]['model']}": "value", INTERVAL: "interval"}
        sections["Total"].append(table("difference", columns, differences))
    sections |= errors_section(data)
    if data.get("kinds"):
        heads = [head for one in trackers for head in (one["model"], INTERVAL)]
        rows = []
        for kind, members in data["kinds"].items():
            found = [one["kinds"][kind] for one in trackers]
            cells = [cell for one in found for cell in (one["ao"], one["ao_interval"])]
            rows.append((f"{kind} ({len(members)})", cells))
        sections["Kinds"] = [Table("AO (videos)", heads, rows, "row")]
    if data.get("benchmark"):
        name, found = data["benchmark"]["name"], data["benchmark"]["totals"]
        keys = list(next(iter(found.values())))
        best_of = "" if "threshold" in keys else "column"  # which is no merit
        rules = table(f"{name} rules", keys, found.items(), best_of)
        sections[f"By the rules of {name}"] = [rules]
    if data.get("stream"):
        measured = {name: total["ms_per_frame"] for name, total in totals}
        fps = next(iter(data["stream"].values()))["fps"]
        first = f"stream of {fps:g} frames a second, scored when the answer is known"
        sections["As a stream"] = [_of_streams(first, data["stream"], measured)]
    if data.get("start"):
        sections["Started by text"] = [
            "\n".join(
                f"{name}: first box found in {one['found']:.1%} of the sequences, "
                f"mean IoU {one['iou']:.3f}"
                for name, one in data["start"].items()
            )
        ]
    if data.get("long_term"):
        about = data["long_term"]
        names = ("long_term", "short_term")
        both = table("long term", LONG_TERM, [(name, about[name]) for name in names])
        sections[f"Long term: {about['model']}"] = [both]
        error, frames = about["calibration"]["ece"], about["calibration"]["frames"]
        if error is not None:
            sections[f"Long term: {about['model']}"].append(
                f"expected calibration error {error:.3f} over {frames} measured frames"
            )
    return sections


def errors_section(data: Mapping[str, Any]) -> dict[str, list[Table | str]]:
    """Say which runs ended with an error, so that nobody takes the totals for those over all.

    Reports of previous versions have "failed" for "errors".
    """
    lines = [
        f"{one['tracker']} failed and is not there: {one['reason']}"
        if one["sequence"] is None
        else f"not in the numbers of {one['tracker']}: {one['reason']}"
        for one in data.get("errors", data.get("failed", ()))
    ]
    return {"Errors": ["\n".join(lines)]} if lines else {}


def real_time_section(trackers: Sequence[Mapping[str, Any]]) -> dict[str, list[Table | str]]:
    """Say how the frames of VOT's real-time experiment came, of the trackers' JSON objects."""
    streams = {one["model"]: one["stream"] for one in trackers if "stream" in one}
    if not streams:
        return {}
    about = next(iter(streams.values()))
    first = (
        f"VOT's real-time experiment at {about['fps']:g} frames a second; the first "
        f"{about['grace']} slow steps of a run cost nothing"
    )
    measured = {name: one["ms_per_frame"] for name, one in streams.items()}
    return {"In real time": [_of_streams(first, streams, measured)]}


def _of_streams(
    first: str, streams: Mapping[str, Mapping[str, Any]], measured: Mapping[str, float]
) -> str:
    lines = [first]
    for name, one in streams.items():
        latency = f"measured latency {measured[name]:.1f} ms"
        if one["latency_ms"] is not None:
            latency = f"given latency {one['latency_ms']:g} ms"
        lines.append(f"{name}: {latency}, {one['processed']:.1%} of frames processed")
    return "\n".join(lines)


def vot_totals(trackers: Sequence[Mapping[str, Any]]) -> Table:
    """Return the totals of VOT's short-term runs, made of the trackers' JSON objects."""
    low, high = trackers[0]["eao_range"]
    totals = [(one["model"], one["total"]) for one in trackers]
    title = f"{trackers[0]['protocol']}, {low}:{high}"
    return table(title, trackers[0]["total"], totals, "column")
