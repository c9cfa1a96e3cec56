# SPDX-License-Identifier: Apache-2.0
"""NanoTrack v3 (HonglinChu/SiamTrackers, Apache-2.0), a small tracker that teaches others.

Nothing of it is bundled or exported: `vt_models.training.distillation.teacher` reads its published
weights. The parameters have their published names, and the outputs equal those of the published
graphs.

    template 128 -> 8x8 features of 96 channels (stride 16)
    search   256 -> 16x16 features
    head: pixel-wise and depthwise correlation, one pair for the score and one for the box, then a
    tower of six separable blocks each -> 15x15 maps

Input: BGR, 0 to 255, not normalised.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from typing_extensions import Self

from vt_models.errors import WeightsError
from vt_models.nets.mobilenet import NanoTrackBackbone, read_nanotrack
from vt_models.weights.tensors import describe_difference, dtype_name, layout_of

STRIDE = 16
CHANNELS = 96
TEMPLATE_CELLS = 8
CENTRE = slice(2, 6)
"""A depthwise correlation slides these rows and columns of the template over the search map."""
TOWER_BLOCKS = 6
NECK = "neck."
"""Published parameters that no published graph uses."""


def _conv_norm(channels: int) -> nn.Sequential:
    """Return a 1x1 convolution with a bias, and batch norm."""
    return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))


class ChannelAttention(nn.Module):
    """Squeeze and excitation without a bottleneck: (B, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels, 1)
        self.fc2 = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        return x * self.fc2(F.relu(self.fc1(pooled))).sigmoid()


class PixelwiseCorrelation(nn.Module):
    """Products of every template cell with every search cell: N x N cells -> 64 x (N-1) x (N-1)."""

    OUT_CHANNELS = TEMPLATE_CELLS**2

    def __init__(self) -> None:
        super().__init__()
        count = self.OUT_CHANNELS
        self.conv_kernel = _conv_norm(CHANNELS)
        self.conv_search = _conv_norm(CHANNELS)
        self.CA_layer = ChannelAttention(count)
        self.conv = nn.Sequential(
            nn.Conv2d(count, count, 2, groups=count, bias=False),
            nn.BatchNorm2d(count),
            nn.ReLU6(),
            nn.Conv2d(count, count, 1),
            nn.BatchNorm2d(count),
        )

    def forward(self, template: Tensor, search: Tensor) -> Tensor:
        cells = self.conv_kernel(template).flatten(2).transpose(1, 2)
        matched = cells @ self.conv_search(search).flatten(2)
        return self.conv(self.CA_layer(matched.unflatten(2, search.shape[2:])))


