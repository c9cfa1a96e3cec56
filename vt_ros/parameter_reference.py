# SPDX-License-Identifier: Apache-2.0
"""Parameters where people look for them: `python -m vt_ros.parameter_reference` writes them there.

They are config/tracker.yaml, and the tables of docs/ between `<!-- parameters NODE PREFIX -->` and
`<!-- /parameters -->`: those of a node whose name begins with the prefix, without it.
"""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

from vt_ros.camera import parameters as camera_parameters
from vt_ros.common.parameters import Setting, Value
from vt_ros.console import parameters as console_parameters
from vt_ros.look_at import parameters as look_at_parameters
from vt_ros.mavlink_camera import parameters as mavlink_camera_parameters
from vt_ros.target_3d import parameters as target_3d_parameters
from vt_ros.tracker import parameters as tracker_parameters

ROOT = Path(__file__).resolve().parents[1]
NODES = {
    "tracker": tracker_parameters.SETTINGS,
    "camera": camera_parameters.SETTINGS,
    "mavlink_camera": mavlink_camera_parameters.SETTINGS,
    "look_at": look_at_parameters.SETTINGS,
    "target_3d": target_3d_parameters.SETTINGS,
    "console": console_parameters.SETTINGS,
}
PAGES = (
    "docs/ros/parameters.md",
    "docs/longterm.md",
    "docs/robots/qgroundcontrol.md",
    "docs/ros/look_at.md",
    "docs/ros/target_3d.md",
    "docs/ros/console.md",
)
TABLE = re.compile(r"(<!-- parameters (\w+) ?(\S*) -->\n).*?(\n<!-- /parameters -->)", re.DOTALL)
PARAMETER_FILE = "config/tracker.yaml"
HEADER = """\
# SPDX-License-Identifier: Apache-2.0
# Parameters of the nodes of vt_ros with their defaults; a node's name matches in any namespace.
# Nothing is set here: in a copy of this file, remove the first # from the lines that you need, with
# those above that they belong to, and start with params_file:=COPY or --params-file COPY.
# "live": `ros2 param set` takes effect at once, also while a target is tracked. Of the others those
# of a lifecycle node may change while it is not active, those of the camera count at start.
"""


def parameter_file() -> str:
    """Return the text of the YAML file with every parameter and its default, as comments."""
    lines: list[str] = []
    for node, settings in NODES.items():
        lines += ["", f"/**/{node}:", "  ros__parameters:"]
        above: list[str] = []
        for setting in settings:
            *groups, name = setting.name.split(".")
            if groups != above and groups:
                lines += [f"    {'.'.join(groups)}:"]
            indent = "    " + "  " * len(groups)
            when = "live" if setting.live else "at start only" if setting.read_only else ""
            limits = "; ".join(filter(None, (_range(setting, "one of "), when)))
            comment = setting.description.removesuffix(".") + (limits and f" ({limits})") + "."
            start = f"{indent}# "
            lines += textwrap.wrap(comment, 99, initial_indent=start, subsequent_indent=start)
            lines.append(f"{indent}{name}: {json.dumps(setting.default)}")
            above = groups
    return HEADER + "\n".join(line and f"#{line}" for line in lines) + "\n"


def with_tables(page: str) -> str:
    """Return a page with its tables of parameters as they are now."""

    def replaced(match: re.Match[str]) -> str:
        start, node, prefix, end = match.groups()
        lines = ["| Parameter | Default | Range | Changes | What |", "|---|---|---|---|---|"]
        for setting in NODES[node]:
            if setting.name.startswith(prefix):
                when = "at start" if setting.read_only else "not at work"
                lines.append(
                    f"| `{setting.name.removeprefix(prefix)}` | `{_shown(setting.default)}` "
                    f"| {_range(setting)} | {'at any time' if setting.live else when} "
                    f"| {setting.description} |"
                )
        return start + "\n" + "\n".join(lines) + "\n" + end

    return TABLE.sub(replaced, page)


def _shown(value: Value) -> str:
    if isinstance(value, str) and value:
        return value
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)


def _range(setting: Setting, choices: str = "") -> str:
    if setting.choices:
        return choices + ", ".join(setting.choices)
    if setting.low is None or setting.high is None:
        return ""
    return f"{setting.low:g} to {setting.high:g}"


def main() -> None:
    """Write the file, and the tables into the pages."""
    (ROOT / PARAMETER_FILE).write_text(parameter_file(), encoding="utf-8")
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        (ROOT / page).write_text(with_tables(text), encoding="utf-8")


if __name__ == "__main__":
    main()
