# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vt_models
from vt_models.errors import BackendError, InputError, WeightsError
from vt_models.longterm import LongTermSettings, State, create_long_term_tracker
from vt_models.longterm.calibration import UNCALIBRATED
from vt_models.longterm.search_grid import search_windows
from vt_models.tracker.tracker import Estimate

START = (60.0, 50.0, 24.0, 24.0)
FAR = (130.0, 90.0, 24.0, 24.0)
T, U, C, L = State.TRACKING, State.UNCERTAIN, State.COASTING, State.LOST


def run(target, paint_frame, count, where=None, first=1, visible=True):
    """The estimates of `count` further frames."""
    found = []
    for number in range(first, first + count):
        box = where if where is not None else target.tracker.where
        found.append(target.update(paint_frame(box if visible else None, number)))
    return found


@pytest.fixture
def target(scripted, paint_frame):
    target = create_long_term_tracker(scripted)
    target.init(paint_frame(START), START)
    return target


def test_create_long_term_tracker_is_public() -> None:
    assert vt_models.create_long_term_tracker is create_long_term_tracker


def test_update_confident_target_reports_the_short_term_trackers_boxes(target, paint_frame) -> None:
    for step in range(1, 20):
        box = (60.0 + 2 * step, 50.0 + step, 24.0, 24.0)
        target.tracker.where = box
        estimate = target.update(paint_frame(box, step))
        assert (estimate.state, estimate.box, estimate.network_calls) == (T, box, 1)
        assert estimate.score == pytest.approx(0.95)
        assert np.all(np.linalg.eigvalsh(estimate.covariance) > 0)


def test_update_missed_target_coasts_along_its_motion_then_is_lost(target, paint_frame) -> None:
    for step in range(1, 15):
        box = (60.0 + 2 * step, 50.0, 24.0, 24.0)
        target.tracker.where = box
        target.update(paint_frame(box, step))
    target.tracker.where = None
    estimates = run(target, paint_frame, 17, first=20, visible=False)
    limit = target.settings.coast_frames
    assert [e.state for e in estimates] == [C] * limit + [L] * (17 - limit)
    coasting = estimates[:limit]
    assert coasting[2].box[0] > 60.0 + 2 * 14 + 2
    sizes = {round(e.box[2], 1) for e in coasting}
    assert len(sizes) == 1, "the size must not go on changing"
    growth = [np.trace(e.covariance) for e in coasting]
    assert growth == sorted(growth)
    assert growth[-1] > 4 * growth[0]
    assert all(e.box is None and e.covariance is None for e in estimates[limit:])
    assert all(e.score == 0.0 for e in estimates)


def test_redetection_across_the_frame_is_confirmed(target, paint_frame) -> None:
    target.tracker.where = None
    run(target, paint_frame, 20, visible=False)
    target.tracker.where = FAR
    estimates = run(target, paint_frame, 12, where=FAR, first=30)
    states = [e.state for e in estimates]
    assert states[-1] is T
    assert estimates[-1].box == FAR
    first_seen = states.index(U)
    assert set(states[:first_seen]) <= {L}
    assert states[first_seen : first_seen + target.settings.recover_frames] == [U] * 2
    assert max(e.network_calls for e in estimates) <= target.settings.searches


def test_redetection_of_another_appearance_is_refused(target, paint_frame) -> None:
    target.tracker.where = None
    run(target, paint_frame, 20, visible=False)
    target.tracker.where = FAR
    estimates = run(target, paint_frame, 30, first=30, visible=False)
    assert {e.state for e in estimates} == {L}


def test_redetection_in_a_single_frame_is_refused(target, paint_frame) -> None:
    target.tracker.where = None
    run(target, paint_frame, 20, visible=False)
    for number in range(30, 60):
        target.tracker.where = FAR if number % 2 else None
        assert target.update(paint_frame(FAR, number)).state is L


