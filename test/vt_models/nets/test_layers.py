# SPDX-License-Identifier: Apache-2.0
"""The building blocks against slow, literal versions of the paper's formulas."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

import torch.nn.functional as F

from vt_models.nets.layers import (
    EfficientTemplateModulation,
    MapLinear,
    MapNorm,
    ObjectPerceptionEnhancement,
)

pytestmark = pytest.mark.train


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_map_linear_is_a_linear_layer_over_channels() -> None:
    layer, x = MapLinear(6, 4), torch.rand(2, 6, 3, 5)

    expected = F.linear(x.permute(0, 2, 3, 1), layer.weight, layer.bias).permute(0, 3, 1, 2)

    torch.testing.assert_close(layer(x), expected)


def test_map_norm_gives_each_position_mean_0_and_variance_1() -> None:
    normed = MapNorm(16)(torch.rand(2, 16, 3, 5) * 7 + 3)

    torch.testing.assert_close(normed.mean(1), torch.zeros(2, 3, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.var(1, correction=0), torch.ones(2, 3, 5), atol=1e-4, rtol=0)


def enhancement() -> ObjectPerceptionEnhancement:
    module = ObjectPerceptionEnhancement(8)
    with torch.no_grad():
        module.theta.fill_(0.7)
        module.ibe_scale.copy_(torch.randn(8))
    return module


@torch.no_grad()
def test_enhancement_output_is_the_sum_of_its_branches() -> None:
    module, x = enhancement(), torch.rand(2, 8, 6, 5)

    total = torch.zeros_like(x)
    for conv in module.rbr_conv:
        local = -torch.sigmoid(module.theta) * conv.weight.sum((2, 3), keepdim=True)
        total += F.conv2d(x, conv.weight, padding=1) + F.conv2d(x, local)
    expected = x + module.ibe_scale[:, None, None] * F.relu(module.ln(total))

    torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_enhancement_merge_changes_no_output() -> None:
    module, x = enhancement(), torch.rand(2, 8, 6, 5)
    before = module(x)

    module.merge()
    module.merge()

    torch.testing.assert_close(module(x), before)
    assert set(module.state_dict()) == {
        "ibe_scale",
        "rbr_reparam.weight",
        "ln.weight",
        "ln.bias",
    }


@torch.no_grad()
def test_enhancement_fresh_is_the_identity() -> None:
    x = torch.rand(1, 8, 4, 4)

    assert torch.equal(ObjectPerceptionEnhancement(8)(x), x)


@torch.no_grad()
def test_modulation_equals_the_paper_s_equations() -> None:
    """Equations 4 to 7, position by position, with the kernels from the template's prototype."""
    channels, count = 12, 3
    module = EfficientTemplateModulation(channels, count)
    z, x = torch.rand(1, channels, 4, 4), torch.rand(1, channels, 5, 6)

    def prototypes(linear: MapLinear, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        flat = features[0].flatten(1).T
        weights = F.linear(flat, linear.weight, linear.bias)
        return weights, sum(weights[p][:, None] * flat[p][None, :] for p in range(flat.shape[0]))

    _, p_z = prototypes(module.pre_kernels, z)
    s_x, p_x = prototypes(module.pre_kernels_x, x)
    kernel = module.conv_att.weight_linear(p_z)
    depthwise = F.conv1d(p_x[None], kernel[:, None, :3], padding=1, groups=count)[0]
    p_mix = module.conv_att.norm(kernel[:, 3:] @ F.relu(depthwise))
    gate = torch.sigmoid((module.proj_Cto1(p_mix) * p_mix).sum(0))
    cues = (s_x @ p_mix * gate).T.reshape(1, channels, 5, 6)
    expected = x + F.relu(module.ln(cues))

    torch.testing.assert_close(module.prototype(z)[0], p_z, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(module(x, module.encode_template(z)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("detach", [True, False])
def test_modulation_detach_prototype_stops_its_gradient(detach: bool) -> None:
    module = EfficientTemplateModulation(8, 2, detach_prototype=detach)
    z = torch.rand(1, 8, 4, 4, requires_grad=True)

    module(torch.rand(1, 8, 4, 4), module.encode_template(z)).sum().backward()

    assert (module.pre_kernels.weight.grad is None) == detach
    assert (z.grad is None) == detach
    assert module.conv_att.weight_linear.weight.grad is not None


def test_enhancement_gradients_of_the_branches_are_tensors_of_their_own() -> None:
    """Clipping and accumulation change gradients in place: shared memory would change thrice."""
    module, x = enhancement(), torch.randn(2, 8, 6, 6)
    module(x).square().sum().backward()
    once = [conv.weight.grad.clone() for conv in module.rbr_conv]
    module(x).square().sum().backward()
    for conv, gradient in zip(module.rbr_conv, once, strict=True):
        torch.testing.assert_close(conv.weight.grad, 2 * gradient)
