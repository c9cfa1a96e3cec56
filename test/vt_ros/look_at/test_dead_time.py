# SPDX-License-Identifier: Apache-2.0
"""A small motion tells dead time and response, or why it does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from vt_ros.look_at.control_law import CommandHistory
from vt_ros.look_at.dead_time import DeadTimeProbe, MeasurementError

PERFECT = np.eye(2)


def measured(
    *,
    dead_time=0.2,
    response=PERFECT,
    noise=5e-4,
    drift=(0.0, 0.0),
    rate=30.0,
    axes=(True, True),
    seed=1,
    longest=0.6,
):
    """What a probe measures of a camera that follows exactly, on bearings with noise."""
    probe, history = DeadTimeProbe(100.0, 0.0175, 1.0, longest, axes), CommandHistory()
    random = np.random.default_rng(seed)
    now = 100.0
    while not probe.is_over(now):
        history.record(now, probe.rates(now))
        now += 0.02
    for stamp in np.arange(100.0, now, 1.0 / rate):
        turned = response @ history.angle(stamp - dead_time)
        bearing = np.array((0.1, -0.05)) + np.array(drift) * (stamp - 100.0) - turned
        probe.observe(stamp, bearing + random.normal(0.0, noise, 2))
    return probe.measure(history)


@settings(max_examples=20, deadline=None)
@given(
    st.floats(0.0, 0.55),
    st.floats(0.5, 1.5),
    st.floats(0.5, 1.5),
    st.floats(-0.2, 0.2),
    st.integers(0, 100),
)
def test_dead_time_and_response_are_found_also_of_a_target_in_steady_motion(
    dead_time, pan, tilt, drift, seed
):
    found = measured(
        dead_time=dead_time, response=np.diag((pan, tilt)), drift=(drift, -drift), seed=seed
    )
    assert found.dead_time == pytest.approx(dead_time, abs=0.02)
    assert found.response == pytest.approx(np.diag((pan, tilt)), abs=0.15)


def test_axis_that_is_not_turned_is_not_measured():
    found = measured(axes=(True, False))
    assert found.response[0, 0] == pytest.approx(1.0, abs=0.1)
    assert not np.any(found.response[:, 1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"response": np.zeros((2, 2))}, "do the commands reach the camera's drive"),
        ({"response": -PERFECT}, "the other way"),
        ({"response": np.array(((0.0, 1.0), (1.0, 0.0)))}, "mount.roll, mount.pitch, mount.yaw"),
        ({"response": PERFECT / 57.3, "noise": 1e-6}, "radians a second"),
        ({"response": 2.0 * PERFECT}, "camera_info that of this zoom"),
        ({"rate": 4.0}, "more images a second"),
        ({"dead_time": 0.9}, "a larger dead_time.longest"),
        ({"dead_time": 0.63}, "0.6 s or more; set a larger dead_time.longest"),
        ({"noise": 6e-3, "rate": 15.0}, "give or take"),
    ],
    ids=lambda value: str(list(value))[:30] if isinstance(value, dict) else "",
)
def test_measurement_that_tells_nothing_is_refused_with_the_remedy(change, words):
    with pytest.raises(MeasurementError, match=words):
        measured(**change)
