# SPDX-License-Identifier: Apache-2.0
"""A node in its process: it runs for days, and ends by a signal at any moment."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

COUNTING = """
import os
os.environ["ROS_DOMAIN_ID"] = "{domain}"
from rclpy.node import Node
from rclpy.task import Future
from vt_ros.common import process

class Counting(Future):
    hung = 0

    def add_done_callback(self, callback):
        Counting.hung += 1
        super().add_done_callback(callback)

class Program(Node):
    def __init__(self, finished):
        super().__init__("program")
        self.turns, self.finished = 0, finished
        self.create_timer(0.001, self.turn)

    def turn(self):
        self.turns += 1
        if self.turns == 200:
            self.finished.set_result(7)

    def close(self):
        pass

process.Future = Counting
print(process.run(Program, []), Counting.hung)
"""


@pytest.mark.ros
def test_run_for_many_callbacks_adds_none_to_the_future(ros):
    """Or a node that runs for days grows with every image."""
    command = [sys.executable, "-c", COUNTING.format(domain=ros.domain)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout.split() == ["7", "2"], result.stderr


EARLY_SIGNAL = """
import os, signal
os.environ["ROS_DOMAIN_ID"] = "{domain}"
from rclpy.node import Node
from vt_ros.common import process

set_handler = signal.signal

def set_handler_and_signal(number, handler):
    previous = set_handler(number, handler)
    os.kill(os.getpid(), number)
    return previous

class Program(Node):
    def __init__(self, finished):
        super().__init__("program")

    def close(self):
        pass

signal.signal = set_handler_and_signal
print(process.run(Program, []))
"""


@pytest.mark.ros
def test_run_ends_by_a_signal_that_comes_with_its_handler(ros):
    """No moment is left in which a signal is taken and does nothing."""
    command = [sys.executable, "-c", EARLY_SIGNAL.format(domain=ros.domain)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout.split() == ["0"], result.stderr


HUNG_UP = """
import os, signal, sys, threading
os.environ["ROS_DOMAIN_ID"] = "{domain}"
# Whatever the tests themselves were started with.
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[1] == "nohup" else signal.SIG_DFL)
from rclpy.node import Node
from vt_ros.common import process

class Program(Node):
    def __init__(self, finished):
        super().__init__("program")
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGHUP)).start()
        threading.Timer(1.0, lambda: finished.done() or finished.set_result(7)).start()

    def close(self):
        print("closed")

print(process.run(Program, []))
"""


@pytest.mark.ros
@pytest.mark.parametrize(("how", "code"), [("terminal", "0"), ("nohup", "7")])
def test_run_ends_in_order_when_its_terminal_is_closed(ros, how, code):
    command = [sys.executable, "-c", HUNG_UP.format(domain=ros.domain), how]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout.split() == ["closed", code], result.stderr


TROUBLED = """
import os, signal, sys, threading, time
os.environ["ROS_DOMAIN_ID"] = "{domain}"
from rclpy.node import Node
from vt_ros.common import process

class Program(Node):
    def __init__(self, finished):
        super().__init__("program")
        self.turns, self.finished = 0, finished
        self.create_timer(0.001, self.turn)

    def turn(self):
        self.turns += 1
        if self.turns == int(sys.argv[1]):
            self.finished.set_result(7)
        elif self.turns != 5:
            raise ZeroDivisionError("odd")

    def close(self):
        time.sleep(float(sys.argv[2]))

code = process.run(Program, [])
for number in (signal.SIGINT, signal.SIGTERM):
    os.kill(os.getpid(), number)
print("ends with", code)
"""


@pytest.mark.ros
@pytest.mark.parametrize(
    ("turns", "seconds_to_close", "code", "said"),
    [
        (14, 0, 0, "ends with 7"),  # nine failures in a row, and signals when the end has begun
        (99, 0, 1, "ZeroDivisionError: odd"),
        (14, 600, 7, "ended by force"),
    ],
)
def test_run_goes_on_after_a_failed_callback_and_ends_whatever_happens(
    ros, turns, seconds_to_close, code, said
):
    script = TROUBLED.format(domain=ros.domain)
    command = [sys.executable, "-c", script, str(turns), str(seconds_to_close)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == code, result.stderr
    assert said in result.stdout + result.stderr
    assert "a callback failed: ZeroDivisionError: odd" in result.stderr
