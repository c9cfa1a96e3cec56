# SPDX-License-Identifier: Apache-2.0
"""`vt-models track` of a bag, or with `--long-term`: targets with states, as the node has them."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from vt_models.api import create_tracker
from vt_models.auto_model import AUTO, choose_model
from vt_models.cli.options import check_not_input, check_output_file
from vt_models.errors import InputError, install_hint
from vt_models.geometry.bearing import BearingFinder
from vt_models.grounding import create_grounder
from vt_models.longterm import create_long_term_tracker
from vt_models.offline.outputs import CsvOutput, Output, VideoOutput
from vt_models.offline.targets import TargetFinder, TargetPlan, as_option, read_plans
from vt_models.offline.tracking import (
    FrameReports,
    RecordedFrame,
    TargetReport,
    TargetRun,
    frames_of,
    track_frames,
    track_in_realtime,
    with_bearings,
)
from vt_models.registry import parse_update_policy
from vt_models.training.signals import stopped_by_signals
from vt_models.video.bags.paths import is_bag
from vt_models.video.sources import DEFAULT_FPS, is_cut_off, open_recorded

if TYPE_CHECKING:
    from rosbags.interfaces import Connection

    from vt_models.video.bags.reader import Bag

INCOMPLETE, INTERRUPTED = 1, 130
_SUFFIXES = (".mcap", ".mp4", ".csv", ".html")

_Copy = Callable[["Connection", int, bytes], None]


@dataclass
class _Tally:
    """What the command says at its end.

    Attributes:
        frames: processed ones.
        dropped, rejected: frames left out in real time, and those that cannot be read.
        seconds: of the recording.
        times: seconds that the trackers took, for each frame in which all were at work.
        states: number of frames in each state, by target.
        last: report of the last frame, by target.
    """

    frames: int = 0
    dropped: int = 0
    rejected: int = 0
    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    states: dict[str, Counter[str]] = field(default_factory=dict)
    last: dict[str, TargetReport] = field(default_factory=dict)

    def add(self, reports: FrameReports) -> None:
        self.frames, self.dropped = reports.processed, reports.dropped
        self.rejected, self.seconds = reports.rejected, reports.seconds
        if all(one.target_id and one.name in self.last for one in reports.targets):
            self.times.append(sum(one.seconds for one in reports.targets))
        for one in reports.targets:
            self.states.setdefault(one.name, Counter())[one.state.name] += 1
            self.last[one.name] = one


def is_long_term(args: argparse.Namespace) -> bool:
    """Return whether this module runs the command.

    Raises:
        InputError: an option that needs `--long-term` where a video or folder is given.
    """
    if args.long_term or is_bag(args.video):
        return True
    for name in ("at", "point", "targets", "name", "topic", "realtime", "latency", "rectified"):
        if getattr(args, name) not in (None, False):
            raise InputError(
                f"--{name} is for bags and for --long-term, which tracks as the node does, with "
                "states"
            )
    return False


@dataclass
class _Recording:
    """What is opened for a run.

    Attributes:
        frames: of the recording; those of a bag copy all messages on the way.
        count: how many there are; None where that is not known.
        outputs: by their paths.
    """

    frames: Iterator[RecordedFrame]
    count: int | None
    outputs: dict[Path, Output]


def run(args: argparse.Namespace) -> int:
    """Run the command; raises VtModelsError for what the command line prints in one line."""
    is_a_bag = is_bag(args.video)
    _check(args, is_a_bag)
    plans = _plans(args)
    model, reason = args.model, ""
    if model == AUTO:
        choice = choose_model()
        model, reason = choice.name, choice.reason
    bearings, stop, tally = BearingFinder(), threading.Event(), _Tally()
    in_main = threading.current_thread() is threading.main_thread()
    with ExitStack() as stack:
        recording = _open(args, is_a_bag, plans, (model, reason), bearings, stack)
        runs = _runs(args, model, plans)
        results = track_frames(recording.frames, runs)
        if args.realtime:
            latency = None if args.latency is None else args.latency / 1000.0
            results = track_in_realtime(recording.frames, runs, latency)
        results = (with_bearings(one, bearings, args.rectified) for one in results)
        with stopped_by_signals(stop.set) if in_main else contextlib.nullcontext():
            problems = _follow(results, recording, runs, tally, stop)
            written = _close(recording.outputs, problems)
    if bearings.problem:
        sys.stderr.write(f"no bearings: {bearings.problem}\n")
    summary = _summary(args, model, tally, written)
    sys.stdout.write(json.dumps(summary, indent=2) + "\n" if args.json else _text(summary))
    if problems:
        raise InputError("; ".join(problems))
    if stop.is_set():
        sys.stderr.write(f"interrupted after {tally.frames} frames\n")
        return INTERRUPTED
    read = tally.frames + tally.dropped + tally.rejected
    if not is_cut_off(recording.count, read):
        return 0
    if is_a_bag:  # a video says so itself
        sys.stderr.write(
            f"{args.video} declares {recording.count} images and has {read}: a part of it is "
            "missing, or its metadata.yaml is of another one\n"
        )
    return INCOMPLETE


def _open(
    args: argparse.Namespace,
    is_a_bag: bool,
    plans: list[TargetPlan],
    model: tuple[str, str],
    bearings: BearingFinder,
    stack: ExitStack,
) -> _Recording:
    """Open the recording and the outputs, which go with the stack unless they are closed."""
    outputs: dict[Path, Output] = {}
    by_suffix = [(path.suffix.lower(), path) for path in args.output]
    bag, copy = None, None
    if is_a_bag:
        bag = stack.enter_context(_open_bag(args.video, args.topic))
    for path in (path for suffix, path in by_suffix if suffix == ".mcap"):
        with _bags_needed(f"--output {path}"):
            from vt_models.offline.bag_output import BagOutput  # noqa: PLC0415 - needs the extra
            from vt_models.video.bags.writer import TrackedBagWriter  # noqa: PLC0415
        writer = TrackedBagWriter(path, bag, [plan.name for plan in plans])
        outputs[path] = stack.enter_context(BagOutput(writer, *model))
        copy = writer.copy
    if bag is not None:
        frames, count, fps = _bag_frames(bag, copy, bearings), bag.count, bag.fps or DEFAULT_FPS
    else:
        source = open_recorded(args.video)
        frames, count, fps = frames_of(source), source.count, source.fps
    for suffix, path in by_suffix:
        if suffix == ".csv":
            outputs[path] = stack.enter_context(CsvOutput(path))
        elif suffix == ".mp4":
            outputs[path] = stack.enter_context(VideoOutput(path, fps))
        elif suffix == ".html":
            from vt_models.offline.report import ReportOutput  # noqa: PLC0415 - needs the extra

            outputs[path] = stack.enter_context(ReportOutput(path, str(args.video), model[0]))
    return _Recording(frames, count, outputs)


def _follow(
    results: Iterator[FrameReports],
    recording: _Recording,
    runs: list[TargetRun],
    tally: _Tally,
    stop: threading.Event,
) -> list[str]:
    """Write the reports of every frame; return what went wrong on the way or was never reached.

    Raises:
        InputError: nothing was tracked at all.
    """
    with ExitStack() as stack:
        bar = None
        try:
            for reports in results:
                if bar is None:  # only now: what is refused at once leaves one line, no bar
                    bar = tqdm(total=recording.count, unit="frame", file=sys.stderr)
                    stack.enter_context(bar)
                bar.update()
                tally.add(reports)
                for output in recording.outputs.values():
                    output.write(reports)
                if stop.is_set():
                    return []
        except InputError as error:
            if not any(one.has_started for one in runs):
                raise
            return [f"{error}; {tally.frames} frames before it were tracked"]
    if not tally.last:
        raise InputError("the recording has no frame")
    late = [one.plan for one in runs if not one.has_started]
    problems = [
        f"target {plan.name} was to start at {plan.at:g} s, and the last frame that can be read is "
        f"{tally.seconds:.3f} s after the first"
        for plan in late
    ]
    if len(late) == len(runs):
        raise InputError("; ".join(problems))
    return problems


def _check(args: argparse.Namespace, is_a_bag: bool) -> None:
    """Raise InputError for options that contradict each other or the recording."""
    if args.show_response:
        raise InputError("--show-response is for videos and folders without --long-term")
    if args.latency is not None:
        if not args.realtime:
            raise InputError("--latency is of the machine that --realtime imitates; give that, too")
        if not 0.0 < args.latency < math.inf:
            raise InputError(f"--latency is {args.latency}; expected milliseconds, more than 0")
    if not is_a_bag and args.topic is not None:
        raise InputError(f"--topic {args.topic}: {args.video} is no bag, and has no topics")
    for path in args.output:
        suffix = path.suffix.lower()
        if suffix not in _SUFFIXES:
            raise InputError(f"--output {path} must end in {', '.join(_SUFFIXES)}")
        check_output_file("--output", path)
        check_not_input("--output", path, args.video)
        if args.video.is_dir() and path.resolve().parent == args.video.resolve():
            raise InputError(f"--output {path} lies in {args.video}, which is read; give another")
    of_bags = [path for path in args.output if path.suffix.lower() == ".mcap"]
    if len(of_bags) > 1 or len(set(args.output)) < len(args.output):
        raise InputError("--output: one .mcap at most, and each file once")


def _plans(args: argparse.Namespace) -> list[TargetPlan]:
    """Return the targets of the options, or of the file."""
    own = {name: getattr(args, name) for name in ("box", "text", "point", "at", "name")}
    if args.targets is not None:
        given = next((name for name, value in own.items() if value is not None), None)
        if given is not None:
            raise InputError(f"--{given} and --targets are both given; write it into the file")
        return read_plans(args.targets)
    if args.box is None and args.text is None and args.point is None:
        raise InputError("give the target's --box X,Y,W,H, --text or --point X,Y, or --targets")
    return [
        TargetPlan(
            args.name if args.name is not None else "tracker",
            args.at if args.at is not None else 0.0,
            args.box,
            args.text or "",
            args.point,
        )
    ]


def _open_bag(path: Path, topic: str | None) -> Bag:
    with _bags_needed(str(path)):
        from vt_models.video.bags.reader import Bag  # noqa: PLC0415 - needs the extra bags
    return Bag(path, topic)


@contextlib.contextmanager
def _bags_needed(what: str) -> Iterator[None]:
    """Say what to install where the packages that read and write bags are missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise InputError(
            f"{what} is a bag, for which the Python package {package!r} is needed; "
            f"{install_hint('bags')}"
        ) from error


