# SPDX-License-Identifier: Apache-2.0
"""STARK beside the paper: layout of the weights, attention, masks, and what learns when."""

from __future__ import annotations

import copy
import json
from functools import partial
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from pathlib import Path

import torch.nn.functional as F
from torch import nn

from vt_models.nets import SiameseNet, stark

pytestmark = pytest.mark.train

VARIANTS = {
    "s50": stark.stark_s50,
    "st50": stark.stark_st50,
    "st101": stark.stark_st101,
}
MINIATURES = {
    "s50": partial(stark.stark_s50, miniature=True),
    "st50": partial(stark.stark_st50, miniature=True),
    "st101": partial(stark.stark_st101, miniature=True),
}
PARAMETERS = {"s50": 28_095_554, "st50": 28_227_395, "st101": 47_167_299}
WIDTH, HEADS = 16, 4


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_dict_is_the_published_one(variant: str, shared_dir: Path) -> None:
    file = shared_dir / "reference" / "stark" / f"{variant}.manifest.json"
    published = json.loads(file.read_text())["keys"]

    with torch.device("meta"):
        net = VARIANTS[variant]()
    layout = {
        key: (list(value.shape), str(value.dtype).removeprefix("torch."))
        for key, value in net.state_dict().items()
    }

    assert layout == {key: (value["shape"], value["dtype"]) for key, value in published.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_stark_parameter_count_is_the_published_one(variant: str) -> None:
    with torch.device("meta"):
        net = VARIANTS[variant]()

    assert sum(parameter.numel() for parameter in net.parameters()) == PARAMETERS[variant]


@pytest.mark.parametrize("variant", MINIATURES)
def test_stark_miniature_has_the_modules_and_the_protocol_of_its_model(variant: str) -> None:
    net = MINIATURES[variant]().eval()

    assert isinstance(net, SiameseNet)
    with torch.device("meta"):
        full = VARIANTS[variant]()
    assert net.config.temporal == full.config.temporal
    assert set(dict(net.named_modules())) <= set(dict(full.named_modules()))
    assert sum(parameter.numel() for parameter in net.parameters()) < 200_000
    state = net.encode_template(*crops(1, 128))
    assert len(state) == len(net.state_names)
    dynamic = net.encode_template(*crops(1, 128, seed=1)) if net.config.temporal else ()
    box, score = net.search(*crops(1, 320), *state, *dynamic)
    assert box.shape == (1, 4)
    assert score.shape == (1,)
    assert 0 <= score.item() <= 1


@pytest.mark.parametrize("variant", MINIATURES)
@torch.no_grad()
def test_merge_changes_nothing_and_leaves_no_batch_norm(variant: str) -> None:
    net = noisy(MINIATURES[variant]()).eval()
    inputs = training_inputs(net)
    before = net(**inputs)

    merged = copy.deepcopy(net).merge()
    again = copy.deepcopy(merged).merge()

    assert not any("BatchNorm" in type(module).__name__ for module in merged.modules())
    for outputs in (merged(**inputs), again(**inputs)):
        for name, value in before.items():
            torch.testing.assert_close(outputs[name], value, rtol=1e-4, atol=1e-5)


def test_forward_equals_the_template_and_search_graphs() -> None:
    net = noisy(stark.stark_st50(miniature=True)).eval()
    inputs = training_inputs(net)

    with torch.no_grad():
        outputs = net(**inputs)
        first = net.encode_template(inputs["template"], inputs["template_mask"])
        dynamic = net.encode_template(inputs["dynamic"], inputs["dynamic_mask"])
        box, score = net.search(inputs["search"], inputs["search_mask"], *first, *dynamic)
        _, other = net.search(inputs["search"], inputs["search_mask"], *dynamic, *dynamic)

    torch.testing.assert_close(outputs["box"], box)
    torch.testing.assert_close(outputs["logit"].sigmoid(), score)
    assert (other != score).all()


@pytest.mark.parametrize("given", [0, 3, 5])
def test_search_wrong_number_of_states_is_refused(given: int) -> None:
    net = stark.stark_st50(miniature=True).eval()
    state = net.encode_template(*crops(1, 128))

    with pytest.raises(ValueError, match=f"expected 6 tensors of template state, got {given}"):
        net.search(*crops(1, 320), *(state + state)[:given])


def reference_attention(attention: Any) -> Any:
    reference = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval()
    reference.load_state_dict(attention.state_dict())
    return reference


def attention() -> Any:
    torch.manual_seed(0)
    module = stark.StarkAttention(WIDTH, HEADS, 0.1).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    return module


@pytest.mark.parametrize("padded", [0, 3])
@torch.no_grad()
def test_attention_equals_torch_s(padded: int) -> None:
    module = attention()
    query, tokens, positions = torch.randn(2, 1, WIDTH), *torch.randn(2, 2, 9, WIDTH)
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[0, :padded] = True
    bias = padding.float() * stark.MASKED
    keys = tokens + positions
    reference = reference_attention(module)

    mixed = module(keys, tokens, bias[:, None, None])
    pooled = module.pool(query, keys, tokens, bias[:, None])
    alone = module.alone(query)

    close(mixed, reference(keys, keys, tokens, key_padding_mask=padding)[0])
    close(pooled, reference(query, keys, tokens, key_padding_mask=padding)[0])
    close(alone, reference(query, query, query)[0])


@torch.no_grad()
def test_search_padding_has_no_influence() -> None:
    net = noisy(stark.stark_st50(miniature=True)).eval()
    state = net.encode_template(*crops(1, 128, padded=40))
    padded = state[2] < 0
    other = (state[0] + 3 * padded[..., None], *state[1:])
    search = crops(1, 320)

    expected = net.search(*search, *state, *state)
    outputs = net.search(*search, *other, *state)

    assert padded.sum() == 24
    for value, unchanged in zip(outputs, expected, strict=True):
        torch.testing.assert_close(value, unchanged, rtol=0, atol=1e-6)


@torch.no_grad()
def test_embed_padding_cells_are_those_of_nearest_interpolation() -> None:
    net = stark.stark_s50(miniature=True).eval()
    image = torch.zeros(1, 3, 128, 128)
    mask = torch.rand(1, 128, 128, generator=torch.Generator().manual_seed(0)) < 0.5

    _, _, bias = net.encode_template(image, mask)

    cells = F.interpolate(mask[None].float(), size=(8, 8), mode="nearest")[0] > 0
    assert torch.equal(bias < 0, cells.flatten(1))


@torch.no_grad()
def test_search_crops_of_padding_alone_are_finite() -> None:
    net = noisy(stark.stark_st50(miniature=True)).eval()
    state = net.encode_template(*crops(1, 128, padded=128))

    box, score = net.search(*crops(1, 320, padded=320), *state, *state)

    assert box.isfinite().all()
    assert score.isfinite().all()


@pytest.mark.parametrize("variant", ["s50", "st50"])
def test_training_step_reaches_every_parameter_and_no_backbone_statistic(variant: str) -> None:
    net = noisy(MINIATURES[variant]()).train()
    frozen = {key: value.clone() for key, value in net.backbone.named_buffers()}

    outputs = net(**training_inputs(net))
    loss = outputs["box"].square().sum()
    if "logit" in outputs:
        loss = loss + outputs["logit"].square().sum()
    loss.backward()

    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert len(frozen) == 4 * 13
    for key, value in net.backbone.named_buffers():
        assert torch.equal(value, frozen[key])


def test_training_step_second_stage_changes_the_score_head_alone() -> None:
    net = noisy(stark.stark_st50(miniature=True))
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.startswith("cls_head."))
    net.train()
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.SGD((p for p in net.parameters() if p.requires_grad), lr=0.1)

    logit = net(**training_inputs(net))["logit"]
    F.binary_cross_entropy_with_logits(logit, torch.tensor([1.0, 0.0])).backward()
    optimizer.step()

    changed = {key for key, value in net.state_dict().items() if not value.equal(before[key])}
    assert changed
    assert all(key.startswith("cls_head.") for key in changed)


def crops(count: int, side: int, seed: int = 0, padded: int = 0) -> tuple[Any, Any]:
    """Images, and their padding: the first `padded` rows."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(count, side, side, dtype=torch.bool)
    mask[:, :padded] = True
    return torch.randn(count, 3, side, side, generator=generator), mask


def training_inputs(net: Any) -> dict[str, Any]:
    """A batch of two, with padding in the second."""
    names = ["template", "search"] + ["dynamic"] * net.config.temporal
    inputs = {}
    for seed, name in enumerate(names):
        image, mask = crops(2, 320 if name == "search" else 128, seed)
        mask[1, :, :40] = True
        inputs |= {name: image, f"{name}_mask": mask}
    return inputs


def noisy(net: Any) -> Any:
    """Give norms and offsets, which start at 0 or 1, a value, so that every path counts."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.add_(0.2 * torch.rand(tensor.shape, generator=generator))
    return net


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
