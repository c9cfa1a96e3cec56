# SPDX-License-Identifier: Apache-2.0
"""Weights: our own `.safetensors` files, and published checkpoints made into such files.

Nothing here unpickles: `.safetensors` holds tensors only, and `importer` reads a published
checkpoint without running anything that is written in it.
"""

from __future__ import annotations

from vt_models.weights.importer import ImportedCheckpoint, import_checkpoint
from vt_models.weights.tensors import load_weights, save_weights

__all__ = ["ImportedCheckpoint", "import_checkpoint", "load_weights", "save_weights"]
