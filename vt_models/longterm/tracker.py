# SPDX-License-Identifier: Apache-2.0
"""The long-term tracker: decides, above a short-term tracker, whether the target is still there.

While the target is measured the short-term tracker's loop runs untouched, and its boxes are
reported as they are. The long-term tracker adds the state, the calibrated confidence and the
covariance; it predicts while nothing is measured, and re-detects the target over the whole frame
once it is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.geometry.boxes import Box, check_box
from vt_models.geometry.crop import check_frame
from vt_models.longterm.appearance import (
    appearance_descriptor,
    appearance_similarity,
    shows_what_was_there,
)
from vt_models.longterm.calibration import Calibration, read_calibration
from vt_models.longterm.frame_checks import FrameMonitor, FrameQuality
from vt_models.longterm.motion import CameraMotion, MotionFilter
from vt_models.longterm.search_grid import SearchGrid
from vt_models.longterm.settings import LongTermSettings
from vt_models.longterm.state_machine import STARTED, Memory, Observation, State, advance
from vt_models.tracker.tracker import Estimate, Tracker

Frame: TypeAlias = NDArray[np.uint8]
Verifier: TypeAlias = Callable[[Frame, Box], bool]

# The recent appearance is replaced by one of this confidence, in every tenth frame at most.
_RECENT_CONFIDENCE = 0.95
_RECENT_INTERVAL = 10
# So many keyframes, so many seconds apart at least: two seconds of them.
_KEYFRAMES, _KEYFRAME_SECONDS = 6, 1.0 / 3.0
# Of two places with about the same score and appearance the one that is nearer to the prediction,
# by half a side, is the target's. Of the frames in which a copy passes a target 0.02 say TRACKING
# on the copy; the short-term tracker follows it in 0.26 (longterm.json, look_alikes).
_EQUAL_SCORE, _EQUAL_SIMILARITY, _LEAST_SIMILARITY, _NEARER = 0.8, 0.1, 0.6, 0.5
# Caps of step and growth scale with the confidence, down to this share.
_LEAST_CAP_SHARE = 0.6
# Candidates of two frames agree if the centre moved by no more than 0.5 mean sides in 1/30 s (1.5
# in any time) and the area changed by no more than a factor of 2.5.
_AGREED_STEP, _LONGEST_STEP, _AGREED_AREA = 0.5, 1.5, 2.5
# Appearances that the operator has rejected; the oldest is forgotten first.
_MOST_REJECTED = 16


@dataclass(frozen=True, slots=True)
class LongTermEstimate:
    """State of the target in a frame.

    Attributes:
        box: x, y, w, h in pixels of that frame; None exactly in IDLE and LOST.
        score: calibrated confidence that the box is right (IoU >= 0.5), in [0, 1]; 0 where
            nothing was measured (IDLE, COASTING, LOST).
        state: see `State`; a box in COASTING is a prediction.
        covariance: (4, 4) of centre x, centre y, width, height in pixels squared; None without box.
        raw_score: the network's own score of this frame, whatever became of it.
        reason: why the state is what it is, for the operator; empty while TRACKING.
        network_calls: number of network calls for this frame.
        unconfirmed: found again after LOST, and the operator has not said yet whether it is the
            target (`LongTermSettings.confirm`).
    """

    box: Box | None
    score: float
    state: State
    covariance: NDArray[np.float64] | None = None
    raw_score: float = 0.0
    reason: str = ""
    network_calls: int = 0
    unconfirmed: bool = False


_IDLE = LongTermEstimate(None, 0.0, State.IDLE)


class _Keyframe(NamedTuple):
    """A frame, (h, w) uint8 subsampled, in which the target was at `box` (of the whole frame)."""

    grey: NDArray[np.uint8]
    box: Box


_NO_KEYFRAME = _Keyframe(np.zeros((0, 0), np.uint8), (0.0, 0.0, 0.0, 0.0))


class _Candidate(NamedTuple):
    """A box where the lost target may be, re-detected in `frames` frames in a row."""

    box: Box
    frames: int


@dataclass
class _Target:
    """Everything about one target; replaced as a whole by the next `init`.

    Attributes:
        memory: state and its counts.
        motion: filter of the box.
        first: appearance descriptor of the first template; never replaced.
        recent: appearance descriptor of a recent frame of high confidence.
        shown: appearance descriptor of the last box that was measured.
        rejected: appearance descriptors of what the operator said is not the target.
        latest: the last frame of high confidence.
        keyframes: earlier ones, newest first, since the target was given or re-detected.
        stamp: of the last frame, seconds.
        search_grid: while LOST, the windows of re-detection.
        candidate: while LOST, the candidate of the last frame.
        suggested: while LOST, a box that the caller wants searched first.
        motion_before_redetection: filter to return to if a re-detection is not confirmed.
        frame_number: frames tracked since `init`.
        keyframe_age: seconds of frames since the last keyframe was kept.
        is_compensated: whether the camera's velocity was subtracted from the filter's.
        lost_reason: why the target was lost.
    """

    memory: Memory
    motion: MotionFilter
    first: NDArray[np.float32]
    recent: NDArray[np.float32]
    shown: NDArray[np.float32]
    latest: _Keyframe
    stamp: float | None
    keyframes: deque[_Keyframe] = field(default_factory=lambda: deque(maxlen=_KEYFRAMES))
    rejected: deque[NDArray[np.float32]] = field(
        default_factory=lambda: deque(maxlen=_MOST_REJECTED)
    )
    search_grid: SearchGrid | None = None
    candidate: _Candidate | None = None
    suggested: Box | None = None
    motion_before_redetection: MotionFilter | None = None
    frame_number: int = 0
    keyframe_age: float = 0.0
    is_compensated: bool = False
    lost_reason: str = ""

    def similarity(self, descriptor: NDArray[np.float32]) -> float:
        """Appearance similarity to the first template or the recent one, the larger counts."""
        return max(
            appearance_similarity(descriptor, self.first),
            appearance_similarity(descriptor, self.recent),
        )

    def is_rejected(self, descriptor: NDArray[np.float32], similarity: float) -> bool:
        """Check whether an appearance is more like one that was rejected than like the target.

        Args:
            descriptor: of the appearance.
            similarity: to the target, as of `similarity`.
        """
        return any(appearance_similarity(descriptor, each) > similarity for each in self.rejected)

    def is_background(self, grey: NDArray[np.uint8], box: Box, frame: Frame) -> bool:
        """Check whether a box shows the scene as it was when the target was somewhere else."""
        return shows_what_was_there(grey, self.latest.grey, box, self.latest.box, frame.shape)

    def resting_box(self, grey: NDArray[np.uint8], box: Box, frame: Frame) -> Box | None:
        """Find the target at rest where a keyframe has it, although `box` is somewhere else.

        What is at `box` is a look-alike then. None: the keyframes do not tell.
        """
        for keyframe in self.keyframes:
            if shows_what_was_there(grey, keyframe.grey, keyframe.box, box, frame.shape):
                return keyframe.box
        return None


class LongTermTracker:
    """Track one target through a video, also through its absence: `init`, then `update` per frame.

    Args:
        tracker: the short-term tracker that measures the box; used by this object alone.
        settings: may be exchanged at any time through the attribute of the same name.
        calibration: of the tracker's score.
        verifier: asked last about a candidate of re-detection that everything else has accepted,
            with the frame (H, W, 3) uint8 RGB and the box x, y, w, h in pixels; False refuses it,
            and the next question comes after `redetection_frames` frames at the earliest. Meant for
            what is slow, such as grounding the description of the target.

    Not thread-safe: one thread at a time. (`settings` may be set from another.)
    """

    def __init__(
        self,
        tracker: Tracker,
        settings: LongTermSettings,
        calibration: Calibration,
        verifier: Verifier | None = None,
    ) -> None:
        self.settings = settings
        self._tracker = tracker
        self._calibration = calibration
        self._verifier = verifier
        self._monitor = FrameMonitor()
        self._camera = CameraMotion()
        self._target: _Target | None = None
        self._estimate = _IDLE

    @property
    def tracker(self) -> Tracker:
        """The short-term tracker inside."""
        return self._tracker

    @property
    def calibration(self) -> Calibration:
        """Calibration from raw scores to confidences."""
        return self._calibration

    @property
    def state(self) -> State:
        """The state after the last frame."""
        return self._target.memory.state if self._target else State.IDLE

    @property
    def estimate(self) -> LongTermEstimate:
        """The estimate of the last frame."""
        return self._estimate

    def init(
        self,
        frame: Frame,
        box: Sequence[float],
        text: str | None = None,
        stamp: float | None = None,
    ) -> LongTermEstimate:
        """Start on a new target; everything known about the previous one is forgotten.

        Args:
            frame: (H, W, 3) uint8 RGB.
            box: x, y, w, h in pixels of the frame.
            text: a description; only for models with a language input.
            stamp: of the image, seconds; None for `settings.frame_period` after the previous one.

        Raises:
            InputError: as `Tracker.init`; the previous target is kept.
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
        first = appearance_descriptor(frame, start)
        self._monitor.reset(frame)
        keyframe = _Keyframe(self._monitor.grey, start)
        motion = MotionFilter(start, covariance)
        self._target = _Target(STARTED, motion, first, first, first, keyframe, stamp)
        self._target.keyframes.append(keyframe)
        self._camera.clear()
        self._estimate = LongTermEstimate(start, 1.0, State.TRACKING, covariance, 1.0)
        return self._estimate

    def update(self, frame: Frame, stamp: float | None = None) -> LongTermEstimate:
        """Find the target in the next frame.

        Args:
            frame: (H, W, 3) uint8 RGB; of another size than before, the target is LOST and
                searched for in the new size.
            stamp: of the image, seconds; None, or one not after the previous, counts as
                `settings.frame_period` later.

        Raises:
            InputError: bad frame, or no target; nothing is changed.
            BackendError: the network failed; call `missed` to count the frame.
        """
        target, settings = self._target, self.settings
        if target is None:
            raise InputError("update() without a target; call init(frame, box) first")
        frame = check_frame(frame)
        _check_stamp(stamp)
        seconds = self._seconds_to(target, stamp)
        previous_size = self._monitor.size
        quality = self._monitor.check(frame, settings)
        if quality is FrameQuality.RESIZED:
            self._rescale(target, previous_size, frame)
        # The gap comes first: whatever the frame looks like, nothing is known of the time between.
        if seconds > settings.coast_seconds and target.memory.state is not State.LOST:
            limit = f"coast_seconds {settings.coast_seconds:g}"
            estimate = self._lose(target, f"no frame for {seconds:.1f} s ({limit})")
            if quality not in (FrameQuality.DARK, FrameQuality.FROZEN):
                estimate = self._redetect(target, frame, seconds)
        elif quality is FrameQuality.REPEATED and target.memory.state is not State.COASTING:
            estimate = replace(self._estimate, network_calls=0)
        elif quality is FrameQuality.REPEATED:  # nor does it show the target that was not seen
            estimate = self._without_image(target, seconds, self._estimate.reason)
        elif quality is FrameQuality.DARK:
            estimate = self._without_image(target, seconds, self._monitor.reason)
        elif quality is FrameQuality.FROZEN:
            estimate = self._lose(target, self._monitor.reason)
        elif target.memory.state is State.LOST:
            estimate = self._redetect(target, frame, seconds)
        elif quality is not FrameQuality.GOOD:
            self._lose(target, self._monitor.reason)
            estimate = self._redetect(target, frame, seconds)
        else:
            estimate = self._track(target, frame, seconds)
        target.stamp = stamp
        return self._remember(target, estimate)

    def missed(self, stamp: float | None = None, reason: str = "") -> LongTermEstimate:
        """Count a frame that could not be read, or in which the network failed.

        After `settings.coast_frames` of them the next one leads to LOST.

        Args:
            stamp: as in `update`.
            reason: for the operator.
        """
        _check_stamp(stamp)
        target = self._target
        if target is not None:
            seconds = self._seconds_to(target, stamp)
            self._remember(target, self._without_image(target, seconds, reason or "no frame"))
            target.stamp = stamp
        return self._estimate

    def lose(self, reason: str = "") -> LongTermEstimate:
        """Give the box up at once; re-detection begins with the next frame."""
        if self._target is not None:
            self._estimate = self._lose(self._target, reason or "given up on request")
        return self._estimate

    def confirm(self) -> None:
        """Take what was found again for the target, as the operator says; see `settings.confirm`.

        It is TRACKING as soon as a frame of high confidence follows.

        Raises:
            InputError: nothing waits for the operator.
        """
        target = self._awaiting("confirm")
        target.memory = replace(target.memory, awaits_operator=False, unconfirmed=False)

    def reject(self) -> LongTermEstimate:
        """Go on searching: what was found again is not the target, as the operator says.

        What it looks like is remembered until the next `init`: a candidate of re-detection that
        is more like it than like the target is refused from now on.

        Raises:
            InputError: nothing waits for the operator.
        """
        target = self._awaiting("reject")
        target.rejected.append(target.shown)
        return self.lose("rejected by the operator")

    def _awaiting(self, answer: str) -> _Target:
        """Return the target, if it waits for the operator's answer."""
        target = self._target
        if target is None or not target.memory.awaits_operator:
            raise InputError(
                f"there is nothing to {answer}: the target is {self.state.name}; only what was "
                "found again after LOST is asked about, with confirm: operator"
            )
        return target

    def _remember(self, target: _Target, estimate: LongTermEstimate) -> LongTermEstimate:
        """Keep an estimate, which then says whether the operator is asked about it."""
        unconfirmed = target.memory.awaits_operator
        if unconfirmed and not target.memory.unconfirmed and estimate.state is State.UNCERTAIN:
            estimate = replace(estimate, reason="re-detected, to be confirmed by the operator")
        self._estimate = replace(estimate, unconfirmed=unconfirmed)
        return self._estimate

    def suggest(self, box: Sequence[float]) -> None:
        """Search for a lost target around this box first, in the next frame; else nothing happens.

        Meant for callers with another source, such as a detector that runs beside. A candidate
        there is accepted under the same conditions as anywhere else.

        Args:
            box: x, y, w, h in pixels of the last frame.

        Raises:
            InputError: the box is not finite, has no area, or lies outside the frame.
        """
        target = self._target
        if target is not None and target.memory.state is State.LOST:
            target.suggested = check_box(box, (*self._monitor.size, 3))

    def clear(self) -> None:
        """Forget the target; the state is IDLE."""
        self._target = None
        self._estimate = _IDLE

    def _seconds_to(self, target: _Target, stamp: float | None) -> float:
        """Seconds since the previous frame; `frame_period` where the stamps do not tell."""
        if target.stamp is None or stamp is None or stamp <= target.stamp:
            return self.settings.frame_period
        return stamp - target.stamp

    def _rescale(self, target: _Target, previous_size: tuple[int, int], frame: Frame) -> None:
        """Move all boxes from a frame of `previous_size` (H, W) to one of another size."""
        ratios = (frame.shape[1] / previous_size[1], frame.shape[0] / previous_size[0])
        target.motion.rescale(*ratios)
        if target.motion_before_redetection is not None:
            target.motion_before_redetection.rescale(*ratios)
        target.search_grid = target.candidate = target.suggested = None  # in the previous size
        target.latest = _NO_KEYFRAME
        self._tracker.move_to(target.motion.box)

    def _advance(self, target: _Target, observation: Observation, seconds: float) -> State:
        target.memory = advance(target.memory, observation, seconds, self.settings.limits)
        return target.memory.state

    def _track(self, target: _Target, frame: Frame, seconds: float) -> LongTermEstimate:
        """Measure with the short-term tracker, around the prediction while COASTING."""
        settings = self.settings
        before = self._estimate.box or target.motion.box
        self._predict(target, frame, seconds)
        if target.memory.state is State.COASTING:
            self._tracker.move_to(target.motion.box)
        self._tracker.updates = settings.template_updates and target.memory.state is State.TRACKING
        measured = self._tracker.update(frame)
        found, descriptor = self._nearest_equal(target, frame, measured)
        confidence = self._calibration.confidence(found.score, target.similarity(descriptor))
        box = self._with_capped_size(before, found.box, confidence, seconds)
        target.frame_number += 1
        target.keyframe_age += seconds

        # It takes more to become TRACKING than to stay it: hysteresis.
        is_tracked = target.memory.state is State.TRACKING
        threshold = settings.track_threshold if is_tracked else settings.confirm_threshold
        rejection = self._rejection(target, before, box, confidence, seconds, frame)
        if rejection:
            estimate = self._coast(target, Observation.MISSED, seconds, rejection)
            return replace(estimate, raw_score=found.score, network_calls=1)

        is_confident = confidence >= threshold
        if box != measured.box:
            self._tracker.move_to(box)
        observation = Observation.CONFIDENT if is_confident else Observation.WEAK
        state = self._advance(target, observation, seconds)
        covariance = self._calibration.covariance(box, found.covariance, confidence)
        target.motion.correct(box, covariance)
        target.shown = descriptor
        if state is State.LOST:
            estimate = self._lose(target, "low confidence for too long")
            return replace(estimate, raw_score=found.score, network_calls=1)
        if state is State.TRACKING:
            target.motion_before_redetection = None
            if confidence >= _RECENT_CONFIDENCE:
                target.latest = _Keyframe(self._monitor.grey, box)
                if target.frame_number % _RECENT_INTERVAL == 0:
                    target.recent = descriptor
                if target.keyframe_age > _KEYFRAME_SECONDS - 1e-6:
                    target.keyframes.appendleft(target.latest)
                    target.keyframe_age = 0.0
        reason = "" if state is State.TRACKING else "low confidence"
        if target.memory.unconfirmed:
            reason = "re-detected, to be confirmed"
        return LongTermEstimate(box, confidence, state, covariance, found.score, reason, 1)

    def _nearest_equal(
        self, target: _Target, frame: Frame, measured: Estimate
    ) -> tuple[Estimate, NDArray[np.float32]]:
        """Choose between the measured box and one that is as good, and nearer to the prediction.

        What looks like the target and passes it is not the target. (The motion model as a judge
        among peaks of the score map: Yang et al., "SAMURAI", 2024, section 3.) Nothing is computed
        while the measured box is where it is expected.

        Returns:
            The estimate and its appearance descriptor.
        """
        descriptor = appearance_descriptor(frame, measured.box)
        predicted = target.motion.box
        distance = _distance(measured.box, predicted)
        nearer = distance - _NEARER * (measured.box[2] * measured.box[3]) ** 0.5
        if target.memory.state is not State.TRACKING or nearer <= 0.0:
            return measured, descriptor
        other = self._tracker.runner_up(measured.box)
        if (
            other is None
            or other.score < _EQUAL_SCORE * measured.score
            or _distance(other.box, predicted) >= nearer
        ):
            return measured, descriptor
        appearance = appearance_descriptor(frame, other.box)
        similarity = target.similarity(appearance)
        is_equal = similarity >= target.similarity(descriptor) - _EQUAL_SIMILARITY
        if is_equal and similarity > _LEAST_SIMILARITY:
            return other, appearance
        return measured, descriptor

    def _predict(self, target: _Target, frame: Frame, seconds: float) -> None:
        """Move the filter to this frame, with the camera while the state is not TRACKING."""
        state, motion = target.memory.state, target.motion
        if self.settings.camera_motion:
            self._camera.push(self._monitor.grey, seconds, frame.shape[1])
        if state is State.TRACKING or not self.settings.camera_motion:
            target.is_compensated = False
        else:
            if not target.is_compensated:
                # The filter learned the camera's motion as the target's; from here on the camera
                # is compensated by itself.
                target.is_compensated = True
                motion.slow_down(self._camera.velocity(motion.box) or (0.0, 0.0))
            step = self._camera.last_step(motion.box)
            if step is not None:
                motion.shift(step)
        motion.predict(seconds, coasting=state is State.COASTING)
        motion.keep_inside(frame.shape)

    def _rejection(
        self,
        target: _Target,
        before: Box,
        box: Box,
        confidence: float,
        seconds: float,
        frame: Frame,
    ) -> str:
        """Say why the measured box is rejected; empty where it may be the target's."""
        if confidence < self.settings.doubt_threshold:
            return "not seen"
        if not self._is_plausible_step(before, box, confidence, seconds):
            return "jumped too far"
        if target.is_background(self._monitor.grey, box, frame):
            return "only the scene is seen"
        resting = target.resting_box(self._monitor.grey, box, frame)
        if resting is not None:
            target.motion = MotionFilter(resting, self._calibration.covariance(resting, None, 0.0))
            return "something else was followed"
        return ""

    def _is_plausible_step(self, before: Box, box: Box, confidence: float, seconds: float) -> bool:
        """Check the step of the centre against what the confidence allows."""
        side = max((before[2] * before[3]) ** 0.5, (box[2] * box[3]) ** 0.5)
        allowed = self.settings.max_step * max(confidence, _LEAST_CAP_SHARE) * _periods(seconds)
        return _distance(before, box) <= allowed * side

    def _with_capped_size(self, before: Box, box: Box, confidence: float, seconds: float) -> Box:
        """Scale the box about its centre so that its area is within what the confidence allows."""
        growth = (self.settings.max_growth - 1.0) * max(confidence, _LEAST_CAP_SHARE) + 1.0
        growth **= _periods(seconds)
        ratio = (box[2] * box[3]) / max(before[2] * before[3], 1e-6)
        capped = min(max(ratio, 1.0 / growth), growth)
        if capped == ratio:
            return box
        x, y, w, h = box
        scale = (capped / ratio) ** 0.5
        return x + 0.5 * w * (1.0 - scale), y + 0.5 * h * (1.0 - scale), w * scale, h * scale

    def _capped_prediction(self, before: Box, box: Box, seconds: float) -> Box:
        """Bring the step and the area of a predicted box within the caps."""
        x, y, w, h = self._with_capped_size(before, box, 1.0, seconds)
        dx = x + 0.5 * w - before[0] - 0.5 * before[2]
        dy = y + 0.5 * h - before[1] - 0.5 * before[3]
        allowed = self.settings.max_step * _periods(seconds) * (before[2] * before[3]) ** 0.5
        excess = 1.0 - min(allowed / max(float(np.hypot(dx, dy)), 1e-6), 1.0)
        return x - excess * dx, y - excess * dy, w, h

    def _without_image(self, target: _Target, seconds: float, reason: str) -> LongTermEstimate:
        """Predict through a frame that shows nothing, or stay LOST."""
        if target.memory.state is State.LOST:
            target.candidate = None
            return self._lost_estimate(reason)
        if seconds > self.settings.coast_seconds:  # nothing is predicted so far ahead
            return self._lose(target, reason)
        target.motion.predict(seconds, coasting=target.memory.state is State.COASTING)
        if self._monitor.size[0]:
            target.motion.keep_inside(self._monitor.size)
        return self._coast(target, Observation.NO_IMAGE, seconds, reason)

    def _coast(
        self, target: _Target, observation: Observation, seconds: float, reason: str
    ) -> LongTermEstimate:
        """Return the prediction, or LOST where there was nothing but predictions for too long."""
        if self._advance(target, observation, seconds) is State.LOST:
            return self._lose(target, reason)
        motion = target.motion
        box = self._capped_prediction(self._estimate.box or motion.box, motion.box, seconds)
        return LongTermEstimate(box, 0.0, State.COASTING, motion.covariance, reason=reason)

    def _lose(self, target: _Target, reason: str) -> LongTermEstimate:
        self._advance(target, Observation.SCENE_CUT, 0.0)
        # A re-detection that was never confirmed says nothing about size and position.
        if target.motion_before_redetection is not None:
            target.motion, target.motion_before_redetection = target.motion_before_redetection, None
        target.search_grid = target.candidate = target.suggested = None
        target.keyframes.clear()
        target.lost_reason = reason
        return self._lost_estimate(reason)

    def _lost_estimate(self, reason: str) -> LongTermEstimate:
        return LongTermEstimate(None, 0.0, State.LOST, reason=reason)

    def _redetect(self, target: _Target, frame: Frame, seconds: float) -> LongTermEstimate:
        """Search for a lost target with a bounded number of network calls."""
        search = _Redetection(
            self._tracker,
            self._calibration,
            self.settings,
            target,
            frame,
            self._monitor.grey,
            seconds,
        )
        found = search.run()
        estimate = replace(
            self._lost_estimate(target.lost_reason),
            raw_score=search.best_score,
            network_calls=search.calls,
        )
        if found is None:
            return estimate
        box = found.estimate.box
        if self._verifier is not None and not self._verifier(frame, box):
            target.candidate = None
            return estimate
        covariance = self._calibration.covariance(box, found.estimate.covariance, found.confidence)
        target.search_grid = target.candidate = None
        target.motion_before_redetection = target.motion
        target.motion = MotionFilter(box, covariance)
        target.shown = found.descriptor
        target.is_compensated = False
        self._tracker.move_to(box)
        self._camera.clear()
        return replace(
            estimate,
            box=box,
            score=found.confidence,
            state=self._advance(target, Observation.REDETECTED, 0.0),
            covariance=covariance,
            raw_score=found.estimate.score,
            reason="re-detected, to be confirmed",
        )


