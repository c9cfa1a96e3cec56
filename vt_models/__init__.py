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

import warnings
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
    from vt_models.longterm import (
        LongTermEstimate,
        LongTermSettings,
        LongTermTracker,
        State,
        create_long_term_tracker,
    )
    from vt_models.tracker.tracker import Estimate, Tracker

__all__ = [
    "BackendError",
    "Choice",
    "DatasetError",
    "Estimate",
    "ExportError",
    "InputError",
    "LongTermEstimate",
    "LongTermSettings",
    "LongTermTracker",
    "ModelSpec",
    "RecipeError",
    "State",
    "Tracker",
    "UpdatePolicy",
    "VtModelsError",
    "WeightsError",
    "choose_model",
    "create_long_term_tracker",
    "create_miniature",
    "create_model",
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
    "Tracker": "vt_models.tracker.tracker",
    "LongTermEstimate": "vt_models.longterm",
    "LongTermSettings": "vt_models.longterm",
    "LongTermTracker": "vt_models.longterm",
    "State": "vt_models.longterm",
    "create_long_term_tracker": "vt_models.longterm",
}

# Previous names; they work for one release, with a warning.
_DEPRECATED = {
    "Target": "LongTermTracker",
    "TargetEstimate": "LongTermEstimate",
    "TargetSettings": "LongTermSettings",
    "create_target": "create_long_term_tracker",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    if name in _DEPRECATED:
        new = _DEPRECATED[name]
        warnings.warn(
            f"vt_models.{name} is now called vt_models.{new}; the old name goes with the next "
            "release",
            DeprecationWarning,
            stacklevel=2,
        )
        name = new
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    """List the public names, also those not loaded yet."""
    return sorted(__all__)
