# SPDX-License-Identifier: Apache-2.0
"""Training state on disk, never half-written."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import torch

from vt_models.errors import WeightsError

if TYPE_CHECKING:
    from pathlib import Path


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Writes beside `path`, forces it to disk, then renames: a kill leaves the old or the new file.

    Raises:
        WeightsError: The disk is full or not writable; the former checkpoint is intact.
    """
    temporary = path.with_suffix(".partial")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise WeightsError(
            f"{path} could not be written ({error.strerror}); the former checkpoint is intact. "
            "Free some space and run the same command again: it resumes."
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of this package; only tensors and plain values are accepted.

    Raises:
        WeightsError: Not such a file.
    """
    broken = (OSError, RuntimeError, ValueError, EOFError, KeyError, AttributeError)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (*broken, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"{path} is not a training checkpoint of vt_models ({type(error).__name__}): "
            "give another --output, or start again with --restart."
        ) from error
    found = set(state) if isinstance(state, dict) else set()
    missing = {"model", "ema", "optimizer", "samples", "recipe"} - found
    if missing:
        raise WeightsError(
            f"{path} lacks {sorted(missing)}: not a training checkpoint of vt_models."
        )
    return state
