# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.errors import InputError
from vt_models.geometry.boxes import iou
from vt_models.grounding import (
    Candidate,
    Grounder,
    GroundingCancelledError,
    GroundingSettings,
    create_grounder,
    list_grounders,
)
from vt_models.grounding.grounder import rank

FRAME = np.zeros((100, 200, 3), np.uint8)
LEFT, MIDDLE, RIGHT = (10.0, 10.0, 20.0, 30.0), (90.0, 10.0, 20.0, 30.0), (150.0, 10.0, 20.0, 30.0)


def test_best_candidate_is_chosen_and_the_others_are_alternatives(fake: Any) -> None:
    grounding = Grounder(fake((LEFT, 0.5), (RIGHT, 0.9), (MIDDLE, 0.2))).find(FRAME, "the car")
    assert grounding.status == "found"
    assert grounding.chosen is not None
    assert grounding.chosen.box == RIGHT
    assert [candidate.box for candidate in grounding.candidates] == [RIGHT, LEFT]
    assert (grounding.backend, grounding.best_score) == ("fake", 0.9)
    assert "'the car'" in grounding.reason
    assert "0.90" in grounding.reason
    assert "0.50" in grounding.reason


def test_grounder_nothing_found_reports_the_best_score(fake: Any) -> None:
    grounding = Grounder(fake((LEFT, 0.2), (RIGHT, 0.1))).find(FRAME, "a dog")
    assert (grounding.status, grounding.candidates, grounding.chosen) == ("nothing", (), None)
    assert grounding.best_score == 0.2
    assert grounding.reason.startswith("nothing: the best score is 0.20, the threshold 0.30")


def test_grounder_no_candidate_is_nothing(fake: Any) -> None:
    grounding = Grounder(fake()).find(FRAME, "a dog")
    assert (grounding.status, grounding.best, grounding.best_score) == ("nothing", None, 0.0)
    assert "no box was proposed" in grounding.reason


def test_scores_too_close_are_ambiguous(fake: Any) -> None:
    detector = fake((LEFT, 0.80), (RIGHT, 0.78), (MIDDLE, 0.75), ((0.0, 60.0, 30.0, 30.0), 0.5))
    grounding = Grounder(detector).find(FRAME, "the car")
    assert (grounding.status, grounding.chosen) == ("ambiguous", None)
    assert [candidate.box for candidate in grounding.candidates] == [LEFT, RIGHT, MIDDLE]
    assert grounding.reason.startswith("ambiguous: 3 candidates for 'the car'")


def test_overlapping_boxes_are_one_candidate_and_not_ambiguous(fake: Any) -> None:
    detector = fake((LEFT, 0.80), ((11.0, 11.0, 20.0, 30.0), 0.79))
    grounding = Grounder(detector).find(FRAME, "the car")
    assert grounding.status == "found"
    assert len(grounding.candidates) == 1


def test_settings_are_read_at_every_call(fake: Any) -> None:
    grounder = Grounder(fake((LEFT, 0.80), (RIGHT, 0.78)))
    assert grounder.threshold == 0.3
    grounder.settings = GroundingSettings(ambiguity_margin=0.0)
    assert grounder.find(FRAME, "x").status == "found"
    grounder.settings = GroundingSettings(threshold=0.79)
    assert grounder.find(FRAME, "x").status == "found"
    grounder.settings = GroundingSettings(threshold=0.9)
    assert grounder.find(FRAME, "x").status == "nothing"
    grounder.settings = GroundingSettings(ambiguity_margin=0.5, max_candidates=1)
    assert len(grounder.find(FRAME, "x").candidates) == 1


def test_boxes_are_cut_to_the_frame_and_useless_ones_dropped(fake: Any) -> None:
    nan = float("nan")
    detector = fake(
        ((-10.0, -5.0, 30.0, 25.0), 0.6),
        ((190.0, 90.0, 50.0, 50.0), 0.4),
        ((nan, 0.0, 5.0, 5.0), 0.9),
        ((0.0, 0.0, 50.0, 50.0), nan),
        ((300.0, 0.0, 50.0, 50.0), 0.9),
        ((199.5, 50.0, 40.0, 40.0), 0.9),
        ((50.0, 50.0, -20.0, 10.0), 0.9),
    )
    grounding = Grounder(detector).find(FRAME, "x")
    assert [candidate.box for candidate in grounding.candidates] == [
        (0.0, 0.0, 20.0, 20.0),
        (190.0, 90.0, 10.0, 10.0),
    ]


