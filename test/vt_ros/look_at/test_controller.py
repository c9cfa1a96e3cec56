# SPDX-License-Identifier: Apache-2.0
"""What the camera does in each state of the target, and what is refused."""

from __future__ import annotations

import contextlib
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from vt_models.errors import InputError
from vt_ros.look_at.controller import (
    ControllerSettings,
    LookAtController,
    Observation,
    Phase,
    TargetState,
)

IDLE, TRACKING, UNCERTAIN, COASTING, LOST = TargetState
NOWHERE = (math.nan, math.nan)
AHEAD, RIGHT = (0.0, 0.0), (0.2, 0.0)


class Bench:
    """A controller whose dead time is known, 30 images and 60 commands a second."""

    def __init__(self, **changes):
        self.controller = LookAtController(ControllerSettings(**{"dead_time": 0.1, **changes}))
        self.now, self.commands = 100.0, []

    def see(self, state, bearing=NOWHERE, seconds=1.0, **fields):
        """Let the tracker say the same for a while; the last command."""
        for _ in range(max(1, round(30 * seconds))):
            observation = Observation(self.now - 0.05, "optical", state, bearing, 1)
            observation = Observation(**{**vars(observation), **fields})
            self.controller.observe(observation, self.now)
            self.tick(1.0 / 30.0)
        return self.commands[-1]

    def tick(self, seconds):
        for _ in range(round(60 * seconds)):
            self.commands.append(self.controller.command(self.now))
            self.now += 1.0 / 60.0
        return self.commands[-1] if self.commands else None

    def refused(self, words, **fields):
        """Whether an observation is refused, and changes nothing."""
        fields = {"stamp": self.now, "frame_id": "optical", "state": TRACKING, **fields}
        fields = {"bearing": AHEAD, "target_id": 1, **fields}
        before = self.controller.counts["refused"]
        with pytest.raises(InputError, match=words):
            self.controller.observe(Observation(**fields), self.now)
        assert self.controller.counts["refused"] == before + 1
        assert self.controller.last_refusal


def is_still(command):
    return not np.any(command.rates)


def test_camera_stands_still_until_there_is_a_target():
    bench = Bench()
    assert bench.tick(0.5).phase is Phase.SILENT
    assert bench.see(IDLE, target_id=0).phase is Phase.IDLE
    assert all(is_still(command) for command in bench.commands)
    command = bench.see(TRACKING, RIGHT, seconds=0.2)
    assert command.phase is Phase.FOLLOWING
    assert command.rates[0] > 0.0


def test_rates_are_zero_within_half_a_second_of_silence():
    bench = Bench()
    assert not is_still(bench.see(TRACKING, RIGHT))
    silent = bench.now
    while not is_still(bench.tick(1.0 / 60.0)):
        assert bench.now - silent < 0.5
    assert bench.commands[-1].phase is Phase.SILENT
    assert is_still(bench.tick(2.0))


@pytest.mark.parametrize("gap", [1e-6, 1e-4, 1e-3, 5e-3])
def test_image_that_comes_twice_does_not_turn_its_noise_into_a_rate(gap):
    bench, chance = Bench(), np.random.default_rng(0)
    for _ in range(90):
        for stamp in (bench.now - 0.05, bench.now - 0.05 + gap):
            bearing = tuple(chance.normal(0.0, 0.0015, 2))
            observation = Observation(stamp, "optical", TRACKING, bearing, 1)
            bench.controller.observe(observation, bench.now)
        bench.tick(1.0 / 30.0)
    # 1 rad/s before; 0.015 with each image once.
    assert max(np.abs(command.rates).max() for command in bench.commands) < 0.03


def test_images_that_are_refused_are_silence():
    bench = Bench()
    bench.see(TRACKING, RIGHT)
    for _ in range(30):
        bench.refused("image is 5.00 s old", stamp=bench.now - 5.0)
        bench.tick(1.0 / 30.0)
    assert is_still(bench.commands[-1])


