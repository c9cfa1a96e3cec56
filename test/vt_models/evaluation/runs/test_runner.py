# SPDX-License-Identifier: Apache-2.0
"""The runner with trackers whose metrics are known beforehand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from vt_models.datasets.folder import FolderDataset
from vt_models.datasets.sequence import VideoSequence
from vt_models.errors import BackendError, DatasetError, InputError, VtModelsError
from vt_models.evaluation.baselines import create_baseline
from vt_models.evaluation.runs.runner import evaluate, run_sequence
from vt_models.registry import get_spec
from vt_models.tracker.tracker import Tracker

ABSENT = "nan,nan,nan,nan"
METRICS = {"ao", "sr50", "sr75", "auc", "precision", "norm_precision", "ms_per_frame"}


@dataclass
class Guess:
    """An estimate of a scripted tracker."""

    box: tuple[float, float, float, float]
    score: float = 0.5


class StaticTracker:
    """Stays where it began."""

    def init(self, _frame, box):
        self.box = box

    def update(self, _frame):
        return Guess(self.box)


class TruthTracker:
    """Reads the answers of the dataset, in its order."""

    def __init__(self, dataset):
        self._sequences = iter(dataset)

    def init(self, _frame, _box):
        self._rest = iter(np.nan_to_num(next(self._sequences).boxes[1:]))

    def update(self, _frame):
        return Guess(tuple(next(self._rest)))


@pytest.fixture
def dataset(tmp_path, write_sequence):
    """Two sequences: a target that moves away and one that stays and is absent once."""
    write_sequence("moves", ["0,0,10,10", "0,5,10,10", "30,30,10,10", "0,0,10,10"])
    write_sequence("stays", ["5,5,10,10", ABSENT, "5,5,10,10"])
    return FolderDataset(tmp_path)


def test_score_of_the_truth_is_one(dataset):
    report = evaluate(lambda: TruthTracker(dataset), dataset, progress=False)
    assert report.total["ao"] == report.total["sr50"] == report.total["sr75"] == 1.0
    assert report.total["precision"] == report.total["norm_precision"] == 1.0
    assert report.total["auc"] == pytest.approx(20 / 21)


def test_a_static_tracker_scores_what_was_worked_out_by_hand(dataset):
    report = evaluate(StaticTracker, dataset, progress=False)
    moves, stays = (result.accuracy for result in report.results)
    # IoU 50 / 150, 0, 1 after the first frame
    assert moves.ao == pytest.approx((1 / 3 + 0 + 1) / 3)
    assert moves.sr50 == moves.sr75 == pytest.approx(1 / 3)
    # with the first frame: thresholds below 1, 1/3, 0, 1: 20, 7, 0, 20 of 21
    assert moves.auc == pytest.approx((20 + 7 + 0 + 20) / (4 * 21))
    assert moves.precision == pytest.approx(3 / 4)
    # 0.5 heights away: only the threshold 0.50 is met
    assert moves.norm_precision == pytest.approx((51 + 1 + 0 + 51) / (4 * 51))
    assert stays.ao == 1.0
    assert report.total["ao"] == pytest.approx((4 / 9 + 1) / 2)


def test_the_report_has_the_agreed_shape(dataset):
    report = json.loads(json.dumps(evaluate(StaticTracker, dataset, model="m").to_dict()))
    assert list(report) == ["model", "total", "sequences"]
    assert report["model"] == "m"
    assert list(report["sequences"]) == ["moves", "stays"]
    low, high = report["total"].pop("ao_interval")
    assert low < report["total"]["ao"] < high
    for numbers in (report["total"], *report["sequences"].values()):
        assert set(numbers) == METRICS
        assert all(isinstance(value, float) for value in numbers.values())


def test_a_total_has_numbers_only(dataset):
    total = evaluate(StaticTracker, dataset, progress=False).total
    assert set(total) == METRICS
    assert all(isinstance(value, float) for value in total.values()), "training plots each of them"


def test_run_sequence_returns_boxes_scores_and_seconds(dataset):
    result = run_sequence(StaticTracker(), dataset[1])
    assert result.boxes.tolist() == [[5.0, 5.0, 10.0, 10.0]] * 3
    assert result.scores.tolist() == [1.0, 0.5, 0.5]
    assert result.seconds.shape == (2,)
    assert (result.seconds > 0).all()


def test_total_time_weighs_frames_not_sequences(dataset):
    report = evaluate(StaticTracker, dataset, progress=False)
    seconds = np.concatenate([result.seconds for result in report.results])
    assert len(seconds) == 5
    assert report.total["ms_per_frame"] == pytest.approx(1e3 * seconds.mean())


def test_saved_boxes_can_be_read_again(dataset, tmp_path):
    report = evaluate(StaticTracker, dataset, model="m", progress=False)
    report.save(tmp_path / "out")
    assert json.loads((tmp_path / "out/report.json").read_text()) == report.to_dict()
    boxes = np.loadtxt(tmp_path / "out/moves.txt", delimiter=",")
    assert boxes.tolist() == report.results[0].boxes.tolist()
    assert np.loadtxt(tmp_path / "out/moves_score.txt").tolist() == [1.0, 0.5, 0.5, 0.5]


def test_processes_give_the_boxes_of_one_process(dataset):
    factory = partial(create_baseline, "csrt")
    try:
        factory()
    except BackendError as error:
        pytest.skip(str(error))
    alone, shared = (
        evaluate(factory, dataset, jobs=jobs, progress=False).results for jobs in (1, 2)
    )
    assert [result.name for result in shared] == ["moves", "stays"]
    for one, two in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one.boxes, two.boxes)
        assert one.accuracy == two.accuracy


def test_an_error_gets_out_of_a_process(dataset):
    with pytest.raises(BackendError, match="baseline vit: needs"):
        evaluate(partial(create_baseline, "vit"), dataset, jobs=2, progress=False)


def test_an_error_of_the_tracker_names_sequence_and_frame(dataset):
    class Failing(StaticTracker):
        def update(self, _frame):
            raise InputError("no luck")

    with pytest.raises(VtModelsError, match="moves, frame 2: no luck"):
        evaluate(Failing, dataset, progress=False)


def test_an_unreadable_frame_is_named(dataset):
    sequence = dataset[0]
    sequence.frames[2].write_bytes(b"")
    with pytest.raises(DatasetError, match=r"moves.*000003\.jpg"):
        run_sequence(StaticTracker(), sequence)


def test_one_frame_is_too_few(tmp_path, write_sequence):
    write_sequence("short", ["1,1,5,5"])
    with pytest.raises(DatasetError, match="short: 1 frames; expected two or more"):
        evaluate(StaticTracker, FolderDataset(tmp_path), progress=False)


def test_evaluate_invalid_arguments_are_refused(dataset):
    with pytest.raises(InputError, match="jobs is 0"):
        evaluate(StaticTracker, dataset, jobs=0)
    with pytest.raises(InputError, match="no sequence"):
        evaluate(StaticTracker, [])


def test_evaluate_progress_bar_goes_to_standard_error(dataset, capsys):
    evaluate(StaticTracker, dataset, model="m")
    out, err = capsys.readouterr()
    assert out == ""
    assert "stays AO 1.000" in err


def test_evaluation_does_not_import_torch():
    code = "import sys, vt_models.cli.eval; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_run_that_was_not_started_misses_everything(dataset):
    result = run_sequence(StaticTracker(), dataset[0], start=lambda *_: None)
    assert np.isnan(result.boxes).all()
    assert result.scores.tolist() == [0.0] * 4
    assert result.accuracy.ao == result.accuracy.auc == result.accuracy.precision == 0.0


class Reading(Tracker):
    """A model whose starts are written down."""

    def __init__(self, name):
        self._spec = get_spec(name)
        self.starts = []

    def init(self, _frame, box, text=None):
        self.starts.append((box, text))

    def update(self, _frame):
        return Guess(self.starts[-1][0])


@pytest.mark.parametrize(
    ("model", "text"), [("pjvlt", "the grey square"), ("asymtrack_lite0", None)]
)
def test_a_model_with_language_gets_the_sentence(tmp_path, write_sequence, model, text):
    write_sequence("said", ["5,5,10,10"] * 3, text="the grey square")
    tracker = Reading(model)
    run_sequence(tracker, FolderDataset(tmp_path)[0])
    assert tracker.starts == [((5.0, 5.0, 10.0, 10.0), text)]


def test_without_public_truth_there_is_no_score(dataset):
    first = dataset[0]
    boxes = np.full((4, 4), np.nan)
    boxes[0] = first.boxes[0]
    secret = VideoSequence("secret", first.frames, boxes, absent=np.zeros(4, bool))
    report = evaluate(StaticTracker, [secret, first], progress=False)
    assert report.results[0].accuracy is None
    assert report.is_scored
    assert report.total["ao"] == report.results[1].accuracy.ao
    assert not evaluate(StaticTracker, [secret], progress=False).is_scored


def test_a_process_that_dies_is_reported(dataset):
    with pytest.raises(BackendError, match="process that ran a tracker died"):
        evaluate(partial(os._exit, 1), dataset, jobs=2, progress=False)


def test_a_lazy_dataset_is_not_read_ahead(dataset):
    """When the first sequence fails, only those in hand or waiting next may have been read."""
    read = []

    class Lazy:
        def __len__(self):
            return 50

        def __getitem__(self, index):
            read.append(index)
            return dataset[0]

    with pytest.raises(InputError, match="unknown baseline"):
        evaluate(partial(create_baseline, "nobody"), Lazy(), jobs=2, progress=False)
    assert len(read) < 10
