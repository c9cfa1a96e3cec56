# SPDX-License-Identifier: Apache-2.0
"""What the words of a lost target do."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from std_msgs.msg import Header

from vt_interfaces.srv import SetTarget
from vt_models import create_target, create_tracker
from vt_models.grounding import Candidate
from vt_models.longterm import State
from vt_ros.tracker.grounding_thread import Found
from vt_ros.tracker.image_buffer import Arrival
from vt_ros.tracker.parameters import WordsSettings
from vt_ros.tracker.target_request import TargetRefusedError
from vt_ros.tracker.text_redetection import Words

FRAME = np.zeros((10, 10, 3), np.uint8)
HERE, THERE = (10.0, 10.0, 20.0, 20.0), (200.0, 10.0, 20.0, 20.0)
ARRIVAL = Arrival(1, b"", 0.0)
Code = SetTarget.Response


class Desk:
    """Takes questions, and answers them when the test does; its clock stands still."""

    def __init__(self, period=5.0, verify=True):
        self.time, self.asked, self.suggested = 100.0, [], []
        self.state = State.LOST
        settings = WordsSettings(period, verify)
        self.words = Words(self._ask, lambda: settings, lambda: self.time)

    def _ask(self, arrival, text):  # noqa: ARG002
        self.asked.append((text, Future()))
        return self.asked[-1][1]

    def suggest(self, box):
        self.suggested.append(box)

    def look(self):
        self.words.look(ARRIVAL, self)

    def say(self, box=None, error=None):
        answer = self.asked[-1][1]
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(Found(box, 0.9, (), "", Header()))

    def agree(self, box=HERE):
        return self.words.agree(FRAME, box)


def lost(text="the red car", **settings):
    desk = Desk(**settings)
    desk.words.take(text)
    return desk


def test_a_place_outside_the_frame_is_no_suggestion():
    """Images became smaller while the words were looked for; the frame counts all the same."""
    target = create_target(create_tracker("asymtrack_lite0"))
    target.init(np.full((40, 60, 3), 90, np.uint8), (10, 10, 20, 20))
    target.lose()
    desk = Desk()
    desk.words.take("the red car")
    desk.words.look(ARRIVAL, target)
    desk.say(THERE)
    desk.words.look(ARRIVAL, target)
    assert target.state is State.LOST


def test_a_lost_target_is_looked_for_once_a_period_and_suggested_once():
    desk = lost()
    desk.look()
    desk.look()
    assert [text for text, _ in desk.asked] == ["the red car"]
    desk.say(THERE)
    desk.look()
    desk.look()
    assert desk.suggested == [THERE]
    desk.time += 4.9
    desk.look()
    assert len(desk.asked) == 1
    desk.time += 0.2
    desk.look()
    assert len(desk.asked) == 2


@pytest.mark.parametrize(
    ("text", "state", "period"),
    [("", State.LOST, 5.0), ("a car", State.TRACKING, 5.0), ("a car", State.LOST, 0.0)],
)
def test_words_that_are_not_looked_for(text, state, period):
    desk = lost(text, period=period)
    desk.state = state
    desk.look()
    assert not desk.asked


@pytest.mark.parametrize(
    ("code", "candidates", "suggested"),
    [
        (Code.ERROR_AMBIGUOUS, (Candidate(HERE, 0.9), Candidate(THERE, 0.9)), [HERE]),
        (Code.ERROR_NOTHING_FOUND, (), []),
        (Code.ERROR_INTERNAL, (), []),
    ],
)
def test_what_is_suggested_when_the_words_do_not_tell(code, candidates, suggested):
    desk = lost()
    desk.look()
    desk.say(error=TargetRefusedError(code, "no", candidates))
    desk.look()
    assert desk.suggested == suggested


def test_a_find_waits_for_the_words_and_counts_where_they_fit():
    desk = lost(period=0.0)
    desk.look()
    assert not desk.agree()
    assert not desk.agree()
    assert len(desk.asked) == 1
    desk.say(HERE)
    assert desk.agree()


def test_a_find_that_the_words_contradict_is_refused():
    desk = lost(period=0.0)
    desk.look()
    assert not desk.agree()
    desk.say(THERE)
    assert not desk.agree()
    assert not desk.agree()
    assert len(desk.asked) == 1, "what was said is still true"
    desk.time += 2.5
    assert not desk.agree()
    assert len(desk.asked) == 2, "asked again in another image"


@pytest.mark.parametrize(
    "error",
    [
        TargetRefusedError(Code.ERROR_NOTHING_FOUND, "no"),
        TargetRefusedError(Code.ERROR_GROUNDING_UNAVAILABLE, "no"),
        TargetRefusedError(Code.ERROR_AMBIGUOUS, "no", (Candidate(HERE, 0.9),)),
    ],
)
def test_words_that_say_nothing_against_a_find(error):
    desk = lost(period=0.0)
    desk.look()
    assert not desk.agree()
    desk.say(error=error)
    assert desk.agree()


def test_a_suggestion_that_is_found_needs_no_second_question():
    desk = lost()
    desk.look()
    desk.say(HERE)
    desk.look()
    assert desk.agree()
    assert len(desk.asked) == 1


def test_slow_words_are_not_waited_for_without_end():
    desk = lost(period=0.0)
    desk.look()
    assert not desk.agree()
    desk.time += 3.5
    assert desk.agree()


def test_a_question_that_was_given_up_is_no_answer():
    """The finder had another question, of somebody who waits."""
    desk = lost(period=0.0)
    desk.look()
    assert not desk.agree()
    desk.asked[-1][1].cancel()
    assert not desk.agree()
    assert len(desk.asked) == 2


def test_without_words_or_verification_every_find_counts():
    assert lost("").agree()
    assert lost(verify=False).agree()


def test_another_target_ends_the_search_for_the_former_one():
    desk = lost()
    desk.look()
    desk.words.take("")
    assert desk.asked[0][1].cancelled()
    assert desk.agree()
