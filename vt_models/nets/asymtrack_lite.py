# SPDX-License-Identifier: Apache-2.0
"""AsymTrack-Lite: AsymTrack's asymmetric design on a small convolutional backbone.

What is AsymTrack's (Zhu et al., AAAI 2025): the template runs once and is turned into signals that
modulate the search branch (ETM, eq. 4 to 7), and both branches share a re-parameterised
enhancement (OPE, eq. 8) that is one 3x3 convolution after `merge`.

What differs, and why: the backbone is a convolutional one up to stride 16 for which weights are at
hand (EfficientNet-Lite0 with ImageNet weights, or NanoTrack v3's, see `AsymTrackNano`); the
template also enters through pixel-wise cosine similarities between the
cells of both branches, which use the pretrained features from the first step on, where
ETM alone has to learn matching from scratch; the head is dense (a score and a box for each cell of
a stride-8 map) so that the score says how sure the network is.

    template 128 -> stride 8 (16x16, pooled to 8x8) and stride 16 (8x8)
    search     S -> stride 8 (S/8 x S/8)            and stride 16 (S/16 x S/16)

The search crop's side S is any multiple of 16. A target has the same number of pixels whatever S is
(`search_factor` = S / 64): a smaller crop shows less of its surroundings and costs less.
Input: as the backbone was trained.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from vt_models.nets import efficientnet, mobilenet
from vt_models.nets.builders import register_model
from vt_models.nets.efficientnet import EfficientNetLite0
from vt_models.nets.layers import (
    EfficientTemplateModulation,
    ObjectPerceptionEnhancement,
    Projection,
)
from vt_models.nets.mobilenet import NanoTrackBackbone
from vt_models.nets.pretrained import Depthwise
from vt_models.nets.recording import record

CELLS = 8
"""Both template maps are compared as 8x8 cells."""
NOMINAL_SIDE_CELLS = 4.0
"""From the nominal target's centre to each of its sides, cells of the stride-8 map."""