def test_redetection_refused_by_the_verifier_stays_lost(scripted, paint_frame) -> None:
    asked = []

    def refuse(frame, box):
        asked.append(box)
        return False

    target = create_long_term_tracker(scripted, verifier=refuse)
    target.init(paint_frame(START), START)
    target.lose()
    estimates = run(target, paint_frame, 10, where=START)
    assert {e.state for e in estimates} == {L}
    assert asked[0] == START


def test_redetection_searches_every_window(target, paint_frame) -> None:
    target.tracker.where = None
    target.lose()
    windows = search_windows(
        (120, 160), target.estimate.box or START, target.tracker.spec.search_factor
    )
    run(target, paint_frame, len(windows), visible=False)
    assert set(windows) <= set(target.tracker.searched)


def test_suggest_is_searched_first_and_accepted_like_any_detection(target, paint_frame) -> None:
    run(target, paint_frame, 2)
    target.suggest(FAR)
    run(target, paint_frame, 1, first=3)
    assert target.state is T, "nothing happens unless it is lost"
    target.tracker.where = None
    target.lose()
    target.suggest(FAR)
    run(target, paint_frame, 2, where=FAR, first=4, visible=False)
    assert target.tracker.searched.count(FAR) == 1, "once"
    assert target.state is L, "the network sees nothing there"
    target.tracker.where = FAR
    target.suggest(FAR)
    states = [e.state for e in run(target, paint_frame, 4, where=FAR, first=6)]
    assert states == [L, U, U, T]
    target.lose()
    with pytest.raises(InputError, match="no area"):
        target.suggest((1.0, 2.0, 0.0, 5.0))


def test_redetection_not_confirmed_changes_no_size(target, paint_frame) -> None:
    target.lose()
    large = (20.0, 20.0, 60.0, 60.0)
    target.tracker.where = large
    assert [e.state for e in run(target, paint_frame, 2, where=large)] == [L, U]
    target.tracker.where = None
    assert [e.state for e in run(target, paint_frame, 2, first=3, visible=False)] == [L, L]
    assert target.tracker.searched[-4] == START, "the next search begins where it was before"


def test_redetection_with_zero_searches_is_off(scripted, paint_frame) -> None:
    target = create_long_term_tracker(scripted, LongTermSettings(searches=0))
    target.init(paint_frame(START), START)
    target.lose("told so")
    calls = scripted.calls
    assert {e.state for e in run(target, paint_frame, 5, where=START)} == {L}
    assert scripted.calls == calls


def test_update_step_beyond_the_cap_is_missed(target, paint_frame) -> None:
    run(target, paint_frame, 3)
    target.tracker.where = (100.0, 50.0, 24.0, 24.0)
    estimate = target.update(paint_frame(target.tracker.where, 9))
    assert estimate.state is C
    assert estimate.reason == "jumped too far"
    assert abs(estimate.box[0] - START[0]) < 2


def test_update_box_on_what_was_there_before_is_missed(target, paint_frame) -> None:
    """The target is painted out; the network is sure of a part of the scene beside it."""
    run(target, paint_frame, 3, where=START)
    target.tracker.where = (90.0, 52.0, 24.0, 24.0)
    estimates = run(target, paint_frame, 40, first=4, visible=False)
    limit = target.settings.coast_frames
    assert [e.state for e in estimates] == [C] * limit + [L] * (40 - limit)
    assert estimates[0].reason == "only the scene is seen"


def test_redetection_of_what_was_there_before_is_refused(target, paint_frame) -> None:
    run(target, paint_frame, 3, where=START)
    frames = [paint_frame(START, number) for number in range(4, 20)]
    target.lose()
    for frame in frames:  # something like it beside the target, as it always was
        target.tracker.where = FAR
        assert target.update(frame).state is L


