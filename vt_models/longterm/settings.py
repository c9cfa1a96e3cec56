# SPDX-License-Identifier: Apache-2.0
"""Settings of the long-term tracker."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, TypeVar

from vt_models.errors import InputError
from vt_models.longterm.state_machine import Limits
from vt_models.settings import check_settings, setting

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

    Each is described where it stands; docs/longterm.md has the table.

    Raises:
        InputError: a value out of range; the message names it.
    """

    track_threshold: float = setting(
        0.8, "Confidence from which an observation is confident while TRACKING.", 0.1, 1.0
    )
    confirm_threshold: float = setting(
        0.9, "Confidence from which it is confident in the other states.", 0.1, 1.0
    )
    doubt_threshold: float = setting(
        0.1, "Confidence below which the target counts as missed in the frame.", 0.05, 1.0
    )
    doubt_frames: int = setting(
        1, "Weak observations in a row that turn TRACKING into UNCERTAIN.", 1, 1000
    )
    confirm_frames: int = setting(
        2, "Confident observations in a row that turn UNCERTAIN into TRACKING.", 1, 1000
    )
    recover_frames: int = setting(
        2, "The same after LOST: confident observations in a row.", 1, 1000
    )
    coast_frames: int = setting(
        15, "Frames without an observation that are bridged by prediction, then LOST.", 0, 10000
    )
    coast_seconds: float = setting(
        1.0, "Seconds that are bridged by prediction; whichever is over first.", 0.0, 60.0
    )
    unclear_frames: int = setting(
        60, "Frames since the last confident observation, then LOST.", 1, 100000
    )
    frame_period: float = setting(
        1.0 / 30.0, "Seconds between frames that come without a usable stamp.", 0.001, 10.0
    )
    searches: int = setting(
        4, "Network calls for each frame while LOST, at most; 0: no re-detection.", 0, 64
    )
    redetection_threshold: float = setting(
        0.7, "Confidence that a candidate of re-detection needs.", 0.1, 1.0
    )
    redetection_similarity: float = setting(
        0.4, "Appearance similarity to the target that a candidate needs.", -1.0, 1.0
    )
    redetection_frames: int = setting(2, "Frames in a row that must agree on a candidate.", 1, 100)
    max_step: float = setting(
        1.5, "Largest believed step of the centre in 1/30 s, in mean box sides.", 0.05, 10.0
    )
    max_growth: float = setting(
        2.0, "Largest believed factor of the box's area in 1/30 s.", 1.01, 10.0
    )
    blind_contrast: float = setting(
        5.0, "A frame whose grey values deviate by less is dark or covered.", 0.0, 255.0
    )
    frozen_frames: int = setting(
        10, "Identical frames in a row, then the camera counts as frozen; 0: never.", 0, 10000
    )
    cut_similarity: float = setting(
        0.45, "Frame similarity below which two frames in a row are of different scenes.", -0.5, 1.0
    )
    camera_motion: bool = setting(
        True, "Compensate the camera's motion while there is no confident observation."
    )
    confirm: str = setting(
        "automatic",
        "Who confirms what was found again after LOST: automatic (recover_frames) or the operator; "
        "until then it stays UNCERTAIN and unconfirmed.",
        choices=("automatic", "operator"),
    )
    template_updates: bool = setting(
        True, "Let models that have one replace their second template while TRACKING."
    )

    def __post_init__(self) -> None:
        """Check every value."""
        check_settings(self)
        names = ("doubt_threshold", "track_threshold", "confirm_threshold")
        for lower, upper in pairwise(names):
            low, high = getattr(self, lower), getattr(self, upper)
            if low > high:
                raise InputError(f"{lower} is {low:g}, above {upper} {high:g}; it must not be")

    @property
    def operator_confirms(self) -> bool:
        """Whether the operator confirms what was found again after LOST."""
        return self.confirm == "operator"

    @property
    def limits(self) -> Limits:
        """Limits of the state machine."""
        return Limits(**{field.name: getattr(self, field.name) for field in fields(Limits)})
