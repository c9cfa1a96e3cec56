#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Track what is inside a box, print where it is, and stop: start_by_box.py X Y W H."""

from __future__ import annotations

import argparse
import itertools

from vt_ros.client import TrackerClient


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("box", nargs=4, type=float, help="x y w h in pixels")
    parser.add_argument("--frames", type=int, default=100, help="then stop")
    arguments = parser.parse_args()
    with TrackerClient() as tracker:
        start = tracker.start_box(arguments.box)
        print(f"target {start.target_id}")
        for estimate in itertools.islice(tracker.estimates(), arguments.frames):
            box = "  ".join(f"{value:.0f}" for value in estimate.box or ()) or "no box"
            print(f"{estimate.state.name:9}  {estimate.score:.2f}  {box}")
        print(tracker.stop())


if __name__ == "__main__":
    main()
