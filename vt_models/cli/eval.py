# SPDX-License-Identifier: Apache-2.0
"""`vt-models eval`: accuracy and speed of models on annotated sequences."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import cv2

from vt_models.api import create_tracker
from vt_models.cli.options import check_counts
from vt_models.datasets.checks import require_usable
from vt_models.datasets.kinds import open_dataset
from vt_models.datasets.reader import SequenceDataset
from vt_models.datasets.sequence import VideoSequence
from vt_models.datasets.video_list import read_video_list
from vt_models.errors import DatasetError, InputError, VtModelsError
from vt_models.evaluation.longterm.report import long_term_report
from vt_models.evaluation.provenance import command_line, provenance
from vt_models.evaluation.reports.attention import SeenFrame, explain_worst
from vt_models.evaluation.runs.one_pass import OnePass, run_one_pass
from vt_models.evaluation.runs.resume import RunOptions, files_digest
from vt_models.evaluation.runs.run_errors import RunError
from vt_models.evaluation.runs.runner import (
    Starter,
    StartOnTruth,
    check_length,
    require_result_names,
    require_scored_frames,
)
from vt_models.evaluation.runs.streaming import Streaming
from vt_models.evaluation.runs.text_start import TextStart
from vt_models.evaluation.runs.trackers import (
    EvaluatedTracker,
    evaluated_baselines,
    evaluated_custom,
    evaluated_model,
    require_unique_names,
)
from vt_models.evaluation.runs.vot_outcome import PROTOCOL as VOT
from vt_models.evaluation.runs.vot_outcome import VotOutcome, run_vot
from vt_models.evaluation.runs.vot_runs import sequence_anchors
from vt_models.tracker.tracker import Tracker

OWN_PROTOCOLS = {
    "got10k": "got10k",
    "lasot": "lasot",
    "lasot_ext": "lasot",
    "nfs": "otb",
    "otb": "otb",
    "tc128": "otb",
    "tnl2k": "lasot",  # its toolkit divides by all frames, too
    "trackingnet": "trackingnet",
    "uav123": "otb",
    "vot": "vot",
}
"""By the kind of the dataset; the others have none."""
NO_PROTOCOL = "ope"
SOME_FAILED = 1
EVERY_TRACKER = ""
"""Key of a latency that holds for all."""


def run(args: argparse.Namespace) -> int:
    """Run `vt-models eval`; raises VtModelsError for what the command line prints in one line."""
    check_counts(args, threads=1, jobs=1)
    protocol = args.protocol or OWN_PROTOCOLS.get(args.dataset, NO_PROTOCOL)
    eao_range = _eao_range(args.eao_range, protocol)
    _refuse_contradictions(args, protocol)
    cv2.setNumThreads(args.threads)
    trackers = _trackers(args)
    inside = _inside(args)
    streams = _streams(args, [tracker.name for tracker in trackers])
    sequences, kinds = _open(args)
    require_usable(sequences, *_requirements(args, protocol))
    if args.output is not None:
        require_result_names(sequences.names)
        try:
            args.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"--output {args.output}: {error.strerror}; give a folder to write to"
            raise InputError(message) from error
    options = RunOptions(args.jobs, args.output, args.fresh)
    outcome: OnePass | VotOutcome
    if protocol == VOT:
        outcome = run_vot(trackers, sequences, options, eao_range, args.text, streams)
    else:
        rules = None if protocol == NO_PROTOCOL else protocol
        outcome = run_one_pass(trackers, sequences, options, rules, streams, _start(args))
        if args.long_term:
            outcome = _with_long_term(outcome, trackers[0], sequences)
        outcome = replace(outcome, kinds=kinds, seen=_look_inside(args, outcome, inside))
    problem = None
    if args.output is not None:
        about = provenance(command_line(), seed=0)
        del about["seed"]
        weights = {one.name: [files_digest(path) for path in one.weights] for one in trackers}
        about |= {
            "dataset": args.dataset,
            "split": args.split,
            "protocol": protocol,
            "text": args.text,
            "jobs": args.jobs,
            "weights sha256": {name: digests for name, digests in weights.items() if digests},
        }
        try:
            for line in outcome.save(args.output, about):
                sys.stderr.write(f"{line}\n")
        except OSError as error:
            problem = f"--output {args.output} cannot be written: {error.strerror or error}"
    text = json.dumps(outcome.to_dict(), indent=2) if args.json else outcome.to_text()
    sys.stdout.write(text + "\n")
    if problem is not None:
        raise InputError(problem)
    return SOME_FAILED if outcome.errors else 0


def _requirements(
    args: argparse.Namespace, protocol: str
) -> list[Callable[[VideoSequence], object]]:
    """What every sequence has to have, found out before anything runs."""

    def require_text(sequence: VideoSequence) -> None:
        if not sequence.language:
            raise DatasetError(f"{sequence.name} has no sentence for --init text to start from")

    def require_truth(sequence: VideoSequence) -> None:
        if not sequence.is_annotated:
            raise DatasetError(f"--long-term needs the truth, not public for {sequence.name}")

    found: list[Callable[[VideoSequence], object]] = [check_length]
    found.append(sequence_anchors if protocol == VOT else require_scored_frames)
    found += [require_text] if args.init == "text" else []
    return found + ([require_truth] if args.long_term else [])


def _with_long_term(
    outcome: OnePass, tracker: EvaluatedTracker, sequences: SequenceDataset
) -> OnePass:
    """Run the long-term tracker around the first model, too; its error is one among others."""
    factory = cast("Callable[[], Tracker]", tracker.factory)  # custom ones and baselines come later
    try:
        return replace(outcome, long_term=long_term_report(factory, sequences, tracker.name))
    except VtModelsError as error:
        found = RunError(f"--long-term {tracker.name}", None, str(error))
        return replace(outcome, errors=[*outcome.errors, found])


def _inside(args: argparse.Namespace) -> dict[str, Tracker]:
    """The models in torch, by name, for --attention; what is missing is said before any run."""
    if args.attention == 0:
        return {}
    if args.attention < 0:
        raise InputError(f"--attention {args.attention}: expected a number of sequences, 0 or more")
    if not args.model or args.output is None:
        lacks = "--model" if not args.model else "--output"
        raise InputError(f"--attention draws what a model's network saw into files: give {lacks}")
    made = [
        create_tracker(name, args.weights, "torch", args.device, args.threads, args.update)
        for name in dict.fromkeys(args.model)
    ]
    return {tracker.spec.name: tracker for tracker in made}


def _look_inside(
    args: argparse.Namespace, outcome: OnePass, inside: dict[str, Tracker]
) -> list[SeenFrame]:
    reports = {report.model: report for report in outcome.reports if report.is_scored}
    return [
        seen
        for name, tracker in inside.items()
        if name in reports
        for seen in explain_worst(
            tracker, reports[name], outcome.sequences, args.attention, args.text
        )
    ]


def _trackers(args: argparse.Namespace) -> list[EvaluatedTracker]:
    """Everything that is evaluated, models first; what cannot run fails here, not an hour later."""
    names = list(dict.fromkeys(args.model))
    if not names and not args.tracker:
        raise InputError("nothing to evaluate: give --model (see `vt-models models`) or --tracker")
    if args.long_term and not names:
        raise InputError("--long-term runs around a model of this package: give --model too")
    if len(names) > 1 and (args.weights or args.update):
        raise InputError(
            f"--weights and --update belong to one model, got {', '.join(names)}; "
            "run them one after the other"
        )
    models = [
        evaluated_model(name, args.weights, args.backend, args.device, args.threads, args.update)
        for name in names
    ]
    custom = [evaluated_custom(reference) for reference in dict.fromkeys(args.tracker)]
    baselines = evaluated_baselines(args.baselines, args.baseline_weights, args.threads)
    everything = [*models, *custom, *baselines]
    require_unique_names(everything)
    if len(models) + len(custom) > 1:
        for tracker in (*models, *custom):
            tracker.factory()
    return everything


def _start(args: argparse.Namespace) -> Starter:
    """How trackers are started; a detector is loaded once, so that its errors come at once."""
    if args.init == "box":
        return StartOnTruth(args.text)
    backend, source = args.grounding_backend, args.grounding_source
    threshold = args.grounding_threshold
    start = TextStart(backend, source, threshold, args.device, args.threads, args.text)
    start.load()
    return start


def _streams(args: argparse.Namespace, trackers: Sequence[str]) -> dict[str, Streaming]:
    """How the frames come to each tracker; empty where every frame is handed over."""
    if args.stream is None:
        if args.latency is not None:
            raise InputError("--latency is for --stream FPS; add that or leave it out")
        return {}
    if not 0.0 < args.stream < float("inf"):
        raise InputError(f"--stream is {args.stream:g}; expected frames a second, above 0")
    given = {} if args.latency is None else parse_latency(args.latency)
    latencies = {name: given.get(name, given.get(EVERY_TRACKER)) for name in trackers}
    unknown = set(given) - {EVERY_TRACKER, *trackers}
    missing = [name for name, latency in latencies.items() if latency is None]
    if unknown or (missing and given):
        wrong = f"names {', '.join(sorted(unknown))}" if unknown else f"lacks {', '.join(missing)}"
        raise InputError(f"--latency {args.latency} {wrong}; expected {', '.join(trackers)}")
    if missing and args.jobs > 1:
        raise InputError(
            f"--jobs {args.jobs} falsifies a measured latency; use --jobs 1 or give --latency"
        )
    return {
        name: Streaming(1.0 / args.stream, None if latency is None else latency / 1e3)
        for name, latency in latencies.items()
    }


def parse_latency(text: str) -> dict[str, float]:
    """`"33"` to `{"": 33.0}`, `"a=8,b=22.5"` to `{"a": 8.0, "b": 22.5}`, milliseconds.

    Raises:
        InputError: what is not a number of 0 or more.
    """
    found = {}
    for part in text.split(","):
        name, sign, number = part.rpartition("=")
        try:
            found[name.strip() if sign else EVERY_TRACKER] = float(number)
        except ValueError:
            raise InputError(f"--latency {text!r}; expected MS or NAME=MS,NAME=MS") from None
    bad = [value for value in found.values() if not 0.0 <= value < float("inf")]
    if bad:
        raise InputError(f"--latency {text!r}; expected milliseconds, 0 or more")
    return found


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


def _eao_range(text: str | None, protocol: str) -> tuple[int, int] | None:
    """`"115:755"` to (115, 755)."""
    if text is None:
        return None
    if protocol != VOT:
        raise InputError(f"--eao-range is for --protocol {VOT}, not {protocol}")
    low, sign, high = text.partition(":")
    try:
        found = int(low), int(high)
    except ValueError:
        found = 0, 0
    if not (sign and 0 < found[0] < found[1]):
        raise InputError(f"--eao-range {text!r}; expected LOW:HIGH, such as 115:755")
    return found


def _refuse_contradictions(args: argparse.Namespace, protocol: str) -> None:
    """InputError for options that contradict each other."""
    given = {
        "--stream": args.stream is not None,
        "--init text": args.init == "text",
        "--long-term": args.long_term,
        "--attention": args.attention != 0,
    }
    chosen = [name for name, there in given.items() if there]
    impossible = [name for name in chosen if name != "--stream"]
    if impossible and protocol == VOT:
        raise InputError(
            f"{impossible[0]} does not go with --protocol {protocol}; add --protocol {NO_PROTOCOL}"
        )
    if args.attention and {"--stream", "--init text"} & {*chosen}:
        raise InputError(
            f"--attention tracks again from the true box through every frame, so {chosen[0]} does "
            "not go with it; run them one after the other"
        )
    if args.long_term and {"--stream", "--init text"} & {*chosen}:
        raise InputError(
            f"--long-term starts on the true box and sees every frame, so {chosen[0]} does not go "
            "with it; run them one after the other"
        )