def test_update_copy_that_passes_a_target_at_rest_is_not_followed(target, paint_frame) -> None:
    """The network takes the nearer one, and that in front while one hides the other."""
    run(target, paint_frame, 3, where=START)
    for number in range(4, 44):
        copy = (START[0] + 2.0 * (number - 15), *START[1:])
        frame = paint_frame(START, number)
        if copy[0] <= 136:
            frame[50:74, round(copy[0]) : round(copy[0]) + 24] = frame[50:74, 60:84].copy()

        def nearer(frame, around, prior=True, copy=copy):
            found = min(copy, START, key=lambda box: abs(box[0] - around[0]))
            return Estimate(found, 0.95)

        target.tracker.locate = nearer
        estimate = target.update(frame)
        assert abs(estimate.box[0] - START[0]) <= 14, "never farther than half of it and a step"
    assert (estimate.state, estimate.box) == (T, START)


def test_update_copy_is_not_followed_at_few_frames_a_second_either(target, paint_frame) -> None:
    """Where the target came to rest a second ago is remembered, however few frames that are."""
    target.settings, target.tracker.score = LongTermSettings(frame_period=0.2), 0.97
    for number, x in enumerate((70.0, 80.0, 80.0, 80.0, 80.0, 80.0), 1):
        box = target.tracker.where = (x, *START[1:])
        target.update(paint_frame(box, number))
    for number in range(7, 13):
        copy = target.tracker.where = (80.0 + 6.0 * (number - 6), *START[1:])
        frame = paint_frame(box, number)
        frame[50:74, round(copy[0]) : round(copy[0]) + 24] = frame[50:74, 80:104].copy()
        estimate = target.update(frame)
    assert estimate.state is not T
    assert "something else was followed" in estimate.reason


@pytest.mark.parametrize("is_equal", [True, False])
def test_update_of_two_equal_places_takes_the_predicted_one(target, paint_frame, is_equal) -> None:
    for step in range(1, 10):
        box = target.tracker.where = (60.0 + 3 * step, 50.0, 24.0, 24.0)
        target.update(paint_frame(box, step))
    assert target.tracker.runner_ups == 0, "it is where it is expected"
    box, passing = (90.0, 50.0, 24.0, 24.0), (112.0, 60.0, 24.0, 24.0)
    target.tracker.where, target.tracker.other = passing, Estimate(box, 0.9)
    frame = paint_frame(box, 10)
    frame[60:84, 112:136] = frame[50:74, 90:114].copy()
    if not is_equal:
        frame[50:74, 90:114] = 60
    estimate = target.update(frame)
    assert estimate.box == (box if is_equal else passing)
    assert target.tracker.box == estimate.box, "the next search is round it"
    assert estimate.raw_score == (0.9 if is_equal else 0.95), "the score is that of its place"


def test_update_moving_target_leaves_its_place(target, paint_frame) -> None:
    for step in range(1, 12):
        box = (60.0 + 5 * step, 50.0, 24.0, 24.0)
        target.tracker.where, target.tracker.score = box, 0.95 if step % 4 else 0.6
        assert target.update(paint_frame(box, step)).box == box


def test_update_exploding_box_is_capped(target, paint_frame) -> None:
    run(target, paint_frame, 3)
    target.tracker.where = (12.0, 2.0, 120.0, 120.0)
    target.tracker.score = 0.99
    estimate = target.update(paint_frame(START, 9))
    assert estimate.box[2] * estimate.box[3] <= 24.0 * 24.0 * target.settings.max_growth * 1.001
    assert target.tracker.box == estimate.box


def test_update_low_confidence_is_uncertain_until_confirmed(target, paint_frame) -> None:
    target.tracker.score = 0.5
    assert [e.state for e in run(target, paint_frame, 3)] == [U, U, U]
    target.tracker.score = 0.95
    assert [e.state for e in run(target, paint_frame, 3, first=4)] == [U, T, T]


