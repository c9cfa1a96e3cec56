# SPDX-License-Identifier: Apache-2.0
"""The tracking thread on a long-term tracker that only takes notes: order, texts, counting."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from std_msgs.msg import Header

from vt_interfaces.srv import SetTarget
from vt_models import create_long_term_tracker, create_tracker
from vt_models.errors import BackendError, InputError
from vt_models.longterm import LongTermEstimate, LongTermSettings, State
from vt_ros.common.convert import array_to_image, serialised_stamp
from vt_ros.tracker.current_target import RunningModel
from vt_ros.tracker.grounding_thread import GroundingResult
from vt_ros.tracker.image_buffer import BufferedImage, ImageBuffer
from vt_ros.tracker.parameters import RedetectionSettings
from vt_ros.tracker.target_request import FrameRef, TargetRefusedError, TargetRequest
from vt_ros.tracker.text_redetection import TextRedetection
from vt_ros.tracker.tracking_thread import TrackingThread

PATIENCE = 30.0
BOX = (4.0, 5.0, 10.0, 12.0)


class Notes:
    """A long-term tracker that takes notes of its calls; a frame is told by its first pixel."""

    def __init__(self, broken=None):
        self.calls, self.settings = [], None
        self.failing = self.failing_to_miss = None
        self.estimate = LongTermEstimate(None, 0.0, State.IDLE)
        self.hold, self.updating = threading.Event(), threading.Event()
        self.hold.set()
        self._broken = broken

    @property
    def state(self):
        return self.estimate.state

    def init(self, frame, box, text=None, stamp=None):  # noqa: ARG002
        if self._broken:
            raise self._broken
        self.calls.append(("init", int(frame[0, 0, 0]), box, text))
        self.estimate = LongTermEstimate(tuple(box), 1.0, State.TRACKING)
        return self.estimate

    def update(self, frame, stamp=None):  # noqa: ARG002
        self.updating.set()
        assert self.hold.wait(PATIENCE)
        if self.failing:
            raise self.failing
        self.calls.append(("update", int(frame[0, 0, 0])))
        self.estimate = replace(self.estimate, score=0.5)
        return self.estimate

    def missed(self, stamp=None, reason=""):  # noqa: ARG002
        if self.failing_to_miss:
            raise self.failing_to_miss
        self.calls.append(("missed", reason))
        self.estimate = replace(self.estimate, state=State.COASTING, reason=reason)
        return self.estimate

    def lose(self, reason=""):
        self.calls.append(("lose", reason))
        self.estimate = LongTermEstimate(None, 0.0, State.LOST, reason=reason)
        return self.estimate

    def clear(self):
        self.estimate = LongTermEstimate(None, 0.0, State.IDLE)


@dataclass
class Live:
    target: LongTermSettings
    max_megapixels: float = 64.0


class Worker:
    """A running tracking thread and what it has published."""

    def __init__(self, tracker=None, redetection=None):
        self.notes, self.reports, self.errors = tracker or Notes(), [], []
        self.failing_to_publish = []
        self._published = threading.Condition()
        self._offered = 0
        self.tracking = TrackingThread(
            RunningModel(self.notes, has_language_input=redetection is None),
            ImageBuffer(60.0, 1 << 24),
            lambda: Live(LongTermSettings()),
            self._publish,
            self,
            redetection,
        )
        self.tracking.start()

    def error(self, message, *, throttle_duration_sec=0.0):  # noqa: ARG002
        self.errors.append(message)
        return True

    def _publish(self, report):
        if self.failing_to_publish:
            raise self.failing_to_publish.pop()
        with self._published:
            self.reports.append(replace(report, frame=None))
            self._published.notify_all()

    def offer(self, number):
        """An image of stamp `number` seconds whose pixels have that value."""
        pixels = np.full((40, 60, 3), number, np.uint8)
        message = serialize_message(array_to_image(pixels, Header(stamp=Time(sec=number))))
        assert serialised_stamp(message) == number * 10**9
        self._offered += 1
        self.tracking.offer(BufferedImage(self._offered, message, time.monotonic(), number * 10**9))

    def report(self, number):
        """The last report on the image of a stamp, once there is one."""

        def found():
            return [r for r in self.reports if r.header.stamp.sec == number]

        with self._published:
            assert self._published.wait_for(found, PATIENCE), self.errors
            return found()[-1]

    def send(self, number):
        self.offer(number)
        return self.report(number)

    def start(self, text="", stamp=0):
        request = TargetRequest(BOX, text, FrameRef(stamp, PATIENCE))
        return self.tracking.set_target(request).result(PATIENCE)

    def hold(self, stamp=0):
        return self.tracking.hold(FrameRef(stamp, PATIENCE)).result(PATIENCE)


class Desk:
    """Takes jobs for the grounding thread, and leaves them to the test."""

    def __init__(self):
        self.jobs = []

    def submit(self, job):
        self.jobs.append(job)
        return job.result


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    worker.notes.hold.set()
    worker.tracking.stop()
    assert not worker.errors


def test_start_with_text_gives_it_to_a_model_with_language_input(worker):
    worker.send(1)
    worker.start(text="the red car")
    worker.start()
    assert worker.notes.calls == [
        ("init", 1, BOX, "the red car"),
        ("init", 1, BOX, None),
    ]


def test_start_on_a_past_frame_catches_up(worker):
    for number in range(1, 6):
        assert worker.send(number).state == State.IDLE
    started = worker.start(stamp=2 * 10**9)
    assert started.header.stamp.sec == 2
    report = worker.send(6)
    assert worker.notes.calls == [("init", 2, BOX, None), *(("update", n) for n in range(3, 7))]
    assert worker.report(5).state == State.TRACKING, "the newest frame is reported once more"
    assert (report.counters.processed, report.counters.dropped) == (6, 0)


def test_catch_up_tracks_frames_that_arrive_meanwhile_once(worker):
    for number in (1, 2):
        worker.send(number)
    worker.notes.hold.clear()
    answer = worker.tracking.set_target(TargetRequest(BOX, frame=FrameRef(10**9, PATIENCE)))
    assert worker.notes.updating.wait(PATIENCE)
    for number in (3, 4):  # while frame 2 is being caught up
        worker.offer(number)
    worker.notes.hold.set()
    answer.result(PATIENCE)
    assert worker.report(4).state == State.TRACKING
    last = worker.send(5)
    tracked = [call[1] for call in worker.notes.calls if call[0] == "update"]
    assert tracked == [2, 3, 4, 5]
    counters = last.counters
    assert counters.processed + counters.dropped + counters.rejected == 5


@pytest.mark.parametrize("ends", ["cleared", "stopped"])
def test_catch_up_ends_when_the_target_is_cleared_or_the_thread_stopped(worker, ends):
    for number in range(1, 12):
        worker.send(number)
    before = len(worker.reports)
    worker.notes.hold.clear()
    started = worker.start(stamp=2 * 10**9)
    assert worker.notes.updating.wait(PATIENCE)
    if ends == "cleared":
        assert worker.tracking.clear_target() == started.target_id
        worker.notes.hold.set()
        assert worker.send(12).state == State.IDLE
    else:
        stopping = threading.Thread(target=worker.tracking.stop)
        stopping.start()
        worker.notes.hold.set()
        stopping.join(PATIENCE)
        assert not stopping.is_alive()
    updates = [call for call in worker.notes.calls if call[0] == "update"]
    assert updates == [("update", 3)]
    said = [(report.message, report.state) for report in worker.reports[before:]]
    assert said[0] == ("target 1 set", State.TRACKING)
    assert [state for _, state in said[1:]] == [State.IDLE] * (ends == "cleared")


def test_change_model_starts_it_on_the_last_box_of_the_newest_frame(worker):
    worker.send(1)
    worker.start(text="the red car")
    worker.send(2)
    for has_language_input, text in ((True, "the red car"), (False, None)):
        other = Notes()
        assert (
            worker.tracking.change_model(RunningModel(other, has_language_input)).result(PATIENCE)
            is None
        )
        assert other.calls == [("init", 2, BOX, text)]
    assert worker.send(3).target_id == 1
    assert other.calls[-1] == ("update", 3)
    assert ("update", 3) not in worker.notes.calls


def test_change_model_while_lost_starts_it_as_the_target_was_given_and_lost(worker):
    worker.send(1)
    worker.start()
    worker.send(2)
    worker.notes.lose()
    other = Notes()
    worker.tracking.change_model(RunningModel(other)).result(PATIENCE)
    assert other.calls[0][:2] == ("init", 1)
    assert other.calls[1][0] == "lose"


@pytest.mark.parametrize("error", [InputError("no"), BackendError("no")])
def test_change_model_that_fails_leaves_the_previous_model_at_work(worker, error):
    worker.send(1)
    worker.start()
    with pytest.raises(type(error)):
        worker.tracking.change_model(RunningModel(Notes(broken=error))).result(PATIENCE)
    assert worker.send(2).state == State.TRACKING
    assert worker.notes.calls[-1] == ("update", 2)


def test_change_model_without_a_target_starts_nothing(worker):
    worker.send(1)
    other = Notes(broken=InputError("must not be asked"))
    assert worker.tracking.change_model(RunningModel(other)).result(PATIENCE) is None


def test_newest_image_is_next_and_the_others_are_dropped(worker):
    """However slow the network is, a frame waits for one inference at most."""
    worker.send(1)
    worker.start()
    worker.notes.hold.clear()
    worker.offer(2)
    assert worker.notes.updating.wait(PATIENCE)
    for number in range(3, 12):
        worker.offer(number)
    worker.notes.hold.set()
    counters = worker.report(11).counters
    tracked = [call[1] for call in worker.notes.calls if call[0] == "update"]
    assert tracked == [2, 11]
    assert (counters.processed, counters.dropped) == (3, 8)


def test_start_with_text_gives_none_to_a_model_without_language_input(worker):
    worker.send(1)
    other = Notes()
    worker.tracking.change_model(RunningModel(other)).result(PATIENCE)
    worker.start(text="the red car")
    assert other.calls == [("init", 1, BOX, None)]


def test_start_in_a_held_frame_catches_up_through_its_backlog(worker):
    """Also when the frame buffer has dropped the frames in between long ago."""
    worker.send(1)
    backlog = worker.hold()
    for number in range(2, 90, 4):
        worker.send(number)
    assert not worker.notes.calls, "a frame that is held starts nothing"
    started = worker.tracking.set_target(TargetRequest(BOX, frame=backlog)).result(PATIENCE)
    assert started.header.stamp.sec == 1
    worker.send(90)
    assert worker.notes.calls[0] == ("init", 1, BOX, None)
    tracked = [call[1] for call in worker.notes.calls[1:]]
    assert tracked[-2:] == [86, 90]
    assert tracked == sorted(tracked)
    assert tracked[0] < 20, "no leap at the beginning"
    worker.tracking.release(backlog)


def test_request_can_be_cancelled_until_its_frame_is_there(worker):
    waiting = worker.tracking.set_target(TargetRequest(BOX, frame=FrameRef(5 * 10**9, PATIENCE)))
    worker.send(1)
    assert waiting.cancel()
    worker.send(5)
    assert not worker.notes.calls
    assert worker.start().target_id == 1


def test_requests_that_wait_together_start_the_last_good_one(worker):
    """A hundred starts of several network calls each would keep the frames waiting for seconds."""
    worker.send(1)
    tiny = TargetRequest((3.0, 3.0, 1.0, 1.0), frame=FrameRef(2 * 10**9, PATIENCE))
    good = TargetRequest(BOX, frame=FrameRef(2 * 10**9, PATIENCE))
    answers = [worker.tracking.set_target(request) for request in (good, good, good, tiny)]
    worker.offer(2)
    codes = []
    for answer in answers:
        try:
            codes.append(answer.result(PATIENCE).target_id)
        except TargetRefusedError as refusal:
            codes.append(refusal.code)
    code = SetTarget.Response
    assert codes == [code.ERROR_CANCELLED, code.ERROR_CANCELLED, 1, code.ERROR_INVALID_BOX]
    assert worker.notes.calls == [("init", 2, BOX, None)]


def test_start_with_a_failing_tracker_is_answered(worker):
    worker.send(1)
    worker.tracking.change_model(RunningModel(Notes(broken=ZeroDivisionError("odd")))).result(
        PATIENCE
    )
    with pytest.raises(
        TargetRefusedError, match="tracker failed: ZeroDivisionError: odd"
    ) as refusal:
        worker.start()
    assert refusal.value.code == SetTarget.Response.ERROR_INTERNAL


class PanicError(BaseException):
    """As a panic of a Rust library arrives: no Exception."""


@pytest.mark.parametrize("error", [BackendError("no GPU"), OverflowError("34"), PanicError("odd")])
def test_frame_that_fails_is_a_missed_one_with_a_status(worker, error):
    worker.send(1)
    worker.start()
    worker.notes.failing = error
    report = worker.send(2)
    assert (report.state, report.box) == (State.COASTING, BOX)
    assert str(error) in report.failure
    assert report.message == f"tracker failed: {report.failure}"
    worker.notes.failing_to_miss = MemoryError("none left")
    report = worker.send(3)
    assert (report.state, report.box) == (State.LOST, None), "nothing is known any more"
    assert "MemoryError: none left" in report.message
    worker.notes.failing = worker.notes.failing_to_miss = None
    report = worker.send(4)
    assert (report.failure, report.counters.processed) == ("", 4)
    assert worker.notes.calls[-1] == ("update", 4)


def test_failure_between_answer_and_status_leaves_requests_and_frames_alone():
    """The request was answered, so it must be off the list, whatever fails then."""
    worker = Worker()
    worker.send(1)
    worker.failing_to_publish.append(ValueError("no status"))
    worker.start()
    assert worker.send(2).target_id == 1
    worker.failing_to_publish += [ValueError("no status")] * 2
    later = worker.tracking.set_target(TargetRequest(BOX, frame=FrameRef(3 * 10**9, PATIENCE)))
    worker.offer(3)
    assert later.result(PATIENCE).target_id == 2, "requests are served although the frame failed"
    assert worker.send(4).target_id == 2
    waiting = worker.tracking.set_target(TargetRequest(BOX, frame=FrameRef(9 * 10**9, PATIENCE)))
    worker.tracking.stop()
    with pytest.raises(TargetRefusedError, match="deactivated"):
        waiting.result(PATIENCE)
    assert any("ValueError: no status" in error for error in worker.errors)


def test_suggestion_that_fails_costs_no_frame():
    """A description is a help for a lost target, and no more."""

    class Broken:
        def start(self, text):
            pass

        def suggestion(self, image, state):
            raise PanicError(f"{image.number} {state.name}")

    worker = Worker(redetection=Broken())
    worker.send(1)
    worker.start()
    assert worker.send(2).state == State.TRACKING
    worker.tracking.stop()
    assert worker.errors == ["re-detection by description failed: PanicError: 2 TRACKING"]


def test_start_on_a_box_of_one_pixel_is_refused(worker):
    worker.send(1)
    request = TargetRequest((3.0, 3.0, 1.0, 1.0), frame=FrameRef(0, PATIENCE))
    with pytest.raises(TargetRefusedError, match="box is 1x1 pixels") as refusal:
        worker.tracking.set_target(request).result(PATIENCE)
    assert refusal.value.code == SetTarget.Response.ERROR_INVALID_BOX
    assert not worker.notes.calls


def test_suggestion_outside_the_frame_is_ignored_and_the_frame_counts():
    """As when images have become smaller while the description was searched for."""
    desk, outside = Desk(), (200.0, 10.0, 20.0, 20.0)
    tracker = create_long_term_tracker(create_tracker("asymtrack_lite0"))
    redetection = TextRedetection(desk.submit, lambda: RedetectionSettings(5.0, verify=False))
    worker = Worker(tracker, redetection)
    worker.send(1)
    worker.start(text="the red car")
    tracker.lose()
    assert worker.send(2).state == State.LOST
    with pytest.raises(InputError):
        tracker.suggest(outside)
    desk.jobs[0].result.set_result(GroundingResult(outside, 0.9, (), "", Header()))
    report = worker.send(3)
    worker.tracking.stop()
    assert (report.state, report.counters.processed) == (State.LOST, 3)
    assert not worker.errors


def test_request_without_a_box_is_an_error(worker):
    with pytest.raises(ValueError, match="text 'the red car' has none yet"):
        worker.tracking.set_target(TargetRequest(text="the red car"))


def test_reports_name_the_model_at_work(worker):
    assert worker.send(1).model == ""
    model = RunningModel(Notes(), name="other", reason="it is fast")
    worker.tracking.change_model(model).result(PATIENCE)
    report = worker.send(2)
    assert (report.model, report.model_reason) == ("other", "it is fast")
