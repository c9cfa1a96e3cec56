# SPDX-License-Identifier: Apache-2.0
"""NanoTrack v3's backbone: a narrow MobileNetV3 up to stride 16, with weights made for tracking.

HonglinChu/SiamTrackers, NanoTrack v3 (Apache-2.0); its weights were trained on GOT-10k, ImageNet
VID and DET, YouTube-BB, COCO and LaSOT. Blocks as in Howard et al., "Searching for MobileNetV3"
(ICCV 2019), section 5; parameter names and shapes are those of the published checkpoint.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from vt_models.errors import WeightsError
from vt_models.nets.pretrained import Depthwise, PretrainedBackbone
from vt_models.weights.tensors import read_tensors

STRIDE8_CHANNELS, STRIDE16_CHANNELS = 24, 96
PUBLISHED_PREFIX = "backbone."
"""The published file prefixes our names with this."""

_STEM_CHANNELS = 16
# Kernel, channels inside, channels out, channels of the squeeze (0: none), hard-swish, stride.
_BLOCKS = (
    (3, 16, 16, 8, False, 2),
    (3, 72, 24, 0, False, 2),
    (3, 88, 24, 0, False, 1),
    (5, 96, 40, 24, True, 2),
    (5, 240, 40, 64, True, 1),
    (5, 240, 40, 64, True, 1),
    (5, 120, 48, 32, True, 1),
    (5, 144, 48, 40, True, 1),
    (5, 288, 96, 72, True, 1),
)
_LAST_OF_STRIDE8 = 3


class SqueezeExcite(nn.Module):
    """Channels weighted by what the whole map holds: (B, C, H, W) -> the same."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, squeezed),
            nn.ReLU(inplace=True),
            nn.Linear(squeezed, channels),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class InvertedResidual(nn.Module):
    """Expand, depthwise convolution, project; the input is added where the shapes allow it."""

    def __init__(
        self,
        channels: int,
        kernel: int,
        hidden: int,
        out_channels: int,
        squeezed: int,
        hard_swish: bool,
        stride: int,
    ) -> None:
        super().__init__()
        activation = nn.Hardswish if hard_swish else nn.ReLU
        squeeze = SqueezeExcite(hidden, squeezed) if squeezed else nn.Identity()
        depthwise = [
            Depthwise(hidden, hidden, kernel, stride, (kernel - 1) // 2, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
        ]
        project = [nn.Conv2d(hidden, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)]
        if hidden == channels:
            self.conv = nn.Sequential(*depthwise, activation(inplace=True), squeeze, *project)
        else:
            self.conv = nn.Sequential(
                nn.Conv2d(channels, hidden, 1, bias=False),
                nn.BatchNorm2d(hidden),
                activation(inplace=True),
                *depthwise,
                squeeze,
                activation(inplace=True),
                *project,
            )
        self.adds = stride == 1 and channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        return x + self.conv(x) if self.adds else self.conv(x)


def read_nanotrack(file: Path) -> dict[str, Tensor]:
    """Read the published state dict of NanoTrack v3, kept as `.safetensors`.

    Raises:
        WeightsError: The file cannot be read, or holds nan or infinity.
    """
    try:
        tensors, _ = read_tensors(file)
    except WeightsError as error:
        raise WeightsError(
            f"{file} cannot be read as .safetensors ({error}): give NanoTrack v3's state dict in "
            "that format."
        ) from error
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise WeightsError(f"{file}: {name} holds values that are no numbers: get it again.")
    return tensors


class NanoTrackBackbone(PretrainedBackbone):
    """NanoTrack v3's backbone.

    Input: BGR bytes as they are, 0 to 255, where `load_nanotrack` loaded the published weights for
    that order. The checkpoint also has a neck (`neck.downsample`, 96 to 96 channels), but the
    published tracker does not apply it: its graphs go from here to the head.
    """

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Sequential(
            nn.Conv2d(3, _STEM_CHANNELS, 3, 2, 1, bias=False),
            nn.BatchNorm2d(_STEM_CHANNELS),
            nn.Hardswish(inplace=True),
        )
        blocks, channels = [], _STEM_CHANNELS
        for kernel, hidden, out_channels, squeezed, hard_swish, stride in _BLOCKS:
            blocks.append(
                InvertedResidual(
                    channels, kernel, hidden, out_channels, squeezed, hard_swish, stride
                )
            )
            channels = out_channels
        self.features = nn.Sequential(stem, *blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in 0 to 255 -> (B, 24, H/8, W/8), (B, 96, H/16, W/16), rounded up."""
        stride8 = self.features[: _LAST_OF_STRIDE8 + 1](x)
        return stride8, self.features[_LAST_OF_STRIDE8 + 1 :](stride8)

    def load_nanotrack(self, file: Path, rgb: bool = False) -> None:
        """Load the published weights.

        Args:
            file: `.safetensors` with the published names; what it has beside the backbone (neck,
                head) is left alone.
            rgb: The network will be given RGB instead of BGR: the first convolution's kernels
                swap their input channels, which gives the same maps at no cost.

        Raises:
            WeightsError: The file cannot be read, or a tensor is missing or has another shape.
                The network is unchanged.
        """
        published = read_nanotrack(file)
        state = self.state_dict()
        for name, own in state.items():
            if name.endswith("num_batches_tracked"):
                continue
            tensor = published.get(PUBLISHED_PREFIX + name)
            if tensor is None or tensor.shape != own.shape:
                found = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}"
                raise WeightsError(
                    f"{file}: {PUBLISHED_PREFIX}{name} {found}, but NanoTrack v3's has shape "
                    f"{tuple(own.shape)}: not the weights of NanoTrack v3."
                )
            state[name] = tensor
        first = "features.0.0.weight"
        state[first] = state[first].flip(1) if rgb else state[first]
        self.load_state_dict(state)
