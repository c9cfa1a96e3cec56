# SPDX-License-Identifier: Apache-2.0
"""The range of a target from depth samples, against scenes whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.geometry.depth import DepthMode, RangeGate, strong_modes, usable

SHARE = 0.2


def scene(
    chance: np.random.Generator,
    target: float,
    *,
    visible: float = 0.55,
    background: float = 9.0,
    holes: float = 0.3,
    bleeding: float = 0.15,
) -> np.ndarray:
    """The inner half of a box, 60 x 40 depths of a stereo camera: noise grows with the square."""
    depths = np.full(2400, background)
    kind = chance.random(2400)
    depths[kind < visible] = target
    between = (kind >= visible) & (kind < visible + bleeding)
    depths[between] = chance.uniform(target, background, between.sum())
    depths += 0.0025 * depths**2 * chance.standard_normal(2400)
    depths[chance.random(2400) < holes] = chance.choice((0.0, np.nan))
    return depths


def nearest(depths: np.ndarray) -> DepthMode:
    return strong_modes(usable(depths, 0.1, 100.0), SHARE)[0]


def test_range_with_holes_and_a_background_that_bleeds_is_right_to_two_per_cent() -> None:
    chance = np.random.default_rng(3)
    targets = np.exp(chance.uniform(np.log(0.4), np.log(7.0), 400))
    errors = [abs(nearest(scene(chance, target)).range / target - 1) for target in targets]
    assert np.median(errors) < 0.005
    assert np.quantile(errors, 0.99) < 0.02
    # The median of the whole region, which is what most take, is off by far more.
    medians = [np.nanmedian(scene(chance, target, visible=0.4)) / target - 1 for target in targets]
    assert np.median(np.abs(medians)) > 0.2


def test_median_error_holds_when_the_target_fills_less_than_a_third() -> None:
    chance = np.random.default_rng(4)
    targets = chance.uniform(0.5, 6.0, 200)
    errors = [
        abs(nearest(scene(chance, target, visible=0.3, bleeding=0.2)).range / target - 1)
        for target in targets
    ]
    assert np.median(errors) < 0.01


@given(
    target=st.floats(0.3, 20.0),
    far=st.floats(1.3, 5.0),
    visible=st.floats(0.3, 0.95),
    scale=st.floats(0.1, 10.0),
)
def test_modes_scale_with_the_depths_and_come_nearest_first(
    target: float, far: float, visible: float, scale: float
) -> None:
    count = round(200 * visible)
    depths = np.array([target] * count + [far * target] * (200 - count))
    modes = strong_modes(depths, SHARE)
    assert modes[0].range == pytest.approx(target)
    assert [mode.range for mode in modes] == sorted(mode.range for mode in modes)
    assert sum(mode.share for mode in modes) <= 1.0 + 1e-9
    scaled = strong_modes(scale * depths, SHARE)
    assert [m.range for m in scaled] == pytest.approx([scale * m.range for m in modes])


def test_speckles_tails_and_ramps_make_no_mode() -> None:
    chance = np.random.default_rng(5)
    surface = 5.0 * np.exp(0.02 * chance.standard_normal(1000))
    speckles = chance.uniform(0.3, 4.0, 100)
    (mode,) = strong_modes(np.concatenate((surface, speckles)), SHARE)
    assert mode.range == pytest.approx(5.0, rel=0.01)
    assert mode.spread == pytest.approx(0.1, rel=0.2)
    assert strong_modes(np.linspace(1.0, 12.0, 500), SHARE) == []
    assert strong_modes(np.array([]), SHARE) == []


def test_usable_drops_holes_in_all_spellings_and_thins_large_regions_out() -> None:
    depths = np.array([[0.0, np.nan, np.inf], [-1.0, 0.05, 2.0], [-np.inf, 3.0, 200.0]])
    assert usable(depths, 0.1, 100.0).tolist() == [2.0, 3.0]
    assert len(usable(np.full((720, 1280), 2.0, np.float32), 0.1, 100.0)) <= 4096
    assert usable(np.zeros((0, 0)), 0.1, 100.0).size == 0


def modes_at(*ranges: float) -> list[DepthMode]:
    return [DepthMode(range_, 0.01, 0.4) for range_ in ranges]


def test_gate_keeps_the_target_while_something_passes_before_it() -> None:
    gate = RangeGate(fastest=3.0, patience=1.0)
    assert gate.choose(modes_at(5.0, 9.0), 0.0, 0.05) == 0
    for step in range(1, 20):  # 0.6 s at 30 images a second; the target comes nearer meanwhile
        assert gate.choose(modes_at(2.0, 5.0 - 0.05 * step, 9.0), step / 30, 0.05) == 1
    assert gate.choose(modes_at(2.0), 20 / 30, 0.05) is None  # the target is covered
    assert gate.choose(modes_at(3.95, 9.0), 21 / 30, 0.05) == 0


def test_gate_takes_a_nearer_surface_that_stays_for_its_patience() -> None:
    gate = RangeGate(fastest=3.0, patience=1.0)
    assert gate.choose(modes_at(9.0), 0.0, 0.05) == 0  # the background, through a hole
    chosen = [gate.choose(modes_at(3.0, 9.0), step / 10, 0.05) for step in range(1, 13)]
    assert chosen == [1] * 10 + [0] * 2
    assert gate.last_range == 3.0


def test_gate_starts_patience_anew_for_another_surface_and_after_a_reset() -> None:
    gate = RangeGate(fastest=1.0, patience=0.5)
    assert gate.choose(modes_at(9.0), 0.0, 0.0) == 0
    for step in range(1, 20):  # never the same one twice
        nearest_range = 2.0 if step % 2 else 5.0
        assert gate.choose(modes_at(nearest_range, 9.0), step / 10, 0.0) == 1
    gate.reset()
    assert np.isnan(gate.last_range)
    assert gate.choose(modes_at(2.0, 9.0), 5.0, 0.0) == 0


@given(start=st.floats(0.5, 20.0), speed=st.floats(-2.9, 2.9), step=st.floats(0.02, 0.2))
def test_gate_follows_whatever_moves_slower_than_its_limit(
    start: float, speed: float, step: float
) -> None:
    gate = RangeGate(fastest=3.0, patience=1.0)
    for number in range(20):
        distance = max(0.2, start + speed * step * number)
        assert gate.choose(modes_at(distance), step * number, 0.0) == 0