def test_observation_that_makes_no_sense_is_refused_with_a_reason():
    bench = Bench()
    bench.see(TRACKING, AHEAD, seconds=0.1)
    bench.refused("no stamp", stamp=0.0)
    bench.refused(r"-1\.00 s old", stamp=bench.now + 1.0)
    bench.refused("synchronise the clocks", stamp=bench.now - 2.0)
    bench.refused("came after that of", stamp=bench.now - 0.5)
    bench.refused("'rear'.*'optical'", frame_id="rear")
    bench.refused("no usable camera_info", bearing=NOWHERE)
    bench.refused("radians from -pi to pi", bearing=(math.nan, 0.0))
    bench.refused("radians from -pi to pi", bearing=(45.0, 0.0))
    bench.refused("radians from -pi to pi", bearing=(0.0, math.inf))
    assert bench.see(TRACKING, AHEAD, seconds=0.1).phase is Phase.FOLLOWING


def test_camera_frame_is_the_one_that_was_set():
    bench = Bench(camera_frame="gimbal_optical")
    bench.refused("'optical', expected 'gimbal_optical'")
    assert bench.see(TRACKING, AHEAD, frame_id="gimbal_optical").phase is Phase.FOLLOWING


def test_another_target_may_begin_in_the_last_image():
    bench = Bench()
    bench.see(TRACKING, RIGHT, seconds=0.2)
    last = bench.now - 1.0 / 30.0 - 0.05
    bench.controller.observe(Observation(last, "optical", TRACKING, AHEAD, 2), bench.now)
    assert np.allclose(bench.controller.law.target_rate(), 0.0)


@pytest.mark.parametrize(
    ("action", "phase"), [("follow", Phase.FOLLOWING), ("hold", Phase.HOLDING)]
)
def test_uncertain_is_followed_or_not(action, phase):
    bench = Bench(uncertain=action)
    bench.see(TRACKING, AHEAD)
    assert bench.see(UNCERTAIN, RIGHT).phase is phase
    assert is_still(bench.commands[-1]) == (action == "hold")


def test_target_that_nobody_has_confirmed_is_not_followed():
    bench = Bench()
    bench.see(LOST)
    command = bench.see(UNCERTAIN, RIGHT, unconfirmed=True)
    assert command.phase is Phase.HOLDING
    assert is_still(command)
    assert bench.see(TRACKING, RIGHT).phase is Phase.FOLLOWING


def test_coasting_goes_on_as_the_target_moved_for_a_while():
    bench = Bench(coasting_timeout=0.5)
    for step in range(30):  # runs ahead of a camera that is kept from turning fast
        bench.see(TRACKING, (0.01 * step, 0.0), seconds=1.0 / 30.0)
    assert bench.see(COASTING, seconds=0.4).phase is Phase.COASTING
    assert bench.commands[-1].rates[0] > 0.1
    assert bench.see(COASTING, seconds=0.6).phase is Phase.HOLDING
    assert is_still(bench.commands[-1])
    assert bench.see(TRACKING, AHEAD, seconds=0.1).phase is Phase.FOLLOWING


def test_coasting_may_be_standing_still():
    bench = Bench(coasting="hold")
    bench.see(TRACKING, RIGHT)
    command = bench.see(COASTING, seconds=0.5)
    assert command.phase is Phase.HOLDING
    assert is_still(command)


def test_lost_target_is_searched_for_slowly_on_the_side_where_it_was_and_not_for_ever():
    bench = Bench(
        lost="search", lost_wait=1.0, search_angle=0.3, search_rate=0.2, search_duration=8.0
    )
    bench.see(TRACKING, (-0.2, 0.1))
    begin = bench.controller.law.history.angle(bench.now)[0]
    assert bench.see(LOST, seconds=0.9).phase is Phase.HOLDING
    assert is_still(bench.commands[-1])
    bench.see(LOST, seconds=0.2)
    angles = []
    for _ in range(75):
        command = bench.see(LOST, seconds=0.1)
        assert command.phase is Phase.SEARCHING
        assert abs(command.rates[0]) <= 0.2
        assert command.rates[1] == 0.0
        angles.append(bench.controller.law.history.angle(bench.now)[0] - begin)
    assert angles[5] < 0.0  # to the left first
    assert -0.45 < min(angles) < -0.25
    assert 0.1 < max(angles) < 0.45
    assert bench.see(LOST, seconds=3.0).phase is Phase.HOLDING
    assert is_still(bench.commands[-1])


