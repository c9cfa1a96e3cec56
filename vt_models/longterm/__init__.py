# SPDX-License-Identifier: Apache-2.0
"""The long-term tracker: states, calibrated confidence, motion, loss and re-detection.

It wraps a short-term tracker (`vt_models.tracker`); docs/longterm.md describes it.
"""

from __future__ import annotations

from vt_models.longterm.settings import LongTermSettings
from vt_models.longterm.state_machine import State
from vt_models.longterm.tracker import (
    LongTermEstimate,
    LongTermTracker,
    create_long_term_tracker,
)

__all__ = [
    "LongTermEstimate",
    "LongTermSettings",
    "LongTermTracker",
    "State",
    "create_long_term_tracker",
]
