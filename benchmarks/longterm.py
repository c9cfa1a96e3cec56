# SPDX-License-Identifier: Apache-2.0
"""Loss and return: the long-term tracker, its short-term tracker and baselines, in one run.

    python -m benchmarks.longterm --output benchmarks/results/longterm.json

Three sequences in which the target disappears, clips composed from one half of the training pack's
videos (the calibration was fitted on the other half), and clips of the same half that tempt a
tracker to see the target where it is not, or in which a copy of it passes it. `--accuracy` adds the
long-term and the short-term tracker's average overlap on all sequences. `--only` and `--sets`
measure a part, and keep what the output file says of the rest. See docs/longterm.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2

from benchmarks.result_file import SHARED, measure_into
from vt_models.api import create_tracker
from vt_models.cli.options import split_names, with_current_names
from vt_models.datasets.folder import FolderDataset
from vt_models.errors import InputError
from vt_models.evaluation.longterm.compose import (
    HARD_NEGATIVE_KINDS,
    KINDS,
    LOOK_ALIKE_KINDS,
    compose,
)
from vt_models.evaluation.longterm.metrics import (
    Clip,
    LongTermEvaluated,
    ShortTermAdapter,
    TimedSequence,
    events,
    run_clips,
    summary,
)
from vt_models.evaluation.provenance import command_line, provenance
from vt_models.evaluation.reports.tables import table
from vt_models.evaluation.runs.runner import TrackerFactory
from vt_models.evaluation.runs.trackers import evaluated_baselines
from vt_models.longterm import LongTermSettings, create_long_term_tracker

SEQUENCES = ["tld_car", "uav123_group2_2", "otb_Jogging1"]
BASELINES = ["csrt", "nanotrack", "nanotrack_v3"]
COMPOSED = {
    "composed": KINDS,
    "hard_negatives": HARD_NEGATIVE_KINDS,
    "look_alikes": LOOK_ALIKE_KINDS,
}
SETS = ["sequences", *COMPOSED]
COLUMNS = ("f_score", "false_tracking", "false_measured", "wrong_tracking", "found")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 2 and one line on standard error where that is impossible."""
    parser = argparse.ArgumentParser(prog="benchmarks.longterm", description=__doc__)
    add = parser.add_argument
    add("--model", default="asymtrack_lite0", help="default: %(default)s")
    add("--root", type=Path, default=SHARED / "sequences", help="default: %(default)s")
    add("--sequences", type=split_names, default=SEQUENCES, help=f"default: {','.join(SEQUENCES)}")
    add("--pack", type=Path, default=SHARED / "train_pack", help="default: %(default)s")
    add("--per-kind", type=int, default=8, help="composed clips of each kind; default: %(default)s")
    add("--seed", type=int, default=0, help="of the composed clips; default: %(default)s")
    add("--baselines", type=split_names, default=BASELINES, help=f"default: {','.join(BASELINES)}")
    add("--baseline-weights", type=Path, default=SHARED / "peers", help="default: %(default)s")
    add("--only", type=split_names, default=[], help="long_term, short_term, a baseline, ...")
    add("--sets", type=split_names, default=SETS, help=f"default: {','.join(SETS)}")
    add("--accuracy", action="store_true", help="also the average overlap on all sequences")
    add("--jobs", type=int, default=1, help="clips at the same time; default: %(default)s")
    add("--output", type=Path, default=Path("benchmarks/results/local/longterm.json"))
    given = sys.argv[1:] if arguments is None else arguments
    args = parser.parse_args(with_current_names(["bench", *given])[1:])
    cv2.setNumThreads(1)
    return measure_into(args.output, lambda: _benchmark(args))


def _benchmark(args: argparse.Namespace) -> dict[str, Any]:
    about = provenance(command_line(), args.seed)
    trackers = _trackers(args)
    sets: dict[str, Any] = {}
    for title in args.sets:
        clips = _clips(title, args)
        runs = {
            name: run_clips(make, clips, name=name, jobs=args.jobs)
            for name, make in trackers.items()
        }
        sets[title] = {
            "clips": {clip.name: len(clip.boxes) for clip in clips},
            "trackers": {
                name: {**summary(found), "commit": about["commit"]} for name, found in runs.items()
            },
        }
        if "long_term" in runs:
            sets[title]["long_term_departures"] = events(runs["long_term"])
        print(table(title, COLUMNS, list(sets[title]["trackers"].items())))
    result = {
        "benchmark": "longterm",
        **about,
        "model": args.model,
        "settings": asdict(LongTermSettings()),
        "sets": sets,
        "accuracy": _accuracy(args, trackers) if args.accuracy else {},
    }
    is_part = args.only or args.sets != SETS
    if is_part and args.output.exists():
        _keep_rest(result, json.loads(args.output.read_text()))
    return result


def _clips(title: str, args: argparse.Namespace) -> Sequence[Clip]:
    if title == "sequences":
        return [TimedSequence(sequence) for sequence in FolderDataset(args.root, args.sequences)]
    return compose(args.pack, args.seed, args.per_kind, "report", COMPOSED[title])


def _keep_rest(result: dict[str, Any], previous: dict[str, Any]) -> None:
    """Take over what was not measured now; a tracker's entry tells the commit it is of."""
    for title, before in previous["sets"].items():
        for entry in before["trackers"].values():
            entry.setdefault("commit", previous["commit"])
        found = result["sets"].setdefault(title, before)
        if before["clips"] != found["clips"]:
            raise InputError(f"the clips of {title!r} are others than before; measure all of it")
        result["sets"][title] = {
            **before,
            **found,
            "trackers": before["trackers"] | found["trackers"],
        }
    result["accuracy"] = (previous["accuracy"] or {}) | result["accuracy"]


def _trackers(args: argparse.Namespace) -> dict[str, Callable[[], LongTermEvaluated]]:
    def tracker() -> Any:
        return create_tracker(args.model, device="cpu", threads=1)

    trackers: dict[str, Callable[[], LongTermEvaluated]] = {
        "long_term": lambda: create_long_term_tracker(tracker()),
        "short_term": lambda: ShortTermAdapter(tracker()),
        "short_term, lost after 5 below 0.2": lambda: ShortTermAdapter(tracker(), 0.2, 5),
    }
    for baseline in evaluated_baselines(args.baselines, args.baseline_weights):

        def adapted(make: TrackerFactory = baseline.factory) -> ShortTermAdapter:
            return ShortTermAdapter(make())

        trackers[baseline.name] = adapted
    for given, known in ((args.only, trackers.keys()), (args.sets, SETS)):
        if unknown := set(given) - set(known):
            raise InputError(f"no {', '.join(unknown)}; there are {', '.join(known)}")
    return {name: make for name, make in trackers.items() if not args.only or name in args.only}


def _accuracy(
    args: argparse.Namespace, trackers: dict[str, Callable[[], LongTermEvaluated]]
) -> dict[str, dict[str, float]]:
    """Average overlap on every sequence; a frame without a box counts as 0."""
    clips: Sequence[Clip] = [TimedSequence(sequence) for sequence in FolderDataset(args.root)]
    result = {}
    for name in {"long_term", "short_term"} & trackers.keys():
        runs = run_clips(trackers[name], clips, name=f"{name}, all", jobs=args.jobs)
        values = {run.name: float(run.overlaps[1:][run.present[1:]].mean()) for run in runs}
        result[name] = {"ao": sum(values.values()) / len(values), **values}
        print(f"{name:<30} AO on {len(values)} sequences {result[name]['ao']:.3f}")
    return result


if __name__ == "__main__":
    sys.exit(main())
