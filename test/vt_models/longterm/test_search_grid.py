# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.longterm.search_grid import SCALES, SearchGrid, search_windows

box_in_frame = st.tuples(st.floats(0, 400), st.floats(0, 300), st.floats(2, 120), st.floats(2, 120))


@given(box_in_frame, st.tuples(st.integers(40, 300), st.integers(40, 400)))
def test_search_windows_cover_the_frame_at_every_scale(box, shape) -> None:
    windows = search_windows(shape, box, 4.0)
    per_scale: dict[int, list] = {}
    for window in windows:
        scale = min(range(len(SCALES)), key=lambda i: abs(window[2] / box[2] - SCALES[i]))
        per_scale.setdefault(scale, []).append(window)
    assert set(per_scale) == set(range(len(SCALES)))
    for found in per_scale.values():
        for point in [(0, 0), (shape[1], shape[0]), (shape[1] / 2, shape[0] / 3)]:
            assert any(_contains(window, point) for window in found)


def _contains(window, point) -> bool:
    side = 4.0 * (window[2] * window[3]) ** 0.5
    cx, cy = window[0] + 0.5 * window[2], window[1] + 0.5 * window[3]
    return abs(point[0] - cx) <= 0.5 * side + 1e-6 and abs(point[1] - cy) <= 0.5 * side + 1e-6


def test_search_windows_start_at_the_last_box_and_widen() -> None:
    box = (100.0, 80.0, 20.0, 20.0)
    windows = search_windows((240, 320), box, 4.0)
    first_scale = [p for p in windows if p[2] == pytest.approx(20.0 * SCALES[0])]
    distances = [np.hypot(p[0] + p[2] / 2 - 110, p[1] + p[3] / 2 - 90) for p in first_scale]
    assert distances[0] == 0.0
    assert distances == sorted(distances)
    grid = SearchGrid((240, 320), box, 4.0)
    some = [next(grid.one_pass()) for _ in range(5)]
    assert [*some, *grid.one_pass()] == [*windows, *windows[:5]]
