# SPDX-License-Identifier: Apache-2.0
"""Losses against the authors' numbers and against their own meaning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from vt_models.nets.heads import locate
from vt_models.registry import get_spec, list_models
from vt_models.training.losses.cells import (
    cells_beginning_inside,
    central_cells,
    centre_heat,
)
from vt_models.training.losses.families import (
    Truth,
    box_loss,
    centre_loss,
    corner_loss,
    dense_loss,
    focal_loss,
    inside_crop,
    iou_and_giou,
    loss_for,
    sbt_loss,
    stark_loss,
)
from vt_models.training.recipe.settings import LossConfig

pytestmark = pytest.mark.train


def _cxcywh(xyxy: np.ndarray) -> torch.Tensor:
    x1, y1, x2, y2 = torch.from_numpy(xyxy).unbind(1)
    return torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], 1)


def test_box_loss_is_as_published(shared_dir: Path) -> None:
    golden = np.load(shared_dir / "reference" / "train_helpers.golden.npz")
    predicted, truth = _cxcywh(golden["giou_pred_xyxy"]), _cxcywh(golden["giou_gt_xyxy"])
    iou, giou = iou_and_giou(predicted, truth)
    assert torch.allclose(iou, torch.from_numpy(golden["iou"]), atol=1e-6)
    assert (1 - giou).mean().item() == pytest.approx(float(golden["giou_loss"]), abs=1e-6)
    present = torch.ones(len(truth), dtype=torch.bool)
    terms = box_loss({"box": predicted}, Truth(truth, present), LossConfig())
    assert terms["l1"].item() == pytest.approx(float(golden["l1_mean"]), abs=1e-6)
    expected = 2 * float(golden["giou_loss"]) + 5 * float(golden["l1_mean"])
    assert terms["total"].item() == pytest.approx(expected, abs=1e-5)


def test_box_loss_clips_the_truth_at_the_crop(shared_dir: Path) -> None:
    golden = np.load(shared_dir / "reference" / "train_helpers.golden.npz")
    xywh = torch.from_numpy(golden["boxes_xywh"])
    truth = torch.cat([xywh[:, :2] + xywh[:, 2:] / 2, xywh[:, 2:]], 1)
    clipped = _cxcywh(golden["giou_gt_xyxy"])
    assert not torch.allclose(truth, clipped, atol=1e-3)
    assert torch.allclose(inside_crop(truth), clipped, atol=1e-6)
    predicted = _cxcywh(golden["giou_pred_xyxy"])
    terms = box_loss(
        {"box": predicted}, Truth(truth, torch.ones(4, dtype=torch.bool)), LossConfig()
    )
    assert terms["giou"].item() == pytest.approx(float(golden["giou_loss"]), abs=1e-6)
    assert terms["l1"].item() == pytest.approx(float(golden["l1_mean"]), abs=1e-6)


def test_absent_targets_do_not_count_in_the_box_loss() -> None:
    box, truth = torch.rand(3, 4), torch.rand(3, 4)
    present = torch.tensor([True, False, True])
    some = box_loss({"box": box}, Truth(truth, present), LossConfig())
    kept = box_loss({"box": box[present]}, Truth(truth[present], present[present]), LossConfig())
    for name, value in kept.items():
        assert some[name].item() == pytest.approx(value.item(), abs=1e-6)


def test_giou_is_bounded_when_corners_are_swapped() -> None:
    swapped = torch.tensor([[0.5, 0.5, -0.4, -0.4], [0.2, 0.2, -0.3, 0.2]])
    iou, giou = iou_and_giou(swapped, torch.tensor([[0.5, 0.5, 0.2, 0.2]]).expand(2, -1))
    assert iou.tolist() == [0, 0]
    assert bool(((giou >= -1) & (giou <= 0)).all())


def test_box_loss_without_any_target_is_zero_but_differentiable() -> None:
    box = torch.rand(2, 4, requires_grad=True)
    terms = box_loss(
        {"box": box}, Truth(torch.rand(2, 4), torch.zeros(2, dtype=torch.bool)), LossConfig()
    )
    terms["total"].backward()
    assert terms["total"].item() == 0
    assert box.grad is not None
    assert box.grad.abs().sum() == 0


def test_central_cells_hold_the_nearest_and_none_outside() -> None:
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
    right = dense_loss(_dense_outputs(8.0, box), Truth(box, present), config)["total"]
    wrong_box = dense_loss(_dense_outputs(8.0, box * 1.3), Truth(box, present), config)["total"]
    wrong_score = dense_loss(_dense_outputs(-8.0, box), Truth(box, present), config)["total"]
    assert right < 0.01
    assert wrong_box > right + 0.1
    assert wrong_score > right + 0.1


def test_dense_loss_with_absent_target_lowers_scores_only() -> None:
    box = torch.tensor([[0.5, 0.5, 0.4, 0.3]])
    absent, config = torch.tensor([False]), LossConfig(score=1.0)
    sure = dense_loss(_dense_outputs(8.0, box), Truth(box, absent), config)
    unsure = {"logits": torch.full((1, 8, 8), -8.0), "boxes": _dense_outputs(1.0, box)["boxes"]}
    assert sure["total"] > 10 * dense_loss(unsure, Truth(box, absent), config)["total"] > 0
    assert sure["giou"] == 0


def test_dense_loss_of_absent_batch_is_bounded() -> None:
    box = torch.tensor([[0.5, 0.5, 0.4, 0.3]]).expand(6, -1)
    absent, config = torch.zeros(6, dtype=torch.bool), LossConfig(score=1.0)
    outputs = _dense_outputs(2.0, box)
    one = dense_loss({k: v[:1] for k, v in outputs.items()}, Truth(box[:1], absent[:1]), config)
    assert dense_loss(outputs, Truth(box, absent), config)["total"].item() == pytest.approx(
        one["total"].item()
    )


def _golden(shared_dir: Path) -> dict[str, torch.Tensor]:
    golden = np.load(shared_dir / "reference" / "train_helpers.golden.npz")
    return {name: torch.from_numpy(np.asarray(golden[name])) for name in golden}


def _from_xywh(box: torch.Tensor) -> torch.Tensor:
    return torch.cat([box[:, :2] + box[:, 2:] / 2, box[:, 2:]], 1)


def test_centre_heat_and_focal_loss_are_as_published(shared_dir: Path) -> None:
    golden = _golden(shared_dir)
    heat = centre_heat(_from_xywh(golden["boxes_xywh"]), torch.Size([24, 24]))
    assert torch.allclose(heat, golden["heatmap_384_16"], atol=1e-6)
    loss = focal_loss(golden["focal_pred"][:, 0], golden["heatmap_384_16"])
    assert loss.item() == pytest.approx(golden["focal_loss"].item(), rel=1e-5)


def test_centre_loss_judges_the_box_at_the_peak(shared_dir: Path) -> None:
    golden = _golden(shared_dir)
    truth, scores = _from_xywh(golden["boxes_xywh"]), golden["focal_pred"][:, 0]
    boxes = torch.rand(4, 4, 24, 24)
    peak = scores.flatten(1).argmax(1)
    boxes.flatten(2)[torch.arange(4), :, peak] = _cxcywh(golden["giou_pred_xyxy"].numpy())
    present = torch.ones(4, dtype=torch.bool)
    outputs = {"score_map": scores, "box_map": boxes}
    terms = centre_loss(outputs, Truth(truth, present), LossConfig(giou=2.0, l1=5.0, score=1.0))
    expected = 2 * golden["giou_loss"] + 5 * golden["l1_mean"] + golden["focal_loss"]
    assert terms["total"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_centre_loss_with_absent_target_lowers_scores_only() -> None:
    box, absent = torch.tensor([[0.5, 0.5, 0.2, 0.2]]), torch.tensor([False])
    boxes = torch.rand(1, 4, 24, 24)
    low, high = (
        centre_loss(
            {"score_map": torch.full((1, 24, 24), score), "box_map": boxes},
            Truth(box, absent),
            LossConfig(),
        )
        for score in (0.01, 0.9)
    )
    assert low["total"] < 0.2 < high["total"]
    assert low["giou"] == high["giou"] == 0


def test_stark_loss_has_two_stages() -> None:
    outputs = {"box": torch.rand(4, 4), "logit": torch.tensor([3.0, -3.0, 3.0, -3.0])}
    truth, present = torch.rand(4, 4), torch.tensor([True, False, False, True])
    first = stark_loss(outputs, Truth(truth, present), LossConfig())
    plain = box_loss(outputs, Truth(truth, present), LossConfig())
    assert first["total"] == plain["total"]
    second = stark_loss(outputs, Truth(truth, present), LossConfig(giou=0, l1=0, presence=1))
    wrong, right = np.log1p(np.exp(3.0)), np.log1p(np.exp(-3.0))
    assert second["total"].item() == pytest.approx((2 * wrong + 2 * right) / 4, rel=1e-5)
    assert second["right"] == 0.5


def test_sbt_loss_weighs_classes_and_fits_every_cell_inside() -> None:
    box = torch.tensor([[0.5, 0.5, 0.5, 0.25]])
    inside = cells_beginning_inside(box, torch.Size([8, 8]))
    assert inside[0].nonzero().tolist() == [
        [row, column] for row in (3, 4) for column in range(2, 6)
    ]
    tiny = torch.tensor([[0.52, 0.52, 0.01, 0.01]])
    assert int(cells_beginning_inside(tiny, torch.Size([8, 8])).sum()) == 1
    logits = torch.zeros(1, 2, 8, 8)
    boxes = box[:, :, None, None].expand(-1, -1, 8, 8).clone()
    boxes[:, 0] += 0.1
    weights = LossConfig(giou=50, l1=70, score=120)
    present = torch.tensor([True])
    terms = sbt_loss({"logits": logits, "boxes": boxes}, Truth(box, present), weights)
    assert terms["score"].item() == pytest.approx(np.log(2), rel=1e-5)
    assert terms["l1"].item() == pytest.approx(0.1, rel=1e-4)
    assert terms["giou"].item() == pytest.approx(1 - 0.4 / 0.6, rel=1e-4)
    total = 120 * terms["score"] + 70 * terms["l1"] + 50 * terms["giou"]
    assert terms["total"].item() == pytest.approx(total.item())
    logits[:, 0][inside] = 9.0
    missed = sbt_loss({"logits": logits.flip(1), "boxes": boxes}, Truth(box, present), weights)
    found = sbt_loss({"logits": logits, "boxes": boxes}, Truth(box, present), weights)
    share = 8 / (8 + 56 / 16)
    assert missed["score"].item() == pytest.approx(share * 9 + (1 - share) * np.log(2), rel=1e-3)
    assert found["score"].item() == pytest.approx((1 - share) * np.log(2), rel=1e-2)


def test_every_model_has_a_loss() -> None:
    for name in list_models():
        assert callable(loss_for(get_spec(name)))


@pytest.mark.parametrize("model", list_models())
def test_parts_of_a_batch_add_up_to_the_batch(model: str) -> None:
    spec, rng = get_spec(model), np.random.default_rng(2)
    config = LossConfig(presence=1.0 if spec.family == "stark" and spec.dynamic_template else 0.0)
    truth = Truth(_boxes(rng, 6), torch.tensor([True, True, False, True, False, True]))
    outputs = {name: value.requires_grad_() for name, value in _outputs(spec.family, rng).items()}
    loss = loss_for(spec)
    whole = loss(outputs, truth, config)
    gradients = torch.autograd.grad(whole["total"], list(outputs.values()), allow_unused=True)
    parts = [
        loss(
            {k: v[cut] for k, v in outputs.items()},
            Truth(truth.box[cut], truth.present[cut]),
            config,
            truth,
        )
        for cut in (slice(0, 1), slice(1, 5), slice(5, 6))
    ]
    for name, value in whole.items():
        assert sum(part[name] for part in parts).item() == pytest.approx(value.item(), rel=1e-5), (
            name
        )
    total = sum(part["total"] for part in parts)
    added = torch.autograd.grad(total, list(outputs.values()), allow_unused=True)
    for a, b in zip(gradients, added, strict=True):
        assert (a is None and b is None) or torch.allclose(a, b, atol=1e-6)


def _boxes(rng: np.random.Generator, count: int) -> torch.Tensor:
    centre, size = rng.uniform(0.2, 0.8, (count, 2)), rng.uniform(0.1, 0.4, (count, 2))
    return torch.from_numpy(np.hstack([centre, size]).astype(np.float32))


def _outputs(family: str, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """Random outputs of six pairs."""
    cells = _boxes(rng, 6 * 64).view(6, 8, 8, 4).permute(0, 3, 1, 2).contiguous()
    scores = torch.from_numpy(rng.uniform(0.01, 0.9, (6, 8, 8)).astype(np.float32))
    return {
        "asymtrack": {"box": _boxes(rng, 6)},
        "asymtrack_lite": {"logits": scores.logit(), "boxes": cells},
        "procontext": {"score_map": scores, "box_map": cells},
        "pjvlt": {"score_map": scores, "box_map": cells},
        "stark": {"box": _boxes(rng, 6), "logit": scores[:, 0, 0].logit()},
        "sbt": {"logits": torch.stack([scores, 1 - scores], 1).logit(), "boxes": cells},
    }[family]


def test_centre_loss_box_cell_chooses_peak_or_target() -> None:
    """The score is wrong: its peak is far from the target, whose own cell has the right box."""
    box = torch.tensor([[0.25, 0.25, 0.25, 0.25]])
    scores = torch.full((1, 16, 16), 0.1)
    scores[0, 12, 12] = 0.9
    boxes = torch.tensor([0.8, 0.8, 0.1, 0.1])[None, :, None, None].repeat(1, 1, 16, 16)
    boxes[0, :, 3:6, 3:6] = box[0, :, None, None]
    outputs, present = {"score_map": scores, "box_map": boxes}, torch.tensor([True])

    at_peak = centre_loss(outputs, Truth(box, present), LossConfig())
    at_target = centre_loss(outputs, Truth(box, present), LossConfig(box_cell="target"))
    absent = centre_loss(outputs, Truth(box, ~present), LossConfig(box_cell="target"))

    assert at_peak["iou"] == 0
    assert at_target["iou"] == pytest.approx(1.0)
    assert at_peak["score"] == at_target["score"]
    assert absent["giou"] == 0


def test_corner_maps_learn_where_the_corners_are() -> None:
    box = torch.tensor([[0.5, 0.5, 0.5, 0.25]])
    sharp = torch.full((1, 2, 8, 8), -20.0)  # corners at columns 2 and 6, rows 3 and 5
    sharp[0, 0, 3, 2] = sharp[0, 1, 5, 6] = 20.0
    flat, swapped = torch.zeros(1, 2, 8, 8), sharp.flip(1)

    assert corner_loss(sharp, box).item() == pytest.approx(0.0, abs=1e-5)
    assert corner_loss(flat, box).item() == pytest.approx(np.log(8.0), abs=1e-5)
    assert corner_loss(swapped, box) > corner_loss(flat, box)


def test_corner_loss_between_two_cells_is_shared() -> None:
    box = torch.tensor([[0.5, 0.5, 0.5, 0.25]]) + torch.tensor([[0.03, 0.0, 0.0, 0.0]])
    maps = torch.zeros(1, 2, 8, 8, requires_grad=True)
    optimizer = torch.optim.Adam([maps], 0.3)
    for _ in range(200):
        optimizer.zero_grad()
        corner_loss(maps, box).sum().backward()
        optimizer.step()

    found, score = locate(*maps.detach().unbind(1))

    assert torch.allclose(found, box, atol=2e-3)
    assert score > 0.9


def test_the_corner_term_is_part_of_the_box_loss_if_asked_for() -> None:
    box, present = torch.tensor([[0.5, 0.5, 0.5, 0.25]] * 2), torch.tensor([True, False])
    maps = {"score_tl": torch.zeros(2, 8, 8), "score_br": torch.zeros(2, 8, 8)}
    outputs = {"box": box, **maps}

    without = box_loss(outputs, Truth(box, present), LossConfig())
    terms = box_loss(outputs, Truth(box, present), LossConfig(corner=0.5))

    assert "corner" not in without
    assert terms["corner"].item() == pytest.approx(np.log(8.0), abs=1e-5)
    assert (terms["total"] - without["total"]).item() == pytest.approx(0.5 * np.log(8.0), abs=1e-5)
