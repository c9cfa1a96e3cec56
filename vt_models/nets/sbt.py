# SPDX-License-Identifier: Apache-2.0
"""SBT light, small, base and large.

Xie et al., "Correlation-Aware Deep Tracking" (CVPR 2022), https://github.com/phiphiphi31/SBT.
Figure 3 of the paper is ``SBT`` here, its extract-or-correlation block ``Block``, equation 7
``MixHead``. Where code and paper differ the published code is followed: the hidden layers of the
first two stages are 8 times as wide as their input and not 4 times, and the heads mix positions
before channels. Base and large are published; light and small are table 2 by the same rules.

Tokens are (B, H * W, C), row by row; maps are (B, C, H, W). Parameter names and shapes are the
published ones; ``unused_published`` lists those tensors of a published checkpoint that no
computation reads and that are not created here.
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.layers import DropPath, trunc_normal_
from timm.models.pvt_v2 import OverlapPatchEmbed
from torch import Tensor, nn
from typing_extensions import Self

from vt_models.nets.builders import register_model
from vt_models.nets.layers import MapLinear
from vt_models.nets.pretrained import read_published, require_layout
from vt_models.nets.recording import record
from vt_models.settings import Fraction, PositiveInt
from vt_models.weights.tensors import layout_of

_LOG = logging.getLogger(__name__)

SEARCH_CELLS = 32
"""Side of the score map: the prediction head has one weight a cell."""


@dataclass(frozen=True)
class SBTConfig:
    """One column of the paper's table 2.

    Attributes:
        channels: of the three stages.
        depths: number of blocks in the three stages.
        cross: positions, counted from 1, of the cross-attention blocks in the third stage.
        heads: attention heads of the three stages.
        reductions: side of the cells of tokens that share one key and value.
        hidden_ratios: width of the hidden layer of a block over ``channels``.
        drop_path: rate at which the last block's residuals are dropped in training; linear from
            0 at the first block.
    """

    channels: tuple[PositiveInt, PositiveInt, PositiveInt]
    depths: tuple[PositiveInt, PositiveInt, PositiveInt]
    cross: tuple[PositiveInt, ...]
    heads: tuple[PositiveInt, PositiveInt, PositiveInt] = (1, 2, 5)
    reductions: tuple[PositiveInt, PositiveInt, PositiveInt] = (8, 4, 2)
    hidden_ratios: tuple[PositiveInt, PositiveInt, PositiveInt] = (8, 8, 4)
    drop_path: Fraction = 0.1

    def __post_init__(self) -> None:
        if not self.cross or max(self.cross) > self.depths[2]:
            raise ValueError(
                f"`cross` is {list(self.cross)}: name at least one of the third stage's "
                f"{self.depths[2]} blocks"
            )
        if any(width % heads for width, heads in zip(self.channels, self.heads, strict=True)):
            raise ValueError(
                f"`channels` {list(self.channels)} are no multiples of `heads` {list(self.heads)}"
            )


class SBT(nn.Module):
    """The single branch transformer: features of both images in one stream, and two heads.

    Up to the first cross-attention block the template does not depend on the search region. It is
    encoded so far, and what that block needs of it is the template's state: the tokens, their
    queries, and their keys and values.
    """

    output_names = ("score_map", "box_map")

    def __init__(self, config: SBTConfig) -> None:
        super().__init__()
        self.config = config
        tokens = ("template_tokens", "template_query") if len({*config.cross}) > 1 else ()
        self.state_names = (*tokens, "template_key", "template_value")
        self.backbone = SbtBackbone(config)
        self.box_head = PredictionHeads(config.channels[-1])

    def encode_template(self, template: Tensor) -> tuple[Tensor, ...]:
        """Run the template up to the first cross-attention block; see `SiameseNet`.

        Returns:
            ``template_tokens`` (B, N, C) with N = (T/8)^2, ``template_query`` (B, heads, N, d),
            ``template_key`` and ``template_value`` (B, heads, N/4, d). With a single
            cross-attention block the last two alone.
        """
        return self.backbone.encode_template(template)

    def search(self, search: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Find the target in a search region of 256 pixels; see `SiameseNet`.

        The score is the softmax of the foreground logit.
        """
        logits, boxes = self.box_head(self.backbone(search, *state))
        return torch.sigmoid(logits[:, 0] - logits[:, 1]), boxes

    def forward(self, template: Tensor, search: Tensor) -> dict[str, Tensor]:
        """Run the training pass; see `SiameseNet`.

        Returns:
            ``logits`` (B, 2, 32, 32), foreground and background, for the cross entropy (the
            authors weight it by 120, and the background class by 0.0625), and ``boxes``
            (B, 4, 32, 32) cx, cy, w, h as fractions of the search crop, for L1 (70) and GIoU (50)
            on the cells inside the true box.
        """
        logits, boxes = self.box_head(self.backbone(search, *self.encode_template(template)))
        return {"logits": logits, "boxes": boxes}

    def merge(self) -> Self:
        """Put the network into eval mode; there is nothing to fold. Returns itself."""
        return self.eval()

    def load_pvt_v2_backbone(self, file: str | Path) -> None:
        """Start the backbone from ImageNet weights; see ``SbtBackbone.load_pvt_v2``."""
        self.backbone.load_pvt_v2(file)

    def unused_published(self) -> tuple[str, ...]:
        """Return the names of the tensors of a published checkpoint that no computation reads."""
        return tuple(f"backbone.norm{i}.{leaf}" for i in (1, 2) for leaf in ("weight", "bias"))


