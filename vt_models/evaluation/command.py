# SPDX-License-Identifier: Apache-2.0
"""`vt-models eval`: accuracy and speed of a model on annotated sequences."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from vt_models.api import create_tracker
from vt_models.errors import InputError
from vt_models.evaluation.datasets import DATASETS, open_dataset
from vt_models.evaluation.longterm_report import long_term_report
from vt_models.evaluation.peers import PEERS, create_peer, missing_reason
from vt_models.evaluation.runner import Numbers, Report, evaluate
from vt_models.registry import parse_update_policy

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

COLUMNS = {
    "AO": "ao",
    "SR0.50": "sr50",
    "SR0.75": "sr75",
    "AUC": "auc",
    "P": "precision",
    "NP": "norm_precision",
    "ms/frame": "ms_per_frame",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models eval`."""
    add = parser.add_argument
    add("--model", required=True, help="name of the model, see `vt-models models`")
    add("--dataset", required=True, choices=sorted(DATASETS), help="layout of the data set")
    add("--root", required=True, type=Path, help="directory of the data set")
    add("--sequences", type=split_names, help="comma-separated names; default: all")
    add("--weights", help="directory made by export, or .safetensors; default: shipped weights")
    add("--backend", default="onnxruntime", choices=("onnxruntime", "torch"))
    add("--device", default="auto", help="auto, cpu, cuda or tensorrt; default: %(default)s")
    add("--update", help="template update: a preset of the model, or INTERVAL:THRESHOLD")
    add("--threads", type=int, default=1, help="threads of network and OpenCV; default: 1")
    add("--jobs", type=int, default=1, help="processes, each running whole sequences; default: 1")
    add("--peers", type=split_names, default=[], help=f"also run, of: {','.join(PEERS)}")
    add("--peer-weights", type=Path, help="folder of the peers' weight files")
    add("--long-term", action="store_true", help="also run the target keeper: loss and return")
    add("--output", type=Path, help="directory to write <model>/report.json and boxes to")
    add("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    """Run `vt-models eval`; raises VtModelsError for what the command line prints in one line."""
    if args.threads < 1:
        raise InputError(f"--threads is {args.threads}; expected 1 or more")
    cv2.setNumThreads(args.threads)
    peers = available_peers(args.peers, args.peer_weights)
    sequences = open_dataset(args.dataset, args.root, args.sequences)
    update = None if args.update is None else parse_update_policy(args.update)
    factory = partial(
        create_tracker, args.model, args.weights, args.backend, args.device, args.threads, update
    )
    reports = [evaluate(factory, sequences, model=args.model, jobs=args.jobs)]
    for name in peers:
        peer = partial(create_peer, name, args.peer_weights)
        reports.append(evaluate(peer, sequences, model=name, jobs=args.jobs))
    kept = long_term_report(factory, sequences, args.model) if args.long_term else None
    if args.output is not None:
        for report in reports:
            report.save(args.output / report.model)
        if kept is not None:
            kept.save(args.output / args.model)
    result, text = to_json(reports), to_text(reports)
    if kept is not None:
        result, text = {**result, "long_term": kept.to_dict()}, f"{text}\n\n{kept.to_text()}"
    sys.stdout.write((json.dumps(result, indent=2) if args.json else text) + "\n")
    return 0


def split_names(text: str) -> list[str]:
    """`"a, b"` to `["a", "b"]`."""
    return [name.strip() for name in text.split(",") if name.strip()]


def available_peers(names: Iterable[str], weights: Path | None) -> list[str]:
    """Those of `names` that can run here; why another cannot is said on standard error.

    Raises:
        InputError: a name that is not a peer's.
    """
    available = []
    for name in dict.fromkeys(names):
        reason = missing_reason(name, weights)
        if reason is None:
            available.append(name)
        else:
            sys.stderr.write(f"left out: {reason}\n")
    return available


def to_json(reports: list[Report]) -> dict[str, object]:
    """The first report's object; the others follow by name under "peers", if there are any."""
    first, *others = reports
    peers = {report.model: report.to_dict() for report in others}
    return {**first.to_dict(), **({"peers": peers} if peers else {})}


def to_text(reports: list[Report]) -> str:
    """A table for each report and, if there are several, one that compares their totals."""
    tables = [_table(report.model, _rows(report)) for report in reports]
    if len(reports) > 1:
        tables.append(_table("total", [(report.model, report.total) for report in reports]))
    return "\n\n".join(tables)


def _rows(report: Report) -> list[tuple[str, Numbers]]:
    rows = [(result.name, result.to_dict()) for result in report.results]
    return [*rows, ("total", report.total)]


def _table(title: str, rows: list[tuple[str, Numbers]]) -> str:
    width = max(len(title), *(len(name) for name, _ in rows))
    lines = [f"{title:<{width}}" + "".join(f"{head:>10}" for head in COLUMNS)]
    for name, numbers in rows:
        cells = (
            f"{numbers[key]:>10.{2 if head == 'ms/frame' else 3}f}" for head, key in COLUMNS.items()
        )
        lines.append(f"{name:<{width}}" + "".join(cells))
    return "\n".join(lines)
