# SPDX-License-Identifier: Apache-2.0
"""PJVLT: a sentence guides a one-stream ViT, block by block.

Liang et al., "Progressive Semantic-Visual Alignment and Refinement for Vision-Language Tracking"
(IEEE TCSVT 2024). Neither code nor checkpoint is public: this is built from the paper, and what the
paper leaves open is a setting of ``PjvltConfig`` with its reason. Figure 2 is ``Pjvlt``; figure 3,
a joint layer, is a block of ``vit.VisionTransformer`` with a layer of ``bert.Bert`` and a
``FusionLayer``; figure 4 (SAIEL, eq. 1 to 7) is ``SemanticInstanceEncoder``; figure 5 (CCPIL, eq. 8
to 11) is ``ChannelPatchInteraction``; section III-E is ``centre_head.CentreHead``.

The words never see the image: the language half runs once a target. Of its results the fusion needs
little: keys of eq. 1, and values in which eq. 2, 4 and 5 are already folded.

Without a text (a mask that is False throughout) the values are 0, and so is L_o of eq. 5: just what
eq. 5 gives at the start of training, where theta_w is 0. Nothing else changes.

Tokens are (B, N, C), template first. A 1x1 convolution over tokens is a linear layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from vt_models.nets.bert import Bert, BertConfig, mean_word, padding_bias
from vt_models.nets.builders import register_model
from vt_models.nets.centre_head import CentreHead, CentreMaps
from vt_models.nets.vit import VisionTransformer, ViTConfig


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """What joins the two halves; the defaults are the paper's or, where it is silent, our choice.

    Attributes:
        blocks: indices of the ViT's blocks that a fusion follows; the paper's model has one after
            each, its table III tries fewer. () is the paper's baseline, OSTrack.
        latent: width of the "compressed latent space" of eq. 1, which the paper does not give. A
            quarter of the tokens' width, the compression it gives for eq. 8.
        heads: of the attention of eq. 3, "multi-head" in the text and single in the formula. 64
            channels a head, as in the ViT.
        temperature: of the Gumbel-softmax of eq. 2, not given. 1: what its authors and torch start
            from. At test there is no noise, so that the same frame gives the same box: the softmax
            that is left is what the noisy samples scatter about.
        groups: N_g of eq. 8.
        patch_hidden: N_h of eq. 10.
        form: what a fusion hands on. "replace", the paper's eq. 7 and 11: R_j takes the place of
            V_j, and a new network forgets what the ViT was pretrained for. "add": V_j + rho * R_j
            with rho, a number a channel, 0 at the start: a new network is the ViT it starts from,
            and learns to use the sentence from there.
        null_word: a patch may attend to nothing: beside the words the softmax of eq. 3 has one more
            place, of logit and value 0. Without it every patch gathers as much of the words,
            whether they concern it or not, and what does not fit them cannot say so.
    """

    blocks: tuple[int, ...] = tuple(range(12))
    latent: int = 192
    heads: int = 3
    temperature: float = 1.0
    groups: int = 4
    patch_hidden: int = 640
    form: Literal["replace", "add"] = "replace"
    null_word: bool = False


@dataclass(frozen=True, kw_only=True)
class PjvltConfig:
    """The two encoders, what joins them, and the width of the head."""

    vision: ViTConfig
    language: BertConfig
    fusion: FusionConfig
    head_width: int = 256


class Pjvlt(nn.Module):
    """The network; parameters of the visual half have OSTrack's names, of the language half BERT's.

    The attention of the first block already mixes template and search region, so the template's
    embedded tokens are all of it that can be computed once.

    Raises:
        ValueError: a fusion after a block that follows a pruning: the patch interaction (eq. 10)
            has a weight for each token, so none may be missing.
    """

    state_names = ("tokens",)
    output_names = ("score_map", "box_map")

    def __init__(self, config: PjvltConfig) -> None:
        super().__init__()
        vision, fusion = config.vision, config.fusion
        if any(block >= pruned for block in fusion.blocks for pruned in vision.pruning_blocks):
            raise ValueError(
                f"fusion after {fusion.blocks} with pruning in {vision.pruning_blocks}"
            )
        self.config = config
        self.text_state_names = ("text_keys", "text_values", "text_bias") if fusion.blocks else ()
        self.backbone = VisionTransformer(vision)
        self.language = Bert(config.language)
        self.fusion = nn.ModuleList(FusionLayer(config) for _ in fusion.blocks)
        self.box_head = CentreHead(vision.dim, config.head_width)

    def encode_template(self, template: Tensor) -> tuple[Tensor, ...]:
        """Embed the template.

        Args:
            template: (B, 3, T, T) float32, normalised RGB.

        Returns:
            ``tokens`` (B, (T/16)^2, C), with their positions.
        """
        return (self.backbone.embed_template(template),)

    def encode_text(self, text_ids: Tensor, text_mask: Tensor) -> tuple[Tensor, ...]:
        """Compute all that depends on the sentence alone.

        Args:
            text_ids: (B, L) int64, word pieces, see ``vt_models.text``.
            text_mask: (B, L) bool, True where there is one. What stands elsewhere has no influence;
                False throughout is "no text", whose state does not depend on ``text_ids`` at all.

        Returns:
            ``text_keys`` and ``text_values`` (B, F, heads, L, latent / heads) for the F fusions,
            both 0 where there is no word, and ``text_bias`` (B, L) for the logits of eq. 3.
        """
        if not self.fusion:
            return ()
        return self._text_state(self.language(text_ids, text_mask), text_mask)

    def _text_state(self, words: list[Tensor], mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the text state of the language layers' words (B, L, words) each."""
        encoded = [
            layer.encoder.encode_text(words[index], mask)
            for layer, index in zip(self.fusion, self.text_layers, strict=True)
        ]
        keys, values = zip(*encoded, strict=True)
        return torch.stack(keys, dim=1), torch.stack(values, dim=1), padding_bias(mask)

    @property
    def text_layers(self) -> tuple[int, ...]:
        """Index of the language layer that each fusion reads: the one at the same relative depth.

        With as many layers as blocks this is the paper's pairing of V_j with L_j.
        """
        depth, layers = self.config.vision.depth, self.config.language.depth
        return tuple(-(-(block + 1) * layers // depth) - 1 for block in self.config.fusion.blocks)

    def search(self, search: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Find the target in a search region.

        Args:
            search: (B, 3, S, S) float32, normalised RGB.
            state: what ``encode_template`` and then ``encode_text`` returned.

        Returns:
            ``score_map`` (B, S/16, S/16) in [0, 1], and ``box_map`` (B, 4, S/16, S/16), cx, cy, w,
            h as fractions of the search crop.
        """
        maps = self.maps(search, *state)
        return maps.score, maps.boxes

    def forward(
        self, template: Tensor, search: Tensor, text_ids: Tensor, text_mask: Tensor
    ) -> dict[str, Tensor]:
        """Run the training pass; a row of ``text_mask`` that is all False is a pair without a text.

        Args:
            template: (B, 3, T, T) float32, normalised RGB.
            search: (B, 3, S, S) float32, normalised RGB.
            text_ids, text_mask: see ``encode_text``.

        Returns:
            ``score_map`` (B, H, W) in [1e-4, 1 - 1e-4], for the focal loss of eq. 15;
            ``box_map`` (B, 4, H, W) cx, cy, w, h as fractions of the search crop, whose box at the
            highest score (``centre_head.box_at_peak``) the L1 and GIoU of eq. 17 judge; the raw
            ``offset_map`` and ``size_map`` (B, 2, H, W); and, where there are fusions, what
            ``vt_models.training.losses.alignment`` compares: ``text_queries`` (B, F, heads, H * W,
            d) of the search region's patches, ``text_keys`` (B, F, heads, L, d), ``text_bias`` (B,
            L), and ``text_vectors`` (B, words), the mean words of the last language layer.
        """
        words = self.language(text_ids, text_mask) if self.fusion else []
        text: tuple[Tensor, ...] = self._text_state(words, text_mask) if self.fusion else ()
        queries: list[Tensor] = []
        maps = self.maps(search, *self.encode_template(template), *text, queries=queries)
        found = {
            "score_map": maps.score,
            "box_map": maps.boxes,
            "offset_map": maps.offset,
            "size_map": maps.size,
        }
        if not self.fusion:
            return found
        keys, _, bias = text
        first = self.config.vision.template_tokens
        return found | {
            "text_queries": torch.stack(queries, dim=1)[..., first:, :],
            "text_keys": keys,
            "text_bias": bias,
            "text_vectors": mean_word(words[-1], text_mask[..., None].to(words[-1].dtype)),
        }

    def maps(
        self,
        search: Tensor,
        template: Tensor,
        *text: Tensor,
        queries: list[Tensor] | None = None,
    ) -> CentreMaps:
        """Search region, template tokens and text state -> the head's maps.

        Each fusion appends its queries (B, heads, N, d) to ``queries``.
        """
        places = {block: place for place, block in enumerate(self.config.fusion.blocks)}

        def fuse(block: int, x: Tensor) -> Tensor:
            if block not in places:
                return x
            place = places[block]
            keys, values, bias = text
            layer = self.fusion[place]
            query = layer.encoder.query(x)
            if queries is not None:
                queries.append(query)
            return layer(x, query, keys[:, place], values[:, place], bias)

        tokens = self.backbone.embed_search(search)
        return self.box_head(self.backbone(template, tokens, refine=fuse))

    def merge(self) -> Self:
        """Fold the head's batch norms, in place; returns itself, in eval mode; idempotent."""
        self.eval()
        self.box_head.merge()
        return self

    def load_imagenet_backbone(self, file: Path) -> None:
        """Load the visual stem's ImageNet weights; see ``VisionTransformer.load_imagenet``."""
        self.backbone.load_imagenet(file)

    def unused_published(self) -> tuple[str, ...]:
        """Return the published tensors that are not created here: none, as nothing is published."""
        return ()


class FusionLayer(nn.Module):
    """Figure 3 after the two encoder layers: V_j and L_j to R_j, which is V_{j+1}."""

    def __init__(self, config: PjvltConfig) -> None:
        super().__init__()
        vision, fusion = config.vision, config.fusion
        tokens = vision.template_tokens + vision.search_grid**2
        self.encoder = SemanticInstanceEncoder(vision.dim, config.language.dim, fusion)
        self.interaction = ChannelPatchInteraction(vision.dim, tokens, fusion)
        self.rho = nn.Parameter(torch.zeros(vision.dim)) if fusion.form == "add" else None

    def forward(
        self, x: Tensor, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor
    ) -> Tensor:
        """Tokens (B, N, C), the encoder's query, and one fusion's text state -> (B, N, C)."""
        refined = self.interaction(self.encoder(x, query, keys, values, bias))
        return refined if self.rho is None else x + self.rho * refined


class SemanticInstanceEncoder(nn.Module):
    """SAIEL: each patch gathers the words that concern it.

    Two readings are ours. The softmax of eq. 2 runs over the words, channel by channel: it has to
    weigh "each word in a sentence", and L_v of eq. 2 has a value a channel. And theta_m keeps the
    tokens' width: eq. 7 has no shortcut, so a narrower V_o would lose part of the image at every
    layer.

    Args:
        dim: C, width of a visual token.
        words: width of a word token.
        fusion: settings.
    """

    def __init__(self, dim: int, words: int, fusion: FusionConfig) -> None:
        super().__init__()
        self.heads = fusion.heads
        self.temperature = fusion.temperature
        self.null_word = fusion.null_word
        self.theta_q = nn.Linear(dim, fusion.latent)
        self.theta_k = nn.Linear(words, fusion.latent)
        self.theta_v = nn.Linear(words, fusion.latent)
        self.theta_w = nn.Linear(words, 3 * fusion.latent)
        self.theta_m = nn.Linear(dim, dim)
        self.theta_o = nn.Linear(dim + fusion.latent, dim)
        nn.init.zeros_(self.theta_w.weight)
        nn.init.zeros_(self.theta_w.bias)

    def encode_text(self, words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Compute eq. 1, 2, 4 and 5 as far as they concern the sentence alone.

        The weights of eq. 3 add up to 1 over the words, so gamma, alpha and beta can be applied to
        the values instead of their mean: gamma ((1 + alpha) (w v) + beta) = w (gamma ((1 + alpha) v
        + beta)).

        Args:
            words: (B, L, words), L_j.
            mask: (B, L) bool, True where there is a word.

        Returns:
            Keys, divided by the root of eq. 3, and values, (B, heads, L, latent / heads); 0 where
            there is no word.
        """
        present = mask[..., None].to(words.dtype)
        values = self.theta_v(words)
        values = self.word_weights(values, mask) * values
        alpha, beta, gamma = self.theta_w(mean_word(words, present))[:, None].chunk(3, dim=-1)
        values = gamma * ((1 + alpha) * values + beta) * present
        keys = self._by_head(self.theta_k(words) * present)
        return keys * keys.shape[-1] ** -0.5, self._by_head(values)

    def word_weights(self, values: Tensor, mask: Tensor) -> Tensor:
        """Compute eq. 2: (B, L, latent) in [0, 1], 1 in sum over the words; random in training."""
        logits = values + padding_bias(mask)[..., None]
        if self.training:
            return F.gumbel_softmax(logits, self.temperature, dim=1)
        return torch.softmax(logits / self.temperature, dim=1)

    def query(self, x: Tensor) -> Tensor:
        """Eq. 1's patches (B, N, C) -> (B, heads, N, latent / heads)."""
        return self._by_head(F.instance_norm(self.theta_q(x).transpose(1, 2)).transpose(1, 2))

    def forward(
        self, x: Tensor, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor
    ) -> Tensor:
        """Align patches with words, eq. 3, 5 to 7.

        Args:
            x: (B, N, C), V_j.
            query: of the same patches.
            keys, values: of ``encode_text``.
            bias: (B, L), added to the logits.

        Returns:
            (B, N, C), A_j.
        """
        logits = query @ keys.transpose(2, 3) + bias[:, None, None]
        semantic = (self._attention(logits) @ values).transpose(1, 2).flatten(2)
        visual = F.gelu(self.theta_m(x))
        return F.gelu(self.theta_o(torch.cat([visual, semantic], dim=-1)))

    def _attention(self, logits: Tensor) -> Tensor:
        """Logits (B, heads, N, L) -> weights; less than 1 in sum beside a null word."""
        if not self.null_word:
            return torch.softmax(logits, dim=-1)
        return torch.softmax(F.pad(logits, (0, 1)), dim=-1)[..., :-1]

    def _by_head(self, x: Tensor) -> Tensor:
        """(B, n, latent) -> (B, heads, n, latent / heads)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class ChannelPatchInteraction(nn.Module):
    """CCPIL: channels are weighed by their means, then every patch is mixed with every other.

    Args:
        dim: C, width of a token.
        tokens: N, how many there are, of template and search region.
        fusion: settings.
    """

    def __init__(self, dim: int, tokens: int, fusion: FusionConfig) -> None:
        super().__init__()
        hidden = fusion.patch_hidden
        self.w_p1 = nn.Linear(dim, dim // fusion.groups)
        self.w_p2 = nn.Linear(dim // fusion.groups, dim)
        self.w_e = nn.Linear(tokens, hidden)
        self.w_s = nn.Linear(hidden, hidden)
        self.w_n = nn.Linear(hidden, tokens)

    def forward(self, aligned: Tensor) -> Tensor:
        """Tokens (B, N, C), A_j -> the same shape, R_j: eq. 8 to 11."""
        pooled = aligned.mean(1, keepdim=True)
        weights = torch.sigmoid(self.w_p2(F.gelu(self.w_p1(pooled))))
        communicated = weights * aligned + aligned
        expanded = F.gelu(self.w_e(communicated.transpose(1, 2)))
        interacted = self.w_n(F.gelu(self.w_s(expanded))).transpose(1, 2)
        return interacted + communicated + aligned


@register_model
def pjvlt() -> Pjvlt:
    """Build the paper's: ViT-B/16, BERT-base uncased, template 128, search 256, 241 M weights."""
    return Pjvlt(
        PjvltConfig(
            vision=ViTConfig(template_size=128, search_size=256),
            language=BertConfig(),
            fusion=FusionConfig(),
        )
    )


@register_model
def pjvlt_tiny() -> Pjvlt:
    """Build the same on a narrow ViT behind EfficientNet-Lite0 and a small BERT, for one core.

    The visual half is ``procontext_tiny``'s with six blocks, for its reasons. The language half is
    one that ``vt-models distill-text-encoder`` makes of MiniLM-L6, whose 23 M parameters would be
    three quarters of the network. A small network on few data cannot afford to forget its
    pretrained stem, hence the form "add".
    """
    return Pjvlt(
        PjvltConfig(
            vision=ViTConfig(
                template_size=128,
                search_size=256,
                stem="efficientnet_lite0",
                dim=192,
                depth=6,
                heads=3,
            ),
            language=BertConfig(dim=192, depth=3, heads=6, hidden=768, embedding=64, positions=64),
            fusion=FusionConfig(
                blocks=(1, 3, 5), latent=96, patch_hidden=320, form="add", null_word=True
            ),
            head_width=128,
        )
    )


@register_model
def pjvlt_miniature() -> Pjvlt:
    """Build ``pjvlt`` with four narrow layers and the crops and the vocabulary of the full one."""
    return Pjvlt(
        PjvltConfig(
            vision=ViTConfig(template_size=128, search_size=256, dim=32, depth=4, heads=2),
            language=BertConfig(dim=16, depth=4, heads=2, hidden=32),
            fusion=FusionConfig(blocks=(0, 1, 2, 3), latent=8, heads=2, patch_hidden=64),
            head_width=16,
        )
    )


@register_model
def pjvlt_tiny_miniature() -> Pjvlt:
    """Build ``pjvlt_tiny`` likewise: four narrow blocks, two language layers."""
    return Pjvlt(
        PjvltConfig(
            vision=ViTConfig(
                template_size=128, search_size=256, dim=32, depth=4, heads=2, drop_path=0.0
            ),
            language=BertConfig(dim=16, depth=2, heads=2, hidden=32),
            fusion=FusionConfig(
                blocks=(1, 3), latent=8, heads=2, patch_hidden=64, form="add", null_word=True
            ),
            head_width=16,
        )
    )
