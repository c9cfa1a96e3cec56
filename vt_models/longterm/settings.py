# SPDX-License-Identifier: Apache-2.0
"""Settings of the long-term tracker."""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, TypeVar

from vt_models.errors import InputError
from vt_models.longterm.state_machine import Limits

_WORDS: dict[type, str] = {int: "a whole number", float: "a number"}
_RANGES: dict[str, tuple[float, float]] = {
    "track_threshold": (0.0, 1.0),
    "confirm_threshold": (0.0, 1.0),
    "doubt_threshold": (0.0, 1.0),
    "doubt_frames": (1, 1000),
    "confirm_frames": (1, 1000),
    "recover_frames": (1, 1000),
    "coast_frames": (0, 10000),
    "coast_seconds": (0.0, 60.0),
    "unclear_frames": (1, 100000),
    "frame_period": (0.001, 10.0),
    "searches": (0, 64),
    "redetection_threshold": (0.0, 1.0),
    "redetection_similarity": (-1.0, 1.0),
    "redetection_frames": (1, 100),
    "max_step": (0.05, 10.0),
    "max_growth": (1.01, 10.0),
    "blind_contrast": (0.0, 255.0),
    "frozen_frames": (0, 10000),
    "cut_similarity": (-0.5, 1.0),
}


OLD_NAMES = {
    "find_threshold": "redetection_threshold",
    "find_likeness": "redetection_similarity",
    "find_frames": "redetection_frames",
}
"""Names of settings in the previous release, and what they are called now."""

_C = TypeVar("_C")


def _accept_old_names(settings: type[_C]) -> type[_C]:
    """Let a class of settings take and show values by `OLD_NAMES`, with a DeprecationWarning."""
    init = settings.__init__

    def current_name(old: str) -> str:
        warnings.warn(
            f"the long-term tracker setting {old} is now called {OLD_NAMES[old]}; the old name "
            "goes with the next release",
            DeprecationWarning,
            stacklevel=3,
        )
        return OLD_NAMES[old]

    @functools.wraps(init)
    def accept(self: _C, **given: Any) -> None:
        for old in OLD_NAMES.keys() & given.keys():
            # It counts over the new name, which `dataclasses.replace` gives in any case.
            given[current_name(old)] = given.pop(old)
        init(self, **given)

    def value_of_old_name(self: _C, name: str) -> Any:
        if name not in OLD_NAMES:
            raise AttributeError(f"{type(self).__name__} has no setting {name!r}")
        return getattr(self, current_name(name))

    settings.__init__ = accept  # type: ignore[method-assign, assignment]
    settings.__getattr__ = value_of_old_name  # type: ignore[attr-defined]
    return settings


@_accept_old_names
@dataclass(frozen=True, kw_only=True)
class LongTermSettings:
    """Thresholds and limits of a `LongTermTracker`; confidences are calibrated, P(IoU >= 0.5).

    Attributes:
        track_threshold: least confidence of a confident observation while TRACKING.
        confirm_threshold: the same in the other states, not below `track_threshold`.
        doubt_threshold: below it a frame counts as missed; between the two the observation is weak.
        doubt_frames: weak observations in a row that turn TRACKING into UNCERTAIN.
        confirm_frames: confident observations in a row that turn UNCERTAIN into TRACKING.
        recover_frames: the same after LOST.
        coast_frames: frames without a measurement that are bridged by prediction, then LOST.
        coast_seconds: the same in seconds; the limit that is reached first applies.
        unclear_frames: frames since the last confident observation, then LOST.
        frame_period: seconds between frames that come without a usable stamp.
        searches: network calls for each frame while LOST, at most; 0 switches re-detection off.
        redetection_threshold: least confidence of a candidate of re-detection.
        redetection_similarity: least appearance similarity of a candidate to the first template or
            the recent appearance, in [-1, 1].
        redetection_frames: frames in a row that must agree on a candidate.
        max_step: largest step of the centre that is believed between two frames 1/30 s apart, in
            mean box sides (sqrt(w * h)), at confidence 1; less at less confidence.
        max_growth: largest factor by which the box's area may change between two such frames.
        blind_contrast: a frame whose grey values deviate by less is dark or covered, 0..255.
        frozen_frames: identical frames in a row, after which the camera counts as frozen; 0: never.
        cut_similarity: two frames in a row with a lower frame similarity are a scene cut.
        camera_motion: compensate the camera's motion while COASTING or UNCERTAIN.
        template_updates: let trackers that have a dynamic template replace it, while TRACKING.

    Raises:
        InputError: a value out of range; the message names it.
    """

    track_threshold: float = 0.8
    confirm_threshold: float = 0.9
    doubt_threshold: float = 0.1
    doubt_frames: int = 1
    confirm_frames: int = 2
    recover_frames: int = 2
    coast_frames: int = 15
    coast_seconds: float = 1.0
    unclear_frames: int = 60
    frame_period: float = 1.0 / 30.0
    searches: int = 4
    redetection_threshold: float = 0.7
    redetection_similarity: float = 0.4
    redetection_frames: int = 2
    max_step: float = 1.5
    max_growth: float = 2.0
    blind_contrast: float = 5.0
    frozen_frames: int = 10
    cut_similarity: float = 0.45
    camera_motion: bool = True
    template_updates: bool = True

    def __post_init__(self) -> None:
        """Check every value."""
        for field in fields(self):
            check_setting(field.name, getattr(self, field.name))
        names = ("doubt_threshold", "track_threshold", "confirm_threshold")
        for lower, upper in pairwise(names):
            low, high = getattr(self, lower), getattr(self, upper)
            if low > high:
                raise InputError(f"{lower} is {low:g}, above {upper} {high:g}; it must not be")

    @property
    def limits(self) -> Limits:
        """Limits of the state machine."""
        return Limits(
            doubt_frames=self.doubt_frames,
            confirm_frames=self.confirm_frames,
            recover_frames=self.recover_frames,
            coast_frames=self.coast_frames,
            coast_seconds=self.coast_seconds,
            unclear_frames=self.unclear_frames,
        )


def setting_range(name: str) -> tuple[float, float] | None:
    """Return the smallest and largest value of a setting; None for one that is True or False.

    Raises:
        InputError: no such setting.
    """
    if name not in {field.name for field in fields(LongTermSettings)}:
        raise InputError(f"no long-term tracker setting called {name!r}")
    return _RANGES.get(name)


def check_setting(name: str, value: object) -> None:
    """Raise InputError unless `value` is one that the setting may have."""
    allowed = setting_range(name)
    default = getattr(LongTermSettings, name)
    if allowed is None:
        if not isinstance(value, bool):
            raise InputError(f"{name} must be True or False, got {value!r}")
        return
    kinds = (int,) if isinstance(default, int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise InputError(f"{name} must be {_WORDS[kinds[-1]]}, got {value!r}")
    low, high = allowed
    if not (math.isfinite(value) and low <= value <= high):
        raise InputError(f"{name} is {value!r}, expected a number from {low:g} to {high:g}")
