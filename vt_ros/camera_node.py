# SPDX-License-Identifier: Apache-2.0
"""Program: the node `camera` (vt_ros.camera.node) in a process of its own."""

from __future__ import annotations

import sys

from vt_ros.program import run_node


def main() -> int:
    """Run the node `camera` in this process."""
    return run_node("vt_ros.camera.node", "CameraNode")


if __name__ == "__main__":
    sys.exit(main())