class SbtBackbone(nn.Module):
    """Three stages of extract-or-correlation blocks at strides 4, 8 and 8.

    The patch embeddings, eq. 1, are those of PVT v2.
    """

    def __init__(self, config: SBTConfig) -> None:
        super().__init__()
        self.cross = frozenset(position - 1 for position in config.cross)
        self.first_cross, self.last_cross = min(self.cross), max(self.cross)
        c1, c2, c3 = config.channels
        self.patch_embed1 = OverlapPatchEmbed(7, 4, 3, c1)
        self.block1 = _blocks(config, 0)
        self.patch_embed2 = OverlapPatchEmbed(3, 2, c1, c2)
        self.block2 = _blocks(config, 1)
        self.patch_embed3 = OverlapPatchEmbed(3, 1, c2, c3)
        self.block3 = _blocks(config, 2)
        self.norm3 = nn.LayerNorm(c3, eps=1e-6)
        self.apply(_initialise)

    def encode_template(self, template: Tensor) -> tuple[Tensor, ...]:
        """Template (B, 3, T, T) -> the template state, see ``SBT.encode_template``."""
        z = self._embed(template)
        for block in self.block3[: self.first_cross]:
            z = block(z)
        block = self.block3[self.first_cross]
        if self.first_cross == self.last_cross:
            return block.key_value(z)
        return (z, *block.project(z))

    def forward(self, search: Tensor, *state: Tensor) -> Tensor:
        """Search region (B, 3, S, S) and template state -> tokens (B, (S/8)^2, C).

        From the first to the last cross-attention block both images run side by side. What the
        last one would make of the template is read by nobody and not computed.
        """
        z, query, key, value = state if len(state) > 2 else (*state, *state)
        x = self._embed(search)
        for block in self.block3[: self.first_cross]:
            x = block(x)
        for index in range(self.first_cross, self.last_cross):
            block = self.block3[index]
            if index not in self.cross:
                x, z = block(x), block(z)
                continue
            if index > self.first_cross:
                query, key, value = block.project(z)
            x_query, x_key, x_value = block.project(x)
            x, z = block.mix(x, x_query, key, value), block.mix(z, query, x_key, x_value)
        block = self.block3[self.last_cross]
        if self.last_cross > self.first_cross:
            key, value = block.key_value(z)
        x = block.mix(x, block.query(x), key, value)
        for block in self.block3[self.last_cross + 1 :]:
            x = block(x)
        return self.norm3(x)

    def load_pvt_v2(self, file: str | Path) -> None:
        """Load a PVT v2 of the same widths: the authors start from B3; light has those of B0.

        The stages take as many of the file's blocks as they have. What they have beyond the file
        stays random, and what the file has beyond them is left out; the log names both.

        Args:
            file: with the names of https://github.com/whai362/PVT or with timm's.

        Raises:
            WeightsError: the file cannot be read, or an embedding, a block's tensor or its shape is
                not this network's. The network is then unchanged.
        """
        published = {_original_name(name): one for name, one in read_published(file).items()}
        own = layout_of(self)
        there, here = {_part(name) for name in published}, {_part(name) for name in own}
        absent = {
            part
            for part in here - there
            if part.startswith("block") and f"{part.split('.')[0]}.0" in there
        }
        expected = {name: own[name] for name in own if _part(name) not in absent}
        tensors = {name: one for name, one in published.items() if _part(name) in here}
        require_layout(tensors, expected, file, "a PVT v2 of these widths")
        self.load_state_dict(tensors, strict=False)
        _LOG.info(
            "%s: %d tensors loaded; not in the file, so random: %s; not in the network: %s",
            file,
            len(tensors),
            ", ".join(sorted(absent)) or "nothing",
            ", ".join(sorted(there - here)) or "nothing",
        )

    def _embed(self, image: Tensor) -> Tensor:
        """Image (B, 3, S, S) -> tokens (B, (S/8)^2, C) before the third stage's first block."""
        tokens = self.patch_embed1(image).flatten(1, 2)
        for block in self.block1:
            tokens = block(tokens)
        tokens = self.patch_embed2(to_map(tokens)).flatten(1, 2)
        for block in self.block2:
            tokens = block(tokens)
        return self.patch_embed3(to_map(tokens)).flatten(1, 2)


