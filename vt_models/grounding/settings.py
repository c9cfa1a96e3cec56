# SPDX-License-Identifier: Apache-2.0
"""What can be set about choosing a candidate."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from vt_models.errors import InputError

_RANGES: dict[str, tuple[float, float]] = {
    "threshold": (0.0, 1.0),
    "ambiguity_margin": (0.0, 1.0),
    "nms_iou": (0.0, 1.0),
    "max_candidates": (1, 100),
    "max_text_length": (1, 10000),
    "min_side": (1.0, 1000.0),
}


@dataclass(frozen=True, kw_only=True)
class GroundingSettings:
    """Thresholds and limits of a `Grounder`.

    Attributes:
        threshold: a candidate below this score does not count; None: the backend's own, because
            their scores mean different things.
        ambiguity_margin: candidates whose score is above (1 - margin) times the best one's cannot
            be told apart from it; 0 always takes the best.
        nms_iou: of two boxes that overlap by more (intersection over union) the better one stays.
        max_candidates: how many are handed on at most.
        max_text_length: characters; a longer text is refused.
        min_side: pixels; a box that is narrower or lower inside the frame does not count.

    Raises:
        InputError: a value out of range; the message names it.
    """

    threshold: float | None = None
    ambiguity_margin: float = 0.1
    nms_iou: float = 0.5
    max_candidates: int = 10
    max_text_length: int = 1000
    min_side: float = 2.0

    def __post_init__(self) -> None:
        """Check every value."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "threshold" or value is not None:
                _check(field.name, value, whole=isinstance(field.default, int))


def setting_range(name: str) -> tuple[float, float]:
    """Smallest and largest value of a setting.

    Raises:
        InputError: no such setting.
    """
    if name not in _RANGES:
        raise InputError(f"no grounding setting called {name!r}; settings: {', '.join(_RANGES)}")
    return _RANGES[name]


def _check(name: str, value: object, whole: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, (int,) if whole else (int, float)):
        raise InputError(f"{name} must be a {'whole ' if whole else ''}number, got {value!r}")
    low, high = setting_range(name)
    if not (math.isfinite(value) and low <= value <= high):
        raise InputError(f"{name} is {value!r}, expected a number from {low:g} to {high:g}")
