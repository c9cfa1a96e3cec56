# SPDX-License-Identifier: Apache-2.0
"""ProContEXT: four templates, two views of two moments, beside the search region in one ViT.

Lan et al., "ProContEXT: Exploring Progressive Context Transformer for Tracking" (ICASSP 2023),
https://github.com/jp-lan/ProContEXT. Figure 2 of the paper is ``ProContEXT``; the context-aware
self-attention of eq. 1 is plain attention over all tokens (``vit.VisionTransformer``), token
pruning is ``vit.PruningBlock``, the head ``centre_head.CentreHead``.

Where code and paper differ the published code is followed: token pruning *averages* the attention
of the four centre tokens (the paper adds it up: the same order), prunes inside the blocks 3, 6 and
9 counted from 0, between attention and MLP (the paper: before the 4th, 7th and 10th block), and the
search region is cropped at factor 5 (the paper's ablation: 4).

The authors order the templates S2, S4, D2, D4 at test and S2, D2, S4, D4 in training (S static, D
dynamic, at factors 2 and 4). All four get the same position embedding and nothing else tells them
apart; attention does not depend on the order of its tokens, nor does the mean over the four centre
tokens: both orders are the same function, and the one of the test is used throughout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vt_models.nets.builders import register_model
from vt_models.nets.centre_head import CentreHead, CentreMaps, CentreNet
from vt_models.nets.vit import VisionTransformer, ViTConfig
from vt_models.settings import PositiveFloat, PositiveInt


@dataclass(frozen=True, kw_only=True)
class ProContextConfig:
    """The ViT and its templates.

    Attributes:
        vision: of the ViT; `scales` and `dynamic` say how many `templates` it has.
        head_width: see `CentreHead`.
        scales: crop factors of the views of each template, K of the paper's table 2.
        dynamic: whether there is a dynamic template beside the static one, table 3.
        search_factor: of the search region's crop; the paper's ablations have 4.
    """

    vision: ViTConfig
    head_width: PositiveInt = 256
    scales: tuple[PositiveFloat, ...] = (2.0, 4.0)
    dynamic: bool = True
    search_factor: PositiveFloat = 5.0

    def __post_init__(self) -> None:
        if not self.scales:
            raise ValueError("`scales` is empty: give at least one crop factor of the template")

    @property
    def spec_changes(self) -> dict[str, Any]:
        """What a tracker has to know of it: fields of `ModelSpec`."""
        return {
            "template_size": self.vision.template_size,
            "search_size": self.vision.search_size,
            "template_factor": self.scales[0],
            "context_factors": self.scales[1:],
            "search_factor": self.search_factor,
            "dynamic_template": self.dynamic,
        }


class ProContEXT(CentreNet):
    """The network; nothing but the embedding of the templates is constant between frames.

    The attention of the first block already mixes templates and search region, so their embedded
    tokens are all that can be computed once.

    Args:
        config: the layout.
    """

    def __init__(self, config: ProContextConfig) -> None:
        super().__init__()
        self.config = config
        templates = len(config.scales) * (2 if config.dynamic else 1)
        self.backbone = VisionTransformer(replace(config.vision, templates=templates))
        self.box_head = CentreHead(config.vision.dim, config.head_width)

    @property
    def keep_ratio(self) -> float:
        """Share of the search tokens that each pruning keeps; training moves it from 1 to 0.7."""
        return self.backbone.keep_ratio

    @keep_ratio.setter
    def keep_ratio(self, ratio: float) -> None:
        self.backbone.keep_ratio = ratio

    def encode_template(self, template: Tensor) -> tuple[Tensor, ...]:
        """Embed the views of one moment, static or dynamic; see `SiameseNet`.

        Returns:
            ``tokens`` (B, V * (T/16)^2, C), view after view, with their positions.
        """
        template = template.unflatten(0, (-1, 1)) if template.ndim == 4 else template
        tokens = self.backbone.embed_template(template.flatten(0, 1))
        return (tokens.unflatten(0, (-1, template.shape[1])).flatten(1, 2),)

    def forward(
        self, template: Tensor, search: Tensor, dynamic: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Run the training pass with the static and, if it has one, the dynamic template.

        Returns:
            ``score_map`` (B, H, W) in [1e-4, 1 - 1e-4], for the focal loss of eq. 3;
            ``box_map`` (B, 4, H, W) cx, cy, w, h as fractions of the search crop, whose box at
            the highest score (`centre_head.box_at_peak`) L1 and GIoU of eq. 5 judge; and the raw
            ``offset_map`` and ``size_map`` (B, 2, H, W).
        """
        moments = (template,) if dynamic is None else (template, dynamic)
        states = [self.encode_template(moment)[0] for moment in moments]
        return self.maps(search, *states).outputs()

    def maps(self, search: Tensor, *templates: Tensor) -> CentreMaps:
        """Search region and the state of each template -> the head's maps."""
        tokens = self.backbone.embed_search(search)
        return self.box_head(self.backbone(torch.cat(templates, dim=1), tokens))


@register_model
def procontext(miniature: bool = False) -> ProContEXT:
    """Build the published network: ViT-B/16, templates 192, search 384, 92.7 M parameters.

    The miniature has 117,000 weights, and the same crops, views and number of prunings.
    """
    vision = ViTConfig(template_size=192, search_size=384, pruning_blocks=(3, 6, 9), published=True)
    if miniature:
        vision = replace(vision, dim=32, depth=4, heads=2, pruning_blocks=(1, 2, 3))
    return ProContEXT(ProContextConfig(vision=vision, head_width=16 if miniature else 256))


@register_model
def procontext_tiny() -> ProContEXT:
    """Build a network of ViT-Ti's width that one core runs: templates 128, search 256.

    Beside the width, three things are not the published network's. The stem is EfficientNet-Lite0:
    there are ImageNet weights for it at hand and none for a ViT-Ti, and a ViT that starts from
    nothing needs far more images than this project trains on. Eight blocks follow instead of
    twelve, as the stem does the work of the first ones; pruning is at the same quarters of the
    depth. The crops are those of the paper's ablation (section 3.4: 128 and 256), which also has
    the search region at factor 4, so that the target is as large there as in the first template.
    """
    vision = ViTConfig(
        template_size=128,
        search_size=256,
        stem="efficientnet_lite0",
        dim=192,
        depth=8,
        heads=3,
        pruning_blocks=(2, 4, 6),
    )
    return ProContEXT(ProContextConfig(vision=vision, head_width=128, search_factor=4.0))
