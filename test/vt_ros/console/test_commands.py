# SPDX-License-Identifier: Apache-2.0
"""What a browser says is read exactly, and everything else is refused in a sentence."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from vt_ros.console.commands import (
    MOST_MESSAGE_BYTES,
    Clock,
    CommandError,
    Confirm,
    SaveRecording,
    SetParameter,
    Shown,
    Start,
    Stop,
    View,
    parse_command,
)

START = {"type": "start", "tracker": 0, "id": 7, "stamp": "1796031659693754063"}


def parse(content, trackers=2):
    return parse_command(json.dumps(content), trackers)


def test_parse_command_reads_each_kind():
    stamp = 1796031659693754063
    cases = {
        Start(0, 7, stamp, (1.0, 2.5, 3.0, 4.0), None, ""): {**START, "box": [1, 2.5, 3, 4]},
        Start(0, 7, stamp, None, (5.0, 6.0), ""): {**START, "point": [5, 6]},
        Start(0, 7, stamp, None, None, "red car"): {**START, "text": " red car "},
        Start(0, 7, stamp, (1.0, 2.0, 3.0, 4.0), None, "a"): {
            **START,
            "box": [1, 2, 3, 4],
            "text": "a",
        },
        Stop(1, 3): {"type": "stop", "tracker": 1, "id": 3},
        Confirm(0, 4, accept=False): {"type": "confirm", "tracker": 0, "id": 4, "accept": False},
        SaveRecording(0, 5): {"type": "save_recording", "tracker": 0, "id": 5},
        SetParameter(0, 6, "target.confirm", "operator"): {
            "type": "set_parameter",
            "tracker": 0,
            "id": 6,
            "name": "target.confirm",
            "value": "operator",
        },
        Shown(1, 12, 0.0125): {"type": "shown", "tracker": 1, "frame": 12, "transfer_ms": 12.5},
        View(0, 640): {"type": "view", "tracker": 0, "width": 640},
        Clock(12.25): {"type": "clock", "sent": 12.25},
    }
    for command, message in cases.items():
        assert parse(message) == command


REFUSED = {
    "no JSON": ("{", "not JSON"),
    "a list": ([], "not a JSON object"),
    "another kind": ({"type": "shut down"}, "'shut down', expected one of"),
    "a kind that is no text": ({"type": {}}, "expected one of"),
    "a tracker too many": ({"type": "stop", "tracker": 2, "id": 1}, "from 0 to 1"),
    "a tracker that is a truth value": ({"type": "stop", "tracker": True, "id": 1}, "tracker"),
    "no number": ({"type": "stop", "tracker": 0}, "id is None"),
    "nothing to start on": (START, "no box, point or text"),
    "two things to start on": ({**START, "box": [1, 2, 3, 4], "point": [1, 2]}, "both given"),
    "a point with a text": ({**START, "point": [1, 2], "text": "a"}, "with a text"),
    "a box of three": ({**START, "box": [1, 2, 3]}, "expected 4 numbers"),
    "a box without a width": ({**START, "box": [1, 2, 0, 4]}, "above 0"),
    "a box that is not finite": ('{"type":"start","box":[NaN,1,1,1]}', "within 100000"),
    "a box far away": ({**START, "box": [1e300, 2, 3, 4]}, "within 100000"),
    "an integer without an end": ({**START, "box": [10**4000, 2, 3, 4]}, "within 100000"),
    "a stamp that is a number": ({**START, "stamp": 5, "point": [1, 2]}, "as text"),
    "a stamp after the end of time": ({**START, "stamp": "9" * 19, "point": [1, 2]}, "as text"),
    "a text too long": ({**START, "text": "a" * 1001}, "at most 1000"),
    "half a character": ({**START, "text": "\ud83d"}, "half a character"),
    "a zero in a text": ({**START, "text": "a\0b"}, "code 0"),
    "a value that is a list": (
        {"type": "set_parameter", "tracker": 0, "id": 1, "name": "locked", "value": [""]},
        "value is",
    ),
    "a name with a slash": (
        {"type": "set_parameter", "tracker": 0, "id": 1, "name": "../x", "value": 1},
        "name of a parameter",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_parse_command_refuses(case):
    message, said = REFUSED[case]
    text = message if isinstance(message, str) else json.dumps(message)
    with pytest.raises(CommandError) as refusal:
        parse_command(text, 2)
    assert said in str(refusal.value)
    assert len(str(refusal.value)) < 300
    assert "\n" not in str(refusal.value)


def test_parse_command_gives_the_number_of_a_refused_request_back():
    with pytest.raises(CommandError) as refusal:
        parse(START)
    assert refusal.value.number == 7


def test_parse_command_refuses_a_long_message_unread():
    with pytest.raises(CommandError, match="at most"):
        parse_command("[" * (MOST_MESSAGE_BYTES + 1), 1)
    with pytest.raises(CommandError, match="not JSON"):
        parse_command("[" * MOST_MESSAGE_BYTES, 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
NAMES = ("tracker", "id", "stamp", "box", "point", "text", "name", "value", "width", "frame")


@given(
    st.sampled_from(("start", "stop", "confirm", "set_parameter", "shown", "view", "clock", "x")),
    st.dictionaries(st.sampled_from((*NAMES, "sent", "accept", "transfer_ms")), JSON),
)
def test_parse_command_of_anything_is_a_command_or_a_refusal(kind, fields):
    try:
        command = parse_command(json.dumps({"type": kind, **fields}), 3)
    except CommandError:
        return
    if not isinstance(command, Clock):
        assert 0 <= command.tracker < 3
    if isinstance(command, Start):
        assert 0 <= command.stamp < 2**63
        numbers = [*(command.box or ()), *(command.point or ())]
        assert all(math.isfinite(number) for number in numbers)
        assert command.box or command.point or command.text


@given(st.text())
def test_parse_command_of_any_text_is_refused(text):
    try:
        parse_command(text, 1)
    except CommandError:
        return
    pytest.fail(f"accepted {text!r}")
