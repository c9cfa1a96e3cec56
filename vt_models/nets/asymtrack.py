# SPDX-License-Identifier: Apache-2.0
"""AsymTrack T, S and B.

Zhu et al., "Two-stream Beats One-stream: Asymmetric Siamese Network for Efficient Visual Tracking"
(AAAI 2025), https://github.com/jiawen-zhu/AsymTrack. Figure 2 of the paper is ``AsymTrack`` here,
figure 3 ``EfficientTemplateModulation``, figure 4 ``ObjectPerceptionEnhancement``, both in
``layers``. Where code and paper differ the published code and weights are followed: the dynamic
kernels come from the template's prototype, and a last stride-2 convolution to 1/32 and a linear
bottleneck stand between the backbone and the head.

Maps are (B, C, H, W). Parameter names and shapes are the published ones; ``unused_published`` lists
those tensors of a published checkpoint that no computation reads and that are not created here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from vt_models.nets.builders import register_model
from vt_models.nets.heads import CornerHead, locate
from vt_models.nets.layers import (
    DynamicConv1d,
    EfficientTemplateModulation,
    MapLinear,
    MapNorm,
    ObjectPerceptionEnhancement,
    PrototypeCrossAttention,
)
from vt_models.nets.pretrained import read_published, require_layout
from vt_models.nets.recording import record
from vt_models.settings import PositiveInt
from vt_models.weights.tensors import layout_of

CHANNELS = (32, 64, 128)
HEAD_CHANNELS = 256
GAMMA_INIT = 1e-4
PUBLISHED_ATTENTION = 6
"""Index of the attention block in the third stage of EfficientMod-xxs, after six encoder blocks."""


@dataclass(frozen=True, kw_only=True)
class AsymTrackConfig:
    """The layout of an AsymTrack; stages are counted from 1, as in the paper.

    Attributes:
        depths: per stage, the expansion of each encoder block, for instance ``((1, 6), (1, 6),
            (1,))``.
        etm: stages with template modulation; () for none.
        ope: stages with perception enhancement; () for none.
        modulation: "convolution", the dynamic one, or "attention", multi-head cross attention in
            its place (table 5).
        prototype_attention: see ``EfficientTemplateModulation``.
        detach_prototype: see there too; the authors' setting by default.
    """

    depths: tuple[tuple[PositiveInt, ...], ...]
    etm: tuple[int, ...] = (2, 3)
    ope: tuple[int, ...] = (1, 2, 3)
    modulation: Literal["convolution", "attention"] = "convolution"
    prototype_attention: bool = True
    detach_prototype: bool = True

    def __post_init__(self) -> None:
        stages = range(1, len(CHANNELS) + 1)
        if len(self.depths) != len(CHANNELS) or not {*self.etm, *self.ope} <= {*stages}:
            raise ValueError(
                f"`depths` of {len(self.depths)} stages, `etm` in {self.etm} and `ope` in "
                f"{self.ope}; there are the stages {', '.join(map(str, stages))}"
            )


class AsymTrack(nn.Module):
    """The asymmetric Siamese tracker, eq. 3: the template runs once, the search region every frame.

    The backbone starts from EfficientMod-xxs on ImageNet (Ma et al., ICLR 2024) in the authors'
    training (``load_efficientmod_backbone``), and everything else from random values.

    Args:
        config: the layout.
    """

    output_names = ("box", "score")

    def __init__(self, config: AsymTrackConfig) -> None:
        super().__init__()
        self.config = config
        kernels = (f"kernels_{stage - 1}" for stage in sorted({*config.etm}))
        self.state_names = (*kernels, "template_key", "template_value")
        self.backbone = AsymTrackBackbone(config)
        self.bottleneck = MapLinear(HEAD_CHANNELS, HEAD_CHANNELS)
        self.box_head = CornerHead(HEAD_CHANNELS)

    def encode_template(self, template: Tensor) -> tuple[Tensor, ...]:
        """Run the template branch; see `SiameseNet`.

        Returns:
            ``kernels_1`` (B, 2, 5) and ``kernels_2`` (B, 4, 7), the dynamic kernels of the
            modulations in the second and third stage; ``template_key`` and ``template_value``
            (B, 8, (T/16)^2, 32) of the attention block.
        """
        return self.backbone.encode_template(template)

    def search(self, search: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Find the target in a search region; see `SiameseNet` and, for the score, `locate`."""
        attended = self.backbone(search, *state)
        return locate(*self.box_head(self.bottleneck(attended)))

    def forward(self, template: Tensor, search: Tensor) -> dict[str, Tensor]:
        """Run the training pass; see `SiameseNet`.

        Returns:
            ``box`` (B, 4) cx, cy, w, h as fractions of the search crop, for the L1 and GIoU losses
            of eq. 9 (weights 5 and 2); ``score_tl`` and ``score_br`` (B, S/32, S/32), the corner
            logits; ``match`` (B, (S/16)^2, (T/16)^2), see ``AttentionBlock.match``.
        """
        state = self.encode_template(template)
        seen = self.backbone.before_attention(search, *state)
        attended = self.backbone.after_attention(seen, *state)
        top_left, bottom_right = self.box_head(self.bottleneck(attended))
        box, _ = locate(top_left, bottom_right)
        match = self.backbone.layers[-1].blocks[-1].match(seen, state[-2])
        return {"box": box, "score_tl": top_left, "score_br": bottom_right, "match": match}

    def merge(self) -> Self:
        """Fold the enhancement branches and the head's batch norms, in place; returns itself.

        Calling it twice is harmless. The result is for inference: it is put into eval mode.
        """
        self.eval()
        for module in self.modules():
            if isinstance(module, ObjectPerceptionEnhancement | ContextModulation | CornerHead):
                module.merge()
        return self

    def load_efficientmod_backbone(self, file: str | Path) -> None:
        """Start the backbone from ImageNet; see ``AsymTrackBackbone.load_efficientmod``."""
        self.backbone.load_efficientmod(file)

    def unused_published(self) -> tuple[str, ...]:
        """Return the names of the tensors of a published checkpoint that no computation reads."""
        return tuple(
            f"{name}.{layer}.{leaf}"
            for name, module in self.named_modules()
            if isinstance(module, EfficientTemplateModulation)
            for layer in module.UNUSED_PUBLISHED
            for leaf in ("weight", "bias")
        )


