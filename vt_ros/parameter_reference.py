# SPDX-License-Identifier: Apache-2.0
"""The tables of parameters in docs/ros/parameters.md: `python -m vt_ros.parameter_reference`."""

from __future__ import annotations

import sys

from vt_ros.camera import parameters as camera_parameters
from vt_ros.common.parameters import Setting
from vt_ros.tracker import parameters as tracker_parameters

TABLES = {"tracker": tracker_parameters.SETTINGS, "camera": camera_parameters.SETTINGS}

_NUMBERS = 4


def table(rows: tuple[Setting, ...]) -> str:
    """Return a Markdown table of parameters."""
    lines = ["| Parameter | Default | Range | Changes | What |", "|---|---|---|---|---|"]
    lines += [
        f"| `{row.name}` | `{_shown(row.default)}` | {_range(row)} | {_when(row)} "
        f"| {row.description} |"
        for row in rows
    ]
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.{_NUMBERS}g}"
    return f'"{value}"' if value == "" else str(value)


def _range(row: Setting) -> str:
    if row.choices:
        return ", ".join(row.choices)
    if row.low is None or row.high is None:
        return ""
    return f"{row.low:g} to {row.high:g}"


def _when(row: Setting) -> str:
    if row.live:
        return "at any time"
    return "at start" if row.read_only else "not at work"


def main() -> int:
    """Print the tables."""
    for name, rows in TABLES.items():
        sys.stdout.write(f"## Node `{name}`\n\n{table(rows)}\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
