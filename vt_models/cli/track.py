# SPDX-License-Identifier: Apache-2.0
"""`vt-models track`: a video or image folder in, boxes out."""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from vt_models.api import create_tracker
from vt_models.errors import InputError
from vt_models.geometry.boxes import Box
from vt_models.grounding import create_grounder
from vt_models.registry import parse_update_policy
from vt_models.tracker.tracker import Estimate, Tracker
from vt_models.video.drawing import with_label
from vt_models.video.sources import RecordedSource, open_recorded
from vt_models.video.writing import VideoWriter

_SUFFIXES = (".mp4", ".csv")


class _Track(NamedTuple):
    """One estimate and one time in seconds for each frame; the first frame's box is the given."""

    estimates: list[Estimate]
    seconds: list[float]


def run(args: argparse.Namespace) -> int:
    """Run `vt-models track`; raises VtModelsError for what the command line prints in one line."""
    for output in args.output:
        _check_output(output)
    source = open_recorded(args.video)
    update = None if args.update is None else parse_update_policy(args.update)
    tracker = create_tracker(
        args.model, args.weights, args.backend, args.device, args.threads, update
    )
    box, text = _start(args, source, tracker)
    videos = [path for path in args.output if path.suffix.lower() == ".mp4"]
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(VideoWriter(path, source.fps)) for path in videos]
        track = _track(tracker, source, box, text, writers)
    for path in args.output:
        if path.suffix.lower() == ".csv":
            _write_csv(path, track)
    summary = _summary(args, track)
    if args.json:
        sys.stdout.write(json.dumps(summary, indent=2) + "\n")
    else:
        sys.stdout.write(_text(summary))
    return 0


def _start(
    args: argparse.Namespace, source: RecordedSource, tracker: Tracker
) -> tuple[Box, str | None]:
    """The first box, given or found, and the text where the tracker reads it.

    Raises:
        InputError: neither a box nor a text, or the text does not lead to one box.
    """
    if args.box is not None:
        return args.box, args.text
    if args.text is None:
        raise InputError("give the target's --box X,Y,W,H in the first frame, or --text")
    grounder = create_grounder(
        args.grounding_backend, args.grounding_source, device=args.device, threads=args.threads
    )
    first = next(iter(source), None)
    if first is None:
        raise InputError(f"{args.video} has no frame")
    grounding = grounder.find(first, args.text)
    if grounding.chosen is None:
        places = "; ".join(_as_option(candidate.box) for candidate in grounding.candidates)
        raise InputError(f"{grounding.reason}. Give one --box{': ' + places if places else ''}")
    sys.stderr.write(f"{grounding.reason}, at {_as_option(grounding.chosen.box)}\n")
    return grounding.chosen.box, args.text if tracker.spec.language else None


def _as_option(box: Box) -> str:
    return ",".join(f"{value:.1f}" for value in box)


def _check_output(path: Path) -> None:
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(f"--output {path} must end in .mp4 or .csv")
    if not path.parent.is_dir():
        raise InputError(f"--output {path}: the folder {path.parent} does not exist; create it")


def _track(
    tracker: Tracker,
    source: RecordedSource,
    box: Box,
    text: str | None,
    writers: list[VideoWriter],
) -> _Track:
    """Track through all frames."""
    track = _Track([], [])
    with contextlib.ExitStack() as stack:
        bar = None
        for frame in source:
            start = time.perf_counter()
            if bar is not None:
                estimate = tracker.update(frame)
            else:
                tracker.init(frame, box, text)
                estimate = Estimate(box, 1.0)
            track.seconds.append(time.perf_counter() - start)
            track.estimates.append(estimate)
            if bar is None:  # only now: a box that is refused leaves one line, no bar above it
                bar = tqdm(total=source.count, unit="frame", file=sys.stderr)
                stack.enter_context(bar)
            bar.update()
            for writer in writers:
                writer.write(with_label(frame, estimate.box, f"{estimate.score:.2f}"))
    return track


def _write_csv(path: Path, track: _Track) -> None:
    """Columns frame (from 0), x, y, w, h in pixels, score."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("frame", "x", "y", "w", "h", "score"))
        for index, estimate in enumerate(track.estimates):
            values = (*estimate.box, estimate.score)
            writer.writerow((index, *(f"{value:.4f}" for value in values)))


def _summary(args: argparse.Namespace, track: _Track) -> dict[str, object]:
    times = np.array(track.seconds[1:] or [float("nan")]) * 1e3
    measured = len(track.seconds) > 1
    return {
        "model": args.model,
        "video": str(args.video),
        "frames": len(track.estimates),
        "ms_per_frame_p50": round(float(np.percentile(times, 50)), 3) if measured else None,
        "ms_per_frame_p99": round(float(np.percentile(times, 99)), 3) if measured else None,
        "boxes": [[round(value, 4) for value in estimate.box] for estimate in track.estimates],
        "scores": [round(estimate.score, 4) for estimate in track.estimates],
        "outputs": [str(path) for path in args.output],
    }


def _text(summary: dict[str, object]) -> str:
    boxes, scores = summary["boxes"], summary["scores"]
    speed = f"{summary['ms_per_frame_p50']} ms a frame (p99 {summary['ms_per_frame_p99']})"
    lines = [f"{summary['frames']} frames with {summary['model']}, {speed}"]
    if isinstance(boxes, list) and isinstance(scores, list) and boxes:
        lines.append(f"last box x,y,w,h = {boxes[-1]}, score {scores[-1]}")
    lines.extend(f"wrote {path}" for path in summary["outputs"] or ())  # type: ignore[attr-defined]
    return "\n".join(lines) + "\n"
