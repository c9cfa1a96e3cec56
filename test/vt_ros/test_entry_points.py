# SPDX-License-Identifier: Apache-2.0
"""Programs before and without ROS 2: sentences, no tracebacks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

ROOT = Path(__file__).resolve().parents[2]
RUN_CAMERA = "from vt_ros.entry_points import camera_node; sys.exit(camera_node())"


def run(code, folder=ROOT):
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "program",
    [
        "tracker_node",
        "camera_node",
        "mavlink_camera_node",
        "look_at_node",
        "console_node",
        "target_3d_node",
        "demo",
    ],
)
def test_program_without_ros_is_one_sentence(program):
    result = run(
        "import sys; sys.modules['rclpy'] = None\n"
        f"from vt_ros.entry_points import {program}; sys.exit({program}())"
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: the Python module rclpy is not here")
    assert len(result.stderr.splitlines()) == 1


START_ERRORS = {
    "file that is not there": (["--params-file", "absent.yaml"], {}, "absent.yaml"),
    "file without ros__parameters": (["--params-file", "flat.yaml"], {}, "ros__parameters"),
    "file with a tab": (["--params-file", "tab.yaml"], {}, "without tabs"),
    "parameter without a value": (["-p", "source"], {}, "-p NAME:=VALUE"),
    "parameter of another type": (["-p", "loop:=often"], {}, "loop"),
    "text of 100,000 characters": (["-p", f"frame_id:={'x' * 100_000}"], {}, "4096 at most"),
    "remapping with =": (["-r", "image_raw=/image"], {}, "-r FROM:=TO"),
    "name with a minus": (["-r", "__node:=a-b"], {}, "letters, digits and _"),
    "unknown log level": (["--log-level", "loud"], {}, "debug, info"),
    "unknown word for ROS": (["--nonsense"], {}, "--nonsense"),
    "log folder that cannot be": ([], {"ROS_LOG_DIR": "/proc/logs"}, "set ROS_LOG_DIR"),
    "no home": ([], {"HOME": "", "ROS_LOG_DIR": ""}, "HOME is not set"),
    "domain that is no number": ([], {"ROS_DOMAIN_ID": "robot"}, "from 0 to 232"),
    "domain that is too high": ([], {"ROS_DOMAIN_ID": "233"}, "from 0 to 232"),
}


@pytest.mark.ros
@pytest.mark.parametrize("case", START_ERRORS)
def test_start_that_ros_refuses_is_one_sentence(case, tmp_path):
    arguments, environment, said = START_ERRORS[case]
    (tmp_path / "flat.yaml").write_text("loop: true\n", encoding="utf-8")
    text = "camera:\n  ros__parameters:\n\tloop: true\n"
    (tmp_path / "tab.yaml").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "vt_ros.camera", "--ros-args", *arguments]
    result = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2, result.stderr
    *of_ros, sentence = result.stderr.splitlines()
    assert sentence.startswith("error: ")
    assert said in sentence
    assert ".c:" not in sentence
    assert len(of_ros) <= 1, "rcl's own line at most"
    assert len(sentence) < 2000


@pytest.mark.parametrize("words", [["--help"], ["-h", "--ros-args", "-p", "loop:=true"]])
def test_help_shows_the_parameters(words):
    result = run(f"import sys; sys.argv = ['camera_node', *{words}]\n{RUN_CAMERA}")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: camera_node [--ros-args")
    assert "  loop:=false\n      Start again at the end.\n" in result.stdout


@pytest.mark.parametrize(("words", "code"), [("--help", 0), ("--ros-args -p rate:=-3", 2)])
def test_program_started_without_output_does_as_with_it(words, code):
    """As by a daemon; native code would write into the first sockets that are opened."""
    command = f"exec '{sys.executable}' -m vt_ros.camera {words} >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], timeout=60, check=False).returncode == code


def test_words_that_are_not_for_ros_are_refused():
    result = run(f"import sys; sys.argv = ['camera_node', '--params-file', 'a.yaml']\n{RUN_CAMERA}")
    assert result.returncode == 2
    assert result.stderr.startswith("error: unexpected --params-file a.yaml;")


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