class _Detection(NamedTuple):
    """What the network found in one search window."""

    estimate: Estimate
    descriptor: NDArray[np.float32]
    similarity: float
    confidence: float


class _Redetection:
    """One frame's part of the search for a lost target."""

    def __init__(
        self,
        tracker: Tracker,
        calibration: Calibration,
        settings: LongTermSettings,
        target: _Target,
        frame: Frame,
        grey: NDArray[np.uint8],
        seconds: float,
    ) -> None:
        self.calls = 0
        self.best_score = 0.0
        self._tracker = tracker
        self._calibration = calibration
        self._settings = settings
        self._target = target
        self._frame = frame
        self._grey = grey
        self._seconds = seconds

    def run(self) -> _Detection | None:
        """Search this frame; return a detection once enough frames in a row agree on it."""
        target = self._target
        if self._settings.searches == 0:
            return None
        detection, frames = None, 1
        if target.candidate is not None:
            detection = self._locate(target.candidate.box)
            is_same = _agree(target.candidate.box, detection.estimate.box, self._seconds)
            if is_same and self._is_accepted(detection):
                frames = target.candidate.frames + 1
            else:
                detection = None
        if detection is None:
            detection = self._search_frame()
        target.candidate = None if detection is None else _Candidate(detection.estimate.box, frames)
        return detection if frames >= self._settings.redetection_frames else None

    def _search_frame(self) -> _Detection | None:
        """Return the best accepted detection of the next search windows."""
        target, settings = self._target, self._settings
        if target.search_grid is None:
            factor = self._tracker.spec.search_factor
            target.search_grid = SearchGrid(self._frame.shape, target.motion.box, factor)
        # First what was suggested, then the last known box (unless the candidate took a call).
        first = [] if target.suggested is None else [target.suggested]
        target.suggested = None
        if not self.calls:
            first.append(target.motion.box)
        windows = chain(first, target.search_grid.one_pass())
        best: _Detection | None = None
        while self.calls < settings.searches and (around := next(windows, None)):
            detection = self._locate(around)
            if detection.confidence < settings.doubt_threshold:
                continue
            # A second call centred on what was found sees it in the middle of its window.
            if self.calls < settings.searches:
                detection = self._locate(detection.estimate.box)
            is_better = best is None or detection.estimate.score > best.estimate.score
            if is_better and self._is_accepted(detection):
                best = detection
        return best

    def _locate(self, around: Box) -> _Detection:
        self.calls += 1
        found = self._tracker.locate(self._frame, around, prior=False)
        self.best_score = max(self.best_score, found.score)
        descriptor = appearance_descriptor(self._frame, found.box)
        similarity = self._target.similarity(descriptor)
        confidence = self._calibration.confidence(found.score, similarity)
        return _Detection(found, descriptor, similarity, confidence)

    def _is_accepted(self, detection: _Detection) -> bool:
        """Check a detection by the network's confidence and, without the network, by appearance."""
        settings = self._settings
        return (
            detection.confidence >= settings.redetection_threshold
            and detection.similarity >= settings.redetection_similarity
            and not self._target.is_rejected(detection.descriptor, detection.similarity)
            and not self._target.is_background(self._grey, detection.estimate.box, self._frame)
        )


