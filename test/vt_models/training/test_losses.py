# SPDX-License-Identifier: Apache-2.0
"""Losses against the authors' numbers and against their own meaning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from vt_models.training.losses import (  # noqa: E402
    box_loss,
    central_cells,
    dense_loss,
    inside_crop,
    iou_and_giou,
)
from vt_models.training.recipe import LossConfig  # noqa: E402

pytestmark = pytest.mark.train


def _cxcywh(xyxy: np.ndarray) -> torch.Tensor:
    x1, y1, x2, y2 = torch.from_numpy(xyxy).unbind(1)
    return torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], 1)


def test_authors_box_loss(shared_dir: Path) -> None:
    golden = np.load(shared_dir / "reference" / "train_helpers.golden.npz")
    predicted, truth = _cxcywh(golden["giou_pred_xyxy"]), _cxcywh(golden["giou_gt_xyxy"])
    iou, giou = iou_and_giou(predicted, truth)
    assert torch.allclose(iou, torch.from_numpy(golden["iou"]), atol=1e-6)
    assert (1 - giou).mean().item() == pytest.approx(float(golden["giou_loss"]), abs=1e-6)
    present = torch.ones(len(truth), dtype=torch.bool)
    terms = box_loss({"box": predicted}, truth, present, LossConfig())
    assert terms["l1"].item() == pytest.approx(float(golden["l1_mean"]), abs=1e-6)
    expected = 2 * float(golden["giou_loss"]) + 5 * float(golden["l1_mean"])
    assert terms["total"].item() == pytest.approx(expected, abs=1e-5)


def test_truth_ends_at_the_crop_as_the_authors_have_it(shared_dir: Path) -> None:
    golden = np.load(shared_dir / "reference" / "train_helpers.golden.npz")
    xywh = torch.from_numpy(golden["boxes_xywh"])
    truth = torch.cat([xywh[:, :2] + xywh[:, 2:] / 2, xywh[:, 2:]], 1)
    clipped = _cxcywh(golden["giou_gt_xyxy"])
    assert not torch.allclose(truth, clipped, atol=1e-3)
    assert torch.allclose(inside_crop(truth), clipped, atol=1e-6)
    predicted = _cxcywh(golden["giou_pred_xyxy"])
    terms = box_loss({"box": predicted}, truth, torch.ones(4, dtype=torch.bool), LossConfig())
    assert terms["giou"].item() == pytest.approx(float(golden["giou_loss"]), abs=1e-6)
    assert terms["l1"].item() == pytest.approx(float(golden["l1_mean"]), abs=1e-6)


def test_absent_targets_do_not_count_in_the_box_loss() -> None:
    box, truth = torch.rand(3, 4), torch.rand(3, 4)
    present = torch.tensor([True, False, True])
    some = box_loss({"box": box}, truth, present, LossConfig())
    kept = box_loss({"box": box[present]}, truth[present], present[present], LossConfig())
    for name, value in kept.items():
        assert some[name].item() == pytest.approx(value.item(), abs=1e-6)


def test_giou_is_bounded_when_corners_are_swapped() -> None:
    swapped = torch.tensor([[0.5, 0.5, -0.4, -0.4], [0.2, 0.2, -0.3, 0.2]])
    iou, giou = iou_and_giou(swapped, torch.tensor([[0.5, 0.5, 0.2, 0.2]]).expand(2, -1))
    assert iou.tolist() == [0, 0]
    assert bool(((giou >= -1) & (giou <= 0)).all())


def test_box_loss_without_any_target_is_zero_but_differentiable() -> None:
    box = torch.rand(2, 4, requires_grad=True)
    terms = box_loss({"box": box}, torch.rand(2, 4), torch.zeros(2, dtype=torch.bool), LossConfig())
    terms["total"].backward()
    assert terms["total"].item() == 0
    assert box.grad is not None
    assert box.grad.abs().sum() == 0


def test_central_cells_always_has_the_nearest_and_never_one_outside() -> None:
    box = torch.tensor([[0.5, 0.5, 0.5, 0.25], [0.51, 0.26, 0.001, 0.001], [1.5, 0.5, 0.1, 0.1]])
    cells = central_cells(box, torch.Size([8, 8]))
    assert cells[0].nonzero().tolist() == [[3, 3], [3, 4], [4, 3], [4, 4]]
    assert cells[1].nonzero().tolist() == [[2, 4]]
    assert not cells[2].any()


def _dense_outputs(logit: float, box: torch.Tensor) -> dict[str, torch.Tensor]:
    inside = central_cells(box, torch.Size([8, 8]))
    boxes = box[:, :, None, None].expand(-1, -1, 8, 8).clone()
    return {"logits": torch.where(inside, logit, -logit), "boxes": boxes}


def test_dense_loss_prefers_the_truth() -> None:
    box = torch.tensor([[0.5, 0.5, 0.4, 0.3]])
    present, config = torch.tensor([True]), LossConfig(score=1.0)
    right = dense_loss(_dense_outputs(8.0, box), box, present, config)["total"]
    wrong_box = dense_loss(_dense_outputs(8.0, box * 1.3), box, present, config)["total"]
    wrong_score = dense_loss(_dense_outputs(-8.0, box), box, present, config)["total"]
    assert right < 0.01
    assert wrong_box > right + 0.1
    assert wrong_score > right + 0.1


def test_an_absent_target_asks_for_low_scores_only() -> None:
    box = torch.tensor([[0.5, 0.5, 0.4, 0.3]])
    absent, config = torch.tensor([False]), LossConfig(score=1.0)
    sure = dense_loss(_dense_outputs(8.0, box), box, absent, config)
    unsure = {"logits": torch.full((1, 8, 8), -8.0), "boxes": _dense_outputs(1.0, box)["boxes"]}
    assert sure["total"] > 10 * dense_loss(unsure, box, absent, config)["total"] > 0
    assert sure["giou"] == 0


def test_a_batch_of_absent_targets_weighs_no_more_than_one_of_them() -> None:
    box = torch.tensor([[0.5, 0.5, 0.4, 0.3]]).expand(6, -1)
    absent, config = torch.zeros(6, dtype=torch.bool), LossConfig(score=1.0)
    outputs = _dense_outputs(2.0, box)
    one = dense_loss({k: v[:1] for k, v in outputs.items()}, box[:1], absent[:1], config)
    assert dense_loss(outputs, box, absent, config)["total"].item() == pytest.approx(
        one["total"].item()
    )
