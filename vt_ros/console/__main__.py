# SPDX-License-Identifier: Apache-2.0
"""The node `console` in a process of its own: `python -m vt_ros.console`."""

from __future__ import annotations

import sys

from vt_ros.entry_points import console_node

if __name__ == "__main__":
    sys.exit(console_node())
