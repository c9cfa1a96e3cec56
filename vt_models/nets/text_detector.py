# SPDX-License-Identifier: Apache-2.0
"""A small detector that is asked by a text: one pass over the whole image, a score a place.

The score of a place is the similarity of what is seen there and of what the text says, so that
names which no training image had still have a meaning (Zareian et al., "Open-Vocabulary Object
Detection Using Captions", CVPR 2021). Made of known parts: EfficientNet-Lite0, a feature pyramid
(Lin et al., CVPR 2017) of depthwise separable convolutions, an anchor-free head that gives the
distances to the four sides (FCOS, Tian et al., ICCV 2019), a score that means the box's IoU as well
(VarifocalNet, Zhang et al., CVPR 2021), and the text encoder of ``pjvlt_tiny``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vt_models.nets.bert import Bert, BertConfig, mean_word
from vt_models.nets.efficientnet import (
    STRIDE8_CHANNELS,
    STRIDE16_CHANNELS,
    STRIDE32_CHANNELS,
    EfficientNetLite0,
)
from vt_models.nets.layers import Projection
from vt_models.nets.pretrained import Depthwise

NAME = "text_detector"
"""What weights files and exports call this network."""
NAMES = "names"
"""Entry of a weights file: the names that it was trained on, as JSON."""
STRIDES = (8, 16, 32)
TEXT = BertConfig(dim=192, depth=3, heads=6, hidden=768, embedding=64, positions=64)
"""The text encoder that `vt-models distill-text-encoder` makes."""
RARE = 0.01
"""What every score is before training: hardly any place shows what a text says."""


class Found(NamedTuple):
    """What the places of a image show, all levels one after the other, row by row.

    Attributes:
        logits: (B, P, N), similarity of each place and text.
        boxes: (B, P, 4), cx, cy, w, h as fractions of the image.
    """

    logits: Tensor
    boxes: Tensor


class TextDetector(nn.Module):
    """Image and texts to boxes with a score a text.

    Args:
        width: channels of the pyramid.
        meaning: width of the space in which images and texts meet.
    """

    def __init__(self, width: int = 96, meaning: int = 128) -> None:
        super().__init__()
        channels = (STRIDE8_CHANNELS, STRIDE16_CHANNELS, STRIDE32_CHANNELS)
        self.backbone = EfficientNetLite0(stride=32)
        self.lateral = nn.ModuleList(Projection(count, width) for count in channels)
        self.smooth = nn.ModuleList(Separable(width) for _ in channels)
        self.look = nn.Sequential(Separable(width), Separable(width))
        self.meaning = nn.Conv2d(width, meaning, 1)
        self.sides = nn.Sequential(Separable(width), Separable(width), nn.Conv2d(width, 4, 1))
        self.scale = nn.Parameter(torch.ones(len(STRIDES)))
        self.bias = nn.Parameter(torch.tensor(math.log(RARE / (1.0 - RARE))))
        self.language = Bert(TEXT)
        self.read = nn.Linear(TEXT.dim, meaning)
        nn.init.normal_(self.meaning.weight, std=0.01)
        nn.init.zeros_(self.sides[-1].bias)
        nn.init.normal_(self.sides[-1].weight, std=0.01)

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Word pieces (N, L) int64 and bool -> the mean word of each text, (N, 192)."""
        return mean_word(self.language(ids, mask)[-1], mask[..., None].float())

    def forward(self, images: Tensor, words: Tensor) -> Found:
        """Look for texts in images.

        Args:
            images: (B, 3, H, W) float32, normalised; H and W are multiples of 32.
            words: (N, 192), from `encode_text`.
        """
        texts = F.normalize(self.read(words), dim=-1)
        logits, boxes = [], []
        for level, features in enumerate(self._pyramid(images)):
            seen = self.meaning(self.look(features)).flatten(2).transpose(1, 2)
            logits.append((seen.float() @ texts.float().T) + self.bias)
            boxes.append(self._boxes(self.sides(features).float(), level, images.shape))
        return Found(torch.cat(logits, 1), torch.cat(boxes, 1))

    def _pyramid(self, images: Tensor) -> list[Tensor]:
        maps = [project(x) for project, x in zip(self.lateral, self.backbone(images), strict=True)]
        for finer, coarser in ((1, 2), (0, 1)):
            larger = F.interpolate(maps[coarser], scale_factor=2.0, mode="nearest")
            maps[finer] = maps[finer] + larger
        return [smooth(x) for smooth, x in zip(self.smooth, maps, strict=True)]

    def _boxes(self, sides: Tensor, level: int, image: torch.Size) -> Tensor:
        """(B, 4, h, w), logarithms of the distances to left, top, right, bottom -> (B, h w, 4)."""
        stride, (height, width) = STRIDES[level], image[2:]
        distances = torch.exp((sides * self.scale[level]).clamp(-5.0, 5.0)) * (2.0 * stride)
        left, top, right, bottom = distances.flatten(2).unbind(1)
        x, y = (axis.to(sides.device) for axis in centres(level, (int(height), int(width))))
        box = (x + (right - left) / 2, y + (bottom - top) / 2, left + right, top + bottom)
        size = torch.tensor([width, height, width, height], device=sides.device)
        return torch.stack(box, -1) / size

    def load_imagenet_backbone(self, file: Path) -> None:
        """Load ImageNet weights; see ``EfficientNetLite0.load_imagenet``."""
        self.backbone.load_imagenet(file)


def centres(level: int, image: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return x and y of the places of a level, row by row, in pixels of an image (H, W)."""
    stride = STRIDES[level]
    rows, columns = (torch.arange(side // stride) for side in image)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return (x.flatten() + 0.5) * stride, (y.flatten() + 0.5) * stride


class Separable(nn.Sequential):
    """Depthwise 3x3 and 1x1 convolution, each with a batch norm and a ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__(
            Depthwise(width, width, 3, padding=1, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            *Projection(width, width),
            nn.ReLU(),
        )