class SeparableBlock(nn.Module):
    """x + pointwise(depthwise 5x5(x)), with batch norms: (B, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(
            Depthwise(channels, channels, 5, padding=2, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.pointwise = Projection(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        return F.relu(x + self.pointwise(self.depthwise(x)))


class CellSimilarity(nn.Module):
    """Pixel-wise cosine similarity of a search map with the 64 cells of the template.

    Beside the 64 maps (whose order tells which part of the target a cell resembles) it gives two
    that do not depend on the part: the largest similarity to a cell of the target and to a
    cell of its surroundings.
    """

    OUT_CHANNELS = CELLS * CELLS + 2

    @staticmethod
    def encode(features: Tensor) -> Tensor:
        """Template map (B, C, 8, 8) -> unit vectors (B, 64, C), computed once."""
        return F.normalize(features.flatten(2).transpose(1, 2), dim=2, eps=1e-4)

    def forward(self, search: Tensor, cells: Tensor, inside: Tensor) -> Tensor:
        """Compare.

        Args:
            search: (B, C, H, W).
            cells: (B, 64, C) from `encode`.
            inside: (B, 64, 1) fraction of each cell that the target's box covers.

        Returns:
            (B, 66, H, W) in [-1, 1].
        """
        unit = F.normalize(search, dim=1, eps=1e-4)
        similarity = cells @ unit.flatten(2)
        target = torch.amax(similarity - 2.0 * (inside < 0.5), 1, keepdim=True).clamp(min=-1.0)
        context = torch.amax(similarity - 2.0 * (inside >= 0.5), 1, keepdim=True).clamp(min=-1.0)
        found = torch.cat([similarity, target, context], 1).unflatten(2, search.shape[2:])
        record("similarity", lambda: found[:, -2:])
        return found


class DenseHead(nn.Module):
    """A score and a box for every cell of a stride-8 map.

    The box is predicted as distances to its four sides, exp(raw) * 4 cells, so that a zero output
    is the nominal target (8 cells wide, the template's own target, centred on the cell) in a crop
    of any size.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score_tower = SeparableBlock(channels)
        self.box_tower = SeparableBlock(channels)
        self.score = nn.Conv2d(channels, 1, 1)
        self.sides = nn.Conv2d(channels, 4, 1)
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.constant_(self.score.bias, -4.0)
        nn.init.normal_(self.sides.weight, std=0.01)
        nn.init.zeros_(self.sides.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, W, W) -> score logits (B, W, W), sides (B, 4, W, W): left, top, right, bottom."""
        logits = self.score(self.score_tower(x)).squeeze(1)
        sides = self.sides(self.box_tower(x)).float().clamp(-6.0, 3.0).exp()
        return logits, sides * (NOMINAL_SIDE_CELLS / x.shape[3])


class AsymTrackLite(nn.Module):
    """The network.

    Args:
        backbone: (B, 3, S, S) -> maps of stride 8 and 16.
        backbone_channels: Of those two maps.
        channels16: Channels of the stride-16 map after its projection.
        channels8: Channels of the stride-8 map and of the head.
        prototypes: N of the ETM.
    """

    state_names = ("cells8", "cells16", "kernels", "inside")
    output_names = ("score_map", "box_map")

    def __init__(
        self,
        backbone: nn.Module,
        backbone_channels: tuple[int, int],
        channels16: int,
        channels8: int,
        prototypes: int = 8,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.project8 = Projection(backbone_channels[0], channels8)
        self.project16 = Projection(backbone_channels[1], channels16)
        self.enhance16 = ObjectPerceptionEnhancement(channels16)
        self.modulate16 = EfficientTemplateModulation(
            channels16, prototypes, detach_prototype=False
        )
        self.similarity = CellSimilarity()
        similar = CellSimilarity.OUT_CHANNELS
        self.fuse16 = nn.Sequential(
            Projection(channels16 + similar, channels16),
            nn.ReLU(inplace=True),
            SeparableBlock(channels16),
            SeparableBlock(channels16),
        )
        self.reduce16 = Projection(channels16, channels8)
        self.fuse8 = Projection(channels8 + similar, channels8)
        self.enhance8 = ObjectPerceptionEnhancement(channels8)
        self.head = DenseHead(channels8)
        # ETM's output starts at a tenth: pretrained features are to lead at first.
        nn.init.constant_(self.modulate16.ln.weight, 0.1)
        for enhance in (self.enhance8, self.enhance16):
            nn.init.constant_(enhance.ibe_scale, 0.1)

    def _features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> (B, C8, S/8, S/8), (B, C16, S/16, S/16), shared by both branches."""
        stride8, stride16 = self.backbone(x)
        return self.project8(stride8), self.enhance16(self.project16(stride16))

    def encode_template(self, template: Tensor, template_box: Tensor) -> tuple[Tensor, ...]:
        """Return all that depends on the template alone.

        Args:
            template: (B, 3, 128, 128) normalised.
            template_box: (B, 4) x, y, w, h as fractions of the template crop.

        Returns:
            cells8 (B, 64, C8), cells16 (B, 64, C16), kernels (B, N, 3 + N), inside (B, 64, 1).
        """
        z8, z16 = self._features(template)
        inside = box_coverage(template_box, CELLS)
        focus = z16 * inside
        return (
            CellSimilarity.encode(F.avg_pool2d(z8, 2)),
            CellSimilarity.encode(z16),
            self.modulate16.encode_template(focus),
            inside.flatten(2).transpose(1, 2),
        )

    def _head(self, search: Tensor, *state: Tensor) -> tuple[Tensor, Tensor]:
        cells8, cells16, kernels, inside = state
        x8, x16 = self._features(search)
        matched16 = self.similarity(x16, cells16, inside)
        x16 = self.fuse16(torch.cat([self.modulate16(x16, kernels), matched16], 1))
        matched8 = self.similarity(x8, cells8, inside)
        coarse = F.interpolate(self.reduce16(x16), scale_factor=2.0, mode="nearest")
        fused = F.relu(coarse + self.fuse8(torch.cat([x8, matched8], 1)))
        return self.head(self.enhance8(fused))

    def search(self, search: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, S, S) normalised -> score_map (B, S/8, S/8), box_map (B, 4, S/8, S/8) cxcywh."""
        logits, sides = self._head(search, *state)
        return logits.float().sigmoid(), sides_to_boxes(sides)

    def forward(self, template: Tensor, search: Tensor, template_box: Tensor) -> dict[str, Tensor]:
        """Return for training `logits` (B, S/8, S/8), `boxes` (B, 4, S/8, S/8) cxcywh fractions."""
        logits, sides = self._head(search, *self.encode_template(template, template_box))
        return {"logits": logits.float(), "boxes": sides_to_boxes(sides)}

    def merge(self) -> Self:
        """Fold the enhancement branches into one convolution each, in place."""
        self.enhance16.merge()
        self.enhance8.merge()
        return self


class AsymTrackLite0(AsymTrackLite):
    """On EfficientNet-Lite0: 96 channels at stride 16, 64 at stride 8; input (x - 127) / 128."""

    backbone: EfficientNetLite0

    def __init__(self) -> None:
        channels = (efficientnet.STRIDE8_CHANNELS, efficientnet.STRIDE16_CHANNELS)
        super().__init__(EfficientNetLite0(), channels, channels16=96, channels8=64)

    def load_imagenet_backbone(self, file: Path) -> None:
        """Load ImageNet weights; see `EfficientNetLite0.load_imagenet`."""
        self.backbone.load_imagenet(file)


class AsymTrackNano(AsymTrackLite):
    """On NanoTrack v3's backbone: 96 channels at stride 16, 48 at stride 8; input RGB bytes.

    The backbone was trained on BGR; `load_nanotrack_backbone` swaps the input channels of its first
    kernels, so that no operation is spent on it.
    """

    backbone: NanoTrackBackbone

    def __init__(self, channels16: int = 96, channels8: int = 48) -> None:
        channels = (mobilenet.STRIDE8_CHANNELS, mobilenet.STRIDE16_CHANNELS)
        super().__init__(NanoTrackBackbone(), channels, channels16, channels8)

    def load_nanotrack_backbone(self, file: Path) -> None:
        """Load NanoTrack v3's, for RGB input; see `NanoTrackBackbone.load_nanotrack`."""
        self.backbone.load_nanotrack(file, rgb=True)


def sides_to_boxes(sides: Tensor) -> Tensor:
    """Distances (B, 4, H, W) left, top, right, bottom of each cell's centre -> cxcywh.

    All in fractions of the crop; cell (i, j)'s centre is ((j + 0.5) / W, (i + 0.5) / H).
    """
    height, width = sides.shape[2:]
    xs = (torch.arange(width, device=sides.device, dtype=sides.dtype) + 0.5) / width
    ys = (torch.arange(height, device=sides.device, dtype=sides.dtype) + 0.5) / height
    left, top, right, bottom = sides.unbind(1)
    cx = xs[None, None, :] + (right - left) * 0.5
    cy = ys[None, :, None] + (bottom - top) * 0.5
    return torch.stack([cx, cy, left + right, top + bottom], 1)


def box_coverage(box: Tensor, cells: int) -> Tensor:
    """Return how much of each cell of a square grid a box covers.

    Args:
        box: (B, 4) x, y, w, h as fractions of the square.
        cells: Cells along a side.

    Returns:
        (B, 1, cells, cells) in [0, 1].
    """
    edges = torch.arange(cells + 1, device=box.device, dtype=box.dtype) / cells
    x, y, w, h = (v[:, None] for v in box.unbind(1))

    def covered(start: Tensor, length: Tensor) -> Tensor:
        upper = torch.minimum(edges[None, 1:], start + length)
        lower = torch.maximum(edges[None, :-1], start)
        return (upper - lower).clamp(min=0.0) * cells

    return (covered(y, h)[:, :, None] * covered(x, w)[:, None, :])[:, None]


@register_model
def asymtrack_lite0() -> AsymTrackLite0:
    """Build the default model."""
    return AsymTrackLite0()


@register_model
def asymtrack_nano() -> AsymTrackNano:
    """Build the small model: 96 channels at stride 16, 48 at stride 8, 8 prototypes."""
    return AsymTrackNano()
