# SPDX-License-Identifier: Apache-2.0
"""Name what has become more than 10 % slower than the committed results (`make bench-check`).

    python -m benchmarks.check

measures the models, the node and the scaling anew and compares ratios, not milliseconds: of an
update's processor time over that of NanoTrack v2 (CSRT where its weights are missing) in the same
run, of the node's and the scaling's over a fixed piece of work that took turns with them. A ratio
is the median over the repeats. What this machine cannot do is skipped, with the reason. Ends with 1
if something has become slower.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import run
from benchmarks.charts import read
from benchmarks.result_file import with_final_load, write_result
from benchmarks.scaling import REFERENCE
from vt_models.cli.bench import TORCH_FORM
from vt_models.errors import VtModelsError
from vt_models.evaluation.speed import cpu_ratio

PARTS = ("speed", "scaling", "node")
COMMITTED, FRESH = Path("benchmarks/results/performance"), Path("benchmarks/results/local/check")
ALLOWED, MOST_DROPS = 0.10, 0.05
REFERENCES = ("nanotrack", "csrt")
"""Trackers that none of this project's changes make faster, the preferred one first."""


@dataclass
class Comparison:
    """What a comparison found.

    Attributes:
        slower: sentences about what has become slower.
        same: about the rest of what was compared.
        skipped: about what was not compared, with the reason.
    """

    slower: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def main(arguments: list[str] | None = None) -> int:
    """Measure, compare, and print; the exit code is 1 if something has become slower."""
    parser = argparse.ArgumentParser(prog="benchmarks.check", description=__doc__)
    add = parser.add_argument
    add("--against", type=Path, default=COMMITTED, help="earlier results; default: %(default)s")
    add("--only", default=",".join(PARTS), help="default: %(default)s")
    add("--rate", type=float, help="of the node's images, Hz; default: the earlier one")
    add("--fresh", type=Path, help="compare the results there; default: measure anew")
    add("--output", type=Path, default=FRESH, help="of what is measured; default: %(default)s")
    args = parser.parse_args(arguments)
    rate = [] if args.rate is None else ["--rate", str(args.rate)]
    options = run.parse(["--only", args.only, "--peak-repeats", "0", *rate])
    committed = read(args.against)
    found = Comparison()
    measured = read(args.fresh) if args.fresh is not None else {}
    for part in options.only:
        if part not in committed:
            found.skipped.append(f"{part}: there is no {args.against / part}.json to compare with")
            continue
        if args.fresh is None:
            try:
                if args.rate is None:
                    options.rate = committed[part].get("rate", options.rate)
                measured[part] = _measure(part, committed[part], options)
            except VtModelsError as error:
                found.skipped.append(f"{part}: {error}")
                continue
            write_result(args.output / f"{part}.json", measured[part])
        if part not in measured:
            found.skipped.append(f"{part}: there is no {args.fresh / part}.json")
            continue
        compare(part, committed[part], measured[part], found)
    for title, lines in vars(found).items():
        for line in lines:
            print(f"{title}: {line}")
    if not found.slower and not found.same:
        print("nothing was compared")
    return int(bool(found.slower))


def compare(
    part: str, before: Mapping[str, Any], now: Mapping[str, Any], found: Comparison
) -> None:
    """Compare two results of the same part.

    Args:
        part: one of `PARTS`.
        before, now: the JSON objects of the result files.
        found: what is found is added to it.
    """
    widths = before["machine"].get("vector"), now["machine"].get("vector")
    if widths[0] != widths[1]:
        found.skipped.append(
            f"{part}: the earlier result is of a machine with {widths[0]}, this one has "
            f"{widths[1]}, and ratios differ between them; measure the earlier commit here"
        )
        return
    reference = next((name for name in REFERENCES if _has(before, name) and _has(now, name)), None)
    if part == "speed" and reference is None:
        found.skipped.append(f"speed: neither {' nor '.join(REFERENCES)} is in both results")
        return
    earlier, later = ratios(part, before, reference), ratios(part, now, reference)
    for name, ratio in earlier.items():
        if name not in later:
            if name.endswith("all threads"):
                continue  # said below
            reason = now.get("left_out", {}).get(name.removeprefix(f"{part} "), "not measured")
            found.skipped.append(f"{name}: {reason}")
            continue
        change = later[name] / ratio - 1.0
        said = f"{name}: {later[name]:.3f} of {reference or 'the fixed work'}, was {ratio:.3f}"
        is_slower = change > ALLOWED
        (found.slower if is_slower else found.same).append(f"{said} ({change:+.0%})")
    dropped = {f"node {case}": one["drops"] for case, one in now.get("cases", {}).items()}
    found.skipped += [
        f"{name}, all threads: {drops:.0%} of the images were dropped, which cost time too; end "
        "other programs, or give a lower --rate"
        for name, drops in dropped.items()
        if drops > MOST_DROPS
    ]
    found.skipped += [f"{name}: not in the earlier result" for name in later if name not in earlier]


def ratios(part: str, result: Mapping[str, Any], reference: str | None) -> dict[str, float]:
    """Return processor times over that of the reference, medians over the repeats, by name."""
    if part == "node":
        keys = {"": "thread_cpu_ms", ", all threads": "cpu_median_ms"}
        return {
            f"node {case}{suffix}": float(
                np.median([one[key] / one["reference_cpu_ms"] for one in numbers["repeats"]])
            )
            for case, numbers in result["cases"].items()
            for suffix, key in keys.items()
            if suffix == "" or numbers["drops"] <= MOST_DROPS
        }
    if part == "scaling":
        return {
            f"scaling {group} {name}": _over(one, trackers[REFERENCE])
            for group, trackers in result["groups"].items()
            for name, one in trackers.items()
            if name != REFERENCE
        }
    trackers = result["trackers"]
    return {
        f"speed {name}": _over(one, trackers[reference])
        for name, one in trackers.items()
        if one["weights"] != "baseline" and not name.endswith(TORCH_FORM)
    }


def _over(one: Mapping[str, Any], reference: Mapping[str, Any]) -> float:
    return cpu_ratio(one, reference)


def _has(result: Mapping[str, Any], tracker: str) -> bool:
    return tracker in result.get("trackers", {})


def _measure(
    part: str, committed: Mapping[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Measure the models of the committed result, without their plain PyTorch form."""
    if part == "speed":
        kinds = {name: one["weights"] for name, one in committed["trackers"].items()}
        options.model = [
            name
            for name, kind in kinds.items()
            if kind != "baseline" and not name.endswith(TORCH_FORM)
        ]
        options.baselines = [name for name in kinds if name in REFERENCES]
        options.plain_torch = False
    return with_final_load(run.PARTS[part](options))


if __name__ == "__main__":
    sys.exit(main())
