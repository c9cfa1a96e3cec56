# SPDX-License-Identifier: Apache-2.0
"""Gains hold at every zoom and dead time: a camera on a gimbal, in simulated time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from vt_models import create_long_term_tracker, create_tracker
from vt_models.geometry.camera import Camera, angles_of, centre_pixel
from vt_ros.demo.gimbal_scene import GimbalDrive, GimbalScene, Pillar
from vt_ros.look_at.controller import (
    ControllerSettings,
    LookAtController,
    Observation,
    Phase,
    TargetState,
)

BEGIN = 1000.0  # seconds of the clock
NOWHERE = (math.nan, math.nan)


def camera_of(scene):
    return Camera(scene.focal_length, scene.focal_length, *scene.centre)


class TrackedEyes:
    """Bearings by the bundled tracker, on rendered frames."""

    def __init__(self, scene):
        self._scene, self._camera = scene, camera_of(scene)
        self._tracker = create_long_term_tracker(create_tracker("asymtrack_lite0", threads=1))
        self._started = 0

    def look(self, time, camera, car, target_id):
        frame, box = self._scene.render(camera, car)
        if target_id == 0:
            return TargetState.IDLE, NOWHERE
        if self._started != target_id:
            self._tracker.init(frame, box)
            estimate, self._started = self._tracker.estimate, target_id
        else:
            estimate = self._tracker.update(frame, time)
        state = TargetState[estimate.state.name]
        if state not in (TargetState.TRACKING, TargetState.UNCERTAIN):
            return state, NOWHERE
        return state, angles_of(self._camera.ray(*centre_pixel(estimate.box)))


class ExactEyes:
    """True bearings with the noise of a tracker, half a pixel; LOST outside of the image."""

    def __init__(self, scene, seed=0):
        self._scene, self._camera = scene, camera_of(scene)
        self._random = np.random.default_rng(seed)

    def look(self, time, camera, car, target_id):  # noqa: ARG002 - as the others
        if target_id == 0:
            return TargetState.IDLE, NOWHERE
        pixel = None if car is None else self._scene.project(camera, car)
        if pixel is None or not all(
            0.0 <= value < size for value, size in zip(pixel, self._scene.size, strict=True)
        ):
            return TargetState.LOST, NOWHERE
        u, v = pixel + self._random.normal(0.0, 0.5, 2)
        return TargetState.TRACKING, angles_of(self._camera.ray(u, v))


@dataclass
class Log:
    """By image: time, what the tracker said, and how far the car is off, shares of the width.

    Also every command: time, rates, phase.
    """

    times: list = field(default_factory=list)
    states: list = field(default_factory=list)
    errors: list = field(default_factory=list)
    cameras: list = field(default_factory=list)
    commands: list = field(default_factory=list)

    def error_after(self, time):
        """Offsets from the image's centre in pan, from a time on."""
        return np.array([e for t, e in zip(self.times, self.errors, strict=True) if t >= time])

    def phases(self):
        """What was done, in order, without repetitions."""
        found = []
        for _, _, phase in self.commands:
            if not found or found[-1] is not phase:
                found.append(phase)
        return found

    def settled(self, begin, share=0.05):
        """Seconds after `begin` from which the offset stays below a share of the first one."""
        times = np.array([time for time in self.times if time >= begin])
        errors = np.abs(self.error_after(begin))
        outside = np.flatnonzero(errors > share * errors[0])
        return times[outside[-1] + 1] - begin if len(outside) else 0.0

    def overshoot(self, begin):
        """How far it went beyond the centre, share of the first offset."""
        errors = self.error_after(begin)
        return max(0.0, float(np.max(-errors / errors[0])))


