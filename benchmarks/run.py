# SPDX-License-Identifier: Apache-2.0
"""Speed and accuracy of every model and of the baselines, in one run (`make bench`).

    python -m benchmarks.run --root ../shared/sequences --baseline-weights ../shared/peers

writes a JSON file for each part into `benchmarks/results/local`, which git ignores; add
`--output benchmarks/results` to make results to commit. Parts: `speed` (models, their plain
PyTorch form and baselines), `accuracy`, `node`, `scaling` (threads, image size, targets),
`operators`, and `alternatives` (runtimes and formats). `report.html` shows what is there. Without
sequences the speed is measured on a synthetic video and the accuracy is left out. See
docs/evaluation.md and docs/performance.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from benchmarks import alternatives, operators, scaling
from benchmarks.result_file import SHARED, measure_into
from vt_models.api import create_tracker
from vt_models.cli import bench as bench_command
from vt_models.cli.main import declare
from vt_models.cli.options import split_names, with_current_names
from vt_models.datasets.folder import FolderDataset
from vt_models.errors import BackendError, InputError
from vt_models.evaluation.baselines import BASELINES
from vt_models.evaluation.provenance import command_line, provenance
from vt_models.evaluation.reports.report import missing_extra_is_said
from vt_models.evaluation.runs.one_pass import OnePass
from vt_models.evaluation.runs.runner import TrackerFactory, evaluate
from vt_models.evaluation.runs.trackers import evaluated_baselines
from vt_models.registry import get_spec, list_models
from vt_models.runtime.installed_weights import bundled_directory

RESULTS = Path("benchmarks/results/local")
DEFAULT_MODEL = "asymtrack_lite0"
"""Of the node, and of what is measured against threads, image size and targets."""


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks; 2 and one line on standard error where one is impossible."""
    args = parse(arguments)
    status = 0
    for part in args.only:
        if part == "accuracy" and not args.root.is_dir():
            continue
        status |= measure_into(args.output / f"{part}.json", partial(PARTS[part], args))
    with missing_extra_is_said("report.html"):
        from benchmarks.charts import write_page  # noqa: PLC0415 - needs the extra report

        write_page(args.output)
    return status


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__)
    add = parser.add_argument
    add("--only", type=_parts, default=list(PARTS), help=f"default: {','.join(PARTS)}")
    add("--root", type=Path, default=SHARED / "sequences", help="default: %(default)s")
    add("--sequence", default="tlp_Bike", help="speed is measured on it; default: %(default)s")
    known = ",".join(BASELINES)
    add("--baselines", type=split_names, default=list(BASELINES), help=f"default: {known}")
    add("--baseline-weights", type=Path, default=SHARED / "peers", help="default: %(default)s")
    add("--model", type=split_names, default=list_models(), help="comma-separated; default: all")
    torch_help = "models in plain PyTorch too; default: yes"
    add("--plain-torch", default=True, action=argparse.BooleanOptionalAction, help=torch_help)
    add("--repeats", default=5, type=int, help="of times; default: %(default)s")
    add("--peak-repeats", default=3, type=int, help="of the node's highest rate; default: 3")
    add("--rate", default=30.0, type=float, help="of the node's images, Hz; default: %(default)s")
    add("--domain", default=98, type=int, help="of ROS, of its own; default: %(default)s")
    add("--output", type=Path, default=RESULTS, help="directory; default: %(default)s")
    given = sys.argv[1:] if arguments is None else arguments
    args = parser.parse_args(with_current_names(["bench", *given])[1:])
    if args.repeats < 1:
        parser.error(f"--repeats is {args.repeats}; expected 1 or more")
    if not 0.1 <= args.rate <= 1000.0:
        parser.error(f"--rate is {args.rate}; expected 0.1 to 1000")
    if not args.root.is_dir() and {"speed", "accuracy"} & set(args.only):
        missing = f"{args.root}: no such directory; no accuracy, speed on a synthetic video"
        print(missing, file=sys.stderr)
    return args


def _parts(text: str) -> list[str]:
    names = split_names(text)
    unknown = [name for name in names if name not in PARTS]
    if unknown or not names:
        wrong = ", ".join(unknown) or "nothing"
        raise argparse.ArgumentTypeError(f"{wrong}; expected some of {','.join(PARTS)}")
    return names


def _speed(args: argparse.Namespace) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    declare("bench", parser)
    options = ["--model", ",".join(args.model), "--repeats", str(args.repeats), "--device", "cpu"]
    options += ["--baselines", ",".join(args.baselines)]
    options += ["--plain-torch"] if args.plain_torch else []
    options += ["--baseline-weights", str(args.baseline_weights)]
    if args.root.is_dir():
        options += ["--root", str(args.root), "--sequence", args.sequence]
    result = bench_command.bench(parser.parse_args(options))
    print(bench_command.to_text(result))
    return result


def _accuracy(args: argparse.Namespace) -> dict[str, Any]:
    """Every model that has weights, and the baselines, over all sequences with one thread."""
    if not args.root.is_dir():
        raise InputError(f"{args.root}: no such directory; give the sequences' with --root")
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


def _node(args: argparse.Namespace) -> dict[str, Any]:
    try:
        from benchmarks import node  # noqa: PLC0415 - needs ROS 2
    except ImportError as error:
        raise BackendError(f"the node needs ROS 2: {error}; run `make setup`") from error
    result = node.benchmark(args.repeats, args.peak_repeats, args.domain, args.rate)
    print(node.to_text(result))
    return result


def _scaling(args: argparse.Namespace) -> dict[str, Any]:
    result = scaling.benchmark(DEFAULT_MODEL, args.repeats)
    print(scaling.to_text(result))
    return result


def _operators(args: argparse.Namespace) -> dict[str, Any]:
    return operators.benchmark(args.model)


def _alternatives(args: argparse.Namespace) -> dict[str, Any]:
    cv2.setNumThreads(1)
    return alternatives.benchmark(args.model)


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "speed": _speed,
    "accuracy": _accuracy,
    "node": _node,
    "scaling": _scaling,
    "operators": _operators,
    "alternatives": _alternatives,
}
"""What can be measured, each into a file of its name."""


if __name__ == "__main__":
    sys.exit(main())
