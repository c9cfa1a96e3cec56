# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.longterm import State
from vt_models.longterm.prediction import BoxMotion, follow

COVARIANCE = np.diag((4.0, 4.0, 9.0, 9.0))
T, U, C = State.TRACKING, State.UNCERTAIN, State.COASTING


def moving(count: int, step: tuple[float, float], state: State = T) -> BoxMotion:
    """The motion after frames at 30 a second, in each of which the box has moved by `step`."""
    motion = None
    for n in range(count):
        box = (10.0 + n * step[0], 20.0 + n * step[1], 30.0, 40.0)
        motion = follow(motion, n / 30.0, box, COVARIANCE, state)
    assert motion is not None
    return motion


@given(st.floats(-20, 20), st.floats(-20, 20))
def test_at_a_frame_later_is_about_where_a_steady_target_is(dx: float, dy: float) -> None:
    motion = moving(12, (dx, dy))
    box, _ = motion.at(12 / 30.0)
    assert box[2:] == (30.0, 40.0)
    # A velocity decays, so that nine tenths of the next step are predicted.
    assert box[0] - motion.box[0] == pytest.approx(0.9 * dx, abs=0.02 * abs(dx) + 1e-9)
    assert box[1] - motion.box[1] == pytest.approx(0.9 * dy, abs=0.02 * abs(dy) + 1e-9)


def test_at_the_frame_itself_or_before_is_the_estimate() -> None:
    motion = moving(5, (3.0, 0.0))
    for time in (motion.time, motion.time - 1.0):
        box, covariance = motion.at(time)
        assert box == motion.box
        assert np.array_equal(covariance, COVARIANCE)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_at_covariance_grows_and_travel_is_bounded(one: float, other: float) -> None:
    motion = moving(12, (9.0, -4.0))
    near, far = (motion.at(motion.time + ahead) for ahead in sorted((one, other)))
    assert np.all(np.linalg.eigvalsh(far[1] - near[1]) >= -1e-9)
    assert np.all(np.linalg.eigvalsh(near[1]) > 0)
    assert abs(far[0][0] - motion.box[0]) <= abs(motion.velocity[0])


def test_follow_starts_at_rest_and_forgets_nothing_while_coasting() -> None:
    assert moving(1, (5.0, 0.0)).velocity == (0.0, 0.0)
    motion = moving(12, (6.0, 0.0))
    coasting = follow(motion, motion.time + 1 / 30, (90.0, 20.0, 30.0, 40.0), COVARIANCE, C)
    assert 0.0 < coasting.velocity[0] < motion.velocity[0]
    assert coasting.state is C
    # The box of a predicted frame is no measurement, nor is the step from it to the next one.
    back = follow(coasting, motion.time + 2 / 30, (20.0, 20.0, 30.0, 40.0), COVARIANCE, U)
    assert back.velocity == coasting.velocity
    same_time = follow(motion, motion.time, (9.0, 9.0, 30.0, 40.0), COVARIANCE, T)
    assert same_time.velocity == (0.0, 0.0)
