# SPDX-License-Identifier: Apache-2.0
"""`vt-models track`: a video or image folder in, boxes out; bags are `track_targets`'s."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from vt_models.api import create_tracker
from vt_models.cli import track_targets
from vt_models.cli.options import check_not_input, check_output_file
from vt_models.errors import InputError
from vt_models.explain import responses
from vt_models.files import write_text
from vt_models.geometry.boxes import Box
from vt_models.grounding import create_grounder
from vt_models.offline.targets import as_option
from vt_models.registry import parse_update_policy
from vt_models.tracker.tracker import Estimate, Tracker
from vt_models.video.drawing import with_heat, with_label
from vt_models.video.sources import RecordedSource, is_cut_off, open_recorded
from vt_models.video.writing import VideoWriter

INCOMPLETE, INTERRUPTED = 1, 130
_SUFFIXES = (".mp4", ".csv")


class _Track(NamedTuple):
    """One estimate and one time in seconds for each frame; the first frame's box is the given."""

    estimates: list[Estimate]
    seconds: list[float]


def run(args: argparse.Namespace) -> int:
    """Run `vt-models track`; raises VtModelsError for what the command line prints in one line."""
    args.video = args.video.expanduser()
    if track_targets.is_long_term(args):
        return track_targets.run(args)
    for output in args.output:
        _check_output(output, args.video)
    source = open_recorded(args.video)
    update = None if args.update is None else parse_update_policy(args.update)
    tracker = create_tracker(
        args.model, args.weights, args.backend, args.device, args.threads, update
    )
    if args.show_response and tracker.spec.decoder != "dense" and args.backend != "torch":
        raise InputError(
            f"--show-response: the corner maps of {tracker.spec.name} are seen with "
            "--backend torch alone, which needs weights in training form"
        )
    box, text = _start(args, source, tracker)
    videos = [path for path in args.output if path.suffix.lower() == ".mp4"]
    if args.show_response and not videos:
        raise InputError("--show-response draws into a video: give --output OUT.mp4")
    writers = {path: VideoWriter(path, source.fps) for path in videos}
    track = _Track([], [])
    stopped: InputError | KeyboardInterrupt | None = None
    with contextlib.ExitStack() as drafts:  # which go unless they are finished below
        for writer in writers.values():
            drafts.enter_context(writer)
        try:
            videos_out = list(writers.values())
            _track(tracker, source, (box, text), videos_out, track, args.show_response)
        except (InputError, KeyboardInterrupt) as error:
            if not track.estimates:
                raise
            stopped = error  # what was tracked until then is kept
        written, problems = _finish(args.output, writers, track)
    summary = _summary(args, track, written)
    if args.json:
        sys.stdout.write(json.dumps(summary, indent=2) + "\n")
    else:
        sys.stdout.write(_text(summary))
    if isinstance(stopped, KeyboardInterrupt):
        sys.stderr.write(f"interrupted after {len(track.estimates)} frames\n")
        return INTERRUPTED
    if stopped is not None:
        problems.insert(0, f"{stopped}; {len(track.estimates)} frames before it were tracked")
    if problems:
        raise InputError("; ".join(problems))
    return INCOMPLETE if is_cut_off(source.count, len(track.estimates)) else 0


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
        places = "; ".join(as_option(candidate.box) for candidate in grounding.candidates)
        raise InputError(f"{grounding.reason}. Give one --box{': ' + places if places else ''}")
    sys.stderr.write(f"{grounding.reason}, at {as_option(grounding.chosen.box)}\n")
    return grounding.chosen.box, args.text if tracker.spec.language else None


def _check_output(path: Path, video: Path) -> None:
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(f"--output {path} must end in .mp4 or .csv")
    check_output_file("--output", path)
    check_not_input("--output", path, video)


def _track(
    tracker: Tracker,
    source: RecordedSource,
    start_on: tuple[Box, str | None],
    writers: list[VideoWriter],
    track: _Track,
    show_response: bool,
) -> None:
    """Track through all frames, write them, and append to `track` what each gives."""
    box, text = start_on
    recorded: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    if show_response and tracker.spec.decoder != "dense":
        from vt_models.nets.recording import recording as recorded  # noqa: PLC0415 - needs torch
    with contextlib.ExitStack() as stack:
        bar = None
        for frame in source:
            start = time.perf_counter()
            records: Any = None
            if bar is not None:
                with recorded() as records:
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
            shown = frame
            if show_response and len(track.estimates) > 1 and tracker.last_search is not None:
                heat = np.max([panel.heat for panel in responses(tracker, records or {})], axis=0)
                shown = with_heat(frame, heat, tracker.last_search.window)
            for writer in writers:
                writer.write(with_label(shown, estimate.box, f"{estimate.score:.2f}"))


def _finish(
    outputs: list[Path], writers: dict[Path, VideoWriter], track: _Track
) -> tuple[list[Path], list[str]]:
    """Write every output that can be written; return those, and what is wrong with the others."""
    written, problems = [], []
    for path in outputs:
        try:
            if path in writers:
                writers[path].close()
            else:
                _write_csv(path, track)
            written.append(path)
        except InputError as error:
            problems.append(str(error))
    return written, problems


def _write_csv(path: Path, track: _Track) -> None:
    """Columns frame (from 0), x, y, w, h in pixels, score."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(("frame", "x", "y", "w", "h", "score"))
    for index, estimate in enumerate(track.estimates):
        values = (*estimate.box, estimate.score)
        writer.writerow((index, *(f"{value:.4f}" for value in values)))
    try:
        write_text(path, file.getvalue())
    except OSError as error:
        raise InputError(f"--output {path} cannot be written: {error.strerror}") from error


def _summary(args: argparse.Namespace, track: _Track, written: list[Path]) -> dict[str, object]:
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
        "outputs": [str(path) for path in written],
    }


def _text(summary: dict[str, object]) -> str:
    boxes, scores = summary["boxes"], summary["scores"]
    speed = f"{summary['ms_per_frame_p50']} ms a frame (p99 {summary['ms_per_frame_p99']})"
    lines = [f"{summary['frames']} frames with {summary['model']}, {speed}"]
    if isinstance(boxes, list) and isinstance(scores, list) and boxes:
        lines.append(f"last box x,y,w,h = {boxes[-1]}, score {scores[-1]}")
    lines.extend(f"wrote {path}" for path in summary["outputs"] or ())  # type: ignore[attr-defined]
    return "\n".join(lines) + "\n"
