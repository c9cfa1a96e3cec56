# SPDX-License-Identifier: Apache-2.0
"""PJVLT beside the paper's equations; its visual half against OSTrack's vectors."""

from __future__ import annotations

import copy
import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from types import ModuleType

import torch.nn.functional as F

from vt_models.errors import InputError
from vt_models.nets import LanguageNet, pjvlt
from vt_models.nets.bert import BertConfig
from vt_models.nets.centre_head import box_at_peak
from vt_models.nets.pjvlt import (
    ChannelPatchInteraction,
    FusionConfig,
    FusionLayer,
    Pjvlt,
    PjvltConfig,
    SemanticInstanceEncoder,
)
from vt_models.nets.vit import ViTConfig
from vt_models.registry import get_spec
from vt_models.runtime.torch_engine import TorchEngine
from vt_models.tracker.tracker import Tracker

pytestmark = pytest.mark.train

MINIATURES = {
    "pjvlt": partial(pjvlt.pjvlt, miniature=True),
    "pjvlt_tiny": partial(pjvlt.pjvlt_tiny, miniature=True),
}
LENGTH = 7
DIM, WORDS, PATCHES = 12, 10, 20
FUSION = FusionConfig(blocks=(0,), latent=8, heads=2, temperature=0.7, groups=4, patch_hidden=30)


@pytest.fixture(params=MINIATURES)
def net(request: pytest.FixtureRequest) -> Pjvlt:
    """Each miniature in turn, with no parameter left at 0, in evaluation mode."""
    return noisy(MINIATURES[request.param]())


@pytest.fixture
def pair() -> tuple[Any, Any]:
    """Three templates and search regions."""
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(3, 3, 128, 128, generator=generator),
        torch.randn(3, 3, 256, 256, generator=generator),
    )


@pytest.fixture
def text() -> tuple[Any, Any]:
    """Two texts, of five and of three word pieces, and none."""
    ids = torch.tensor([[101, 11, 12, 13, 102, 0, 0], [101, 14, 102, 0, 0, 0, 0], [0] * 7])
    mask = torch.arange(LENGTH) < torch.tensor([[5], [3], [0]])
    return ids, mask


@pytest.fixture
def encoder() -> SemanticInstanceEncoder:
    torch.manual_seed(2)
    return noisy(SemanticInstanceEncoder(DIM, WORDS, FUSION))


@pytest.fixture
def tokens() -> tuple[Any, Any, Any]:
    """Visual tokens (2, 20, 12), word tokens (2, 7, 10), and which of the latter are words."""
    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn(2, PATCHES, DIM, generator=generator),
        torch.randn(2, LENGTH, WORDS, generator=generator),
        torch.arange(LENGTH) < torch.tensor([[5], [3]]),
    )


# The equations.


