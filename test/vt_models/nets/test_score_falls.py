# SPDX-License-Identifier: Apache-2.0
"""AsymTrack's confidence falls when the target is replaced by background.

A network that knows nothing has nothing to lose confidence in, so AsymTrack-T is trained for some
steps first, on pairs of blobs on smooth noise: about 20 s on one core.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

import torch.nn.functional as F

from vt_models.nets.asymtrack import asymtrack_t

pytestmark = pytest.mark.train

STEPS, BATCH = 44, 6
TEMPLATE, SEARCH = 128, 256
COLOURS = ((2.0, -1.0, -1.0), (-1.0, 2.0, -1.0), (-1.0, -1.0, 2.0), (2.0, 2.0, -1.0))


def test_score_falls_when_background_takes_the_target_s_place() -> None:
    net = trained()
    template, search, background, _ = pairs(16, torch.Generator().manual_seed(1))

    with torch.no_grad():
        state = net.encode_template(template)
        _, with_target = net.search(search, *state)
        _, without = net.search(background, *state)

    assert (without < with_target).sum() >= 15
    assert without.median() < 0.5 * with_target.median()


def trained() -> Any:
    """AsymTrack-T after a few steps with the paper's losses."""
    torch.manual_seed(0)
    net = asymtrack_t().train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=5e-4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        template, search, _, target = pairs(BATCH, generator)
        box = net(template, search)["box"]
        loss = 5 * F.l1_loss(box, target) + 2 * (1 - iou(box, target)).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
    return net.eval()


def pairs(count: int, generator: Any) -> tuple[Any, Any, Any, Any]:
    """Templates, search regions, the same without the target, boxes cx, cy, w, h (fractions)."""
    colours = torch.tensor(COLOURS)[torch.randint(len(COLOURS), (count,), generator=generator)]
    size = torch.randint(SEARCH // 6, SEARCH // 3, (count, 2), generator=generator)
    corner = (torch.rand(count, 2, generator=generator) * (SEARCH * 0.875 - size)).long()
    template = noise(count, TEMPLATE, generator)
    background = noise(count, SEARCH, generator)
    search = background.clone()
    for index in range(count):
        paint(template[index], (TEMPLATE // 4,) * 2, (TEMPLATE // 2,) * 2, colours[index])
        paint(search[index], corner[index].tolist(), size[index].tolist(), colours[index])
    return template, search, background, torch.cat([corner + size / 2, size], 1) / SEARCH


def noise(count: int, size: int, generator: Any) -> Any:
    coarse = torch.rand(count, 3, size // 16, size // 16, generator=generator) - 0.5
    return F.interpolate(coarse, size=(size, size), mode="bilinear")


def paint(image: Any, corner: Any, size: Any, colour: Any) -> None:
    """A rectangle with a smaller one of the opposite colour in its upper half."""
    (x, y), (w, h) = corner, size
    image[:, y : y + h, x : x + w] = colour[:, None, None]
    image[:, y + h // 4 : y + h // 2, x + w // 4 : x + 3 * w // 4] = -colour[:, None, None]


def iou(first: Any, second: Any) -> Any:
    """Generalised IoU of cx, cy, w, h boxes; a size below 0 counts as 0."""
    low = torch.stack([first[:, :2] - first[:, 2:] / 2, second[:, :2] - second[:, 2:] / 2])
    high = torch.stack([first[:, :2] + first[:, 2:] / 2, second[:, :2] + second[:, 2:] / 2])
    common = (high.amin(0) - low.amax(0)).clamp(min=0).prod(1)
    union = first[:, 2:].clamp(min=0).prod(1) + second[:, 2:].prod(1) - common
    hull = (high.amax(0) - low.amin(0)).prod(1)
    return common / union - (hull - union) / hull
