# SPDX-License-Identifier: Apache-2.0
"""Program: the lifecycle node `tracker` (vt_ros.tracker.node) in a process of its own."""

from __future__ import annotations

import sys

from vt_ros.program import run_node


def main() -> int:
    """Run the node `tracker` in this process."""
    return run_node("vt_ros.tracker.node", "TrackerNode")


if __name__ == "__main__":
    sys.exit(main())
