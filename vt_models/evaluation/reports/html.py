# SPDX-License-Identifier: Apache-2.0
"""Pieces of a page: the document with its style, tables, lists. Every text is escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, TypeAlias

Row: TypeAlias = "list[Any]"
"""A name, then numbers, intervals [low, high] or None."""
Marks: TypeAlias = "set[tuple[int, int]]"
"""Rows and columns of the numbers that stand out."""

STYLE = """
:root { color-scheme: light; --line: #d5d9de; --soft: #f5f7f9; --text: #1c2329; }
body { margin: 2rem auto; max-width: 1440px; padding: 0 1.5rem; color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; background: #fff; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--line);
  padding-bottom: .3rem; }
h3 { font-size: 1rem; }
p, dd { color: #4a545e; }
code { background: var(--soft); padding: .1rem .3rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .8rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
thead th { background: var(--soft); }
tbody tr:hover { background: var(--soft); }
.best { font-weight: 700; }
.charts, .strips { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
svg { font: 12px system-ui, sans-serif; max-width: 100%; height: auto; }
svg .grid { stroke: #e1e5e9; fill: none; }
svg .title { font-weight: 600; font-size: 14px; }
figure { margin: 0; }
figure img { display: block; max-width: 100%; }
figcaption { font-size: .85rem; }
.truth { color: #00aa50; }
.tracker { color: #dc281e; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; }
dd { margin: 0; }
"""


def document(title: str, sections: Sequence[str]) -> str:
    """A page of HTML that needs no other file; sections that are empty are left out."""
    body = "\n".join(section for section in sections if section)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n"
        "</body></html>\n"
    )


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
) -> str:
    """A table whose first column is text; `best` says which numbers stand out."""
    cells = "".join(f"<th>{escape(text)}</th>" for text in head)
    marks = best([row[1:] for row in rows])
    lines = []
    for index, (first, *values) in enumerate(rows):
        columns = "".join(
            _cell(value, is_best=(index, place) in marks) for place, value in enumerate(values)
        )
        lines.append(f"<tr><td>{escape(str(first))}</td>{columns}</tr>")
    return (
        f'<div class="wide"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(value: float | Sequence[float] | None, *, is_best: bool) -> str:
    if value is None:
        text = "–"
    elif isinstance(value, Sequence):
        text = f"[{', '.join(f'{end:.3f}' for end in value)}]"
    else:
        text = f"{value:.3f}"
    return f'<td class="best">{text}</td>' if is_best else f"<td>{text}</td>"


def about_list(about: Mapping[str, Any] | None) -> str:
    """What the run was made of, as a list; nothing for nothing."""
    if not about:
        return ""
    rows = [
        f"<dt>{escape(str(name))}</dt><dd><code>{escape(_plain(value))}</code></dd>"
        for name, value in about.items()
    ]
    return f"<h2>About</h2><dl>{''.join(rows)}</dl>"


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    return str(value)
