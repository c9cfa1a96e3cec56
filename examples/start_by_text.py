#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Track what a text describes: start_by_text.py "the white car on the left".

If several objects fit, the best of them is taken after they have been listed.
"""

from __future__ import annotations

import argparse
import sys

from vt_ros.client import Start, State, TargetRefusedError, TrackerClient, TrackerError


def start(tracker: TrackerClient, text: str) -> Start:
    """Start by the text; where it is ambiguous, by the box that fits best."""
    try:
        return tracker.start_text(text)
    except TargetRefusedError as refusal:
        if not refusal.candidates:
            raise
        print(refusal)
        for candidate in refusal.candidates:
            print(f"  {candidate.score:.2f}  {[round(value) for value in candidate.box]}")
        return tracker.start_box(refusal.candidates[0].box, text, refusal.stamp)


def main() -> int:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", help="what to track, in words")
    text = parser.parse_args().text
    try:
        with TrackerClient() as tracker:
            begun = start(tracker, text)
            box = "  ".join(f"{value:.0f}" for value in begun.box)
            print(
                f"target {begun.target_id} at {box}, confidence {begun.score:.2f}. {begun.reason}"
            )
            print(tracker.wait_for_state(State.TRACKING, State.LOST).state.name)
    except TrackerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
