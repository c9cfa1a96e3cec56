# SPDX-License-Identifier: Apache-2.0
"""Targets by text or by a point: real processes, a real backend from real files."""

from __future__ import annotations

import math
import signal
import threading

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("tokenizers", reason="a text needs tokenizers")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Point2D

from vt_interfaces.msg import TrackStatus
from vt_interfaces.srv import SetTarget
from vt_models import create_miniature, get_spec
from vt_models.geometry.boxes import iou
from vt_ros.common.convert import array_to_image, stamp_nanoseconds, xywh_from_bounding_box

pytestmark = pytest.mark.ros

Ask, Answer = SetTarget.Request, SetTarget.Response
RED = {"mode": Ask.MODE_TEXT, "text": "the red square"}


@pytest.fixture(scope="module")
def running(shared_ros, tiny_model, grounder):
    """One tracker on a model without language; its past frames reach back half a second only."""
    return shared_ros.start_tracker(
        tiny_model,
        set_target_timeout=5.0,
        grounding__backend="onnx",
        grounding__source=str(grounder),
        frame_buffer__seconds=0.5,
        image_qos__reliability="reliable",
        image_qos__depth=5,
        locked=[""],
    )


@pytest.fixture
def feed(running, guest, scene, grounder):
    feed = guest.feed(scene, qos=50)
    feed.diagnostics, feed.grounder = guest.diagnostics(), grounder
    yield feed
    assert running.alive, running.output
    assert "Traceback" not in running.output
    guest.call(Trigger, "tracker/clear_target")


@pytest.fixture
def use(feed, grounder):
    """Use another backend for one test."""

    def use(backend="onnx", source=""):
        values = {"grounding.backend": backend, "grounding.source": str(source)}
        assert feed.ros.set_parameters(values, atomically=True).result.successful

    yield use
    use(source=grounder)


def boxes(detections):
    return [xywh_from_bounding_box(item.bbox) for item in detections.detections]


def near(box, true, pixels=8.0):
    return np.abs(np.subtract(box, true)).max() <= pixels


def refused(answer, code):
    assert (answer.success, answer.error_code, answer.target_id) == (False, code, 0), answer
    assert answer.message
    return answer.message


def test_text_starts_on_what_it_describes(feed):
    """The tracker says what it chose and how sure it is; a model without language goes on."""
    seen = feed.move(5)
    answer = feed.ros.call(SetTarget, "tracker/set_target", feed.request(**RED))
    assert answer.success, answer.message
    assert answer.header == seen.header
    assert near(xywh_from_bounding_box(answer.box), feed.scene.box(feed.step))
    assert 0.7 < answer.score <= 1.0
    assert "onnx" in answer.message
    assert not answer.alternatives.detections
    feed.assert_on_target(feed.move(5), pixels=8.0)
    assert feed.status[-1].target_id == answer.target_id
    feed.ros.until_diagnosed(feed.diagnostics, "grounding", "onnx", level=DiagnosticStatus.OK)


def test_text_with_a_weaker_candidate_names_it(feed):
    """A paler square fits less well: it is named, but not taken."""
    frame = feed.scene.with_another(feed.step, (10, 10), colour=(220, 57, 50))
    feed.answered(frame)
    answer = feed.ros.call(SetTarget, "tracker/set_target", feed.request(**RED))
    assert answer.success, answer.message
    assert near(xywh_from_bounding_box(answer.box), feed.scene.box(feed.step))
    (other,) = answer.alternatives.detections
    assert near(xywh_from_bounding_box(other.bbox), (10, 10, 48, 48))
    assert other.results[0].hypothesis.class_id == "candidate"
    assert 0.7 < other.results[0].hypothesis.score < answer.score
    assert answer.alternatives.header == answer.header


def test_box_and_text_starts_on_the_box(feed):
    """The box starts, the text need not fit; a LOST target is searched for by it, too."""
    ros = feed.ros
    assert ros.set_parameter("grounding.period", 0.1).successful
    answer = feed.set_target(mode=Ask.MODE_BOX_AND_TEXT, text="the red one")
    assert answer.success, answer.message
    assert xywh_from_bounding_box(answer.box) == feed.scene.box(feed.step)
    assert (answer.score, answer.message) == (1.0, "")
    feed.assert_on_target(feed.move(3))
    for _ in range(20):
        lost = feed.answered(feed.scene.empty())
    assert lost.state == TrackStatus.STATE_LOST

    def description_was_searched():
        feed.answered(feed.scene.empty())
        last = ros.values(feed.diagnostics, "grounding").get("last search", "")
        return "nothing" in last and "the red one" in last

    ros.until(description_was_searched, "a search for the description of a LOST target")
    assert feed.until_tracked().target_id == answer.target_id
    assert ros.set_parameter("grounding.period", 5.0).successful