@torch.no_grad()
def test_saiel_is_equations_1_to_7(
    encoder: SemanticInstanceEncoder, tokens: tuple[Any, Any, Any]
) -> None:
    """Word for word, one sample and one head at a time, on the words alone."""
    x, words, mask = tokens

    aligned = align(encoder, x, words, mask)

    for row in range(2):
        v, sentence = x[row], words[row, mask[row]]
        query = encoder.theta_q(v)
        query = (query - query.mean(0)) / (query.var(0, unbiased=False) + 1e-5).sqrt()
        key, value = encoder.theta_k(sentence), encoder.theta_v(sentence)
        value = torch.softmax(value / FUSION.temperature, dim=0) * value
        attended = []
        for head in (slice(0, 4), slice(4, 8)):
            weights = torch.softmax(query[:, head] @ key[:, head].T / 4**0.5, dim=1)
            attended.append(weights @ value[:, head])
        alpha, beta, gamma = encoder.theta_w(sentence.mean(0)).chunk(3)
        semantic = gamma * ((1 + alpha) * torch.cat(attended, dim=1) + beta)
        visual = F.gelu(encoder.theta_m(v))
        expected = F.gelu(encoder.theta_o(torch.cat([visual, semantic], dim=1)))
        torch.testing.assert_close(aligned[row], expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_ccpil_is_equations_8_to_11(tokens: tuple[Any, Any, Any]) -> None:
    layer = noisy(ChannelPatchInteraction(DIM, PATCHES, FUSION))
    aligned = tokens[0]

    refined = layer(aligned)

    for row in range(2):
        a = aligned[row].T  # C x N, as in the paper
        weights = torch.sigmoid(layer.w_p2(F.gelu(layer.w_p1(a.mean(1)))))
        c = weights[:, None] * a + a
        c_n = torch.stack([layer.w_n(F.gelu(layer.w_s(F.gelu(layer.w_e(line))))) for line in c])
        torch.testing.assert_close(refined[row].T, c_n + c + a, atol=1e-5, rtol=0)
    assert layer.w_p1.out_features == DIM // 4


@pytest.mark.parametrize("form", ["replace", "add"])
@torch.no_grad()
def test_fusion_form_decides_what_is_passed_on(form: Any, tokens: tuple[Any, Any, Any]) -> None:
    vision = ViTConfig(template_size=32, search_size=64, dim=DIM, depth=1, heads=2)
    language = BertConfig(dim=WORDS, depth=1, heads=2, hidden=8, vocabulary=20)
    fusion = FusionConfig(blocks=(0,), latent=8, heads=2, patch_hidden=30, form=form)
    layer = noisy(FusionLayer(PjvltConfig(vision=vision, language=language, fusion=fusion)))
    x, words, mask = tokens
    state = (
        layer.encoder.query(x),
        *layer.encoder.encode_text(words, mask),
        pjvlt.padding_bias(mask),
    )

    handed_on = layer(x, *state)

    refined = layer.interaction(layer.encoder(x, *state))
    assert torch.equal(handed_on, refined if form == "replace" else x + layer.rho * refined)


@torch.no_grad()
def test_saiel_with_null_word_unrelated_words_give_nothing(
    tokens: tuple[Any, Any, Any],
) -> None:
    encoder = noisy(
        SemanticInstanceEncoder(DIM, WORDS, dataclasses.replace(FUSION, null_word=True))
    )
    x, words, mask = tokens
    keys, values = encoder.encode_text(words, mask)
    query, bias = encoder.query(x), pjvlt.padding_bias(mask)

    weights = encoder._attention(query @ keys.transpose(2, 3) + bias[:, None, None])
    far = encoder(x, query, keys - 1e3 * query.mean(2, keepdim=True), values, bias - 1e3)
    nothing = encoder(x, query, keys, torch.zeros_like(values), bias)

    exponentials = (query @ keys.transpose(2, 3)).exp() * mask[:, None, None]
    expected = exponentials / (1 + exponentials.sum(-1, keepdim=True))
    torch.testing.assert_close(weights, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(far, nothing, atol=1e-5, rtol=0)


# The words.


@torch.no_grad()
def test_saiel_order_of_words_has_no_influence(
    encoder: SemanticInstanceEncoder, tokens: tuple[Any, Any, Any]
) -> None:
    """Attention has no order: BERT's positions are all that tells one."""
    x, words, mask = tokens
    order = torch.randperm(LENGTH, generator=torch.Generator().manual_seed(4))

    shuffled = align(encoder, x, words[:, order], mask[:, order])

    torch.testing.assert_close(shuffled, align(encoder, x, words, mask), atol=1e-6, rtol=0)


@torch.no_grad()
def test_saiel_treats_all_patches_alike(
    encoder: SemanticInstanceEncoder, tokens: tuple[Any, Any, Any]
) -> None:
    x, words, mask = tokens
    order = torch.randperm(PATCHES, generator=torch.Generator().manual_seed(4))

    shuffled = align(encoder, x[:, order], words, mask)

    expected = align(encoder, x, words, mask)[:, order]
    torch.testing.assert_close(shuffled, expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_saiel_word_weights_add_up_to_one(
    encoder: SemanticInstanceEncoder, tokens: tuple[Any, Any, Any]
) -> None:
    _, words, mask = tokens
    values = encoder.theta_v(words)

    weights = encoder.word_weights(values, mask)

    torch.testing.assert_close(weights.sum(1), torch.ones(2, FUSION.latent))
    assert (weights[~mask] == 0).all()
    assert torch.equal(weights, encoder.word_weights(values, mask))
    encoder.temperature = 1e-4
    assert encoder.word_weights(values, mask).amax(1).min() > 0.99


def test_saiel_word_weights_in_training_are_random(
    encoder: SemanticInstanceEncoder, tokens: tuple[Any, Any, Any]
) -> None:
    _, words, mask = tokens
    values = encoder.train().theta_v(words)
    torch.manual_seed(0)

    draws = torch.stack([encoder.word_weights(values, mask) for _ in range(400)])

    assert (draws[0] != draws[1]).any()
    assert (draws[:, ~mask] == 0).all()
    torch.testing.assert_close(draws[0].sum(1), torch.ones(2, FUSION.latent))
    first = (draws.argmax(2) == 0).float().mean(0)
    expected = encoder.eval().word_weights(values * FUSION.temperature, mask)[:, 0]
    assert (first - expected).abs().max() < 0.12  # Gumbel: drawn as often as its softmax says


@torch.no_grad()
def test_encode_text_padding_has_no_influence(net: Pjvlt, text: tuple[Any, Any]) -> None:
    ids, mask = text
    other = torch.where(mask, ids, 29999)

    state, same = net.encode_text(ids, mask), net.encode_text(other, mask)

    assert all(torch.equal(a, b) for a, b in zip(state, same, strict=True))
    keys, values, bias = state
    absent = ~mask[:, None, None].expand(keys.shape[:-1])
    assert (keys[absent] == 0).all()
    assert (values[absent] == 0).all()
    assert (bias[mask] == 0).all()


@torch.no_grad()
def test_encode_text_longer_padding_changes_nothing(
    net: Pjvlt, pair: tuple[Any, Any], text: tuple[Any, Any]
) -> None:
    template, search = pair
    ids, mask = text
    longer = F.pad(ids, (0, 9)), F.pad(mask, (0, 9))

    maps, same = net(template, search, ids, mask), net(template, search, *longer)

    for name in ("score_map", "box_map", "offset_map", "size_map", "text_queries"):
        torch.testing.assert_close(same[name], maps[name], atol=2e-5, rtol=0)


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_encode_text_without_text_gives_one_state_that_adds_nothing(
    net: Pjvlt, training: bool
) -> None:
    net.train(training)
    nothing = torch.zeros(2, LENGTH, dtype=torch.bool)

    keys, values, bias = net.encode_text(torch.randint(30522, (2, LENGTH)), nothing)

    assert (keys == 0).all()
    assert (values == 0).all()
    assert (bias == bias[0, 0]).all()
    assert bias.isfinite().all()


@torch.no_grad()
def test_saiel_without_text_has_no_semantic_tokens(
    encoder: SemanticInstanceEncoder, tokens: tuple[Any, Any, Any]
) -> None:
    """L_o of eq. 5 is 0, and eq. 7 sees the visual tokens alone."""
    x, words, mask = tokens

    aligned = align(encoder, x, words, torch.zeros_like(mask))

    visual = F.gelu(encoder.theta_m(x))
    without = torch.cat([visual, torch.zeros(2, PATCHES, FUSION.latent)], dim=2)
    assert torch.equal(aligned, F.gelu(encoder.theta_o(without)))


@torch.no_grad()
def test_search_other_text_gives_other_maps(
    net: Pjvlt, pair: tuple[Any, Any], text: tuple[Any, Any]
) -> None:
    template, search = (crop[:1].expand(3, -1, -1, -1) for crop in pair)

    score = net(template, search, *text)["score_map"]

    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (score[one] - score[other]).abs().max() > 1e-5


@pytest.mark.parametrize("build", MINIATURES.values(), ids=MINIATURES)
@torch.no_grad()
def test_pjvlt_fresh_network_ignores_its_text(
    build: Any, pair: tuple[Any, Any], text: tuple[Any, Any]
) -> None:
    """theta_w is 0 at the start, section III-C (1): the sentence comes in while training."""
    net = build().eval()
    ids, mask = text

    maps, without = net(*pair, ids, mask), net(*pair, ids, torch.zeros_like(mask))

    seen = [name for name in maps if not name.startswith("text_")]
    assert len(seen) == 4
    assert all(torch.equal(maps[name], without[name]) for name in seen)
    assert all((values == 0).all() for values in net.encode_text(ids, mask)[1])


# The network.


@pytest.mark.parametrize("build", MINIATURES.values(), ids=MINIATURES)
def test_pjvlt_follows_the_net_protocol(build: Any) -> None:
    net = build()

    assert isinstance(net, LanguageNet)
    assert net.text_state_names == ("text_keys", "text_values", "text_bias")


@torch.no_grad()
def test_pjvlt_state_has_the_documented_shapes(
    net: Pjvlt, pair: tuple[Any, Any], text: tuple[Any, Any]
) -> None:
    fusions = len(net.config.fusion.blocks)

    (embedded,) = net.encode_template(pair[0])
    keys, values, bias = net.encode_text(*text)
    score, boxes = net.search(pair[1], embedded, keys, values, bias)

    assert embedded.shape == (3, 64, 32)
    assert keys.shape == values.shape == (3, fusions, 2, LENGTH, 4)
    assert bias.shape == (3, LENGTH)
    assert score.shape == (3, 16, 16)
    assert boxes.shape == (3, 4, 16, 16)
    assert ((score > 0) & (score < 1)).all()


@torch.no_grad()
def test_search_does_not_recompute_template_or_text(
    net: Pjvlt, pair: tuple[Any, Any], text: tuple[Any, Any]
) -> None:
    state = (*net.encode_template(pair[0]), *net.encode_text(*text))
    trained = net(*pair, *text)
    ran: list[str] = []
    watch = ("language", "theta_k", "theta_v", "theta_w")
    for name, module in net.named_modules():
        if name.endswith(watch) or name == "backbone.patch_embed":
            module.register_forward_hook(lambda *_, name=name: ran.append(name))

    score, boxes = net.search(pair[1], *state)

    assert ran == ["backbone.patch_embed"]
    torch.testing.assert_close(score, trained["score_map"], atol=1e-6, rtol=0)
    torch.testing.assert_close(boxes, trained["box_map"], atol=1e-6, rtol=0)


@torch.no_grad()
def test_forward_batch_treats_rows_independently(
    net: Pjvlt, pair: tuple[Any, Any], text: tuple[Any, Any]
) -> None:
    """With and without a text side by side."""
    together = net(*pair, *text)

    for row in range(3):
        alone = net(*(part[row : row + 1] for part in (*pair, *text)))
        for name, maps in alone.items():
            torch.testing.assert_close(maps[0], together[name][row], atol=5e-5, rtol=0)


def test_training_step_reaches_every_parameter(
    net: Pjvlt, pair: tuple[Any, Any], text: tuple[Any, Any]
) -> None:
    """Two kinds cannot matter: what is added to all keys, and what an instance norm takes away."""
    maps = net.train()(*pair, *text)

    sum((map_**2).sum() for map_ in maps.values()).backward()

    cannot_matter = ("theta_k.bias", "self.key.bias", "theta_q.bias")
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if not name.endswith(cannot_matter):
            assert parameter.grad.abs().max() > 0, name


def test_training_step_without_any_text_is_finite(net: Pjvlt, pair: tuple[Any, Any]) -> None:
    ids = torch.zeros(3, LENGTH, dtype=torch.long)

    maps = net.train()(*pair, ids, ids > 0)
    sum((map_**2).sum() for map_ in maps.values()).backward()

    for name, parameter in net.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    assert all((p.grad == 0).all() for p in net.language.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("blocks", "depth", "layers", "expected"),
    [
        (tuple(range(12)), 12, 12, tuple(range(12))),
        ((1, 3, 5, 7), 8, 6, (1, 2, 4, 5)),
        ((1, 3, 5, 7, 9, 11), 12, 6, (0, 1, 2, 3, 4, 5)),
        (tuple(range(12)), 12, 6, (0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5)),
        ((0, 1, 2), 12, 12, (0, 1, 2)),
        ((5, 11), 12, 6, (2, 5)),
        ((0, 1, 2, 3), 4, 12, (2, 5, 8, 11)),
    ],
)
def test_text_layers_fusion_reads_the_layer_at_its_depth(
    blocks: tuple[int, ...], depth: int, layers: int, expected: tuple[int, ...]
) -> None:
    net = small(blocks=blocks, depth=depth, layers=layers)

    assert net.text_layers == expected


@torch.no_grad()
def test_merge_twice_changes_nothing(
    net: Pjvlt, pair: tuple[Any, Any], text: tuple[Any, Any]
) -> None:
    before = net(*pair, *text)
    once = copy.deepcopy(net).merge()
    twice = copy.deepcopy(once).merge()

    torch.testing.assert_close(once(*pair, *text), before, atol=1e-5, rtol=0)
    for name, maps in twice(*pair, *text).items():
        assert torch.equal(maps, once(*pair, *text)[name])


# The visual half.


@torch.no_grad()
def test_pjvlt_form_add_starts_as_the_vit_alone(
    pair: tuple[Any, Any], text: tuple[Any, Any]
) -> None:
    """To the bit, with any text."""
    template, search = pair
    net = noisy(pjvlt.pjvlt_tiny(miniature=True))
    for layer in net.fusion:
        layer.rho.zero_()
    backbone = net.backbone

    maps = net(template, search, *text)

    tokens = backbone.embed_template(template), backbone.embed_search(search)
    alone = net.box_head(backbone(*tokens))
    assert torch.equal(maps["score_map"], alone.score)
    assert torch.equal(maps["box_map"], alone.boxes)
    assert all((layer.rho == 0).all() for layer in pjvlt.pjvlt_tiny(miniature=True).fusion)


@pytest.fixture(scope="module", params=[(), (0, 1, 2)], ids=["no_fusion", "fusion_as_it_starts"])
def ostrack(request: pytest.FixtureRequest, shared_dir: Path, golden_init: ModuleType) -> Pjvlt:
    """With OSTrack-256's candidate elimination, in the blocks 3, 6 and 9, and reference weights.

    Eq. 10 needs all patches, so a fusion can only stand before the first elimination; there it is
    present with weights of its own, and its form "add" starts as the identity.
    """
    vision = ViTConfig(template_size=128, search_size=256, pruning_blocks=(3, 6, 9), published=True)
    language = BertConfig(dim=16, heads=2, hidden=32, vocabulary=200)
    fusion = FusionConfig(blocks=request.param, form="add")
    net = Pjvlt(PjvltConfig(vision=vision, language=language, fusion=fusion)).eval()
    salt = str(vectors_of(shared_dir)["salt"])
    golden_init.fill(visual_half(net), salt)
    return net


def test_visual_half_has_ostrack_s_names(ostrack: Pjvlt, shared_dir: Path) -> None:
    manifest = shared_dir / "reference" / "ostrack" / "vitb_256_ce.manifest.json"
    published = json.loads(manifest.read_text())["keys"]

    shapes = {name: list(value.shape) for name, value in visual_half(ostrack).items()}

    assert shapes == {name: entry["shape"] for name, entry in published.items()}


@torch.no_grad()
def test_visual_half_gives_ostrack_s_maps(
    ostrack: Pjvlt, shared_dir: Path, golden_init: ModuleType
) -> None:
    vectors = vectors_of(shared_dir)
    crops = [
        torch.from_numpy(golden_init.net_input(name, size))
        for name, size in (("template", 128), ("search1", 256))
    ]

    maps = ostrack(*crops, torch.tensor([[101, 11, 102]]), torch.ones(1, 3, dtype=torch.bool))

    close(maps["score_map"], vectors["score_map"][0])
    close(maps["size_map"], vectors["size_map"])
    close(maps["offset_map"], vectors["offset_map"])
    close(box_at_peak(maps["score_map"], maps["box_map"]), vectors["pred_boxes"][0])


@pytest.mark.slow
def test_visual_half_tracks_like_ostrack(
    ostrack: Pjvlt, shared_dir: Path, golden_init: ModuleType
) -> None:
    """A box alone, with the crops, the window and the clipping of `pjvlt`."""
    spec = get_spec("pjvlt")
    if not ostrack.text_state_names:
        spec = dataclasses.replace(spec, language=False)
    tracker = Tracker(spec, TorchEngine(ostrack, spec, "cpu"))
    frames, boxes = golden_init.frames(12)

    tracker.init(frames[0], boxes[0])
    tracked = [tracker.update(frame).box for frame in frames[1:]]

    expected = vectors_of(shared_dir)["seq_boxes_xywh"]
    np.testing.assert_allclose(tracked, expected, rtol=0, atol=0.02)


def test_pjvlt_fusion_after_pruning_is_refused() -> None:
    with pytest.raises(ValueError, match="pruning"):
        small(blocks=(0, 2), pruning=(2,))


def test_load_imagenet_backbone_other_stem_is_refused(net: Pjvlt) -> None:
    """The miniatures see bare patches."""
    with pytest.raises(InputError, match="EfficientNet-Lite0"):
        net.load_imagenet_backbone(Path("weights"))


@pytest.mark.slow
@torch.no_grad()
def test_pjvlt_full_size_is_the_paper_s() -> None:
    """320 tokens of 768, 12 joint layers, W_p1 of 768 x 192, N_h = 640."""
    net = pjvlt.pjvlt().eval()
    ids, mask = torch.tensor([[101, 11, 102]]), torch.ones(1, 3, dtype=torch.bool)

    maps = net(torch.rand(1, 3, 128, 128), torch.rand(1, 3, 256, 256), ids, mask)

    assert net.text_layers == tuple(range(12))
    assert net.fusion[0].interaction.w_p1.weight.shape == (192, 768)
    assert net.fusion[0].interaction.w_e.weight.shape == (640, 320)
    assert net.fusion[0].interaction.w_s.weight.shape == (640, 640)
    assert maps["score_map"].shape == (1, 16, 16)
    assert maps["box_map"].isfinite().all()
    assert millions(net.language) == 109
    assert millions(net.backbone) == 86
    assert millions(net) == 241


def align(encoder: SemanticInstanceEncoder, x: Any, words: Any, mask: Any) -> Any:
    """SAIEL as a whole: V_j and L_j to A_j."""
    state = (*encoder.encode_text(words, mask), pjvlt.padding_bias(mask))
    return encoder(x, encoder.query(x), *state)


def small(
    blocks: tuple[int, ...], depth: int = 4, layers: int = 4, pruning: tuple[int, ...] = ()
) -> Pjvlt:
    """A network of a few weights."""
    vision = ViTConfig(
        template_size=32, search_size=64, dim=8, depth=depth, heads=2, pruning_blocks=pruning
    )
    language = BertConfig(dim=8, depth=layers, heads=2, hidden=8, vocabulary=20, positions=8)
    fusion = FusionConfig(blocks=blocks, latent=4, heads=2, patch_hidden=8)
    return Pjvlt(PjvltConfig(vision=vision, language=language, fusion=fusion, head_width=8))


def noisy(module: Any) -> Any:
    """Give parameters that start at 0 or nearly so a value, so that every path counts."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def vectors_of(shared_dir: Path) -> dict[str, Any]:
    return dict(np.load(shared_dir / "reference" / "ostrack" / "vitb_256_ce.golden.npz"))


def visual_half(net: Pjvlt) -> dict[str, Any]:
    """Its tensors by name."""
    state = net.state_dict().items()
    return {name: value for name, value in state if name.startswith(("backbone.", "box_head."))}


def millions(module: Any) -> int:
    return round(sum(parameter.numel() for parameter in module.parameters()) / 1e6)


def close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=1e-4)
