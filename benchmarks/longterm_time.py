# SPDX-License-Identifier: Apache-2.0
"""Measure what the long-term tracker costs a frame beside the network, on one core.

    python -m benchmarks.longterm_time --output benchmarks/results/longterm_time.json

The tracker's engine is one that answers at once, so that what is measured is all but the network:
the short-term tracker's crop and decoding, and with the long-term tracker around it. Noise is added
to one image, so that no frame repeats another. Processor time, so that other programs do not count.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.result_file import measure_into
from vt_models.evaluation.provenance import command_line, provenance
from vt_models.longterm import LongTermSettings, State, create_long_term_tracker
from vt_models.registry import get_spec
from vt_models.tracker.tracker import Tracker

SIZES = {"480x270": (480, 270), "1280x720": (1280, 720), "1920x1080": (1920, 1080)}
FRAMES, BURN_IN = 300, 20
CELLS = 16


class Instant:
    """An engine without a network: the target is where it was, with the score it is told."""

    def __init__(self) -> None:
        self.score = 0.99
        self._boxes = np.empty((1, 4, CELLS, CELLS), np.float32)
        self._boxes[0] = np.array((0.5, 0.5, 0.25, 0.25), np.float32)[:, None, None]
        distance = np.hypot(*(np.mgrid[:CELLS, :CELLS] - CELLS / 2))
        self._shape = np.exp(-0.2 * distance**2).astype(np.float32)[None]

    def set_template(self, template: object) -> None:
        """Keep nothing."""

    def set_dynamic(self, template: object) -> None:
        """Keep nothing."""

    def set_text(self, ids: object, mask: object) -> None:
        """Keep nothing."""

    def search(self, crop: object, mask: object = None) -> tuple[Any, ...]:  # noqa: ARG002
        """Return the score map and the box map, whatever is shown."""
        return self.score * self._shape, self._boxes


def main(arguments: list[str] | None = None) -> int:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(prog="benchmarks.longterm_time", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results/local/longterm_time.json")
    )
    args = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    return measure_into(args.output, _benchmark)


def _benchmark() -> dict[str, Any]:
    about = provenance(command_line(), 0)
    sizes = {name: _measure(size) for name, size in SIZES.items()}
    for name, numbers in sizes.items():
        print(name, " ".join(f"{key} {value:.3f}" for key, value in numbers.items()))
    return {"benchmark": "longterm_time", **about, "frames": FRAMES, "ms": sizes}


def _measure(size: tuple[int, int]) -> dict[str, float]:
    """Median milliseconds of processor time a frame: short-term alone, what long-term adds."""
    frames = _frames(size)
    side = size[1] / 6.0
    box = (size[0] / 2 - side / 2, size[1] / 2 - side / 2, side, side)
    alone = Tracker(get_spec("asymtrack_lite0"), Instant())
    alone.init(frames[0], box)
    alone_ms = _median(alone.update, frames)
    result = {"tracker": alone_ms}
    for state, score in ((State.TRACKING, 0.99), (State.UNCERTAIN, 0.5), (State.COASTING, 0.01)):
        engine = Instant()
        settings = LongTermSettings(coast_frames=10000, coast_seconds=60.0, unclear_frames=100000)
        target = create_long_term_tracker(Tracker(get_spec("asymtrack_lite0"), engine), settings)
        target.init(frames[0], box)
        engine.score = score
        result[state.name.lower()] = _median(target.update, frames) - alone_ms
        if target.state is not state:
            raise RuntimeError(f"expected {state.name}, is {target.state.name}")
    return result


def _frames(size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Eight images of one scene with different noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 200, (18, 32, 3), dtype=np.uint8)
    scene = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    return [scene + rng.integers(0, 12, scene.shape, dtype=np.uint8) for _ in range(8)]


def _median(update: Any, frames: list[NDArray[np.uint8]]) -> float:
    seconds = []
    for index in range(1, FRAMES + BURN_IN):
        frame = frames[index % len(frames)]
        begin = time.thread_time()
        update(frame)
        seconds.append(time.thread_time() - begin)
    return 1e3 * float(np.median(seconds[BURN_IN:]))


if __name__ == "__main__":
    sys.exit(main())
