# SPDX-License-Identifier: Apache-2.0
"""The centre head of OSTrack, ProContEXT and PJVLT: a score, an offset and a size a cell."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import Self

from vt_models.nets.heads import Towers
from vt_models.nets.vit import VisionTransformer

LEAST = 1e-4
"""Scores and sizes lie in [LEAST, 1 - LEAST], as published: the focal loss takes logarithms."""

SCORE_AT_START = 0.01
"""Every cell of a fresh network has this score. One cell of 256 is the centre: from 0.5, where a
zero bias starts, the focal loss is 130 at first, against 3 of all other terms, and the clipped
gradient says little else for 8,000 pairs; from here it is 4."""


class CentreMaps(NamedTuple):
    """What a centre head says about each cell, all in float32.

    Attributes:
        score: (B, H, W) in [1e-4, 1 - 1e-4], how likely the target's centre is there.
        offset: (B, 2, H, W) x, y of the centre within the cell, in cells, unbounded.
        size: (B, 2, H, W) width and height as fractions of the crop, in [1e-4, 1 - 1e-4].
    """

    score: Tensor
    offset: Tensor
    size: Tensor

    @property
    def boxes(self) -> Tensor:
        """(B, 4, H, W) cx, cy, w, h as fractions of the crop: the box of each cell."""
        height, width = self.score.shape[1:]
        options = {"dtype": self.offset.dtype, "device": self.offset.device}
        columns = torch.arange(width, **options)
        rows = torch.arange(height, **options)
        cx = (self.offset[:, 0] + columns) / width
        cy = (self.offset[:, 1] + rows[:, None]) / height
        return torch.cat([torch.stack([cx, cy], dim=1), self.size], dim=1)

    def outputs(self) -> dict[str, Tensor]:
        """Return what a training pass gives of them."""
        return {
            "score_map": self.score,
            "box_map": self.boxes,
            "offset_map": self.offset,
            "size_map": self.size,
        }


class CentreHead(Towers):
    """CenterNet's head (Zhou et al., "Objects as Points", 2019) as OSTrack has it (section 3.3).

    Kernels start as published (Xavier, uniform), and the score's bias as CenterNet and
    RetinaNet have it.

    Args:
        channels: C of the (B, C, H, W) input.
        width: channels after the first convolution of each tower.
    """

    def __init__(self, channels: int, width: int = 256) -> None:
        super().__init__(channels, width, {"ctr": 1, "offset": 2, "size": 2})
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
        bias = self.get_submodule(f"conv{self.DEPTH + 1}_ctr").get_parameter("bias")
        nn.init.constant_(bias, math.log(SCORE_AT_START / (1 - SCORE_AT_START)))

    def forward(self, x: Tensor) -> CentreMaps:
        """Map (B, C, H, W) -> the maps of score, offset and size."""
        return CentreMaps(
            score=bounded(self.tower(x, "ctr"))[:, 0],
            offset=self.tower(x, "offset").float(),
            size=bounded(self.tower(x, "size")),
        )


class CentreNet(nn.Module):
    """A one-stream ViT below a centre head.

    Attributes:
        backbone, box_head: the two.
        maps: search region and state -> the head's maps.
    """

    state_names = ("tokens",)
    output_names = ("score_map", "box_map")
    backbone: VisionTransformer
    box_head: CentreHead
    maps: Callable[..., CentreMaps]

    def search(self, search: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Find the target in a search region, with maps of S/16 cells a side; see `SiameseNet`."""
        maps = self.maps(search, *state)
        return maps.score, maps.boxes

    def merge(self) -> Self:
        """Fold the head's batch norms, in place; returns itself, in eval mode; idempotent."""
        self.eval()
        self.box_head.merge()
        return self

    def load_imagenet_backbone(self, file: Path) -> None:
        """Load what there is of ImageNet weights; see `VisionTransformer.load_imagenet`."""
        self.backbone.load_imagenet(file)

    def load_mae_backbone(self, file: Path) -> None:
        """Start from MAE's ViT-B; see `VisionTransformer.load_mae`."""
        self.backbone.load_mae(file)


def bounded(logits: Tensor) -> Tensor:
    """Return the sigmoid in float32, held in [LEAST, 1 - LEAST]."""
    return logits.float().sigmoid().clamp(LEAST, 1.0 - LEAST)


def box_at_peak(score: Tensor, boxes: Tensor) -> Tensor:
    """Return the box of the cell with the highest score.

    Args:
        score: (B, H, W).
        boxes: (B, 4, H, W).

    Returns:
        (B, 4); gradients reach the box, not the choice.
    """
    peak = score.flatten(1).argmax(dim=1)
    return boxes.flatten(2).gather(2, peak[:, None, None].expand(-1, 4, 1))[..., 0]
