# SPDX-License-Identifier: Apache-2.0
"""Initial values for short training: what is set, and what is left as it was."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from vt_models import create_model
from vt_models.nets.layers import EfficientTemplateModulation
from vt_models.training.distillation.backbone import (
    MODULATION_INIT_SCALE,
    SEARCH_MARK_CHANNELS,
    ease_start,
)


def _eased() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    net = create_model("asymtrack_t")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    ease_start(net, 0.7)
    return net, before


def test_ease_start_opens_residual_branches() -> None:
    net, _ = _eased()
    factors = [
        value for name, value in net.named_parameters() if name.endswith(("gamma_1", "ibe_scale"))
    ]
    assert len(factors) >= 6
    assert all(bool((value == 0.7).all()) for value in factors)


def test_ease_start_copies_keys_to_queries() -> None:
    net, before = _eased()
    name = next(name for name in before if name.endswith("attn.qkv.weight"))
    query, key, value = net.state_dict()[name].chunk(3)
    assert torch.equal(query, key)
    assert 0.9 < float(key.std()) * key.shape[1] ** 0.5 < 1.1
    assert torch.equal(value, before[name].chunk(3)[2])


def test_ease_start_scales_modulation_and_marks_search_in_the_last() -> None:
    net, _ = _eased()
    *first, last = (m for m in net.modules() if isinstance(m, EfficientTemplateModulation))
    assert first
    assert all(bool((module.ln.weight == MODULATION_INIT_SCALE).all()) for module in (*first, last))
    assert not any(bool(module.ln.bias.any()) for module in first)
    assert bool((last.ln.bias[:SEARCH_MARK_CHANNELS] == 1).all())
    assert not bool(last.ln.bias[SEARCH_MARK_CHANNELS:].any())


def test_ease_start_leaves_other_parameters() -> None:
    net, before = _eased()
    changed = {name for name, value in net.state_dict().items() if not value.equal(before[name])}
    meant = ("gamma_1", "ibe_scale", "attn.qkv.weight", "ln.weight", "ln.bias")
    assert all(name.endswith(meant) for name in changed)
