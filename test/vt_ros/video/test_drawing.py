# SPDX-License-Identifier: Apache-2.0
"""Drawing on frames: it stays inside, and leaves the frame itself alone."""

from __future__ import annotations

import numpy as np

from vt_ros.video.drawing import GREEN, contact_sheet, draw_box, draw_text, scaled


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