class Block(nn.Module):
    """Extract-or-correlation (EoC) block, eq. 2 to 5.

    The same weights extract (keys and values of the same image) or correlate (keys and values of
    the other image); which of the two is up to the caller.
    """

    def __init__(
        self, channels: int, heads: int, reduction: int, hidden: int, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = SbtAttention(channels, heads, reduction)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = ConvMlp(channels, hidden)
        self.drop_path = DropPath(drop_path)

    def query(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, C) -> queries (B, heads, N, d)."""
        return self.attn.query(self.norm1(tokens))

    def key_value(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, C) -> keys and values, each (B, heads, N / reduction^2, d)."""
        return self.attn.key_value(self.norm1(tokens))

    def project(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, N, C) -> queries, keys and values."""
        normed = self.norm1(tokens)
        return self.attn.query(normed), *self.attn.key_value(normed)

    def mix(self, tokens: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Add to the tokens (B, N, C) what their queries find, then the hidden layer's output."""
        tokens = tokens + self.drop_path(self.attn(query, key, value))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))

    def forward(self, tokens: Tensor) -> Tensor:
        """Self-attention: tokens (B, N, C) -> the same shape."""
        return self.mix(tokens, *self.project(tokens))


class SbtAttention(nn.Module):
    """Multi-head attention whose keys and values stand for square cells of tokens, eq. 2 and 3.

    Args:
        channels: C of the tokens; the heads share it.
        heads: number of heads.
        reduction: side of a cell in tokens, and of the convolution that sums it up.
    """

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        self.sr = nn.Conv2d(channels, channels, reduction, reduction)
        self.norm = nn.LayerNorm(channels)

    def query(self, normed: Tensor) -> Tensor:
        """Normalised tokens (B, N, C) -> (B, heads, N, d)."""
        return self._split(self.q(normed))

    def key_value(self, normed: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised tokens (B, N, C) -> keys and values, each (B, heads, N / reduction^2, d)."""
        key, value = self.kv(self.norm(to_tokens(self.sr(to_map(normed))))).chunk(2, dim=2)
        return self._split(key), self._split(value)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Queries (B, heads, N, d), keys and values (B, heads, M, d) -> tokens (B, N, C)."""
        found = F.scaled_dot_product_attention(query, key, value)
        scale = query.shape[-1] ** -0.5
        record("attention", lambda: torch.softmax(query @ key.transpose(2, 3) * scale, dim=-1))
        return self.proj(found.transpose(1, 2).flatten(2))

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


class ConvMlp(nn.Module):
    """Two linear layers with a depthwise 3x3 convolution and a GELU between them, section 3.3.

    The convolution, whose zero padding tells tokens where they are, takes the place of a position
    encoding. The linear layers are 1x1 convolutions here, so that the hidden layer, four or eight
    times as large as the tokens, is a map from end to end: with layers over tokens, which change
    its layout twice, the search graph of base takes a quarter longer in ONNX Runtime on one core
    (267 against 217 ms).
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = MapLinear(channels, hidden)
        self.dwconv = nn.ModuleDict({"dwconv": nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden)})
        self.fc2 = MapLinear(hidden, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, C) -> the same shape."""
        hidden = self.dwconv["dwconv"](self.fc1(to_map(tokens)))
        return to_tokens(self.fc2(F.gelu(hidden)))


class PredictionHeads(nn.Module):
    """Class and box at each of the 32 x 32 search tokens, section 3.4."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.class_head = MixHead(channels, 2)
        self.bbox_head = MixHead(channels, 4)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, 1024, C) -> logits (B, 2, 32, 32), boxes (B, 4, 32, 32) in [0, 1]."""
        logits, boxes = self.class_head(tokens), torch.sigmoid(self.bbox_head(tokens))
        return to_map(logits), to_map(boxes)


class MixHead(nn.Module):
    """Two Mix-MLP blocks (MMB), eq. 7: a layer over positions, then one over channels, each.

    The first block has as many positions between its layers as there are channels. The number of
    positions that come in is fixed, so the search region is of 256 pixels.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        positions = SEARCH_CELLS**2
        self.layers_spatial = nn.ModuleList(
            [nn.Linear(positions, channels), nn.Linear(channels, positions)]
        )
        self.layers_channle = nn.ModuleList(
            [nn.Linear(channels, channels), nn.Linear(channels, outputs)]
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, 1024, C) -> (B, 1024, outputs)."""
        (first, second), (inner, outer) = self.layers_spatial, self.layers_channle
        tokens = F.relu(inner(F.relu(over_positions(first, tokens))))
        return outer(F.relu(over_positions(second, tokens)))


def over_positions(layer: nn.Linear, tokens: Tensor) -> Tensor:
    """Apply a linear layer over the N of tokens (B, N, C): ``W x + b``, without turning them."""
    return layer.weight @ tokens + layer.bias[:, None]


def _blocks(config: SBTConfig, stage: int) -> nn.ModuleList:
    width, heads, reduction = (
        numbers[stage] for numbers in (config.channels, config.heads, config.reductions)
    )
    hidden = config.hidden_ratios[stage] * width
    first, last = sum(config.depths[:stage]), sum(config.depths) - 1
    return nn.ModuleList(
        Block(width, heads, reduction, hidden, config.drop_path * index / last)
        for index in range(first, first + config.depths[stage])
    )


def _part(name: str) -> str:
    """Name of a tensor -> the block or the layer that it belongs to: "block3.4", "norm3"."""
    return re.sub(r"^(block\d+\.\d+|[^.]+).*$", r"\1", name)


def _original_name(name: str) -> str:
    """Return the name in PVT's own repository of a tensor of timm's PVT v2; others as they are."""
    name = re.sub(r"^patch_embed\.", "patch_embed1.", name)
    if match := re.match(r"stages\.(\d+)\.(downsample|blocks|norm)\.", name):
        kind = {"downsample": "patch_embed", "blocks": "block", "norm": "norm"}[match[2]]
        name = f"{kind}{int(match[1]) + 1}.{name[match.end() :]}"
        name = name.replace(".mlp.dwconv.", ".mlp.dwconv.dwconv.")
    return name


def to_tokens(x: Tensor) -> Tensor:
    """Map (B, C, H, W) -> tokens (B, H * W, C), row by row."""
    return x.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor) -> Tensor:
    """Tokens (B, N, C) of a square -> map (B, C, H, W) with H = W = sqrt(N)."""
    side = math.isqrt(tokens.shape[1])
    return tokens.transpose(1, 2).unflatten(2, (side, side))


