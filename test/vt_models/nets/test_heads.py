# SPDX-License-Identifier: Apache-2.0
"""The corner head's box and confidence."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from vt_models.nets.heads import CornerHead, locate

pytestmark = pytest.mark.train

CELLS = 8


def peak(x: float, y: float, spread: float = 0.0) -> Any:
    """A probability map around a position in cells: its nearest cells, or a Gaussian."""
    cells = torch.arange(CELLS, dtype=torch.float32)
    if spread == 0.0:
        rows, columns = ((1 - (cells - at).abs()).clamp(min=0) for at in (y, x))
    else:
        rows, columns = (torch.exp(-((cells - at) ** 2) / (2 * spread**2)) for at in (y, x))
    probability = rows[:, None] * columns[None, :]
    return probability / probability.sum()


def score(top_left: Any, bottom_right: Any) -> float:
    maps = torch.stack([top_left, bottom_right])[None].float().log().unbind(1)
    return float(locate(*maps)[1])


FLAT = torch.full((CELLS, CELLS), 1 / CELLS**2)


def test_locate_consistent_peaks_score_one() -> None:
    assert score(peak(2, 1), peak(5, 6)) == pytest.approx(1.0)


def test_locate_corner_between_cells_scores_one() -> None:
    assert score(peak(2.5, 1.3), peak(5.1, 6.5)) == pytest.approx(1.0, abs=1e-5)


def test_locate_both_corners_in_one_cell_score_one() -> None:
    assert score(peak(3, 3), peak(3, 3)) == pytest.approx(1.0)


def test_locate_flat_maps_score_near_zero() -> None:
    assert score(FLAT, FLAT) < 0.01


def test_locate_one_flat_map_scores_low() -> None:
    assert score(peak(2, 1), FLAT) < 0.1


@pytest.mark.parametrize("distance", [3, 4, 5])
def test_locate_two_peaks_score_low(distance: int) -> None:
    two = (peak(1, 1) + peak(1 + distance, 1)) / 2

    assert score(two, peak(6, 6)) < 0.62
    assert score(two, two) < 0.38


def test_locate_score_falls_as_maps_spread() -> None:
    scores = [score(peak(2, 2, s), peak(5, 5, s)) for s in (0.3, 0.6, 1.0, 1.5, 2.5)]

    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.9
    assert scores[-1] < 0.2


@pytest.mark.parametrize(
    ("first", "second"), [((5, 1), (2, 6)), ((2, 6), (5, 1)), ((5, 6), (2, 1))]
)
def test_locate_swapped_corners_score_near_zero(
    first: tuple[float, float], second: tuple[float, float]
) -> None:
    assert score(peak(*first), peak(*second)) == pytest.approx(0.0)


def test_locate_score_of_any_logits_is_in_0_to_1() -> None:
    generator = torch.Generator().manual_seed(0)
    scale = torch.logspace(-2, 3, 64)[:, None, None]
    logits = torch.randn(2, 64, CELLS, CELLS, generator=generator) * scale

    _, scores = locate(logits[0], logits[1])

    assert scores.shape == (64,)
    assert scores.isfinite().all()
    assert ((scores >= 0) & (scores <= 1)).all()


def test_locate_box_is_the_expectation_of_the_corners() -> None:
    top_left, bottom_right = peak(1.5, 2), peak(5, 6.25)

    box, scores = locate((top_left + 1e-12).log()[None], (bottom_right + 1e-12).log()[None])

    expected = torch.tensor([[3.25, 4.125, 3.5, 4.25]]) / CELLS
    torch.testing.assert_close(box, expected, atol=1e-5, rtol=0)
    assert float(scores) == pytest.approx(1.0, abs=1e-4)


@torch.no_grad()
def test_corner_head_merge_changes_no_map() -> None:
    torch.manual_seed(0)
    head = CornerHead(16)
    for module in head.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    head.eval()
    x = torch.randn(2, 16, CELLS, CELLS)
    before = head(x)

    head.merge()
    head.merge()

    for merged, plain in zip(head(x), before, strict=True):
        torch.testing.assert_close(merged, plain, atol=1e-5, rtol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in head.modules())
