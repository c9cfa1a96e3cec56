# SPDX-License-Identifier: Apache-2.0
"""The node `camera` in a process of its own: `python -m vt_ros.camera`."""

from __future__ import annotations

import sys

from vt_ros.entry_points import camera_node

if __name__ == "__main__":
    sys.exit(camera_node())
