# SPDX-License-Identifier: Apache-2.0
"""Errors in a sentence."""

from __future__ import annotations

from vt_models.errors import VtModelsError

LONGEST_FRAME_ID = 1024
"""Characters of a frame_id that is taken; a longer one would be in every message about it."""

_LONGEST_REASON = 500  # characters; it goes into every message of `/diagnostics`


def describe_error(error: BaseException) -> str:
    """Return an error's sentence; one that is not written for users is named before it."""
    return str(error) if isinstance(error, VtModelsError) else f"{type(error).__name__}: {error}"


def shortened(reason: str) -> str:
    """Return a reason as it is said to others: names of strangers in it may have any length."""
    if len(reason) <= _LONGEST_REASON:
        return reason
    return f"{reason[: _LONGEST_REASON // 2]}...{reason[-_LONGEST_REASON // 2 :]}"


def frame_id_problem(frame_id: str) -> str:
    """Return why a frame_id is refused; empty if it is taken."""
    if len(frame_id) <= LONGEST_FRAME_ID:
        return ""
    return f"frame_id has {len(frame_id)} characters, expected {LONGEST_FRAME_ID} at most"
