# SPDX-License-Identifier: Apache-2.0
"""Metrics against values worked out by hand, and their bounds and invariances."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vt_models.errors import DatasetError, InputError
from vt_models.evaluation.metrics import accuracy as metrics
from vt_models.evaluation.metrics.accuracy import (
    Accuracy,
    bootstrap_interval,
    centre_errors,
    interval_or_none,
    mean_accuracy,
    norm_centre_errors,
    norm_precision_auc,
    precision_rate,
    score_sequence,
    success_auc,
    success_curve,
)

ABSENT = (math.nan,) * 4


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float64)


def test_success_is_strict_and_has_21_thresholds():
    curve = success_curve(np.array([0.0, 0.5, 1.0]))
    assert curve.shape == (21,)
    assert curve[0] == pytest.approx(2 / 3)
    assert curve[9] == pytest.approx(2 / 3)  # 0.45: both 0.5 and 1
    assert curve[10] == pytest.approx(1 / 3)  # 0.50 is not above 0.50
    assert curve[20] == 0.0
    assert success_auc(np.array([0.0, 0.5, 1.0])) == pytest.approx((10 + 20) / (3 * 21))


def test_centre_errors_by_hand():
    truth = boxes((10, 10, 20, 40), (10, 10, 20, 40))
    # the centre of the truth is 20, 30; those predicted are 23, 34 and 20, 30
    predicted = boxes((13, 14, 20, 40), (0, 20, 40, 20))
    assert centre_errors(predicted, truth).tolist() == [5.0, 0.0]
    expected = math.hypot(3 / 20, 4 / 40)
    assert norm_centre_errors(predicted, truth).tolist() == pytest.approx([expected, 0.0])


def test_precision_counts_the_threshold_itself():
    assert precision_rate(np.array([0.0, 20.0, 20.001, np.inf])) == 0.5


def test_norm_precision_is_the_area_over_51_thresholds():
    # 0.1 is reached at the thresholds 0.10 ... 0.50: 41 of 51
    assert norm_precision_auc(np.array([0.1])) == pytest.approx(41 / 51)
    assert norm_precision_auc(np.array([0.0, 0.6])) == pytest.approx(0.5)


def test_sequence_by_hand():
    truth = boxes((0, 0, 10, 10), (0, 0, 10, 10), ABSENT, (0, 0, 10, 10), (100, 0, 10, 10))
    predicted = boxes((0, 0, 10, 10), (0, 0, 10, 8), (50, 50, 9, 9), (0, 0, 10, 6), (0, 0, 10, 10))
    # frames after the first with a target: IoU 0.8, 0.6, 0; with the first: 1, 0.8, 0.6, 0.
    # centre errors 0, 1, 2, 100 px; over the height or width of 10: 0, 0.1, 0.2, 10
    accuracy = score_sequence(predicted, truth)
    assert accuracy.ao == pytest.approx(1.4 / 3)
    assert accuracy.sr50 == pytest.approx(2 / 3)
    assert accuracy.sr75 == pytest.approx(1 / 3)
    assert accuracy.auc == pytest.approx((20 + 16 + 12) / (4 * 21))
    assert accuracy.precision == pytest.approx(3 / 4)
    assert accuracy.norm_precision == pytest.approx((51 + 41 + 31) / (4 * 51))


@pytest.mark.parametrize(
    "bad", [ABSENT, (0, 0, math.inf, 10), (0, 0, 0, 0), (0, 0, 10, -1), (1e308, 0, 1e308, 1)]
)
def test_an_unusable_prediction_is_a_miss(bad):
    truth = boxes((0, 0, 10, 10), (0, 0, 10, 10))
    accuracy = score_sequence(boxes((0, 0, 10, 10), bad), truth)
    assert astuple(accuracy) == pytest.approx((0, 0, 0, 20 / 42, 0.5, 0.5))


def test_shapes_that_differ_are_refused():
    with pytest.raises(InputError, match=r"\(2, 4\).*\(3, 4\)"):
        score_sequence(np.ones((2, 4)), np.ones((3, 4)))
    with pytest.raises(InputError, match=r"expected \(N, 4\)"):
        score_sequence(np.ones((2, 5)), np.ones((2, 5)))


@pytest.mark.parametrize("rows", [1, 3])
def test_a_target_that_never_returns_cannot_be_scored(rows):
    truth = boxes((0, 0, 10, 10), *[ABSENT] * (rows - 1))
    with pytest.raises(DatasetError, match="nothing to score"):
        score_sequence(np.ones((rows, 4)), truth)


def test_mean_gives_each_sequence_the_same_weight():
    mean = mean_accuracy([Accuracy(0, 0, 0, 0, 0, 0), Accuracy(1, 1, 0.5, 0.25, 0, 1)])
    assert astuple(mean) == (0.5, 0.5, 0.25, 0.125, 0.0, 0.5)
    with pytest.raises(InputError, match="no sequence"):
        mean_accuracy([])


coordinates = st.floats(-1000, 1000, width=32)
sizes = st.floats(1, 500, width=32)


@st.composite
def runs(draw):
    """Predicted and true boxes of a sequence, some absent, some predictions unusable."""
    count = draw(st.integers(2, 12))

    def draw_boxes():
        corners = draw(arrays(np.float64, (count, 2), elements=coordinates))
        return np.hstack([corners, draw(arrays(np.float64, (count, 2), elements=sizes))])

    predicted, truth = draw_boxes(), draw_boxes()
    truth[draw(arrays(bool, count)) & (np.arange(count) > 1)] = np.nan
    predicted[draw(arrays(bool, count))] = draw(st.sampled_from([0.0, np.nan, np.inf]))
    return predicted, truth


@given(runs())
def test_metrics_are_bounded_and_ordered(run):
    accuracy = score_sequence(*run)
    assert all(0.0 <= value <= 1.0 for value in astuple(accuracy))
    assert accuracy.sr75 <= accuracy.sr50
    assert accuracy.auc <= 20 / 21 + 1e-12


@given(runs())
def test_a_perfect_run_scores_one(run):
    _, truth = run
    predicted = np.nan_to_num(truth)
    assert astuple(score_sequence(predicted, truth)) == pytest.approx((1, 1, 1, 20 / 21, 1, 1))


@given(runs(), st.integers(-500, 500), st.integers(-500, 500))
def test_metrics_do_not_move_with_the_frame(run, dx, dy):
    predicted, truth = run
    shift = np.array([dx, dy, 0, 0])
    moved = score_sequence(predicted + shift, truth + shift)
    # thresholds may be met exactly before or after a rounding error, so compare the mean overlap
    assert moved.ao == pytest.approx(score_sequence(predicted, truth).ao, abs=1e-6)


@given(runs(), st.sampled_from([0.25, 0.5, 2.0, 4.0]))
def test_only_precision_depends_on_the_resolution(run, scale):
    predicted, truth = run
    before = score_sequence(predicted, truth)
    after = score_sequence(predicted * scale, truth * scale)
    for name in ("ao", "sr50", "sr75", "auc", "norm_precision"):
        assert getattr(after, name) == getattr(before, name)


@given(runs())
def test_frames_without_a_target_do_not_count(run):
    predicted, truth = run
    absent = np.full((1, 4), np.nan)
    anything = np.array([[1.0, 2.0, 3.0, 4.0]])
    longer = score_sequence(np.vstack([predicted, anything]), np.vstack([truth, absent]))
    assert longer == score_sequence(predicted, truth)


@given(arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1)))
def test_the_success_curve_falls_and_its_area_is_near_the_mean(overlaps):
    curve = success_curve(overlaps)
    assert (np.diff(curve) <= 0).all()
    assert abs(success_auc(overlaps) - overlaps.mean()) <= 1 / 20


def test_the_interval_of_two_videos_by_hand():
    # the means of two draws are 0, 0.5 and 1 with the probabilities 1/4, 1/2 and 1/4
    assert bootstrap_interval([1.0, 0.0]) == (0.0, 1.0)
    assert bootstrap_interval([1.0, 0.0], confidence=0.4) == (0.5, 0.5)


def test_the_interval_has_the_width_that_theory_says():
    values = np.random.default_rng(5).normal(0.6, 0.2, 200)
    low, high = bootstrap_interval(values)
    # many videos: the mean is normal, with the standard error of the sample
    error = 1.96 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + error, abs=0.1 * error)


def test_the_interval_holds_the_true_mean_as_often_as_it_says():
    generator = np.random.default_rng(6)
    draws = generator.beta(4.0, 2.0, (300, 30))  # skewed, as overlaps are; their mean is 2/3
    intervals = [bootstrap_interval(values, resamples=1000) for values in draws]
    held = np.mean([low <= 2 / 3 <= high for low, high in intervals])
    assert 0.90 <= held <= 0.98


def test_draws_in_blocks_give_the_same_interval(monkeypatch):
    values = np.random.default_rng(7).random(50)
    whole = bootstrap_interval(values)
    monkeypatch.setattr(metrics, "DRAWS_AT_ONCE", 50 * 7)  # 10,000 is no multiple of 7
    assert bootstrap_interval(values) == pytest.approx(whole, abs=0.01)


@pytest.mark.parametrize("values", [[], [0.5]])
def test_fewer_than_two_videos_have_no_interval(values):
    assert np.isnan(bootstrap_interval(values)).all()
    assert interval_or_none(values) is None


def test_an_interval_of_nonsense_is_refused():
    with pytest.raises(InputError, match=r"shape \(2, 1\).*expected \(N,\) finite numbers"):
        bootstrap_interval(np.ones((2, 1)))
    with pytest.raises(InputError, match=r"1 of them not finite"):
        bootstrap_interval([0.5, math.nan])
    with pytest.raises(InputError, match=r"confidence is 95; expected above 0 and below 1"):
        bootstrap_interval([0.5, 0.6], confidence=95)
    with pytest.raises(InputError, match=r"resamples is 0"):
        bootstrap_interval([0.5, 0.6], resamples=0)


scores = arrays(np.float64, st.integers(2, 30), elements=st.floats(-1, 1))


@given(scores)
def test_the_interval_lies_around_the_mean_and_within_the_values(values):
    low, high = bootstrap_interval(values, resamples=1000)
    assert values.min() <= low <= high <= values.max()
    assert low - 1e-12 <= values.mean() <= high + 1e-12


@given(scores, st.randoms(use_true_random=False))
def test_the_order_of_videos_does_not_matter_to_the_interval(values, random):
    shuffled = list(values)
    random.shuffle(shuffled)
    found = bootstrap_interval(values, resamples=500)
    assert bootstrap_interval(shuffled, resamples=500) == found
    assert interval_or_none(shuffled) == list(bootstrap_interval(values))


@given(scores, st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_more_confidence_never_narrows_the_interval(values, one, other):
    inner = bootstrap_interval(values, min(one, other), resamples=500)
    outer = bootstrap_interval(values, max(one, other), resamples=500)
    assert outer[0] <= inner[0] + 1e-12
    assert outer[1] >= inner[1] - 1e-12


@given(scores, st.floats(-1, 1))
def test_the_interval_moves_with_the_values(values, shift):
    expected = np.add(bootstrap_interval(values, resamples=500), shift)
    assert bootstrap_interval(values + shift, resamples=500) == pytest.approx(expected, abs=1e-9)
