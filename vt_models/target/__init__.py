# SPDX-License-Identifier: Apache-2.0
"""Keeps a target: states, honest confidence, motion, loss and re-detection (docs/target.md)."""

from __future__ import annotations

from vt_models.target.keeper import Target, TargetEstimate, create_target
from vt_models.target.settings import TargetSettings
from vt_models.target.states import State

__all__ = ["State", "Target", "TargetEstimate", "TargetSettings", "create_target"]
