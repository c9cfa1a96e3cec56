# SPDX-License-Identifier: Apache-2.0
"""Settings of a network (`net:` of a recipe): what each switches off, and that files keep them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from vt_models import create_model, create_tracker, get_spec, list_models
from vt_models.errors import InputError, WeightsError
from vt_models.export.exporter import export_model
from vt_models.nets.asymtrack import AsymTrack, AsymTrackConfig
from vt_models.nets.builders import changed_settings, configure, find_builder, find_spec, spec_of
from vt_models.nets.layers import (
    EfficientTemplateModulation,
    ObjectPerceptionEnhancement,
    PrototypeCrossAttention,
)
from vt_models.nets.pjvlt import (
    ChannelPatchInteraction,
    FusionConfig,
    FusionLayer,
    PjvltConfig,
    SemanticInstanceEncoder,
)
from vt_models.registry import UpdatePolicy
from vt_models.runtime.export_directory import read_export
from vt_models.weights.tensors import save_weights

ASYMTRACK = {"depths": [[1], [1], [1]]}
STARK = {"blocks": [1, 1, 1], "planes": [8, 8, 8], "width": 32, "heads": 4, "hidden": 32}
STARK |= {"encoder_layers": 1, "decoder_layers": 1, "head_width": 16}
VIT = {"dim": 32, "depth": 2, "heads": 2}
PROCONTEXT = {"vision": {**VIT, "pruning_blocks": [1]}, "head_width": 16}
FUSION = {"blocks": [0, 1], "latent": 8, "heads": 2, "patch_hidden": 16}
PJVLT = {
    "vision": {**VIT, "stem": "patches"},
    "language": {"dim": 16, "depth": 2, "heads": 2, "hidden": 32},
    "fusion": FUSION,
    "head_width": 16,
}
SBT = {"channels": [8, 16, 40], "depths": [1, 1, 2], "cross": [2]}


def merged(settings: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Settings with those of one section, or of the top, replaced."""
    found = dict(settings)
    for key, value in changes.items():
        found[key] = {**found[key], **value} if isinstance(value, dict) else value
    return found


