# SPDX-License-Identifier: Apache-2.0
"""VOT's short-term scores: vot-toolkit's own numbers, cases by hand, and what the runs do."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vt_models.datasets.folder import FolderDataset
from vt_models.errors import DatasetError, InputError, VtModelsError
from vt_models.evaluation.metrics import vot
from vt_models.evaluation.metrics.vot import pixel_overlaps
from vt_models.evaluation.runs import vot_runs
from vt_models.evaluation.runs.vot_runs import AnchorRun, AnchorRuns
from vt_models.tracker.tracker import Estimate

ABSENT = (math.nan,) * 4


@pytest.fixture(scope="module")
def toolkits():
    """Numbers that vot-toolkit itself gave; toolkits/make.py says how."""
    return json.loads((Path(__file__).parent / "toolkits" / "values.json").read_text())


def anchor_runs(about, size):
    runs = tuple(
        AnchorRun(run["anchor"], run["direction"] > 0, np.array(run["predicted"]), np.zeros(0))
        for run in about["runs"]
    )
    return AnchorRuns(about["name"], np.array(about["truth"]), tuple(size), runs)


def test_runs_from_anchors_score_as_in_vot_toolkit(toolkits):
    about = toolkits["multistart"]
    results = [anchor_runs(sequence, toolkits["size"]) for sequence in about["sequences"]]
    scores = vot.anchored_scores(results, (about["low"], about["high"]))
    for sequence in about["sequences"]:
        for key in ("accuracy", "robustness"):
            found = scores["sequences"][sequence["name"]][key]
            assert found == pytest.approx(sequence[key], abs=1e-6)
    for key in ("eao", "accuracy", "robustness"):
        assert scores["total"][key] == pytest.approx(about["total"][key], abs=1e-6)
    curve = vot.anchored_curve(results, about["high"])
    np.testing.assert_allclose(curve, about["total"]["curve"], atol=1e-6)
    assert any(robust["robustness"] < 1 for robust in about["sequences"]), "a failure is tested"


def test_pixel_overlaps_are_those_of_vot_toolkit(toolkits):
    for sequence in toolkits["multistart"]["sequences"]:
        truth = np.array(sequence["truth"])
        for run in sequence["runs"]:
            world = truth[run["anchor"] :: run["direction"]]
            predicted = np.array(run["predicted"])
            predicted[0] = np.nan
            found = pixel_overlaps(predicted, world, tuple(toolkits["size"]))
            np.testing.assert_allclose(found, run["overlaps"], atol=1e-6)


def overlap(first, second, size=(100, 80)):
    return pixel_overlaps(np.array([first], float), np.array([second], float), size)[0]


def test_pixel_overlaps_by_hand():
    assert overlap((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert overlap((0.4, 0.4, 10.4, 9.6), (0, 0, 10, 10)) == 1.0
    # Cut at the right edge: 10 of 40 columns are left, all of them common.
    assert overlap((90, 0, 40, 10), (90, 0, 10, 10)) == 1.0
    assert overlap((200, 0, 40, 10), (90, 0, 10, 10)) == 0.0
    assert overlap(ABSENT, (5, 5, 10, 10)) == 0.0
    assert overlap(ABSENT, ABSENT) == 1.0


def test_boxes_without_an_area_overlap_nothing():
    for flat in ((5, 5, 0, 0), (0, 0, 0, 0), (5, 5, -3, 10), (5, 5, 0.4, 10)):
        assert overlap(flat, flat) == overlap(flat, (5, 5, 10, 10)) == overlap(flat, ABSENT) == 0.0
    assert overlap((5, 5, 10, 1), (50, 5, 10, 1)) == 0.0, "apart, in one row of pixels"
    assert overlap((5, 5, 1, 1), (5, 5, 1, 1)) == 1.0


boxes = st.tuples(st.floats(-20, 90), st.floats(-20, 90), st.floats(0, 50), st.floats(0, 50))


@settings(max_examples=40, deadline=None)
@given(first=boxes, second=boxes)
def test_pixel_overlaps_count_pixels(first, second):
    def mask(box):
        x, y, w, h = (int(v) for v in np.round(box))
        drawn = np.zeros((400, 400), bool)
        drawn[100 + y : 100 + y + h, 100 + x : 100 + x + w] = True
        return drawn[100:180, 100:200]

    one, two = mask(first), mask(second)
    union = (one | two).sum()
    assert overlap(first, second) == pytest.approx((one & two).sum() / union if union else 0)
    assert overlap(first, second) == overlap(second, first)


def perfect(count, forward=True):
    truth = np.tile((20.0, 20.0, 10.0, 10.0), (count, 1))
    run = AnchorRun(0 if forward else count - 1, forward, truth.copy(), np.zeros(count))
    return AnchorRuns("p", truth, (100, 80), (run,))


@pytest.mark.parametrize("forward", [True, False])
def test_a_perfect_run_has_eao_one(forward):
    total = vot.anchored_scores([perfect(40, forward)], (5, 30))["total"]
    assert total["eao"] == total["robustness"] == 1.0
    assert total["accuracy"] == pytest.approx(39 / 40), "the first frame counts as 0 there"


def test_a_failure_is_ten_bad_frames_in_a_row():
    result = perfect(40)
    away = result.runs[0].boxes
    away[10:19] = (70, 60, 10, 10)
    assert vot.anchored_scores([result], (5, 30))["total"]["robustness"] == 1.0
    away[19] = (70, 60, 10, 10)
    assert vot.anchored_scores([result], (5, 30))["total"]["robustness"] == 10 / 40
    result.truth[15] = np.nan
    assert vot.anchored_scores([result], (5, 30))["total"]["robustness"] == 1.0, (
        "absent: no failure"
    )


def test_invalid_arguments_are_refused():
    with pytest.raises(InputError, match="no run"):
        vot.anchored_scores([])
    with pytest.raises(InputError, match="0 < first < last"):
        vot.anchored_scores([perfect(5)], (9, 3))
    with pytest.raises(InputError, match="every 0 frames"):
        vot_runs.default_anchors(np.ones((3, 4)), 0)


def test_anchors_take_the_longer_way():
    truth = np.ones((120, 4))
    truth[48:53] = np.nan
    assert vot_runs.default_anchors(truth) == {0: True, 47: True, 100: False, 119: False}
    with pytest.raises(DatasetError, match="no anchor"):
        vot_runs.default_anchors(np.full((3, 4), np.nan))


def test_anchors_are_read(tmp_path):
    path = tmp_path / "anchor.value"
    path.write_text("1\n0\n0\n-1\n")
    assert vot_runs.read_anchors(path, 4) == {0: True, 3: False}
    with pytest.raises(DatasetError, match=r"anchor\.value: 4 numbers with 2 anchors for 5 frames"):
        vot_runs.read_anchors(path, 5)
    path.write_text("1\nx\n")
    with pytest.raises(DatasetError, match="a number for each frame"):
        vot_runs.read_anchors(path, 2)


class Static:
    """Stays where it began and remembers where that was."""

    def __init__(self):
        self.begins = []

    def init(self, _frame, box):
        self.begins.append(box)
        self.box = box

    def update(self, _frame):
        return Estimate(self.box, 1.0)


def test_runs_go_both_ways(tmp_path, write_sequence):
    write_sequence("s", [f"{x},5,10,10" for x in range(5, 11)])
    sequence = FolderDataset(tmp_path)[0]
    tracker = Static()
    result = vot_runs.run_anchored(tracker, sequence, {0: True, 4: False})
    assert [len(run.boxes) for run in result.runs] == [6, 5]
    assert tracker.begins == [(5.0, 5.0, 10.0, 10.0), (9.0, 5.0, 10.0, 10.0)]
    assert result.size == (64, 48)
    (tmp_path / "s" / "anchor.value").write_text("0\n1\n0\n0\n0\n0\n")
    assert [run.anchor for run in vot_runs.run_anchored(tracker, sequence).runs] == [1]
    absent = np.where(np.arange(6)[:, None] == 1, np.nan, sequence.boxes)
    with pytest.raises(DatasetError, match=r"anchor\.value: no target in the anchor, frame 2"):
        vot_runs.sequence_anchors(dataclasses.replace(sequence, boxes=absent, absent=np.zeros(0)))


def test_an_error_of_the_tracker_names_sequence_and_frame(tmp_path, write_sequence):
    class Failing(Static):
        def update(self, _frame):
            raise InputError("no luck")

    write_sequence("s", ["5,5,10,10"] * 4)
    sequence = FolderDataset(tmp_path)[0]
    with pytest.raises(VtModelsError, match="s, frame 2: no luck"):
        vot_runs.run_anchored(Failing(), sequence)


def test_kept_runs_come_back_as_they_were(tmp_path, write_sequence):
    write_sequence("s", [f"{x},5,10,10" for x in range(5, 45, 5)])
    sequence = FolderDataset(tmp_path)[0]
    runs = vot_runs.run_anchored(Static(), sequence, {0: True, 5: True, 7: False})
    again = AnchorRuns.from_arrays(sequence, runs.to_arrays())
    assert again.size == runs.size
    for one, two in zip(runs.runs, again.runs, strict=True):
        assert (one.anchor, one.forward) == (two.anchor, two.forward)
        np.testing.assert_array_equal(one.boxes, two.boxes)
        np.testing.assert_array_equal(one.seconds, two.seconds)
    assert vot.anchored_scores([again], (2, 6)) == vot.anchored_scores([runs], (2, 6))
