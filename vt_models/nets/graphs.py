# SPDX-License-Identifier: Apache-2.0
"""The graphs that run at inference, as torch modules: bytes in, numbers out (needs torch).

The template graph runs once per target (and once per update of a dynamic template), the text
graph once per text, the search graph once per frame. Crops come in as
`vt_models.geometry.crop` makes them, uint8 and channels last, and are normalised inside, in the
order of operations of training: (x / 255 - mean) / std.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vt_models.nets import LanguageNet, SiameseNet
from vt_models.registry import ModelSpec


class Normalise(nn.Module):
    """(B, H, W, 3) uint8 RGB to (B, 3, H, W) float32.

    A network that takes bytes as they are (mean 0, std 1/255) gets them: the three operations that
    would give the same numbers are 3 % of asymtrack_nano's time.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1))
        self.as_it_is = (spec.mean, spec.std) == ((0.0,) * 3, (1 / 255,) * 3)

    def forward(self, crop: Tensor) -> Tensor:
        """Normalise a batch of crops."""
        crop = crop.permute(0, 3, 1, 2).float()
        return crop if self.as_it_is else (crop / 255.0 - self.mean) / self.std


class TemplateGraph(nn.Module):
    """template (V, T, T, 3) uint8 and the extras to the state tensors.

    V views of one target are one batch entry (1, V, 3, T, T) of the network; a single view is
    (1, 3, T, T). Extras, in the order of `ModelSpec.template_inputs`: template_box (1, 4)
    float32, template_mask (1, T, T) bool.
    """

    def __init__(self, net: SiameseNet, spec: ModelSpec) -> None:
        super().__init__()
        self.net = net
        self.normalise = Normalise(spec)
        self.several_views = len(spec.view_factors) > 1

    def forward(self, template: Tensor, *extra: Tensor) -> tuple[Tensor, ...]:
        """Encode a template."""
        crops = self.normalise(template)
        return self.net.encode_template(crops[None] if self.several_views else crops, *extra)


class SearchGraph(nn.Module):
    """search (1, S, S, 3) uint8, the extras and the state tensors to the network's outputs.

    Extras, in the order of `ModelSpec.search_inputs`: search_mask (1, S, S) bool. States: of the
    template, of the dynamic template where there is one, of the text where there is language.
    """

    def __init__(self, net: SiameseNet, spec: ModelSpec) -> None:
        super().__init__()
        self.net = net
        self.normalise = Normalise(spec)

    def forward(self, search: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Search one crop."""
        return self.net.search(self.normalise(search), *rest)


class TextGraph(nn.Module):
    """text_ids (1, L) int64 and text_mask (1, L) bool to the text's state tensors."""

    def __init__(self, net: LanguageNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, text_ids: Tensor, text_mask: Tensor) -> tuple[Tensor, ...]:
        """Encode a text."""
        return self.net.encode_text(text_ids, text_mask)
