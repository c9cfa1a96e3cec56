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

from pathlib import Path

import torch
from torch import Tensor, nn
from typing_extensions import Self

from vt_models.nets.builders import register_model
from vt_models.nets.centre_head import CentreHead, CentreMaps
from vt_models.nets.vit import VisionTransformer, ViTConfig


class ProContEXT(nn.Module):
    """The network; nothing but the embedding of the templates is constant between frames.

    The attention of the first block already mixes templates and search region, so their embedded
    tokens are all that can be computed once.

    Args:
        config: of the ViT, with `templates` = 2 moments times the views of each.
        head_width: see `CentreHead`.
    """

    state_names = ("tokens",)
    output_names = ("score_map", "box_map")

    def __init__(self, config: ViTConfig, head_width: int = 256) -> None:
        super().__init__()
        self.backbone = VisionTransformer(config)
        self.box_head = CentreHead(config.dim, head_width)

    @property
    def keep_ratio(self) -> float:
        """Share of the search tokens that each pruning keeps; training moves it from 1 to 0.7."""
        return self.backbone.keep_ratio

    @keep_ratio.setter
    def keep_ratio(self, ratio: float) -> None:
        self.backbone.keep_ratio = ratio

    def encode_template(self, template: Tensor) -> tuple[Tensor, ...]:
        """Embed the views of one moment, static or dynamic.

        Args:
            template: (B, V, 3, T, T) float32, normalised RGB.

        Returns:
            ``tokens`` (B, V * (T/16)^2, C), view after view, with their positions.
        """
        tokens = self.backbone.embed_template(template.flatten(0, 1))
        return (tokens.unflatten(0, (-1, template.shape[1])).flatten(1, 2),)

    def search(self, search: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Find the target in a search region.

        Args:
            search: (B, 3, S, S) float32, normalised RGB.
            state: ``tokens`` of the static and of the dynamic templates.

        Returns:
            ``score_map`` (B, S/16, S/16) in [0, 1], and ``box_map`` (B, 4, S/16, S/16), cx, cy, w,
            h as fractions of the search crop.
        """
        maps = self.maps(search, *state)
        return maps.score, maps.boxes

    def forward(self, template: Tensor, search: Tensor, dynamic: Tensor) -> dict[str, Tensor]:
        """Run the training pass.

        Args:
            template: (B, V, 3, T, T) float32, normalised RGB, the static templates.
            search: (B, 3, S, S), the search region.
            dynamic: (B, V, 3, T, T), the dynamic templates.

        Returns:
            ``score_map`` (B, H, W) in [1e-4, 1 - 1e-4], for the focal loss of eq. 3;
            ``box_map`` (B, 4, H, W) cx, cy, w, h as fractions of the search crop, whose box at
            the highest score (`centre_head.box_at_peak`) L1 and GIoU of eq. 5 judge; and the raw
            ``offset_map`` and ``size_map`` (B, 2, H, W).
        """
        maps = self.maps(search, *self.encode_template(template), *self.encode_template(dynamic))
        return {
            "score_map": maps.score,
            "box_map": maps.boxes,
            "offset_map": maps.offset,
            "size_map": maps.size,
        }

    def maps(self, search: Tensor, static: Tensor, dynamic: Tensor) -> CentreMaps:
        """Search region and both template states -> the head's maps."""
        templates = torch.cat([static, dynamic], dim=1)
        return self.box_head(self.backbone(templates, self.backbone.embed_search(search)))

    def merge(self) -> Self:
        """Fold the head's batch norms, in place; returns itself, in eval mode; idempotent."""
        self.eval()
        self.box_head.merge()
        return self

    def load_imagenet_backbone(self, file: Path) -> None:
        """Load what there is of ImageNet weights; see `VisionTransformer.load_imagenet`."""
        self.backbone.load_imagenet(file)

    def unused_published(self) -> tuple[str, ...]:
        """Return the published tensors that are not created here: none."""
        return ()


@register_model
def procontext() -> ProContEXT:
    """Build the published network: ViT-B/16, templates 192, search 384, 92.7 M parameters."""
    return ProContEXT(
        ViTConfig(
            template_size=192,
            search_size=384,
            templates=4,
            pruning_blocks=(3, 6, 9),
            published=True,
        )
    )


@register_model
def procontext_miniature() -> ProContEXT:
    """Build the published layout with 117,000 weights: same crops, views and prunings."""
    return ProContEXT(
        ViTConfig(
            template_size=192,
            search_size=384,
            templates=4,
            dim=32,
            depth=4,
            heads=2,
            pruning_blocks=(1, 2, 3),
            published=True,
        ),
        head_width=16,
    )


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
    return ProContEXT(
        ViTConfig(
            template_size=128,
            search_size=256,
            templates=4,
            stem="efficientnet_lite0",
            dim=192,
            depth=8,
            heads=3,
            pruning_blocks=(2, 4, 6),
        ),
        head_width=128,
    )