def _bag_frames(bag: Bag, copy: _Copy | None, bearings: BearingFinder) -> Iterator[RecordedFrame]:
    """Yield the images of a bag; on the way copy all messages, and take the calibration."""
    from vt_models.video.bags.reader import CAMERA_INFO, COMPRESSED, IMAGE  # noqa: PLC0415

    first = bag.first_camera_info()
    if first is not None:
        bearings.take(first)
    number = 0
    topics = [bag.topic, bag.camera_info_topic] if copy is None else []
    for connection, time, data in bag.messages(topics):
        if copy is not None:
            copy(connection, time, data)
        if connection.topic == bag.topic and connection.msgtype in (IMAGE, COMPRESSED):
            image = bag.image(number, connection, time, data)
            yield RecordedFrame(number, time, image.header, image.decode)
            number += 1
        elif connection.topic == bag.camera_info_topic and connection.msgtype == CAMERA_INFO:
            info = bag.camera_info(data)
            if info is not None:
                bearings.take(info)


def _runs(args: argparse.Namespace, model: str, plans: list[TargetPlan]) -> list[TargetRun]:
    """Load a tracker for each target."""
    update = None if args.update is None else parse_update_policy(args.update)
    finder = TargetFinder(
        lambda: create_grounder(
            args.grounding_backend, args.grounding_source, device=args.device, threads=args.threads
        )
    )
    runs = []
    for plan in plans:
        tracker = create_tracker(
            model, args.weights, args.backend, args.device, args.threads, update
        )
        runs.append(TargetRun(plan, create_long_term_tracker(tracker), finder))
    return runs


