# SPDX-License-Identifier: Apache-2.0
"""`--stream FPS` and `--latency MS` of `vt-models eval`: one pass, or as a camera delivers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from vt_models.errors import InputError
from vt_models.evaluation.runs.latency import Streaming
from vt_models.evaluation.runs.runner import run_sequence, start_on_truth

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from vt_models.evaluation.runs.runner import Report, SequenceRunner, Starter

EVERY_TRACKER = ""


@dataclass(frozen=True)
class Stream:
    """How the frames come.

    Attributes:
        fps: of the camera; None hands every frame over, however long that takes.
        latency_ms: per frame by the tracker's name, or one for all under `EVERY_TRACKER`; measured
            where there is none.
    """

    fps: float | None = None
    latency_ms: dict[str, float] = field(default_factory=dict)

    def latency_of(self, tracker: str) -> float | None:
        """Milliseconds, None where they are measured."""
        return self.latency_ms.get(tracker, self.latency_ms.get(EVERY_TRACKER))

    def runner(self, tracker: str, start: Starter = start_on_truth) -> SequenceRunner:
        """What is done with a sequence."""
        if self.fps is None:
            return partial(run_sequence, start=start)
        latency = self.latency_of(tracker)
        return Streaming(1.0 / self.fps, None if latency is None else latency / 1e3, start)

    def settings(self, tracker: str) -> dict[str, float | None]:
        """What decides the boxes, JSON-serialisable."""
        return {"fps": self.fps, "latency_ms": self.latency_of(tracker)}

    def about(self, report: Report) -> dict[str, float | None]:
        """The settings, and which share of the frames was processed."""
        taken = sum(len(result.seconds) for result in report.results)
        frames = sum(len(result.boxes) - 1 for result in report.results)
        return {**self.settings(report.model), "processed": taken / frames}

    def to_text(self, reports: Sequence[Report]) -> str:
        """A line a tracker."""
        lines = [f"stream of {self.fps:g} images a second, scored when the answer is known"]
        for report in reports:
            about = self.about(report)
            given = about["latency_ms"]
            seconds = np.concatenate([result.seconds for result in report.results])
            latency = (
                f"measured latency {1e3 * seconds.mean():.1f} ms"
                if given is None
                else f"given latency {given:g} ms"
            )
            lines.append(f"{report.model}: {latency}, {about['processed']:.1%} of frames processed")
        return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument_group("as a stream").add_argument
    add("--stream", type=float, metavar="FPS", help="frames as a camera delivers them")
    add("--latency", metavar="MS", help="with --stream: MS or NAME=MS,...; default: measured")


def chosen(args: argparse.Namespace, trackers: Sequence[str]) -> Stream:
    """What the options say.

    Raises:
        InputError: a number that cannot be, --latency without --stream, a name that does not run,
            or a measured latency while several processes compete.
    """
    if args.stream is None:
        if args.latency is not None:
            raise InputError("--latency is for --stream FPS; add that or leave it out")
        return Stream()
    if not 0.0 < args.stream < float("inf"):
        raise InputError(f"--stream is {args.stream:g}; expected images a second, above 0")
    stream = Stream(args.stream, {} if args.latency is None else parse_latency(args.latency))
    unknown = set(stream.latency_ms) - {EVERY_TRACKER, *trackers}
    missing = [name for name in trackers if stream.latency_of(name) is None]
    if unknown or (missing and stream.latency_ms):
        wrong = f"names {', '.join(sorted(unknown))}" if unknown else f"lacks {', '.join(missing)}"
        raise InputError(f"--latency {args.latency} {wrong}; expected {', '.join(trackers)}")
    if missing and args.jobs > 1:
        raise InputError(
            f"--jobs {args.jobs} falsifies a measured latency; use --jobs 1 or give --latency"
        )
    return stream


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