def test_text_that_fits_two_is_refused_with_both(feed):
    """Both candidates are in the answer; one of them, with its stamp, is the next request."""
    target = feed.set_target().target_id
    twins = feed.scene.with_another(feed.step, (10, 10))
    seen = feed.answered(twins)
    answer = feed.ros.call(SetTarget, "tracker/set_target", feed.request(**RED))
    assert "ambiguous: 2 candidates" in refused(answer, Answer.ERROR_AMBIGUOUS)
    assert answer.header == seen.header
    found = sorted(boxes(answer.alternatives))
    assert near(found[0], (10, 10, 48, 48))
    assert near(found[1], feed.scene.box(feed.step))
    assert feed.answered(twins).target_id == target, "the present target stays"
    choice = feed.request(
        found[1], mode=Ask.MODE_BOX_AND_TEXT, text=RED["text"], stamp=answer.header.stamp
    )
    answer = feed.ros.call(SetTarget, "tracker/set_target", choice)
    assert answer.success, answer.message
    assert near(boxes(feed.detection(feed.move(1)))[0], feed.scene.box(feed.step))


@pytest.mark.parametrize("has_verification", [True, False])
def test_lost_target_with_text_and_a_distractor_where_it_was(feed, has_verification):
    """The text fits the true one elsewhere in the image; without it the distractor is taken."""
    ros = feed.ros
    values = {
        "grounding.verify": has_verification,
        "grounding.period": 0.2 if has_verification else 0.0,
    }
    assert ros.set_parameters(values, atomically=True).result.successful
    target = feed.set_target(**RED).target_id
    feed.until_tracked()
    x, y, _, _ = map(int, feed.scene.box(feed.step))
    ros.until(lambda: feed.answered(feed.scene.empty()).state == TrackStatus.STATE_LOST, "LOST")
    feed.step += 90

    def found():
        """Where it says that the target is, measured."""
        status = feed.answered(feed.scene.with_another(feed.step, (x, y), colour=(220, 57, 50)))
        assert status.target_id == target
        measured = status.state in (TrackStatus.STATE_TRACKING, TrackStatus.STATE_UNCERTAIN)
        return boxes(feed.detection(status))[0] if measured else None

    expected = feed.scene.box(feed.step) if has_verification else (x, y, 48, 48)
    for _ in range(6):
        assert near(ros.until(found, "the target again"), expected, pixels=20.0)
    values = {"grounding.verify": True, "grounding.period": 5.0}
    assert ros.set_parameters(values, atomically=True).result.successful


def test_text_that_fits_nothing_is_refused(feed):
    target = feed.set_target().target_id
    answer = feed.set_target(mode=Ask.MODE_TEXT, text="a green bird")
    message = refused(answer, Answer.ERROR_NOTHING_FOUND)
    assert "threshold" in message
    assert "a green bird" in message
    status = feed.move(2)
    feed.assert_on_target(status)
    assert status.target_id == target
    assert feed.ros.set_parameter("grounding.threshold", 0.999).successful
    refused(feed.set_target(**RED), Answer.ERROR_NOTHING_FOUND)
    assert feed.ros.set_parameter("grounding.threshold", 0.0).successful