def _close(outputs: dict[Path, Output], problems: list[str]) -> list[Path]:
    """Finish every output that can be finished; return those, and add what is wrong."""
    written = []
    for path, output in outputs.items():
        try:
            output.close()
            written.append(path)
        except InputError as error:
            if not any(str(error) in problem for problem in problems):  # as when it was written to
                problems.append(str(error))
    return written


def _summary(
    args: argparse.Namespace, model: str, tally: _Tally, written: list[Path]
) -> dict[str, Any]:
    times = 1000.0 * np.array(tally.times)
    targets = {
        name: {
            "states": dict(tally.states[name]),
            "last_state": last.state.name,
            "last_box": None if last.box is None else [round(value, 4) for value in last.box],
            "last_score": round(last.score, 4),
        }
        for name, last in tally.last.items()
    }
    return {
        "model": model,
        "video": str(args.video),
        "frames": tally.frames,
        "dropped": tally.dropped,
        "rejected": tally.rejected,
        "seconds": round(tally.seconds, 3),
        "ms_per_frame_p50": round(float(np.percentile(times, 50)), 3) if times.size else None,
        "ms_per_frame_p99": round(float(np.percentile(times, 99)), 3) if times.size else None,
        "targets": targets,
        "outputs": [str(path) for path in written],
    }


def _text(summary: dict[str, Any]) -> str:
    left_out = [f"{summary[key]} {key}" for key in ("dropped", "rejected") if summary[key]]
    speed = f"{summary['ms_per_frame_p50']} ms a frame (p99 {summary['ms_per_frame_p99']})"
    first = [f"{summary['frames']} frames with {summary['model']}", speed, *left_out]
    lines = [", ".join(first)]
    for name, target in summary["targets"].items():
        states = ", ".join(f"{count} {state}" for state, count in target["states"].items())
        box = "" if target["last_box"] is None else f" at {as_option(target['last_box'])}"
        lines.append(f"{name}: {states}; in the last frame {target['last_state']}{box}")
    lines.extend(f"wrote {path}" for path in summary["outputs"])
    return "\n".join(lines) + "\n"
