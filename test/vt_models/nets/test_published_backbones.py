# SPDX-License-Identifier: Apache-2.0
"""Backbones start from files in the form in which MAE, torchvision, PVT v2 and EfficientMod are.

The numbers are random; timm's own modules say what they should give.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

import torch.nn.functional as F
from safetensors.torch import save_file
from timm.models.pvt_v2 import PyramidVisionTransformerV2
from timm.models.resnet import Bottleneck, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vt_models import create_miniature, create_model
from vt_models.errors import InputError, WeightsError
from vt_models.nets.procontext import procontext_tiny

pytestmark = pytest.mark.train

EXPANSIONS = ((1, 6), (1, 6), (1, 6, 1, 6, 1, 6), (1, 6))
"""Of EfficientMod-xxs' encoder blocks; one attention block follows in the third stage, two in the
fourth."""


def noisy(net: nn.Module) -> Any:
    """Give norms and offsets, which start at 0 or 1, a value, so that every tensor counts."""
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.add_(0.2 * torch.rand(tensor.shape))
    return net.eval()


def vit() -> Any:
    """MAE's encoder by timm, of the miniatures' width."""
    torch.manual_seed(0)
    return noisy(VisionTransformer(embed_dim=32, depth=4, num_heads=2, num_classes=0))


def resnet() -> Any:
    """Torchvision's ResNet by timm, of the miniatures' width."""
    torch.manual_seed(0)
    return noisy(ResNet(Bottleneck, (1, 1, 1, 1), channels=(8, 16, 32, 64), zero_init_last=False))


def pvt(depths: tuple[int, ...] = (3, 4, 12, 1)) -> Any:
    """PVT v2 by timm, of the miniatures' width, with blocks beyond those of base."""
    torch.manual_seed(0)
    sizes = {"embed_dims": (8, 16, 40, 64), "num_heads": (1, 2, 5, 8), "mlp_ratios": (8, 8, 4, 4)}
    return noisy(PyramidVisionTransformerV2(depths=depths, **sizes))


def efficientmod() -> dict[str, Any]:
    """A state dict with names and shapes of EfficientMod-xxs up to its fourth stage."""
    torch.manual_seed(0)
    own = create_model("asymtrack_s").backbone.state_dict()
    state = {name: own[name] for name in own if name.startswith("patch_embed.")}
    for stage, expansions in enumerate(EXPANSIONS[:3]):
        for index, expansion in enumerate(expansions):
            like = f"layers.{stage}.blocks.{expansions.index(expansion)}."
            names = [name for name in own if name.startswith(like)]
            state |= {
                name.replace(like, f"layers.{stage}.blocks.{index}."): own[name] for name in names
            }
        state |= {name: own[name] for name in own if name.startswith(f"layers.{stage}.downsample")}
    attention = "layers.2.blocks.5."
    names = [name for name in own if name.startswith(attention)]
    state |= {name.replace(attention, "layers.2.blocks.6."): own[name] for name in names}
    state |= {"layers.3.blocks.0.norm.weight": torch.ones(256), "head.bias": torch.ones(1000)}
    return {name: torch.randn(tensor.shape) for name, tensor in state.items()}


@torch.no_grad()
@pytest.mark.parametrize("model", ["procontext", "pjvlt"])
@pytest.mark.parametrize("form", ["mae", "mae with decoder", "safetensors"])
def test_a_vit_starts_from_mae(tmp_path: Path, model: str, form: str) -> None:
    published = vit()
    state = published.state_dict()
    file = tmp_path / "mae.pth"
    if form == "safetensors":
        file = file.with_suffix(".safetensors")
        save_file({**state, "head.weight": torch.ones(10, 32)}, file)
    else:
        extra = {"mask_token": torch.ones(1, 1, 32), "decoder_blocks.0.norm1.bias": torch.ones(16)}
        more = extra if form == "mae with decoder" else {}
        torch.save({"model": {**state, **more}}, file, _use_new_zipfile_serialization=bool(more))

    net = create_miniature(model).eval()
    net.load_mae_backbone(file)

    body = net.backbone
    tokens = torch.randn(2, 9, 32)
    torch.testing.assert_close(body.blocks[0](tokens), published.blocks[0](tokens))
    torch.testing.assert_close(body.norm(tokens), published.norm(tokens))
    image = torch.randn(1, 3, body.config.search_size, body.config.search_size)
    patches = published.patch_embed.proj(image).flatten(2).transpose(1, 2)
    grid = state["pos_embed"][:, 1:].transpose(1, 2).unflatten(2, (14, 14))
    side = body.config.search_grid
    positions = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    expected = patches + positions.flatten(2).transpose(1, 2)
    torch.testing.assert_close(body.embed_search(image), expected)
    side = body.config.template_grid
    positions = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    torch.testing.assert_close(body.pos_embed_z, positions.flatten(2).transpose(1, 2))


