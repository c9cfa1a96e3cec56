# SPDX-License-Identifier: Apache-2.0
"""Position encodings of maps with padding."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from vt_models.nets.stark import sine_positions

pytestmark = pytest.mark.train

CHANNELS = 16


def literal(padding: Any, row: int, column: int) -> list[float]:
    """The definition, for one cell."""
    inside = (~padding).double()
    shares = (
        inside[: row + 1, column].sum() / (inside[:, column].sum() + 1e-6),
        inside[row, : column + 1].sum() / (inside[row].sum() + 1e-6),
    )
    per_axis = CHANNELS // 2
    values = []
    for share in shares:
        for pair in range(per_axis // 2):
            angle = 2 * math.pi * float(share) / 10000 ** (2 * pair / per_axis)
            values += [math.sin(angle), math.cos(angle)]
    return values


def test_sine_positions_cells_follow_the_definition() -> None:
    padding = torch.zeros(2, 5, 7, dtype=torch.bool)
    padding[1, :2] = True
    padding[1, :, 5:] = True

    positions = sine_positions(padding, CHANNELS)

    assert positions.shape == (2, 35, CHANNELS)
    for image in range(2):
        for cell in range(35):
            expected = torch.tensor(literal(padding[image], *divmod(cell, 7)))
            torch.testing.assert_close(positions[image, cell], expected, rtol=0, atol=1e-5)


def test_sine_positions_of_padding_alone_are_the_origin() -> None:
    positions = sine_positions(torch.ones(1, 3, 3, dtype=torch.bool), CHANNELS)

    assert (positions[..., 0::2] == 0).all()
    assert (positions[..., 1::2] == 1).all()