def test_search_is_cancelled_by_a_request_a_clear_and_a_deactivation(feed, use, slow_grounder):
    """By a later request, by clear_target, by deactivation: answered at once, saying by what.

    A search that takes too long is refused.
    """
    use(source=slow_grounder)
    ros = feed.ros

    def ask(**fields):
        feed.answered()
        return ros.call_async(SetTarget, "tracker/set_target", feed.request(**fields))

    def busy():
        ros.until_diagnosed(feed.diagnostics, "grounding", "looking for")

    first = ask(**RED)
    busy()
    second = ask(mode=Ask.MODE_TEXT, text="the blue square")
    message = refused(ros.finish(first, "the first"), Answer.ERROR_CANCELLED)
    assert message == "cancelled by a later set_target (text 'the blue square')"
    assert not second.done()
    assert feed.set_target().success
    assert "(box)" in refused(ros.finish(second, "the second"), Answer.ERROR_CANCELLED)

    third = ask(**RED)
    assert ros.call(Trigger, "tracker/clear_target").success
    message = refused(ros.finish(third, "the third"), Answer.ERROR_CANCELLED)
    assert message == "cancelled by clear_target"

    fourth = ask(**RED)
    assert ros.change_state(Transition.TRANSITION_DEACTIVATE)
    refused(ros.finish(fourth, "the fourth"), Answer.ERROR_NOT_ACTIVE)
    assert ros.change_state(Transition.TRANSITION_ACTIVATE)
    ros.until(feed.publisher.get_subscription_count, "the subscription")
    feed.answered()

    assert ros.set_parameter("grounding.timeout", 0.1).successful
    message = refused(ros.finish(ask(**RED), "the fifth"), Answer.ERROR_GROUNDING_UNAVAILABLE)
    assert "(grounding.timeout 0.1)" in message
    assert feed.set_target().success, "boxes work all the same"
    assert ros.set_parameter("grounding.timeout", 120.0).successful


def test_found_target_is_caught_up_and_the_present_one_kept(feed, use, slow_grounder):
    """A search of a second and more: the present target is tracked all the while, and the one
    that was found is where it is now, although the frame buffer holds half a second only."""
    use(source=slow_grounder)
    ros = feed.ros
    target = feed.set_target().target_id
    seen = feed.until_tracked()
    true = {stamp_nanoseconds(seen.header.stamp): feed.scene.box(feed.step)}
    stop = threading.Event()

    def play():
        while not stop.wait(0.04):
            feed.step += 1
            message = array_to_image(feed.scene.frame(feed.step), feed.header())
            true[stamp_nanoseconds(message.header.stamp)] = feed.scene.box(feed.step)
            feed.publisher.publish(message)

    thread = threading.Thread(target=play)
    thread.start()
    try:
        asked = len(feed.status)
        request = ros.call_async(SetTarget, "tracker/set_target", feed.request(**RED))
        answer = ros.finish(request, "a slow search")
        during = [status for status in feed.status[asked:] if status.target_id == target]
        assert answer.success, answer.message
        start = stamp_nanoseconds(answer.header.stamp)

        def has_moved_away():
            """The path is closed: a search that takes long may end where it began."""
            new = [status for status in feed.status if status.target_id > target]
            if len(new) <= 4:
                return False
            now = stamp_nanoseconds(new[-1].header.stamp)
            return np.hypot(*np.subtract(true[now], true[start])[:2]) > 60.0

        ros.until(has_moved_away, "the new target, away from where it was found")
    finally:
        stop.set()
        thread.join()
    assert len(during) > 12
    assert {status.state for status in during} == {TrackStatus.STATE_TRACKING}
    assert near(xywh_from_bounding_box(answer.box), true[start])
    new = [status for status in feed.status if status.target_id == answer.target_id][-1]
    now = stamp_nanoseconds(new.header.stamp)
    assert now - start > 500_000_000
    assert new.state == TrackStatus.STATE_TRACKING
    assert near(boxes(feed.detection(new))[0], true[now], pixels=20.0)
    assert np.hypot(*np.subtract(true[now], true[start])[:2]) > 40.0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("the red square " * 683, "10245 characters, at most 1000"),
        ("", "holds no word"),
        ("\u200b \u202e \x07", "holds no word"),
    ],
    ids=["ten kilobytes", "empty", "control characters"],
)
def test_invalid_text_is_refused(feed, words, reason):
    feed.answered()
    for mode in (Ask.MODE_TEXT, Ask.MODE_BOX_AND_TEXT):
        answer = feed.set_target(mode=mode, text=words)
        assert reason in refused(answer, Answer.ERROR_INVALID_TEXT)


def test_text_longer_than_the_backend_reads_is_refused(feed):
    answer = feed.set_target(mode=Ask.MODE_TEXT, text="red " * 40)
    assert "word pieces" in refused(answer, Answer.ERROR_INVALID_TEXT)


