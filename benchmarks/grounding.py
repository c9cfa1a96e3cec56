# SPDX-License-Identifier: Apache-2.0
"""Text to box: names and descriptions of things in images, and the sentences of the sequences.

    python -m benchmarks.grounding --grounding-backend zero_shot --grounding-source CHECKPOINT

A case is right if the backend's best box, whatever its score, has an IoU of 0.5 or more with the
object that the text means. Of two objects of a class, who always finds both and picks one at random
has 0.5. Of things that are not there, how many are found all the same is counted. See
docs/grounding.md.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from benchmarks.result_file import SHARED, measure_into
from vt_models.cli.options import add_grounding, with_current_names
from vt_models.datasets.folder import FolderDataset
from vt_models.datasets.images import read_image
from vt_models.errors import InputError
from vt_models.evaluation.provenance import command_line, provenance
from vt_models.evaluation.reports.tables import table
from vt_models.geometry.boxes import iou
from vt_models.grounding import Grounder, create_grounder
from vt_models.grounding.confusion import KINDS, Outcome, absent_cases, cases, judge


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 2 and one line on standard error where that is impossible."""
    parser = argparse.ArgumentParser(prog="benchmarks.grounding", description=__doc__)
    add = parser.add_argument
    add_grounding(add, "what is measured")
    add("--device", default="auto", help="default: %(default)s")
    add("--threads", type=int, default=1, help="default: %(default)s")
    add("--per-kind", type=int, default=100, help="cases of each kind; default: %(default)s")
    add("--seed", type=int, default=0, help="of the choice of cases; default: %(default)s")
    add("--pack", type=Path, default=SHARED / "train_pack", help="default: %(default)s")
    add(
        "--held-out",
        type=int,
        default=12,
        help="one of so many images of the pack; every 12th is what `vt-models ground-train` "
        "leaves out; default: %(default)s",
    )
    add("--sequences", type=Path, default=SHARED / "sequences", help="default: %(default)s")
    add("--output", type=Path, default=Path("benchmarks/results/local/grounding.json"))
    given = sys.argv[1:] if arguments is None else arguments
    args = parser.parse_args(with_current_names(["ground", *given])[1:])
    cv2.setNumThreads(1)
    return measure_into(args.output, lambda: _benchmark(args))


def _benchmark(args: argparse.Namespace) -> dict[str, Any]:
    about = provenance(command_line(), args.seed)
    grounder = create_grounder(
        args.grounding_backend, args.grounding_source, device=args.device, threads=args.threads
    )
    confusion = _confusion(grounder, args)
    absent = _absent(grounder, args)
    sentences = _sentences(grounder, args.sequences)
    print(table("kind", ("cases", "right", "rival", "refused"), confusion.items()))
    print(f"not there: {absent['found']} of {absent['cases']} found all the same")
    print(f"first frames with IoU >= 0.5: {sentences['right']} of {len(sentences['iou'])}")
    return {
        "benchmark": "grounding",
        **about,
        "backend": args.grounding_backend,
        "source": args.grounding_source,
        "threshold": grounder.threshold,
        "confusion": confusion,
        "absent": absent,
        "sequences": sentences,
    }


def _confusion(grounder: Grounder, args: argparse.Namespace) -> dict[str, Any]:
    """By kind: how many were right, on the rival, refused, and what operators were told."""
    everything = list(cases(args.pack, args.held_out))
    chosen = []
    for kind in KINDS:
        of_kind = [case for case in everything if case.kind == kind]
        count = min(args.per_kind, len(of_kind))
        chosen += random.Random(args.seed).sample(of_kind, count)
    outcomes: list[Outcome] = []
    refused: Counter[str] = Counter()
    for case in tqdm(chosen, unit="case", file=sys.stderr):
        try:
            outcomes.append(judge(grounder, case))
        except InputError:  # too long for this backend, or none of its words
            refused[case.kind] += 1
    result = {kind: _rates([o for o in outcomes if o.case.kind == kind]) for kind in KINDS}
    result["all"] = _rates(outcomes)
    for kind, row in result.items():
        row["refused"] = refused.total() if kind == "all" else refused[kind]
    return result


def _absent(grounder: Grounder, args: argparse.Namespace) -> dict[str, Any]:
    """What operators are told who ask for a thing that is not there."""
    everything = list(absent_cases(args.pack, args.held_out))
    count = min(args.per_kind, len(everything))
    told: Counter[str] = Counter()
    for case in tqdm(random.Random(args.seed).sample(everything, count), file=sys.stderr):
        told[grounder.find(read_image(case.image), case.text).status] += 1
    return {"cases": count, "found": count - told["nothing"], "told": dict(told)}


def _rates(outcomes: list[Outcome]) -> dict[str, Any]:
    count = max(len(outcomes), 1)
    return {
        "cases": len(outcomes),
        "right": sum(outcome.precise for outcome in outcomes) / count,
        "rival": sum(outcome.wrong_one for outcome in outcomes) / count,
        "told": dict(Counter(outcome.status for outcome in outcomes)),
    }


def _sentences(grounder: Grounder, root: Path) -> dict[str, Any]:
    """IoU of the best box with the target in the first frame of every sequence."""
    overlaps, seconds = {}, []
    for sequence in FolderDataset(root):
        if sequence.language is None:
            continue
        try:
            grounding = grounder.find(sequence.read_frame(0), sequence.language)
        except InputError:
            overlaps[sequence.name] = 0.0
            continue
        best = grounding.best
        overlaps[sequence.name] = 0.0 if best is None else float(iou(best.box, sequence.boxes[0]))
        seconds.append(grounding.seconds)
    return {
        "iou": overlaps,
        "right": sum(value >= 0.5 for value in overlaps.values()),
        "seconds_p50": statistics.median(seconds) if seconds else None,
    }


if __name__ == "__main__":
    sys.exit(main())
