# SPDX-License-Identifier: Apache-2.0
"""The node `target_3d` in a process of its own: `python -m vt_ros.target_3d`."""

from __future__ import annotations

import sys

from vt_ros.entry_points import target_3d_node

if __name__ == "__main__":
    sys.exit(target_3d_node())
