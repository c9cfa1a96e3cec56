# SPDX-License-Identifier: Apache-2.0
"""A tracker that is told where the target is, and frames that show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from vt_models.errors import BackendError
from vt_models.geometry.boxes import iou
from vt_models.registry import get_spec
from vt_models.tracker.tracker import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from vt_models.geometry.boxes import Box

SIZE = (120, 160)


class Scripted:
    """Sees the target where `where` says, if that is inside the search window, else nothing."""

    def __init__(self) -> None:
        self.spec = get_spec("asymtrack_lite0")
        self.calibration = None
        self.updates = True
        self.box: Box | None = None
        self.where: Box | None = None
        self.score = 0.95
        self.calls = 0
        self.searched: list[Box] = []
        self.fails = False
        self.other: Estimate | None = None
        self.runner_ups = 0

    def init(self, frame: Any, box: Any, text: str | None = None) -> None:  # noqa: ARG002
        self.box = self.where = tuple(float(value) for value in box)  # type: ignore[assignment]

    def update(self, frame: Any) -> Estimate:
        assert self.box is not None
        estimate = self.locate(frame, self.box)
        self.box = estimate.box
        return estimate

    def locate(self, frame: Any, around: Box, prior: bool = True) -> Estimate:  # noqa: ARG002
        self.calls += 1
        self.searched.append(around)
        if self.fails:
            raise BackendError("the network failed")
        x, y, w, h = around
        side = self.spec.search_factor * (w * h) ** 0.5
        window = (x + 0.5 * (w - side), y + 0.5 * (h - side), side, side)
        if self.where is None or not float(iou(window, self.where)):
            return Estimate(around, 0.02)
        return Estimate(self.where, self.score)

    def runner_up(self, chosen: Box) -> Estimate | None:  # noqa: ARG002
        self.runner_ups += 1
        return self.other

    def move_to(self, box: Box) -> None:
        self.box = box


def paint(box: Box | None, seed: int = 0, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """A textured background that `seed` moves a little, with a checked square at `box`."""
    background = np.random.default_rng(5).integers(0, 120, (*size, 3), dtype=np.uint8)
    noise = np.random.default_rng(seed).integers(0, 12, (*size, 3), dtype=np.uint8)
    frame = background + noise
    if box is not None:
        x, y, w, h = (round(value) for value in box)
        rows, columns = np.mgrid[0:h, 0:w]
        tile = np.where(((rows * 4 // h) + (columns * 4 // w)) % 2, 240, 30).astype(np.uint8)
        frame[y : y + h, x : x + w] = np.stack((tile, tile // 2, 255 - tile), axis=2)
    return frame


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture(scope="session")
def paint_frame() -> Callable[..., NDArray[np.uint8]]:
    return paint


@pytest.fixture(scope="session")
def scripted_class() -> type[Scripted]:
    return Scripted
