# SPDX-License-Identifier: Apache-2.0
"""Stacks of convolutions that box heads consist of, under the published names."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class Towers(nn.Module):
    """Parallel towers, each four conv3x3-BN-ReLU of falling width and a conv1x1.

    Args:
        channels: C of the (B, C, H, W) input.
        width: channels after the first convolution; each further one halves them.
        outputs: channels that each tower ends in, by the tower's name.
    """

    DEPTH = 4

    def __init__(self, channels: int, width: int, outputs: Mapping[str, int]) -> None:
        super().__init__()
        widths = [channels, *(width >> index for index in range(self.DEPTH))]
        for name, count in outputs.items():
            for index, (inputs, wide) in enumerate(pairwise(widths), start=1):
                layer = nn.Sequential(
                    nn.Conv2d(inputs, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.ReLU()
                )
                self.add_module(f"conv{index}_{name}", layer)
            self.add_module(f"conv{self.DEPTH + 1}_{name}", nn.Conv2d(widths[-1], count, 1))

    def tower(self, x: Tensor, name: str) -> Tensor:
        """Map (B, C, H, W) -> the named tower's output (B, count, H, W)."""
        for index in range(1, self.DEPTH + 2):
            x = self.get_submodule(f"conv{index}_{name}")(x)
        return x

    @torch.no_grad()
    def merge(self) -> None:
        """Fold every batch norm into the convolution before it, in place; needs eval mode."""
        for name, layer in self.named_children():
            if isinstance(layer, nn.Sequential) and isinstance(layer[1], nn.BatchNorm2d):
                fused = fuse_conv_bn_eval(layer[0], layer[1].eval())
                setattr(self, name, nn.Sequential(fused, nn.Identity(), layer[2]))
