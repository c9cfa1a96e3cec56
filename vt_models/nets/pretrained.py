# SPDX-License-Identifier: Apache-2.0
"""What convolutional backbones with published weights have in common."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import Self


class Depthwise(nn.Conv2d):
    """A depthwise convolution that learns in float32 on a CPU, autocast or not.

    In bfloat16 its backward pass is 2 to 9 times slower there (oneDNN of torch 2.15, AVX-512 bf16,
    channels last: 672 channels of 23x23, 5x5, stride 2, batch 32: 223 against 25 ms); its forward
    pass is faster, so where nothing learns it stays.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve as `nn.Conv2d` does."""
        learns = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        if not (learns and x.device.type == "cpu" and torch.is_autocast_enabled("cpu")):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float()).to(x.dtype)


class PretrainedBackbone(nn.Module):
    """A backbone whose batch norms always use the published statistics.

    Batches of tracking crops (half of them nearly black at the frame's edge) have others.
    """

    def train(self, mode: bool = True) -> Self:
        """Set the mode, but never let batch norms use batch statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self
