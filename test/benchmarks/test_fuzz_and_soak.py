# SPDX-License-Identifier: Apache-2.0
"""The programs behind `make fuzz` and `make soak`, for some seconds."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("torch", reason="reads published checkpoints")

pytestmark = [pytest.mark.ros, pytest.mark.slow]


def result_of(repository, tmp_path, program, *arguments):
    file = tmp_path / "result.json"
    command = [sys.executable, "-m", f"benchmarks.{program}", *arguments]
    done = subprocess.run(
        [*command, "--output", str(file)],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(file.read_text(encoding="utf-8"))


def test_fuzz_of_every_kind_finds_nothing(repository, tmp_path):
    kinds = result_of(repository, tmp_path, "fuzz", "--minutes", "0.1")["kinds"]
    assert all(kind["tried"] and not kind["failures"] for kind in kinds.values())


def test_soak_counts_what_it_asks_and_what_comes_back(repository, tmp_path):
    # The lock by which the tests of nodes keep out of one another's domains.
    with (Path(tempfile.gettempdir()) / "vt_ros_test_domain_96.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = result_of(repository, tmp_path, "soak", "--minutes", "0.7", "--domain", "96")
    assert result["answered"] == result["requests"] > 0
    # A status comes for an image, a start or an end of a target, and while no image comes.
    assert 0 < result["statuses"] <= result["images"] + result["requests"]
    assert result["exit_code"] == 0
    assert result["states"]["TRACKING"] > 0
    for name in ("memory_mb", "threads", "descriptors", "shared_memory_mb"):
        assert 0 < result[name]["first"] <= result[name]["largest"]
    assert max(result["memory_mb"]["each_minute"]) <= result["memory_mb"]["largest"]
