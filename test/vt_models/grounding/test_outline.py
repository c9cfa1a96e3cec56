# SPDX-License-Identifier: Apache-2.0
"""Boxes of what is at a point."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vt_models.errors import InputError
from vt_models.geometry.boxes import iou
from vt_models.grounding.outline import box_around


def textured(height=240, width=320, seed=3):
    """A grey background of soft blobs, with a little noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 180, (height // 20, width // 20), np.uint8)
    grey = cv2.resize(coarse, (width, height)) + rng.integers(0, 4, (height, width), np.uint8)
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)


@pytest.mark.parametrize(
    ("centre", "axes"), [((150, 120), (40, 20)), ((60, 60), (9, 12)), ((200, 130), (60, 70))]
)
def test_the_outline_of_what_differs_from_its_surroundings(centre, axes):
    frame = textured()
    cv2.ellipse(frame, centre, axes, 0, 0, 360, (30, 90, 220), -1)
    true = (centre[0] - axes[0], centre[1] - axes[1], 2 * axes[0], 2 * axes[1])
    for dx, dy in ((0, 0), (0.3, -0.2)):
        point = centre[0] + dx * axes[0], centre[1] + dy * axes[1]
        outline = box_around(frame, point)
        assert float(iou(outline.box, true)) > 0.75, (outline, true)
        assert outline.score > 0.5


def test_an_object_at_the_border_of_the_frame():
    frame = textured()
    frame[190:, :50] = (220, 40, 50)
    outline = box_around(frame, (25.0, 215.0))
    assert float(iou(outline.box, (0, 190, 50, 50))) > 0.6, outline


@pytest.mark.parametrize("point", [(160, 120), (0, 0), (320, 240)])
def test_outline_of_a_uniform_surface_is_none(point):
    noise = np.random.default_rng(1).integers(88, 92, (240, 320, 3), np.uint8)
    ramp = np.repeat(np.linspace(0, 255, 320).astype(np.uint8)[None, :, None], 240, axis=0)
    for frame in (np.full((240, 320, 3), 90, np.uint8), noise, np.repeat(ramp, 3, axis=2)):
        assert box_around(frame, point) is None


@pytest.mark.parametrize("point", [(-1, 5), (5, 241), (math.nan, 5), (5, math.inf)])
def test_outline_point_outside_the_frame_is_refused(point):
    with pytest.raises(InputError, match="outside the 320x240 frame"):
        box_around(textured(), point)


def test_outline_invalid_frame_is_refused():
    with pytest.raises(InputError):
        box_around(np.zeros((10, 10), np.uint8), (5, 5))


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    where=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    seed=st.integers(0, 99),
)
def test_a_box_is_inside_the_frame_and_the_same_again(size, where, seed):
    height, width = size
    frame = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    point = where[0] * width, where[1] * height
    outline = box_around(frame, point)
    assert outline == box_around(frame.copy(), point)
    if outline is not None:
        x, y, w, h = outline.box
        assert 0 <= x < x + w <= width
        assert 0 <= y < y + h <= height
        assert 0 < outline.score <= 1
