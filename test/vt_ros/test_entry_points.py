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
def test_program_without_ros_is_one_sentence(program):
    result = run(
        "import sys; sys.modules['rclpy'] = None\n"
        f"from vt_ros.entry_points import {program}; sys.exit({program}())"
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: the Python module rclpy is not here")
    assert len(result.stderr.splitlines()) == 1


def test_program_without_another_module_names_that(tmp_path):
    (tmp_path / "broken.py").write_text("import no_such_module", encoding="utf-8")
    result = run(
        "import sys; sys.path.insert(0, '.')\n"
        "from vt_ros.entry_points import run_node; sys.exit(run_node('broken', 'Node'))",
        tmp_path,
    )
    assert "No module named 'no_such_module'" in result.stderr


def test_ctrl_c_during_the_imports_is_quiet(tmp_path):
    text = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    (tmp_path / "interrupted.py").write_text(text, encoding="utf-8")
    result = run(
        "import sys; sys.path.insert(0, '.')\n"
        "from vt_ros.entry_points import run_node; sys.exit(run_node('interrupted', 'Node'))",
        tmp_path,
    )
    assert result.returncode == -signal.SIGINT
    assert result.stderr == ""


def test_program_ends_although_a_thread_is_busy():
    """Nor is it alive when Python takes itself down, where C++ code in it would abort."""
    code = (
        "import sys, threading, time\n"
        "from vt_ros import entry_points\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "sys.exit(entry_points._leave(0))"
    )
    assert run(code).returncode == 0


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
