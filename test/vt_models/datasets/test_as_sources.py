# SPDX-License-Identifier: Apache-2.0
"""Every dataset of videos can be trained on."""

from __future__ import annotations

import numpy as np
import pytest

from vt_models.datasets import DATASETS
from vt_models.training.data.sampling import PairSampler
from vt_models.training.data.sources import open_sources
from vt_models.training.recipe.settings import Recipe, SamplingConfig, SourceConfig

SPLITS = {"got10k": "val"}
"""Where the miniature does not have the training split."""


@pytest.mark.parametrize("kind", sorted(DATASETS))
def test_every_kind_gives_pairs(build, kind):
    source = SourceConfig(kind, split=SPLITS.get(kind, ""))
    sampling = SamplingConfig(min_side=1, negative_share=0.3, hidden_share=1, order="trident")
    recipe = Recipe("stark_st50", sources=(source,), sampling=sampling)
    data = open_sources(recipe, {kind: build(kind).root})
    assert data.sources[0].tracks
    for track in data.sources[0].tracks:
        assert len(track.targets) == len(track.frames) >= 2
        assert all(np.isfinite(target.box).all() for target in (*track.targets, *track.hidden))
        shown = {target.image for target in track.targets}
        assert not shown & {target.image for target in track.hidden}
    sampler = PairSampler(data, sampling, 0, dynamic=True)
    for number in range(30):
        pair = sampler.draw(sampler.rng(number))
        for target in (pair.template, pair.search, pair.dynamic):
            assert data.images[target.image].shape == (24, 32, 3)
