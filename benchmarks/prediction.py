# SPDX-License-Identifier: Apache-2.0
"""What `~/prediction` is worth: overlap at "now", with it and without it.

    python -m benchmarks.prediction --root VIDEOS --output benchmarks/results/prediction.json

The streamed protocol of docs/evaluation.md on the long-term tracker: frames come 30 times a second,
an answer is known a given latency after its frame, and in every frame the newest known answer is
compared with the truth of that frame. Once the box is taken as it was answered, once it is carried
forward to the frame (`vt_models.longterm.prediction`). Both are of the same run, so that they
differ by the prediction alone; a frame in which the target is LOST counts as no overlap in both.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.result_file import SHARED, measure_into
from vt_models.api import create_tracker
from vt_models.datasets import open_dataset, read_video_list
from vt_models.datasets.sequence import VideoSequence
from vt_models.evaluation.metrics.accuracy import interval_or_none
from vt_models.evaluation.provenance import command_line, provenance
from vt_models.evaluation.reports.tables import table
from vt_models.evaluation.runs.runner import accuracy_of
from vt_models.evaluation.runs.streaming import known_answers, next_frame
from vt_models.longterm import create_long_term_tracker
from vt_models.longterm.prediction import BoxMotion, follow
from vt_models.tracker.tracker import Tracker

_PERIOD = 1.0 / 30.0
_INSIDE = 5.991  # of chi squared with two degrees of freedom, 95 % lie below
COLUMNS = ("held", "predicted", "gain", "held_inside", "predicted_inside")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 2 and one line on standard error where that is impossible."""
    parser = argparse.ArgumentParser(prog="benchmarks.prediction", description=__doc__)
    add = parser.add_argument
    add("--model", default="asymtrack_lite0", help="default: %(default)s")
    add("--root", type=Path, default=SHARED / "train_videos", help="default: %(default)s")
    add("--list", type=Path, default=Path("recipes/validation.tsv"), help="default: %(default)s")
    add("--latency", type=float, nargs="+", default=[33.0, 66.0], help="milliseconds")
    add("--output", type=Path, default=Path("benchmarks/results/local/prediction.json"))
    args = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    cv2.setNumThreads(1)
    return measure_into(args.output, lambda: _benchmark(args))


def _benchmark(args: argparse.Namespace) -> dict[str, Any]:
    about = provenance(command_line(), 0)
    dataset = open_dataset("videos", args.root)
    names = list(read_video_list(args.list).validation_sequences(dataset.names))
    tracker = create_tracker(args.model, threads=1)
    latencies: dict[str, Any] = {}
    for latency in args.latency:
        sequences = {
            name: _stream(tracker, dataset[dataset.names.index(name)], latency / 1e3)
            for name in names
        }
        columns = {key: [each[key] for each in sequences.values()] for key in COLUMNS}
        latencies[f"ms_{latency:g}"] = {
            **{key: float(np.nanmean(values)) for key, values in columns.items()},
            "gain_interval": interval_or_none(columns["gain"]),
            "better": sum(gain > 0 for gain in columns["gain"]),
            "worse": sum(gain < 0 for gain in columns["gain"]),
            "sequences": sequences,
        }
    print(table("latency", COLUMNS, list(latencies.items())))
    return {
        "benchmark": "prediction",
        **about,
        "model": args.model,
        "fps": round(1.0 / _PERIOD),
        "latencies": latencies,
    }


def _stream(tracker: Tracker, sequence: VideoSequence, latency: float) -> dict[str, float]:
    """Track a sequence as it comes, and score it with and without prediction."""
    target = create_long_term_tracker(tracker)
    count, truth = len(sequence), np.asarray(sequence.boxes, np.float64)
    first = target.init(sequence.read_frame(0), truth[0].tolist(), stamp=0.0)
    motion = _motion(None, first, 0.0)
    answers, finished, step = [motion], [0.0], 0
    while (step := next_frame(finished[-1], step, _PERIOD)) < count:
        stamp = step * _PERIOD
        motion = _motion(motion, target.update(sequence.read_frame(step), stamp), stamp)
        answers.append(motion)
        finished.append(max(finished[-1], stamp) + latency)
    known = [answers[index] for index in known_answers(np.array(finished), _PERIOD, count)]
    held, predicted = np.full((count, 4), np.nan), np.full((count, 4), np.nan)
    inside: dict[str, list[bool]] = {"held": [], "predicted": []}
    for number, answer in enumerate(known):
        if answer is None:
            continue
        carried, covariance = answer.at(number * _PERIOD)
        held[number], predicted[number] = answer.box, carried
        if number and np.isfinite(truth[number]).all():
            for key, box, spread in (
                ("held", answer.box, answer.covariance),
                ("predicted", carried, covariance),
            ):
                inside[key].append(_is_inside(box, spread, truth[number]))
    before, after = accuracy_of(held, sequence), accuracy_of(predicted, sequence)
    if before is None or after is None:
        raise ValueError(f"{sequence.name} has no public truth")
    return {
        "held": before.ao,
        "predicted": after.ao,
        "gain": after.ao - before.ao,
        **{f"{key}_inside": float(np.mean(v)) if v else math.nan for key, v in inside.items()},
    }


def _motion(previous: BoxMotion | None, estimate: Any, stamp: float) -> BoxMotion | None:
    if estimate.box is None or estimate.covariance is None:
        return None
    return follow(previous, stamp, estimate.box, estimate.covariance, estimate.state)


def _is_inside(
    box: Sequence[float], covariance: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]
) -> bool:
    """Return whether the true centre lies in the ellipse that should hold it with 95 %."""
    x, y, w, h = box
    off = truth[:2] + truth[2:] / 2.0 - (x + 0.5 * w, y + 0.5 * h)
    return bool(off @ np.linalg.solve(covariance[:2, :2], off) < _INSIDE)


if __name__ == "__main__":
    sys.exit(main())