def _initialise(module: nn.Module) -> None:
    """Set truncated normal weights as in the paper, and PVT v2's rule for convolutions."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.weight.numel() // module.in_channels
        nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
        nn.init.zeros_(module.bias)


_LIGHT = SBTConfig((32, 64, 160), (2, 2, 6), (2, 4, 6))
_SMALL = SBTConfig((64, 128, 320), (2, 2, 6), (2, 4, 6))
_BASE = SBTConfig((64, 128, 320), (3, 4, 10), (2, 4, 6, 8, 10))
_LARGE = SBTConfig((64, 128, 320), (3, 4, 18), (6, 8, 10, 12, 14, 16, 18))


def _sized(config: SBTConfig, miniature: bool) -> SBTConfig:
    return replace(config, channels=(8, 16, 40)) if miniature else config


@register_model
def sbt_light(miniature: bool = False) -> SBT:
    """Build SBT light: 3.8 M parameters, 3.3 GMACs for a pair."""
    return SBT(_sized(_LIGHT, miniature))


@register_model
def sbt_small(miniature: bool = False) -> SBT:
    """Build SBT small: 13.8 M parameters, 12.3 GMACs for a pair."""
    return SBT(_sized(_SMALL, miniature))


@register_model
def sbt_base(miniature: bool = False) -> SBT:
    """Build SBT base: 22.0 M parameters, 20.3 GMACs for a pair."""
    return SBT(_sized(_BASE, miniature))


@register_model
def sbt_large(miniature: bool = False) -> SBT:
    """Build SBT large: 35.3 M parameters, 33.7 GMACs for a pair."""
    return SBT(_sized(_LARGE, miniature))