def test_update_thresholds_have_hysteresis(target, paint_frame) -> None:
    target.tracker.score = 0.85
    assert [e.state for e in run(target, paint_frame, 3)] == [T, T, T]
    target.tracker.score = 0.5
    run(target, paint_frame, 2, first=4)
    target.tracker.score = 0.85
    assert [e.state for e in run(target, paint_frame, 3, first=6)] == [U, U, U]
    target.tracker.score = 0.95
    assert [e.state for e in run(target, paint_frame, 2, first=9)] == [U, T]


def test_dynamic_template_is_replaced_only_while_tracking(target, paint_frame) -> None:
    run(target, paint_frame, 2)
    assert target.tracker.updates
    target.tracker.score = 0.5
    run(target, paint_frame, 3, first=3)
    assert not target.tracker.updates
    target.settings = LongTermSettings(template_updates=False)
    target.tracker.score = 0.95
    run(target, paint_frame, 5, first=6)
    assert target.state is T
    assert not target.tracker.updates


def test_update_failing_network_changes_nothing_and_missed_counts_it(target, paint_frame) -> None:
    run(target, paint_frame, 2)
    target.tracker.fails = True
    with pytest.raises(BackendError):
        target.update(paint_frame(START, 3))
    assert target.state is T
    states = [target.missed(reason="network failed").state for _ in range(16)]
    assert states == [C] * target.settings.coast_frames + [L]
    assert target.estimate.reason == "network failed"


def test_missed_while_lost_keeps_the_reason_of_the_loss(target, paint_frame) -> None:
    target.tracker.where = None
    run(target, paint_frame, 20, visible=False)
    assert target.estimate.reason == "not seen"
    assert target.missed(reason="image refused").reason == "image refused"
    assert target.update(np.zeros_like(paint_frame(None)) + 1).reason.startswith(
        "the frame is dark"
    )
    assert run(target, paint_frame, 1, first=30, visible=False)[0].reason == "not seen"


def test_update_without_target_or_with_bad_frame_is_an_input_error(scripted, paint_frame) -> None:
    target = create_long_term_tracker(scripted)
    assert target.state is State.IDLE
    assert target.missed().state is State.IDLE
    with pytest.raises(InputError, match="init"):
        target.update(paint_frame(START))
    target.init(paint_frame(START), START)
    with pytest.raises(InputError, match="uint8"):
        target.update(paint_frame(START).astype(np.float32))
    assert target.state is T
    target.clear()
    assert (target.state, target.estimate.box) == (State.IDLE, None)


def test_update_gap_in_stamps_is_lost_and_backward_stamp_is_one_period(target, paint_frame) -> None:
    run(target, paint_frame, 2)
    target.update(paint_frame(START, 3), stamp=100.0)
    assert target.update(paint_frame(START, 4), stamp=99.0).state is T, (
        "a backward stamp is one period"
    )
    assert target.update(paint_frame(START, 5), stamp=99.0).state is T, "and so is the same again"
    gap = target.update(paint_frame(START, 6), stamp=99.0 + 5.0)
    assert gap.state in (L, U)
    states = [e.state for e in run(target, paint_frame, 6, where=START, first=7)]
    assert states[-1] is T


def test_init_again_equals_a_fresh_tracker(scripted, paint_frame) -> None:
    used, fresh = create_long_term_tracker(scripted), create_long_term_tracker(type(scripted)())
    used.init(paint_frame(START), START)
    scripted.where = None
    run(used, paint_frame, 30, visible=False)
    used.init(paint_frame(START), START)
    fresh.init(paint_frame(START), START)
    for number in range(5):
        a, b = used.update(paint_frame(START, number)), fresh.update(paint_frame(START, number))
        assert (a.box, a.state, a.score) == (b.box, b.state, b.score)
        np.testing.assert_allclose(a.covariance, b.covariance)


def test_update_another_frame_size_is_redetected_in_the_new_size(target, paint_frame) -> None:
    run(target, paint_frame, 3)
    double = (120.0, 100.0, 48.0, 48.0)
    target.tracker.where = double
    states = [
        target.update(paint_frame(double, number, (240, 320))).state for number in range(10, 16)
    ]
    assert states[0] is L
    assert states[-1] is T
    assert target.estimate.box == double