class Loop:
    """Camera, gimbal, tracker and controller, advanced together.

    Args:
        eyes: see the car.
        car: where the car is at a time, and the number of the target (0 for none); called with the
            time and this loop.
        latency: seconds from exposure to the tracker's answer.
        response: how far the gimbal turns for a commanded angle.
    """

    def __init__(self, scene, eyes, controller, drive, car, latency=0.05, response=1.0):
        self.scene, self.eyes, self.controller, self.drive = scene, eyes, controller, drive
        self._car, self._latency, self._response = car, latency, response
        self.log = Log()
        self.time = 0.0
        self._frames = self._ticks = 0
        self._pending = []

    def run(self, seconds, frames_a_second=30.0, ticks_a_second=50.0):
        """Go on for a time."""
        end = self.time + seconds
        while True:
            frame, tick = self._frames / frames_a_second, self._ticks / ticks_a_second
            self.time = min(frame, tick)
            if self.time >= end:
                return self.log
            while self._pending and self._pending[0][0] <= self.time:
                arrival, observation = self._pending.pop(0)
                self.controller.observe(observation, BEGIN + arrival)
            camera = self.drive.angles(self.time)
            if frame <= tick:
                self._frames += 1
                self._see(camera)
            else:
                self._ticks += 1
                command = self.controller.command(BEGIN + self.time)
                self.drive.command(self.time, command.rates * self._response)
                self.log.commands.append((self.time, command.rates, command.phase))

    def _see(self, camera):
        car, target_id = self._car(self.time, self)
        state, bearing = self.eyes.look(self.time, camera, car, target_id)
        observation = Observation(BEGIN + self.time, "optical", state, bearing, target_id)
        self._pending.append((self.time + self._latency, observation))
        pixel = None if car is None else self.scene.project(camera, car)
        width = self.scene.size[0]
        offset = math.nan if pixel is None else (pixel[0] - self.scene.centre[0]) / width
        self.log.times.append(self.time)
        self.log.states.append(state)
        self.log.errors.append(offset)
        self.log.cameras.append(camera)

    @property
    def is_measured(self):
        return self.controller.measurement is not None

    @property
    def phase(self):
        return self.log.commands[-1][2] if self.log.commands else Phase.SILENT


@pytest.fixture
def closed_loop():
    """Make a loop on a scene; `real` with the tracker on rendered frames."""

    def make(settings, car, *, zoom=1.0, dead_time=0.1, lag=0.03, real=False, **options):
        pillars = options.pop("pillars", ())
        scene = GimbalScene(zoom, pillars)
        eyes = TrackedEyes(scene) if real else ExactEyes(scene)
        drive = GimbalDrive(dead_time, lag)
        return Loop(scene, eyes, LookAtController(settings), drive, car, **options)

    return make


LAG = 0.03
FULL_SPEED = math.radians(30.0)


class Course:
    """A car at home while the dead time is measured, then another target that stands off the axis.

    After `rest` seconds it drives off: in `acceleration` seconds to 30 degrees a second.
    """

    def __init__(self, offset, rest=math.inf, acceleration=1.0):
        self.offset, self._rest, self._acceleration = offset, rest, acceleration
        self.begin = math.nan

    def __call__(self, time, loop):
        if math.isnan(self.begin):
            if not loop.is_measured:
                return (0.0, 0.0), 1
            self.begin = time
        driven = max(0.0, time - self.begin - self._rest)
        speeding_up = min(driven, self._acceleration)
        pan = 0.5 * FULL_SPEED / self._acceleration * speeding_up**2
        pan += FULL_SPEED * (driven - speeding_up)
        return (self.offset + pan, 0.0), 2

    @property
    def full_speed_at(self):
        return self.begin + self._rest + self._acceleration


def offset_of(zoom, share=0.3):
    """The direction that is seen a share of the width off the centre."""
    return math.atan(share * 2.0 * math.tan(math.radians(30.0)) / zoom)


def run_until_measured(loop, course):
    for _ in range(12):
        loop.run(0.5)
        if not math.isnan(course.begin):
            return
    pytest.fail(f"not measured: {loop.controller.failure}")


@pytest.mark.parametrize("dead_time", [0.05, 0.2, 0.4])
@pytest.mark.parametrize("zoom", [1.0, 3.0, 10.0])
def test_camera_settles_without_overshoot_at_every_zoom_and_dead_time(closed_loop, zoom, dead_time):
    course = Course(offset_of(zoom))
    loop = closed_loop(ControllerSettings(), course, zoom=zoom, dead_time=dead_time, lag=LAG)
    run_until_measured(loop, course)
    assert abs(loop.controller.law.dead_time - dead_time - LAG) < 0.02
    log = loop.run(4.0)
    assert log.settled(course.begin) < 1.5
    assert log.overshoot(course.begin) < 0.1
    assert np.abs(log.error_after(course.begin + 2.0)).max() < 0.02


@pytest.mark.parametrize("dead_time", [0.05, 0.2, 0.4])
@pytest.mark.parametrize(("zoom", "acceleration"), [(1.0, 1.0), (3.0, 4.0), (10.0, 30.0)])
def test_target_at_thirty_degrees_a_second_stays_within_five_percent(
    closed_loop, zoom, acceleration, dead_time
):
    course = Course(offset_of(zoom), rest=2.0, acceleration=acceleration)
    loop = closed_loop(ControllerSettings(), course, zoom=zoom, dead_time=dead_time, lag=LAG)
    run_until_measured(loop, course)
    log = loop.run(acceleration + 6.0)
    assert TargetState.LOST not in log.states
    assert np.abs(log.error_after(course.full_speed_at + 1.5)).max() < 0.05
    assert abs(log.commands[-1][1][0] - FULL_SPEED) < 0.02


