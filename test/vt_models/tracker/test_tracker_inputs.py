# SPDX-License-Identifier: Apache-2.0
"""What the trackers of several templates, masks and texts hand to their networks."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from vt_models import InputError, UpdatePolicy, get_spec
from vt_models.geometry.boxes import crop_window
from vt_models.geometry.crop import Cropper, window_padding
from vt_models.registry import find_update_policy, parse_update_policy
from vt_models.tracker.tracker import Tracker

if TYPE_CHECKING:
    from vt_models.registry import ModelSpec

FRAME = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
OTHER = 255 - FRAME
BOX = (60.0, 40.0, 30.0, 20.0)


def plain(**changes: Any) -> ModelSpec:
    """AsymTrack-T's loop on small crops with something added."""
    return dataclasses.replace(get_spec("asymtrack_t"), template_size=32, search_size=64, **changes)


def answering(score: float = 0.9) -> Any:
    """An engine that leaves the box where it is."""
    answer = (np.array([[0.5, 0.5, 0.25, 0.25]], np.float32), np.array([score], np.float32))
    return lambda _: answer


def crop(frame, box, factor, size):
    return Cropper(size)(frame, crop_window(box, factor))


def test_template_views_are_cropped_at_their_own_factors(fake_engine) -> None:
    spec = plain(context_factors=(4.0,), dynamic_template=True, update_interval=1)
    tracker = Tracker(spec, engine := fake_engine(answering()))
    tracker.init(FRAME, BOX)
    tracker.update(OTHER)
    assert np.array_equal(engine.template, crop(FRAME, BOX, 2.0, 32))
    assert tracker.box is not None
    expected = [crop(OTHER, tracker.box, factor, 32) for factor in (2.0, 4.0)]
    assert np.array_equal(engine.dynamic[0], np.stack(expected))


@pytest.mark.parametrize(
    ("score", "expected"), [(0.75, [4, 8, 12]), (0.5, [])], ids=["above", "at the threshold"]
)
def test_update_replaces_the_dynamic_template_by_interval_and_score(
    fake_engine, score, expected
) -> None:
    spec = plain(dynamic_template=True, update_interval=4, update_threshold=0.5)
    tracker = Tracker(spec, engine := fake_engine(answering(score)))
    tracker.init(FRAME, BOX)
    updated = []
    for number in range(1, 13):
        before = len(engine.dynamic)
        tracker.update(FRAME)
        updated += [number] * (len(engine.dynamic) - before)
    assert updated == expected


def test_updates_false_keeps_the_dynamic_template_and_init_counts_anew(fake_engine) -> None:
    spec = plain(dynamic_template=True, update_interval=3)
    tracker = Tracker(spec, engine := fake_engine(answering()))
    tracker.init(FRAME, BOX)
    tracker.updates = False
    for _ in range(6):
        tracker.update(FRAME)
    assert engine.dynamic == []
    tracker.updates = True
    tracker.init(FRAME, BOX)
    for _ in range(2):
        tracker.update(FRAME)
    assert engine.dynamic == []
    tracker.update(FRAME)
    assert len(engine.dynamic) == 1


def test_update_policy_without_a_dynamic_template_is_ignored(fake_engine) -> None:
    tracker = Tracker(
        plain(), engine := fake_engine(answering()), update=UpdatePolicy("always", 1, 0.0)
    )
    tracker.init(FRAME, BOX)
    tracker.update(FRAME)
    assert engine.dynamic == []


def test_engine_gets_masks_where_crops_show_padding(fake_engine) -> None:
    spec = plain(template_inputs=("template_mask",), search_inputs=("search_mask",))
    tracker = Tracker(spec, engine := fake_engine(answering()))
    tracker.init(FRAME, (70.0, 50.0, 10.0, 8.0))
    assert engine.template_mask is None
    tracker.update(FRAME)
    assert engine.mask is None
    corner = (-5.0, -5.0, 30.0, 30.0)
    tracker.init(FRAME, corner)
    assert np.array_equal(
        engine.template_mask, window_padding(FRAME.shape, crop_window(corner, 2.0), 32)
    )
    tracker.update(FRAME)
    assert np.array_equal(engine.mask, window_padding(FRAME.shape, crop_window(corner, 4.0), 64))
    assert engine.mask.any()
    assert not engine.mask.all()


