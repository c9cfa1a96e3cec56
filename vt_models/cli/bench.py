# SPDX-License-Identifier: Apache-2.0
"""`vt-models bench`: time per frame of the models, and of baselines, in one run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

import cv2

from vt_models.datasets.kinds import open_dataset
from vt_models.errors import BackendError, ExportError
from vt_models.evaluation.baselines import create_baseline
from vt_models.evaluation.provenance import command_line, provenance
from vt_models.evaluation.reports.tables import table
from vt_models.evaluation.runs.runner import SingleObjectTracker
from vt_models.evaluation.speed import (
    cpu_ratio,
    measure,
    model_tracker,
    sequence_clip,
    synthetic_clip,
)
from vt_models.files import write_text
from vt_models.registry import list_models

TORCH_FORM = "_torch"
"""Ending of a model's name where it is run in plain PyTorch."""


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
    if args.root is None:
        clip = synthetic_clip(args.frames, args.seed)
    else:
        names = [args.sequence] if args.sequence else None
        clip = sequence_clip(open_dataset("folder", args.root, names)[0], args.frames)
    trackers: dict[str, SingleObjectTracker] = {}
    weights, left_out = {}, {}
    options = args.device, args.threads, args.seed
    for name in list_models() if args.model is None else args.model:
        forms = {name: "onnxruntime"} | (
            {f"{name}{TORCH_FORM}": "torch"} if args.plain_torch else {}
        )
        for form, backend in forms.items():
            try:
                trackers[form], weights[form] = model_tracker(name, *options, backend)
            except (BackendError, ExportError) as error:
                left_out[form] = f"{form}: {error}"
    for name in args.baselines:
        try:
            trackers[name] = create_baseline(name, args.baseline_weights, args.threads)
            weights[name] = "baseline"
        except BackendError as error:
            left_out[name] = str(error)
    if not trackers:
        reasons = "; ".join(left_out.values())
        raise BackendError(f"there is nothing to measure: {reasons or 'no --model was named'}")
    for reason in left_out.values():
        sys.stderr.write(f"left out: {reason}\n")
    height, width = clip.frames[0].shape[:2]
    timings = measure(trackers, clip, repeats=args.repeats, burn_in=args.burn_in)
    measured = {name: timing.to_dict() for name, timing in timings.items()}
    return {
        "benchmark": "speed",
        **about,
        "threads": args.threads,
        "device": args.device,
        "clip": {
            "source": clip.source,
            "frames": len(clip.frames),
            "width": width,
            "height": height,
            "box": list(clip.box),
        },
        "burn_in": args.burn_in,
        "trackers": {
            name: {"weights": weights[name], **numbers} for name, numbers in measured.items()
        },
        "cpu_ratio": ratios(measured),
        "left_out": left_out,
    }


def ratios(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Processor time of the trackers over that of others in the same run.

    Args:
        measured: by name, as of `Timing.to_dict`.

    Returns:
        "over_nanotrack": of every tracker, over NanoTrack v2's; empty where that was not run.
        "torch_over_onnxruntime": of every model that was run in plain PyTorch too, how many times
        as long that takes.
    """
    reference = measured.get("nanotrack")
    forms = {name: measured.get(f"{name}{TORCH_FORM}") for name in measured}
    return {
        "over_nanotrack": {name: cpu_ratio(one, reference) for name, one in measured.items()}
        if reference
        else {},
        "torch_over_onnxruntime": {
            name: cpu_ratio(form, measured[name]) for name, form in forms.items() if form
        },
    }


def to_text(result: dict[str, Any]) -> str:
    """Return a table with a line for each tracker."""
    columns = {
        "CPU time": "cpu_median_ms",
        "median": "median_ms",
        "p99": "p99_ms",
        "init": "init_ms",
        "weights": "weights",
    }
    return f"{table('ms per frame', columns, result['trackers'].items())}\n"
