# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node `tracker` in a process of its own: `python -m vt_ros.tracker`."""

from __future__ import annotations

import sys

from vt_ros.entry_points import tracker_node

if __name__ == "__main__":
    sys.exit(tracker_node())