class AsymTrackBackbone(nn.Module):
    """The first three stages of EfficientMod, with template modulation: (B, 3, S, S) -> S/32."""

    def __init__(self, config: AsymTrackConfig) -> None:
        super().__init__()
        self.patch_embed = Downsample(3, CHANNELS[0], kernel=7, stride=4)
        outputs = (*CHANNELS[1:], HEAD_CHANNELS)
        self.layers = nn.ModuleList(
            Stage(width, output, config, number)
            for number, (width, output) in enumerate(zip(CHANNELS, outputs, strict=True), start=1)
        )

    def encode_template(self, template: Tensor) -> tuple[Tensor, ...]:
        """Template (B, 3, T, T) -> the template state, see ``AsymTrack.encode_template``."""
        z = self.patch_embed(template)
        state: list[Tensor] = []
        for stage in self.layers:
            z = stage.encode_template(z, state)
        return tuple(state)

    def plain_maps(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return what the stages see in an image alone, without modulation and attention.

        Args:
            image: (B, 3, S, S) float32, normalised RGB.

        Returns:
            (B, 64, S/8, S/8), (B, 128, S/16, S/16), and (B, 128, S/16, S/16) of the last stage.
        """
        x = self.patch_embed(image)
        maps: list[Tensor] = []
        for stage in self.layers:
            x = stage.encode_template(x, [])
            maps.append(x)
        return tuple(maps)

    def forward(self, search: Tensor, *state: Tensor) -> Tensor:
        """Search region (B, 3, S, S) and template state -> map (B, 256, S/32, S/32)."""
        x = self.patch_embed(search)
        pending = iter(state)
        for stage in self.layers:
            x = stage(x, pending)
        return x

    def before_attention(self, search: Tensor, *state: Tensor) -> Tensor:
        """Search region and template state -> map (B, 128, S/16, S/16) that attention reads."""
        x = self.patch_embed(search)
        pending = iter(state)
        *first, last = self.layers
        for stage in first:
            x = stage(x, pending)
        return last.modulated(x, pending)

    def after_attention(self, x: Tensor, *state: Tensor) -> Tensor:
        """Run what ``before_attention`` gave, and template state -> map (B, 256, S/32, S/32)."""
        last = self.layers[-1]
        return last.downsample(last.blocks[-1](x, *state[-2:]))

    def load_efficientmod(self, file: str | Path) -> None:
        """Load EfficientMod-xxs of https://github.com/ma-xu/EfficientMod, as the authors do.

        Each stage takes as many of the published encoder blocks as it has, the first ones, and the
        last stage here takes the attention block of the published third; modulation and
        enhancement stay random. The fourth stage, norm and classifier are left out.

        Raises:
            WeightsError: the file cannot be read, or holds another network. This one is then
                unchanged.
        """
        own = layout_of(self)
        names = {
            name: name for name in own if name.startswith("patch_embed.") or ".downsample." in name
        }
        for number, stage in enumerate(self.layers):
            for index, block in enumerate(stage.blocks):
                if not isinstance(block, EncoderBlock | AttentionBlock):
                    continue
                source = index if isinstance(block, EncoderBlock) else PUBLISHED_ATTENTION
                start = f"layers.{number}.blocks."
                for leaf in layout_of(block):
                    names[f"{start}{index}.{leaf}"] = f"{start}{source}.{leaf}"
        expected = {published: own[name] for name, published in names.items()}
        found = {name: one for name, one in read_published(file).items() if name in expected}
        require_layout(found, expected, file, "EfficientMod-xxs")
        self.load_state_dict({name: found[there] for name, there in names.items()}, strict=False)


class Stage(nn.Module):
    """Encoder blocks, then ETM, OPE and, in the last stage, attention; then downsampling.

    Args:
        channels, outputs: of the map that comes in, and that goes out.
        config: the network's.
        number: of the stage, from 1.
    """

    def __init__(self, channels: int, outputs: int, config: AsymTrackConfig, number: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = [
            EncoderBlock(channels, expansion) for expansion in config.depths[number - 1]
        ]
        if number in config.etm:
            blocks.append(
                EfficientTemplateModulation(
                    channels,
                    channels // 32,
                    config.detach_prototype,
                    attention=config.prototype_attention,
                    mixer=DynamicConv1d
                    if config.modulation == "convolution"
                    else PrototypeCrossAttention,
                )
            )
        if number in config.ope:
            blocks.append(ObjectPerceptionEnhancement(channels))
        if number == len(CHANNELS):
            blocks.append(AttentionBlock(channels))
        self.blocks = nn.ModuleList(blocks)
        self.downsample = Downsample(channels, outputs, kernel=3, stride=2)

    def encode_template(self, z: Tensor, state: list[Tensor]) -> Tensor:
        """Run the template map through the stage; what modulates the search goes to ``state``."""
        for block in self.blocks:
            if isinstance(block, EfficientTemplateModulation):
                state.append(block.encode_template(z))
            elif isinstance(block, AttentionBlock):
                state.extend(block.encode_template(z))
                return z
            else:
                z = block(z)
        return self.downsample(z)

    def forward(self, x: Tensor, state: Iterator[Tensor]) -> Tensor:
        """Search map (B, C, H, W) -> (B, C_out, H/2, W/2); takes its tensors off ``state``."""
        x = self.modulated(x, state)
        last = self.blocks[-1]
        if isinstance(last, AttentionBlock):
            x = last(x, next(state), next(state))
        return self.downsample(x)

    def modulated(self, x: Tensor, state: Iterator[Tensor]) -> Tensor:
        """Run the blocks before attention, (B, C, H, W) in and out; pops kernels off ``state``."""
        for block in self.blocks:
            if isinstance(block, EfficientTemplateModulation):
                x = block(x, next(state))
            elif not isinstance(block, AttentionBlock):
                x = block(x)
        return x


class Downsample(nn.Module):
    """Strided convolution and layer norm: (B, C_in, H, W) -> (B, C_out, H/stride, W/stride)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)
        self.norm = MapNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) -> (B, C_out, H/stride, W/stride)."""
        return self.norm(self.proj(x))


class EncoderBlock(nn.Module):
    """EfficientMod's block: ``x + gamma_1 * mlp(LN(x))``, gamma_1 starting at 1e-4."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        self.gamma_1 = nn.Parameter(torch.full((channels,), GAMMA_INIT))
        self.norm = MapNorm(channels)
        self.mlp = ContextModulation(channels, expansion)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) -> the same shape."""
        return x + self.gamma_1[:, None, None] * self.mlp(self.norm(x))


class ContextModulation(nn.Module):
    """Context modeling fused with a parallel projection: ``fc2(act(fc1(x)) * context(x))``.

    The context has C channels; with an expansion r > 1 it multiplies each of the r groups of C
    channels of ``fc1(x)``, and a GELU precedes the product; with r = 1 there is no activation.
    """

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        self.expansion = expansion
        self.by_groups = False
        self.fc1 = MapLinear(channels, expansion * channels)
        self.context_layer = ContextLayer(channels)
        self.fc2 = MapLinear(expansion * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) -> the same shape."""
        context = self.context_layer(x)
        if self.expansion == 1:
            return self.fc2(self.fc1(x) * context)
        if self.by_groups:
            return self._sum_of_groups(x, context)
        return self.fc2(F.gelu(self.fc1(x)) * torch.cat([context] * self.expansion, dim=1))

    def merge(self) -> None:
        """Work on one group of C channels at a time from now on: same sum, smaller maps.

        The r C channels at 1/4 of the search region (3 MB in T, 7 MB in B) no longer pass through
        memory as a whole: 3 % (T) and 4 % (B) off the search graph in ONNX Runtime on one core.
        """
        self.by_groups = True

    def _sum_of_groups(self, x: Tensor, context: Tensor) -> Tensor:
        channels = context.shape[1]
        groups = [slice(i * channels, (i + 1) * channels) for i in range(self.expansion)]
        parts: list[Tensor] = []
        for group in groups:
            value = F.conv2d(x, self.fc1.weight[group, :, None, None], self.fc1.bias[group])
            weight = self.fc2.weight[:, group, None, None]
            bias = None if parts else self.fc2.bias
            parts.append(F.conv2d(F.gelu(value) * context, weight, bias))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total