def test_ctrl_c_during_a_search(ros, tiny_model, slow_grounder, scene):
    """The node ends in order although its network cannot be interrupted."""
    source = {"grounding__backend": "onnx", "grounding__source": str(slow_grounder)}
    process = ros.start_tracker(tiny_model, **source)
    feed = ros.feed(scene)
    diagnostics = ros.diagnostics()
    ros.call_async(SetTarget, "tracker/set_target", feed.request(**RED))
    ros.until_diagnosed(diagnostics, "grounding", "looking for")
    process.send(signal.SIGINT)
    assert process.wait() == 0, process.output
    assert "terminate" not in process.output


def test_text_of_any_unicode_is_answered(feed):
    for words in ("das rote Quadrat \U0001f7e5", "红色 方块", "\u202ethe red\nsquare"):
        answer = feed.set_target(mode=Ask.MODE_TEXT, text=words)
        codes = Answer.ERROR_NONE, Answer.ERROR_NOTHING_FOUND, Answer.ERROR_INVALID_TEXT
        assert answer.error_code in codes, answer


def test_text_without_a_backend_is_refused_and_boxes_work(feed, use, tmp_path):
    """One sentence that says what is missing; a box works all the same."""
    use("onnx", tmp_path / "nowhere")
    message = refused(feed.set_target(**RED), Answer.ERROR_GROUNDING_UNAVAILABLE)
    assert "nowhere" in message
    feed.ros.until_diagnosed(feed.diagnostics, "grounding", "nowhere", level=DiagnosticStatus.WARN)
    use("none")
    message = refused(feed.set_target(**RED), Answer.ERROR_TEXT_UNSUPPORTED)
    assert "grounding.backend is none" in message
    answer = feed.set_target(mode=Ask.MODE_BOX_AND_TEXT, text="the red square")
    assert "asymtrack_lite0 takes no text" in refused(answer, Answer.ERROR_TEXT_UNSUPPORTED)
    assert feed.set_target().success


def test_box_and_text_without_a_backend_starts_and_warns(feed, use, tmp_path):
    """The box starts all the same; the backend is tried at once, not first when it is needed."""
    use("onnx", tmp_path / "not_there")
    assert feed.set_target(mode=Ask.MODE_BOX_AND_TEXT, text="the red square").success
    feed.ros.until_diagnosed(
        feed.diagnostics, "grounding", "not_there", level=DiagnosticStatus.WARN
    )
    feed.until_tracked()


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """An export of a small network with a language input and random weights."""
    torch = pytest.importorskip("torch", reason="the network with language is exported by torch")
    export = pytest.importorskip(
        "vt_models.export.exporter", reason="exporting needs the training packages"
    )
    torch.manual_seed(5)
    net = create_miniature("pjvlt_tiny")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        net.box_head.conv5_ctr.bias.fill_(2.0)  # scores of 0.88 and thereabouts, so that they count
    folder = tmp_path_factory.mktemp("export") / "pjvlt_tiny"
    return export.export_model(net, get_spec("pjvlt_tiny"), folder)


def test_text_reaches_a_model_with_language_input(feed, use, reader, tiny_model):
    """Beside a box or alone: another text makes another estimate of the same image."""
    ros = feed.ros
    everything = {"doubt": 0.05, "track": 0.1, "confirm": 0.1}
    thresholds = {f"target.{name}_threshold": value for name, value in everything.items()}
    values = {**thresholds, "target.max_step": 10.0}
    assert ros.set_parameters(values, atomically=True).result.successful
    other = {"model": "pjvlt_tiny", "weights": str(reader)}
    assert ros.set_parameters(other, atomically=True).result.successful
    ros.until(lambda: feed.answered().model == "pjvlt_tiny", "the model with language")
    first, second = feed.scene.frame(0), feed.scene.frame(1)

    def score(**fields):
        feed.answered(first)
        request = feed.request(feed.scene.box(0), **fields)
        answer = ros.call(SetTarget, "tracker/set_target", request)
        assert answer.success, answer.message
        return feed.answered(second).score

    use("none")
    words = {"mode": Ask.MODE_BOX_AND_TEXT, "text": "the red square"}
    red, box, again = score(**words), score(), score(**words)
    assert red == again
    assert red != box
    assert score(mode=Ask.MODE_BOX_AND_TEXT, text="a dog") != red
    use(source=feed.grounder)
    assert score(**RED) not in (0.0, box)

    previous = {"model": "asymtrack_lite0", "weights": str(tiny_model)}
    assert ros.set_parameters(previous, atomically=True).result.successful
    ros.until(lambda: feed.answered().model == "asymtrack_lite0", "the previous model")
    values = {"doubt": 0.2, "track": 0.4, "confirm": 0.4}
    values = {f"target.{name}_threshold": value for name, value in values.items()}
    values["target.max_step"] = 1.5
    assert ros.set_parameters(values, atomically=True).result.successful


