# SPDX-License-Identifier: Apache-2.0
"""Speed and accuracy of every model and of the baselines, in one run (`make bench`).

    python -m benchmarks.run --root ../shared/sequences --baseline-weights ../shared/peers

writes `speed.json` and `accuracy.json` into `benchmarks/results/local`, which git ignores; add
`--output benchmarks/results` to make results to commit. Without sequences the speed is
measured on a synthetic video and the accuracy is left out. See docs/evaluation.md.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from benchmarks.result_file import SHARED, measure_into
from vt_models.api import create_tracker
from vt_models.cli import bench as bench_command
from vt_models.cli.main import declare
from vt_models.cli.options import split_names, with_current_names
from vt_models.datasets.folder import FolderDataset
from vt_models.evaluation.baselines import BASELINES
from vt_models.evaluation.provenance import command_line, provenance
from vt_models.evaluation.runs.one_pass import OnePass
from vt_models.evaluation.runs.runner import TrackerFactory, evaluate
from vt_models.evaluation.runs.trackers import evaluated_baselines
from vt_models.registry import get_spec, list_models
from vt_models.runtime.installed_weights import bundled_directory

RESULTS = Path("benchmarks/results/local")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks; 2 and one line on standard error where that is impossible."""
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__)
    add = parser.add_argument
    add("--only", choices=("speed", "accuracy"), help="default: both")
    add("--root", type=Path, default=SHARED / "sequences", help="default: %(default)s")
    add("--sequence", default="tlp_Bike", help="speed is measured on it; default: %(default)s")
    known = ",".join(BASELINES)
    add("--baselines", type=split_names, default=list(BASELINES), help=f"default: {known}")
    add("--baseline-weights", type=Path, default=SHARED / "peers", help="default: %(default)s")
    add("--model", type=split_names, default=list_models(), help="comma-separated; default: all")
    add("--repeats", default="5", help="of the speed benchmark; default: %(default)s")
    add("--output", type=Path, default=RESULTS, help="directory; default: %(default)s")
    given = sys.argv[1:] if arguments is None else arguments
    args = parser.parse_args(with_current_names(["bench", *given])[1:])
    has_sequences = args.root.is_dir()
    if not has_sequences:
        missing = f"{args.root}: no such directory; no accuracy, speed on a synthetic video"
        print(missing, file=sys.stderr)
    status = 0
    if args.only != "accuracy":
        status = measure_into(args.output / "speed.json", lambda: _speed(args, has_sequences))
    if args.only != "speed" and has_sequences:
        status |= measure_into(args.output / "accuracy.json", lambda: _accuracy(args))
    return status


def _speed(args: argparse.Namespace, has_sequences: bool) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    declare("bench", parser)
    options = ["--model", ",".join(args.model), "--repeats", args.repeats, "--device", "cpu"]
    options += ["--baselines", ",".join(args.baselines)]
    options += ["--baseline-weights", str(args.baseline_weights)]
    if has_sequences:
        options += ["--root", str(args.root), "--sequence", args.sequence]
    result = bench_command.bench(parser.parse_args(options))
    print(bench_command.to_text(result))
    return result


def _accuracy(args: argparse.Namespace) -> dict[str, Any]:
    """Every model that has weights, and the baselines, over all sequences with one thread."""
    about = provenance(command_line(), seed=0)
    cv2.setNumThreads(1)
    sequences = FolderDataset(args.root)
    factories: dict[str, TrackerFactory] = {
        name: partial(create_tracker, name, device="cpu", threads=1)
        for name in args.model
        if bundled_directory(get_spec(name)) is not None
    }
    baselines = evaluated_baselines(args.baselines, args.baseline_weights)
    factories |= {baseline.name: baseline.factory for baseline in baselines}
    reports = [evaluate(factory, sequences, model=name) for name, factory in factories.items()]
    print(OnePass(reports, sequences, {}, None, {}, {}).to_text())
    return {
        "benchmark": "accuracy",
        **about,
        "threads": 1,
        "sequences": {sequence.name: len(sequence) for sequence in sequences},
        "trackers": {report.model: report.to_dict() for report in reports},
        "left_out": sorted({*args.model, *args.baselines} - set(factories)),
    }


if __name__ == "__main__":
    sys.exit(main())
