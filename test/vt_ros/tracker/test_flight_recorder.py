# SPDX-License-Identifier: Apache-2.0
"""Recordings of a real process, read back from their files."""

from __future__ import annotations

import threading
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
rosbag2 = pytest.importorskip("rosbags.rosbag2")

from std_msgs.msg import Header
from std_srvs.srv import Trigger

from vt_interfaces.msg import TrackStatus
from vt_models.video.bags.messages import Messages
from vt_ros.tracker import flight_recorder
from vt_ros.tracker.current_target import FrameReport
from vt_ros.tracker.flight_recorder import FlightRecorder, RecordingError
from vt_ros.tracker.parameters import SETTINGS, live_settings

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("flights") / "recordings"


@pytest.fixture(scope="module")
def running(shared_ros, tiny_model, folder):
    return shared_ros.start_tracker(
        tiny_model,
        recorder__on_lost=True,
        recorder__directory=str(folder),
        recorder__keep=2,
        locked=[""],
    )


@pytest.fixture
def feed(running, guest, scene):
    feed = guest.feed(scene, qos=50)
    yield feed
    assert running.alive, running.output
    guest.call(Trigger, "tracker/clear_target")


def covered(feed):
    """The status of a frame with a covered lens; no two are alike to the last bit."""
    noise = np.random.default_rng(feed.published).integers(0, 3, (240, 320, 3), dtype=np.uint8)
    return feed.answered(noise)


def recordings(folder):
    return sorted(each for each in folder.glob("*") if not each.name.startswith("."))


def test_loss_is_recorded_with_what_led_to_it(feed, folder):
    assert feed.set_target().success
    feed.move(20)
    feed.ros.until(lambda: covered(feed).state == TrackStatus.STATE_LOST, "the loss")
    (path,) = feed.ros.until(lambda: recordings(folder), "a recording")
    assert path.name.endswith("_target1_lost")
    assert sorted(each.name for each in path.iterdir()) == [
        "contact_sheet.png",
        "metadata.yaml",
        "recording.mcap",
    ]
    sheet = cv2.imread(str(path / "contact_sheet.png"))
    assert min(sheet.shape[:2]) > 300
    assert sum(each.stat().st_size for each in path.iterdir()) < 5_000_000

    types, read = Messages().types, {}
    with rosbag2.Reader(path) as bag:
        for connection, at, data in bag.messages():
            message = types.deserialize_cdr(data, connection.msgtype)
            read.setdefault(connection.topic.removeprefix("/tracker/"), []).append((at, message))
    statuses = [message for _, message in read["status"]]
    assert statuses[-1].state == TrackStatus.STATE_LOST
    assert "dark or covered" in statuses[-1].message
    states = [status.state for status in statuses]
    assert states.count(TrackStatus.STATE_TRACKING) >= 20
    assert states.count(TrackStatus.STATE_COASTING) == 15
    by_stamp = {(s.header.stamp.sec, s.header.stamp.nanosec): s for s in feed.status}
    for status in statuses:
        sent = by_stamp[status.header.stamp.sec, status.header.stamp.nanosec]
        assert (status.state, status.score) == (sent.state, pytest.approx(sent.score))
    assert len(read["crop/compressed"]) == len(read["raw_score"]) == len(statuses)
    crop = cv2.imdecode(np.asarray(read["crop/compressed"][0][1].data), cv2.IMREAD_COLOR)
    assert crop.shape == (112, 112, 3)
    scores = read["score_map"][-1][1]
    assert (scores.encoding, scores.height, scores.width) == ("32FC1", 32, 32)
    values = np.frombuffer(bytes(scores.data), np.float32)
    assert 0.0 <= values.min() <= values.max() <= 1.0
    assert read["detections"][0][1].detections[0].id == "1"


def test_recording_on_demand_answers_with_its_path_and_few_are_kept(feed, folder):
    nothing = feed.ros.call(Trigger, "tracker/save_recording")
    if not nothing.success:  # the test before has left nothing
        assert "nothing was recorded" in nothing.message
    assert feed.set_target().success
    feed.move(5)
    paths = []
    for _ in range(3):
        answer = feed.ros.call(Trigger, "tracker/save_recording")
        while "being written" in answer.message:  # a loss of the test before
            answer = feed.ros.call(Trigger, "tracker/save_recording")
        assert answer.success, answer.message
        paths.append(Path(answer.message))
        assert (paths[-1] / "contact_sheet.png").stat().st_size > 1000
    assert len(set(paths)) == 3
    other = folder / "notes"
    other.mkdir()
    assert feed.ros.call(Trigger, "tracker/save_recording").success
    kept = recordings(folder)
    assert other in kept, "what is not a recording is left alone"
    assert len(kept) == 3
    assert paths[0] not in kept


def test_recording_that_cannot_be_written_is_refused_and_tracking_goes_on(feed, tmp_path):
    assert feed.set_target().success
    (tmp_path / "file").write_text("not a folder")
    feed.ros.set_parameter("recorder.directory", str(tmp_path / "file"))
    feed.move(3)
    answer = feed.ros.call(Trigger, "tracker/save_recording")
    assert not answer.success
    assert str(tmp_path / "file") in answer.message
    feed.assert_on_target(feed.move(1))
    feed.ros.set_parameter("recorder.seconds", 0.0)
    feed.move(1)
    answer = feed.ros.call(Trigger, "tracker/save_recording")
    assert (answer.success, "recorder.seconds is 0" in answer.message) == (False, True)
    assert feed.ros.set_parameter("recorder.seconds", 5.0).successful


def recorder_of(folder, name="/tracker"):
    """A recorder that keeps one frame, and its log."""
    values = {setting.name: setting.default for setting in SETTINGS}
    values["recorder.directory"] = str(folder)
    log = Mock()
    recorder = FlightRecorder(lambda: live_settings(values.__getitem__), name, log)
    state = TrackStatus.STATE_TRACKING
    report = FrameReport(Header(), state, target_id=1, frame=np.zeros((48, 64, 3), np.uint8))
    recorder.record(report, TrackStatus(state=state, target_id=1), None)
    return recorder, log


def test_save_whatever_fails_is_in_the_log(tmp_path, monkeypatch):
    recorder, log = recorder_of(tmp_path)
    monkeypatch.setattr(flight_recorder, "draw_sheet", Mock(side_effect=ValueError("odd numbers")))
    with pytest.raises(RecordingError, match="odd numbers"):
        recorder.save().result(10.0)
    assert "odd numbers" in log.error.call_args[0][0]
    assert recorder.last.startswith("failed")
    assert recordings(tmp_path) == []


def test_save_while_a_recording_is_written_is_refused(tmp_path, monkeypatch):
    recorder, _ = recorder_of(tmp_path)
    go_on, draw = threading.Event(), flight_recorder.draw_sheet

    def wait(*arguments):
        go_on.wait(10.0)
        return draw(*arguments)

    monkeypatch.setattr(flight_recorder, "draw_sheet", wait)
    first = recorder.save()
    with pytest.raises(RecordingError, match="being written"):
        recorder.save()
    go_on.set()
    assert first.result(10.0).is_dir()


def test_recordings_of_trackers_that_share_a_folder_are_told_apart(tmp_path):
    paths = [
        recorder_of(tmp_path, name)[0].save().result(10.0)
        for name in ("/left/tracker", "/right/tracker")
    ]
    assert [path.name.split("_", 3)[3] for path in paths] == [
        "left_tracker_target1_on_demand",
        "right_tracker_target1_on_demand",
    ]
