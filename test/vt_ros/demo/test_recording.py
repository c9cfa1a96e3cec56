# SPDX-License-Identifier: Apache-2.0
"""What a recording leaves behind: a video, a table, a contact sheet, and a summary."""

from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest

from vt_models.video.sources import VideoFile
from vt_ros.demo.recording import Recorder, Row, summarise


def row(frame, state="TRACKING", score=0.9, box=(10.0, 10.0, 20.0, 20.0)):
    return Row(frame, 1_000_000_000 + frame * 40_000_000, state, box, score, 5.0, float(frame))


def test_summarise_rows():
    rows = [row(7), row(8, score=0.3), row(10), row(11, state="LOST", box=None)]
    summary = summarise(rows)
    assert (summary.frames, summary.missed) == (4, 1)
    assert summary.states == {"TRACKING": 3, "LOST": 1}
    assert summary.fps == pytest.approx(3 / 0.16)
    assert summary.latency_p50 == pytest.approx(9.0)
    assert summary.inference_p50 == 5.0
    assert summary.lowest_score == 0.3
    assert summary.last_state == "LOST"
    assert not summary.good
    assert summarise(rows[:3]).good
    assert not summarise([]).good


def test_recorder_writes_video_table_and_sheet(tmp_path):
    recorder = Recorder(tmp_path / "out", 25.0)
    frame = np.full((120, 160, 3), 90, np.uint8)
    frame.setflags(write=False)
    for number in range(30):
        recorder.add(row(number) if number else row(0, state="LOST", box=None), frame)
    assert recorder.close().frames == 30
    video = VideoFile(tmp_path / "out" / "tracked.mp4")
    assert (video.count, video.fps) == (30, 25.0)
    video.close()
    with (tmp_path / "out" / "track.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(entry["frame"]) for entry in rows] == list(range(30))
    assert (rows[0]["state"], rows[0]["x"]) == ("LOST", "")
    assert (rows[1]["state"], float(rows[1]["w"])) == ("TRACKING", 20.0)
    sheet = cv2.imread(str(tmp_path / "out" / "contact_sheet.png"))
    assert sheet.shape == (3 * 364 + 4, 4 * 484 + 4, 3)


def test_recorder_video_keeps_its_time_where_frames_were_not_processed(tmp_path):
    recorder = Recorder(tmp_path, 25.0)
    for number in (3, 4, 9):
        recorder.add(row(number), np.full((120, 160, 3), 20 * number, np.uint8))
    recorder.close()
    corners = [int(frame[-1, -1, 0]) for frame in VideoFile(tmp_path / "tracked.mp4")]
    assert corners == pytest.approx([60, 80, 80, 80, 80, 80, 180], abs=4)


def test_recorder_of_a_long_video_holds_few_tiles(tmp_path):
    recorder = Recorder(tmp_path, 25.0)
    for number in range(1000):
        recorder.add(row(number), np.zeros((16, 32, 3), np.uint8))
    assert len(recorder._tiles) <= 240
    recorder.close()
