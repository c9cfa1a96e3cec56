# SPDX-License-Identifier: Apache-2.0
"""Loss and return: the long-term tracker, its short-term tracker and baselines, in one run.

    python -m benchmarks.longterm --output benchmarks/results/longterm.json

Three sequences in which the target disappears, and clips composed from one half of the training
pack's videos (the calibration was fitted on the other half). `--accuracy` adds the long-term and
the short-term tracker's average overlap on all sequences. See docs/longterm.md.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from benchmarks.result_file import SHARED, measure_into
from vt_models.api import create_tracker
from vt_models.cli.options import split_names, with_current_names
from vt_models.datasets.folder import FolderDataset
from vt_models.evaluation.longterm.compose import compose
from vt_models.evaluation.longterm.metrics import (
    ShortTermAdapter,
    TimedSequence,
    events,
    run_clips,
    summary,
)
from vt_models.evaluation.provenance import command_line, provenance
from vt_models.evaluation.reports.tables import table
from vt_models.evaluation.runs.trackers import evaluated_baselines
from vt_models.longterm import LongTermSettings, create_long_term_tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vt_models.evaluation.longterm.metrics import Clip, LongTermEvaluated
    from vt_models.evaluation.runs.runner import TrackerFactory

SEQUENCES = ["tld_car", "uav123_group2_2", "otb_Jogging1"]
BASELINES = ["csrt", "nanotrack", "nanotrack_v3"]
COLUMNS = ("f_score", "precision", "recall", "false_tracking", "found", "seconds_to_found")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 2 and one line on standard error where that is impossible."""
    given = sys.argv[1:] if arguments is None else arguments
    args = _parser().parse_args(with_current_names(["bench", *given])[1:])
    cv2.setNumThreads(1)
    return measure_into(args.output, lambda: _benchmark(args))


def _parser() -> argparse.ArgumentParser:
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
    add("--accuracy", action="store_true", help="also the average overlap on all sequences")
    add("--output", type=Path, default=Path("benchmarks/results/local/longterm.json"))
    return parser


def _benchmark(args: argparse.Namespace) -> dict[str, Any]:
    about = provenance(command_line(), args.seed)
    real = [TimedSequence(sequence) for sequence in FolderDataset(args.root, args.sequences)]
    composed = compose(args.pack, args.seed, args.per_kind, "report")
    trackers = _trackers(args)
    sets: dict[str, Any] = {}
    columns = {name: name for name in COLUMNS}
    for title, clips in (("sequences", real), ("composed", composed)):
        runs = {name: run_clips(make, clips, name=name) for name, make in trackers.items()}
        sets[title] = {
            "clips": {clip.name: len(clip.boxes) for clip in clips},
            "trackers": {name: summary(found) for name, found in runs.items()},
            "long_term_departures": events(runs["long_term"]),
        }
        print(table(title, columns, [(name, summary(found)) for name, found in runs.items()]))
    accuracy = _accuracy(args, trackers) if args.accuracy else None
    return {
        "benchmark": "longterm",
        **about,
        "model": args.model,
        "settings": asdict(LongTermSettings()),
        "sets": sets,
        "accuracy": accuracy,
    }


def _trackers(args: argparse.Namespace) -> dict[str, Callable[[], LongTermEvaluated]]:
    def tracker() -> Any:
        return create_tracker(args.model, device="cpu", threads=1)

    trackers: dict[str, Callable[[], LongTermEvaluated]] = {
        "long_term": lambda: create_long_term_tracker(tracker()),
        "short_term": lambda: ShortTermAdapter(tracker()),
        "short_term, lost after 5 below 0.2": lambda: ShortTermAdapter(tracker(), 0.2, 5),
    }
    for baseline in evaluated_baselines(args.baselines, args.baseline_weights):
        trackers[baseline.name] = partial(_adapted, baseline.factory)
    return trackers


def _adapted(factory: TrackerFactory) -> ShortTermAdapter:
    return ShortTermAdapter(factory())


def _accuracy(
    args: argparse.Namespace, trackers: dict[str, Callable[[], LongTermEvaluated]]
) -> dict[str, dict[str, float]]:
    """Average overlap on every sequence; a frame without a box counts as 0."""
    clips: Sequence[Clip] = [TimedSequence(sequence) for sequence in FolderDataset(args.root)]
    result = {}
    for name in ("long_term", "short_term"):
        runs = run_clips(trackers[name], clips, name=f"{name}, all")
        values = {run.name: float(run.overlaps[1:][run.present[1:]].mean()) for run in runs}
        result[name] = {"ao": sum(values.values()) / len(values), **values}
        print(f"{name:<30} AO on {len(values)} sequences {result[name]['ao']:.3f}")
    return result


if __name__ == "__main__":
    sys.exit(main())
