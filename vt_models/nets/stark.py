# SPDX-License-Identifier: Apache-2.0
"""STARK-S50, -ST50 and -ST101.

Yan et al., "Learning Spatio-Temporal Transformer for Visual Tracking" (ICCV 2021),
https://github.com/researchmm/Stark. Figure 2 of the paper is ``Stark``, figure 4 the same with a
dynamic template and a score head, figure 3 ``heads.CornerHead`` on ``Stark.emphasise``. Encoder and
decoder are DETR's (Carion et al., ECCV 2020): norms after the residual sums, positions added to
queries and keys only.

Where code and paper differ the published code is followed: padded pixels of a crop are masked in
attention (the paper does not mention it), the head has four Conv-BN-ReLU layers and a convolution
(the paper: five Conv-BN-ReLU layers), and the corners are indices of cells times 16 without a
half-cell offset.

Sequences are (B, N, C); maps are (B, C, H, W). Parameter names and shapes are the published ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import freeze_batch_norm_2d
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import FrozenBatchNorm2d
from typing_extensions import Self

from vt_models.nets.builders import register_model
from vt_models.nets.heads import CornerHead, locate
from vt_models.nets.pretrained import read_published, require_layout
from vt_models.nets.recording import record
from vt_models.settings import Fraction, PositiveInt
from vt_models.weights.tensors import layout_of

STRIDE = 16

MASKED = -3e4
"""Added to the attention scores of padding: its weight is exactly 0 as long as one other key is
left, and where none is the weights are uniform instead of not a number. Fits float16."""


@dataclass(frozen=True)
class StarkConfig:
    """The layout of a STARK.

    Attributes:
        blocks: bottleneck blocks in the three stages of the ResNet.
        planes: inner widths of the three stages; each gives four times as many channels.
        width: of the tokens.
        heads: of every attention.
        hidden: width inside the feed-forward networks.
        encoder_layers, decoder_layers: how many of them; 0 leaves encoder or decoder out. Without a
            decoder the query attends to all cells alike.
        positions: False leaves the positions of cells out, in encoder and decoder.
        box_head: "corner", or "mlp" for DETR's, a three-layer perceptron on the decoded query. That
            has no score of its own: the network then needs a score head.
        head_width: of the corner head's first convolution.
        temporal: whether there is a dynamic template (ST).
        score_head: whether a network with a dynamic template also has the score head that says when
            to replace it; without one it is replaced after every interval.
        dropout: in the transformer, while training.
    """

    blocks: tuple[PositiveInt, PositiveInt, PositiveInt] = (3, 4, 6)
    planes: tuple[PositiveInt, PositiveInt, PositiveInt] = (64, 128, 256)
    width: PositiveInt = 256
    heads: PositiveInt = 8
    hidden: PositiveInt = 2048
    encoder_layers: int = 6
    decoder_layers: int = 6
    positions: bool = True
    box_head: Literal["corner", "mlp"] = "corner"
    head_width: PositiveInt = 256
    temporal: bool = False
    score_head: bool = True
    dropout: Fraction = 0.1

    def __post_init__(self) -> None:
        if self.width % 4:
            raise ValueError(
                f"`width` {self.width} is no multiple of 4: positions have a sine and a cosine for "
                "each axis"
            )
        if self.width % self.heads:
            raise ValueError(f"`width` {self.width} is no multiple of `heads` {self.heads}")
        if self.box_head == "mlp" and not (self.temporal and self.score_head):
            raise ValueError(
                "`box_head: mlp` gives no score, and there is no score head (`temporal`, "
                "`score_head`)"
            )

    @property
    def spec_changes(self) -> dict[str, Any]:
        """What a tracker has to know of it: fields of `ModelSpec`."""
        always = {} if self.score_head else {"update_threshold": 0.0, "update_presets": ()}
        return {"dynamic_template": self.temporal, **always}


class Tokens(NamedTuple):
    """A crop as a sequence: features and positions (B, N, C), attention bias (B, N)."""

    features: Tensor
    positions: Tensor
    bias: Tensor


class Stark(nn.Module):
    """The tracker's network.

    Only what precedes the encoder is constant for a template: the encoder's first attention
    mixes it with the search region. (The first layer's query, key and value of the template's
    tokens are constant too; that would triple the state to save 0.1 % of the multiplications.)

    The authors train STARK-S and stage 1 of STARK-ST with the L1 and GIoU losses of eq. 1 on
    ``box``, at a tenth of the rate for parameters under ``backbone.``, with those under
    ``backbone.0.body.conv1`` and ``backbone.0.body.layer1`` frozen. Stage 2 learns nothing but the
    parameters under ``cls_head.``, by the cross entropy of eq. 3 on ``logit``; frozen parts keep
    their batch statistics (see ``train``).
    """

    state_names = ("template_features", "template_positions", "template_bias")
    output_names = ("box", "score")

    def __init__(self, config: StarkConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = nn.Sequential(StarkBackbone(config.blocks, config.planes))
        self.bottleneck = nn.Conv2d(4 * config.planes[-1], config.width, 1)
        self.transformer = Transformer(config)
        self.query_embed = nn.Embedding(1, config.width)
        self.box_head: CornerHead | BoxPerceptron = (
            CornerHead(config.width, config.head_width)
            if config.box_head == "corner"
            else BoxPerceptron(config.width)
        )
        scored = config.temporal and config.score_head
        self.cls_head = ScoreHead(config.width) if scored else None

    def encode_template(self, template: Tensor, template_mask: Tensor) -> tuple[Tensor, ...]:
        """Run the backbone on a template, the first or a dynamic one; see `SiameseNet`.

        Returns:
            ``template_features`` and ``template_positions`` (B, (T/16)^2, C), and
            ``template_bias`` (B, (T/16)^2), 0, or ``MASKED`` where a cell is padding.
        """
        return tuple(self.embed(template, template_mask))

    def search(self, search: Tensor, search_mask: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Find the target in a search region; see `SiameseNet`.

        The score is that of ST's score head; without one it is that of `locate`.
        """
        decoded, region = self.relate(search, search_mask, *state)
        if isinstance(self.box_head, CornerHead):
            box, score = locate(*self.box_head(region))
        else:
            # Its score is the score head's, which StarkConfig sees to.
            box, score = self.box_head(decoded), torch.zeros_like(decoded[:, 0])
        if self.cls_head is not None:
            score = torch.sigmoid(self.cls_head(decoded))
        return box, score

    def forward(
        self,
        template: Tensor,
        search: Tensor,
        template_mask: Tensor,
        search_mask: Tensor,
        dynamic: Tensor | None = None,
        dynamic_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Run the training pass; the second template is ST's, and needed there; see `SiameseNet`.

        Returns:
            ``box`` (B, 4) cx, cy, w, h as fractions of the search crop; of a corner head
            ``score_tl`` and ``score_br`` (B, S/16, S/16), the corner logits; for ST ``logit`` (B,),
            of the target's presence.
        """
        state = self.encode_template(template, template_mask)
        if dynamic is not None and dynamic_mask is not None:
            state = (*state, *self.encode_template(dynamic, dynamic_mask))
        decoded, region = self.relate(search, search_mask, *state)
        if isinstance(self.box_head, CornerHead):
            top_left, bottom_right = self.box_head(region)
            box, _ = locate(top_left, bottom_right)
            outputs = {"box": box, "score_tl": top_left, "score_br": bottom_right}
        else:
            outputs = {"box": self.box_head(decoded)}
        if self.cls_head is not None:
            outputs["logit"] = self.cls_head(decoded)
        return outputs

    def embed(self, image: Tensor, padding: Tensor) -> Tokens:
        """Crop (B, 3, S, S) and its padding (B, S, S) bool -> the (S/16)^2 tokens of it.

        A cell is padding where its first pixel is, which is what nearest interpolation amounts to.
        """
        cells = padding[:, ::STRIDE, ::STRIDE]
        features = self.bottleneck(self.backbone(image)).flatten(2).transpose(1, 2)
        bias = cells.flatten(1).to(features.dtype) * MASKED
        positions = sine_positions(cells, features.shape[2])
        if not self.config.positions:
            positions = torch.zeros_like(positions)
        return Tokens(features, positions, bias)

    def relate(self, search: Tensor, search_mask: Tensor, *state: Tensor) -> tuple[Tensor, Tensor]:
        """Run encoder and decoder over template(s) and search region; arguments as of ``search``.

        Returns:
            The decoded query (B, C), and the map (B, C, S/16, S/16) that the corner head reads:
            the search region's cells times their similarity to the decoded query (figure 3).
        """
        expected = len(self.state_names) * (2 if self.config.temporal else 1)
        if len(state) != expected:
            raise ValueError(f"expected {expected} tensors of template state, got {len(state)}")
        parts = [Tokens(*state[start : start + 3]) for start in range(0, expected, 3)]
        parts.append(self.embed(search, search_mask))
        tokens = Tokens(*(torch.cat(tensors, dim=1) for tensors in zip(*parts, strict=True)))
        memory, decoded = self.transformer(tokens, self.query_embed.weight)
        region = memory[:, -parts[-1].features.shape[1] :]
        emphasised = region * (region @ decoded.transpose(1, 2))
        shape = (search.shape[2] // STRIDE, search.shape[3] // STRIDE)
        return decoded[:, 0], emphasised.transpose(1, 2).unflatten(2, shape)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a box head that does not learn (stage 2) keeps its batch statistics."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.box_head.parameters()):
            self.box_head.eval()
        return self

    def load_resnet_backbone(self, file: str | Path) -> None:
        """Start the backbone from ImageNet weights; see ``StarkBackbone.load_resnet``."""
        self.backbone[0].load_resnet(file)

    def merge(self) -> Self:
        """Fold every batch norm and what the decoder computes without input, in place.

        Calling it twice is harmless. The result is for inference: it is put into eval mode.
        """
        self.eval()
        self.backbone[0].merge()
        self.transformer.decoder.merge()
        if isinstance(self.box_head, CornerHead):
            self.box_head.merge()
        return self


def sine_positions(padding: Tensor, channels: int) -> Tensor:
    """Return DETR's two-dimensional sine encoding (Carion et al., ECCV 2020, appendix A.4).

    The position of a cell on an axis counts the cells up to it that are not padding, divided by
    their number in its column (or row), times 2 pi; a column of padding alone is at 0. With
    d = channels / 2 the k-th pair of an axis holds sine and cosine of
    ``position / 10000^(2 k / d)``.

    Args:
        padding: (B, H, W) bool, True where a cell shows padding.
        channels: of the encoding, a multiple of 4.

    Returns:
        (B, H * W, channels), cells row by row; the first half encodes y, the second x.
    """
    inside = (~padding).float()
    per_axis = channels // 2
    pairs = torch.arange(per_axis // 2, dtype=torch.float32, device=padding.device)
    frequency = 2 * math.pi / 10000.0 ** (2 * pairs / per_axis)
    positions = []
    for axis in (1, 2):
        count = inside.cumsum(axis)
        share = count / (count.narrow(axis, count.shape[axis] - 1, 1) + 1e-6)
        angle = share[..., None] * frequency
        positions.append(torch.stack([torch.sin(angle), torch.cos(angle)], dim=-1).flatten(-2))
    return torch.cat(positions, dim=-1).flatten(1, 2)


class StarkBackbone(nn.Module):
    """A ResNet without its last stage, its batch norms frozen: (B, 3, S, S) -> (B, 4C, S/16, S/16).

    Args:
        blocks: bottleneck blocks a stage.
        planes: inner width of each stage.
    """

    def __init__(self, blocks: tuple[int, int, int], planes: tuple[int, int, int]) -> None:
        super().__init__()
        body = ResNet(Bottleneck, blocks, num_classes=0, channels=planes, zero_init_last=False)
        self.body = freeze_batch_norm_2d(body)

    def forward(self, x: Tensor) -> Tensor:
        body = self.body
        x = body.maxpool(body.act1(body.bn1(body.conv1(x))))
        return body.layer3(body.layer2(body.layer1(x)))

    def load_resnet(self, file: str | Path) -> None:
        """Load torchvision's or timm's ResNet; its last stage and classifier are left out.

        Args:
            file: for instance torchvision's `resnet50-0676ba61.pth`.

        Raises:
            WeightsError: the file cannot be read, or holds another network. This one is then
                unchanged.
        """
        tensors = {
            name: tensor
            for name, tensor in read_published(file).items()
            if not name.startswith(("layer4.", "fc.")) and not name.endswith("num_batches_tracked")
        }
        blocks = "-".join(str(len(self.body.get_submodule(f"layer{i}"))) for i in (1, 2, 3))
        require_layout(tensors, layout_of(self.body), file, f"a ResNet of {blocks} blocks")
        self.body.load_state_dict(tensors)

    @torch.no_grad()
    def merge(self) -> None:
        """Fold every batch norm into the convolution before it, in place; idempotent."""
        for parent, norm_name, convolution in list(self._normed()):
            norm = parent.get_submodule(norm_name)
            if isinstance(norm, FrozenBatchNorm2d):
                convolution.weight, convolution.bias = fuse_conv_bn_weights(
                    convolution.weight,
                    convolution.bias,
                    norm.running_mean,
                    norm.running_var,
                    norm.eps,
                    norm.weight,
                    norm.bias,
                )
                setattr(parent, norm_name, nn.Identity())

    def _normed(self) -> Iterator[tuple[nn.Module, str, nn.Conv2d]]:
        """Yield the owner and name of each batch norm, and the convolution before it."""
        yield self.body, "bn1", self.body.conv1
        for block in (*self.body.layer1, *self.body.layer2, *self.body.layer3):
            for index in (1, 2, 3):
                yield block, f"bn{index}", block.get_submodule(f"conv{index}")
            if block.downsample is not None:
                yield block.downsample, "1", block.downsample[0]


class Transformer(nn.Module):
    """DETR's encoder and decoder, with a single query."""

    def __init__(self, config: StarkConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, tokens: Tokens, query: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of N cells and the query (1, C) -> memory (B, N, C) and decoded (B, 1, C)."""
        memory = self.encoder(tokens)
        return memory, self.decoder(query, Tokens(memory, tokens.positions, tokens.bias))


class Encoder(nn.Module):
    """Layers of self-attention over all tokens."""

    def __init__(self, config: StarkConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))

    def forward(self, tokens: Tokens) -> Tensor:
        """Tokens -> features (B, N, C)."""
        x, bias = tokens.features, tokens.bias[:, None, None]
        for layer in self.layers:
            x = layer(x, tokens.positions, bias)
        return x


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward network, each with its residual sum and norm."""

    def __init__(self, config: StarkConfig) -> None:
        super().__init__()
        self.self_attn = StarkAttention(config.width, config.heads, config.dropout)
        self.linear1 = nn.Linear(config.width, config.hidden)
        self.linear2 = nn.Linear(config.hidden, config.width)
        self.norm1 = nn.LayerNorm(config.width)
        self.norm2 = nn.LayerNorm(config.width)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, positions: Tensor, bias: Tensor) -> Tensor:
        """Features and positions (B, N, C), bias (B, 1, 1, N) -> features (B, N, C)."""
        x = self.norm1(x + self.drop(self.self_attn(x + positions, x, bias)))
        hidden = self.drop(F.relu(self.linear1(x)))
        return self.norm2(x + self.drop(self.linear2(hidden)))


class Decoder(nn.Module):
    """Layers that let a single query attend to the encoder's output.

    The decoder starts from zeros, so its first self-attention and norm give a constant, which
    ``merge`` keeps as ``start``.
    """

    start: Tensor | None

    def __init__(self, config: StarkConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.width)
        self.register_buffer("start", None)

    def forward(self, query: Tensor, memory: Tokens) -> Tensor:
        """Decode with the query's learnt position (1, C) and the encoder's output -> (B, 1, C)."""
        if not self.layers:
            weights = torch.softmax(memory.bias[:, None], dim=2)
            return self.norm(query[None] + weights @ memory.features)
        keys = memory.features + memory.positions
        x = self.start
        if x is None:
            x = self.layers[0].settle(torch.zeros_like(keys[:, :1]))
        for index, layer in enumerate(self.layers):
            x = layer.settle(x) if index else x
            x = layer.attend(x, query[None], keys, memory)
        return self.norm(x)

    @torch.no_grad()
    def merge(self) -> None:
        """Keep the constant instead of computing it, in place; needs eval mode; idempotent."""
        if self.layers:
            nothing = self.norm.weight.new_zeros(1, 1, self.norm.weight.numel())
            self.start = self.layers[0].settle(nothing)


class DecoderLayer(nn.Module):
    """Self-attention of the query, attention to the memory, feed-forward network; norms after."""

    def __init__(self, config: StarkConfig) -> None:
        super().__init__()
        self.self_attn = StarkAttention(config.width, config.heads, config.dropout)
        self.multihead_attn = StarkAttention(config.width, config.heads, config.dropout)
        self.linear1 = nn.Linear(config.width, config.hidden)
        self.linear2 = nn.Linear(config.hidden, config.width)
        self.norm1 = nn.LayerNorm(config.width)
        self.norm2 = nn.LayerNorm(config.width)
        self.norm3 = nn.LayerNorm(config.width)
        self.drop = nn.Dropout(config.dropout)

    def settle(self, x: Tensor) -> Tensor:
        """Query features (B, 1, C) -> the same shape, after self-attention and norm."""
        return self.norm1(x + self.drop(self.self_attn.alone(x)))

    def attend(self, x: Tensor, query: Tensor, keys: Tensor, memory: Tokens) -> Tensor:
        """Run the rest of the layer.

        Args:
            x: query features (B, 1, C), after ``settle``.
            query: the query's learnt position (1, 1, C).
            keys: features plus positions of the memory (B, N, C).
            memory: the encoder's output.

        Returns:
            (B, 1, C).
        """
        found = self.multihead_attn.pool(x + query, keys, memory.features, memory.bias[:, None])
        x = self.norm2(x + self.drop(found))
        hidden = self.drop(F.relu(self.linear1(x)))
        return self.norm3(x + self.drop(self.linear2(hidden)))


class StarkAttention(nn.Module):
    """Multi-head attention with the parameters of ``nn.MultiheadAttention``, in three forms.

    Args:
        width: C.
        heads: must divide it.
        dropout: of the attention weights, while training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.zeros_(self.out_proj.bias)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Attend to all tokens.

        Args:
            x: source of queries and keys (B, N, C).
            value: source of the values (B, N, C).
            bias: (B, 1, 1, N), added to the scores.

        Returns:
            (B, N, C).
        """
        query, key, value = self._split(x, 0), self._split(x, 1), self._split(value, 2)
        scores = (query * self.scale) @ key.transpose(2, 3) + bias
        weights = self.drop(torch.softmax(scores, dim=-1))
        return self.out_proj((weights @ value).transpose(1, 2).flatten(2))

    def alone(self, x: Tensor) -> Tensor:
        """Attend with a single token (B, 1, C), whose weight is 1: (B, 1, C)."""
        weights = self.drop(x.new_ones(x.shape[0], self.heads, 1, 1))
        return self.out_proj((weights * self._split(x, 2)).transpose(1, 2).flatten(2))

    def pool(self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """Attend with a single query, without a projection of all keys and values.

        With one query, ``q . (W_k m)`` is ``(W_k^T q) . m`` for each memory cell m, and the
        weighted mean of ``W_v m`` is W_v times that of m: the projections move to where there is
        one vector a head. The key's offset adds the same to all scores of a head and drops out.

        Args:
            query: (B, 1, C).
            keys, values: sources of them (B, N, C).
            bias: (B, 1, N), added to the scores.

        Returns:
            (B, 1, C).
        """
        probe = (self._split(query, 0) * self.scale) @ self._weight(1).unflatten(
            0, (self.heads, -1)
        )
        weights = torch.softmax(probe[:, :, 0] @ keys.transpose(1, 2) + bias, dim=-1)
        record("query attention", lambda: weights)
        means = self.drop(weights) @ values
        value = means[:, :, None] @ self._weight(2).unflatten(0, (self.heads, -1)).transpose(1, 2)
        return self.out_proj(value.flatten(1)[:, None] + self._offset(2))

    def _split(self, x: Tensor, part: int) -> Tensor:
        """(B, N, C) -> queries, keys or values (B, heads, N, C / heads)."""
        projected = F.linear(x, self._weight(part), self._offset(part))
        return projected.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _weight(self, part: int) -> Tensor:
        return self.in_proj_weight.chunk(3)[part]

    def _offset(self, part: int) -> Tensor:
        return self.in_proj_bias.chunk(3)[part]


class Perceptron(nn.Module):
    """Three linear layers with ReLUs between them: decoded query (B, C) -> (B, outputs)."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, wide) for wide in (width, width, outputs))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class ScoreHead(Perceptron):
    """The perceptron of section 3.2: decoded query (B, C) -> logit (B,)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, 0]


class BoxPerceptron(Perceptron):
    """DETR's box head, table 7's row 4: decoded query (B, C) -> cx, cy, w, h (B, 4) in [0, 1]."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(super().forward(x))


@register_model
def stark_s50(miniature: bool = False) -> Stark:
    """Build STARK-S50: ResNet-50, one template; 28.1 M parameters, 0.1 M as a miniature."""
    return Stark(_MINIATURE if miniature else StarkConfig())


@register_model
def stark_st50(miniature: bool = False) -> Stark:
    """Build STARK-ST50: ResNet-50, first and dynamic template, score head; 28.2 M parameters."""
    return Stark(replace(_MINIATURE if miniature else StarkConfig(), temporal=True))


@register_model
def stark_st101(miniature: bool = False) -> Stark:
    """Build STARK-ST101: ResNet-101, first and dynamic template, score head; 47.2 M parameters."""
    config = replace(_MINIATURE, blocks=(1, 1, 2)) if miniature else StarkConfig(blocks=(3, 4, 23))
    return Stark(replace(config, temporal=True))


_MINIATURE = StarkConfig(
    blocks=(1, 1, 1),
    planes=(8, 16, 32),
    width=32,
    heads=4,
    hidden=64,
    encoder_layers=2,
    decoder_layers=2,
    head_width=32,
)