def test_camera_goes_home_where_it_is_known_where_that_is():
    bench = Bench(lost="home", lost_wait=0.0, search_rate=0.3)
    bench.see(TRACKING, AHEAD)
    assert is_still(bench.see(LOST, seconds=0.5))  # it is not known
    bench.controller.position = np.array((1.0, -0.5))
    command = bench.see(LOST, seconds=0.5)
    assert command.phase is Phase.HOMING
    assert command.rates == pytest.approx((-0.3, 0.3))
    bench.controller.position = np.zeros(2)
    assert np.abs(bench.see(LOST, seconds=0.5).rates).max() < 1e-6


def test_axis_that_is_not_turned_is_never_commanded():
    bench = Bench(axes=(True, False))
    command = bench.see(TRACKING, (0.2, 0.2))
    assert command.rates[0] > 0.0
    assert command.rates[1] == 0.0


def test_nothing_is_concluded_from_commands_that_do_not_arrive():
    bench = Bench(dead_time=None)
    bench.see(TRACKING, AHEAD, seconds=0.5)
    assert bench.commands[-1].phase is Phase.MEASURING
    command = bench.controller.command(bench.now, blocked=True)
    assert command.phase is Phase.BLOCKED
    assert is_still(command)
    bench.controller.command(bench.now)
    bench.see(TRACKING, AHEAD, seconds=0.2)
    assert bench.commands[-1].phase is Phase.MEASURING


def test_camera_that_does_not_follow_is_tried_three_times_and_then_stands_still():
    bench = Bench(dead_time=None)
    bench.see(TRACKING, RIGHT, seconds=12.0)  # nothing of the motion is seen
    phases = [command.phase for command in bench.commands]
    begins = sum(b is Phase.MEASURING and a is not b for a, b in itertools.pairwise(phases))
    assert begins + (phases[0] is Phase.MEASURING) == 3
    assert phases[-1] is Phase.UNMEASURED
    assert is_still(bench.commands[-1])
    assert "do the commands reach the camera's drive" in bench.controller.failure
    bench.controller.measure_again()
    assert bench.see(TRACKING, RIGHT, seconds=0.1).phase is Phase.MEASURING


def test_measurement_ends_with_the_target_and_begins_again_later():
    bench = Bench(dead_time=None)
    bench.see(TRACKING, AHEAD, seconds=0.5)
    command = bench.see(LOST, seconds=0.5)
    assert command.phase is Phase.HOLDING
    assert is_still(command)
    assert "not seen meanwhile" in bench.controller.failure
    bench.see(TRACKING, AHEAD, seconds=1.5)
    assert bench.commands[-1].phase is Phase.MEASURING
    bench.see(IDLE, seconds=0.2, target_id=0)
    assert is_still(bench.commands[-1])


def test_dead_time_is_not_measured_on_a_target_that_nobody_has_confirmed():
    bench = Bench(dead_time=None)
    bench.see(TRACKING, AHEAD, seconds=2.0, unconfirmed=True)
    assert {command.phase for command in bench.commands} == {Phase.HOLDING}
    assert all(is_still(command) for command in bench.commands)
    bench.see(TRACKING, AHEAD, seconds=0.2)
    assert bench.commands[-1].phase is Phase.MEASURING
    assert not is_still(bench.commands[-1])
    command = bench.see(TRACKING, AHEAD, seconds=1.0 / 30.0, unconfirmed=True)
    assert command.phase is Phase.HOLDING
    assert is_still(command)
    assert "not confirmed" in bench.controller.failure


SAID = st.tuples(
    st.sampled_from(TargetState),
    st.tuples(*[st.floats(-4.0, 4.0) | st.just(math.nan)] * 2),
    st.floats(-0.5, 2.5),  # age
    st.integers(0, 3),
    st.floats(0.0, 0.8),  # until then
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(SAID, max_size=40),
    st.sampled_from(["hold", "search", "home"]),
    st.sampled_from([None, 0.2]),
)
def test_whatever_is_said_commands_are_finite_and_limited_and_silence_is_zero(said, lost, dead):
    bench = Bench(lost=lost, lost_wait=0.1, dead_time=dead)
    for state, bearing, age, target_id, seconds in said:
        observation = Observation(bench.now - age, "optical", state, bearing, target_id)
        with contextlib.suppress(InputError):
            bench.controller.observe(observation, bench.now)
        bench.tick(seconds)
    assert is_still(bench.tick(1.0))
    for command in bench.commands:
        assert np.all(np.abs(command.rates) <= 1.0)
