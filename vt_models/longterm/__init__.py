# SPDX-License-Identifier: Apache-2.0
"""Keeps a target: states, honest confidence, motion, loss and re-detection (docs/target.md)."""

from __future__ import annotations

from vt_models.longterm.settings import TargetSettings
from vt_models.longterm.state_machine import State
from vt_models.longterm.tracker import Target, TargetEstimate, create_target

__all__ = ["State", "Target", "TargetEstimate", "TargetSettings", "create_target"]
