# SPDX-License-Identifier: Apache-2.0
"""The demonstration: `python -m vt_ros.demo`."""

from __future__ import annotations

import sys

from vt_ros.entry_points import demo

if __name__ == "__main__":
    sys.exit(demo())
