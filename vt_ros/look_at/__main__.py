# SPDX-License-Identifier: Apache-2.0
"""The node `look_at` in a process of its own: `python -m vt_ros.look_at`."""

from __future__ import annotations

import sys

from vt_ros.entry_points import look_at_node

if __name__ == "__main__":
    sys.exit(look_at_node())
