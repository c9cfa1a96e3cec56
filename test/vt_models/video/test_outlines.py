# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.video.outlines import (
    FONT,
    box_corners,
    corner_lines,
    covariance_ellipse,
    label_place,
)

SIDES = st.floats(0.1, 500.0)
BOXES = st.tuples(st.floats(-500.0, 500.0), st.floats(-500.0, 500.0), SIDES, SIDES)


@given(box=BOXES)
def test_corners_and_lines_of_a_box_reach_its_edges_and_go_no_further(box):
    x, y, w, h = box
    for points in (box_corners(box), corner_lines(box)):
        xs, ys = np.array(points).T
        assert (xs.min(), ys.min()) == (x, y)
        assert (xs.max(), ys.max()) == (x + w, y + h)
    ends = np.array(corner_lines(box)).reshape(-1, 2, 2)
    lengths = np.abs(ends[:, 1] - ends[:, 0]).sum(axis=1)
    assert lengths == pytest.approx([0.25 * w, 0.25 * h] * 4, abs=1e-9)


@given(box=BOXES, factor=st.lists(st.floats(-20.0, 20.0), min_size=16, max_size=16))
def test_ellipse_is_two_deviations_from_the_centre(box, factor):
    half = np.array(factor).reshape(4, 4)
    covariance = half @ half.T + np.eye(4)
    x, y, w, h = box
    offsets = np.array(covariance_ellipse(box, covariance)) - (x + w / 2, y + h / 2)
    inverse = np.linalg.inv(covariance[:2, :2])
    distances = np.sqrt(np.einsum("ni,ij,nj->n", offsets, inverse, offsets))
    assert distances == pytest.approx(np.full(len(offsets), 2.0), rel=1e-6)


@given(box=BOXES)
def test_label_stands_above_the_box_and_inside_the_image(box):
    x, y = label_place(box)
    assert x == box[0]
    assert y >= FONT
    assert y == FONT or y < box[1]
    assert label_place(None)[1] > FONT
