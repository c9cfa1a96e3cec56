# SPDX-License-Identifier: Apache-2.0
"""`vt-models eval`: accuracy and speed of models on annotated sequences."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2

from vt_models.datasets.kinds import DATASETS, open_dataset
from vt_models.datasets.video_list import read_video_list
from vt_models.errors import InputError
from vt_models.evaluation.longterm.report import long_term_report
from vt_models.evaluation.metrics.protocols import PROTOCOLS
from vt_models.evaluation.provenance import command_line, provenance
from vt_models.evaluation.reports.tables import COLUMNS, to_text
from vt_models.evaluation.runs import stream as stream_options
from vt_models.evaluation.runs import text_start as text_init
from vt_models.evaluation.runs import trackers as tracker_options
from vt_models.evaluation.runs.one_pass import OnePass, run_one_pass
from vt_models.evaluation.runs.resume import Running, files_digest
from vt_models.evaluation.runs.trackers import available_baselines, split_names
from vt_models.evaluation.runs.vot_outcome import VOT_KINDS, VotOutcome, run_vot

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from vt_models.datasets.reader import SequenceDataset
    from vt_models.datasets.sequence import VideoSequence
    from vt_models.evaluation.longterm.report import LongTermReport
    from vt_models.evaluation.runs.trackers import EvaluatedTracker
    from vt_models.tracker.tracker import Tracker

__all__ = ["COLUMNS", "add_arguments", "available_baselines", "run", "split_names", "to_text"]

OWN_PROTOCOLS = {
    "got10k": "got10k",
    "lasot": "lasot",
    "lasot_ext": "lasot",
    "nfs": "otb",
    "otb": "otb",
    "tnl2k": "otb",
    "trackingnet": "trackingnet",
    "uav123": "otb",
    "vot": "vot",
}
"""By the kind of the dataset; the others have none."""
NO_PROTOCOL = "ope"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models eval`."""
    tracker_options.add_arguments(parser)
    add = parser.add_argument_group("videos").add_argument
    add("--dataset", required=True, choices=sorted(DATASETS), help="layout of the dataset")
    add("--root", required=True, type=Path, help="directory of the dataset")
    add("--split", help="part of the dataset, see docs/datasets.md; default: the dataset's own")
    add("--sequences", type=split_names, help="comma-separated names; default: all")
    add(
        "--list",
        type=Path,
        metavar="FILE",
        help="run the videos of a list and report AO by kind; tab-separated text with a header: "
        "video, kind and, if wanted, use (validate or withhold), see docs/datasets.md",
    )
    add("--no-cache", action="store_true", help="keep no index of the dataset's annotations")
    add = parser.add_argument_group("scores").add_argument
    add(
        "--protocol",
        choices=(NO_PROTOCOL, *PROTOCOLS, *VOT_KINDS),
        help=f"whose rules; {NO_PROTOCOL}: the usual metrics alone; default: the dataset's own",
    )
    add("--eao-range", metavar="LOW:HIGH", help="lengths in frames of VOT's EAO; default: by year")
    add("--long-term", action="store_true", help="also run the long-term tracker: loss and return")
    text_init.add_arguments(parser)
    stream_options.add_arguments(parser)
    add = parser.add_argument_group("work and results").add_argument
    add("--jobs", type=int, default=1, help="processes, each running whole sequences; default: 1")
    add("--output", type=Path, help="directory for report.html, boxes and result files")
    add("--fresh", action="store_true", help="run again what --output holds from a previous run")
    add("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    """Run `vt-models eval`; raises VtModelsError for what the command line prints in one line."""
    if args.threads < 1:
        raise InputError(f"--threads is {args.threads}; expected 1 or more")
    protocol = args.protocol or OWN_PROTOCOLS.get(args.dataset, NO_PROTOCOL)
    eao_range = _eao_range(args.eao_range, protocol)
    _refuse_what_does_not_fit(args, protocol)
    cv2.setNumThreads(args.threads)
    trackers = tracker_options.chosen(args)
    stream = stream_options.chosen(args, [tracker.name for tracker in trackers])
    sequences, kinds = _open(args)
    if args.output is not None:
        _make_folder(args.output)
    running = Running(args.jobs, args.output, args.fresh)
    outcome: OnePass | VotOutcome
    if protocol in VOT_KINDS:
        outcome = run_vot(protocol, trackers, sequences, eao_range, running)
    else:
        rules = None if protocol == NO_PROTOCOL else protocol
        start = text_init.starter(args)
        outcome = run_one_pass(trackers, sequences, stream, rules, running, start)
        if args.long_term:
            outcome = replace(outcome, long_term=_long_term(trackers[0], sequences))
        outcome = replace(outcome, kinds=kinds)
    if args.output is not None:
        for line in outcome.save(args.output, _about(args, trackers, protocol)):
            sys.stderr.write(f"{line}\n")
    text = json.dumps(outcome.to_dict(), indent=2) if args.json else outcome.to_text()
    sys.stdout.write(text + "\n")
    return 0


def _open(args: argparse.Namespace) -> tuple[SequenceDataset, dict[str, list[str]]]:
    """The sequences to run, and with --list their names by kind, in the order of the list."""
    options: dict[str, Any] = {"split": args.split, "cache": not args.no_cache}
    if args.list is None:
        return open_dataset(args.dataset, args.root, args.sequences, **options), {}
    if args.sequences is not None:
        raise InputError("--list and --sequences both say what runs; leave one of them out")
    listed = read_video_list(args.list)
    everything = open_dataset(args.dataset, args.root, **options)
    chosen = listed.validation_sequences(everything.names)
    kinds: dict[str, list[str]] = {}
    for name, kind in chosen.items():
        kinds.setdefault(kind, []).append(name)
    return open_dataset(args.dataset, args.root, chosen, **options), kinds


def _long_term(tracker: EvaluatedTracker, sequences: Sequence[VideoSequence]) -> LongTermReport:
    """Of the long-term tracker around the first tracker, which is a model: baselines come later."""
    secret = [one.name for one in sequences if not one.is_annotated]
    if secret:
        raise InputError(f"--long-term needs the truth, which is not public for {secret[0]}")
    factory = cast("Callable[[], Tracker]", tracker.factory)
    return long_term_report(factory, sequences, tracker.name)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {path}: {error.strerror}; give a folder to write to") from error


def _eao_range(text: str | None, protocol: str) -> tuple[int, int] | None:
    """`"115:755"` to (115, 755)."""
    if text is None:
        return None
    if protocol not in VOT_KINDS:
        raise InputError(f"--eao-range is for --protocol {' or '.join(VOT_KINDS)}, not {protocol}")
    low, sign, high = text.partition(":")
    try:
        found = int(low), int(high)
    except ValueError:
        found = 0, 0
    if not (sign and 0 < found[0] < found[1]):
        raise InputError(f"--eao-range {text!r}; expected LOW:HIGH, such as 115:755")
    return found


def _refuse_what_does_not_fit(args: argparse.Namespace, protocol: str) -> None:
    """InputError for options that contradict each other."""
    given = {
        "--stream": args.stream is not None,
        "--init text": args.init == "text",
        "--long-term": args.long_term,
    }
    chosen = [name for name, there in given.items() if there]
    if chosen and protocol in VOT_KINDS:
        raise InputError(
            f"{chosen[0]} does not go with --protocol {protocol}; add --protocol {NO_PROTOCOL}"
        )
    if args.long_term and len(chosen) > 1:
        raise InputError(
            f"--long-term starts on the true box and sees every frame, so {chosen[0]} does not go "
            "with it; run them one after the other"
        )


def _about(
    args: argparse.Namespace, trackers: Sequence[EvaluatedTracker], protocol: str
) -> dict[str, Any]:
    """What a reader of the report needs to repeat it."""
    weights = {one.name: [files_digest(path) for path in one.weights] for one in trackers}
    about = provenance(command_line(), seed=0)
    del about["seed"]
    return {
        **about,
        "dataset": args.dataset,
        "split": args.split,
        "protocol": protocol,
        "jobs": args.jobs,
        "weights sha256": {name: digests for name, digests in weights.items() if digests},
    }
