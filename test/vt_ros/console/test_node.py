# SPDX-License-Identifier: Apache-2.0
"""The node `console`: started wrongly, in a manager's hands, and what it says of itself."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("aiohttp", reason="pip install 'vt_ros[console]'")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

pytestmark = pytest.mark.ros


def change(ros, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    return ros.call(ChangeState, "console/change_state", request).success


def set_parameter(ros, name, value):
    message = Parameter(name, value=value).to_parameter_msg()
    request = SetParameters.Request(parameters=[message])
    return ros.call(SetParameters, "console/set_parameters", request).results[0]


def is_open(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310, our own address
            return answer.status == 200
    except urllib.error.URLError:
        return False


def test_manager_closes_and_opens_the_page_and_parameters_follow(ros, start_console):
    console = start_console(ros)
    messages = ros.collect(DiagnosticArray, "/diagnostics")

    def reported(task, level, words):
        return any(
            status.name == f"console: {task}" and status.level == level and words in status.message
            for message in messages
            for status in message.status
        )

    assert is_open(console.url)
    ros.until(lambda: reported("server", DiagnosticStatus.OK, console.url), "where the page is")
    ros.until(
        lambda: reported("trackers", DiagnosticStatus.WARN, "nothing is heard of /tracker"),
        "that there is no tracker",
    )
    assert set_parameter(ros, "max_quality", 50).successful
    refused = set_parameter(ros, "port", 8081)
    assert not refused.successful
    assert "deactivate the node first" in refused.reason
    refused = set_parameter(ros, "token_file", "/etc/passwd")
    assert not refused.successful

    assert change(ros, Transition.TRANSITION_DEACTIVATE)
    assert not is_open(console.url)
    ros.until(lambda: reported("server", DiagnosticStatus.STALE, "inactive"), "that it is closed")
    refused = set_parameter(ros, "address", "0.0.0.0")  # noqa: S104
    assert "token_file is empty" in refused.reason
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert set_parameter(ros, "port", port).successful
        assert not change(ros, Transition.TRANSITION_ACTIVATE)
        assert f"cannot listen on 127.0.0.1 port {port}" in console.process.output
    assert change(ros, Transition.TRANSITION_ACTIVATE)
    assert is_open(f"http://127.0.0.1:{port}/")
    assert console.process.stop() == 0
    assert "Traceback" not in console.process.output


def test_browser_that_stands_still_holds_neither_a_transition_nor_the_end_up(ros, start_console):
    console = start_console(ros)
    host, port = console.host.split(":")
    with socket.create_connection((host, int(port))) as stalled:
        stalled.sendall(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert stalled.recv(12) == b"HTTP/1.1 101"
        assert change(ros, Transition.TRANSITION_DEACTIVATE), console.process.output
        assert change(ros, Transition.TRANSITION_ACTIVATE), console.process.output
    assert console.process.stop() == 0
    assert "by force" not in console.process.output
    assert "Traceback" not in console.process.output


def test_start_that_makes_no_sense_is_one_sentence(ros):
    process = ros.start("console", address="0.0.0.0")  # noqa: S104
    assert process.wait() == 2
    (sentence,) = process.output.splitlines()
    assert sentence.startswith("error: address is 0.0.0.0, which other machines reach")
    assert "secrets.token_urlsafe" in sentence
