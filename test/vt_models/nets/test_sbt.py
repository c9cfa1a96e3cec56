# SPDX-License-Identifier: Apache-2.0
"""SBT beside the paper: layout of the weights, cost, what is computed when, and how pairs mix."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from pathlib import Path

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vt_models.nets import SiameseNet, sbt

pytestmark = pytest.mark.train

VARIANTS = ("light", "small", "base", "large")
TEMPLATE, SEARCH = 128, 256


def build(variant: str, device: str = "cpu", miniature: bool = False) -> Any:
    with torch.device(device):
        return getattr(sbt, f"sbt_{variant}")(miniature).eval()


def pair(count: int = 1, device: str = "cpu") -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(1)
    return tuple(
        torch.randn(count, 3, size, size, generator=generator).to(device)
        for size in (TEMPLATE, SEARCH)
    )


@pytest.fixture(params=["light", "base", "large"])
def net(request: pytest.FixtureRequest) -> Any:
    """Networks with few channels; biases and norms have values, so that every path counts."""
    torch.manual_seed(0)
    module = build(request.param, miniature=True)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


@pytest.mark.parametrize("variant", ["base", "large"])
def test_state_dict_is_the_published_one(variant: str, shared_dir: Path) -> None:
    file = shared_dir / "reference" / "sbt" / f"{variant}.manifest.json"
    published = {key: value["shape"] for key, value in json.loads(file.read_text())["keys"].items()}
    module = build(variant, "meta")
    unused = module.unused_published()

    shapes = {key: list(value.shape) for key, value in module.state_dict().items()}

    assert len(set(unused)) == len(unused) == 4
    assert set(unused) <= set(published)
    assert shapes == {key: shape for key, shape in published.items() if key not in unused}


@pytest.mark.parametrize("variant", VARIANTS)
def test_sbt_names_and_shapes_are_the_protocol_s(variant: str) -> None:
    module = build(variant, "meta")
    template, search = pair(device="meta")

    state = module.encode_template(template)
    score_map, box_map = module.search(search, *state)

    assert isinstance(module, SiameseNet)
    assert len(state) == len(module.state_names)
    assert module.output_names == ("score_map", "box_map")
    assert score_map.shape == (1, 32, 32)
    assert box_map.shape == (1, 4, 32, 32)


@pytest.mark.parametrize("variant", VARIANTS)
def test_sbt_miniature_has_the_blocks_of_its_model_and_few_weights(variant: str) -> None:
    miniature, whole = build(variant, miniature=True), build(variant, "meta")

    assert set(miniature.state_dict()) == set(whole.state_dict())
    assert miniature.backbone.cross == whole.backbone.cross
    assert sum(parameter.numel() for parameter in miniature.parameters()) < 1_000_000


@pytest.mark.parametrize(
    ("variant", "millions"), [("light", 3.81), ("small", 13.80), ("base", 21.97), ("large", 35.20)]
)
def test_sbt_parameter_count_is_the_paper_s(variant: str, millions: float) -> None:
    """Table 2 leaves the norms out and cuts after two digits.

    It has the two numbers of light in each other's row, and 21.27 for base.
    """
    module = build(variant, "meta")
    whole = sum(parameter.numel() for parameter in module.parameters())
    norms = sum(
        parameter.numel()
        for part in module.modules()
        if isinstance(part, nn.LayerNorm)
        for parameter in part.parameters()
    )

    assert math.floor((whole - norms) / 1e4) / 100 == millions
    assert abs(whole / 1e6 / millions - 1) < 0.005


@pytest.mark.parametrize(
    ("variant", "giga"), [("light", 3.03), ("small", 11.92), ("base", 19.27), ("large", 31.46)]
)
def test_sbt_multiplications_are_the_paper_s(variant: str, giga: float) -> None:
    """Table 2 counts as thop does: convolutions, linear layers, 2 a normalised value, both images.

    That leaves out the products inside of attention. The published code also runs the template
    through the last block.
    """
    module = build(variant, "meta")
    template, search = pair(device="meta")
    attention, norms = [], []
    for part in module.modules():
        if isinstance(part, sbt.SbtAttention):
            part.register_forward_hook(lambda _m, i, _o: attention.append(products(*i)))
        if isinstance(part, nn.LayerNorm):
            part.register_forward_hook(lambda _m, _i, output: norms.append(2 * output.numel()))

    with FlopCounterMode(display=False) as counter:
        x, _ = side_by_side(module.backbone, template, search)
        module.box_head(x)

    counted = counter.get_total_flops() / 2 - sum(attention) + sum(norms)
    assert round(counted / 1e9, 2) == giga


@pytest.mark.parametrize(
    ("variant", "once", "frame"),
    [
        ("light", 0.22, 3.12),
        ("small", 0.84, 11.49),
        ("base", 1.10, 19.17),
        ("large", 2.36, 31.32),
    ],
)
def test_multiplications_per_target_and_frame_are_as_documented(
    variant: str, once: float, frame: float
) -> None:
    """In 10^9 multiplications with an addition, attention's products included."""
    module = build(variant, "meta")
    template, search = pair(device="meta")

    with FlopCounterMode(display=False) as template_counter:
        state = module.encode_template(template)
    with FlopCounterMode(display=False) as search_counter:
        module.search(search, *state)

    assert round(template_counter.get_total_flops() / 2e9, 2) == once
    assert round(search_counter.get_total_flops() / 2e9, 2) == frame


