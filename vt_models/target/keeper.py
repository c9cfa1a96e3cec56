# SPDX-License-Identifier: Apache-2.0
"""The target keeper: decides, above a paper's tracker, whether the target is still there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vt_models.errors import InputError
from vt_models.target.settings import TargetSettings
from vt_models.target.states import STARTED, Memory, Sight, State, advance

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from vt_models.geometry import Box
    from vt_models.tracker import Tracker


@dataclass(frozen=True, slots=True)
class TargetEstimate:
    """What is known about the target in a frame.

    Attributes:
        box: x, y, w, h in pixels of that frame; None exactly in IDLE and LOST.
        score: calibrated confidence that the box is right (IoU >= 0.5), in [0, 1].
        state: see `State`; a box in COASTING is a prediction.
        covariance: (4, 4) of centre x, centre y, width, height in pixels squared; None without box.
        raw_score: the network's own score.
        reason: for humans, why the state is what it is; empty while TRACKING.
        network_calls: how often the network ran for this frame.
    """

    box: Box | None
    score: float
    state: State
    covariance: NDArray[np.float64] | None = None
    raw_score: float = 0.0
    reason: str = ""
    network_calls: int = 0


class Target:
    """Keeps one target through a video: `init` on one frame, `update` on each following frame.

    Args:
        tracker: finds the box; used by this object alone from now on.
        settings: may be exchanged at any time through the attribute of the same name.

    Not thread-safe: one thread at a time.
    """

    def __init__(self, tracker: Tracker, settings: TargetSettings) -> None:
        self.settings = settings
        self._tracker = tracker
        self._memory = Memory()
        self._estimate = TargetEstimate(None, 0.0, State.IDLE)
        self._stamp: float | None = None

    @property
    def state(self) -> State:
        """The state after the last frame."""
        return self._memory.state

    @property
    def estimate(self) -> TargetEstimate:
        """The estimate of the last frame."""
        return self._estimate

    def init(
        self,
        frame: NDArray[np.uint8],
        box: Sequence[float],
        text: str | None = None,
        stamp: float | None = None,
    ) -> TargetEstimate:
        """Start on a new target; everything known about a former one is forgotten.

        Args:
            frame: (H, W, 3) uint8 RGB.
            box: x, y, w, h in pixels of the frame.
            text: a description; only for models with a language input.
            stamp: of the image, seconds; None for `settings.frame_period` after the former.

        Raises:
            InputError: as `Tracker.init`; the former target is kept.
            BackendError: the network failed; there is no target then.
        """
        self._tracker.init(frame, box, text)
        x, y, w, h = (float(value) for value in box)
        self._memory, self._stamp = STARTED, stamp
        self._estimate = TargetEstimate((x, y, w, h), 1.0, State.TRACKING, raw_score=1.0)
        return self._estimate

    def update(self, frame: NDArray[np.uint8], stamp: float | None = None) -> TargetEstimate:
        """Find the target in the next frame.

        Args:
            frame: (H, W, 3) uint8 RGB; of another size than before, the target is LOST and
                looked for in the new size.
            stamp: of the image, seconds; None, or one not after the former, counts as
                `settings.frame_period` later.

        Raises:
            InputError: bad frame, or no target; nothing is changed.
            BackendError: the network failed; call `missed` to count the frame.
        """
        if self.state is State.IDLE:
            raise InputError("update() without a target; call init(frame, box) first")
        measured = self._tracker.update(frame)
        settings = self.settings
        sight = Sight.CLEAR if measured.score >= settings.track_threshold else Sight.DOUBTFUL
        self._memory = advance(self._memory, sight, self._seconds_to(stamp), settings.limits)
        box = None if self.state is State.LOST else measured.box
        self._estimate = TargetEstimate(
            box, measured.score, self.state, raw_score=measured.score, network_calls=1
        )
        return self._estimate

    def missed(self, stamp: float | None = None, reason: str = "") -> TargetEstimate:
        """Count a frame that could not be read, or in which the network failed.

        Args:
            stamp: as in `update`.
            reason: for humans.
        """
        settings = self.settings
        self._memory = advance(self._memory, Sight.BLIND, self._seconds_to(stamp), settings.limits)
        box = None if self.state in (State.IDLE, State.LOST) else self._estimate.box
        self._estimate = TargetEstimate(box, 0.0, self.state, reason=reason)
        return self._estimate

    def clear(self) -> None:
        """Forget the target; the state is IDLE."""
        self._memory = Memory()
        self._estimate = TargetEstimate(None, 0.0, State.IDLE)

    def _seconds_to(self, stamp: float | None) -> float:
        """Seconds since the former frame; `frame_period` where the stamps do not tell."""
        former, self._stamp = self._stamp, stamp
        if former is None or stamp is None or stamp <= former:
            return self.settings.frame_period
        return stamp - former


def create_target(
    tracker: Tracker,
    settings: TargetSettings | None = None,
) -> Target:
    """A target keeper around a tracker.

    Args:
        tracker: from `create_tracker`.
        settings: None for the defaults.
    """
    return Target(tracker, settings or TargetSettings())
