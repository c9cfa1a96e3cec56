# SPDX-License-Identifier: Apache-2.0
"""Benchmarks' scores: cases worked out by hand, invariances, and the toolkits' own numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vt_models.errors import InputError
from vt_models.evaluation.metrics.accuracy import centre_errors, success_curve
from vt_models.evaluation.metrics.box_runs import BoxRun
from vt_models.evaluation.metrics.protocols import PROTOCOLS, got10k, lasot, otb, trackingnet
from vt_models.evaluation.runs.runner import require_result_names
from vt_models.geometry.boxes import iou

ABSENT = (math.nan,) * 4
SQUARE = (0.0, 0.0, 10.0, 10.0)


def run_of(predicted, truth, name="s", size=None):
    return BoxRun(name, np.array(predicted, float), np.array(truth, float), size)


@pytest.fixture(scope="module")
def toolkits():
    """Numbers that the packages themselves gave; toolkits/make.py says how."""
    return json.loads((Path(__file__).parent / "toolkits" / "values.json").read_text())


def test_otb_curves_are_those_of_the_got10k_package(toolkits):
    for sequence in toolkits["ope"]["sequences"]:
        predicted, truth = np.array(sequence["predicted"]), np.array(sequence["truth"])
        overlaps = np.asarray(iou(predicted, truth))
        expected = sequence["otb"]
        np.testing.assert_allclose(success_curve(overlaps), expected["success_curve"], atol=1e-6)
        errors = centre_errors(predicted, truth)
        precision = np.mean(errors[:, None] <= np.arange(51), axis=0)
        np.testing.assert_allclose(precision, expected["precision_curve"], atol=1e-6)


def toolkit_runs(toolkits):
    for sequence in toolkits["ope"]["sequences"]:
        truth = np.array(sequence["truth"])
        truth[np.array(sequence["cover"]) == 0] = np.nan
        predicted = np.array(sequence["predicted"])
        yield BoxRun(sequence["name"], predicted, truth, tuple(toolkits["size"]))


def test_got10k_agrees_with_its_package(toolkits):
    scores = got10k(list(toolkit_runs(toolkits)))
    for sequence in toolkits["ope"]["sequences"]:
        for key in ("ao", "sr50"):
            found = scores["sequences"][sequence["name"]][key]
            assert found == pytest.approx(sequence["got10k"][key], abs=1e-6)
    expected = toolkits["ope"]["total"]["got10k"]
    assert scores["total"]["ao"] == pytest.approx(expected["ao"], abs=1e-6)
    assert scores["total"]["sr50"] == pytest.approx(expected["success_curve"][50], abs=1e-6)
    assert scores["total"]["sr75"] == pytest.approx(expected["success_curve"][75], abs=1e-6)


def test_uav123_with_absent_frames_agrees_with_the_package(toolkits):
    scores = otb(list(toolkit_runs(toolkits)))
    for key in ("success", "precision"):
        expected = toolkits["ope"]["total"]["uav123"][key]
        assert scores["total"][key] == pytest.approx(expected, abs=1e-6)
        for sequence in toolkits["ope"]["sequences"]:
            found = scores["sequences"][sequence["name"]][key]
            assert found == pytest.approx(sequence["uav123"][key], abs=1e-6)


def test_lasot_counts_absent_frames_as_misses():
    run = run_of([SQUARE, SQUARE, SQUARE, SQUARE], [SQUARE, SQUARE, ABSENT, ABSENT])
    total = lasot([run])["total"]
    assert total["success"] == pytest.approx(20 / 21 / 2)
    assert total["precision"] == total["norm_precision"] == total["norm_precision_20"] == 0.5
    assert otb([run])["total"]["precision"] == 1.0


@pytest.mark.parametrize("bad", [ABSENT, (0, 0, 0, 5), (0, 0, math.inf, 5), (0, 0, 5, -2)])
def test_lasot_holds_the_last_usable_box(bad):
    moved = (3.0, 4.0, 10.0, 10.0)
    held = lasot([run_of([SQUARE, moved, bad, bad], [SQUARE] * 4)])
    assert held == lasot([run_of([SQUARE, moved, moved, moved], [SQUARE] * 4)])
    # hypot(0.3, 0.4) = 0.5: only the last threshold of 51 is met, and not 0.2
    assert held["total"]["norm_precision_20"] == 0.25
    assert held["total"]["norm_precision"] == pytest.approx((1 + 3 / 51) / 4)


@pytest.mark.parametrize("protocol", ["otb", "lasot", "trackingnet"])
@pytest.mark.parametrize("first", [np.nan, 500.0])
def test_a_first_box_that_was_not_given_is_scored_like_any_other(protocol, first):
    truth = np.tile([50.0, 50, 40, 40], (10, 1))
    total = PROTOCOLS[protocol]([run_of(np.full((10, 4), first), truth)])["total"]
    assert set(total.values()) == {0.0}


def test_trackingnet_by_hand():
    # Rounded: truth 0, 0, 10, 10 and prediction 5, 0, 10, 10: IoU 1/3, 5 px, half a width.
    truth = [SQUARE, (0.2, -0.3, 10.4, 9.6)]
    total = trackingnet([run_of([SQUARE, (5.4, 0.1, 9.6, 10.3)], truth)])["total"]
    # The first frame (given) is perfect: 1 at 20 of 21 thresholds, the last segment is half.
    perfect = (19 + 0.5) / 20
    # 1/3 is above 0 ... 0.30: 7 ones, then one falling segment.
    assert total["success"] == pytest.approx((perfect + 6.5 / 20) / 2)
    # 5 px: from the threshold of 5 px, the third of 21, on; rising over one segment.
    assert total["precision"] == pytest.approx((1 + 18.5 / 20) / 2)
    assert total["precision_20"] == 1.0
    # 0.5 is met at the last threshold only.
    assert total["norm_precision"] == pytest.approx((1 + 0.5 / 20) / 2)


def test_got10k_pools_frames_and_skips_the_first():
    short = run_of([ABSENT, SQUARE], [SQUARE] * 2, "short")
    long = run_of([SQUARE] + [(50, 50, 5, 5)] * 3, [SQUARE] * 4, "long")
    scores = got10k([short, long])
    assert scores["sequences"]["short"] == {"ao": 1.0, "sr50": 1.0, "sr75": 1.0}
    assert scores["sequences"]["long"]["ao"] == 0.0
    assert scores["total"]["ao"] == pytest.approx(1 / 4)


def test_got10k_clips_to_the_image():
    truth, predicted = [SQUARE, (90, 0, 10, 10)], [SQUARE, (90, 0, 40, 10)]
    assert got10k([run_of(predicted, truth)])["total"]["ao"] == pytest.approx(0.25)
    assert got10k([run_of(predicted, truth, size=(100, 50))])["total"]["ao"] == 1.0


@pytest.mark.parametrize("score", PROTOCOLS.values(), ids=PROTOCOLS)
def test_protocols_without_runs_or_frames_are_refused(score):
    with pytest.raises(InputError, match="no run"):
        score([])
    run = run_of([SQUARE] * 2, [SQUARE] * 2)
    with pytest.raises(InputError, match="same name"):
        score([run, run])


def test_runs_are_checked():
    with pytest.raises(InputError, match=r"s: predicted \(1, 4\).*expected \(N, 4\)"):
        run_of([SQUARE], [SQUARE] * 2)
    with pytest.raises(InputError, match="no true box"):
        run_of([SQUARE], [ABSENT])
    with pytest.raises(InputError, match="no frame after the first"):
        got10k([run_of([SQUARE] * 2, [SQUARE, ABSENT])])


boxes = st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.floats(1, 60), st.floats(1, 60))


@st.composite
def many_runs(draw):
    runs = []
    for index in range(draw(st.integers(1, 4))):
        count = draw(st.integers(2, 6))
        truth = np.array(draw(st.lists(boxes, min_size=count, max_size=count)))
        predicted = np.array(draw(st.lists(boxes, min_size=count, max_size=count)))
        truth[2:][draw(st.lists(st.booleans(), min_size=count - 2, max_size=count - 2))] = np.nan
        scores = np.array(draw(st.lists(st.floats(0, 1), min_size=count, max_size=count)))
        runs.append(BoxRun(f"s{index}", predicted, truth, (100, 80), scores))
    return runs


@pytest.mark.parametrize("score", PROTOCOLS.values(), ids=PROTOCOLS)
@settings(max_examples=40, deadline=None)
@given(runs=many_runs(), order=st.randoms())
def test_scores_are_fractions_and_do_not_depend_on_the_order(score, runs, order):
    scores = score(runs)
    for numbers in (scores["total"], *scores["sequences"].values()):
        assert all(0.0 <= value <= 1.0 for value in numbers.values())
    shuffled = list(runs)
    order.shuffle(shuffled)
    again = score(shuffled)
    assert again["sequences"] == scores["sequences"]
    assert again["total"] == pytest.approx(scores["total"])


@settings(max_examples=40, deadline=None)
@given(runs=many_runs())
def test_without_absent_frames_lasot_and_otb_are_one(runs):
    whole = [run for run in runs if np.isfinite(run.truth).all()]
    whole = [BoxRun(r.name, np.vstack((r.truth[:1], r.predicted[1:])), r.truth) for r in whole]
    if whole:
        one, other = lasot(whole)["total"], otb(whole)["total"]
        assert one["success"] == pytest.approx(other["success"])
        assert one["precision"] == pytest.approx(other["precision"])


def test_result_names_that_would_share_a_file_are_refused():
    require_result_names(["girl", "girl_2", "boy_score"])
    with pytest.raises(InputError, match="girl_score would be the same file"):
        require_result_names(["girl_score", "girl"])
