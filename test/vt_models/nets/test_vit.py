# SPDX-License-Identifier: Apache-2.0
"""The one-stream ViT against OSTrack's vectors, and token pruning against a literal version."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from pathlib import Path
from types import ModuleType

import torch.nn.functional as F
from torch import nn

from vt_models.nets.centre_head import CentreHead, box_at_peak
from vt_models.nets.vit import (
    PruningBlock,
    VisionTransformer,
    ViTConfig,
    attend,
    resize_positions,
    restore_map,
    scheduled_keep_ratio,
)

TOLERANCE = 1e-4
PRUNING_BLOCKS = (3, 6, 9)

pytestmark = pytest.mark.train


class OSTrack(nn.Module):
    """OSTrack-256 of ViT-B: what ProContEXT and PJVLT start from, made of their parts."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = VisionTransformer(
            ViTConfig(
                template_size=128,
                search_size=256,
                pruning_blocks=PRUNING_BLOCKS,
                published=True,
            )
        )
        self.box_head = CentreHead(768)


class Reference:
    """OSTrack with reference weights, one pass through it, and what the authors' code gave."""

    @torch.no_grad()
    def __init__(self, folder: Path, golden_init: ModuleType) -> None:
        self.vectors = dict(np.load(folder / "vitb_256_ce.golden.npz"))
        keys = json.loads((folder / "vitb_256_ce.manifest.json").read_text())["keys"]
        self.published = {key: value["shape"] for key, value in keys.items()}
        self.net = OSTrack().eval()
        golden_init.fill(self.net.state_dict(), str(self.vectors["salt"]))
        template, search = (
            torch.from_numpy(golden_init.net_input(name, size))
            for name, size in (("template", 128), ("search1", 256))
        )
        backbone = self.net.backbone
        tokens = backbone.embed_template(template), backbone.embed_search(search)
        self.orders = record_orders(backbone)
        self.features = backbone(*tokens)
        self.maps = self.net.box_head(self.features)


@pytest.fixture(scope="module")
def ostrack(shared_dir: Path, golden_init: ModuleType) -> Reference:
    return Reference(shared_dir / "reference" / "ostrack", golden_init)


def test_state_dict_is_ostrack_s(ostrack: Reference) -> None:
    shapes = {key: list(value.shape) for key, value in ostrack.net.state_dict().items()}

    assert shapes == ostrack.published


def test_vit_maps_and_box_equal_ostrack_s(ostrack: Reference) -> None:
    maps, vectors = ostrack.maps, ostrack.vectors

    close(maps.score, vectors["score_map"][0])
    close(maps.size, vectors["size_map"])
    close(maps.offset, vectors["offset_map"])
    close(box_at_peak(maps.score, maps.boxes), vectors["pred_boxes"][0])


def test_vit_features_equal_ostrack_s(ostrack: Reference, golden_init: ModuleType) -> None:
    """The vector holds the tokens of template and search region; only the latter are put back."""
    tokens = ostrack.features.flatten(2).transpose(1, 2).numpy()
    expected = ostrack.vectors["sub_backbone_feat"]
    both = np.concatenate([np.full((1, 64, 768), np.nan, np.float32), tokens], axis=1)

    ours = golden_init.sub(both, 2048)
    known = ~np.isnan(ours)

    assert known.sum() > 1500
    close(ours[known], expected[known])


def test_vit_prunes_as_ostrack(ostrack: Reference) -> None:
    for stage, removed in enumerate(removed_positions(ostrack.orders, 256)):
        np.testing.assert_array_equal(removed, ostrack.vectors[f"removed_sorted_{stage}"])


@pytest.mark.parametrize(
    ("template", "expected"), [(128, (27, 91)), (192, (65, 209)), (112, (24, 73))]
)
def test_centre_tokens_are_the_authors(template: int, expected: tuple[int, ...]) -> None:
    """Row and column 3 of 8x8, 5 of 12x12, and 3, the middle, of 7x7; once a template."""
    config = ViTConfig(template_size=template, search_size=256, templates=2)

    assert config.centre_tokens == expected


