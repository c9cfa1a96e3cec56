# SPDX-License-Identifier: Apache-2.0
"""The demo as a user runs it."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from vt_models import get_spec
from vt_models.geometry.boxes import iou
from vt_models.runtime.installed_weights import bundled_directory
from vt_ros.common.resources import footage_file
from vt_ros.demo import composed_clip, demonstration
from vt_ros.demo.demonstration import main
from vt_ros.demo.recording import Summary


def test_demo_refuses_arguments_that_do_not_fit_together(capsys):
    for arguments in (["--box", "1,2,3"], ["--video", "film.mp4"], ["--box", "1,2,3,4"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "--video needs --box or --text" in said
    assert "give --video, too" in said


@pytest.mark.parametrize(
    ("missed", "last_state", "arguments", "rates"),
    [
        (150, "LOST", [], [0.0, 2.1]),  # too slow for the video: once more, slower
        (150, "TRACKING", [], [0.0]),  # kept all the same
        (20, "LOST", [], [0.0]),  # fast enough: the target was really lost
        (150, "LOST", ["--rate", "9"], [9.0]),  # the user's choice stays
    ],
)
def test_demo_is_shown_slower_where_the_machine_skipped_most_frames(
    monkeypatch, tmp_path, capsys, missed, last_state, arguments, rates
):
    asked = []

    def run(parsed):
        asked.append(parsed.rate)
        again = len(asked) > 1
        state = "TRACKING" if again else last_state
        return Summary(22, 0 if again else missed, 3.0, 9, 9, 9, 0.5, {state: 22}, state)

    monkeypatch.setattr(demonstration, "run", run)
    code = main(["--output", str(tmp_path), *arguments])
    assert asked == pytest.approx(rates)
    assert (code == 0) == (last_state == "TRACKING" or len(rates) == 2)
    assert ("once more at 2.1 a second" in capsys.readouterr().err) == (len(rates) == 2)


@pytest.fixture
def film(tmp_path, scene):
    """60 frames of a moving square; then, for 30 frames, without it."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, scene.size)
    for step in range(90):
        frame = scene.frame(step) if step < 60 else scene.empty()
        writer.write(frame[:, :, ::-1])
    writer.release()
    return path


def demo(*arguments, **options):
    command = [sys.executable, "-m", "vt_ros.demo", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=200, check=False, **options
    )


