# SPDX-License-Identifier: Apache-2.0
"""Loss and return: the target keeper, its bare tracker and peers, in one run.

    python -m benchmarks.longterm --output benchmarks/results/longterm.json

Three sequences in which the target disappears, and clips composed from one half of the training
pack's videos (the calibration was fitted on the other half). `--accuracy` adds the keeper's and the
bare tracker's average overlap on all sequences. See docs/target.md.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from benchmarks.result_file import SHARED, measure_into
from vt_models.api import create_tracker
from vt_models.cli.eval import available_peers, split_names
from vt_models.evaluation.baselines import create_peer
from vt_models.evaluation.datasets import FolderDataset
from vt_models.evaluation.longterm.compose import compose
from vt_models.evaluation.longterm.metrics import (
    Bare,
    Run,
    TimedSequence,
    events,
    run_clips,
    summary,
)
from vt_models.evaluation.provenance import command_line, provenance
from vt_models.longterm import TargetSettings, create_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vt_models.evaluation.longterm.metrics import Clip, Keeper

SEQUENCES = ["tld_car", "uav123_group2_2", "otb_Jogging1"]
PEERS = ["csrt", "nanotrack", "nanotrack_v3"]
COLUMNS = ("f_score", "precision", "recall", "false_tracking", "found", "seconds_to_found")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 2 and one line on standard error where that is impossible."""
    args = _parser().parse_args(arguments)
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
    add("--peers", type=split_names, default=PEERS, help=f"default: {','.join(PEERS)}")
    add("--peer-weights", type=Path, default=SHARED / "peers", help="default: %(default)s")
    add("--accuracy", action="store_true", help="also the average overlap on all sequences")
    add("--output", type=Path, default=Path("benchmarks/results/local/longterm.json"))
    return parser


def _benchmark(args: argparse.Namespace) -> dict[str, Any]:
    about = provenance(command_line(), args.seed)
    real = [TimedSequence(sequence) for sequence in FolderDataset(args.root, args.sequences)]
    composed = compose(args.pack, args.seed, args.per_kind, "report")
    keepers = _keepers(args)
    sets: dict[str, Any] = {}
    for title, clips in (("sequences", real), ("composed", composed)):
        runs = {name: run_clips(make, clips, name=name) for name, make in keepers.items()}
        sets[title] = {
            "clips": {clip.name: len(clip.boxes) for clip in clips},
            "trackers": {name: summary(found) for name, found in runs.items()},
            "keeper_departures": events(runs["keeper"]),
        }
        print(_table(title, runs))
    accuracy = _accuracy(args, keepers) if args.accuracy else None
    return {
        "benchmark": "longterm",
        **about,
        "model": args.model,
        "settings": asdict(TargetSettings()),
        "sets": sets,
        "accuracy": accuracy,
    }


def _keepers(args: argparse.Namespace) -> dict[str, Callable[[], Keeper]]:
    def tracker() -> Any:
        return create_tracker(args.model, device="cpu", threads=1)

    keepers: dict[str, Callable[[], Keeper]] = {
        "keeper": lambda: create_target(tracker()),
        "bare": lambda: Bare(tracker()),
        "bare, lost after 5 below 0.2": lambda: Bare(tracker(), 0.2, 5),
    }
    for name in available_peers(args.peers, args.peer_weights):
        keepers[name] = lambda name=name: Bare(create_peer(name, args.peer_weights))  # type: ignore[misc]
    return keepers


def _accuracy(
    args: argparse.Namespace, keepers: dict[str, Callable[[], Keeper]]
) -> dict[str, dict[str, float]]:
    """Average overlap on every sequence; a frame without a box counts as 0."""
    clips: Sequence[Clip] = [TimedSequence(sequence) for sequence in FolderDataset(args.root)]
    result = {}
    for name in ("keeper", "bare"):
        runs = run_clips(keepers[name], clips, name=f"{name}, all")
        values = {run.name: float(run.overlaps[1:][run.present[1:]].mean()) for run in runs}
        result[name] = {"ao": sum(values.values()) / len(values), **values}
        print(f"{name:<30} AO on {len(values)} sequences {result[name]['ao']:.3f}")
    return result


def _table(title: str, runs: dict[str, list[Run]]) -> str:
    lines = [f"{title:<30}" + "".join(f"{column:>18}" for column in COLUMNS)]
    for name, found in runs.items():
        numbers = summary(found)
        cells = "".join(_cell(numbers[column]) for column in COLUMNS)
        lines.append(f"{name:<30}{cells}")
    return "\n".join(lines)


def _cell(value: object) -> str:
    return f"{value:>18.3f}" if isinstance(value, float) else f"{'-':>18}"


if __name__ == "__main__":
    sys.exit(main())
