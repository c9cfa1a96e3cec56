# SPDX-License-Identifier: Apache-2.0
"""The target keeper: decides, above a paper's tracker, whether the target is still there.

While the target is measured the tracker's own loop runs untouched, and its boxes are reported as
they are. The keeper adds the state, the calibrated confidence and the covariance; it predicts while
nothing is measured, and looks for the target over the whole frame once it is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.geometry.boxes import Box, check_box
from vt_models.geometry.crop import check_frame
from vt_models.longterm.appearance import describe, likeness
from vt_models.longterm.calibration import Calibration, read_calibration
from vt_models.longterm.frame_checks import Guard, Picture
from vt_models.longterm.motion import CameraMotion, MotionFilter
from vt_models.longterm.search_grid import Sweep
from vt_models.longterm.settings import TargetSettings
from vt_models.longterm.state_machine import STARTED, Memory, Sight, State, advance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vt_models.tracker.tracker import Estimate, Tracker

Frame: TypeAlias = NDArray[np.uint8]
Verifier: TypeAlias = Callable[[Frame, Box], bool]

_MEASURED = (Sight.CLEAR, Sight.DOUBTFUL)
_RECENT_CONFIDENCE = 0.95
_RECENT_INTERVAL = 10
_CAP_FLOOR = 0.6
_AGREED_STEP, _LONGEST_STEP, _AGREED_AREA = 0.5, 1.5, 2.5


@dataclass(frozen=True, slots=True)
class TargetEstimate:
    """What is known about the target in a frame.

    Attributes:
        box: x, y, w, h in pixels of that frame; None exactly in IDLE and LOST.
        score: calibrated confidence that the box is right (IoU >= 0.5), in [0, 1]; 0 where
            nothing was measured (IDLE, COASTING, LOST).
        state: see `State`; a box in COASTING is a prediction.
        covariance: (4, 4) of centre x, centre y, width, height in pixels squared; None without box.
        raw_score: the network's own score of this frame, whatever became of it.
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


_IDLE = TargetEstimate(None, 0.0, State.IDLE)


class _Candidate(NamedTuple):
    """A place where the lost target may be, seen in `frames` frames in a row."""

    box: Box
    frames: int


@dataclass
class _Kept:
    """Everything about one target; replaced as a whole by the next `init`."""

    memory: Memory
    motion: MotionFilter
    first: NDArray[np.float32]
    recent: NDArray[np.float32]
    stamp: float | None
    sweep: Sweep | None = None
    candidate: _Candidate | None = None
    suggested: Box | None = None
    before_find: MotionFilter | None = None
    frame_number: int = 0
    is_compensated: bool = False
    lost_because: str = ""

    def likeness(self, look: NDArray[np.float32]) -> float:
        """How much a look resembles the first one, or the last that was sure, in [-1, 1]."""
        return max(likeness(look, self.first), likeness(look, self.recent))


