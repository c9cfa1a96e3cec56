# SPDX-License-Identifier: Apache-2.0
"""Labels for attention: PJVLT's between patches and texts, AsymTrack's to its template."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vt_models.training.losses.cells import central_cells, mean_where

SAME_MEANING_COSINE = 0.1
"""Texts of a larger cosine, the mean of all taken away, may mean the same and do not compete. Of 20
phrases: "the dog" and "a dog on the left" 0.60, "the car" and "vehicle" 0.65, "chair" and "the
couch" 0.32, "dog" and "cat" 0.09, "the dog" and "a cow" -0.07.
"""
EQUAL = 0.99
MASK_LOGIT = -1e4
"""A logit, as the logarithm of a probability of 0 that has gradients."""


def alignment_loss(outputs: dict[str, Tensor], box: Tensor, present: Tensor) -> Tensor:
    """Compute how badly PJVLT's patches and texts find each other.

    A pair tells a fusion one name. Beside the names of the other pairs it is told many at once, as
    in contrastive learning (CLIP, Radford et al., ICML 2021; GLIP, Li et al., CVPR 2022).

    How well a text fits a patch is the logarithm of the sum of the attention's exponentials over
    its words (eq. 3), against 0 for the null word.

    Args:
        outputs: `text_queries`, `text_keys`, `text_bias`, `text_vectors`; see `Pjvlt.forward`.
        box: (B, 4) ground truth.
        present: (B,) bool.

    Returns:
        () the sum over pairs; those without a text count 0.
    """
    queries, keys = outputs["text_queries"].float(), outputs["text_keys"].float()
    bias = outputs["text_bias"]
    side = math.isqrt(queries.shape[3])
    shape = torch.Size((side, side))
    has_text = (bias == 0).any(1)
    shows = (present & has_text).float()
    middle = (central_cells(box, shape) & present[:, None, None]).flatten(1).float()
    outside = 1 - (central_cells(box, shape, part=1.0) & present[:, None, None]).flatten(1).float()
    own = torch.logsumexp(queries @ keys.transpose(3, 4) + bias[:, None, None, None], dim=-1)
    fits = mean_where(F.softplus(-own).mean((1, 2)), middle) * shows
    differs = mean_where(F.softplus(own).mean((1, 2)), outside) * has_text
    thing = (queries * middle[:, None, None, :, None]).sum(3)
    thing = thing / middle.sum(1)[:, None, None, None].clamp(min=1)
    named = _which_text(thing, keys, bias, _others(outputs["text_vectors"], has_text))
    return (shows * named + 0.5 * (fits + differs)).sum()


def _which_text(thing: Tensor, keys: Tensor, bias: Tensor, others: Tensor) -> Tensor:
    """Compute the cross entropy (B,) of a thing's own text among the other texts and the null word.

    Args:
        thing: (B, F, heads, d), the mean query of a pair's target.
        keys: (B, F, heads, L, d) of the texts.
        bias: (B, L).
        others: (B, B) bool, the texts that compete for each pair.
    """
    logits = torch.einsum("bfhd,tfhld->bfhtl", thing, keys) + bias
    texts = torch.logsumexp(logits, dim=-1)  # (B, F, heads, B)
    own = texts.diagonal(dim1=0, dim2=3).permute(2, 0, 1)
    competing = texts.masked_fill(~others[:, None, None], -math.inf)
    beside = torch.stack([own, torch.zeros_like(own)], dim=-1)
    return (torch.logsumexp(torch.cat([beside, competing], -1), -1) - own).mean((1, 2))


def _others(vectors: Tensor, has_text: Tensor) -> Tensor:
    """(B, B) bool: the second is a text and says something else than the first."""
    vectors, told = vectors.float(), has_text[:, None].float()
    mean = (vectors * told).sum(0) / told.sum().clamp(min=1)
    differs = _cosines(vectors - mean) < SAME_MEANING_COSINE
    # Of equal texts only, nothing but rounding is left when their mean is taken away.
    return differs & (_cosines(vectors) < EQUAL) & has_text[None]


def _cosines(vectors: Tensor) -> Tensor:
    unit = F.normalize(vectors, dim=1)
    return unit @ unit.T


def matching_loss(match: Tensor, template_box: Tensor, box: Tensor, present: Tensor) -> Tensor:
    """Compute how badly AsymTrack's attention to the template tells target from background.

    The network sees the template through attention alone (and two modulations by a few numbers),
    and the loss of one box says little about where to attend: without this one, a network with
    distilled features ignored its template for 4,500 pairs (IoU 0.22), with it until 2,000 (0.39
    after 4,500). Attention weights have labels where one knows what belongs together, as in
    translation (Liu et al., COLING 2016); here both boxes are known.

    The evidence for a search cell is the logarithm of the attention that it pays to the template's
    target over that to the template's background. It shall be positive in the target's box and
    negative elsewhere; cells inside and outside weigh alike together.

    Args:
        match: (B, N^2, M^2) attention logits of the search cells (N x N) to the template's (M x M).
        template_box: (B, 4) cxcywh of the target, fractions of the template's crop.
        box: (B, 4) the same, of the search crop; ignored where `present` is False.
        present: (B,) bool.

    Returns:
        (B,) binary cross entropies; 0 where the target covers no cell of the template or all of it.
    """
    shown, covered = (
        central_cells(one, torch.Size((math.isqrt(count),) * 2), part=1.0).flatten(1)
        for one, count in ((template_box, match.shape[2]), (box, match.shape[1]))
    )
    inside = (covered & present[:, None]).float()
    logits = match.float()
    target = logits.masked_fill(~shown[:, None], MASK_LOGIT).logsumexp(-1)
    background = logits.masked_fill(shown[:, None], MASK_LOGIT).logsumexp(-1)
    wrong = F.binary_cross_entropy_with_logits(target - background, inside, reduction="none")
    both = mean_where(wrong, inside) + mean_where(wrong, 1 - inside)
    return both * (shown.any(1) & ~shown.all(1))