def rows_of(folder):
    with (folder / "track.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_demo_without_its_footage_says_what_to_do(monkeypatch, tmp_path, capsys):
    """As `ros2 run vt_ros demo` in a workspace, where nothing has brought the footage."""
    monkeypatch.setattr("vt_ros.common.resources._pip_share", lambda: tmp_path / "share")
    assert main(["--output", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "bikes.mp4 does not exist" in said
    assert "run `make demo` in the repository" in said
    assert "--video FILE with --box X,Y,W,H" in said


@pytest.mark.ros
def test_demo_follows_a_target_from_an_exact_frame(film, scene, tiny_model, tmp_path):
    box = ",".join(map(str, scene.box(5)))
    result = demo(
        *("--video", film, "--box", box, "--start-frame", 5, "--stop-frame", 55),
        *("--weights", tiny_model, "--output", tmp_path / "out"),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    for word in ("frames", "latency", "p50", "p99", "TRACKING at the end"):
        assert word in result.stdout
    rows = rows_of(tmp_path / "out")
    assert int(rows[0]["frame"]) == 5
    assert int(rows[-1]["frame"]) == 54
    for entry in rows:
        found = [float(entry[name]) for name in "xywh"]
        assert np.abs(np.subtract(found, scene.box(int(entry["frame"])))).max() <= 8.0, entry
    for name in ("tracked.mp4", "contact_sheet.png"):
        assert (tmp_path / "out" / name).stat().st_size > 10_000


@pytest.mark.ros
def test_demo_finds_a_target_by_text(film, scene, tiny_model, grounder, tmp_path):
    """As `make demo TEXT="..."` starts it."""
    result = demo(
        *("--video", film, "--text", "the red square", "--stop-frame", 30),
        *("--grounding", "onnx", "--grounding-source", grounder),
        *("--weights", tiny_model, "--output", tmp_path / "out"),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "found 'the red square' with score" in result.stderr
    last = rows_of(tmp_path / "out")[-1]
    found = [float(last[name]) for name in "xywh"]
    assert np.abs(np.subtract(found, scene.box(int(last["frame"])))).max() <= 10.0


@pytest.mark.ros
def test_demo_says_when_the_target_was_lost(film, scene, tiny_model, tmp_path):
    box = ",".join(map(str, scene.box(40)))
    result = demo(
        *("--video", film, "--box", box, "--start-frame", 40, "--rate", 15.0),
        *("--weights", tiny_model, "--output", tmp_path / "out"),
    )
    assert result.returncode == 1, result.stdout + result.stderr
    assert "not kept" in result.stderr
    assert rows_of(tmp_path / "out")[-1]["state"] == "LOST"


@pytest.mark.ros
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--model", "asymtrack_lite9"], "no model called 'asymtrack_lite9'"),
        (["--box", "900,900,20,20"], "outside the 320x240 frame"),
        (["--start-frame", "500"], "has 90 frames"),
        (["--text", "it", "--grounding", "none"], "asymtrack_lite0 takes no text"),
    ],
)
def test_demo_that_cannot_run_says_why(film, tiny_model, tmp_path, arguments, reason):
    given = ["--video", film, "--box", "10,10,40,40", "--weights", tiny_model]
    result = demo(*given, "--output", tmp_path / "out", *arguments)
    assert result.returncode == 1
    assert reason in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.ros
def test_demo_without_a_grounding_backend_says_what_to_install(film, tmp_path):
    result = demo(
        *("--video", film, "--text", "the cyclist", "--output", tmp_path / "out"),
        *("--grounding", "zero_shot", "--grounding-source", tmp_path / "checkpoint"),
    )
    assert result.returncode == 1
    assert "the grounding backend zero_shot cannot be loaded: " in result.stderr
    assert "--grounding-source" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.ros
def test_demo_ends_its_nodes_when_interrupted(film, tiny_model, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "vt_ros.demo", "--video", str(film), "--rate", "1.0"]
    command += ["--box", "10,10,40,40", "--weights", str(tiny_model), "--output", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    end = time.monotonic() + 100.0
    log = out / "tracker.log"
    while not (log.is_file() and "target 1 set" in log.read_text()):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert b"Traceback" not in output
    for name in ("tracker", "camera"):
        assert "Traceback" not in (out / f"{name}.log").read_text()
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert str(film) not in listing.stdout


def bundled(name):
    """Arguments for a clip of the demonstration, if weights and footage for it are here."""
    if bundled_directory(get_spec("asymtrack_lite0")) is None:
        pytest.skip("no weights of asymtrack_lite0 are here")
    if not footage_file("bikes.mp4").is_file():
        pytest.skip("the footage is not here; `make demo` brings it")
    return ["--clip", name]


@pytest.mark.ros
def test_demo_keeps_the_face_with_the_bundled_weights(tmp_path):
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    result = demo(*bundled("face"), "--output", tmp_path, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    assert {entry["state"] for entry in rows_of(tmp_path)} == {"TRACKING"}


@pytest.mark.ros
def test_demo_by_text_loses_and_finds_the_cyclist_with_the_bundled_weights(tmp_path):
    """Traffic hides him, the view swings away and back; as `make demo TEXT="the cyclist"`."""
    result = demo(*bundled("cyclist"), "--text", "the cyclist", "--output", tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = rows_of(tmp_path)
    first, last = (tuple(float(rows[k][name]) for name in "xywh") for k in (0, -1))
    assert float(iou(first, composed_clip.BOX)) > 0.5
    states = {int(entry["frame"]): entry["state"] for entry in rows}
    assert states[0] == "TRACKING"
    gone = [*composed_clip.HIDDEN, *composed_clip.AWAY]
    assert "TRACKING" not in {states.get(frame) for frame in gone}
    assert "LOST" in {states.get(frame) for frame in composed_clip.AWAY}
    between = range(composed_clip.HIDDEN.stop, composed_clip.AWAY.start)
    assert "TRACKING" in {states.get(frame) for frame in between}
    # His shoulders in the last frame, read off the image.
    x, y, w, h = last
    assert x < 110
    assert x + w > 160
    assert y < 50
    assert y + h > 150
