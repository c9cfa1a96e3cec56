# SPDX-License-Identifier: Apache-2.0
"""`vt-models calibrate`: fit a model's confidence and covariance and write them to model.json."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vt_models.api import create_tracker
from vt_models.datasets.checks import require_usable
from vt_models.datasets.kinds import open_dataset
from vt_models.datasets.video_list import read_video_list
from vt_models.errors import InputError, WeightsError
from vt_models.evaluation.calibration import (
    Samples,
    can_leave_out,
    collect,
    confidences,
    expected_calibration_error,
    fit,
    leave_one_out,
    normalised_errors,
    reliability,
)
from vt_models.evaluation.longterm.compose import compose
from vt_models.evaluation.longterm.metrics import TimedSequence
from vt_models.evaluation.reports.tables import Table
from vt_models.files import write_text
from vt_models.longterm.calibration import Calibration
from vt_models.registry import get_spec
from vt_models.runtime.engine import check_threads
from vt_models.runtime.export_directory import MANIFEST
from vt_models.runtime.installed_weights import find_weights


def run(args: argparse.Namespace) -> int:
    """Run `vt-models calibrate`; raises VtModelsError for what is printed in one line."""
    if args.diagram is not None:  # what lacks is said before anything runs
        from vt_models.evaluation.reports import plots  # noqa: PLC0415 - needs an extra

        plots.check_chart_path(args.diagram)
    check_threads(args.threads)
    cv2.setNumThreads(args.threads)
    directory = _directory(args.model, args.weights)
    tracker = create_tracker(args.model, directory, device=args.device, threads=args.threads)
    sequences = open_dataset(args.dataset, args.sequences, args.names)
    if args.list is not None:
        chosen = read_video_list(args.list).validation_sequences(sequences.names)
        sequences = open_dataset(args.dataset, args.sequences, list(chosen))
    require_usable(sequences)
    real = collect(tracker, [TimedSequence(sequence) for sequence in sequences])
    composed: list[Samples] = []
    if args.pack is not None:
        composed = collect(tracker, compose(args.pack, args.seed, part="fit"))
    calibration = fit(real, composed)
    about = _describe(calibration, real, composed, args.seed)
    entry: dict[str, Any] = {**calibration.to_entry(), "fitted": about}
    if args.diagram is not None:
        title = f"{args.model}, {_held(about)}"
        plots.save_reliability(args.diagram, title, about["ece"], about["reliability"])
    if not args.dry_run:
        write_calibration(directory, entry)
    sys.stdout.write(json.dumps(entry, indent=2) + "\n" if args.json else _text(entry))
    return 0


def write_calibration(directory: Path, entry: dict[str, Any]) -> None:
    """Put the entry `calibration` into a directory's model.json; every other line stays.

    Raises:
        WeightsError: no model.json there, or it cannot be written.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        manifest["calibration"] = entry
        write_text(path, json.dumps(manifest, indent=2) + "\n")
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be rewritten: {error}") from error


def _directory(model: str, weights: Path | None) -> Path:
    """The export directory whose model.json is written."""
    directory = weights if weights is not None else find_weights(get_spec(model))
    if directory is None or not (directory / MANIFEST).is_file():
        raise InputError(
            f"calibrate needs an export directory of {model}, got {directory}; make one with "
            f"`vt-models export {model} --weights FILE --output DIR` and give --weights DIR"
        )
    return directory


def _describe(
    calibration: Calibration, real: Sequence[Samples], composed: Sequence[Samples], seed: int
) -> dict[str, Any]:
    """Where the numbers come from and how good they are; sequences are left out in turn."""
    held = can_leave_out(real, composed)
    parts = leave_one_out(real, composed) if held else [confidences(calibration, s) for s in real]
    confidence, right = np.concatenate(parts), np.concatenate([s.right for s in real])
    errors = np.concatenate([normalised_errors(calibration, s) for s in real])
    return {
        "sequences": [samples.clip for samples in real],
        "composed_clips": len(composed),
        "seed": seed,
        "frames": len(right),
        "left_out_in_turn": held,
        "ece": round(expected_calibration_error(confidence, right), 4),
        "reliability": [
            {name: round(value, 4) for name, value in row.items()}
            for row in reliability(confidence, right)
        ],
        "nees_mean": round(float(errors.mean()), 3),
        "nees_median": round(float(np.median(errors)), 3),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }


def _text(entry: dict[str, Any]) -> str:
    about = entry["fitted"]
    formula = f"{entry['weight']:.2f} logit(score) + {entry['similarity']:.2f} similarity"
    errors = (
        f"mean {about['nees_mean']:.2f} (4 is calibrated), median {about['nees_median']:.2f} (3.36)"
    )
    bins = [
        (f"{row['confidence']:.2f}", [row["right"], row["frames"]]) for row in about["reliability"]
    ]
    lines = [
        f"P(IoU >= 0.5) = sigmoid({formula} {entry['bias']:+.2f})",
        f"ECE {about['ece']:.3f} over {about['frames']} frames, {_held(about)}",
        f"normalised error squared: {errors}",
        str(Table("confidence", ("right", "frames"), bins)),
    ]
    return "\n".join(lines) + "\n"


def _held(about: dict[str, Any]) -> str:
    return "each sequence left out in turn" if about["left_out_in_turn"] else "not held out"
