# SPDX-License-Identifier: Apache-2.0
"""VOT's long-term scores: vot-toolkit's own numbers, and cases by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from vt_models.errors import InputError
from vt_models.evaluation.metrics.box_runs import BoxRun
from vt_models.evaluation.metrics.vot_longterm import thresholds_of, votlt

SQUARE, AWAY = (10.0, 10.0, 10.0, 10.0), (60.0, 60.0, 10.0, 10.0)
ABSENT = (math.nan,) * 4


@pytest.fixture(scope="module")
def about():
    """What vot-toolkit itself gave; toolkits/make.py says how."""
    values = json.loads((Path(__file__).parent / "toolkits" / "values.json").read_text())
    return {**values["longterm"], "size": tuple(values["size"])}


def test_scores_are_those_of_vot_toolkit(about):
    runs = []
    for sequence in about["sequences"]:
        truth, predicted = np.array(sequence["truth"]), np.array(sequence["predicted"])
        truth[np.array(sequence["absent"])] = np.nan
        predicted[np.array(sequence["withheld"])] = np.nan
        scores = np.array([1.0, *sequence["confidence"]])
        runs.append(BoxRun(sequence["name"], predicted, truth, about["size"], scores))
    total = votlt(runs)["total"]
    for key, value in about["total"].items():
        assert total[key] == pytest.approx(value, abs=1e-6)


def test_thresholds_are_those_of_vot_toolkit(about):
    scores = [
        score
        for sequence in about["sequences"]
        for score, withheld in zip(sequence["confidence"], sequence["withheld"][1:], strict=True)
        if not withheld
    ]
    thresholds = thresholds_of(np.array([np.nan, *scores, np.nan]))
    np.testing.assert_allclose(thresholds[1:-1], about["thresholds"], atol=1e-9)
    assert thresholds[0] == math.inf
    assert thresholds[-1] == -math.inf


def run(predicted, truth, scores):
    return BoxRun(
        "s", np.array(predicted, float), np.array(truth, float), (100, 80), np.array(scores)
    )


def test_votlt_silence_during_absence_has_precision_one():
    truth = [SQUARE, SQUARE, ABSENT, SQUARE]
    total = votlt([run([SQUARE, SQUARE, AWAY, SQUARE], truth, [1.0, 0.9, 0.1, 0.8])])["total"]
    assert total["precision"] == 1.0
    # the given first frame counts among the frames with a target
    assert total["recall"] == pytest.approx(2 / 3)
    assert total["f_score"] == pytest.approx(0.8)
    assert total["threshold"] == pytest.approx(0.8)


def test_votlt_constant_confidence_loses_precision_in_absence():
    truth = [SQUARE, SQUARE, ABSENT, SQUARE]
    total = votlt([run([SQUARE, SQUARE, AWAY, SQUARE], truth, [1.0] * 4)])["total"]
    assert total["precision"] == total["recall"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("nothing", [ABSENT, (0.0,) * 4, (0.0, 0.0, 1.0, 1.0)])
@pytest.mark.parametrize("confidence", [0.0, 0.5, 1.0])
def test_votlt_who_finds_nothing_has_an_f_score_of_zero(nothing, confidence):
    truth = [SQUARE, SQUARE, SQUARE, *[ABSENT] * 9]
    total = votlt([run([SQUARE, *[nothing] * 11], truth, [confidence] * 12)])["total"]
    assert set(total.values()) == {0.0}


def test_votlt_recall_does_not_exceed_one():
    truth = [SQUARE, SQUARE, *[ABSENT] * 9]
    total = votlt([run([SQUARE, SQUARE, *[ABSENT] * 9], truth, [1.0] * 11)])["total"]
    assert total["precision"] == 1.0
    assert total["recall"] == 0.5, "of two frames with a target one is given"


def test_without_confidences_there_is_no_score():
    bare = BoxRun("s", np.array([SQUARE] * 2), np.array([SQUARE] * 2), (100, 80))
    with pytest.raises(InputError, match="s: VOT-LT needs confidences"):
        votlt([bare])
    with pytest.raises(InputError, match="no run"):
        votlt([])