def test_locate_changes_nothing_and_move_to_changes_the_box(fake_engine) -> None:
    spec = plain(dynamic_template=True, update_interval=1)
    tracker = Tracker(spec, engine := fake_engine(answering()))
    tracker.init(FRAME, BOX)
    elsewhere = (100.0, 80.0, 24.0, 24.0)
    found = tracker.locate(FRAME, elsewhere)
    assert found.box == pytest.approx(elsewhere, abs=1.0)
    assert np.array_equal(engine.crop, crop(FRAME, elsewhere, 4.0, 64))
    assert tracker.box == BOX
    assert engine.dynamic == []
    tracker.move_to(elsewhere)
    assert tracker.box == elsewhere
    tracker.update(FRAME)
    assert np.array_equal(engine.crop, crop(FRAME, elsewhere, 4.0, 64))


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (np.nan, 0, 5, 5), (0, 0, 5, -5)])
def test_move_to_unusable_box_is_an_input_error(fake_engine, box) -> None:
    tracker = Tracker(plain(), fake_engine(answering()))
    with pytest.raises(InputError, match="init"):
        tracker.move_to(BOX)
    tracker.init(FRAME, BOX)
    with pytest.raises(InputError):
        tracker.move_to(box)
    assert tracker.box == BOX


def test_locate_without_prior_takes_the_plain_maximum(fake_engine) -> None:
    spec = dataclasses.replace(get_spec("asymtrack_lite0"), template_size=32, search_size=64)
    score_map = np.zeros((1, 8, 8), np.float32)
    score_map[0, 0, 0], score_map[0, 4, 4] = 0.9, 0.8
    box_map = np.zeros((1, 4, 8, 8), np.float32)
    box_map[0, :, 0, 0] = 0.1, 0.1, 0.5, 0.5
    box_map[0, :, 4, 4] = 0.5, 0.5, 0.25, 0.25
    tracker = Tracker(spec, fake_engine(lambda _: (score_map, box_map)))
    tracker.init(FRAME, BOX)
    side = np.ceil(np.sqrt(BOX[2] * BOX[3]) * 4)
    with_prior, without = (tracker.locate(FRAME, BOX, prior) for prior in (True, False))
    assert with_prior.score == pytest.approx(0.8)
    assert without.score == pytest.approx(0.9)
    assert without.box[2] == pytest.approx(0.5 * side, abs=0.01)


def test_init_text_reaches_a_model_with_language_and_none_is_masked(fake_engine) -> None:
    spec = plain(language=True, text_length=5)

    def words(text: str) -> tuple[np.ndarray, np.ndarray]:
        if not text.strip():
            raise InputError("empty text")
        return np.arange(5), np.arange(5) < len(text.split())

    tracker = Tracker(spec, engine := fake_engine(answering()), words)
    tracker.init(FRAME, BOX, "a red car")
    assert engine.text[1].tolist() == [True, True, True, False, False]
    with pytest.raises(InputError, match="empty text"):
        tracker.init(FRAME, BOX, " ")
    assert tracker.box == BOX
    tracker.init(FRAME, BOX)
    assert not engine.text[1].any()


def test_init_text_without_a_tokenizer_is_an_input_error(fake_engine) -> None:
    tracker = Tracker(plain(language=True, text_length=5), fake_engine(answering()))
    with pytest.raises(InputError, match="tokenizer"):
        tracker.init(FRAME, BOX, "a red car")


def test_find_update_policy_by_name_or_policy() -> None:
    presets = (UpdatePolicy("often", 25, 0.5), UpdatePolicy("paper", 1, 0.7))
    spec = plain(
        dynamic_template=True, update_interval=100, update_threshold=0.7, update_presets=presets
    )
    assert find_update_policy(spec, None) == UpdatePolicy("default", 100, 0.7)
    assert find_update_policy(spec, "default") == UpdatePolicy("default", 100, 0.7)
    assert find_update_policy(spec, "often") is presets[0]
    own = UpdatePolicy("mine", 7, 0.3)
    assert find_update_policy(spec, own) is own
    with pytest.raises(InputError, match="settings: default, often, paper"):
        find_update_policy(spec, "seldom")
    for bad in (UpdatePolicy("x", -1, 0.5), UpdatePolicy("x", 5, 1.5), UpdatePolicy("x", 5, -0.1)):
        with pytest.raises(InputError, match="interval must be"):
            find_update_policy(spec, bad)
    with pytest.raises(InputError, match="no dynamic template"):
        find_update_policy(plain(), "often")


def test_parse_update_policy_name_or_numbers() -> None:
    assert parse_update_policy("lasot") == "lasot"
    assert parse_update_policy("25:0.5") == UpdatePolicy("25:0.5", 25, 0.5)
    for bad in ("25:", ":0.5", "a:b", "2.5:0.5"):
        with pytest.raises(InputError, match="INTERVAL:THRESHOLD"):
            parse_update_policy(bad)
