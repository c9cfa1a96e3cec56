# SPDX-License-Identifier: Apache-2.0
"""`vt-models bench`: time per frame of the models, and of baselines, in one run."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import cv2

from vt_models.datasets.kinds import open_dataset
from vt_models.evaluation.baselines import create_baseline, missing_reason
from vt_models.evaluation.provenance import command_line, provenance
from vt_models.evaluation.reports.tables import table
from vt_models.evaluation.runs.runner import SingleObjectTracker
from vt_models.evaluation.speed import (
    FrameClip,
    available_models,
    measure,
    sequence_clip,
    synthetic_clip,
)
from vt_models.files import write_text
from vt_models.registry import list_models


def run(args: argparse.Namespace) -> int:
    """Run `vt-models bench`; raises VtModelsError for what the command line prints in one line."""
    result = bench(args)
    text = json.dumps(result, indent=2) + "\n"
    if args.output is not None:
        write_text(args.output, text, parents=True)
    sys.stdout.write(text if args.json else to_text(result))
    return 0


def bench(args: argparse.Namespace) -> dict[str, Any]:
    """Measure what the options ask for and return the JSON object."""
    about = provenance(command_line(), args.seed)
    cv2.setNumThreads(args.threads)
    clip = _clip(args)
    models = list_models() if args.model is None else args.model
    built, left_out = available_models(models, args.device, args.threads, args.seed)
    trackers: dict[str, SingleObjectTracker] = {name: made for name, (made, _) in built.items()}
    weights = {name: kind for name, (_, kind) in built.items()}
    for name in args.baselines:
        reason = missing_reason(name, args.baseline_weights)
        if reason is None:
            trackers[name] = create_baseline(name, args.baseline_weights, args.threads)
            weights[name] = "baseline"
        else:
            left_out[name] = reason
    for reason in left_out.values():
        sys.stderr.write(f"left out: {reason}\n")
    timings = measure(trackers, clip, repeats=args.repeats, burn_in=args.burn_in)
    return {
        "benchmark": "speed",
        **about,
        "threads": args.threads,
        "device": args.device,
        "clip": _describe(clip),
        "burn_in": args.burn_in,
        "trackers": {
            name: {"weights": weights[name], **timing.to_dict()} for name, timing in timings.items()
        },
        "left_out": left_out,
    }


def to_text(result: dict[str, Any]) -> str:
    """Return a table with a line for each tracker."""
    columns = {"median": "median_ms", "p99": "p99_ms", "init": "init_ms", "weights": "weights"}
    return table("ms per frame", columns, list(result["trackers"].items())) + "\n"


def _clip(args: argparse.Namespace) -> FrameClip:
    if args.root is None:
        return synthetic_clip(args.frames, args.seed)
    dataset = open_dataset("folder", args.root, [args.sequence] if args.sequence else None)
    return sequence_clip(dataset[0], args.frames)


def _describe(clip: FrameClip) -> dict[str, Any]:
    height, width = clip.frames[0].shape[:2]
    return {
        "source": clip.source,
        "frames": len(clip.frames),
        "width": width,
        "height": height,
        "box": list(clip.box),
    }