@pytest.mark.parametrize("images", [1, 6])
def test_attend_learning_on_a_cpu_equals_the_fused_one(images: int) -> None:
    """In bfloat16 it is spelled out, in parts: the same results and gradients."""
    generator = torch.Generator().manual_seed(0)
    exact = [torch.randn(images, 2, 9, 8, generator=generator) for _ in range(3)]
    exact = [tensor.requires_grad_() for tensor in exact]
    rounded = [tensor.detach().bfloat16().requires_grad_() for tensor in exact]

    expected = F.scaled_dot_product_attention(*exact)
    spelled_out = attend(*rounded)
    expected.square().sum().backward()
    spelled_out.float().square().sum().backward()

    assert "Cat" in type(spelled_out.grad_fn).__name__
    torch.testing.assert_close(spelled_out.float(), expected, atol=0.03, rtol=0)
    for ours, theirs in zip(rounded, exact, strict=True):
        torch.testing.assert_close(ours.grad.float(), theirs.grad, atol=0.06, rtol=0.03)


@torch.no_grad()
def test_prune_runs_attention_then_keeps_the_best_then_the_mlp() -> None:
    torch.manual_seed(0)
    block = PruningBlock(24, 3, 0.0).eval()
    x = torch.randn(2, 20, 24)
    judges, first, keep = (1, 3), 5, 6

    ours, order = block.prune(x, judges, first, keep)

    normed = block.norm1(x)
    query, key, value = (
        part.unflatten(2, (3, 8)).transpose(1, 2)
        for part in F.linear(normed, block.attn.qkv.weight, block.attn.qkv.bias).chunk(3, dim=2)
    )
    weights = torch.softmax(query @ key.transpose(2, 3) / 8**0.5, dim=-1)
    attended = x + block.attn.proj((weights @ value).transpose(1, 2).flatten(2))
    scores = weights[:, :, list(judges), first:].mean(dim=(1, 2))
    for index in range(2):
        best = sorted(range(15), key=lambda i: -float(scores[index, i]))[:keep]
        assert order[index].tolist() == best
        rows = [*range(first), *(first + i for i in best)]
        left = attended[index, rows]
        torch.testing.assert_close(ours[index], left + block.mlp(block.norm2(left)))


@torch.no_grad()
def test_vit_keep_ratio_one_prunes_nothing() -> None:
    net = small_net().eval()
    plain = small_net(pruning_blocks=()).eval()
    plain.load_state_dict(net.state_dict())
    template, search = small_tokens(net)

    pruned = net(template, search)
    net.keep_ratio = 1.0

    torch.testing.assert_close(net(template, search), plain(template, search), atol=0, rtol=0)
    assert (pruned == 0).all(dim=1).sum() == 2 * (16 - 9)
    assert not (net(template, search) == 0).all(dim=1).any()


@pytest.mark.parametrize(("ratio", "left"), [(0.7, 9), (0.5, 4), (0.99, 16)])
@torch.no_grad()
def test_vit_pruning_keeps_the_ratio_rounded_up(ratio: float, left: int) -> None:
    """Twice of 16: 12 and 9; 8 and 4; 16 and 16."""
    net = small_net().eval()
    net.keep_ratio = ratio

    features = net(*small_tokens(net))

    assert (features != 0).any(dim=1).sum().item() == 2 * left


@torch.no_grad()
def test_restore_map_puts_tokens_back_in_place() -> None:
    net = small_net().eval()
    orders = record_orders(net)
    seen: list[Any] = []
    net.norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output))

    features = net(*small_tokens(net))

    first, second = orders
    tokens = features.flatten(2).transpose(1, 2)
    for index in range(2):
        positions = first[index][second[index]]
        torch.testing.assert_close(tokens[index, positions], seen[0][index])


