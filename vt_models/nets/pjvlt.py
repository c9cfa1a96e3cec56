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

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vt_models.nets.bert import Bert, BertConfig, mean_word, padding_bias
from vt_models.nets.builders import register_model
from vt_models.nets.centre_head import CentreHead, CentreMaps, CentreNet
from vt_models.nets.recording import record
from vt_models.nets.vit import VisionTransformer, ViTConfig
from vt_models.settings import PositiveFloat, PositiveInt


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """What joins the two halves; the defaults are the paper's or, where it is silent, our choice.

    Attributes:
        stage: where the sentence comes in, table II: "joint", after each of `blocks`; "early", once
            before the first block, or "late", once after the last, with the words of the last
            language layer.
        blocks: indices of the ViT's blocks that a joint fusion follows; the paper's model has one
            after each, its table III tries fewer. () is the paper's baseline, OSTrack.
        saiel: False leaves eq. 1 to 7 out, table IV: A_j is V_j, and no text is read.
        ccpil: False leaves eq. 8 to 11 out, table IV: R_j is A_j.
        ccm, pim: False leaves out eq. 8 and 9, or eq. 10, and their terms of eq. 11, table VI.
        join: how eq. 7 joins V_o and L_o, table V; a sum and a product first bring L_o to the width
            of V_o.
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

    stage: Literal["joint", "early", "late"] = "joint"
    blocks: tuple[int, ...] = tuple(range(12))
    saiel: bool = True
    ccpil: bool = True
    ccm: bool = True
    pim: bool = True
    join: Literal["concat", "sum", "product"] = "concat"
    latent: PositiveInt = 192
    heads: PositiveInt = 3
    temperature: PositiveFloat = 1.0
    groups: PositiveInt = 4
    patch_hidden: PositiveInt = 640
    form: Literal["replace", "add"] = "replace"
    null_word: bool = False


@dataclass(frozen=True, kw_only=True)
class PjvltConfig:
    """The two encoders, what joins them, and the width of the head."""

    vision: ViTConfig
    language: BertConfig
    fusion: FusionConfig
    head_width: PositiveInt = 256

    def __post_init__(self) -> None:
        latent, heads, groups = self.fusion.latent, self.fusion.heads, self.fusion.groups
        if latent % heads:
            raise ValueError(f"`fusion.latent` {latent} is no multiple of `fusion.heads` {heads}")
        if len({*self.fusion.blocks}) < len(self.fusion.blocks):
            raise ValueError(f"`fusion.blocks` {list(self.fusion.blocks)} names a block twice")
        if self.vision.dim % groups:
            raise ValueError(
                f"`vision.dim` {self.vision.dim} is no multiple of `fusion.groups` {groups}"
            )

    @property
    def fused(self) -> tuple[int, ...]:
        """Indices of the blocks that a fusion follows; -1 is before the first block."""
        last = self.vision.depth - 1
        places = {"joint": self.fusion.blocks, "early": (-1,), "late": (last,)}
        return tuple(sorted(places[self.fusion.stage]))

    @property
    def reads_text(self) -> bool:
        """Whether a text has any influence."""
        return bool(self.fused) and self.fusion.saiel

    @property
    def spec_changes(self) -> dict[str, Any]:
        """What a tracker has to know of it: fields of `ModelSpec`."""
        sizes = {
            "template_size": self.vision.template_size,
            "search_size": self.vision.search_size,
        }
        return sizes if self.reads_text else {**sizes, "language": False, "text_length": 0}


class Pjvlt(CentreNet):
    """The network; parameters of the visual half have OSTrack's names, of the language half BERT's.

    The attention of the first block already mixes template and search region, so the template's
    embedded tokens are all of it that can be computed once.

    Raises:
        ValueError: a fusion after a block that follows a pruning: the patch interaction (eq. 10)
            has a weight for each token, so none may be missing; or after a block that is not there.
    """

    def __init__(self, config: PjvltConfig) -> None:
        super().__init__()
        vision, fused = config.vision, config.fused
        if any(block >= pruned for block in fused for pruned in vision.pruning_blocks):
            raise ValueError(f"fusion after {fused} with pruning in {vision.pruning_blocks}")
        if any(block >= vision.depth for block in fused):
            raise ValueError(f"fusion after {fused}, and there are {vision.depth} blocks")
        self.config = config
        self.text_state_names = (
            ("text_keys", "text_values", "text_bias") if config.reads_text else ()
        )
        self.backbone = VisionTransformer(vision)
        self.language = Bert(config.language) if config.reads_text else None
        self.fusion = nn.ModuleList(FusionLayer(config) for _ in fused)
        self.box_head = CentreHead(vision.dim, config.head_width)

    def encode_template(self, template: Tensor) -> tuple[Tensor, ...]:
        """Embed the template: ``tokens`` (B, (T/16)^2, C) with their positions."""
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
        if self.language is None:
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

        With as many layers as blocks this is the paper's pairing of V_j with L_j. Before the first
        block it is the last one (-1).
        """
        depth, layers = self.config.vision.depth, self.config.language.depth
        return tuple(-(-(block + 1) * layers // depth) - 1 for block in self.config.fused)

    def forward(
        self,
        template: Tensor,
        search: Tensor,
        text_ids: Tensor | None = None,
        text_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Run the training pass; a row of ``text_mask`` that is all False is a pair without a text.

        A network that reads no text needs neither ids nor mask.

        Returns:
            ``score_map`` (B, H, W) in [1e-4, 1 - 1e-4], for the focal loss of eq. 15;
            ``box_map`` (B, 4, H, W) cx, cy, w, h as fractions of the search crop, whose box at the
            highest score (``centre_head.box_at_peak``) the L1 and GIoU of eq. 17 judge; the raw
            ``offset_map`` and ``size_map`` (B, 2, H, W); and, where a text is read, what
            ``vt_models.training.losses.alignment`` compares: ``text_queries`` (B, F, heads, H * W,
            d) of the search region's patches, ``text_keys`` (B, F, heads, L, d), ``text_bias`` (B,
            L), and ``text_vectors`` (B, words), the mean words of the last language layer.
        """
        state = self.encode_template(template)
        if self.language is None or text_mask is None:
            return self.maps(search, *state).outputs()
        words = self.language(text_ids, text_mask)
        text = self._text_state(words, text_mask)
        queries: list[Tensor] = []
        found = self.maps(search, *state, *text, queries=queries).outputs()
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
        places = {block: place for place, block in enumerate(self.config.fused)}

        def fuse(block: int, x: Tensor) -> Tensor:
            if block not in places:
                return x
            place = places[block]
            layer = self.fusion[place]
            if layer.encoder is None:
                return layer(x)
            keys, values, bias = text
            query = layer.encoder.query(x)
            if queries is not None:
                queries.append(query)
            return layer(x, query, keys[:, place], values[:, place], bias)

        tokens = self.backbone.embed_search(search)
        return self.box_head(self.backbone(template, tokens, refine=fuse))


class FusionLayer(nn.Module):
    """Figure 3 after the two encoder layers: V_j and L_j to R_j, which is V_{j+1}."""

    def __init__(self, config: PjvltConfig) -> None:
        super().__init__()
        vision, fusion = config.vision, config.fusion
        tokens = vision.template_tokens + vision.search_grid**2
        words = config.language.dim
        self.encoder = SemanticInstanceEncoder(vision.dim, words, fusion) if fusion.saiel else None
        self.interaction = (
            ChannelPatchInteraction(vision.dim, tokens, fusion) if fusion.ccpil else None
        )
        self.rho = nn.Parameter(torch.zeros(vision.dim)) if fusion.form == "add" else None

    def forward(self, x: Tensor, *text: Tensor) -> Tensor:
        """Tokens (B, N, C), the encoder's query, and one fusion's text state -> (B, N, C)."""
        aligned = x if self.encoder is None else self.encoder(x, *text)
        refined = aligned if self.interaction is None else self.interaction(aligned)
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
        self.join = fusion.join
        self.theta_l = nn.Linear(fusion.latent, dim) if fusion.join != "concat" else None
        self.theta_o = nn.Linear(dim if self.theta_l else dim + fusion.latent, dim)
        nn.init.zeros_(self.theta_w.weight)
        nn.init.zeros_(self.theta_w.bias)
        if fusion.join == "product" and self.theta_l is not None:
            nn.init.ones_(self.theta_l.bias)  # L_o is 0 at the start: the image must pass

    def encode_text(self, words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Compute eq. 1, 2, 4 and 5 as far as they concern the sentence alone.

        The weights of eq. 3 add up to 1 over the words, so gamma, alpha and beta can be applied to
        the values instead of their mean: gamma ((1 + alpha) (w v) + beta) = w (gamma ((1 + alpha) v
        + beta)). Beside a null word they add up to less, and beta then counts as much less.

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
        if self.theta_l is None:
            joined = torch.cat([visual, semantic], dim=-1)
        else:
            words = self.theta_l(semantic)
            joined = visual + words if self.join == "sum" else visual * words
        return F.gelu(self.theta_o(joined))

    def _attention(self, logits: Tensor) -> Tensor:
        """Logits (B, heads, N, L) -> weights; less than 1 in sum beside a null word."""
        if self.null_word:
            weights = torch.softmax(F.pad(logits, (0, 1)), dim=-1)[..., :-1]
        else:
            weights = torch.softmax(logits, dim=-1)
        record("word attention", lambda: weights)
        return weights

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
        self.ccm, self.pim = fusion.ccm, fusion.pim
        if self.ccm:
            self.w_p1 = nn.Linear(dim, dim // fusion.groups)
            self.w_p2 = nn.Linear(dim // fusion.groups, dim)
        if self.pim:
            self.w_e = nn.Linear(tokens, hidden)
            self.w_s = nn.Linear(hidden, hidden)
            self.w_n = nn.Linear(hidden, tokens)

    def forward(self, aligned: Tensor) -> Tensor:
        """Tokens (B, N, C), A_j -> the same shape, R_j: eq. 8 to 11."""
        refined = communicated = aligned
        if self.ccm:
            pooled = aligned.mean(1, keepdim=True)
            weights = torch.sigmoid(self.w_p2(F.gelu(self.w_p1(pooled))))
            communicated = weights * aligned + aligned
            refined = communicated + aligned
        if self.pim:
            expanded = F.gelu(self.w_e(communicated.transpose(1, 2)))
            refined = self.w_n(F.gelu(self.w_s(expanded))).transpose(1, 2) + refined
        return refined


@register_model
def pjvlt(miniature: bool = False) -> Pjvlt:
    """Build the paper's: ViT-B/16, BERT-base uncased, template 128, search 256, 241 M weights.

    The miniature has four narrow layers, and the crops and the vocabulary of the full one.
    """
    config = PjvltConfig(
        vision=ViTConfig(template_size=128, search_size=256),
        language=BertConfig(),
        fusion=FusionConfig(),
    )
    if miniature:
        config = PjvltConfig(
            vision=replace(config.vision, dim=32, depth=4, heads=2),
            language=BertConfig(dim=16, depth=4, heads=2, hidden=32),
            fusion=FusionConfig(blocks=(0, 1, 2, 3), latent=8, heads=2, patch_hidden=64),
            head_width=16,
        )
    return Pjvlt(config)


@register_model
def pjvlt_tiny(miniature: bool = False) -> Pjvlt:
    """Build the same on a narrow ViT behind EfficientNet-Lite0 and a small BERT, for one core.

    The visual half is ``procontext_tiny``'s with six blocks, for its reasons. The language half is
    one that ``vt-models distill-text-encoder`` makes of MiniLM-L6, whose 23 M parameters would be
    three quarters of the network. A small network on few data cannot afford to forget its
    pretrained stem, hence the form "add". The miniature has four narrow blocks on bare patches and
    two language layers.
    """
    crops = ViTConfig(template_size=128, search_size=256)
    if miniature:
        return Pjvlt(
            PjvltConfig(
                vision=replace(crops, dim=32, depth=4, heads=2, drop_path=0.0),
                language=BertConfig(dim=16, depth=2, heads=2, hidden=32),
                fusion=FusionConfig(
                    blocks=(1, 3), latent=8, heads=2, patch_hidden=64, form="add", null_word=True
                ),
                head_width=16,
            )
        )
    return Pjvlt(
        PjvltConfig(
            vision=replace(crops, stem="efficientnet_lite0", dim=192, depth=6, heads=3),
            language=BertConfig(dim=192, depth=3, heads=6, hidden=768, embedding=64, positions=64),
            fusion=FusionConfig(
                blocks=(1, 3, 5), latent=96, patch_hidden=320, form="add", null_word=True
            ),
            head_width=128,
        )
    )
