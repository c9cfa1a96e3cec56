# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from vt_models.longterm.appearance import (
    appearance_descriptor,
    appearance_similarity,
    shows_what_was_there,
)


def test_appearance_similarity_depends_on_content_not_on_light_or_size(paint_frame) -> None:
    box = (60.0, 50.0, 24.0, 24.0)
    frame = paint_frame(box)
    descriptor = appearance_descriptor(frame, box)
    assert appearance_similarity(descriptor, descriptor) == pytest.approx(1.0, abs=1e-5)
    darker = (frame * 0.6 + 20).astype(np.uint8)
    assert appearance_similarity(descriptor, appearance_descriptor(darker, box)) > 0.9
    large = np.repeat(np.repeat(frame, 2, axis=0), 2, axis=1)
    assert (
        appearance_similarity(descriptor, appearance_descriptor(large, (120.0, 100.0, 48.0, 48.0)))
        > 0.95
    )
    assert appearance_similarity(descriptor, appearance_descriptor(paint_frame(None), box)) < 0.4
    assert (
        appearance_similarity(descriptor, appearance_descriptor(np.full_like(frame, 70), box))
        == 0.0
    )
    assert np.isfinite(appearance_descriptor(frame, (-500.0, -500.0, 3.0, 9.0))).all()


@pytest.mark.parametrize(
    ("box", "other", "is_same"),
    [
        ((60.0, 40.0, 30.0, 30.0), (10.0, 40.0, 30.0, 30.0), True),
        ((60.0, 40.0, 30.0, 30.0), (80.0, 40.0, 30.0, 30.0), True),
        ((60.0, 40.0, 30.0, 30.0), (70.0, 40.0, 30.0, 30.0), False),  # the same place
        ((60.0, 40.0, 60.0, 60.0), (75.0, 55.0, 20.0, 20.0), False),  # in another size
        ((60.0, 40.0, 30.0, 30.0), (40.0, 20.0, 90.0, 60.0), False),  # nothing outside
        ((60.0, 40.0, 5.0, 5.0), (10.0, 40.0, 5.0, 5.0), False),  # too few of 320 x 240
        ((-40.0, -40.0, 30.0, 30.0), (10.0, 40.0, 30.0, 30.0), False),
        ((400.0, 40.0, 30.0, 30.0), (10.0, 40.0, 30.0, 30.0), False),
    ],
)
def test_shows_what_was_there_judges_what_another_box_leaves(box, other, is_same) -> None:
    rng = np.random.default_rng(3)
    before = rng.integers(0, 200, (120, 160), dtype=np.uint8)
    now = before + rng.integers(0, 6, before.shape, dtype=np.uint8)
    assert shows_what_was_there(now, before, box, other, (240, 320, 3)) is is_same
    moved = np.roll(now, 1, axis=1)
    assert not shows_what_was_there(moved, before, box, other, (240, 320, 3))
    assert not shows_what_was_there(now, before[:60, :80], box, other, (240, 320, 3))
    flat = np.full_like(before, 90) + now % 3
    assert not shows_what_was_there(flat, flat, box, other, (240, 320, 3))
