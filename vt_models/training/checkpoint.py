# SPDX-License-Identifier: Apache-2.0
"""Training state on disk, never half-written."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import torch

from vt_models.errors import TrainingError, WeightsError
from vt_models.files import open_regular

MOST_BYTES = 2**36


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write beside `path`, force it to disk, then rename: a kill leaves the old or the new file.

    Raises:
        TrainingError: The disk is full or not writable; the previous checkpoint is intact.
    """
    temporary = path.with_suffix(".partial")
    try:
        with temporary.open("wb") as file:
            _write(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _keep_name(path.parent)
    except OSError as error:
        raise TrainingError(
            f"{path} could not be written ({error.strerror}); the previous checkpoint is intact. "
            "Free some space and run the same command again: it resumes."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _write(state: dict[str, Any], file: BinaryIO) -> None:
    """Save a checkpoint; a failed write is an OSError, which torch reports as something else."""
    watched = _Watched(file)
    try:
        torch.save(state, watched)
    except RuntimeError as error:
        if watched.failure is None:
            raise
        raise watched.failure from error


class _Watched:
    """A file for `torch.save` that remembers why a write failed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write, or raise OSError and keep it as `failure`."""
        try:
            return self._file.write(data)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        """Flush."""
        self._file.flush()


def _keep_name(folder: Path) -> None:
    """Force the renaming to disk: after a power cut the name leads to the new file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of this package; only tensors and plain values are accepted.

    Raises:
        WeightsError: Not such a file.
    """
    broken = (OSError, RuntimeError, ValueError, EOFError, LookupError, AttributeError)
    try:
        with open_regular(path, MOST_BYTES) as file:
            state = torch.load(file, map_location="cpu", weights_only=True)
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
