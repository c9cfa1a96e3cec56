# SPDX-License-Identifier: Apache-2.0
"""Streaming evaluation with given latencies."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vt_models.datasets.folder import FolderDataset
from vt_models.errors import InputError
from vt_models.evaluation.runs.runner import evaluate, run_sequence
from vt_models.evaluation.runs.streaming import Streaming, known_answers, next_frame
from vt_models.evaluation.runs.vot_runs import RealTimeClock, run_anchored
from vt_models.tracker.tracker import Estimate


class Reader:
    """Reads the target's place from the frame: its grey value is 20 times the frame's number."""

    def __init__(self):
        self.seen = []

    def init(self, _frame, _box):
        self.seen = []

    def update(self, frame):
        number = round(float(frame.mean()) / 20)
        self.seen.append(number)
        return Estimate((float(number), 5.0, 10.0, 10.0), 0.5)


@pytest.fixture
def sequence(tmp_path, write_sequence):
    """A target that moves one pixel a frame, on frames that tell their number."""
    folder = write_sequence("s", [f"{x},5,10,10" for x in range(1, 11)])
    for number in range(1, 11):
        grey = np.full((48, 64, 3), 20 * number, np.uint8)
        assert cv2.imwrite(str(folder / "img" / f"{number:06d}.jpg"), grey)
    return FolderDataset(tmp_path)[0]


def lefts(result):
    return result.boxes[:, 0].round().astype(int).tolist()


def test_without_latency_it_is_the_usual_run(sequence):
    plain, streamed = (run(Reader(), sequence) for run in (run_sequence, Streaming(0.1, 0.0)))
    np.testing.assert_array_equal(streamed.boxes, plain.boxes)
    np.testing.assert_array_equal(streamed.scores, plain.scores)
    assert streamed.accuracy == plain.accuracy


def test_one_period_is_one_frame_late(sequence):
    tracker = Reader()
    result = Streaming(1 / 30, 1 / 30)(tracker, sequence)
    assert tracker.seen == list(range(2, 11))
    assert lefts(result) == [1, 1, *range(2, 10)]


def test_a_slow_tracker_skips_to_the_newest_frame(sequence):
    tracker = Reader()
    result = Streaming(0.1, 0.25)(tracker, sequence)
    # Frame 2 comes at 0.1 s, is answered at 0.35; then 4 (0.3 s) at 0.6; 7 at 0.85; 9 at 1.1.
    assert tracker.seen == [2, 4, 7, 9]
    assert lefts(result) == [1, 1, 1, 1, 2, 2, 4, 4, 4, 7]
    assert result.seconds.shape == (4,)
    assert result.scores.tolist() == [1.0] * 4 + [0.5] * 6


def test_the_measured_latency_keeps_every_frame_of_a_fast_tracker(sequence):
    tracker = Reader()
    Streaming(10.0)(tracker, sequence)
    assert tracker.seen == list(range(2, 11))


def test_a_given_latency_gives_the_same_every_time(tmp_path, write_sequence, sequence):
    write_sequence("t", [f"{x},9,10,10" for x in range(1, 8)])
    runs = [
        evaluate(Reader, FolderDataset(tmp_path), progress=False, run=Streaming(0.04, 0.07))
        for _ in range(2)
    ]
    for one, two in zip(runs[0].results, runs[1].results, strict=True):
        np.testing.assert_array_equal(one.boxes, two.boxes)
        assert one.accuracy == two.accuracy


@pytest.mark.parametrize(("period", "latency"), [(0, 0.1), (float("inf"), 0.1), (0.1, -1.0)])
def test_invalid_arguments_are_refused(period, latency):
    with pytest.raises(InputError, match="expected"):
        Streaming(period, latency)


@given(
    latencies=st.lists(st.floats(0, 5), min_size=1, max_size=30),
    period=st.sampled_from([1 / 30, 0.04, 0.1, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_frames_are_taken_in_order_and_never_before_they_are_there(latencies, period):
    index, free, taken, finished = 0, 0.0, [], [0.0]
    for latency in latencies:
        index = next_frame(free, index, period)
        taken.append(index)
        free = max(free, index * period) + latency * period
        finished.append(free)
    assert all(one < two for one, two in itertools.pairwise([0, *taken]))
    known = known_answers(np.array(finished), period, taken[-1] + 3)
    assert (np.diff(known) >= 0).all()
    for now, answer in enumerate(known):
        assert finished[answer] <= now * period + 1e-6
        if answer + 1 < len(finished):
            assert finished[answer + 1] > now * period - 1e-6


def test_anchored_runs_in_real_time_miss_frames_in_both_directions(sequence):
    """A step of 2.5 periods owes 1.5 and costs one frame; the start and two more cost nothing."""
    tracker = Reader()
    stream = Streaming(0.1, 0.25)
    (ahead,) = run_anchored(tracker, sequence, {0: True}, stream=stream).runs
    assert tracker.seen == [2, 3, 4, 6, 8, 10]
    assert lefts(ahead) == [1, 2, 3, 4, 4, 6, 6, 8, 8, 10]
    assert (ahead.seconds > 0).tolist() == [n in (1, 2, 3, 4, 6, 8, 10) for n in range(1, 11)]
    (back,) = run_anchored(tracker, sequence, {9: False}, stream=stream).runs
    assert tracker.seen == [9, 8, 7, 5, 3, 1], "the grace begins anew with each run"
    assert lefts(back) == [10, 9, 8, 7, 7, 5, 5, 3, 3, 1]


@pytest.mark.parametrize("latency", [0.0, 0.1, 0.2])
def test_anchored_runs_in_real_time_see_every_frame_up_to_two_periods(sequence, latency):
    plain, streamed = (
        run_anchored(Reader(), sequence, {0: True}, stream=one).runs[0].boxes
        for one in (None, Streaming(0.1, latency))
    )
    np.testing.assert_array_equal(plain, streamed)


def test_real_time_clock_misses_the_frames_that_vot_toolkit_misses():
    """metrics/toolkits/make.py says how the toolkit itself was asked."""
    values = Path(__file__).parents[1] / "metrics" / "toolkits" / "values.json"
    about = json.loads(values.read_text())["realtime"]
    for case in about["cases"]:
        clock, seconds = RealTimeClock(about["interval"], case["grace"]), iter(case["seconds"])
        clock.took(next(seconds))
        shown = [0]
        for frame in range(1, len(case["shown"])):
            if clock.misses_next():
                shown.append(shown[-1])
            else:
                clock.took(next(seconds))
                shown.append(frame)
        assert shown == case["shown"]
    assert any(len(set(case["shown"])) < 25 for case in about["cases"])
