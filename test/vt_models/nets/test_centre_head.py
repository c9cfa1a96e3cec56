# SPDX-License-Identifier: Apache-2.0
"""The centre head: boxes from offsets and sizes, bounds, folding."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from vt_models.nets.centre_head import CentreHead, CentreMaps, box_at_peak

pytestmark = pytest.mark.train


def test_centre_maps_box_is_the_cell_s_corner_plus_the_offset() -> None:
    offset, size = torch.zeros(1, 2, 4, 8), torch.full((1, 2, 4, 8), 0.25)
    offset[0, :, 2, 5] = torch.tensor([0.5, -0.75])
    size[0, :, 2, 5] = torch.tensor([0.3, 0.2])

    boxes = CentreMaps(torch.zeros(1, 4, 8), offset, size).boxes

    torch.testing.assert_close(
        boxes[0, :, 2, 5], torch.tensor([(5 + 0.5) / 8, (2 - 0.75) / 4, 0.3, 0.2])
    )
    torch.testing.assert_close(boxes[0, :, 3, 0], torch.tensor([0.0, 0.75, 0.25, 0.25]))


def test_box_at_peak_batch_takes_each_image_s_peak() -> None:
    boxes = torch.rand(2, 4, 3, 5, requires_grad=True)
    score = torch.zeros(2, 3, 5)
    score[0, 1, 4] = score[1, 2, 0] = 1.0

    box = box_at_peak(score, boxes)
    box.sum().backward()

    assert torch.equal(box[0], boxes[0, :, 1, 4])
    assert torch.equal(box[1], boxes[1, :, 2, 0])
    assert boxes.grad is not None
    assert boxes.grad.sum() == 8


@torch.no_grad()
def test_centre_head_scores_and_sizes_stay_within_bounds() -> None:
    head = CentreHead(8, 16).eval()
    for name in ("ctr", "size"):
        head.get_submodule(f"conv5_{name}").bias.fill_(100.0)

    high = head(torch.randn(1, 8, 4, 4))
    for name in ("ctr", "size"):
        head.get_submodule(f"conv5_{name}").bias.fill_(-100.0)
    low = head(torch.randn(1, 8, 4, 4))

    for maps, value in ((high, 1 - 1e-4), (low, 1e-4)):
        torch.testing.assert_close(maps.score, torch.full((1, 4, 4), value))
        torch.testing.assert_close(maps.size, torch.full((1, 2, 4, 4), value))


@torch.no_grad()
def test_centre_head_fresh_scores_are_low() -> None:
    """Or the focal loss of all the cells that show none drowns the other terms."""
    torch.manual_seed(0)

    score = CentreHead(32, 32)(torch.randn(4, 32, 16, 16)).score

    assert 0.002 < score.mean() < 0.05


@torch.no_grad()
def test_centre_head_merge_changes_no_map() -> None:
    torch.manual_seed(0)
    head = CentreHead(16, 32)
    for module in head.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    head.eval()
    x = torch.randn(2, 16, 6, 6)
    before = head(x)

    head.merge()
    head.merge()

    for merged, plain in zip(head(x), before, strict=True):
        torch.testing.assert_close(merged, plain, atol=1e-5, rtol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in head.modules())


@torch.no_grad()
def test_centre_head_in_half_precision_gives_float32() -> None:
    head = CentreHead(16, 32).eval()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = head(torch.randn(1, 16, 4, 4))

    assert {values.dtype for values in (*maps, maps.boxes)} == {torch.float32}
