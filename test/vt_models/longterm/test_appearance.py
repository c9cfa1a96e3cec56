# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from vt_models.longterm.appearance import appearance_descriptor, appearance_similarity


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
