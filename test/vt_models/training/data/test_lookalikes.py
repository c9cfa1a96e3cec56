# SPDX-License-Identifier: Apache-2.0
"""Pasted objects leave the target alone, and labels stay where the pixels are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.training.data.lookalikes import (
    LookAlikes,
    add_distractor,
    cut_object,
    paste,
    transplant,
)
from vt_models.training.data.sampling import PairSampler
from vt_models.training.data.targets import ImagePack, Target, load_image_pack
from vt_models.training.recipe.settings import SamplingConfig

SIZE = 128


def _pack(names: list[str]) -> ImagePack:
    images = [np.zeros((20, 20, 3), np.uint8) for _ in names]
    stills = [Target(i, (2.0, 2.0, 8.0, 8.0), name, f"scene {i}") for i, name in enumerate(names)]
    return ImagePack(images, stills, [])


def test_lookalikes_draw_has_the_name_and_not_the_scene() -> None:
    pack = _pack(["dog", "cat", "dog", "cat", "bird", ""])
    alike = LookAlikes(pack.sources)
    rng = np.random.default_rng(0)
    for target in pack.stills[:4]:
        other = alike.draw(target, rng)
        assert other is not None
        assert (other.name, other.scene != target.scene) == (target.name, True)
    assert alike.draw(pack.stills[4], rng) is None, "the only bird"
    assert alike.draw(pack.stills[5], rng) is None, "no name"


def test_sampler_negatives_may_be_lookalikes() -> None:
    pack = _pack(["dog", "dog", *["cat"] * 30])
    config = SamplingConfig(0.0, 1.0, negative_share=1.0, lookalike_share=1.0)
    sampler = PairSampler(pack, config, 0)
    for number in range(60):
        pair = sampler.draw(sampler.rng(number))
        assert not pair.present
        assert pair.template.name == pair.search.name
        assert pair.template.scene != pair.search.scene


@given(seed=st.integers(0, 2**32 - 1), cx=st.floats(0.2, 0.8), w=st.floats(0.1, 0.4))
def test_add_distractor_never_covers_the_target(seed: int, cx: float, w: float) -> None:
    rng = np.random.default_rng(seed)
    box = np.array([cx, 0.5, w, 0.2], np.float32)
    crop = np.full((SIZE, SIZE, 3), 90, np.uint8)
    patch = np.full((20, 30, 3), 250, np.uint8)
    rows, columns = np.nonzero((add_distractor(crop, box, patch, rng) != 90).any(2))
    low, high = (box[:2] - box[2:] / 2) * SIZE, (box[:2] + box[2:] / 2) * SIZE
    inside = (columns > low[0]) & (columns + 1 < high[0])
    inside &= (rows > low[1]) & (rows + 1 < high[1])
    assert not inside.any()


def test_add_distractor_sometimes_takes_the_colours_of_the_target() -> None:
    box = np.array([0.5, 0.5, 0.25, 0.25], np.float32)
    patch = np.full((20, 20, 3), (250, 10, 10), np.uint8)
    reddest = []
    for seed in range(40):
        crop = np.full((SIZE, SIZE, 3), 90, np.uint8)
        add_distractor(crop, box, patch, np.random.default_rng(seed))
        changed = (crop != 90).any(2)
        assert changed.sum() > 50
        reddest.append(int(crop[:, :, 0].max()))
    assert max(reddest) >= 240
    assert min(reddest) < 220


@given(seed=st.integers(0, 2**32 - 1), cx=st.floats(-0.1, 1.1), w=st.floats(0.02, 0.5))
def test_paste_is_where_its_box_is(seed: int, cx: float, w: float) -> None:
    rng = np.random.default_rng(seed)
    crop = np.zeros((SIZE, SIZE, 3), np.uint8)
    box = np.array([cx, 0.5, w, w], np.float32)
    paste(crop, np.full((9, 9, 3), 255, np.uint8), box, rng)
    rows, columns = np.nonzero(crop[:, :, 0])
    reach = 0.5 * 1.15 * w * SIZE + 2
    assert (np.abs(columns + 0.5 - cx * SIZE) < reach).all()
    assert (np.abs(rows + 0.5 - 0.5 * SIZE) < reach).all()
    if reach < SIZE * min(cx, 1 - cx) and w > 0.1:
        assert columns.mean() + 0.5 == pytest.approx(cx * SIZE, abs=1.5)


@given(seed=st.integers(0, 2**32 - 1))
def test_transplant_label_is_where_the_target_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    crop = np.zeros((SIZE, SIZE, 3), np.uint8)
    patch = np.full((20, 40, 3), 255, np.uint8)
    box = transplant(crop, np.array([0.4, 0.6, 0.2, 0.3], np.float32), patch, rng)
    assert box[:2] == pytest.approx([0.4, 0.6])
    assert box[2] / box[3] == pytest.approx(2.0, rel=1e-5)
    rows, columns = np.nonzero(crop[:, :, 0] > 127)
    width, height = columns.max() - columns.min() + 1, rows.max() - rows.min() + 1
    assert 0.7 * box[2] * SIZE - 2 < width < 1.15 * box[2] * SIZE + 2
    assert 0.7 * box[3] * SIZE - 2 < height < 1.15 * box[3] * SIZE + 2


def test_cut_object_is_clipped_at_the_image() -> None:
    image = np.arange(20 * 30, dtype=np.int64).reshape(20, 30, 1).repeat(3, 2).astype(np.uint8)
    corner = cut_object(image, Target(0, (-4.0, -4.0, 10.0, 10.0), "", ""))
    assert corner.shape == (6, 6, 3)
    assert cut_object(image, Target(0, (5.0, 5.0, 10.0, 10.0), "", "")).shape == (11, 11, 3)
    assert cut_object(image, Target(0, (29.5, 19.5, 3.0, 3.0), "", "")).size > 0


def test_load_image_pack_min_side_and_hold_out(mini_pack: Path) -> None:
    everything = load_image_pack(mini_pack)
    large = load_image_pack(mini_pack, min_side=29.0)
    assert len(large.stills) == sum(min(t.box[2:]) >= 29.0 for t in everything.stills) > 0
    assert len(large.stills) < len(everything.stills)
    judged = load_image_pack(mini_pack, hold_out=("clip1",))
    assert [track.key for track in judged.tracks] == ["clip0/0"]
    assert len(judged.images) == len(everything.images) - 6
    with pytest.raises(Exception, match=r"no video clip9.*clip0, clip1"):
        load_image_pack(mini_pack, hold_out=("clip9",))
