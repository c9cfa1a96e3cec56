# SPDX-License-Identifier: Apache-2.0
"""What backbones with published weights have in common: how a file is read, how they train."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from typing_extensions import Self

from vt_models.errors import WeightsError
from vt_models.weights.container import net_state, read_checkpoint
from vt_models.weights.tensors import (
    SUFFIX,
    Layout,
    describe_difference,
    dtype_name,
    read_tensors,
)


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


def read_published(file: str | Path) -> dict[str, Tensor]:
    """Read the state dict of a published network; nothing in the file is executed.

    Args:
        file: `.safetensors`, or a file of `torch.save`: the state dict itself, or a dict that has
            it under "model", "state_dict" or "net".

    Returns:
        Tensors by the file's names, on the CPU, floating point numbers as float32.

    Raises:
        WeightsError: The file is missing, cut short, damaged or no such file, or a tensor holds
            values that are not finite.
    """
    path = Path(file)
    if path.suffix == SUFFIX:
        tensors, _ = read_tensors(path)
    else:
        checkpoint = read_checkpoint(path)
        arrays = checkpoint.arrays(net_state(checkpoint))
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            if not tensor.isfinite().all():
                raise WeightsError(f"{path}: {name} has values that are not finite: get it again")
            tensors[name] = tensor.float()
    return tensors


def require_layout(
    tensors: Mapping[str, Tensor], expected: Layout, file: str | Path, whose: str
) -> None:
    """Refuse tensors whose names, dtypes or shapes are not exactly the expected ones.

    Args:
        tensors: what of a file is to be loaded, by the file's names.
        expected: what must be there.
        file, whose: for the message: the file, and whose weights it should hold.

    Raises:
        WeightsError: Names the first few that are missing, unexpected or of another shape.
    """
    found = {name: (dtype_name(tensor), tuple(tensor.shape)) for name, tensor in tensors.items()}
    if difference := describe_difference(expected, found):
        raise WeightsError(f"{file} does not hold {whose}: {difference}")
