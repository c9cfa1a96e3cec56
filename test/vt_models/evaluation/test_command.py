# SPDX-License-Identifier: Apache-2.0
"""`vt-models eval`, with a scripted tracker in place of a model."""

from __future__ import annotations

import argparse
import json

import pytest

from vt_models.errors import DatasetError, InputError
from vt_models.evaluation import command, peers
from vt_models.registry import UpdatePolicy
from vt_models.tracker import Estimate

METRICS = ["ao", "sr50", "sr75", "auc", "precision", "norm_precision", "ms_per_frame"]


class StaticTracker:
    """Stays where it began."""

    def init(self, _frame, box):
        self.box = box

    def update(self, _frame):
        return Estimate(self.box, 1.0)


@pytest.fixture
def run(monkeypatch, tmp_path, write_sequence):
    """Run the command on a data set of two sequences, where every model is a static tracker."""
    write_sequence("one", ["5,5,10,10", "5,5,10,10"])
    write_sequence("two", ["5,5,10,10", "40,5,10,10"])
    made = []

    def create_tracker(*args):
        made.append(args)
        return StaticTracker()

    monkeypatch.setattr(command, "create_tracker", create_tracker)

    def run_command(*options: str) -> int:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        root = ["--model", "some_model", "--dataset", "folder", "--root", str(tmp_path)]
        return command.run(parser.parse_args([*root, *options]))

    run_command.made = made
    return run_command


@pytest.fixture
def static_peer(monkeypatch):
    """Let the peer csrt be a tracker that never finds anything, whatever OpenCV offers."""

    class Blind:
        def init(self, frame, box):
            pass

        def update(self, _frame):
            return False, (0, 0, 0, 0)

    monkeypatch.setattr(peers, "_cv_module", lambda *_: None)
    monkeypatch.setattr(peers, "_create_cv_tracker", lambda *_: Blind())


def test_prints_a_table_with_a_total(run, capsys):
    assert run() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["some_model", *command.COLUMNS]
    assert [line.split()[0] for line in lines[1:]] == ["one", "two", "total"]
    assert [line.split()[1] for line in lines[1:]] == ["1.000", "0.000", "0.500"]


def test_prints_one_json_object(run, capsys):
    run("--json")
    report = json.loads(capsys.readouterr().out)
    assert list(report) == ["model", "total", "sequences"]
    assert report["model"] == "some_model"
    assert list(report["total"]) == METRICS
    assert report["total"]["ao"] == 0.5
    assert list(report["sequences"]) == ["one", "two"]
    assert all(list(numbers) == METRICS for numbers in report["sequences"].values())


def test_passes_the_options_on(run):
    run(
        *("--weights", "w", "--backend", "torch", "--device", "cpu", "--threads", "2"),
        *("--update", "25:0.5"),
    )
    policy = UpdatePolicy("25:0.5", 25, 0.5)
    assert run.made == [("some_model", "w", "torch", "cpu", 2, policy)]


def test_peers_have_the_same_shape(run, capsys, static_peer):
    run("--json", "--peers", "csrt")
    report = json.loads(capsys.readouterr().out)
    assert list(report["peers"]) == ["csrt"]
    peer = report["peers"]["csrt"]
    assert peer["model"] == "csrt"
    assert list(peer["total"]) == METRICS
    assert list(peer["sequences"]) == ["one", "two"]


def test_peers_are_compared_in_the_text(run, capsys, static_peer):
    run("--peers", "csrt")
    last_table = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    assert [line.split()[0] for line in last_table] == ["total", "some_model", "csrt"]


def test_a_peer_that_cannot_run_is_left_out_with_a_message(run, capsys, tmp_path):
    assert run("--json", "--peers", "vit", "--peer-weights", str(tmp_path / "nowhere")) == 0
    out, err = capsys.readouterr()
    assert "peers" not in json.loads(out)
    assert f"left out: peer vit: {tmp_path / 'nowhere' / 'vittrack.onnx'} does not exist" in err


def test_an_unknown_peer_is_an_error(run):
    with pytest.raises(InputError, match="unknown peer 'mosse'"):
        run("--peers", "mosse")


def test_only_the_named_sequences_run(run, capsys):
    run("--json", "--sequences", "two")
    assert list(json.loads(capsys.readouterr().out)["sequences"]) == ["two"]
    with pytest.raises(DatasetError, match="no sequence three"):
        run("--sequences", "three")


def test_writes_boxes_and_report(run, tmp_path):
    run("--output", str(tmp_path / "out"))
    folder = tmp_path / "out" / "some_model"
    assert sorted(path.name for path in folder.iterdir()) == [
        "one.txt",
        "one_score.txt",
        "report.json",
        "two.txt",
        "two_score.txt",
    ]


@pytest.mark.parametrize("option", ["--threads", "--jobs"])
def test_nonsense_counts_are_refused(run, option):
    with pytest.raises(InputError, match=r"is 0; expected 1 or more"):
        run(option, "0")
