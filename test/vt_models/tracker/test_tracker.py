# SPDX-License-Identifier: Apache-2.0
"""The loop around a network, with engines that answer what they are told: plumbing only."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models import Estimate, InputError, Tracker, get_spec
from vt_models.geometry.boxes import crop_window

FRAME = np.random.default_rng(1).integers(0, 256, (240, 320, 3), dtype=np.uint8)
BOX = (120.0, 90.0, 40.0, 30.0)
BOX_SPEC = get_spec("asymtrack_t")
DENSE_SPEC = get_spec("asymtrack_lite0")
NARROW_SPEC = dataclasses.replace(DENSE_SPEC, narrow_search_size=176)


def box_answer(box, score=0.5):
    return np.array([box], np.float32), np.array([score], np.float32)


def dense_answer(row, column, box, score=0.9, cells=16):
    score_map = np.zeros((1, cells, cells), np.float32)
    score_map[0, row, column] = score
    box_map = np.full((1, 4, cells, cells), 0.01, np.float32)
    box_map[0, :, row, column] = box
    return score_map, box_map


def started(spec, engine, box=BOX):
    tracker = Tracker(spec, engine)
    tracker.init(FRAME, box)
    return tracker


def test_update_with_a_box_decoder_equals_a_calculation_by_hand(fake_engine) -> None:
    tracker = started(BOX_SPEC, fake_engine(lambda _: box_answer((0.5, 0.25, 0.2, 0.1))))
    estimate = tracker.update(FRAME)
    side = crop_window(BOX, 4.0).side  # ceil(sqrt(1200) * 4) = 139
    cx, cy = 140.0 + (0.5 - 0.5) * side, 105.0 + (0.25 - 0.5) * side
    expected = (cx - 0.1 * side, cy - 0.05 * side, 0.2 * side, 0.1 * side)
    np.testing.assert_allclose(estimate.box, expected, atol=1e-5)
    assert estimate.score == 0.5
    assert estimate.covariance is None


def test_runner_up_is_the_best_place_beside_the_chosen_one(fake_engine) -> None:
    scores, boxes = dense_answer(8, 8, (0.5, 0.5, 0.2, 0.2))
    for row, column, centre, score in ((8, 9, (0.55, 0.5), 0.8), (8, 13, (0.85, 0.5), 0.7)):
        scores[0, row, column] = score
        boxes[0, :2, row, column] = centre
    tracker = started(DENSE_SPEC, fake_engine(lambda _: (scores, boxes)))
    chosen = tracker.update(FRAME)
    other = tracker.runner_up(chosen.box)
    window = tracker.last_search.window
    x, y, w, h = other.box
    assert (w, h) == chosen.box[2:]
    assert (x + 0.5 * w, y + 0.5 * h) == pytest.approx(
        (window.x1 + 0.85 * window.side, window.y1 + 0.5 * window.side)
    )
    assert other.score == pytest.approx(0.7)
    scores[0, 8, 13] = np.nan
    assert tracker.runner_up(chosen.box) is None
    scores[:] = 0.0
    assert tracker.runner_up(chosen.box) is None


def test_runner_up_of_a_network_with_one_box_is_none(fake_engine) -> None:
    tracker = Tracker(BOX_SPEC, fake_engine(lambda _: box_answer((0.5, 0.25, 0.2, 0.1))))
    assert tracker.runner_up(BOX) is None
    tracker.init(FRAME, BOX)
    assert tracker.runner_up(tracker.update(FRAME).box) is None


def test_update_below_least_score_keeps_the_previous_box(fake_engine) -> None:
    spec = dataclasses.replace(BOX_SPEC, least_score=0.5)
    box = (0.5, 0.25, 0.4, 0.1)
    engine = fake_engine(lambda _: box_answer(box, score=0.49))
    tracker = started(spec, engine)
    assert tracker.update(FRAME) == Estimate(BOX, pytest.approx(0.49))
    assert tracker.locate(FRAME, BOX, prior=False).box != BOX
    engine.answer = lambda _: box_answer(box, score=0.5)
    believed = tracker.update(FRAME)
    assert believed.box == started(BOX_SPEC, engine).update(FRAME).box


def test_update_with_size_smoothing_follows_the_size_by_the_score(fake_engine) -> None:
    answer = box_answer((0.5, 0.25, 0.4, 0.1), score=0.5)
    plain_tracker = started(BOX_SPEC, fake_engine(lambda _: answer))
    tracker = started(
        dataclasses.replace(BOX_SPEC, size_smoothing=0.6), fake_engine(lambda _: answer)
    )
    expected, found = plain_tracker.update(FRAME).box, tracker.update(FRAME).box
    for axis, previous in ((2, BOX[2]), (3, BOX[3])):
        assert found[axis] == pytest.approx(previous + 0.3 * (expected[axis] - previous))
        centres = (box[axis - 2] + box[axis] / 2 for box in (found, expected))
        assert next(centres) == pytest.approx(next(centres))
    unsmoothed = tracker.locate(FRAME, BOX, prior=False).box
    np.testing.assert_allclose(unsmoothed[2:], expected[2:], rtol=1e-6)


def square_frame(box=BOX):
    """A white rectangle on black."""
    frame = np.zeros((240, 320, 3), np.uint8)
    x, y, w, h = map(int, box)
    frame[y : y + h, x : x + w] = 255
    return frame


def sees_it_wider(factor):
    """Engine answers with the white rectangle of a crop, `factor` times as wide."""

    def answer(engine):
        rows, columns = np.nonzero(engine.crop[:, :, 0] > 127)
        (x1, x2), (y1, y2) = ((v.min(), v.max() + 1) for v in (columns, rows))
        centre = (x1 + x2) / 2, (y1 + y2) / 2
        size = factor * (x2 - x1), y2 - y1
        return box_answer(np.array([*centre, *size]) / len(engine.crop))

    return answer


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.44), (0.5, 1.2), (1.0, 1.0)])
def test_size_calibration_takes_out_its_share_of_the_first_size_error(
    fake_engine, share, expected
) -> None:
    spec = dataclasses.replace(BOX_SPEC, size_calibration=share)
    tracker = Tracker(spec, fake_engine(sees_it_wider(1.44)))
    tracker.init(square_frame(), BOX)
    assert tracker.box == BOX
    moved = square_frame((140, 100, 40, 30))
    for found in (tracker.update(moved), tracker.locate(moved, BOX, prior=False)):
        x, y, w, h = found.box
        assert (w / BOX[2], h / BOX[3]) == pytest.approx((expected, 1.0), rel=0.03)
        assert (x + w / 2, y + h / 2) == pytest.approx((160.0, 115.0), abs=1.0)


def test_size_calibration_ignores_boxes_found_elsewhere(fake_engine) -> None:
    answer = box_answer((0.9, 0.9, 0.5, 0.1))
    boxes = [
        started(
            dataclasses.replace(BOX_SPEC, size_calibration=share), fake_engine(lambda _: answer)
        )
        .update(FRAME)
        .box
        for share in (0.0, 1.0)
    ]
    assert boxes[0] == boxes[1]


def test_size_calibration_is_reset_by_the_next_init(fake_engine) -> None:
    engine = fake_engine(sees_it_wider(1.44))
    tracker = Tracker(dataclasses.replace(BOX_SPEC, size_calibration=1.0), engine)
    tracker.init(square_frame(), BOX)
    engine.answer = sees_it_wider(1.0)
    tracker.init(square_frame(), BOX)
    assert tracker.update(square_frame()).box[2] == pytest.approx(BOX[2], rel=0.03)


def test_engine_gets_crops_of_the_models_sizes(fake_engine) -> None:
    engine = fake_engine(lambda _: box_answer((0.5, 0.5, 0.25, 0.25)))
    tracker = started(BOX_SPEC, engine)
    tracker.update(FRAME)
    assert engine.template.shape == (128, 128, 3)
    assert engine.crop.shape == (256, 256, 3)
    assert engine.crop.dtype == np.uint8
    window = crop_window(BOX, 2.0)
    expected = [120 - window.x1, 90 - window.y1, 40, 30]
    np.testing.assert_allclose(engine.template_box, np.array(expected) / window.side, atol=1e-6)
    assert engine.template_box.dtype == np.float32


def centred(score=0.9):
    """The target where it was, whatever the crop's size: its box is 40x30 in each."""
    box = np.array([40.0, 30.0]) / math.sqrt(1200)

    def answer(engine):
        factor = NARROW_SPEC.search_factor * engine.crop.shape[0] / NARROW_SPEC.search_size
        cells = engine.crop.shape[0] // 8
        return dense_answer(cells // 2, cells // 2, (0.5, 0.5, *(box / factor)), score, cells)

    return answer


def crop_sides(tracker, engine, frames):
    sides = []
    for _ in range(frames):
        tracker.update(FRAME)
        sides.append(engine.crop.shape[0])
    return sides


def test_a_target_that_keeps_still_is_searched_in_the_narrow_crop(fake_engine) -> None:
    """At first nothing is known of its motion: 0.5 * 0.9^9 is the first below 0.2."""
    engine = fake_engine(centred())
    tracker = started(NARROW_SPEC, engine)
    assert crop_sides(tracker, engine, 12) == [256] * 9 + [176] * 3


def test_a_fast_target_is_searched_in_the_wide_crop(fake_engine) -> None:
    engine = fake_engine(centred())
    tracker = started(NARROW_SPEC, engine)
    crop_sides(tracker, engine, 12)
    still = engine.answer
    engine.answer = lambda _: dense_answer(11, 14, (0.7, 0.5, 0.42, 0.315), cells=22)
    moved = tracker.update(FRAME).box[0] - BOX[0]
    assert moved == pytest.approx(0.2 * 2.75 * math.sqrt(1200), rel=0.02)  # 0.55 of its size
    engine.answer = still
    assert crop_sides(tracker, engine, 12) == [256] * 10 + [176] * 2


def test_a_doubtful_target_is_searched_in_the_wide_crop(fake_engine) -> None:
    engine = fake_engine(centred())
    tracker = started(NARROW_SPEC, engine)
    crop_sides(tracker, engine, 12)
    engine.answer = centred(score=0.49)
    assert crop_sides(tracker, engine, 3) == [176, 256, 256]
    engine.answer = centred(score=0.51)
    assert crop_sides(tracker, engine, 3) == [256, 176, 176]
    engine.answer = centred(score=math.nan)
    assert crop_sides(tracker, engine, 2) == [176, 256]


@pytest.mark.parametrize("jump", ["init", "move_to"])
def test_after_a_jump_the_target_is_searched_in_the_wide_crop(fake_engine, jump) -> None:
    engine = fake_engine(centred())
    tracker = started(NARROW_SPEC, engine)
    crop_sides(tracker, engine, 12)
    tracker.init(FRAME, BOX) if jump == "init" else tracker.move_to(BOX)
    assert crop_sides(tracker, engine, 11) == [256] * 9 + [176] * 2
    tracker.locate(FRAME, BOX)
    assert engine.crop.shape[0] == 256, "a search elsewhere knows nothing of the motion"


@given(
    shape=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    start=st.tuples(*[st.floats(-50, 200)] * 2, *[st.floats(0.01, 400)] * 2),
    answer=st.tuples(*[st.floats(width=32)] * 4),
    score=st.floats(width=32),
)
def test_update_any_box_output_gives_a_usable_estimate(fake_engine, shape, start, answer, score):
    frame = np.zeros((*shape, 3), np.uint8)
    tracker = Tracker(BOX_SPEC, fake_engine(lambda _: box_answer(answer, score)))
    try:
        tracker.init(frame, start)
    except InputError:
        return
    for _ in range(3):
        estimate = tracker.update(frame)
        x, y, w, h = estimate.box
        assert all(map(math.isfinite, estimate.box))
        assert 0.0 <= estimate.score <= 1.0
        assert w > 0
        assert h > 0
        if estimate.score == 0.0 and estimate.box == start:
            continue  # the given box, as it was given
        assert -1e-6 <= x <= shape[1]
        assert x + w <= shape[1] + 1e-6
        assert y + h <= shape[0] + 1e-6


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("where", range(5))
def test_update_non_finite_box_output_keeps_the_box(fake_engine, bad, where) -> None:
    values = [0.5, 0.5, 0.2, 0.2, 0.7]
    good = box_answer(values[:4], values[4])
    tracker = started(BOX_SPEC, engine := fake_engine(lambda _: good))
    before = tracker.update(FRAME)
    values[where] = bad
    engine.answer = lambda _: box_answer(values[:4], values[4])
    broken = tracker.update(FRAME)
    if where == 4 and bad == 1e30:
        assert broken.score == 1.0  # a number, if a wrong one: limited to [0, 1]
        return
    assert broken == Estimate(before.box, 0.0)
    engine.answer = lambda _: good
    assert tracker.update(FRAME).score > 0.0


def test_update_non_finite_dense_output_keeps_the_box(fake_engine) -> None:
    answer = dense_answer(8, 8, (0.5, 0.5, np.nan, 0.2))
    tracker = started(DENSE_SPEC, fake_engine(lambda _: answer))
    assert tracker.update(FRAME) == Estimate(BOX, 0.0)
    answer[0][:] = np.nan
    assert tracker.update(FRAME) == Estimate(BOX, 0.0)


@pytest.mark.parametrize("spec", [BOX_SPEC, DENSE_SPEC], ids=["box", "dense"])
def test_init_again_equals_a_fresh_tracker(fake_engine, spec) -> None:
    def answer(engine):
        mean = float(engine.template.mean()) / 255.0
        if spec.decoder == "box":
            return box_answer((mean, 0.5, 0.2, mean), mean)
        return dense_answer(int(mean * 15), 7, (mean, 0.5, 0.2, mean))

    used, fresh = Tracker(spec, fake_engine(answer)), Tracker(spec, fake_engine(answer))
    used.init(255 - FRAME, (10.0, 20.0, 60.0, 50.0))
    for _ in range(3):
        used.update(255 - FRAME)
    for tracker in (used, fresh):
        tracker.init(FRAME, BOX)
    assert [used.update(FRAME) for _ in range(3)] == [fresh.update(FRAME) for _ in range(3)]


def test_init_refused_keeps_the_previous_target(fake_engine) -> None:
    tracker = started(BOX_SPEC, engine := fake_engine(lambda _: box_answer((0.5, 0.5, 0.2, 0.2))))
    template = engine.template
    for frame, box, text in (
        (FRAME, (0, 0, -1, 5), None),
        (FRAME, (500, 0, 10, 10), None),
        (FRAME.astype(float), BOX, None),
        (FRAME, BOX, "the red car"),
    ):
        with pytest.raises(InputError):
            tracker.init(frame, box, text)
    assert engine.template is template
    assert tracker.update(FRAME).box[2] == pytest.approx(0.2 * 139)


def test_init_failing_in_the_network_leaves_no_target(fake_engine) -> None:
    tracker = started(BOX_SPEC, engine := fake_engine(lambda _: box_answer((0.5, 0.5, 0.2, 0.2))))

    def fail(template):
        raise RuntimeError("device lost")

    engine.set_template = fail
    with pytest.raises(RuntimeError, match="device lost"):
        tracker.init(FRAME, BOX)
    with pytest.raises(InputError, match="before init"):
        tracker.update(FRAME)


def test_update_before_init_is_an_input_error(fake_engine) -> None:
    with pytest.raises(InputError, match="init"):
        Tracker(BOX_SPEC, fake_engine(lambda _: ())).update(FRAME)


def test_init_with_text_of_a_model_without_language_is_refused(fake_engine) -> None:
    tracker = Tracker(BOX_SPEC, fake_engine(lambda _: ()))
    with pytest.raises(InputError, match=r"asymtrack_t takes no text.*'a dog'"):
        tracker.init(FRAME, BOX, "a dog")
    tracker.init(FRAME, BOX, "")


def test_init_box_with_centre_far_outside_is_refused(fake_engine) -> None:
    # It overlaps the frame by a strip, but its window (side 64 around x = 820) does not.
    tracker = Tracker(BOX_SPEC, fake_engine(lambda _: ()))
    with pytest.raises(InputError, match="template would be empty"):
        tracker.init(FRAME, (319.0, 100.0, 1000.0, 1.0))


def test_update_bad_frame_is_refused_and_the_target_kept(fake_engine) -> None:
    tracker = started(BOX_SPEC, fake_engine(lambda _: box_answer((0.5, 0.5, 0.2, 0.2))))
    expected = started(BOX_SPEC, fake_engine(lambda _: box_answer((0.5, 0.5, 0.2, 0.2))))
    for frame in (None, FRAME[..., :2], FRAME[:0], FRAME.astype(np.float32)):
        with pytest.raises(InputError):
            tracker.update(frame)
    assert tracker.update(FRAME) == expected.update(FRAME)


@pytest.mark.parametrize("shape", [(20, 20), (5, 7), (480, 640), (1, 1)])
def test_update_frame_of_another_size_clips_to_it(fake_engine, shape) -> None:
    tracker = started(BOX_SPEC, fake_engine(lambda _: box_answer((0.5, 0.5, 0.2, 0.2))))
    x, y, w, h = tracker.update(np.zeros((*shape, 3), np.uint8)).box
    assert x >= 0.0
    assert y >= 0.0
    assert x + w <= shape[1]
    assert y + h <= shape[0]


def test_estimate_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Estimate(BOX, 1.0).score = 0.0


@given(
    score=st.floats(0, 1, width=32),
    box=st.tuples(*[st.floats(width=32)] * 4),
    row=st.integers(0, 15),
    column=st.integers(0, 15),
)
def test_update_any_dense_output_gives_a_usable_estimate(
    fake_engine, score, box, row, column
) -> None:
    tracker = started(DENSE_SPEC, fake_engine(lambda _: dense_answer(row, column, box, score)))
    for _ in range(2):
        estimate = tracker.update(FRAME)
        assert all(map(math.isfinite, estimate.box))
        assert 0.0 <= estimate.score <= 1.0
        assert estimate.box[0] + estimate.box[2] <= 320 + 1e-6
        assert estimate.box[1] + estimate.box[3] <= 240 + 1e-6