def test_a_convolutional_stem_has_no_use_for_mae() -> None:
    with pytest.raises(InputError, match="pretrained: imagenet"):
        procontext_tiny().load_mae_backbone(Path("mae.pth"))


@torch.no_grad()
def test_stark_starts_from_a_resnet_and_keeps_its_norms(tmp_path: Path) -> None:
    published = resnet()
    torch.save(published.state_dict(), tmp_path / "resnet.pth")
    image = 3 * torch.randn(2, 3, 64, 64) + 1

    net = create_miniature("stark_s50")
    net.load_resnet_backbone(tmp_path / "resnet.pth")
    net.train()

    x = published.maxpool(published.act1(published.bn1(published.conv1(image))))
    body = net.backbone[0].body
    ours = body.maxpool(body.act1(body.bn1(body.conv1(image))))
    torch.testing.assert_close(ours, x)
    for stage in ("layer1", "layer2", "layer3"):
        x, ours = published.get_submodule(stage)(x), body.get_submodule(stage)(ours)
        torch.testing.assert_close(ours, x)
    torch.testing.assert_close(net.backbone(image), x)
    assert torch.equal(body.bn1.running_mean, published.bn1.running_mean)
    assert not {name for name, _ in body.named_parameters() if "bn" in name}


def original_names(state: dict[str, Any]) -> dict[str, Any]:
    """timm's PVT v2 by the names of its first repository."""
    renamed = {}
    for name, tensor in state.items():
        first, stage, *rest = name.split(".")
        there = name
        if first == "patch_embed":
            there = f"patch_embed1.{stage}.{rest[0]}"
        elif first == "stages":
            kind, tail = rest[0], ".".join(rest[1:])
            here = {"downsample": "patch_embed", "blocks": "block", "norm": "norm"}[kind]
            there = f"{here}{int(stage) + 1}.{tail}".replace("mlp.dwconv.", "mlp.dwconv.dwconv.")
        renamed[there] = tensor
    return renamed


@torch.no_grad()
@pytest.mark.parametrize("names", ["timm", "original"])
def test_sbt_starts_from_pvt_v2(
    tmp_path: Path, names: str, caplog: pytest.LogCaptureFixture
) -> None:
    published = pvt()
    state = published.state_dict()
    torch.save(original_names(state) if names == "original" else state, tmp_path / "pvt.pth")
    net = create_miniature("sbt_base").eval()
    with caplog.at_level("INFO", logger="vt_models"):
        net.load_pvt_v2_backbone(tmp_path / "pvt.pth")

    body = net.backbone
    image = torch.randn(1, 3, 64, 64)
    x = published.patch_embed(image)
    torch.testing.assert_close(body.patch_embed1(image), x)
    for stage, embed, blocks in (
        (0, None, body.block1),
        (1, body.patch_embed2, body.block2),
        (2, None, body.block3),
    ):
        theirs = published.stages[stage]
        if embed is not None:
            previous = x.permute(0, 3, 1, 2)
            torch.testing.assert_close(embed(previous), theirs.downsample(previous))
        x = torch.randn(1, 8, 8, theirs.blocks[0].norm1.weight.numel())
        tokens = x.flatten(1, 2)
        for own, block in zip(blocks, theirs.blocks, strict=False):
            tokens, expected = own(tokens), block(tokens, (8, 8))
            torch.testing.assert_close(tokens, expected)
    # Of the third stage the embedding has another stride, hence the numbers alone.
    assert torch.equal(body.patch_embed3.proj.weight, published.stages[2].downsample.proj.weight)
    said = caplog.messages[-1]
    assert "so random: nothing; not in the network: block3.10, block3.11, block4.0, head" in said


