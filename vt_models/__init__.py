# SPDX-License-Identifier: Apache-2.0
"""Visual single-object trackers by name.

    >>> import vt_models
    >>> tracker = vt_models.create_tracker("asymtrack_lite0")     # doctest: +SKIP
    >>> tracker.init(frame, (x, y, w, h))                         # doctest: +SKIP
    >>> estimate = tracker.update(next_frame)                     # doctest: +SKIP

Frames are (H, W, 3) uint8 RGB, boxes x, y, w, h in pixels. Importing this package imports
neither numpy, OpenCV, ONNX Runtime nor torch; each name below loads what it needs when it is
first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from vt_models.errors import (
    BackendError,
    DatasetError,
    ExportError,
    InputError,
    RecipeError,
    VtModelsError,
    WeightsError,
)
from vt_models.registry import ModelSpec, UpdatePolicy, get_spec, list_models

if TYPE_CHECKING:
    from vt_models.api import create_miniature, create_model, create_tracker
    from vt_models.auto_model import Choice, choose_model
    from vt_models.longterm import State, Target, TargetEstimate, TargetSettings, create_target
    from vt_models.tracker.tracker import Estimate, Tracker

__all__ = [
    "BackendError",
    "Choice",
    "DatasetError",
    "Estimate",
    "ExportError",
    "InputError",
    "ModelSpec",
    "RecipeError",
    "State",
    "Target",
    "TargetEstimate",
    "TargetSettings",
    "Tracker",
    "UpdatePolicy",
    "VtModelsError",
    "WeightsError",
    "choose_model",
    "create_miniature",
    "create_model",
    "create_target",
    "create_tracker",
    "get_spec",
    "list_models",
]

_LAZY = {
    "Choice": "vt_models.auto_model",
    "choose_model": "vt_models.auto_model",
    "create_miniature": "vt_models.api",
    "create_model": "vt_models.api",
    "create_tracker": "vt_models.api",
    "Estimate": "vt_models.tracker.tracker",
    "State": "vt_models.longterm",
    "Target": "vt_models.longterm",
    "TargetEstimate": "vt_models.longterm",
    "TargetSettings": "vt_models.longterm",
    "create_target": "vt_models.longterm",
    "Tracker": "vt_models.tracker.tracker",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    """Public names, also those not loaded yet."""
    return sorted(__all__)