def test_update_tiny_frames_in_between_keep_the_searched_size(target, paint_frame) -> None:
    run(target, paint_frame, 3)
    width = target.estimate.box[2]
    for shape in ((36, 9, 3), (1, 1, 3), (3, 40, 3)):
        target.update(np.full(shape, 90, np.uint8))
        assert target.state is L
    target.tracker.searched.clear()
    states = [target.update(paint_frame(START, number)).state for number in range(10, 16)]
    assert states[-1] is T
    assert all(0.7 * width < box[2] < 2.1 * width for box in target.tracker.searched)


def test_create_takes_the_trackers_calibration_and_refuses_a_broken_one(scripted) -> None:
    assert create_long_term_tracker(scripted).calibration == UNCALIBRATED
    scripted.calibration = {"version": 99}
    with pytest.raises(WeightsError, match="version 1"):
        create_long_term_tracker(scripted)
    scripted.calibration = {**UNCALIBRATED.to_entry(), "weight": 2.0, "fitted": {"any": "thing"}}
    assert create_long_term_tracker(scripted).calibration.weight == 2.0


steps = st.tuples(
    st.floats(-60, 60), st.floats(-60, 60), st.floats(0.3, 3.0), st.floats(0.0, 1.0), st.booleans()
)


@settings(max_examples=60)
@given(moves=st.lists(steps, min_size=1, max_size=25))
def test_update_any_network_output_keeps_the_box_within_the_caps(
    scripted_class, paint_frame, moves
) -> None:
    """Between two frames with a box the centre and the area change by no more than the caps."""
    target = create_long_term_tracker(scripted_class())
    target.init(paint_frame(START), START)
    caps, previous = target.settings, START
    for number, (dx, dy, scale, score, is_seen) in enumerate(moves, start=1):
        x, y, w, h = target.tracker.box
        w, h = min(max(w * scale, 2.0), 150.0), min(max(h * scale, 2.0), 110.0)
        target.tracker.where = (x + dx, y + dy, w, h) if is_seen else None
        target.tracker.score = score
        was_lost = target.state is L
        estimate = target.update(paint_frame(START, number))
        assert (estimate.box is None) == (estimate.state is L)
        if estimate.box is None or was_lost:
            previous = estimate.box or previous
            continue
        box = estimate.box
        assert np.isfinite(box).all()
        assert min(box[2:]) >= 1.0
        areas = sorted((previous[2] * previous[3], box[2] * box[3]))
        assert areas[1] <= areas[0] * caps.max_growth * 1.01
        centre = np.array(box[:2]) + 0.5 * np.array(box[2:])
        before = np.array(previous[:2]) + 0.5 * np.array(previous[2:])
        assert np.linalg.norm(centre - before) <= 1.01 * caps.max_step * areas[1] ** 0.5
        assert np.linalg.eigvalsh(estimate.covariance).min() > 0
        previous = box


def test_update_silence_longer_than_a_second_is_believed_up_to_coast_seconds(
    scripted, paint_frame
) -> None:
    """Caps that grow with time would overflow: 2 ** (30 * 40)."""
    target = create_long_term_tracker(scripted, LongTermSettings(coast_seconds=60.0))
    target.init(paint_frame(START), START, stamp=1.0)
    assert target.update(paint_frame(START, 1), stamp=41.0).state is T
    scripted.where = None
    estimate = target.update(paint_frame(None, 2), stamp=81.0)
    assert estimate.state is C
    assert np.isfinite(estimate.box).all()
    assert np.isfinite(estimate.covariance).all()
    assert target.missed(stamp=1e300).state is L
    short = create_long_term_tracker(scripted, LongTermSettings(coast_seconds=1.0))
    short.init(paint_frame(START), START, stamp=1.0)
    assert "no frame for 1.2 s (coast_seconds 1)" in short.update(paint_frame(None, 2), 2.25).reason
    with pytest.raises(InputError, match="stamp is nan"):
        target.update(paint_frame(START, 3), stamp=float("nan"))


