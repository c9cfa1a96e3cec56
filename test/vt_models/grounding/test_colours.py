# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from vt_models.grounding.colours import COLOURS, colour_shares

BLUE, RED = (20, 40, 220), (220, 20, 30)


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        (RED, "red"), (BLUE, "blue"), ((30, 160, 40), "green"), ((250, 250, 250), "white"),
        ((240, 210, 20), "yellow"), ((120, 120, 120), "grey"), ((15, 15, 15), "black"),
        ((150, 100, 60), None),
    ],
)  # fmt: skip
def test_colour_shares_name_plain_colours(rgb: tuple[int, int, int], name: str | None) -> None:
    frame = np.full((40, 40, 3), rgb, np.uint8)
    shares = colour_shares(frame, (5.0, 5.0, 30.0, 30.0), 0.8)
    assert {colour for colour, share in shares.items() if share} == ({name} if name else set())


def test_colours_are_counted_in_the_middle_of_the_box() -> None:
    frame = np.full((40, 80, 3), 120, np.uint8)
    frame[:, 40:] = RED
    assert colour_shares(frame, (20.0, 0.0, 40.0, 40.0), 0.8)["red"] == pytest.approx(0.5)
    assert colour_shares(frame, (36.0, 0.0, 40.0, 40.0), 0.8)["red"] == pytest.approx(1.0)
    assert colour_shares(frame, (70.0, 30.0, 40.0, 40.0), 0.8)["red"] == pytest.approx(1.0)


def test_colour_shares_cover_every_colour() -> None:
    frame = np.full((10, 10, 3), 255, np.uint8)
    shares = colour_shares(frame, (0.0, 0.0, 10.0, 10.0), 1.0)
    assert tuple(shares) == COLOURS
    assert sum(shares.values()) == shares["white"] == 1.0
