# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.errors import WeightsError
from vt_models.longterm.calibration import UNCALIBRATED, Calibration, read_calibration

unit = st.floats(0.0, 1.0)


@given(unit, unit)
def test_confidence_without_calibration_is_the_score(score: float, similarity: float) -> None:
    assert UNCALIBRATED.confidence(score, similarity) == pytest.approx(score, abs=1.1e-3)


@given(unit, unit, st.floats(-1.0, 1.0))
def test_confidence_rises_with_score_and_similarity(
    low: float, high: float, similarity: float
) -> None:
    calibration = Calibration(1.3, 3.8, -0.7)
    low, high = sorted((low, high))
    assert (
        0.0
        <= calibration.confidence(low, similarity)
        <= calibration.confidence(high, similarity)
        <= 1.0
    )
    assert calibration.confidence(high, similarity) >= calibration.confidence(
        high, similarity - 0.1
    )


def test_confidence_of_zero_or_nan_score_is_zero() -> None:
    assert Calibration(1.3, 3.8, -0.7).confidence(0.0, 1.0) == 0.0
    assert UNCALIBRATED.confidence(float("nan"), 1.0) == 0.0


def test_read_calibration_of_a_written_entry_is_equal() -> None:
    calibration = Calibration(1.3, 3.8, -0.7, 2.0, 0.05, 0.1, is_fitted=True)
    assert read_calibration({**calibration.to_entry(), "fitted": {}}) == calibration
    assert read_calibration(None) is UNCALIBRATED


def test_read_calibration_old_keys_are_read() -> None:
    calibration = Calibration(1.3, 3.8, -0.7, 2.0, 0.05, 0.1, is_fitted=True)
    entry = calibration.to_entry()
    assert {"similarity", "covariance_scale"} <= entry.keys()
    entry["likeness"], entry["spread_scale"] = (
        entry.pop("similarity"),
        entry.pop("covariance_scale"),
    )
    assert read_calibration(entry) == calibration


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"weight": None},
        {"weight": -1.0},
        {"bias": "nan"},
        {"size_floor": 0.0},
        {"similarity": 1e300},
        {"covariance_scale": 1e9},
        {"position_floor": 1e-300},
        {"bias": 10**400},
    ],
)
def test_read_calibration_broken_entry_is_refused(change) -> None:
    with pytest.raises(WeightsError, match="calibrat"):
        read_calibration({**UNCALIBRATED.to_entry(), **change})
    with pytest.raises(WeightsError, match="version 1"):
        read_calibration([1, 2])  # type: ignore[arg-type]


def test_covariance_grows_with_size_and_low_confidence() -> None:
    calibration = dataclasses.replace(UNCALIBRATED, position_floor=0.1, size_floor=0.2)
    sure = calibration.covariance((0, 0, 20, 5), None, 1.0)
    np.testing.assert_allclose(np.diag(sure), (1.0, 1.0, 4.0, 4.0))
    np.testing.assert_allclose(calibration.covariance((0, 0, 20, 5), None, 0.5), 2 * sure)
    spread = np.diag((1.0, 2.0, 3.0, 4.0))
    both = calibration.covariance((0, 0, 20, 5), spread, 1.0)
    np.testing.assert_allclose(both, sure + calibration.covariance_scale * spread)
