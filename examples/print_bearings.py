#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Print the direction of the target in degrees, for every image that shows it.

print_bearings.py; needs camera_info, and a target set by somebody else.
"""

from __future__ import annotations

import argparse
import math
import sys

from vt_ros.client import Estimate, State, TrackerClient, TrackerError


def main() -> int:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=0, help="of directions, then stop; 0: go on")
    arguments = parser.parse_args()
    try:
        with TrackerClient() as tracker:
            print_bearings(tracker, arguments.count)
    except TrackerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def print_bearings(tracker: TrackerClient, count: int) -> None:
    """Print `count` directions, or directions for ever if that is 0."""
    tracker.wait_for_state(State.TRACKING, timeout=60.0)
    printed, reason = 0, ""
    for estimate in tracker.estimates():
        if not estimate.measured or math.isnan(estimate.azimuth):
            previous, reason = reason, why_none(estimate)
            if reason != previous:
                print(reason)
        else:
            reason = ""
            right, down = math.degrees(estimate.azimuth), math.degrees(estimate.elevation)
            sigma = math.degrees(estimate.status.bearing_sigma)
            print(f"{right:+.2f} right, {down:+.2f} down, +-{sigma:.2f} degrees")
            printed += 1
            if printed == count:
                return


def why_none(estimate: Estimate) -> str:
    """Return why there is no direction; every image without one says the same again."""
    if estimate.measured:
        return "no direction: no usable camera_info; /diagnostics says why"
    return f"{estimate.state.name}: {estimate.status.message}"


if __name__ == "__main__":
    sys.exit(main())