def test_tracking_model_with_language_input_as_the_backend(feed, use, reader):
    """Random weights find anything or nothing, but answer; the present target is tracked on."""
    use("pjvlt", f"pjvlt_tiny:{reader}")
    target = feed.set_target().target_id
    answer = feed.set_target(**RED)
    known = Answer.ERROR_NONE, Answer.ERROR_NOTHING_FOUND, Answer.ERROR_AMBIGUOUS
    assert answer.error_code in known, answer
    assert "pjvlt" in answer.message
    assert feed.answered().target_id == (answer.target_id if answer.success else target)


def at(point):
    return {"mode": Ask.MODE_POINT, "point": Point2D(x=float(point[0]), y=float(point[1]))}


def test_point_starts_on_the_object_there(feed):
    """The thing at the point becomes the target."""
    feed.move(5)
    x, y, w, h = feed.scene.box(feed.step)
    answer = feed.ros.call(
        SetTarget, "tracker/set_target", feed.request(**at((x + 0.4 * w, y + 0.6 * h)))
    )
    assert answer.success, answer.message
    found = xywh_from_bounding_box(answer.box)
    assert float(iou(found, (x, y, w, h))) >= 0.5, found
    assert 0.0 < answer.score <= 1.0
    feed.assert_on_target(feed.move(5), pixels=24.0)


def test_invalid_point_is_refused(feed):
    target = feed.set_target().target_id
    for point in ((math.nan, 5.0), (-1.0, 5.0), (5.0, 240.5)):
        refused(feed.set_target(**at(point)), Answer.ERROR_INVALID_POINT)
    feed.answered(np.full((240, 320, 3), 90, np.uint8))
    request = feed.request(**at((160, 120)))
    answer = feed.ros.call(SetTarget, "tracker/set_target", request)
    assert "draw a box" in refused(answer, Answer.ERROR_NOTHING_FOUND)
    assert feed.until_tracked().target_id == target


def found_again(feed):
    """Lose the target behind a covered lens, and show it again; the first status with a box."""
    rng = np.random.default_rng(feed.published)

    def cover():
        return feed.answered(rng.integers(0, 3, (240, 320, 3), dtype=np.uint8))

    feed.ros.until(lambda: cover().state == TrackStatus.STATE_LOST, "the loss")

    def shown():
        status = feed.move(1)
        return status if status.state != TrackStatus.STATE_LOST else None

    return feed.ros.until(shown, "the target found again")


def test_operator_answers_whether_what_was_found_again_is_the_target(feed):
    def confirm(answer):
        return feed.ros.call(SetBool, "tracker/confirm_target", SetBool.Request(data=answer))

    nothing = confirm(True)
    assert (nothing.success, "there is no target" in nothing.message) == (False, True)
    assert feed.ros.set_parameter("target.confirm", "operator").successful
    assert feed.set_target().success
    refused = confirm(False)
    assert (refused.success, "target is TRACKING" in refused.message) == (False, True)

    status = found_again(feed)
    assert (status.state, status.unconfirmed) == (TrackStatus.STATE_UNCERTAIN, True)
    for _ in range(5):  # confident observations alone do not make it the target
        status = feed.move(1)
        assert (status.state, status.unconfirmed) == (TrackStatus.STATE_UNCERTAIN, True)
    assert "by the operator" in status.message
    answer = confirm(True)
    assert answer.success, answer.message
    status = feed.ros.until(
        lambda: (s := feed.move(1)).state == TrackStatus.STATE_TRACKING and s, "TRACKING"
    )
    assert not status.unconfirmed

    assert found_again(feed).unconfirmed
    answer = confirm(False)
    assert (answer.success, "searched for again" in answer.message) == (True, True), answer
    status = feed.answered(np.full((240, 320, 3), 90, np.uint8))
    assert (status.state, status.unconfirmed) == (TrackStatus.STATE_LOST, False)
    assert not confirm(True).success
    assert feed.ros.set_parameter("target.confirm", "automatic").successful
    assert not feed.ros.set_parameter("target.confirm", "somebody").successful
    assert feed.set_target().success
    assert not found_again(feed).unconfirmed
