# SPDX-License-Identifier: Apache-2.0
"""The law for any numbers: limits, dead zone, what the past commands mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from vt_models.errors import InputError
from vt_ros.look_at.control_law import CommandHistory, ControlLaw, LawSettings, TargetMotion

ANGLES = st.floats(-3.0, 3.0)
PAIRS = st.tuples(ANGLES, ANGLES).map(np.array)
STEPS = st.lists(st.tuples(st.floats(0.001, 0.2), PAIRS), min_size=1, max_size=40)


@settings(deadline=None)
@given(STEPS)
def test_history_is_the_integral_of_the_commands(steps):
    history, time, angle, rates = CommandHistory(), 10.0, np.zeros(2), np.zeros(2)
    for seconds, following in steps:
        history.record(time, following)
        time, angle, rates = time + seconds, angle + following * seconds, following
    assert history.angle(time) == pytest.approx(angle)
    assert history.angle(time + 1.0) == pytest.approx(angle + rates)
    assert history.angle(9.0) == pytest.approx(np.zeros(2))
    middle = 10.0 + 0.5 * steps[0][0]
    assert history.angle(middle) == pytest.approx(0.5 * steps[0][0] * steps[0][1])


def test_history_refuses_a_command_of_the_past_and_forgets_old_ones_but_not_their_sum():
    history = CommandHistory()
    for tick in range(2000):
        history.record(tick * 0.02, np.array((0.5, 0.0)))
    assert history.angle(40.0)[0] == pytest.approx(20.0)
    with pytest.raises(InputError, match="came after"):
        history.record(1.0, np.zeros(2))


@settings(deadline=None)
@given(PAIRS, PAIRS, st.floats(0.01, 0.2))
def test_motion_at_a_constant_rate_is_found(begin, rate, period):
    motion = TargetMotion(6.0, 5.0, begin)
    count = math.ceil(3.0 / period) + 20
    for number in range(1, count):
        motion.update(5.0 + number * period, begin + rate * number * period, 1.0)
    now = 5.0 + count * period
    angle, found = motion.at(now)
    assert found == pytest.approx(rate, abs=0.02)
    assert angle == pytest.approx(begin + rate * count * period, abs=0.02)


@settings(deadline=None)
@given(PAIRS)
def test_motion_that_jumps_in_one_image_does_not_run_away(jump):
    motion = TargetMotion(6.0, 0.0, np.zeros(2))
    motion.update(1.0 / 30.0, jump, 1.0)
    angle, _ = motion.at(1.0 / 30.0)
    assert np.all(np.abs(angle) <= np.abs(jump) + 1e-9)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.0, 0.3), PAIRS), min_size=1, max_size=60),
    st.floats(0.05, 5.0),
    st.floats(0.1, 20.0),
)
def test_commands_are_within_the_limits_whatever_is_wanted(wishes, max_rate, max_acceleration):
    law = ControlLaw(LawSettings(max_rate=max_rate, max_acceleration=max_acceleration))
    now, last = 0.0, np.zeros(2)
    for seconds, wanted in wishes:
        now += seconds
        rates = law.steer(now, 100.0 * wanted)
        assert np.all(np.abs(rates) <= max_rate + 1e-9)
        assert np.all(np.abs(rates - last) <= max_acceleration * 0.1 + 1e-9)
        last = rates
    assert not np.any(law.stop(now))


@settings(deadline=None)
@given(PAIRS, st.floats(0.1, 10.0), st.floats(0.1, 100.0))
def test_rates_lead_towards_the_target_and_can_be_braked(error, gain, acceleration):
    law = ControlLaw(LawSettings(gain=gain, max_acceleration=acceleration))
    rates = law.rates_towards(error)
    assert np.all(rates * error >= 0.0)
    assert np.all(np.abs(rates) <= gain * np.abs(error) + 1e-9)
    assert np.all(rates**2 <= 2.0 * acceleration * np.abs(error) + 1e-9)


def test_camera_stays_as_it_is_within_the_dead_zone_and_turns_to_the_target_outside():
    law = ControlLaw(LawSettings(dead_zone=0.01))
    for number in range(30):
        law.observe(1.0 + number / 30.0, np.array((0.009, -0.009)))
    assert law.rates_to_target(2.0) == pytest.approx(np.zeros(2))
    law.forget()
    assert not law.has_target
    assert not np.any(law.rates_to_target(2.0))
    law.observe(2.0, np.array((0.2, -0.1)))
    right, up = law.rates_to_target(2.0)
    assert right > 0.0 > up


def test_command_that_is_under_way_is_not_given_again():
    """After a command that turns to the target within the dead time there is nothing left to do."""
    law = ControlLaw(LawSettings(dead_zone=0.0, max_acceleration=1000.0), dead_time=0.5)
    law.observe(1.0, np.array((0.2, 0.0)))
    law.history.record(1.0, np.array((1.0, 0.0)))
    law.history.record(1.2, np.zeros(2))
    assert law.rates_to_target(1.2) == pytest.approx(np.zeros(2), abs=1e-9)


def test_response_is_made_up_for_and_the_limit_is_that_of_the_command():
    law = ControlLaw(LawSettings(max_acceleration=1000.0))
    law.response = np.array((0.5, 1.5))
    law.steer(0.0, np.zeros(2))
    assert law.steer(0.1, np.array((0.3, 0.3))) == pytest.approx((0.6, 0.2))
    assert law.steer(0.2, np.array((9.0, 0.0))) == pytest.approx((1.0, 0.0))
    assert law.history.last[1] == pytest.approx((0.5, 0.0))
