# SPDX-License-Identifier: Apache-2.0
"""The velocity of a point: right on average, as uncertain as it says, and robust."""

from __future__ import annotations

import numpy as np
import pytest

from vt_models.geometry.constant_velocity import ConstantVelocityFilter

STEP = 1.0 / 30.0
NOISE = np.diag((0.02, 0.03, 0.05)) ** 2


def fresh() -> ConstantVelocityFilter:
    return ConstantVelocityFilter(acceleration=0.5, fastest=3.0, longest_gap=1.0)


def test_error_is_as_large_as_the_covariance_says() -> None:
    """Targets whose acceleration is white noise; the mean squared normalised error is 6."""
    chance, errors = np.random.default_rng(1), []
    noise = 0.5 * np.array(((STEP**3 / 3, STEP**2 / 2), (STEP**2 / 2, STEP)))
    for _ in range(60):
        filter_, position, velocity = fresh(), chance.normal(0, 5, 3), chance.normal(0, 1, 3)
        for step in range(60):
            kicks = chance.multivariate_normal((0, 0), noise, size=3)
            position = position + STEP * velocity + kicks[:, 0]
            velocity = velocity + kicks[:, 1]
            filter_.take(chance.multivariate_normal(position, NOISE), NOISE, step * STEP)
        error = filter_.mean - np.concatenate((position, velocity))
        errors.append(error @ np.linalg.solve(filter_.covariance, error))
    assert np.mean(errors) == pytest.approx(6.0, abs=1.5)
    assert np.linalg.eigvalsh(filter_.covariance).min() > 0.0


def test_velocity_settles_and_an_outlier_does_not_move_it() -> None:
    filter_ = fresh()
    assert not filter_.settled
    for step in range(60):
        assert filter_.take(np.array((0.5 * step * STEP, 1.0, 2.0)), NOISE, step * STEP)
        assert filter_.settled == (step >= 2)
    assert filter_.mean[3:] == pytest.approx((0.5, 0.0, 0.0), abs=0.02)
    before = filter_.mean.copy()
    assert not filter_.take(np.array((9.0, 1.0, 2.0)), NOISE, 60 * STEP)
    assert filter_.mean == pytest.approx(before)
    assert filter_.take(np.array((0.5 * 61 * STEP, 1.0, 2.0)), NOISE, 61 * STEP)


def test_another_place_is_believed_after_three_positions_and_starts_anew() -> None:
    filter_ = fresh()
    for step in range(30):
        filter_.take(np.zeros(3), NOISE, step * STEP)
    there = np.array((9.0, 0.0, 0.0))
    taken = [filter_.take(there, NOISE, step * STEP) for step in range(30, 34)]
    assert taken == [False, False, True, True]
    assert not filter_.settled
    assert filter_.mean[:3] == pytest.approx(there, abs=1e-6)


@pytest.mark.parametrize("seconds", [1.5, 0.0, -5.0])
def test_gap_or_a_time_that_goes_back_starts_anew(seconds: float) -> None:
    filter_ = fresh()
    for step in range(10):
        filter_.take(np.zeros(3), NOISE, step * STEP)
    assert filter_.take(np.full(3, 8.0), NOISE, 9 * STEP + seconds)
    assert not filter_.settled
