# SPDX-License-Identifier: Apache-2.0
"""Weights: our own `.safetensors` files, and published checkpoints made into such files.

Nothing here unpickles: `.safetensors` holds tensors only, and `importer` reads a published
checkpoint without running anything that is written in it.

What is named here is loaded when it is asked for: it needs the library safetensors, and `verify`,
which a robot runs, does not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vt_models.weights.importer import ImportedCheckpoint, import_checkpoint
    from vt_models.weights.tensors import load_weights, save_weights

__all__ = ["ImportedCheckpoint", "import_checkpoint", "load_weights", "save_weights"]

_MODULES = {
    "ImportedCheckpoint": "importer",
    "import_checkpoint": "importer",
    "load_weights": "tensors",
    "save_weights": "tensors",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
