# SPDX-License-Identifier: Apache-2.0
"""Drawing on frames: it stays inside, and leaves the frame itself alone."""

from __future__ import annotations

import numpy as np

from vt_models.video.drawing import GREEN, contact_sheet, draw_box, draw_text, scaled, with_label


def test_draw_outside_the_frame_and_on_a_copy():
    frame = np.full((60, 80, 3), 50, np.uint8)
    drawn = scaled(frame, 1.0)
    draw_box(drawn, (-1e4, -5.0, 1e5, 30.5), GREEN)
    draw_text(drawn, "TRACKING", GREEN)
    assert (frame == 50).all()
    assert (drawn != 50).any()
    assert scaled(frame, 0.5).shape == (30, 40, 3)
    assert scaled(frame, 0.001).shape == (1, 1, 3)
    assert contact_sheet([frame] * 5, 3, gap=2).shape == (2 * 62 + 2, 3 * 82 + 2, 3)


def test_with_label_leaves_the_frame_alone():
    frame = np.full((60, 80, 3), 50, np.uint8)
    frame.setflags(write=False)
    drawn = with_label(frame, (10.0, 20.0, 30.0, 20.0), "0.93")
    assert drawn.shape == frame.shape
    assert np.abs(np.int16(drawn[20, 25]) - GREEN).max() < 40, "the upper side is green"
    assert (frame == 50).all()