class Target:
    """Keeps one target through a video: `init` on one frame, `update` on each following frame.

    Args:
        tracker: finds the box; used by this object alone from now on.
        settings: may be exchanged at any time through the attribute of the same name.
        calibration: of the tracker's score.
        verifier: asked last about a candidate of re-detection that everything else has accepted,
            with the frame (H, W, 3) uint8 RGB and the box x, y, w, h in pixels; False refuses it,
            and the same question comes after `find_frames` frames at the earliest. Meant for what
            is slow, such as grounding the words that named the target.

    Not thread-safe: one thread at a time. (`settings` may be set from another.)
    """

    def __init__(
        self,
        tracker: Tracker,
        settings: TargetSettings,
        calibration: Calibration,
        verifier: Verifier | None = None,
    ) -> None:
        self.settings = settings
        self._tracker = tracker
        self._calibration = calibration
        self._verifier = verifier
        self._guard = Guard()
        self._camera = CameraMotion()
        self._kept: _Kept | None = None
        self._estimate = _IDLE

    @property
    def tracker(self) -> Tracker:
        """The tracker inside."""
        return self._tracker

    @property
    def calibration(self) -> Calibration:
        """How raw scores become confidences."""
        return self._calibration

    @property
    def state(self) -> State:
        """The state after the last frame."""
        return self._kept.memory.state if self._kept else State.IDLE

    @property
    def estimate(self) -> TargetEstimate:
        """The estimate of the last frame."""
        return self._estimate

    def init(
        self,
        frame: Frame,
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
        try:
            self._tracker.init(frame, box, text)
        except InputError:
            raise
        except Exception:
            self.clear()
            raise
        x, y, w, h = (float(value) for value in box)
        start = (x, y, w, h)
        covariance = self._calibration.covariance(start, None, 1.0)
        look = describe(frame, start)
        self._kept = _Kept(STARTED, MotionFilter(start, covariance), look, look, stamp)
        self._guard.start(frame)
        self._camera.clear()
        self._estimate = TargetEstimate(start, 1.0, State.TRACKING, covariance, 1.0)
        return self._estimate

    def update(self, frame: Frame, stamp: float | None = None) -> TargetEstimate:
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
        kept, settings = self._kept, self.settings
        if kept is None:
            raise InputError("update() without a target; call init(frame, box) first")
        frame = check_frame(frame)
        seconds = self._seconds_to(kept, stamp)
        picture = self._look(kept, frame)
        if picture is Picture.REPEATED:
            estimate = replace(self._estimate, network_calls=0)
        elif picture is Picture.DARK:
            estimate = self._unseen(kept, Sight.BLIND, seconds, "the picture is dark or covered")
        elif picture is Picture.FROZEN:
            estimate = self._lose(kept, "the camera repeats the same picture")
        elif kept.memory.state is State.LOST:
            estimate = self._search(kept, frame, seconds)
        elif picture is not Picture.GOOD or seconds > settings.coast_seconds:
            self._lose(kept, _broken(picture, seconds))
            estimate = self._search(kept, frame, seconds)
        else:
            estimate = self._follow(kept, frame, seconds)
        kept.stamp = stamp
        self._estimate = estimate
        return estimate

    def missed(self, stamp: float | None = None, reason: str = "") -> TargetEstimate:
        """Count a frame that could not be read, or in which the network failed.

        After `settings.coast_frames` of them the next one leads to LOST.

        Args:
            stamp: as in `update`.
            reason: for humans.
        """
        kept = self._kept
        if kept is not None:
            seconds = self._seconds_to(kept, stamp)
            self._estimate = self._unseen(kept, Sight.BLIND, seconds, reason or "no picture")
            kept.stamp = stamp
        return self._estimate

    def lose(self, reason: str = "") -> TargetEstimate:
        """Give the box up at once; the target is looked for from the next frame on."""
        if self._kept is not None:
            self._estimate = self._lose(self._kept, reason or "given up on request")
        return self._estimate

    def suggest(self, box: Sequence[float]) -> None:
        """Look for a lost target around this box first, in the next frame; else nothing happens.

        For whoever knows more, such as a detector that runs beside. What is seen there is accepted
        under the same conditions as anywhere else.

        Args:
            box: x, y, w, h in pixels of the last frame.

        Raises:
            InputError: the box is not finite, has no area, or lies outside the frame.
        """
        kept = self._kept
        if kept is not None and kept.memory.state is State.LOST:
            kept.suggested = check_box(box, (*self._guard.size, 3))

    def clear(self) -> None:
        """Forget the target; the state is IDLE."""
        self._kept = None
        self._estimate = _IDLE

    def _seconds_to(self, kept: _Kept, stamp: float | None) -> float:
        """Seconds since the former frame; `frame_period` where the stamps do not tell."""
        if kept.stamp is None or stamp is None or stamp <= kept.stamp:
            return self.settings.frame_period
        return stamp - kept.stamp

    def _look(self, kept: _Kept, frame: Frame) -> Picture:
        """What the frame is as a whole; boxes move to another size of frame."""
        former = self._guard.size
        picture = self._guard.look(frame, self.settings)
        if picture is Picture.RESIZED:
            ratios = (frame.shape[1] / former[1], frame.shape[0] / former[0])
            kept.motion.rescale(*ratios)
            if kept.before_find is not None:
                kept.before_find.rescale(*ratios)
            kept.sweep = kept.candidate = kept.suggested = None  # places of the former size
            self._tracker.move_to(kept.motion.box)
        return picture

    def _advance(self, kept: _Kept, sight: Sight, seconds: float) -> State:
        kept.memory = advance(kept.memory, sight, seconds, self.settings.limits)
        return kept.memory.state

    def _follow(self, kept: _Kept, frame: Frame, seconds: float) -> TargetEstimate:
        """Measure with the tracker's own loop, around the prediction while coasting."""
        before = self._estimate.box or kept.motion.box
        self._predict(kept, frame, seconds)
        if kept.memory.state is State.COASTING:
            self._tracker.move_to(kept.motion.box)
        self._tracker.updates = (
            self.settings.template_updates and kept.memory.state is State.TRACKING
        )
        measured = self._tracker.update(frame)
        look = describe(frame, measured.box)
        confidence = self._calibration.confidence(measured.score, kept.likeness(look))
        sight = self._sight(confidence, kept.memory.state)
        box = self._with_capped_size(before, measured.box, confidence, seconds)
        if sight in _MEASURED and not self._is_believable(before, box, confidence, seconds):
            sight = Sight.NONE
        kept.frame_number += 1
        if sight is Sight.NONE:
            reason = "not seen" if confidence < self.settings.doubt_threshold else "jumped too far"
            estimate = self._without_box(kept, sight, seconds, reason)
            return replace(estimate, raw_score=measured.score, network_calls=1)
        if box != measured.box:
            self._tracker.move_to(box)
        state = self._advance(kept, sight, seconds)
        covariance = self._calibration.covariance(box, measured.covariance, confidence)
        kept.motion.correct(box, covariance)
        if state is State.LOST:
            return replace(
                self._lose(kept, "in doubt for too long"), raw_score=measured.score, network_calls=1
            )
        if state is State.TRACKING:
            kept.before_find = None
            _remember(kept, look, confidence)
        reason = "" if state is State.TRACKING else "low confidence"
        if kept.memory.probation:
            reason = "found again, to be confirmed"
        return TargetEstimate(box, confidence, state, covariance, measured.score, reason, 1)

    def _predict(self, kept: _Kept, frame: Frame, seconds: float) -> None:
        """Move the filter to this frame, with the camera while the target is not sure."""
        state = kept.memory.state
        if self.settings.camera_motion:
            self._camera.push(self._guard.grey, seconds, frame.shape[1])
        if state is State.TRACKING or not self.settings.camera_motion:
            kept.is_compensated = False
        else:
            if not kept.is_compensated:
                kept.is_compensated = True
                kept.motion.slow_down(self._camera.velocity(kept.motion.box) or (0.0, 0.0))
            step = self._camera.last_step(kept.motion.box)
            if step is not None:
                kept.motion.shift(step)
        kept.motion.predict(seconds, coasting=state is State.COASTING)
        kept.motion.keep_inside(frame.shape)

    def _sight(self, confidence: float, state: State) -> Sight:
        """What a confidence means; it takes more to become TRACKING than to stay it."""
        settings = self.settings
        is_tracked = state is State.TRACKING
        if confidence >= (settings.track_threshold if is_tracked else settings.confirm_threshold):
            return Sight.CLEAR
        return Sight.DOUBTFUL if confidence >= settings.doubt_threshold else Sight.NONE

    def _is_believable(self, before: Box, box: Box, confidence: float, seconds: float) -> bool:
        """Is the step of the centre within what the confidence allows?"""
        side = max((before[2] * before[3]) ** 0.5, (box[2] * box[3]) ** 0.5)
        dx = box[0] + 0.5 * box[2] - before[0] - 0.5 * before[2]
        dy = box[1] + 0.5 * box[3] - before[1] - 0.5 * before[3]
        allowed = self.settings.max_step * max(confidence, _CAP_FLOOR) * _periods(seconds)
        return float(np.hypot(dx, dy)) <= allowed * side

    def _with_capped_size(self, before: Box, box: Box, confidence: float, seconds: float) -> Box:
        """The box, its area brought within what the confidence allows."""
        growth = (self.settings.max_growth - 1.0) * max(confidence, _CAP_FLOOR) + 1.0
        growth **= _periods(seconds)
        ratio = (box[2] * box[3]) / max(before[2] * before[3], 1e-6)
        capped = min(max(ratio, 1.0 / growth), growth)
        if capped == ratio:
            return box
        return _scaled(box, (capped / ratio) ** 0.5)

    def _held(self, before: Box, box: Box, seconds: float) -> Box:
        """A predicted box, its step and its area within the caps."""
        x, y, w, h = self._with_capped_size(before, box, 1.0, seconds)
        dx = x + 0.5 * w - before[0] - 0.5 * before[2]
        dy = y + 0.5 * h - before[1] - 0.5 * before[3]
        allowed = self.settings.max_step * _periods(seconds) * (before[2] * before[3]) ** 0.5
        excess = 1.0 - min(allowed / max(float(np.hypot(dx, dy)), 1e-6), 1.0)
        return x - excess * dx, y - excess * dy, w, h

    def _unseen(self, kept: _Kept, sight: Sight, seconds: float, reason: str) -> TargetEstimate:
        """No picture to measure in: predict, or stay lost."""
        if kept.memory.state is State.LOST:
            kept.candidate = None
            return self._lost_estimate(reason)
        kept.motion.predict(seconds, coasting=kept.memory.state is State.COASTING)
        if self._guard.size[0]:
            kept.motion.keep_inside(self._guard.size)
        return self._without_box(kept, sight, seconds, reason)

    def _without_box(
        self, kept: _Kept, sight: Sight, seconds: float, reason: str
    ) -> TargetEstimate:
        """The prediction, or nothing if it has been one for too long."""
        if self._advance(kept, sight, seconds) is State.LOST:
            return self._lose(kept, reason)
        motion = kept.motion
        box = self._held(self._estimate.box or motion.box, motion.box, seconds)
        return TargetEstimate(box, 0.0, State.COASTING, motion.covariance, reason=reason)

    def _lose(self, kept: _Kept, reason: str) -> TargetEstimate:
        self._advance(kept, Sight.CUT, 0.0)
        if kept.before_find is not None:  # a find that was never confirmed tells no size or place
            kept.motion, kept.before_find = kept.before_find, None
        kept.sweep = kept.candidate = kept.suggested = None
        kept.lost_because = reason
        return self._lost_estimate(reason)

    def _lost_estimate(self, reason: str) -> TargetEstimate:
        return TargetEstimate(None, 0.0, State.LOST, reason=reason)

    def _search(self, kept: _Kept, frame: Frame, seconds: float) -> TargetEstimate:
        """Look for a lost target with a bounded number of network calls."""
        finder = _Finder(self._tracker, self._calibration, self.settings, kept, frame, seconds)
        place = finder.run()
        estimate = replace(
            self._lost_estimate(kept.lost_because),
            raw_score=finder.best_score,
            network_calls=finder.calls,
        )
        if place is None or not self._is_verified(kept, frame, place.found.box):
            return estimate
        found = place.found
        covariance = self._calibration.covariance(found.box, found.covariance, place.confidence)
        kept.sweep = kept.candidate = None
        kept.before_find, kept.motion = kept.motion, MotionFilter(found.box, covariance)
        kept.is_compensated = False
        self._tracker.move_to(found.box)
        self._camera.clear()
        return replace(
            estimate,
            box=found.box,
            score=place.confidence,
            state=self._advance(kept, Sight.FOUND, 0.0),
            covariance=covariance,
            raw_score=found.score,
            reason="found again, to be confirmed",
        )

    def _is_verified(self, kept: _Kept, frame: Frame, box: Box) -> bool:
        if self._verifier is None or self._verifier(frame, box):
            return True
        kept.candidate = None
        return False


class _Place(NamedTuple):
    """Where a search has looked, and what it saw there."""

    found: Estimate
    alike: float
    confidence: float


class _Finder:
    """One frame's part of the search for a lost target."""

    def __init__(
        self,
        tracker: Tracker,
        calibration: Calibration,
        settings: TargetSettings,
        kept: _Kept,
        frame: Frame,
        seconds: float,
    ) -> None:
        self.calls = 0
        self.best_score = 0.0
        self._tracker = tracker
        self._calibration = calibration
        self._settings = settings
        self._kept = kept
        self._frame = frame
        self._seconds = seconds

    def run(self) -> _Place | None:
        """The place that enough frames agree on; None as long as there is none."""
        kept = self._kept
        if self._settings.searches == 0:
            return None
        seen, frames = self._follow_candidate(), 1
        if seen is None:
            seen = self._best_place()
        elif kept.candidate is not None:
            frames = kept.candidate.frames + 1
        kept.candidate = None if seen is None else _Candidate(seen.found.box, frames)
        return seen if frames >= self._settings.find_frames else None

    def _follow_candidate(self) -> _Place | None:
        """The candidate in this frame; None if there is none or it is not accepted any more."""
        candidate = self._kept.candidate
        if candidate is None:
            return None
        seen = self._locate(candidate.box)
        is_same = _agree(candidate.box, seen.found.box, self._seconds)
        return seen if is_same and self._is_accepted(seen) else None

    def _best_place(self) -> _Place | None:
        """The best accepted place among the next windows of the sweep."""
        kept, settings = self._kept, self._settings
        if kept.sweep is None:
            kept.sweep = Sweep(self._frame.shape, kept.motion.box, self._tracker.spec.search_factor)
        best: _Place | None = None
        windows = chain(self._first_windows(), kept.sweep.round())
        while self.calls < settings.searches and (around := next(windows, None)):
            seen = self._locate(around)
            if seen.confidence < settings.doubt_threshold:
                continue
            if self.calls < settings.searches:
                seen = self._locate(seen.found.box)
            if self._is_accepted(seen) and (best is None or seen.found.score > best.found.score):
                best = seen
        return best

    def _first_windows(self) -> list[Box]:
        """What is searched before the sweep: what was suggested, and where the target was."""
        kept = self._kept
        suggested = [] if kept.suggested is None else [kept.suggested]
        kept.suggested = None
        return suggested if self.calls else [*suggested, kept.motion.box]

    def _locate(self, around: Box) -> _Place:
        self.calls += 1
        found = self._tracker.locate(self._frame, around, prior=False)
        self.best_score = max(self.best_score, found.score)
        alike = self._kept.likeness(describe(self._frame, found.box))
        return _Place(found, alike, self._calibration.confidence(found.score, alike))

    def _is_accepted(self, seen: _Place) -> bool:
        """Does the place look like the target, to the network and without it?"""
        settings = self._settings
        return seen.confidence >= settings.find_threshold and seen.alike >= settings.find_likeness


def _agree(former: Box, now: Box, seconds: float) -> bool:
    """Can two boxes, `seconds` apart, be of the same object?"""
    areas = sorted((former[2] * former[3], now[2] * now[3]))
    side = areas[1] ** 0.5
    dx = now[0] + 0.5 * now[2] - former[0] - 0.5 * former[2]
    dy = now[1] + 0.5 * now[3] - former[1] - 0.5 * former[3]
    step = min(_AGREED_STEP * _periods(seconds), _LONGEST_STEP)
    return float(np.hypot(dx, dy)) <= step * side and areas[1] <= _AGREED_AREA * areas[0]


def _remember(kept: _Kept, look: NDArray[np.float32], confidence: float) -> None:
    """Keep a recent look of the target; the first one is never replaced."""
    if confidence >= _RECENT_CONFIDENCE and kept.frame_number % _RECENT_INTERVAL == 0:
        kept.recent = look


def _periods(seconds: float) -> float:
    """How many periods of 1/30 s; caps are stated for one, and never tighter."""
    return max(30.0 * seconds, 1.0)


def _scaled(box: Box, scale: float) -> Box:
    """The box with its sides times `scale`, about its centre."""
    x, y, w, h = box
    return (
        x + 0.5 * w * (1.0 - scale),
        y + 0.5 * h * (1.0 - scale),
        w * scale,
        h * scale,
    )


def _broken(picture: Picture, seconds: float) -> str:
    if picture is Picture.GOOD:
        return f"no picture for {seconds:.1f} s"
    return f"the picture changed: {picture.value}"


def create_target(
    tracker: Tracker,
    settings: TargetSettings | None = None,
    calibration: Calibration | None = None,
    verifier: Verifier | None = None,
) -> Target:
    """A target keeper around a tracker.

    Args:
        tracker: from `create_tracker`; used by the target alone from now on.
        settings: None for the defaults.
        calibration: None for the one that came with the tracker's weights; without one the raw
            score counts as the confidence.
        verifier: see `Target`.

    Raises:
        WeightsError: the tracker's calibration is of another version or damaged.
    """
    if calibration is None:
        calibration = read_calibration(getattr(tracker, "calibration", None))
    return Target(tracker, settings or TargetSettings(), calibration, verifier)
