# SPDX-License-Identifier: Apache-2.0
"""`vt-models eval` killed in the middle, and run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("ctrl_c_counts")]

SEQUENCES, FRAMES = 6, 40
MODEL = "asymtrack_lite0"
TIMES = ("ms_per_frame",)


@pytest.fixture
def root(tmp_path):
    """Squares that cross a noisy image, long enough to be killed in the middle."""
    rng = np.random.default_rng(3)
    for number in range(SEQUENCES):
        folder = tmp_path / "data" / f"s{number}"
        (folder / "img").mkdir(parents=True)
        background = rng.integers(0, 160, (120, 160, 3), np.uint8)
        lines = []
        for frame in range(FRAMES):
            x, y = 20 + frame, 30 + 5 * number
            image = background.copy()
            cv2.rectangle(image, (x, y), (x + 24, y + 24), (60, 220, 240), cv2.FILLED)
            assert cv2.imwrite(str(folder / "img" / f"{frame + 1:06d}.jpg"), image)
            lines.append(f"{x},{y},25,25")
        (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


def start(root, output, *options):
    command = [sys.executable, "-m", "vt_models", "eval", "--model", MODEL, "--json"]
    command += ["--dataset", "folder", "--root", str(root), "--output", str(output), *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out), err


def without_times(report):
    """The report with all that depends on the machine's mood removed."""
    if isinstance(report, dict):
        return {name: without_times(one) for name, one in report.items() if name not in TIMES}
    return report


def wait_for_the_first_sequence(process, kept):
    deadline = time.monotonic() + 60
    while not list(kept.glob("[!.]*.npz")):
        assert process.poll() is None, "it was over before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_for_the_group(group):
    """Until the processes that the killed one had started are gone, too."""
    deadline = time.monotonic() + 60
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < deadline, "processes go on without their parent"
        time.sleep(0.05)


def test_a_killed_evaluation_goes_on_and_ends_as_if_nothing_had_been(root, tmp_path):
    """Two processes, killed and resumed, give what one process gives that is left alone."""
    kept = tmp_path / "out" / MODEL / "kept"
    process = start(root, tmp_path / "out", "--jobs", "2")
    wait_for_the_first_sequence(process, kept)
    process.kill()
    process.communicate()
    wait_for_the_group(process.pid)
    before = {path.name: path.stat().st_mtime_ns for path in kept.glob("[!.]*.npz")}
    assert 0 < len(before) < SEQUENCES, "killed in the middle"
    assert not (tmp_path / "out" / "report.html").exists()

    report, err = finish(start(root, tmp_path / "out", "--jobs", "2"))
    assert f"{len(before)} of {SEQUENCES} sequences are kept" in err
    after = {path.name: path.stat().st_mtime_ns for path in kept.glob("[!.]*.npz")}
    assert len(after) == SEQUENCES
    assert {name: after[name] for name in before} == before, "not run again"

    whole, _ = finish(start(root, tmp_path / "whole", "--jobs", "1"))
    assert without_times(report) == without_times(whole)
    for number in range(SEQUENCES):
        one, other = (tmp_path / name / MODEL / f"s{number}.txt" for name in ("out", "whole"))
        assert one.read_text() == other.read_text()


def test_ctrl_c_ends_all_processes_in_one_line(root, tmp_path):
    kept = tmp_path / "out" / MODEL / "kept"
    process = start(root, tmp_path / "out", "--jobs", "2")
    wait_for_the_first_sequence(process, kept)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert err.endswith("vt-models: error: interrupted\n")
    wait_for_the_group(process.pid)