def _agree(previous: Box, now: Box, seconds: float) -> bool:
    """Check whether two boxes, `seconds` apart, can be of the same object."""
    areas = sorted((previous[2] * previous[3], now[2] * now[3]))
    side = areas[1] ** 0.5
    step = min(_AGREED_STEP * _periods(seconds), _LONGEST_STEP)
    return _distance(previous, now) <= step * side and areas[1] <= _AGREED_AREA * areas[0]


def _distance(one: Box, other: Box) -> float:
    """Distance of the centres of two boxes, in pixels."""
    (x1, y1, w1, h1), (x2, y2, w2, h2) = one, other
    return float(np.hypot(x2 + 0.5 * w2 - x1 - 0.5 * w1, y2 + 0.5 * h2 - y1 - 0.5 * h1))


def _check_stamp(stamp: float | None) -> None:
    """Raise InputError for a stamp that is not finite."""
    if stamp is not None and not np.isfinite(stamp):
        raise InputError(f"stamp is {stamp!r}, expected seconds or None")


def _periods(seconds: float) -> float:
    """Number of periods of 1/30 s, for which the caps are stated; from one to thirty.

    After a second of silence any step and any size is believed; powers of more would overflow.
    """
    return min(max(30.0 * seconds, 1.0), 30.0)


def create_long_term_tracker(
    tracker: Tracker,
    settings: LongTermSettings | None = None,
    calibration: Calibration | None = None,
    verifier: Verifier | None = None,
) -> LongTermTracker:
    """Make a long-term tracker around a short-term tracker.

    Args:
        tracker: from `create_tracker`; used by the long-term tracker alone from now on.
        settings: None for the defaults.
        calibration: None for the one that came with the tracker's weights; without one the raw
            score counts as the confidence.
        verifier: see `LongTermTracker`.

    Raises:
        WeightsError: the short-term tracker's calibration is of another version or damaged.
    """
    if calibration is None:
        calibration = read_calibration(getattr(tracker, "calibration", None))
    return LongTermTracker(tracker, settings or LongTermSettings(), calibration, verifier)
