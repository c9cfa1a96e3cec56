# SPDX-License-Identifier: Apache-2.0
"""The node `mavlink_camera` in a process of its own: `python -m vt_ros.mavlink_camera`."""

from __future__ import annotations

import sys

from vt_ros.entry_points import mavlink_camera_node

if __name__ == "__main__":
    sys.exit(mavlink_camera_node())
