# SPDX-License-Identifier: Apache-2.0
"""Errors in a sentence."""

from __future__ import annotations

from vt_models.errors import VtModelsError


def describe_error(error: BaseException) -> str:
    """Return an error's sentence; one that is not written for users is named before it."""
    return str(error) if isinstance(error, VtModelsError) else f"{type(error).__name__}: {error}"
