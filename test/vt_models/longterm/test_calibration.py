# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.errors import WeightsError
from vt_models.longterm.appearance import appearance_descriptor, appearance_similarity
from vt_models.longterm.calibration import UNCALIBRATED, Calibration, read_calibration
from vt_models.longterm.search_grid import SCALES, SearchGrid, search_windows

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
    [{"version": 2}, {"weight": None}, {"weight": -1.0}, {"bias": "nan"}, {"size_floor": 0.0}],
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


def test_appearance_similarity_depends_on_content_not_on_light_or_size(picture) -> None:
    box = (60.0, 50.0, 24.0, 24.0)
    frame = picture(box)
    descriptor = appearance_descriptor(frame, box)
    assert appearance_similarity(descriptor, descriptor) == pytest.approx(1.0, abs=1e-5)
    darker = (frame * 0.6 + 20).astype(np.uint8)
    assert appearance_similarity(descriptor, appearance_descriptor(darker, box)) > 0.9
    large = np.repeat(np.repeat(frame, 2, axis=0), 2, axis=1)
    assert (
        appearance_similarity(descriptor, appearance_descriptor(large, (120.0, 100.0, 48.0, 48.0)))
        > 0.95
    )
    assert appearance_similarity(descriptor, appearance_descriptor(picture(None), box)) < 0.4
    assert (
        appearance_similarity(descriptor, appearance_descriptor(np.full_like(frame, 70), box))
        == 0.0
    )
    assert np.isfinite(appearance_descriptor(frame, (-500.0, -500.0, 3.0, 9.0))).all()


box_in_frame = st.tuples(st.floats(0, 400), st.floats(0, 300), st.floats(2, 120), st.floats(2, 120))


@given(box_in_frame, st.tuples(st.integers(40, 300), st.integers(40, 400)))
def test_search_windows_cover_the_frame_at_every_scale(box, shape) -> None:
    windows = search_windows(shape, box, 4.0)
    per_scale: dict[int, list] = {}
    for window in windows:
        scale = min(range(len(SCALES)), key=lambda i: abs(window[2] / box[2] - SCALES[i]))
        per_scale.setdefault(scale, []).append(window)
    assert set(per_scale) == set(range(len(SCALES)))
    for found in per_scale.values():
        for point in [(0, 0), (shape[1], shape[0]), (shape[1] / 2, shape[0] / 3)]:
            assert any(_contains(window, point) for window in found)


def _contains(window, point) -> bool:
    side = 4.0 * (window[2] * window[3]) ** 0.5
    cx, cy = window[0] + 0.5 * window[2], window[1] + 0.5 * window[3]
    return abs(point[0] - cx) <= 0.5 * side + 1e-6 and abs(point[1] - cy) <= 0.5 * side + 1e-6


def test_search_windows_start_at_the_last_box_and_widen() -> None:
    box = (100.0, 80.0, 20.0, 20.0)
    windows = search_windows((240, 320), box, 4.0)
    first_scale = [p for p in windows if p[2] == pytest.approx(20.0 * SCALES[0])]
    distances = [np.hypot(p[0] + p[2] / 2 - 110, p[1] + p[3] / 2 - 90) for p in first_scale]
    assert distances[0] == 0.0
    assert distances == sorted(distances)
    grid = SearchGrid((240, 320), box, 4.0)
    some = [next(grid.one_pass()) for _ in range(5)]
    assert [*some, *grid.one_pass()] == [*windows, *windows[:5]]
