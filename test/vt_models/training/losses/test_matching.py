# SPDX-License-Identifier: Apache-2.0
"""Attention with labels: what is right, what is wrong, and what it learns."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from vt_models import create_model
from vt_models.training.losses.alignment import matching_loss
from vt_models.training.losses.cells import central_cells

TEMPLATE_BOX = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
BOX = torch.tensor([[0.3, 0.6, 0.2, 0.3]])
PRESENT = torch.tensor([True])


def _attention(strength: float) -> torch.Tensor:
    """(1, 256, 64): the box attends to the template's box, the rest to the rest."""
    inside = central_cells(BOX, torch.Size((16, 16)), part=1.0).flatten(1)
    shown = central_cells(TEMPLATE_BOX, torch.Size((8, 8)), part=1.0).flatten(1)
    return strength * (inside[:, :, None] == shown[:, None]).float()


def test_matching_loss_is_low_for_right_cells_and_high_for_wrong_ones():
    right = matching_loss(_attention(20.0), TEMPLATE_BOX, BOX, PRESENT)
    wrong = matching_loss(_attention(-20.0), TEMPLATE_BOX, BOX, PRESENT)
    assert right.item() < 1e-3
    assert wrong.item() > 30.0


def test_matching_loss_of_flat_attention_favours_the_larger_part():
    shown = int(central_cells(TEMPLATE_BOX, torch.Size((8, 8)), part=1.0).sum())
    evidence = math.log(shown) - math.log(64 - shown)
    expected = math.log1p(math.exp(-evidence)) + math.log1p(math.exp(evidence))
    found = matching_loss(torch.zeros(1, 256, 64), TEMPLATE_BOX, BOX, PRESENT)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_matching_loss_with_absent_target_is_background_everywhere():
    away = matching_loss(_attention(20.0), TEMPLATE_BOX, BOX, torch.tensor([False]))
    nowhere = _attention(20.0)
    nowhere[:] = nowhere[:, :1]  # every cell as one outside the box
    assert away.item() > matching_loss(nowhere, TEMPLATE_BOX, BOX, torch.tensor([False])).item()


@pytest.mark.parametrize("box", [(1.5, 0.5, 0.2, 0.2), (0.5, 0.5, 1.2, 1.2)])
def test_matching_loss_of_uniform_template_is_zero(box):
    match = torch.randn(1, 256, 64, requires_grad=True)
    loss = matching_loss(match, torch.tensor([box]), BOX, PRESENT)
    loss.sum().backward()
    assert loss.item() == 0.0
    assert match.grad is not None
    assert not match.grad.any()


def test_matching_loss_treats_pairs_independently():
    boxes = torch.tensor([[0.3, 0.6, 0.2, 0.3], [0.7, 0.2, 0.4, 0.1]])
    match, both = torch.randn(2, 256, 64), torch.tensor([True, False])
    together = matching_loss(match, TEMPLATE_BOX.repeat(2, 1), boxes, both)
    alone = [
        matching_loss(match[n : n + 1], TEMPLATE_BOX, boxes[n : n + 1], both[n : n + 1])
        for n in range(2)
    ]
    torch.testing.assert_close(together, torch.cat(alone))


@torch.no_grad()
def test_asymtrack_match_output_is_its_attention():
    torch.manual_seed(0)
    net = create_model("asymtrack_t")
    block = net.backbone.layers[-1].blocks[-1]
    logits: list[torch.Tensor] = []
    softmax = torch.softmax

    def caught(x: torch.Tensor, dim: int) -> torch.Tensor:
        logits.append(x)
        return softmax(x, dim=dim)

    state = net.encode_template(torch.randn(1, 3, 128, 128))
    seen = net.backbone.before_attention(torch.randn(1, 3, 256, 256), *state)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "softmax", caught)
        block(seen, *state[-2:])
    found = block.match(seen, state[-2])
    torch.testing.assert_close(found, logits[0][..., 256:].mean(1), atol=1e-5, rtol=0)
