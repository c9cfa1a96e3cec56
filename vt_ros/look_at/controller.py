# SPDX-License-Identifier: Apache-2.0
"""What the camera does in each state of the target: follow, hold, search, go home, measure.

Nothing of ROS is in here: observations and times come in, rates go out.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from vt_models.errors import InputError
from vt_ros.look_at.control_law import ControlLaw, LawSettings, Pair
from vt_ros.look_at.dead_time import DeadTimeProbe, Measurement, MeasurementError

_CLOCK_ERROR = 0.1  # seconds by which a stamp may lie in the future
_DOUBTED = 0.3  # weight of a bearing that the tracker doubts
_ATTEMPTS = 3  # to measure the dead time
_BETWEEN_ATTEMPTS = 1.0  # seconds


class TargetState(Enum):
    """What the tracker says about the target (TrackStatus.STATE_*)."""

    IDLE = 0
    TRACKING = 1
    UNCERTAIN = 2
    COASTING = 3
    LOST = 4


SEEN = (TargetState.TRACKING, TargetState.UNCERTAIN)
"""States with a bearing that was measured in this image."""


class Phase(Enum):
    """What the camera does."""

    IDLE = "no target: standing still"
    MEASURING = "measuring the dead time"
    UNMEASURED = "standing still: the dead time could not be measured"
    FOLLOWING = "following the target"
    COASTING = "following the prediction"
    HOLDING = "standing still until the target is seen again"
    SEARCHING = "searching for the lost target"
    HOMING = "going home"
    SILENT = "standing still: nothing usable is heard of the tracker"
    BLOCKED = "standing still: commands would not arrive"


@dataclass(frozen=True)
class Observation:
    """What the tracker says about one image.

    Attributes:
        stamp: of the image, seconds.
        frame_id: optical frame of the camera.
        state: of the target.
        bearing: azimuth to the right and elevation downwards, radians; NaN where not measured.
        target_id: number of the target.
        unconfirmed: found again, and nobody has said yet that it is the same one.
    """

    stamp: float
    frame_id: str
    state: TargetState
    bearing: tuple[float, float] = (math.nan, math.nan)
    target_id: int = 0
    unconfirmed: bool = False


@dataclass(frozen=True)
class ControllerSettings:
    """What the controller does when; times in seconds, angles in radians.

    Attributes:
        law: of following.
        axes: of pan and tilt, which are turned.
        dead_time: known beforehand; None: to be measured.
        longest_dead_time, probe_angle: of that measurement.
        uncertain: "follow" or "hold".
        coasting: "predict" or "hold".
        coasting_timeout: how long a prediction is followed.
        lost: "hold", "search" or "home".
        lost_wait: before that is done.
        search_angle, search_rate, search_duration: how far to both sides, how fast, how long.
        silence_timeout: after which the camera stands still.
        max_image_age: age of the oldest image that counts.
        camera_frame: that images must be of; empty: that of the first one.
    """

    law: LawSettings = field(default_factory=LawSettings)
    axes: tuple[bool, bool] = (True, True)
    dead_time: float | None = None
    longest_dead_time: float = 0.6
    probe_angle: float = 0.0175
    uncertain: str = "follow"
    coasting: str = "predict"
    coasting_timeout: float = 1.0
    lost: str = "hold"
    lost_wait: float = 2.0
    search_angle: float = 0.5
    search_rate: float = 0.15
    search_duration: float = 30.0
    silence_timeout: float = 0.4
    max_image_age: float = 1.0
    camera_frame: str = ""


@dataclass(frozen=True)
class Command:
    """What the camera is to do now.

    Attributes:
        rates: of pan and tilt, radians a second.
        phase: why.
    """

    rates: Pair
    phase: Phase


class LookAtController:
    """Turns what a tracker says into rates of a camera.

    Args:
        settings: what to do when.
        measurement: of the dead time, made before; None: as the settings say.

    Attributes:
        law: of following, with all commands.
        measurement: of the dead time; None before it, and if it is known beforehand.
        failure: why the last measurement failed; empty if it did not.
        counts: of observations "used" and "refused".
        last_refusal: why the last one of these was refused; empty if there was none.
        position: measured angles of pan and tilt off home, radians; None if they are not known.
    """

    def __init__(
        self, settings: ControllerSettings, measurement: Measurement | None = None
    ) -> None:
        self._settings = settings
        self.measurement: Measurement | None = None
        self.law = ControlLaw(settings.law, settings.dead_time or 0.0)
        self._is_measured = settings.dead_time is not None
        self.failure = ""
        if measurement is not None:
            self._use_measurement(measurement)
        self._attempts, self._next_attempt = _ATTEMPTS, -math.inf
        self._probe: DeadTimeProbe | None = None
        self.counts: Counter[str] = Counter()
        self.last_refusal = ""
        self.position: Pair | None = None
        self._frame_id = ""
        self._last: Observation | None = None
        self._heard = self._seen = self._lost_since = -math.inf
        self._azimuth = 0.0  # where it was seen last
        self._search: _Search | None = None

    def use(self, settings: ControllerSettings) -> None:
        """Use other settings from now on; a dead time counts from the next start."""
        self._settings, self.law.settings = settings, settings.law

    def measure_again(self) -> None:
        """Measure the dead time on the next confirmed target; stand still until then."""
        self._is_measured, self.failure = False, ""
        self._probe, self._attempts, self._next_attempt = None, _ATTEMPTS, -math.inf
        self.law.forget()

    def observe(self, observation: Observation, now: float) -> None:
        """Take what the tracker says about an image.

        Args:
            observation: of an image newer than the last one.
            now: seconds of the clock that the stamp is of.

        Raises:
            InputError: it cannot be used, and is not: the camera stands still if this goes on.
        """
        try:
            self._check(observation, now)
        except InputError as error:
            self.counts["refused"] += 1
            self.last_refusal = str(error)
            raise
        self.counts["used"] += 1
        last, self._last, self._heard = self._last, observation, now
        state, self._frame_id = observation.state, observation.frame_id
        if last is None or last.target_id != observation.target_id:
            self.law.forget()
        if state is not TargetState.LOST:
            self._search = None
        elif last is None or last.state is not TargetState.LOST:
            self._lost_since = now
            self.law.forget()
        if state not in SEEN:
            return
        self._seen, self._azimuth = now, observation.bearing[0]
        bearing = np.array(observation.bearing)
        is_doubted = state is TargetState.UNCERTAIN
        if self._probe is not None:
            self._probe.observe(observation.stamp, bearing)
        elif self._is_measured and self._is_followed(observation):
            self.law.observe(observation.stamp, bearing, _DOUBTED if is_doubted else 1.0)

    def command(self, now: float, blocked: bool = False) -> Command:
        """Return what the camera is to do from now on; to be called again and again.

        Args:
            now: seconds; not before that of the last call.
            blocked: commands do not arrive, so nothing may be concluded from them.
        """
        observation = self._last
        if observation is None or now - self._heard > self._settings.silence_timeout:
            self._give_up_probe(now, "the tracker fell silent meanwhile")
            self.law.forget()
            return Command(self.law.stop(now), Phase.SILENT)
        if blocked and observation.state is not TargetState.IDLE:
            self._probe = None
            self.law.forget()
            return Command(self.law.stop(now), Phase.BLOCKED)
        phase, wanted = self._decide(observation, now)
        rates = self.law.steer(now, np.where(self._settings.axes, wanted, 0.0))
        return Command(rates, phase)

    def _check(self, observation: Observation, now: float) -> None:
        """Raise InputError if an observation cannot be used."""
        stamp, settings = observation.stamp, self._settings
        age = now - stamp
        if stamp <= 0.0:
            raise InputError("the image has no stamp; let the camera driver set one")
        if not -_CLOCK_ERROR <= age <= settings.max_image_age:
            raise InputError(
                f"the image is {age:.2f} s old by its stamp, expected 0 to "
                f"{settings.max_image_age:g} s; synchronise the clocks, or set max_image_age"
            )
        last = self._last
        # Another target may begin in the last image, or in one that the operator saw before it.
        if last and last.target_id == observation.target_id and stamp <= last.stamp:
            raise InputError(
                f"the image of {stamp:.3f} s came after that of {last.stamp:.3f} s; is there a "
                "second tracker of this name?"
            )
        expected = settings.camera_frame or self._frame_id
        if expected and observation.frame_id != expected:
            raise InputError(
                f"the image is of the frame {observation.frame_id!r}, expected {expected!r}; set "
                "camera_frame"
            )
        if observation.state in SEEN:
            if all(math.isnan(angle) for angle in observation.bearing):
                raise InputError("there is no bearing: the tracker has no usable camera_info")
            if not all(abs(angle) <= math.pi for angle in observation.bearing):
                raise InputError(
                    f"the bearing is {observation.bearing}, expected radians from -pi to pi"
                )

    def _is_followed(self, observation: Observation) -> bool:
        """Return whether a target that is seen is followed."""
        is_sure = observation.state is TargetState.TRACKING or self._settings.uncertain == "follow"
        return is_sure and not observation.unconfirmed

    def _decide(self, observation: Observation, now: float) -> tuple[Phase, Pair]:
        """Return what to do, and the rates that are wanted for it."""
        state = observation.state
        settings, phase, wanted = self._settings, Phase.HOLDING, np.zeros(2)
        if state is TargetState.IDLE:
            self._give_up_probe(now, "the target was cleared meanwhile")
            phase = Phase.IDLE
        elif not self._is_measured:
            phase, wanted = self._measure(observation, now)
        elif state in SEEN and self.law.has_target:
            if self._is_followed(observation):
                phase, wanted = Phase.FOLLOWING, self.law.rates_to_target(now)
        elif state is TargetState.COASTING and self.law.has_target:
            if settings.coasting == "predict" and now - self._seen <= settings.coasting_timeout:
                phase, wanted = Phase.COASTING, self.law.rates_to_target(now)
        elif state is TargetState.LOST and now - self._lost_since > settings.lost_wait:
            if settings.lost == "search" and settings.axes[0]:
                phase, wanted = self._search_on(now)
            elif settings.lost == "home":
                phase = Phase.HOMING
                if self.position is not None:
                    limit = settings.search_rate
                    wanted = np.clip(self.law.rates_towards(-self.position), -limit, limit)
        return phase, wanted

    def _search_on(self, now: float) -> tuple[Phase, Pair]:
        """Turn to the side where the target was seen last, then to the other, and so on."""
        settings, angle = self._settings, float(self.law.history.angle(now)[0])
        if self._search is None:
            self._search = _Search(now, angle, 1.0 if self._azimuth >= 0.0 else -1.0)
        search = self._search
        if now - search.begin > settings.search_duration:
            return Phase.HOLDING, np.zeros(2)
        if (angle - search.origin) * search.side >= settings.search_angle:
            search.side = -search.side
        return Phase.SEARCHING, np.array((search.side * settings.search_rate, 0.0))

    def _measure(self, observation: Observation, now: float) -> tuple[Phase, Pair]:
        """Begin, continue or end a measurement of the dead time."""
        settings, still = self._settings, np.zeros(2)
        if self._probe is None and self._attempts == 0:
            return Phase.UNMEASURED, still
        if self._probe is None:
            is_sure = observation.state is TargetState.TRACKING and not observation.unconfirmed
            if not is_sure or now < self._next_attempt:
                return Phase.HOLDING, still
            self.law.response = np.ones(2)
            self._probe = DeadTimeProbe(
                now,
                settings.probe_angle,
                settings.law.max_rate,
                settings.longest_dead_time,
                settings.axes,
            )
        if observation.state not in SEEN:
            self._give_up_probe(now, "the target was not seen meanwhile")
        elif observation.unconfirmed:
            self._give_up_probe(now, "the target was found again meanwhile, and is not confirmed")
        elif not self._probe.is_over(now):
            return Phase.MEASURING, self._probe.rates(now)
        else:
            try:
                measurement = self._probe.measure(self.law.history)
            except MeasurementError as error:
                self._give_up_probe(now, str(error))
            else:
                self._probe = None
                self._use_measurement(measurement)
        return Phase.HOLDING, still

    def _use_measurement(self, measurement: Measurement) -> None:
        self.measurement, self._is_measured, self.failure = measurement, True, ""
        self.law.dead_time = measurement.dead_time
        # Of an axis that is not turned nothing is known, and nothing is asked.
        self.law.response = np.where(self._settings.axes, np.diag(measurement.response), 1.0)

    def _give_up_probe(self, now: float, reason: str) -> None:
        """End a measurement without a result, if there is one; the next one follows later."""
        if self._probe is not None:
            self._probe, self.failure = None, reason
            self._attempts -= 1
            self._next_attempt = now + _BETWEEN_ATTEMPTS


@dataclass
class _Search:
    """When and at which commanded angle of pan it began, and to which side it goes (1 or -1)."""

    begin: float
    origin: float
    side: float
