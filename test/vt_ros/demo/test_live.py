# SPDX-License-Identifier: Apache-2.0
"""`make demo-console`: three nodes, a page, and an end by Ctrl-C."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("aiohttp", reason="pip install 'vt_ros[console]'")

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[3]


def start(*arguments):
    command = [sys.executable, "-u", "-m", "vt_ros.demo.live", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.usefixtures("ctrl_c_counts")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_live_demo_serves_the_page_until_it_is_ended_with_its_nodes(numbered, tmp_path, number):
    process = start("--video", numbered.video, "--port", 0, "--output", tmp_path, "--no-browser")
    url = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())[0]
    with urllib.request.urlopen(url) as page:  # noqa: S310, our own address
        assert b"Tracker console" in page.read()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    for name in ("tracker", "camera", "console"):
        assert "Traceback" not in (tmp_path / f"{name}.log").read_text(encoding="utf-8")
    assert (tmp_path / "console.log").read_text(encoding="utf-8").endswith(": finalized\n")


def test_live_demo_without_its_video_is_one_sentence(tmp_path):
    process = start("--video", tmp_path / "absent.mp4", "--output", tmp_path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("error: ")
    assert "absent.mp4" in errors
    assert len(errors.splitlines()) == 1


def test_live_demo_says_at_once_why_a_node_does_not_work(numbered, tmp_path):
    (tmp_path / "file").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        cases = {
            "no model called 'nonsense'": ("--model", "nonsense", "--port", 0),
            f"cannot listen on 127.0.0.1 port {port}": ("--port", port),
            "cannot make the folder": ("--output", tmp_path / "file"),
        }
        for said, arguments in cases.items():
            common = ("--video", numbered.video, "--output", tmp_path, "--no-browser")
            process = start(*common, *arguments)
            _, errors = process.communicate(timeout=50)
            assert process.returncode == 1
            assert said in errors
            assert len(errors.splitlines()) == 1
