#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One training step of a Siamese tracker on one screen: train_minimal.py --root VIDEOS.

Videos to pairs, pairs to crops, a network, a loss, AdamW. It is a start for experiments; the whole
thing (augmentation, mixtures, schedules, resuming) is `vt-models train`, see docs/training.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.ops import generalized_box_iou_loss

import vt_models
from vt_models.datasets import open_dataset
from vt_models.geometry.boxes import crop_window
from vt_models.geometry.crop import crop

if TYPE_CHECKING:
    from vt_models import ModelSpec
    from vt_models.datasets import VideoSequence

MAX_GAP = 50  # frames between template and search region


def draw_pair(sequence: VideoSequence, spec: ModelSpec, rng: np.random.Generator) -> list:
    """Cut a template and a search region out of two frames of one video.

    Returns:
        template (T, T, 3) uint8, its box x, y, w, h, search (S, S, 3) uint8, its box cx, cy, w, h;
        boxes are fractions of their crop.
    """
    visible = np.flatnonzero(np.isfinite(sequence.boxes).all(1))
    first = rng.choice(visible)
    second = rng.choice(visible[abs(visible - first) <= MAX_GAP])

    box = sequence.boxes[first]
    template, _ = crop(sequence.read_frame(first), box, spec.template_factor, spec.template_size)
    template_box = in_crop(box, box, spec.template_factor)

    # In use the search region is where the target was in the frame before: near, not the same.
    x, y, w, h = box = sequence.boxes[second]
    shift = rng.uniform(-1, 1, 2) * np.sqrt(w * h)
    scale = np.exp(rng.uniform(-0.4, 0.4))
    near = np.array([x + shift[0], y + shift[1], w * scale, h * scale])
    search, _ = crop(sequence.read_frame(second), near, spec.search_factor, spec.search_size)
    left, top, width, height = in_crop(box, near, spec.search_factor)
    return [template, template_box, search, [left + width / 2, top + height / 2, width, height]]


def in_crop(box: np.ndarray, centre: np.ndarray, factor: float) -> list[float]:
    """Return `box` as fractions of the crop around `centre`: x, y, w, h."""
    window = crop_window(centre, factor)
    x, y, w, h = box
    return [(x - window.x1) / window.side, (y - window.y1) / window.side, w / window.side,
            h / window.side]  # fmt: skip


def draw_batch(dataset: list, spec: ModelSpec, size: int, rng: np.random.Generator) -> list:
    """Return template, template box, search and box of `size` pairs; images are normalised."""
    pairs = [draw_pair(dataset[rng.integers(len(dataset))], spec, rng) for _ in range(size)]
    template, template_box, search, box = (np.stack(column) for column in zip(*pairs, strict=True))
    mean, std = (torch.tensor(values)[:, None, None] for values in (spec.mean, spec.std))
    template, search = (
        (torch.from_numpy(crops).permute(0, 3, 1, 2) / 255 - mean) / std  # (B, 3, side, side)
        for crops in (template, search)
    )
    return [template, torch.tensor(template_box).float(), search, torch.tensor(box).float()]


def dense_loss(logits: torch.Tensor, boxes: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """Score: which cells lie in the middle half of the target. Box: L1 and GIoU in those cells.

    Args:
        logits: (B, N, N).
        boxes: (B, 4, N, N) cx, cy, w, h as fractions of the crop, one a cell.
        box: (B, 4) the truth.
    """
    cells = logits.shape[1]
    place = (torch.arange(cells) + 0.5) / cells
    cx, cy, w, h = box[:, :, None].unbind(1)
    reach = 0.5 / cells + 0.25 * torch.stack([w, h])  # at least the cells next to the centre
    inside_x, inside_y = (place - cx).abs() <= reach[0], (place - cy).abs() <= reach[1]
    positive = inside_y[:, :, None] & inside_x[:, None, :]

    score = F.binary_cross_entropy_with_logits(logits, positive.float(), reduction="sum")
    predicted = boxes.permute(0, 2, 3, 1)[positive]
    truth = box[:, None, None].expand(-1, cells, cells, -1)[positive]
    l1 = F.l1_loss(predicted, truth, reduction="sum")
    giou = generalized_box_iou_loss(to_corners(predicted), to_corners(truth), reduction="sum")
    return (score + 2 * l1 + 2 * giou) / positive.sum().clamp(min=1)


def to_corners(box: torch.Tensor) -> torch.Tensor:
    """(N, 4) cx, cy, w, h to x1, y1, x2, y2."""
    return torch.cat([box[:, :2] - box[:, 2:] / 2, box[:, :2] + box[:, 2:] / 2], 1)


def main() -> None:
    """Train for some steps and print the loss of each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--dataset", default="videos", help="kind, see docs/datasets.md")
    parser.add_argument("--root", required=True, help="directory of the dataset")
    parser.add_argument("--weights", help=".safetensors file of asymtrack_lite0 to start from")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()

    rng = np.random.default_rng(seed=7)
    torch.manual_seed(7)
    dataset = open_dataset(arguments.dataset, arguments.root)
    spec = vt_models.get_spec("asymtrack_lite0")
    net = vt_models.create_model(spec.name, arguments.weights).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-4, weight_decay=1e-3)
    for step in range(arguments.steps):
        template, template_box, search, box = draw_batch(dataset, spec, arguments.batch, rng)
        outputs = net(template, search, template_box)
        loss = dense_loss(outputs["logits"], outputs["boxes"], box)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        print(f"step {step + 1}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