@torch.no_grad()
def test_search_with_template_state_equals_the_whole_pass(net: Any) -> None:
    template, search = pair()

    x, _ = side_by_side(net.backbone, template, search)
    logits, boxes = net.box_head(net.backbone.norm3(x))
    score_map, box_map = net.search(search, *net.encode_template(template))

    torch.testing.assert_close(score_map, torch.softmax(logits, dim=1)[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(box_map, boxes, atol=1e-5, rtol=0)


@torch.no_grad()
def test_search_does_not_recompute_the_template(net: Any) -> None:
    template, search = pair()
    backbone = net.backbone
    state = net.encode_template(template)
    layers = {
        f"{index} {kind}": layer
        for index, block in enumerate(backbone.block3)
        for kind, layer in (("query", block.attn.q), ("key", block.attn.sr), ("mlp", block.mlp))
    }
    seen: dict[str, list[int]] = {name: [] for name in layers}
    embedded = record_sizes(backbone.patch_embed1)
    for name, layer in layers.items():
        seen[name] = record_sizes(layer)

    net.search(search, *state)

    both, search_alone = [(TEMPLATE // 8) ** 2, (SEARCH // 8) ** 2], [(SEARCH // 8) ** 2]
    first, last = backbone.first_cross, backbone.last_cross
    assert embedded == [SEARCH**2]
    for index in range(len(backbone.block3)):
        expected = both if first <= index < last else search_alone
        assert sorted(seen[f"{index} mlp"]) == expected
        assert sorted(seen[f"{index} query"]) == (search_alone if index == first else expected)
    assert seen[f"{first} key"] == search_alone
    assert seen[f"{last} key"] == both[:1]


@torch.no_grad()
def test_attention_equals_the_paper_s_equations() -> None:
    """Equations 2 and 3, head by head, with the mean of a cell as its reduction."""
    torch.manual_seed(0)
    attention = sbt.SbtAttention(channels=6, heads=2, reduction=2)
    attention.sr.weight.copy_(torch.eye(6)[:, :, None, None].expand(6, 6, 2, 2) / 4)
    attention.sr.bias.zero_()
    of, other = torch.randn(1, 9, 6), torch.randn(1, 16, 6)

    cells = other.reshape(2, 2, 2, 2, 6).mean((1, 3)).reshape(4, 6)
    cells = attention.norm(cells)
    found = []
    for head in range(2):
        rows = slice(3 * head, 3 * head + 3)
        query = of[0] @ attention.q.weight[rows].T + attention.q.bias[rows]
        key = cells @ attention.kv.weight[:6][rows].T + attention.kv.bias[:6][rows]
        value = cells @ attention.kv.weight[6:][rows].T + attention.kv.bias[6:][rows]
        found.append(torch.softmax(query @ key.T / math.sqrt(3), dim=1) @ value)
    expected = attention.proj(torch.cat(found, dim=1))

    result = attention(attention.query(of), *attention.key_value(other))

    torch.testing.assert_close(result[0], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_forward_batch_treats_pairs_independently(net: Any) -> None:
    templates, searches = pair(3)

    together = net(templates, searches)
    alone = [net(templates[i : i + 1], searches[i : i + 1]) for i in range(3)]

    for name, value in together.items():
        expected = torch.cat([outputs[name] for outputs in alone])
        torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-4)
    assert (together["boxes"][0] - together["boxes"][1]).abs().max() > 1e-4


@torch.no_grad()
def test_search_depends_on_the_template(net: Any) -> None:
    (template, other), (search, _) = pair(2)

    boxes = [net(image[None], search[None])["boxes"] for image in (template, other)]

    assert (boxes[0] - boxes[1]).abs().max() > 1e-4


@torch.no_grad()
def test_merge_changes_nothing_but_the_mode(net: Any) -> None:
    template, search = pair()
    before = net(template, search)

    merged = net.train().merge().merge()

    assert merged is net
    assert not net.training
    assert torch.equal(net(template, search)["logits"], before["logits"])


def test_training_step_reaches_every_parameter(net: Any) -> None:
    outputs = net.train()(*pair(2))

    (outputs["logits"].square().sum() + outputs["boxes"].square().sum()).backward()

    assert outputs["logits"].shape == (2, 2, 32, 32)
    assert outputs["boxes"].shape == (2, 4, 32, 32)
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def side_by_side(backbone: Any, template: Any, search: Any) -> tuple[Any, Any]:
    """The tokens of both images before the last norm, both of them through every block."""
    x, z = backbone._embed(search), backbone._embed(template)
    for index, block in enumerate(backbone.block3):
        of_x, of_z = block.project(x), block.project(z)
        from_x, from_z = (of_z, of_x) if index in backbone.cross else (of_x, of_z)
        x, z = block.mix(x, of_x[0], *from_x[1:]), block.mix(z, of_z[0], *from_z[1:])
    return x, z


def products(query: Any, key: Any, _value: Any) -> int:
    """Multiplications of the two products inside of attention."""
    return 2 * query.numel() * int(key.shape[2])


def record_sizes(layer: Any) -> list[int]:
    """Positions that go into a layer, one number a call, from now on."""
    sizes: list[int] = []

    def keep(_module: Any, inputs: tuple[Any, ...]) -> None:
        (value,) = inputs
        sizes.append(math.prod(value.shape[2:]) if value.ndim == 4 else value.shape[1])

    layer.register_forward_pre_hook(keep)
    return sizes