def test_bad_frames_and_texts_are_refused_before_the_backend(fake: Any) -> None:
    detector = fake()
    grounder = Grounder(detector)
    with pytest.raises(InputError, match="uint8"):
        grounder.find(np.zeros((10, 10, 3)), "x")
    with pytest.raises(InputError, match="no word"):
        grounder.find(FRAME, "  ")
    with pytest.raises(InputError, match="10240 characters, at most 1000"):
        grounder.find(FRAME, "x" * 10240)
    assert detector.texts == []
    grounder.find(FRAME, "  the\ncar ")
    assert detector.texts == ["the car"]


def test_waiting_and_running_searches_can_be_cancelled(fake: Any) -> None:
    detector = fake((LEFT, 0.9))
    started, release = threading.Event(), threading.Event()

    def wait(cancelled: Any) -> None:
        started.set()
        release.wait(10)

    detector.work = wait
    grounder = Grounder(detector)
    answers: list[Any] = []
    first_cancelled = threading.Event()

    def first() -> None:
        try:
            answers.append(grounder.find(FRAME, "first", first_cancelled.is_set))
        except GroundingCancelledError as error:
            answers.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    assert started.wait(10)
    stop = time.monotonic() + 0.1
    with pytest.raises(GroundingCancelledError):
        grounder.find(FRAME, "second", lambda: time.monotonic() > stop)
    first_cancelled.set()
    release.set()
    thread.join(10)
    assert isinstance(answers[0], GroundingCancelledError)
    assert detector.texts == ["first"]
    assert grounder.find(FRAME, "third").status == "found"  # the turn was given back


def test_a_failing_backend_gives_its_turn_back(fake: Any) -> None:
    detector = fake((LEFT, 0.9))

    def fail(cancelled: Any) -> None:
        raise RuntimeError("broken")

    detector.work = fail
    grounder = Grounder(detector)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            grounder.find(FRAME, "x")


boxes = st.tuples(*[st.floats(0, 100) for _ in range(2)], *[st.floats(1, 100) for _ in range(2)])
candidates = st.lists(st.builds(Candidate, boxes, st.floats(0, 1)), max_size=12)


@given(candidates, st.randoms())
def test_ranking_keeps_the_best_that_do_not_overlap(found: list[Candidate], random: Any) -> None:
    kept = rank(found, 0.5, 100)
    assert [item.score for item in kept] == sorted((item.score for item in kept), reverse=True)
    for index, one in enumerate(kept):
        assert all(float(iou(one.box, other.box)) <= 0.5 for other in kept[:index])
    for item in found:
        assert any(
            item == other or (other.score >= item.score and float(iou(item.box, other.box)) > 0.5)
            for other in kept
        )
    shuffled = list(found)
    random.shuffle(shuffled)
    assert rank(shuffled, 0.5, 100) == kept


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", 1.5),
        ("ambiguity_margin", -0.1),
        ("nms_iou", float("nan")),
        ("max_candidates", 0),
        ("max_candidates", 2.5),
        ("max_text_length", True),
        ("min_side", "2"),
        ("threshold", True),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name):
        GroundingSettings(**{name: value})


def test_every_default_is_in_its_range() -> None:
    assert GroundingSettings().threshold is None
    for field in fields(GroundingSettings):
        if field.name != "threshold":
            assert field.metadata["low"] <= field.default <= field.metadata["high"]


def test_list_grounders_names_every_backend() -> None:
    assert list_grounders() == ["onnx", "pjvlt", "zero_shot"]
    with pytest.raises(InputError, match="no grounding backend called 'clip'"):
        create_grounder("clip")


def test_importing_the_package_loads_no_library_of_a_backend() -> None:
    code = (
        "import sys, vt_models.grounding; "
        "print([n for n in ('torch', 'transformers', 'onnxruntime', 'tokenizers') "
        "if n in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("nms_iou", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_rank_keeps_what_the_definition_of_suppression_keeps(nms_iou: float) -> None:
    rng = np.random.default_rng(3)
    boxes = np.concatenate((rng.uniform(0, 200, (80, 2)), rng.uniform(5, 120, (80, 2))), axis=1)
    scores = rng.choice([0.0, 0.1, 0.5, 0.9], 80)  # many are equal
    candidates = [
        Candidate(tuple(box), float(score))
        for box, score in zip(boxes.tolist(), scores, strict=True)
    ]
    kept: list[Candidate] = []
    for one in sorted(candidates, key=lambda c: (-c.score, c.box)):
        if all(float(iou(one.box, other.box)) <= nms_iou for other in kept):
            kept.append(one)
    assert rank(candidates, nms_iou, 100) == kept
    assert rank(candidates, nms_iou, 4) == kept[:4]
    assert rank([], nms_iou, 4) == []
