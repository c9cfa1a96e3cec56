# SPDX-License-Identifier: Apache-2.0
"""The text detector: places, boxes, and that a score depends on text and place alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from vt_models.nets.text_detector import RARE, STRIDES, TextDetector, centres

pytestmark = pytest.mark.train

PLACES = 96 * 64 // 64 + 96 * 64 // 256 + 96 * 64 // 1024


@pytest.fixture(scope="module")
def net() -> TextDetector:
    torch.manual_seed(0)
    net = TextDetector().eval()
    with torch.no_grad():
        net.meaning.weight.normal_()
        net.sides[-1].weight.normal_(std=0.2)
    return net


def image(batch: int = 1) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(batch, 3, 64, 96)


def test_centres_are_those_of_cells_row_by_row() -> None:
    for level, stride in enumerate(STRIDES):
        x, y = centres(level, (64, 96))
        assert len(x) == len(y) == 64 * 96 // stride**2
        assert (float(x[0]), float(y[0])) == (stride / 2, stride / 2)
        assert float(x[1]) == 1.5 * stride
        assert (float(x[-1]), float(y[-1])) == (96 - stride / 2, 64 - stride / 2)


@torch.no_grad()
def test_text_detector_box_holds_its_place(net: TextDetector) -> None:
    found = net(image(2), torch.randn(3, 192))
    assert found.logits.shape == (2, PLACES, 3)
    assert found.boxes.shape == (2, PLACES, 4)
    x, y = (torch.cat(axis) for axis in zip(*(centres(n, (64, 96)) for n in range(3)), strict=True))
    box = found.boxes[0] * torch.tensor([96.0, 64.0, 96.0, 64.0])
    assert torch.all((x - box[:, 0]).abs() < box[:, 2] / 2)
    assert torch.all((y - box[:, 1]).abs() < box[:, 3] / 2)


@torch.no_grad()
def test_text_detector_text_changes_scores_and_no_box(net: TextDetector) -> None:
    """The score of a text does not depend on the other texts, nor on the other images."""
    words = torch.randn(3, 192)
    images = image(2)
    every = net(images, words)
    one = net(images[1:], words[2:])
    torch.testing.assert_close(one.logits[0, :, 0], every.logits[1, :, 2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(one.boxes[0], every.boxes[1], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_encode_text_padding_has_no_influence(net: TextDetector) -> None:
    ids = torch.tensor([[101, 2482, 102, 0, 0], [101, 2482, 102, 7, 9]])
    mask = torch.tensor([[True, True, True, False, False]] * 2)
    words = net.encode_text(ids, mask)
    assert words.shape == (2, 192)
    torch.testing.assert_close(words[0], words[1], atol=1e-5, rtol=0)


@torch.no_grad()
def test_text_detector_fresh_scores_are_low() -> None:
    torch.manual_seed(0)
    found = TextDetector().eval()(image(), torch.randn(1, 192))
    assert float(found.logits.sigmoid().mean()) == pytest.approx(RARE, rel=0.2)
    assert math.isfinite(float(found.boxes.abs().max()))
    assert np.isfinite(found.boxes.numpy()).all()