class ContextLayer(nn.Module):
    """The CM block: ``g(GELU(depthwise7x7(f(x))))``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.f = MapLinear(channels, channels)
        self.g = MapLinear(channels, channels)
        depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.context_list = nn.ModuleList([depthwise])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) -> context of the same shape."""
        return self.g(F.gelu(self.context_list[0](self.f(x))))


class AttentionBlock(nn.Module):
    """Transformer block over the search tokens, which also attend to the template's.

    The published code concatenates search and template tokens, runs full self-attention and drops
    the template tokens; as nothing reads their outputs, only their keys and values are needed, and
    these do not change from frame to frame.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = AsymTrackAttention(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, 4 * channels)

    def encode_template(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Template map (B, C, h, w) -> key and value, each (B, heads, h * w, head_dim)."""
        normed = self.norm1(tokens(z))
        return self.attn.project(normed, 1), self.attn.project(normed, 2)

    def match(self, x: Tensor, template_key: Tensor) -> Tensor:
        """Search map (B, C, H, W) and key -> (B, H * W, h * w), how much its cells attend.

        The mean of all heads' logits, before the softmax.
        """
        query = self.attn.scaled_query(self.norm1(tokens(x)))
        return (query @ template_key.transpose(2, 3)).mean(1)

    def forward(self, x: Tensor, template_key: Tensor, template_value: Tensor) -> Tensor:
        """Search map (B, C, H, W) -> the same shape, having attended to itself and the template."""
        search = tokens(x)
        search = search + self.attn(self.norm1(search), template_key, template_value)
        search = search + self.mlp(self.norm2(search))
        return search.transpose(1, 2).unflatten(2, x.shape[2:])


