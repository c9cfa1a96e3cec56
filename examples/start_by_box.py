#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Track what is inside a box, print where it is, and stop: start_by_box.py X Y W H."""

from __future__ import annotations

import argparse
import itertools
import sys

from vt_ros.client import TrackerClient, TrackerError


def main() -> int:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("box", nargs=4, type=float, help="x y w h in pixels")
    parser.add_argument("--frames", type=int, default=100, help="then stop")
    arguments = parser.parse_args()
    try:
        with TrackerClient() as tracker:
            follow(tracker, arguments.box, arguments.frames)
    except TrackerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def follow(tracker: TrackerClient, box: list[float], frames: int) -> None:
    """Start on a box, and print what becomes of it."""
    start = tracker.start_box(box)
    print(f"target {start.target_id}")
    for estimate in itertools.islice(tracker.estimates(), frames):
        shown = "  ".join(f"{value:.0f}" for value in estimate.box or ()) or "no box"
        print(f"{estimate.state.name:9}  {estimate.score:.2f}  {shown}")
    print(tracker.stop())


if __name__ == "__main__":
    sys.exit(main())