def test_blocks_that_pvt_v2_lacks_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(pvt((2, 2, 2, 1)).state_dict(), tmp_path / "b0.pth")
    net = create_miniature("sbt_light")
    before = net.backbone.block3[5].attn.q.weight.clone()
    with caplog.at_level("INFO", logger="vt_models"):
        net.load_pvt_v2_backbone(tmp_path / "b0.pth")
    assert "so random: block3.2, block3.3, block3.4, block3.5;" in caplog.messages[-1]
    assert torch.equal(net.backbone.block3[5].attn.q.weight, before)


@torch.no_grad()
@pytest.mark.parametrize(("model", "blocks"), [("asymtrack_t", 1), ("asymtrack_s", 3)])
def test_asymtrack_starts_from_efficientmod(tmp_path: Path, model: str, blocks: int) -> None:
    state = efficientmod()
    file = tmp_path / "model_best.pth.tar"
    torch.save({"epoch": 299, "arch": "efficientMod_xxs", "state_dict": state}, file)

    net = create_model(model)
    before = {name: one.clone() for name, one in net.backbone.state_dict().items()}
    net.load_efficientmod_backbone(file)

    loaded = net.backbone.state_dict()
    attention = f"layers.2.blocks.{blocks + 2}."  # behind the modulation and the enhancement
    for name, tensor in loaded.items():
        published = name.replace(attention, "layers.2.blocks.6.")
        _, stage, kind, index, *_ = (*name.split("."), "", "")
        encoder = kind == "blocks" and int(index) < (2 if stage in "01" else blocks)
        if encoder or kind != "blocks" or name.startswith(attention):
            assert torch.equal(tensor, state[published]), name
        else:
            assert torch.equal(tensor, before[name]), name


def _cases() -> dict[str, tuple[Callable[[], Any], Callable[[Any, Path], None], str]]:
    return {
        "procontext": (lambda: vit().state_dict(), _loading("mae"), "blocks.0.attn.qkv.weight"),
        "stark_s50": (lambda: resnet().state_dict(), _loading("resnet"), "layer2.0.conv1.weight"),
        "sbt_base": (
            lambda: original_names(pvt().state_dict()),
            _loading("pvt_v2"),
            "block2.1.attn.q.weight",
        ),
        "asymtrack_t": (efficientmod, _loading("efficientmod"), "layers.1.blocks.1.mlp.fc1.weight"),
    }


def _loading(kind: str) -> Callable[[Any, Path], None]:
    return lambda net, file: getattr(net, f"load_{kind}_backbone")(file)


class _Harmful:
    """Leaves a mark where a reader runs what a pickle says."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("model", _cases())
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("missing", "1 tensor missing: NAME$"),
        ("shape", r"1 tensor of another shape: NAME \(is \[3, 3\], should be \[.*\]\)$"),
        ("not finite", "NAME has values that are not finite"),
        ("code", "is not a tensor$|is not a published checkpoint"),
        ("cut short", "is damaged|cut short|not a zip"),
        ("absent", "cannot read .*: No such file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, spoil: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    published, load, name = _cases()[model]
    state, file = dict(published()), tmp_path / "weights.pth"
    if spoil == "missing":
        del state[name]
    if spoil == "shape":
        state[name] = torch.zeros(3, 3)
    if spoil == "not finite":
        state[name] = state[name].clone()
        state[name].view(-1)[0] = float("nan")
    if spoil != "absent":
        torch.save({"model": {**state, "x": _Harmful()} if spoil == "code" else state}, file)
    if spoil == "cut short":
        file.write_bytes(file.read_bytes()[:-2000])
    net = create_miniature(model)
    before = {key: value.clone() for key, value in net.state_dict().items()}

    with pytest.raises(WeightsError, match=message.replace("NAME", name)) as caught:
        load(net, file)

    assert str(file) in str(caught.value)
    assert not (tmp_path / "executed").exists()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
