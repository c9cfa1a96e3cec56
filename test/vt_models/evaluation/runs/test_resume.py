# SPDX-License-Identifier: Apache-2.0
"""Going on with an evaluation that was stopped."""

from __future__ import annotations

import os
from functools import partial

import numpy as np
import pytest

from vt_models.datasets.folder import FolderDataset
from vt_models.errors import BackendError, VtModelsError, WeightsError
from vt_models.evaluation.baselines import create_baseline
from vt_models.evaluation.runs.resume import (
    ResumableRun,
    RunOptions,
    files_digest,
    resumable,
    run_settings,
)
from vt_models.evaluation.runs.runner import SequenceResult, evaluate, run_sequence
from vt_models.evaluation.runs.streaming import Streaming
from vt_models.evaluation.runs.trackers import EvaluatedTracker
from vt_models.evaluation.runs.vot_runs import AnchorRuns, run_anchored
from vt_models.tracker.tracker import Estimate


class Counting:
    """Moves a little every frame and counts how often it was started."""

    starts = 0

    def init(self, _frame, box):
        type(self).starts += 1
        self.box = box

    def update(self, _frame):
        x, y, w, h = self.box
        self.box = (x + 0.1, y, w, h)
        return Estimate(self.box, 0.25)


class Stopping(Counting):
    """Fails in its second sequence."""

    def init(self, frame, box):
        super().init(frame, box)
        if box[0] > 5:
            raise VtModelsError("stopped")


@pytest.fixture
def dataset(tmp_path, write_sequence):
    write_sequence("data/a", ["5,5,10,10"] * 4)
    write_sequence("data/b", ["6,5,10,10"] * 3)
    return FolderDataset(tmp_path / "data")


@pytest.fixture
def run_again(dataset, tmp_path, monkeypatch):
    """Evaluate with results kept; returns the report and how many sequences were run."""

    def run(tracker=Counting, settings="s", jobs=1):
        monkeypatch.setattr(Counting, "starts", 0)
        monkeypatch.setattr(tracker, "starts", 0)
        keeping = ResumableRun(tmp_path / "kept", settings, run_sequence, SequenceResult)
        report = evaluate(tracker, dataset, run=keeping, jobs=jobs, progress=False)
        return report, tracker.starts

    return run


def assert_same(one, two):
    assert one.total == two.total
    for first, second in zip(one.results, two.results, strict=True):
        assert first.name == second.name
        for name in ("boxes", "scores", "seconds"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_finished_sequences_are_not_run_again(run_again):
    first, started = run_again()
    assert started == 2
    second, started = run_again()
    assert started == 0
    assert_same(first, second)


def test_a_stopped_run_goes_on_where_it_was(run_again, tmp_path):
    with pytest.raises(VtModelsError, match="b, frame 1: stopped"):
        run_again(Stopping)
    _, started = run_again()
    assert started == 1
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["a.npz", "b.npz"]


def test_other_settings_run_again(run_again):
    run_again()
    assert run_again(settings="others")[1] == 2


def test_a_changed_sequence_runs_again(run_again, dataset):
    run_again()
    (dataset.root / "a" / "groundtruth.txt").write_text("5,5,10,10\n" * 3 + "5,5,10,11\n")
    assert run_again()[1] == 1
    frame = dataset.root / "b" / "img" / "000002.jpg"
    os.utime(frame, ns=(0, 1))
    assert run_again()[1] == 1


def test_another_sentence_runs_again(run_again, dataset):
    run_again()
    (dataset.root / "a" / "language.txt").write_text("the grey square\n")
    assert run_again()[1] == 1


def test_other_anchors_run_again(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(Counting, "starts", 0)
    sequence, anchors = dataset[0], dataset.root / "a" / "anchor.value"
    kept = ResumableRun(tmp_path / "kept", "s", run_anchored, AnchorRuns)
    for text, starts in (("1\n0\n0\n0\n", 1), ("1\n0\n0\n0\n", 1), ("1\n0\n0\n-1\n", 3)):
        anchors.write_text(text)
        result = kept(Counting(), sequence)
        assert Counting.starts == starts
    assert [run.anchor for run in result.runs] == [0, 3]


def test_what_is_kept_is_counted_and_can_be_dropped(dataset, tmp_path, caplog):
    caplog.set_level("INFO")
    tracker = EvaluatedTracker("mine", Counting)

    def run(options):
        return resumable(run_sequence, SequenceResult, tracker, dataset, {}, options)

    evaluate(Counting, dataset, run=run(RunOptions(1, tmp_path)), progress=False)
    assert caplog.text == ""
    run(RunOptions(1, tmp_path))
    assert "mine: 2 of 2 sequences are kept" in caplog.text
    caplog.clear()
    run(RunOptions(1, tmp_path, fresh=True))
    assert caplog.text == ""
    assert not list((tmp_path / "mine" / "kept").iterdir())
    assert run(RunOptions(1, None)) is run_sequence


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a zip", None])
def test_a_damaged_file_runs_again(run_again, tmp_path, damage):
    first, _ = run_again()
    path = tmp_path / "kept" / "a.npz"
    path.write_bytes(path.read_bytes()[:-30] if damage is None else damage)
    second, started = run_again()
    assert started == 1
    assert [one.boxes.tolist() for one in first.results] == [
        two.boxes.tolist() for two in second.results
    ]


def test_settings_tell_weights_and_options_apart(tmp_path):
    weights = tmp_path / "w"
    weights.mkdir()
    (weights / "net.onnx").write_bytes(b"1")
    texts = [run_settings("m", {"threads": 1}, [weights])]
    assert run_settings("m", {"threads": 1}, [weights]) == texts[0]
    (weights / "net.onnx").write_bytes(b"2")
    texts.append(run_settings("m", {"threads": 1}, [weights]))
    texts.append(run_settings("m", {"threads": 2}, [weights]))
    texts.append(run_settings("n", {"threads": 2}, [weights]))
    texts.append(run_settings("n", {"threads": 2}, []))
    assert len(set(texts)) == len(texts)
    with pytest.raises(WeightsError, match="does not exist"):
        files_digest(tmp_path / "nowhere")


def test_two_processes_a_resumed_run_and_one_process_agree(dataset, tmp_path):
    factory = partial(create_baseline, "csrt")
    try:
        factory()
    except BackendError as error:
        pytest.skip(str(error))
    streamed = Streaming(0.1, 0.15)
    kept = ResumableRun(tmp_path / "kept", "s", streamed, SequenceResult)
    shared, resumed = (
        evaluate(factory, dataset, jobs=jobs, run=kept, progress=False) for jobs in (2, 1)
    )
    alone = evaluate(factory, dataset, run=streamed, progress=False)
    assert_same(shared, resumed)
    for one, two in zip(shared.results, alone.results, strict=True):
        np.testing.assert_array_equal(one.boxes, two.boxes)
        assert one.accuracy == two.accuracy
