# SPDX-License-Identifier: Apache-2.0
"""Errors raised by vt_models.

Every message says what was wrong, the value, what was expected and what to do.
A caller that wants to survive anything the package refuses catches `VtModelsError`.
"""

from __future__ import annotations

import traceback
from typing import Any


def install_hint(extra: str = "") -> str:
    """Say how to install this package with an extra; no package index has it yet.

    >>> install_hint("train")
    "run pip install '.[train]' in a checkout of vt_ros"
    """
    what = f"'.[{extra}]'" if extra else "."
    return f"run pip install {what} in a checkout of vt_ros"


def broken_package(error: BaseException) -> str | None:
    """Name the package whose import raised an error; None for an error of anything else."""
    modules = [
        str(frame.f_globals.get("__name__")).partition(".")[0]
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_name == "<module>"  # code that runs while its module is imported
    ]
    theirs = [name for name in modules if name not in ("vt_models", "vt_ros", "__main__")]
    return theirs[-1] if theirs else None


class VtModelsError(Exception):
    """Base of every error that vt_models raises on purpose.

    Attributes:
        exit_status: with which a command ends.
    """

    exit_status = 2


class InputError(VtModelsError, ValueError):
    """A frame, a box, a name or another argument that cannot be used."""


class WeightsError(VtModelsError):
    """A weights file or an export directory that is missing, damaged or of another model."""


class BackendError(VtModelsError):
    """A backend, a device or an execution provider that is not available, or that failed."""


class DatasetError(VtModelsError):
    """A dataset that is missing or does not have the expected layout."""


class RecipeError(VtModelsError):
    """A training recipe with an unknown key or a value out of range."""


class TrainingError(VtModelsError):
    """A training run that broke off; its last checkpoint is intact."""

    exit_status = 1


class ExportError(VtModelsError):
    """An export that failed or did not reproduce the network; nothing was written."""


def import_torch() -> Any:
    """Import torch; raise a BackendError that says how to get it if that fails."""
    try:
        import torch  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise BackendError(
            f"this needs torch, which cannot be imported ({error}); "
            f"{install_hint('train')}, or use backend 'onnxruntime' with an exported model"
        ) from error
    return torch
