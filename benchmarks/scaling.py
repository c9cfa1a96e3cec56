# SPDX-License-Identifier: Apache-2.0
"""Measure the whole update of a model against threads, the size of the image, and targets.

    python -m benchmarks.run --only scaling

Of each group the trackers take turns with a fixed piece of work (`benchmarks.reference`), so that
`make bench-check` can compare ratios.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2

from benchmarks.reference import FixedWork
from benchmarks.scene import Scene
from vt_models.api import create_tracker
from vt_models.evaluation.provenance import command_line, provenance
from vt_models.evaluation.reports.tables import table
from vt_models.evaluation.runs.runner import Frame, SingleObjectTracker
from vt_models.evaluation.speed import FrameClip, Timing, measure
from vt_models.geometry.boxes import Box
from vt_models.longterm import LongTermTracker, create_long_term_tracker
from vt_models.tracker.tracker import Estimate

REFERENCE = "reference"
SIZES = {
    "480x270": (480, 270),
    "640x480": (640, 480),
    "1280x720": (1280, 720),
    "1920x1080": (1920, 1080),
}
TARGETS, THREADS, FRAMES, BURN_IN = (1, 2, 4), (1, 2), 50, 10


class LongTerm:
    """A long-term tracker as something that is measured, with stamps of 30 frames a second."""

    def __init__(self, tracker: LongTermTracker) -> None:
        self._tracker, self._number = tracker, 0

    def init(self, frame: Frame, box: Box) -> None:
        """Start on a target."""
        self._number = 0
        self._tracker.init(frame, box, stamp=0.0)

    def update(self, frame: Frame) -> Estimate:
        """Find the target."""
        self._number += 1
        found = self._tracker.update(frame, self._number / 30.0)
        return Estimate(found.box or (0.0, 0.0, 1.0, 1.0), found.score)


class Targets:
    """Some long-term trackers on the same frames, one after the other."""

    def __init__(self, trackers: Sequence[LongTerm]) -> None:
        self._trackers = trackers

    def init(self, frame: Frame, box: Box) -> None:
        """Start all on the same target."""
        for tracker in self._trackers:
            tracker.init(frame, box)

    def update(self, frame: Frame) -> Estimate:
        """Update all; returns what the last one found."""
        return [tracker.update(frame) for tracker in self._trackers][-1]


def benchmark(model: str, repeats: int) -> dict[str, Any]:
    """Measure a model with bundled or installed weights on the CPU."""
    about = provenance(command_line(), 0)
    cv2.setNumThreads(1)

    def long_term() -> LongTerm:
        return LongTerm(create_long_term_tracker(create_tracker(model, device="cpu", threads=1)))

    groups: dict[str, dict[str, Any]] = {}
    groups["threads"] = _group(
        {str(number): create_tracker(model, device="cpu", threads=number) for number in THREADS},
        SIZES["640x480"],
        repeats,
    )
    for name, size in SIZES.items():
        short_term = create_tracker(model, device="cpu", threads=1)
        trackers: dict[str, SingleObjectTracker] = {
            "short_term": short_term,
            "long_term": long_term(),
        }
        groups[f"image_{name}"] = _group(trackers, size, repeats)
    groups["targets"] = _group(
        {str(number): Targets([long_term() for _ in range(number)]) for number in TARGETS},
        SIZES["640x480"],
        repeats,
    )
    return {"benchmark": "scaling", **about, "model": model, "frames": FRAMES, "groups": groups}


def to_text(result: Mapping[str, Any]) -> str:
    """Return a table for each group."""
    columns = {"CPU time": "cpu_median_ms", "median": "median_ms", "p99": "p99_ms"}
    tables = (table(name, columns, group.items()) for name, group in result["groups"].items())
    return "\n".join(f"{one}\n" for one in tables)


def _group(
    trackers: Mapping[str, SingleObjectTracker], size: tuple[int, int], repeats: int
) -> dict[str, Any]:
    scene = Scene(size, size[1] // 8)
    clip = FrameClip("scene", tuple(scene.frame(number) for number in range(FRAMES)), scene.box(0))
    together: dict[str, SingleObjectTracker] = {REFERENCE: FixedWork(), **trackers}
    timings: dict[str, Timing] = measure(together, clip, repeats=repeats, burn_in=BURN_IN)
    return {name: timing.to_dict() for name, timing in timings.items()}