@pytest.mark.parametrize("response", [0.6, 1.5])
def test_gimbal_that_turns_too_slowly_or_too_fast_is_made_up_for(closed_loop, response):
    course = Course(offset_of(1.0))
    loop = closed_loop(ControllerSettings(), course, dead_time=0.2, response=response)
    run_until_measured(loop, course)
    assert loop.controller.law.response == pytest.approx(response, abs=0.1)
    log = loop.run(4.0)
    assert log.settled(course.begin) < 1.5
    assert log.overshoot(course.begin) < 0.1


@pytest.mark.parametrize("error", [-0.05, 0.05])
def test_dead_time_that_is_not_quite_right_does_no_harm(closed_loop, error):
    settings = ControllerSettings(dead_time=0.2 + LAG + error)
    loop = closed_loop(settings, lambda *_: ((offset_of(1.0), 0.0), 1), dead_time=0.2, lag=LAG)
    log = loop.run(5.0)
    assert log.overshoot(0.0) < 0.15
    assert np.abs(log.error_after(3.0)).max() < 0.01


@pytest.mark.parametrize("rate", [8.0, 60.0])
def test_rate_of_images_does_not_matter(closed_loop, rate):
    settings = ControllerSettings(dead_time=0.2 + LAG)
    loop = closed_loop(settings, lambda *_: ((offset_of(1.0), 0.0), 1), dead_time=0.2, lag=LAG)
    log = loop.run(4.0, frames_a_second=rate)
    assert log.settled(0.0) < 1.5
    assert log.overshoot(0.0) < 0.1


# With the bundled tracker, on rendered frames


@pytest.mark.integration
@pytest.mark.parametrize(("zoom", "dead_time"), [(1.0, 0.05), (1.0, 0.4), (10.0, 0.2)])
def test_real_tracker_is_led_onto_its_target_and_kept_there(closed_loop, zoom, dead_time):
    course = Course(offset_of(zoom), rest=1.7 if dead_time == 0.4 else math.inf)
    loop = closed_loop(
        ControllerSettings(), course, zoom=zoom, dead_time=dead_time, lag=LAG, real=True
    )
    run_until_measured(loop, course)
    assert abs(loop.controller.law.dead_time - dead_time - LAG) < 0.02
    log = loop.run(1.7)
    # The tracker's box is 2 pixels off when the image moves fast, 1 % of the first offset.
    assert log.settled(course.begin, share=0.1) < 1.5
    assert log.overshoot(course.begin) < 0.1
    if dead_time == 0.4:
        log = loop.run(3.5)
        assert np.abs(log.error_after(course.full_speed_at + 1.5)).max() < 0.05
        assert len(log.error_after(course.full_speed_at + 1.5)) > 10


@pytest.mark.integration
def test_camera_stops_when_the_real_tracker_loses_its_target_and_goes_on_when_it_is_back(
    closed_loop,
):
    def car(time, _loop):
        """Drives behind the pillar, stands there for a while, and comes out of it."""
        return (min(0.2 * time, 0.27) + min(max(0.0, 0.2 * (time - 3.0)), 0.21), 0.0), 1

    settings = ControllerSettings(dead_time=0.13, lost="hold")
    loop = closed_loop(
        settings, car, dead_time=0.1, lag=LAG, real=True, pillars=[Pillar(0.18, 0.36)]
    )
    log = loop.run(3.0)
    assert log.phases()[-3:] == [Phase.FOLLOWING, Phase.COASTING, Phase.HOLDING]
    lost_at = log.times[log.states.index(TargetState.LOST)]
    still = [rates for time, rates, _ in log.commands if time > lost_at + 0.25]
    assert len(still) > 20
    assert not np.any(still)
    while log.states[-1] is not TargetState.TRACKING and loop.time < 8.0:
        loop.run(0.2)
    loop.run(1.5)
    assert loop.phase is Phase.FOLLOWING
    assert abs(log.errors[-1]) < 0.02


@pytest.mark.integration
def test_loop_gives_the_same_result_again(closed_loop):
    def run():
        course = Course(0.2)
        loop = closed_loop(ControllerSettings(dead_time=0.1), course, real=True)
        return loop.run(0.5)

    one, other = run(), run()
    assert one.errors == other.errors
    assert [rates.tolist() for _, rates, _ in one.commands] == [
        rates.tolist() for _, rates, _ in other.commands
    ]