@torch.no_grad()
def test_restore_map_without_pruning_is_row_by_row() -> None:
    tokens = torch.arange(6 * 6 * 2).reshape(1, 36, 2).float()

    assert restore_map(tokens, None, 6)[0, 1, 2, 3] == tokens[0, 2 * 6 + 3, 1]


@torch.no_grad()
def test_vit_refine_is_called_before_the_first_and_after_each_block() -> None:
    net = small_net().eval()
    template, search = small_tokens(net)
    lengths: list[tuple[int, int]] = []

    def refine(index: int, tokens: Any) -> Any:
        lengths.append((index, tokens.shape[1]))
        return tokens * 0.5

    refined = net(template, search, refine)

    assert lengths == [(-1, 24), (0, 24), (1, 20), (2, 17)]
    assert not torch.equal(refined, net(template, search))


def test_training_step_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    net = small_net(drop_path=0.0).train()

    net(*small_tokens(net)).square().sum().backward()

    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_vit_residuals_in_evaluation_are_kept() -> None:
    torch.manual_seed(0)
    net = small_net(drop_path=0.9)
    tokens = small_tokens(net)

    with torch.no_grad():
        assert not torch.equal(net.train()(*tokens), net(*tokens))
        assert torch.equal(net.eval()(*tokens), net(*tokens))


def test_scheduled_keep_ratio_falls_along_half_a_cosine() -> None:
    ratios = [scheduled_keep_ratio(epoch, 20, 80, 0.7) for epoch in (0, 20, 40, 60, 100, 300)]

    expected = [1.0, 1.0, 0.7 + 0.3 * (1 + 2**-0.5) / 2, 0.85, 0.7, 0.7]
    np.testing.assert_allclose(ratios, expected)


def test_resize_positions_interpolates_them_as_a_map() -> None:
    ramp = torch.linspace(0, 1, 14).repeat(14, 1).flatten()[None, :, None]

    same, finer = resize_positions(ramp, 14), resize_positions(ramp, 24)

    torch.testing.assert_close(same, ramp)
    rows = finer.reshape(24, 24)
    torch.testing.assert_close(rows[0], rows[23])
    assert (rows[:, 1:] - rows[:, :-1])[:, 2:-2].min() > 0


def small_net(**changes: Any) -> VisionTransformer:
    """Two templates of 2x2 tokens, a search region of 4x4, three blocks, two that prune."""
    settings: dict[str, Any] = {
        "template_size": 16,
        "search_size": 32,
        "templates": 2,
        "patch": 8,
        "dim": 16,
        "depth": 3,
        "heads": 2,
        "pruning_blocks": (1, 2),
    }
    torch.manual_seed(1)
    return VisionTransformer(ViTConfig(**(settings | changes)))


def small_tokens(net: VisionTransformer) -> tuple[Any, Any]:
    """Embedded tokens of a batch of two."""
    torch.manual_seed(2)
    templates = [net.embed_template(torch.randn(2, 3, 16, 16)) for _ in range(2)]
    return torch.cat(templates, dim=1), net.embed_search(torch.randn(2, 3, 32, 32))


def record_orders(net: VisionTransformer) -> list[Any]:
    """A list that fills with the positions that each pruning keeps."""
    orders: list[Any] = []
    for block in net.blocks:
        block.prune = recording(block.prune, orders)
    return orders


def recording(prune: Any, orders: list[Any]) -> Any:
    def run(*arguments: Any) -> Any:
        x, order = prune(*arguments)
        orders.append(order)
        return x, order

    return run


def removed_positions(orders: list[Any], count: int) -> list[Any]:
    """Per pruning, the positions in the search region that it removed, sorted."""
    left = np.arange(count)
    removed = []
    for order in orders:
        kept = left[order[0].numpy()]
        removed.append(np.sort(np.setdiff1d(left, kept)))
        left = kept
    return removed


def close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=TOLERANCE)
