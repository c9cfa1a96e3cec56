# SPDX-License-Identifier: Apache-2.0
"""The two graphs that run at inference, as torch modules: bytes in, numbers out (needs torch).

The template graph runs once per target, the search graph once per frame. Both take the crop as
it comes from `vt_models.crop`, uint8 and channels last, and normalise it inside, in the order
of operations of training: (x / 255 - mean) / std.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from vt_models.nets import SiameseNet
    from vt_models.registry import ModelSpec


class Normalise(nn.Module):
    """(B, H, W, 3) uint8 RGB to (B, 3, H, W) float32."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1))

    def forward(self, crop: Tensor) -> Tensor:
        """Normalise a batch of crops."""
        return (crop.permute(0, 3, 1, 2).float() / 255.0 - self.mean) / self.std


class TemplateGraph(nn.Module):
    """template (1, T, T, 3) uint8 [, template_box (1, 4) float32] to the state tensors."""

    def __init__(self, net: SiameseNet, spec: ModelSpec) -> None:
        super().__init__()
        self.net = net
        self.normalise = Normalise(spec)

    def forward(self, template: Tensor, *extra: Tensor) -> tuple[Tensor, ...]:
        """Encode a template."""
        return self.net.encode_template(self.normalise(template), *extra)


class SearchGraph(nn.Module):
    """search (1, S, S, 3) uint8 and the state tensors to the network's outputs."""

    def __init__(self, net: SiameseNet, spec: ModelSpec) -> None:
        super().__init__()
        self.net = net
        self.normalise = Normalise(spec)

    def forward(self, search: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Search one crop."""
        return self.net.search(self.normalise(search), *state)
