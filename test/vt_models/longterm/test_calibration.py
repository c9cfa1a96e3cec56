# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.errors import WeightsError
from vt_models.longterm.appearance import describe, likeness
from vt_models.longterm.calibration import UNCALIBRATED, Calibration, read_calibration
from vt_models.longterm.search_grid import SCALES, Sweep, sweep
from vt_models.tracker.box_covariance import box_spread

unit = st.floats(0.0, 1.0)


@given(unit, unit)
def test_without_a_calibration_the_score_is_the_confidence(score: float, alike: float) -> None:
    assert UNCALIBRATED.confidence(score, alike) == pytest.approx(score, abs=1.1e-3)


@given(unit, unit, st.floats(-1.0, 1.0))
def test_confidence_rises_with_score_and_likeness(low: float, high: float, alike: float) -> None:
    calibration = Calibration(1.3, 3.8, -0.7)
    low, high = sorted((low, high))
    assert 0.0 <= calibration.confidence(low, alike) <= calibration.confidence(high, alike) <= 1.0
    assert calibration.confidence(high, alike) >= calibration.confidence(high, alike - 0.1)


def test_no_score_no_confidence() -> None:
    assert Calibration(1.3, 3.8, -0.7).confidence(0.0, 1.0) == 0.0
    assert UNCALIBRATED.confidence(float("nan"), 1.0) == 0.0


def test_an_entry_is_read_back() -> None:
    calibration = Calibration(1.3, 3.8, -0.7, 2.0, 0.05, 0.1, is_fitted=True)
    assert read_calibration({**calibration.to_entry(), "fitted": {}}) == calibration
    assert read_calibration(None) is UNCALIBRATED


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"weight": None}, {"weight": -1.0}, {"bias": "nan"}, {"size_floor": 0.0}],
)
def test_a_broken_entry_is_refused(change) -> None:
    with pytest.raises(WeightsError, match="calibrat"):
        read_calibration({**UNCALIBRATED.to_entry(), **change})
    with pytest.raises(WeightsError, match="version 1"):
        read_calibration([1, 2])  # type: ignore[arg-type]


def test_covariance_grows_with_size_and_doubt() -> None:
    calibration = dataclasses.replace(UNCALIBRATED, position_floor=0.1, size_floor=0.2)
    sure = calibration.covariance((0, 0, 20, 5), None, 1.0)
    np.testing.assert_allclose(np.diag(sure), (1.0, 1.0, 4.0, 4.0))
    np.testing.assert_allclose(calibration.covariance((0, 0, 20, 5), None, 0.5), 2 * sure)
    spread = np.diag((1.0, 2.0, 3.0, 4.0))
    both = calibration.covariance((0, 0, 20, 5), spread, 1.0)
    np.testing.assert_allclose(both, sure + calibration.spread_scale * spread)


def maps() -> tuple[np.ndarray, np.ndarray]:
    score_map = np.zeros((16, 16), np.float32)
    score_map[8, 8], score_map[8, 9], score_map[0, 0] = 1.0, 0.75, 1.0
    box_map = np.full((4, 16, 16), 0.25, np.float32)
    box_map[0, 8, 9] = 0.35
    box_map[2, 0, 0] = 0.9
    return score_map, box_map


def test_the_spread_is_that_of_the_good_cells_nearby() -> None:
    covariance = box_spread(*maps(), 8, 8, 100.0)
    expected = np.zeros((4, 4))
    expected[0, 0] = 100.0 * 0.25 / 0.75
    np.testing.assert_allclose(covariance, expected, atol=1e-3)


def test_maps_that_are_not_finite_have_no_spread() -> None:
    score_map, box_map = maps()
    box_map[1, 8, 9] = np.nan
    assert not box_spread(score_map, box_map, 8, 8, 100.0).any()
    assert not box_spread(np.zeros_like(score_map), box_map, 8, 8, 100.0).any()


def test_likeness_is_blind_to_light_and_size_but_not_to_what_is_shown(picture) -> None:
    box = (60.0, 50.0, 24.0, 24.0)
    frame = picture(box)
    look = describe(frame, box)
    assert likeness(look, look) == pytest.approx(1.0, abs=1e-5)
    darker = (frame * 0.6 + 20).astype(np.uint8)
    assert likeness(look, describe(darker, box)) > 0.9
    large = np.repeat(np.repeat(frame, 2, axis=0), 2, axis=1)
    assert likeness(look, describe(large, (120.0, 100.0, 48.0, 48.0))) > 0.95
    assert likeness(look, describe(picture(None), box)) < 0.4
    assert likeness(look, describe(np.full_like(frame, 70), box)) == 0.0
    assert np.isfinite(describe(frame, (-500.0, -500.0, 3.0, 9.0))).all()


box_in_frame = st.tuples(st.floats(0, 400), st.floats(0, 300), st.floats(2, 120), st.floats(2, 120))


@given(box_in_frame, st.tuples(st.integers(40, 300), st.integers(40, 400)))
def test_a_sweep_covers_the_frame_at_every_scale(box, shape) -> None:
    places = sweep(shape, box, 4.0)
    per_scale: dict[int, list] = {}
    for place in places:
        scale = min(range(len(SCALES)), key=lambda i: abs(place[2] / box[2] - SCALES[i]))
        per_scale.setdefault(scale, []).append(place)
    assert set(per_scale) == set(range(len(SCALES)))
    for found in per_scale.values():
        for point in [(0, 0), (shape[1], shape[0]), (shape[1] / 2, shape[0] / 3)]:
            assert any(_contains(place, point) for place in found)


def _contains(place, point) -> bool:
    side = 4.0 * (place[2] * place[3]) ** 0.5
    cx, cy = place[0] + 0.5 * place[2], place[1] + 0.5 * place[3]
    return abs(point[0] - cx) <= 0.5 * side + 1e-6 and abs(point[1] - cy) <= 0.5 * side + 1e-6


def test_a_sweep_starts_where_the_target_was_and_widens() -> None:
    box = (100.0, 80.0, 20.0, 20.0)
    places = sweep((240, 320), box, 4.0)
    first_scale = [p for p in places if p[2] == pytest.approx(20.0 * SCALES[0])]
    distances = [np.hypot(p[0] + p[2] / 2 - 110, p[1] + p[3] / 2 - 90) for p in first_scale]
    assert distances[0] == 0.0
    assert distances == sorted(distances)
    turns = Sweep((240, 320), box, 4.0)
    some = [next(turns.round()) for _ in range(5)]
    assert [*some, *turns.round()] == [*places, *places[:5]]