def test_update_repeated_frame_is_no_reason_to_coast_for_ever(scripted, paint_frame) -> None:
    """Also where a camera that repeats itself does not count as frozen."""
    target = create_long_term_tracker(scripted, LongTermSettings(frozen_frames=0))
    target.init(paint_frame(START), START, stamp=0.0)
    scripted.where = None
    empty = paint_frame(None, 1)
    states = [target.update(empty, stamp=0.05 * step).state for step in range(1, 30)]
    limit = target.settings.coast_frames
    assert states == [C] * limit + [L] * (29 - limit)


@pytest.mark.parametrize("first", ["the same", "dark", "other"])
def test_update_gap_is_lost_whatever_its_first_frame_looks_like(target, paint_frame, first) -> None:
    frame = paint_frame(START, 1)
    target.update(frame, stamp=1.0)
    shown = {"the same": frame, "dark": np.zeros_like(frame), "other": paint_frame(START, 2)}[first]
    assert target.update(shown, stamp=3601.0).state is L


def found_again_by(scripted, paint_frame, where=FAR, pause=0):
    """A tracker that asks the operator, whose target was lost and then found at `where`."""
    target = create_long_term_tracker(scripted, LongTermSettings(confirm="operator"))
    target.init(paint_frame(START), START)
    scripted.where = None
    run(target, paint_frame, 20, visible=False)
    scripted.where = where
    estimates = run(target, paint_frame, 12 + pause, where=where, first=30)
    assert estimates[-1].state is U
    return target, estimates


def test_operator_confirms_what_was_found_again(scripted, paint_frame) -> None:
    target, estimates = found_again_by(scripted, paint_frame)
    assert {e.state for e in estimates} == {L, U}
    assert all(e.unconfirmed == (e.state is U) for e in estimates)
    assert estimates[-1].reason == "re-detected, to be confirmed by the operator"
    # A frame without a measurement is bridged, as for any other target.
    scripted.where = None
    coasting = run(target, paint_frame, 1, first=60, visible=False)[0]
    assert (coasting.state, coasting.unconfirmed) == (C, True)
    scripted.where = FAR
    run(target, paint_frame, 3, where=FAR, first=61)
    target.confirm()
    tracked = run(target, paint_frame, 2, where=FAR, first=70)
    assert [(e.state, e.unconfirmed, e.reason) for e in tracked] == [(T, False, "")] * 2
    with pytest.raises(InputError, match="nothing to confirm: the target is TRACKING"):
        target.confirm()


def test_operator_rejects_what_was_found_again_and_it_is_not_offered_anew(
    scripted, paint_frame
) -> None:
    other = (20.0, 20.0, 24.0, 24.0)
    target, _ = found_again_by(scripted, lambda box, seed=0: doubled(paint_frame, box, seed))
    rejected = target.reject()
    assert (rejected.state, rejected.reason) == (L, "rejected by the operator")
    assert not rejected.unconfirmed
    with pytest.raises(InputError, match="nothing to reject: the target is LOST"):
        target.reject()
    again = run(target, lambda box, seed: doubled(paint_frame, box, seed), 25, FAR, first=50)
    assert {e.state for e in again} == {L}, "what was rejected is not found again"
    scripted.where = other
    found = run(target, paint_frame, 25, where=other, first=80)
    assert found[-1].unconfirmed, "the target itself is"
    target.init(paint_frame(START), START)
    assert not target.update(paint_frame(START, 1)).unconfirmed


def doubled(paint_frame, box, seed):
    """A frame with the target, but what is at FAR is a little different."""
    frame = paint_frame(box, seed)
    if box == FAR:
        x, y, w, h = (round(value) for value in FAR)
        frame[y : y + h // 4, x : x + w] = (250, 40, 40)
    return frame
