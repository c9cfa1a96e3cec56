# SPDX-License-Identifier: Apache-2.0
"""Re-detection by the description of a LOST target."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from std_msgs.msg import Header

from vt_interfaces.srv import SetTarget
from vt_models.grounding import Candidate
from vt_models.longterm import State
from vt_ros.tracker.grounding_thread import GroundingResult
from vt_ros.tracker.image_buffer import BufferedImage
from vt_ros.tracker.parameters import RedetectionSettings
from vt_ros.tracker.target_request import TargetRefusedError
from vt_ros.tracker.text_redetection import TextRedetection

FRAME = np.zeros((10, 10, 3), np.uint8)
HERE, THERE = (10.0, 10.0, 20.0, 20.0), (200.0, 10.0, 20.0, 20.0)
IMAGE = BufferedImage(1, b"", 0.0)
Code = SetTarget.Response


class Desk:
    """Takes jobs, and gives their results when the test does; its clock stands still."""

    def __init__(self, period=5.0, verify=True):
        self.time, self.jobs, self.suggested = 100.0, [], []
        self.state = State.LOST
        settings = RedetectionSettings(period, verify)
        self.redetection = TextRedetection(self._submit, lambda: settings, lambda: self.time)

    def _submit(self, job):
        assert job.background, "it gives way to somebody who waits"
        self.jobs.append(job)
        return job.result

    def next_frame(self):
        suggestion = self.redetection.suggestion(IMAGE, self.state)
        if suggestion is not None:
            self.suggested.append(suggestion)

    def answer(self, box=None, error=None):
        result = self.jobs[-1].result
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(GroundingResult(box, 0.9, (), "", Header()))

    def verify(self, box=HERE):
        return self.redetection.verify(FRAME, box)


def lost(text="the red car", **settings):
    desk = Desk(**settings)
    desk.redetection.start(text)
    return desk


def test_suggestion_of_a_lost_target_comes_once_a_search_and_searches_once_a_period():
    desk = lost()
    desk.next_frame()
    desk.next_frame()
    assert [job.text for job in desk.jobs] == ["the red car"]
    desk.answer(THERE)
    desk.next_frame()
    desk.next_frame()
    assert desk.suggested == [THERE]
    desk.time += 4.9
    desk.next_frame()
    assert len(desk.jobs) == 1
    desk.time += 0.2
    desk.next_frame()
    assert len(desk.jobs) == 2


@pytest.mark.parametrize(
    ("text", "state", "period"),
    [("", State.LOST, 5.0), ("a car", State.TRACKING, 5.0), ("a car", State.LOST, 0.0)],
)
def test_suggestion_without_text_or_loss_or_period_searches_nothing(text, state, period):
    desk = lost(text, period=period)
    desk.state = state
    desk.next_frame()
    assert not desk.jobs


@pytest.mark.parametrize(
    ("code", "candidates", "suggested"),
    [
        (Code.ERROR_AMBIGUOUS, (Candidate(HERE, 0.9), Candidate(THERE, 0.9)), [HERE]),
        (Code.ERROR_NOTHING_FOUND, (), []),
        (Code.ERROR_INTERNAL, (), []),
    ],
)
def test_suggestion_after_a_refused_search_is_its_first_candidate(code, candidates, suggested):
    desk = lost()
    desk.next_frame()
    desk.answer(error=TargetRefusedError(code, "no", candidates))
    desk.next_frame()
    assert desk.suggested == suggested


def test_verify_waits_for_the_search_and_accepts_where_the_text_fits():
    desk = lost(period=0.0)
    desk.next_frame()
    assert not desk.verify()
    assert not desk.verify()
    assert len(desk.jobs) == 1
    desk.answer(HERE)
    assert desk.verify()


def test_verify_searches_in_the_frame_that_it_was_given():
    """As it was then: the next frame is decoded into the same buffer."""
    desk, pixels = lost(period=0.0), np.full((10, 10, 3), 7, np.uint8)
    assert not desk.redetection.verify(pixels, HERE)
    pixels[:] = 8
    assert (desk.jobs[-1].image == 7).all()


def test_verify_refuses_where_the_text_fits_another_place():
    desk = lost(period=0.0)
    desk.next_frame()
    assert not desk.verify()
    desk.answer(THERE)
    assert not desk.verify()
    assert not desk.verify()
    assert len(desk.jobs) == 1, "what was found still counts"
    desk.time += 2.5
    assert not desk.verify()
    assert len(desk.jobs) == 2, "searched again in another frame"


@pytest.mark.parametrize(
    "error",
    [
        TargetRefusedError(Code.ERROR_NOTHING_FOUND, "no"),
        TargetRefusedError(Code.ERROR_GROUNDING_UNAVAILABLE, "no"),
        TargetRefusedError(Code.ERROR_AMBIGUOUS, "no", (Candidate(HERE, 0.9),)),
    ],
)
def test_verify_accepts_when_the_search_cannot_tell(error):
    desk = lost(period=0.0)
    desk.next_frame()
    assert not desk.verify()
    desk.answer(error=error)
    assert desk.verify()


def test_verify_of_a_suggestion_needs_no_second_search():
    desk = lost()
    desk.next_frame()
    desk.answer(HERE)
    desk.next_frame()
    assert desk.verify()
    assert len(desk.jobs) == 1


def test_verify_gives_up_a_slow_search():
    desk = lost(period=0.0)
    desk.next_frame()
    assert not desk.verify()
    desk.time += 3.5
    assert desk.verify()


def test_verify_after_a_cancelled_search_searches_again():
    """The grounding thread had another job, of somebody who waits."""
    desk = lost(period=0.0)
    desk.next_frame()
    assert not desk.verify()
    desk.jobs[-1].result.cancel()
    assert not desk.verify()
    assert len(desk.jobs) == 2


def test_verify_without_text_or_setting_accepts():
    assert lost("").verify()
    assert lost(verify=False).verify()


def test_start_cancels_the_search_for_the_previous_target():
    desk = lost()
    desk.next_frame()
    desk.redetection.start("")
    assert desk.jobs[0].result.cancelled()
    assert desk.verify()
