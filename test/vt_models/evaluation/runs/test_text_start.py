# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vt_models.cli import eval as command
from vt_models.cli.main import declare
from vt_models.datasets.sequence import VideoSequence
from vt_models.errors import DatasetError, WeightsError
from vt_models.evaluation.runs import text_start as text_init
from vt_models.evaluation.runs.runner import StartOnTruth, run_sequence
from vt_models.evaluation.runs.text_start import TextStart
from vt_models.grounding import Candidate, Grounder, GroundingSettings
from vt_models.tracker.tracker import Estimate

TRUE, WRONG = (40.0, 30.0, 20.0, 20.0), (100.0, 60.0, 20.0, 20.0)


class FakeDetector:
    """Plumbing only."""

    name = "fake"
    default_threshold = 0.3
    names_only = False

    def __init__(self, *found: tuple[tuple[float, float, float, float], float]) -> None:
        self.found = [Candidate(box, score) for box, score in found]

    def detect(self, _frame: Any, _text: str, _cancelled: Any) -> list[Candidate]:
        return self.found


class StandStill:
    """A tracker that believes nothing moves."""

    def init(self, _frame: Any, box: Any) -> None:
        self.box = box

    def update(self, _frame: Any) -> Estimate:
        return Estimate(self.box, 1.0)


@pytest.fixture
def sequence(tmp_path: Path) -> VideoSequence:
    paths = tuple(tmp_path / f"{index}.png" for index in range(4))
    for path in paths:
        cv2.imwrite(str(path), np.zeros((90, 160, 3), np.uint8))
    return VideoSequence("clip", paths, np.tile(np.array(TRUE), (4, 1)), "the white car")


def start(monkeypatch: pytest.MonkeyPatch, *found: Any) -> TextStart:
    def make(name: str, source: Any, *, settings: GroundingSettings, **_: Any) -> Grounder:
        return Grounder(FakeDetector(*found), settings)

    monkeypatch.setattr(text_init, "create_grounder", make)
    return TextStart("pjvlt")


def test_the_run_begins_where_the_sentence_was_found(
    monkeypatch: pytest.MonkeyPatch, sequence: VideoSequence
) -> None:
    begin = start(monkeypatch, (TRUE, 0.9), (WRONG, 0.89))  # too close for an operator
    result = run_sequence(StandStill(), sequence, start=begin)
    assert result.boxes.tolist() == [list(TRUE)] * 4
    assert result.accuracy is not None
    assert result.accuracy.ao == pytest.approx(1.0)


def test_a_wrong_start_is_wrong_all_the_way(
    monkeypatch: pytest.MonkeyPatch, sequence: VideoSequence
) -> None:
    result = run_sequence(StandStill(), sequence, start=start(monkeypatch, (WRONG, 0.9)))
    assert result.boxes[0].tolist() == list(WRONG)
    assert result.accuracy is not None
    assert result.accuracy.ao == 0.0


def test_nothing_found_is_a_miss_in_all_frames(
    monkeypatch: pytest.MonkeyPatch, sequence: VideoSequence
) -> None:
    result = run_sequence(StandStill(), sequence, start=start(monkeypatch, (TRUE, 0.1)))
    assert np.isnan(result.boxes).all()
    assert result.accuracy is not None
    assert result.accuracy.ao == 0.0


def test_a_sentence_that_cannot_be_used_is_a_miss_and_said(
    monkeypatch: pytest.MonkeyPatch, sequence: VideoSequence, caplog: pytest.LogCaptureFixture
) -> None:
    long = replace(sequence, language="x" * 5000)
    assert start(monkeypatch, (TRUE, 0.9))(StandStill(), long) is None
    assert "clip is a miss: the text has 5000 characters" in caplog.text


def test_a_sequence_without_a_sentence_is_an_error(
    monkeypatch: pytest.MonkeyPatch, sequence: VideoSequence
) -> None:
    with pytest.raises(DatasetError, match=r"clip has no sentence \(language\.txt\)"):
        start(monkeypatch)(StandStill(), replace(sequence, language=None))


def test_text_start_is_pickled_without_its_network(
    monkeypatch: pytest.MonkeyPatch, sequence: VideoSequence
) -> None:
    begin = start(monkeypatch, (TRUE, 0.9))
    begin(StandStill(), sequence)
    copy = pickle.loads(pickle.dumps(begin))
    assert copy == begin
    assert copy(StandStill(), sequence) == TRUE


def arguments(*options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    declare("eval", parser)
    needed = ["--model", "m", "--dataset", "folder", "--root", ".", "--device", "cpu"]
    return parser.parse_args([*needed, *options])


def test_start_options_choose_box_or_text(monkeypatch: pytest.MonkeyPatch) -> None:
    start(monkeypatch)
    assert command._start(arguments()) == StartOnTruth("auto")
    assert command._start(arguments("--text", "none")) == StartOnTruth("none")
    options = ["--init", "text", "--grounding-backend", "onnx", "--grounding-source", "D"]
    more = ["--grounding-threshold", "0.2", "--threads", "2", "--text", "sentence"]
    args = arguments(*options, *more)
    assert command._start(args) == TextStart("onnx", "D", 0.2, "cpu", 2, "sentence")


def test_a_grounder_that_cannot_be_loaded_is_refused_before_anything_runs(
    tmp_path: Path,
) -> None:
    options = ["--init", "text", "--grounding-backend", "onnx", "--grounding-source", str(tmp_path)]
    with pytest.raises(WeightsError, match="vt-models ground-export"):
        command._start(arguments(*options))