class DepthwiseCorrelation(nn.Module):
    """The middle of the template's map slides over the search map: N x N -> 96 x (N-1) x (N-1)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_kernel = _conv_norm(CHANNELS)
        self.conv_search = _conv_norm(CHANNELS)

    def forward(self, template: Tensor, search: Tensor) -> Tensor:
        kernel = self.conv_kernel(template[:, :, CENTRE, CENTRE])
        image = self.conv_search(search)
        # All pairs at once: as channels of one image, each with its own kernel.
        groups = image.shape[0] * image.shape[1]
        slid = F.conv2d(
            image.reshape(1, groups, *image.shape[2:]),
            kernel.reshape(groups, 1, *kernel.shape[2:]),
            padding=1,
            groups=groups,
        )
        return slid.reshape(*image.shape[:2], *slid.shape[2:])


def _tower() -> nn.Sequential:
    """Return six times depthwise 3x3, batch norm, ReLU6, 1x1 and batch norm in one sequence."""
    layers: list[nn.Module] = []
    for _ in range(TOWER_BLOCKS):
        layers += [
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS, bias=False),
            nn.BatchNorm2d(CHANNELS),
            nn.ReLU6(),
            nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False),
            nn.BatchNorm2d(CHANNELS),
        ]
    return nn.Sequential(*layers)


class NanoTrackHead(nn.Module):
    """Features of both branches -> logits and distances.

    `forward`: (B, 96, 8, 8) and (B, 96, N, N) -> logits (B, 2, N-1, N-1) of background and target,
    distances (B, 4, N-1, N-1) left, top, right, bottom in pixels of the search crop.
    """

    def __init__(self) -> None:
        super().__init__()
        both = PixelwiseCorrelation.OUT_CHANNELS + CHANNELS
        self.corr_pw_cls = PixelwiseCorrelation()
        self.corr_pw_reg = PixelwiseCorrelation()
        self.corr_dw_cls = DepthwiseCorrelation()
        self.corr_dw_reg = DepthwiseCorrelation()
        self.down_cls = nn.Sequential(nn.Conv2d(both, CHANNELS, 1))
        self.down_reg = nn.Sequential(nn.Conv2d(both, CHANNELS, 1))
        self.cls_tower = _tower()
        self.bbox_tower = _tower()
        self.cls_logits = nn.Sequential(nn.Conv2d(CHANNELS, 2, 1))
        self.bbox_pred = nn.Sequential(nn.Conv2d(CHANNELS, 4, 1))

    def forward(self, template: Tensor, search: Tensor) -> tuple[Tensor, Tensor]:
        pixels = self.corr_pw_cls(template, search)
        slid = self.corr_dw_cls(template, search)
        score = self.cls_tower(self.down_cls(torch.cat([pixels, slid], 1)))
        pixels = self.corr_pw_reg(template, search)
        slid = self.corr_dw_reg(template, search)
        box = self.bbox_tower(self.down_reg(torch.cat([pixels, slid], 1)))
        return self.cls_logits(score).float(), self.bbox_pred(box).float().exp()


class NanoTrack(nn.Module):
    """Backbone and head, in the arrangement that trains a student: both crops at once.

    The published state dict also has a neck, which the published graphs do not apply.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = NanoTrackBackbone()
        self.ban_head = NanoTrackHead()

    def forward(self, template: Tensor, search: Tensor) -> tuple[Tensor, Tensor]:
        """Compare.

        Args:
            template: (B, 3, 128, 128) BGR, 0 to 255; 127 as published does too.
            search: (B, 3, S, S) the same, S a multiple of 16 (or one less, as published).

        Returns:
            Logits (B, 2, M, M) of background and target; distances (B, 4, M, M) left, top, right,
            bottom in pixels of the search crop, from points 16 pixels apart that lie symmetrically
            around its middle. M = S / 16 - 1.
        """
        return self.ban_head(self.backbone(template)[1], self.backbone(search)[1])

    @torch.no_grad()
    def merge(self) -> Self:
        """Fold every batch norm into the convolution before it, in place; needs evaluation mode.

        A quarter to a third less time for 32 pairs on a CPU.
        """
        for layers in self.modules():
            if not isinstance(layers, nn.Sequential):
                continue
            for index, (layer, norm) in enumerate(pairwise(list(layers))):
                if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    layers[index] = fuse_conv_bn_eval(layer, norm)
                    layers[index + 1] = nn.Identity()
        return self


def load_nanotrack(file: Path) -> NanoTrack:
    """Return NanoTrack v3 with its published weights, in evaluation mode.

    Args:
        file: The state dict with its published names as `.safetensors`.

    Raises:
        WeightsError: The file cannot be read, or a tensor is missing, unknown or of another shape.
    """
    tensors = {name: one for name, one in read_nanotrack(file).items() if not name.startswith(NECK)}
    net = NanoTrack()
    found = {name: (dtype_name(one), tuple(one.shape)) for name, one in tensors.items()}
    if difference := describe_difference(layout_of(net), found):
        raise WeightsError(f"{file} does not fit NanoTrack v3: {difference}.")
    net.load_state_dict(tensors)
    return net.eval()
