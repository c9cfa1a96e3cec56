# SPDX-License-Identifier: Apache-2.0
"""Short-term trackers: the published inference loop of one paper, crop, network, box."""

from __future__ import annotations

from vt_models.tracker.tracker import Estimate, TextTokenizer, Tracker

__all__ = ["Estimate", "TextTokenizer", "Tracker"]
