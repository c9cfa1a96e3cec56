# SPDX-License-Identifier: Apache-2.0
"""Patches and texts find each other."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from vt_models.api import create_miniature
from vt_models.nets.bert import padding_bias
from vt_models.registry import get_spec
from vt_models.training.losses.alignment import alignment_loss
from vt_models.training.losses.families import Truth, loss_for
from vt_models.training.recipe.settings import LossConfig

pytestmark = pytest.mark.train

SIDE, DIM, WORDS = 8, 6, 3
BOX = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.7, 0.7, 0.3, 0.3], [0.5, 0.5, 0.3, 0.3]])
"""Of three pairs; the texts of the first two name different things, the third has none."""
HAS_TEXT = torch.tensor([True, True, False])
PRESENT = torch.tensor([True, True, True])


def outputs(fit: float = 8.0) -> dict[str, torch.Tensor]:
    """Patches in a target's box agree with its own text, those elsewhere with none.

    Args:
        fit: Logit of a patch and a word that agree; of others it is the negative.
    """
    kinds = torch.eye(DIM)
    keys = kinds[:3, None].expand(3, WORDS, DIM)[:, None, None]
    queries = -torch.ones(3, 1, 1, SIDE, SIDE, DIM)
    for pair, (cx, cy, w, h) in enumerate(BOX.tolist()):
        columns = slice(int((cx - w / 2) * SIDE), -(-int((cx + w / 2) * SIDE * 100) // 100))
        rows = slice(int((cy - h / 2) * SIDE), -(-int((cy + h / 2) * SIDE * 100) // 100))
        queries[pair, :, :, rows, columns] = 2 * kinds[pair] - 1
    mask = HAS_TEXT[:, None].expand(3, WORDS)
    return {
        "text_queries": fit * queries.flatten(3, 4),
        "text_keys": keys.clone(),
        "text_bias": padding_bias(mask),
        "text_vectors": torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]),
    }


def test_alignment_loss_is_low_for_matches_and_high_for_mismatches() -> None:
    right = alignment_loss(outputs(), BOX, PRESENT)
    unsure = alignment_loss(outputs(fit=0.1), BOX, PRESENT)
    swapped = outputs()
    swapped["text_keys"] = swapped["text_keys"][[1, 0, 2]]

    assert right < 0.1
    assert right < unsure < alignment_loss(swapped, BOX, PRESENT)


def test_alignment_loss_with_absent_target_penalises_matches() -> None:
    absent = torch.zeros(3, dtype=torch.bool)

    assert alignment_loss(outputs(), BOX, absent) > alignment_loss(outputs(), BOX, PRESENT) + 0.1


def test_alignment_loss_ignores_texts_of_the_same_meaning() -> None:
    both_fit = outputs()
    both_fit["text_keys"] = both_fit["text_keys"][[0, 0, 2]]
    both_fit["text_queries"] = both_fit["text_queries"][[0, 0, 2]]
    box = BOX[[0, 0, 2]]
    synonyms = dict(both_fit, text_vectors=torch.tensor([[1.0, 0.1], [1.0, 0.1], [0.0, 0.0]]))

    assert alignment_loss(synonyms, box, PRESENT) < 0.1
    assert alignment_loss(both_fit, box, PRESENT) > 1.0


def test_alignment_loss_of_pair_without_text_is_zero() -> None:
    some = outputs()
    queries = some["text_queries"].clone().requires_grad_()
    some["text_queries"] = queries

    alignment_loss(some, BOX, PRESENT).backward()

    gradient = queries.grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()
    assert gradient[2].abs().max() == 0
    assert gradient[:2].abs().max() > 0


def test_the_network_s_own_outputs_align_in_a_few_steps() -> None:
    """On one batch, random weights: the term is connected to what it is to change."""
    torch.manual_seed(0)
    spec = get_spec("pjvlt_tiny")
    net = create_miniature("pjvlt_tiny").train()
    template, search = torch.randn(2, 3, 128, 128), torch.randn(2, 3, 256, 256)
    ids = torch.zeros(2, spec.text_length, dtype=torch.int64)
    ids[0, :3], ids[1, :3] = torch.tensor([101, 2000, 102]), torch.tensor([101, 3000, 102])
    mask = ids > 0
    loss, config = loss_for(spec), LossConfig(alignment=1.0)
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
    course = []
    for _ in range(15):
        terms = loss(net(template, search, ids, mask), Truth(BOX[:2], PRESENT[:2]), config)
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        course.append(float(terms["alignment"]))

    assert course[-1] < 0.8 * course[0]