@pytest.fixture
def tokens() -> Any:
    return torch.randn(2, 20, 12, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", list_models())
def test_spec_of_the_model_s_own_network_is_the_registry_s(name: str) -> None:
    with torch.device("meta"):
        net = find_builder(get_spec(name))()
    assert spec_of(get_spec(name), net) == get_spec(name)
    assert changed_settings(get_spec(name), net) == {}


# PJVLT: the equations with each part left out.


def fusion_layer(**settings: Any) -> FusionLayer:
    small = dataclasses.replace(
        find_config("pjvlt", PJVLT).vision, template_size=32, search_size=64, dim=12
    )
    language = dataclasses.replace(find_config("pjvlt", PJVLT).language, dim=10)
    fusion = FusionConfig(latent=8, heads=2, patch_hidden=30, **settings)
    layer = FusionLayer(PjvltConfig(vision=small, language=language, fusion=fusion))
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return layer.eval()


def find_config(name: str, settings: dict[str, Any]) -> Any:
    return configure(get_spec(name), settings).config


def text_state(layer: FusionLayer, x: Any) -> tuple[Any, ...]:
    """Query, keys, values and bias of three random words."""
    assert layer.encoder is not None
    words = torch.randn(2, 3, 10, generator=torch.Generator().manual_seed(4))
    keys, values = layer.encoder.encode_text(words, torch.ones(2, 3, dtype=torch.bool))
    return layer.encoder.query(x), keys, values, torch.zeros(2, 3)


@torch.no_grad()
def test_pjvlt_without_ccpil_hands_on_a(tokens: Any) -> None:
    layer = fusion_layer(ccpil=False)
    text = text_state(layer, tokens)
    assert layer.encoder is not None
    assert torch.equal(layer(tokens, *text), layer.encoder(tokens, *text))


@torch.no_grad()
def test_pjvlt_without_saiel_refines_v(tokens: Any) -> None:
    layer = fusion_layer(saiel=False)
    assert layer.interaction is not None
    assert torch.equal(layer(tokens), layer.interaction(tokens))


@torch.no_grad()
def test_ccpil_parts_are_the_terms_of_equation_11(tokens: Any) -> None:
    """R = C_n + C + A; without CCM C_n of A, plus A; without PIM C + A; without both A."""
    whole = fusion_layer().interaction
    assert whole is not None
    parts = {}
    for ccm in (True, False):
        for pim in (True, False):
            part = ChannelPatchInteraction(12, 20, FusionConfig(patch_hidden=30, ccm=ccm, pim=pim))
            part.load_state_dict(
                {name: whole.state_dict()[name] for name in part.state_dict()}, strict=True
            )
            parts[ccm, pim] = part(tokens)
    gate = torch.sigmoid(
        whole.w_p2(torch.nn.functional.gelu(whole.w_p1(tokens.mean(1, keepdim=True))))
    )
    c = gate * tokens + tokens

    def mixed(a: Any) -> Any:
        gelu = torch.nn.functional.gelu
        return whole.w_n(gelu(whole.w_s(gelu(whole.w_e(a.transpose(1, 2)))))).transpose(1, 2)

    torch.testing.assert_close(parts[True, True], mixed(c) + c + tokens)
    torch.testing.assert_close(parts[False, True], mixed(tokens) + tokens)
    torch.testing.assert_close(parts[True, False], c + tokens)
    assert torch.equal(parts[False, False], tokens)


@pytest.mark.parametrize("join", ["concat", "sum", "product"])
@torch.no_grad()
def test_saiel_joins_image_and_words_as_told(join: Any, tokens: Any) -> None:
    layer = fusion_layer(join=join)
    encoder, text = layer.encoder, text_state(layer, tokens)
    assert encoder is not None
    gelu = torch.nn.functional.gelu
    query, keys, values, _ = text
    words = (torch.softmax(query @ keys.transpose(2, 3), -1) @ values).transpose(1, 2).flatten(2)
    image = gelu(encoder.theta_m(tokens))
    if encoder.theta_l is None:
        joined = torch.cat([image, words], -1)
    else:
        wide = encoder.theta_l(words)
        joined = image + wide if join == "sum" else image * wide
    assert (encoder.theta_l is None) == (join == "concat")
    torch.testing.assert_close(encoder(tokens, *text), gelu(encoder.theta_o(joined)))


def test_product_of_a_fresh_network_passes_the_image_on() -> None:
    encoder = SemanticInstanceEncoder(12, 10, FusionConfig(latent=8, heads=2, join="product"))
    assert encoder.theta_l is not None
    assert (encoder.theta_l.bias == 1).all()


@pytest.mark.parametrize(
    ("fusion", "places", "layers", "language"),
    [
        ({}, (0, 1), (0, 1), True),
        ({"stage": "early"}, (-1,), (-1,), True),
        ({"stage": "late"}, (1,), (1,), True),
        ({"blocks": []}, (), (), False),
        ({"saiel": False}, (0, 1), (0, 1), False),
    ],
)
def test_pjvlt_stage_says_where_the_text_comes_in(
    fusion: dict[str, Any], places: tuple[int, ...], layers: tuple[int, ...], language: bool
) -> None:
    settings = merged(PJVLT, fusion=fusion)
    net: Any = create_model("pjvlt", settings=settings)
    spec = find_spec("pjvlt", settings)
    assert (net.config.fused, net.text_layers) == (places, layers)
    assert spec.language is language
    assert (net.language is not None) is language
    assert len(net.fusion) == len(places)
    assert bool(net.text_state_names) is language


@torch.no_grad()
def test_pjvlt_early_fusion_comes_before_the_first_block() -> None:
    net: Any = create_model("pjvlt", settings=merged(PJVLT, fusion={"stage": "early"}))
    seen: list[Any] = []
    net.fusion[0].register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    template, search = torch.randn(1, 3, 128, 128), torch.randn(1, 3, 256, 256)
    net(template, search, torch.ones(1, 4, dtype=torch.int64), torch.ones(1, 4, dtype=torch.bool))
    embedded = torch.cat(
        [net.backbone.embed_template(template), net.backbone.embed_search(search)], dim=1
    )
    assert torch.equal(seen[0], embedded)


# AsymTrack.


@pytest.mark.parametrize(
    ("settings", "modulations", "enhancements"),
    [
        ({}, 2, 3),
        ({"etm": []}, 0, 3),
        ({"etm": [1, 2, 3]}, 3, 3),
        ({"ope": []}, 2, 0),
        ({"ope": [1]}, 2, 1),
        ({"etm": [], "ope": []}, 0, 0),
    ],
)
def test_asymtrack_has_the_modules_of_the_named_stages(
    settings: dict[str, Any], modulations: int, enhancements: int
) -> None:
    net: Any = create_model("asymtrack_t", settings=merged(ASYMTRACK, **settings))
    modules = list(net.modules())
    count = [
        sum(isinstance(module, kind) for module in modules)
        for kind in (EfficientTemplateModulation, ObjectPerceptionEnhancement)
    ]
    assert count == [modulations, enhancements]
    assert len(net.state_names) == modulations + 2
    assert len(net.encode_template(torch.zeros(1, 3, 128, 128))) == modulations + 2


@torch.no_grad()
def test_modulation_without_attention_spreads_the_mixed_prototypes_as_they_are() -> None:
    module = EfficientTemplateModulation(8, 2, attention=False)
    x = torch.randn(1, 8, 4, 4)
    kernels = module.encode_template(torch.randn(1, 8, 2, 2))
    weights = module.pre_kernels_x(x)
    prototypes = weights.flatten(2) @ x.flatten(2).transpose(1, 2)
    mixed = module.conv_att(prototypes, kernels)
    cues = (mixed.transpose(1, 2) @ weights.flatten(2)).unflatten(2, (4, 4))
    torch.testing.assert_close(module(x, kernels), x + torch.relu(module.ln(cues)))
    assert module.proj_Cto1 is None


@torch.no_grad()
def test_modulation_by_cross_attention_is_that_of_torch() -> None:
    """Its numbers are `nn.MultiheadAttention`'s over the template's prototypes."""
    module = PrototypeCrossAttention(64, 2)
    search, template = torch.randn(2, 1, 2, 64)
    reference = torch.nn.MultiheadAttention(64, 2, batch_first=True)
    key_value = module.key_value
    reference.in_proj_weight.copy_(torch.cat([module.query.weight, key_value.weight]))
    reference.in_proj_bias.copy_(torch.cat([module.query.bias, key_value.bias]))
    reference.out_proj.load_state_dict(module.proj.state_dict())
    expected, _ = reference(search, template, template)
    found = module(search, module.kernels(template))
    torch.testing.assert_close(found, module.norm(expected))


def test_asymtrack_modulation_takes_the_place_of_the_convolution_alone() -> None:
    nets = [
        create_model("asymtrack_t", settings=merged(ASYMTRACK, modulation=modulation))
        for modulation in ("convolution", "attention")
    ]
    keys = [{name: value.numel() for name, value in net.state_dict().items()} for net in nets]
    differs = keys[0].keys() ^ keys[1].keys()
    assert differs
    assert all(".conv_att." in name for name in differs)
    # C = 64 and 128: a query, key, value and projection instead of C -> N + 3; norms stay.
    grown = sum(keys[1].values()) - sum(keys[0].values())
    assert grown == sum(4 * c * (c + 1) - (c + 1) * (c // 32 + 3) for c in (64, 128))


# STARK, SBT, ProContEXT.


@torch.no_grad()
def test_stark_without_encoder_and_decoder() -> None:
    """No encoder: its output is what the backbone gives. No decoder: a mean over all cells."""
    settings = merged(STARK, encoder_layers=0, decoder_layers=0)
    net: Any = create_model("stark_s50", settings=settings)
    mask = torch.zeros(1, 128, 128, dtype=torch.bool)
    mask[:, :64] = True
    template = net.embed(torch.randn(1, 3, 128, 128), mask)
    memory, decoded = net.transformer(template, net.query_embed.weight)
    visible = template.features[:, 32:].mean(1, keepdim=True)
    assert torch.equal(memory, template.features)
    expected = net.transformer.decoder.norm(net.query_embed.weight[None] + visible)
    torch.testing.assert_close(decoded, expected)


@torch.no_grad()
def test_stark_without_positions_has_none() -> None:
    net: Any = create_model("stark_s50", settings=merged(STARK, positions=False))
    found = net.embed(torch.randn(1, 3, 128, 128), torch.zeros(1, 128, 128, dtype=torch.bool))
    assert not found.positions.any()


def test_stark_without_score_head_replaces_its_template_after_every_interval() -> None:
    settings = merged(STARK, score_head=False)
    net: Any = create_model("stark_st50", settings=settings)
    spec = find_spec("stark_st50", settings)
    assert net.cls_head is None
    assert spec.dynamic_template
    assert spec.update_policy == UpdatePolicy("default", 200, 0.0)


@torch.no_grad()
def test_stark_perceptron_head_reads_the_decoded_query() -> None:
    """Three layers as DETR's: C -> C -> C -> 4, then a sigmoid; the score is the score head's."""
    net: Any = create_model("stark_st50", settings=merged(STARK, box_head="mlp"))
    assert sum(value.numel() for value in net.box_head.parameters()) == 2 * 32 * 33 + 4 * 33
    crops, mask = torch.randn(1, 3, 128, 128), torch.zeros(1, 128, 128, dtype=torch.bool)
    region, padding = torch.randn(1, 3, 320, 320), torch.zeros(1, 320, 320, dtype=torch.bool)
    outputs = net(crops, region, mask, padding, crops, mask)
    assert outputs.keys() == {"box", "logit"}
    state = net.encode_template(crops, mask)
    box, score = net.search(region, padding, *state, *state)
    torch.testing.assert_close(box, outputs["box"])
    torch.testing.assert_close(score, torch.sigmoid(outputs["logit"]))
    decoded, _ = net.relate(region, padding, *state, *state)
    first, second, last = net.box_head.layers
    torch.testing.assert_close(box, torch.sigmoid(last(second(first(decoded).relu()).relu())))


def test_stark_perceptron_head_without_a_score_is_refused() -> None:
    for name, settings in (("stark_s50", {}), ("stark_st50", {"score_head": False})):
        with pytest.raises(InputError, match="`box_head: mlp` gives no score"):
            create_model(name, settings=merged(STARK, box_head="mlp", **settings))


def test_sbt_cross_says_which_blocks_correlate() -> None:
    net: Any = create_model("sbt_base", settings={**SBT, "depths": [1, 1, 4], "cross": [1, 4]})
    assert net.backbone.cross == {0, 3}
    assert len(net.backbone.block3) == 4


@pytest.mark.parametrize(
    ("settings", "views", "moments"),
    [
        ({}, 2, 2),
        ({"scales": [2], "dynamic": False}, 1, 1),
        ({"scales": [2, 3, 4], "dynamic": False}, 3, 1),
        ({"scales": [2.0]}, 1, 2),
    ],
)
def test_procontext_templates_are_scales_times_moments(
    settings: dict[str, Any], views: int, moments: int
) -> None:
    settings = merged(PROCONTEXT, **settings)
    net: Any = create_model("procontext", settings=settings)
    spec = find_spec("procontext", settings)
    assert net.backbone.config.templates == views * moments
    assert len(spec.view_factors) == views
    assert spec.dynamic_template is (moments == 2)


# Weights, export, tracking.

EVERY_FAMILY = [
    ("asymtrack_t", merged(ASYMTRACK, etm=[2], ope=[1], prototype_attention=False)),
    ("procontext", merged(PROCONTEXT, scales=[2], dynamic=False, search_factor=4)),
    ("asymtrack_t", merged(ASYMTRACK, modulation="attention")),
    ("stark_st50", merged(STARK, encoder_layers=0, score_head=False)),
    ("stark_st50", merged(STARK, box_head="mlp")),
    ("sbt_base", SBT),
    ("pjvlt", merged(PJVLT, fusion={"ccm": False, "join": "sum", "stage": "late"})),
    ("pjvlt", merged(PJVLT, fusion={"saiel": False})),
]


@pytest.mark.parametrize(("name", "settings"), EVERY_FAMILY)
def test_settings_go_with_the_weights_through_export(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    """`create_model` and both backends build the network that the file says."""
    net: Any = create_model(name, settings=settings)
    spec = spec_of(get_spec(name), net)
    file = tmp_path / "weights.safetensors"
    tensors = {key: value.numpy() for key, value in net.state_dict().items()}
    save_weights(tensors, file, name, settings=changed_settings(spec, net))

    again: Any = create_model(name, file)
    assert again.config == net.config
    export = export_model(again, spec, tmp_path / "export", storage="float32")
    manifest = json.loads((export / "model.json").read_text())
    assert manifest["parity"]["output_abs"] <= 1e-4
    assert read_export(export).spec.view_factors == spec.view_factors

    frame = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    boxes = []
    for weights, backend in ((export, "onnxruntime"), (export, "torch"), (file, "torch")):
        tracker = create_tracker(name, weights, backend, device="cpu")
        assert tracker.spec.language is spec.language
        tracker.init(frame, (60, 40, 30, 30))
        boxes.append(tracker.update(frame).box)
    np.testing.assert_allclose(boxes[1:], boxes[:1] * 2, atol=0.05)


def test_weights_of_other_settings_are_refused(tmp_path: Path) -> None:
    net: Any = create_model("asymtrack_t", settings=ASYMTRACK)
    file = tmp_path / "weights.safetensors"
    tensors = {key: value.numpy() for key, value in net.state_dict().items()}
    changed = changed_settings(get_spec("asymtrack_t"), net)
    save_weights(tensors, file, "asymtrack_t", settings=changed)
    create_model("asymtrack_t", file, ASYMTRACK)
    for other in ({}, merged(ASYMTRACK, ope=[1])):
        with pytest.raises(WeightsError, match=r"`net: .*depths.*`, not"):
            create_model("asymtrack_t", file, other)


@pytest.mark.parametrize("text", ["[", "[1]", '{"depth": 3}', '{"depths": [[0], [1], [1]]}'])
def test_weights_with_impossible_settings_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_weights({"a": np.zeros(1, np.float32)}, file, "asymtrack_t", {"net": text})
    with pytest.raises(WeightsError, match=r"weights\.safetensors.*net"):
        create_model("asymtrack_t", file)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("asymtrack_lite0", {"depths": []}, "asymtrack_lite0 has no settings"),
        ("asymtrack_t", {"etmm": []}, "Did you mean `etm`"),
        ("asymtrack_t", {"etm": [4]}, "stages 1, 2, 3"),
        ("asymtrack_t", {"depths": [[1], [1]]}, "`depths` of 2 stages"),
        ("sbt_base", {"cross": [11]}, "third stage's 10 blocks"),
        ("sbt_base", {"depths": [1, 2]}, "must be a list of 3 whole numbers"),
        ("pjvlt_tiny", {"fusion": {"join": "max"}}, "allowed: concat, sum, product"),
        ("pjvlt_tiny", {"fusion": {"blocks": [9]}}, "there are 6 blocks"),
        ("pjvlt_tiny", {"vision": {"heads": 5}}, "no pjvlt_tiny can be built so"),
        ("procontext_tiny", {"scales": []}, "scales"),
        ("stark_st50", {"encoder_layers": 300_000}, "more than 20000 modules"),
        ("procontext", {"vision": {"depth": 100_000}}, "more than 20000 modules"),
        ("procontext", {"vision": {"depth": 1_000_000_000}}, r"1e\+09 is more than 1e\+06"),
        ("procontext", {"vision": {"templates": 1_000_000_000}}, r"more than 1e\+06"),
        ("stark_s50", {"heads": 7}, "`width` 256 is no multiple of `heads` 7"),
        ("sbt_light", {"heads": [3, 2, 5]}, "are no multiples of `heads`"),
        ("pjvlt_tiny", {"fusion": {"heads": 5}}, "is no multiple of `fusion.heads` 5"),
        ("pjvlt_tiny", {"fusion": {"groups": 1000}}, "is no multiple of `fusion.groups` 1000"),
    ],
)
def test_impossible_settings_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        configure(get_spec(name), settings)


def test_asymtrack_s_default_stages_are_the_paper_s() -> None:
    config = AsymTrackConfig(depths=((1,), (1,), (1,)))
    assert (config.etm, config.ope, config.prototype_attention) == ((2, 3), (1, 2, 3), True)
    assert AsymTrack(config).state_names == (
        *("kernels_1", "kernels_2", "template_key", "template_value"),
    )


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("procontext", {"vision": {"pruning_blocks": [99]}}, r"`pruning_blocks` is \[99\]"),
        (
            "procontext",
            {"vision": {"pruning_blocks": [3, 3]}},
            "different ones of 0 to 11",
        ),
        ("procontext", {"vision": {"search_size": 100}}, "`search_size` is 100: .* of `patch` 16"),
        ("pjvlt", {"vision": {"search_size": 65536}}, "`search_size` is 65536: .* at most 1024"),
        ("pjvlt", {"fusion": {"blocks": [0, 0]}}, r"`fusion.blocks` \[0, 0\] names a block twice"),
        ("pjvlt", {"language": {"dim": 7}}, "`language.dim` 7 is no multiple of `language.heads`"),
        ("pjvlt", {"language": {"heads": 0}}, "is no multiple of `language.heads` 0"),
        ("stark_st50", {"width": 2, "heads": 1}, "`width` 2 is no multiple of 4"),
    ],
)
def test_settings_that_would_change_nothing_or_fail_later_are_refused(
    name: str, settings: dict[str, Any], message: str
) -> None:
    """A block that is not there was never pruned; the others failed at the first batch."""
    with pytest.raises(InputError, match=message):
        configure(get_spec(name), settings)
