# SPDX-License-Identifier: Apache-2.0
"""Charts of the benchmarks: a page beside the results, and the images of docs/performance.md.

    python -m benchmarks.charts benchmarks/results/performance --images docs/images

`make bench` writes the page by itself.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.operators import KINDS
from vt_models.cli.bench import TORCH_FORM
from vt_models.evaluation.reports.page import Sections, fill_page, side_by_side
from vt_models.evaluation.reports.plots import bar_chart
from vt_models.files import write_text

Results = Mapping[str, Mapping[str, Any]]
"""Result files by the name of their part."""


def main(arguments: list[str] | None = None) -> int:
    """Write the page, and the images where they are wanted."""
    parser = argparse.ArgumentParser(prog="benchmarks.charts", description=__doc__)
    parser.add_argument("results", type=Path, help="directory of the result files")
    parser.add_argument("--images", type=Path, help="directory to write the charts to as SVG")
    args = parser.parse_args(arguments)
    write_page(args.results)
    if args.images is not None:
        for name, chart in charts(read(args.results)).items():
            write_text(args.images / f"performance_{name}.svg", with_namespace(chart))
    return 0


def read(directory: Path) -> dict[str, dict[str, Any]]:
    """Read the result files of a directory, those that are there."""
    files = {part: directory / f"{part}.json" for part in ("speed", "node", "scaling", "operators")}
    return {
        part: json.loads(file.read_text(encoding="utf-8"))
        for part, file in files.items()
        if file.is_file()
    }


def write_page(directory: Path) -> None:
    """Write `report.html` with the charts of the result files beside it, if there are any."""
    results = read(directory)
    if results:
        drawn = charts(results)
        sections: Sections = {"Charts": [side_by_side(list(drawn.values()))]}
        about = {
            f"{part}, {key}": result[key]
            for part, result in results.items()
            for key in ("command", "commit", "date", "machine")
        }
        write_text(directory / "report.html", fill_page("Speed", sections, about))


def charts(results: Results) -> dict[str, str]:
    """Draw what the result files hold; `svg` elements by name."""
    drawn = {}
    if "speed" in results:
        over = results["speed"]["cpu_ratio"]["over_nanotrack"]
        one_form = {name: one for name, one in over.items() if not name.endswith(TORCH_FORM)}
        rows = {name: {"": one} for name, one in sorted(one_form.items(), key=lambda one: one[1])}
        if rows:
            title = "Processor time of an update over that of NanoTrack v2"
            drawn["speed"] = bar_chart(title, "times NanoTrack v2", rows)
    if "operators" in results:
        rows = {
            name: {label: 100.0 * model["kinds"][kind]["share"] for kind, label in KINDS.items()}
            for name, model in results["operators"]["models"].items()
        }
        if rows:
            title = "Where the search graph spends its time"
            drawn["operators"] = bar_chart(title, "per cent", rows, stacked=True)
    if "node" in results:
        rows = {}
        for case, numbers in results["node"]["cases"].items():
            kind, size = case.split("_")
            rows.setdefault(size, {})[kind] = numbers["thread_cpu_ms"]
        title = "The node's tracking thread beside its network, processor time a frame"
        drawn["node"] = bar_chart(title, "milliseconds", rows, ".1f")
    if "scaling" in results:
        groups = results["scaling"]["groups"]
        rows = {
            name.removeprefix("image_"): {
                form.replace("_", " "): group[form]["cpu_median_ms"]
                for form in ("short_term", "long_term")
            }
            for name, group in groups.items()
            if name.startswith("image_")
        }
        title = "Update of the default model by the size of the image, processor time"
        drawn["image_size"] = bar_chart(title, "milliseconds", rows, ".1f")
    return drawn


def with_namespace(chart: str) -> str:
    """Make a file of an `svg` element that stood in a page."""
    return f'<?xml version="1.0" encoding="utf-8"?>\n{chart.rstrip()}\n'


if __name__ == "__main__":
    sys.exit(main())
