# SPDX-License-Identifier: Apache-2.0
"""Programs before and without ROS 2: sentences, no tracebacks."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

ROOT = Path(__file__).resolve().parents[2]


def run(code, folder=ROOT):
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("program", ["tracker_node", "camera_node", "demo"])
def test_without_ros_it_is_one_sentence(program):
    result = run(
        "import sys; sys.modules['rclpy'] = None\n"
        f"from vt_ros.{program} import main; sys.exit(main())"
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: the Python module rclpy is not here")
    assert len(result.stderr.splitlines()) == 1


def test_another_missing_module_is_not_blamed_on_ros(tmp_path):
    (tmp_path / "broken.py").write_text("import no_such_module", encoding="utf-8")
    result = run(
        "import sys; sys.path.insert(0, '.')\n"
        "from vt_ros.program import run_node; sys.exit(run_node('broken', 'Node'))",
        tmp_path,
    )
    assert "No module named 'no_such_module'" in result.stderr


def test_ctrl_c_during_the_imports_is_quiet(tmp_path):
    text = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    (tmp_path / "interrupted.py").write_text(text, encoding="utf-8")
    result = run(
        "import sys; sys.path.insert(0, '.')\n"
        "from vt_ros.program import run_node; sys.exit(run_node('interrupted', 'Node'))",
        tmp_path,
    )
    assert result.returncode == -signal.SIGINT
    assert result.stderr == ""


def test_a_thread_that_cannot_be_stopped_does_not_hold_up_the_end():
    """Nor is it alive when Python takes itself down, where C++ code in it would abort."""
    code = (
        "import sys, threading, time\n"
        "from vt_ros import program\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "sys.exit(program._leave(0))"
    )
    assert run(code).returncode == 0


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
def test_a_callback_leaves_nothing_behind(ros):
    """Or a node that runs for days grows with every image."""
    result = run(COUNTING.format(domain=ros.domain))
    assert result.stdout.split() == ["7", "1"], result.stderr


@pytest.mark.ros
def test_ctrl_c_at_any_moment_of_the_start_ends_quietly(ros, tiny_model):
    for number in range(6):
        process = ros.start_tracker(tiny_model)
        time.sleep(0.2 + 0.25 * number)
        process.send(signal.SIGINT)
        assert process.wait() in (0, -signal.SIGINT), process.output
        ros.processes.remove(process)
        assert "Traceback" not in process.output
        assert "terminate" not in process.output