class AsymTrackAttention(nn.Module):
    """Multi-head attention with 8 heads of at least 32 dimensions."""

    HEADS = 8

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head_dim = max(channels // self.HEADS, 32)
        inner = self.HEADS * self.head_dim
        self.qkv = nn.Linear(channels, 3 * inner, bias=False)
        self.proj = nn.Linear(inner, channels)

    def project(self, normed: Tensor, part: int) -> Tensor:
        """Normalised tokens (B, N, C) -> their queries (part 0), keys (1) or values (2).

        Returns:
            (B, heads, N, head_dim).
        """
        inner = self.HEADS * self.head_dim
        weight = self.qkv.weight[part * inner : (part + 1) * inner]
        return F.linear(normed, weight).unflatten(2, (self.HEADS, -1)).transpose(1, 2)

    def scaled_query(self, normed: Tensor) -> Tensor:
        """Return queries over the root of their length, whose product with a key is a logit."""
        return self.project(normed, 0) * self.head_dim**-0.5

    def forward(self, normed: Tensor, template_key: Tensor, template_value: Tensor) -> Tensor:
        """Normalised search tokens (B, N, C) -> (B, N, C)."""
        key = torch.cat([self.project(normed, 1), template_key], dim=2)
        value = torch.cat([self.project(normed, 2), template_value], dim=2)
        weights = torch.softmax(self.scaled_query(normed) @ key.transpose(2, 3), dim=-1)
        record("template attention", lambda: weights[..., normed.shape[1] :])
        return self.proj((weights @ value).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) -> the same shape."""
        return self.fc2(F.gelu(self.fc1(x)))


def tokens(x: Tensor) -> Tensor:
    """Map (B, C, H, W) -> tokens (B, H * W, C), row by row."""
    return x.flatten(2).transpose(1, 2)


@register_model
def asymtrack_t() -> AsymTrack:
    """Build AsymTrack-T: template 128, search 256, 3.05 M parameters, table 1."""
    return AsymTrack(AsymTrackConfig(depths=((1, 6), (1, 6), (1,))))


@register_model
def asymtrack_s() -> AsymTrack:
    """Build AsymTrack-S: template 128, search 256, 3.36 M parameters, table 1."""
    return AsymTrack(AsymTrackConfig(depths=((1, 6), (1, 6), (1, 6, 1))))


@register_model
def asymtrack_b() -> AsymTrack:
    """Build AsymTrack-B: the layout of S, template 192, search 384, table 1."""
    return AsymTrack(AsymTrackConfig(depths=((1, 6), (1, 6), (1, 6, 1))))
