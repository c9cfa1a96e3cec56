# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.errors import InputError
from vt_models.geometry import boxes as geometry
from vt_models.geometry.boxes import check_box, clip_box, crop_window, iou

finite = st.floats(-1e5, 1e5)
sizes = st.floats(1e-3, 1e5)
boxes = st.tuples(finite, finite, sizes, sizes)
frame_shapes = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


def test_examples_in_docstrings() -> None:
    result = doctest.testmod(geometry)
    assert result.attempted > 0
    assert result.failed == 0


def test_xywh_to_cxcywh_keeps_shape_and_takes_the_empty_array() -> None:
    function = geometry.xywh_to_cxcywh
    assert function(np.zeros((0, 4))).shape == (0, 4)
    assert function(np.zeros((2, 3, 4), np.float32)).shape == (2, 3, 4)
    assert function(np.zeros((2, 4), np.float32)).dtype == np.float32
    assert function([1, 2, 3, 4]).dtype == np.float64
    with pytest.raises(InputError, match=r"\(3,\)"):
        function([1.0, 2.0, 3.0])


@given(boxes)
def test_xywh_to_cxcywh_and_back_is_the_box(box) -> None:
    cx, cy, w, h = geometry.xywh_to_cxcywh(box)
    np.testing.assert_allclose((cx - w / 2, cy - h / 2, w, h), box, atol=1e-6)


def test_iou_by_hand() -> None:
    a = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 0, 0]], float)
    b = np.array([[0, 0, 10, 10], [5, 5, 10, 10], [20, 20, 5, 5], [0, 0, 0, 0]], float)
    np.testing.assert_allclose(iou(a, b), [1.0, 25 / 175, 0.0, 0.0])
    assert iou(a[:, None], b[None]).shape == (4, 4)
    assert iou(np.zeros((0, 4)), np.zeros((0, 4))).shape == (0,)


def test_iou_of_broken_boxes_is_zero() -> None:
    for broken in ([np.nan, 0, 1, 1], [0, 0, -1, -1], [0, 0, np.inf, 1], [0, 0, 1, np.nan]):
        assert iou(broken, [0.0, 0.0, 1.0, 1.0]) == 0.0
        assert iou(broken, broken) == 0.0


@given(boxes, boxes)
def test_iou_is_symmetric_and_in_range(a, b) -> None:
    value = float(iou(a, b))
    assert 0.0 <= value <= 1.0
    assert value == float(iou(b, a))


@given(st.tuples(finite, finite, finite, finite), frame_shapes)
def test_clipped_box_lies_inside_the_frame(box, shape) -> None:
    x, y, w, h = clip_box(box, shape)
    height, width = shape
    assert 0.0 <= x <= width - min(10, width)
    assert 0.0 <= y <= height - min(10, height)
    assert w >= min(10, width)
    assert h >= min(10, height)
    assert x + w <= width + 1e-6
    assert y + h <= height + 1e-6


@given(st.tuples(finite, finite, finite, finite))
def test_clip_is_the_authors_rule_where_the_frame_is_larger_than_the_margin(box) -> None:
    height, width, margin = 240, 320, 10
    x1, y1, w, h = box
    x2, y2 = x1 + w, y1 + h
    x1 = min(max(0, x1), width - margin)
    x2 = min(max(margin, x2), width)
    y1 = min(max(0, y1), height - margin)
    y2 = min(max(margin, y2), height)
    expected = (x1, y1, max(margin, x2 - x1), max(margin, y2 - y1))
    assert clip_box(box, (height, width)) == expected


@given(boxes, frame_shapes)
def test_check_box_gives_floats_or_says_what_is_wrong(box, shape) -> None:
    try:
        checked = check_box(box, shape)
    except InputError as error:
        assert "outside" in str(error)  # noqa: PT017
        x, y, w, h = box
        assert x >= shape[1] or y >= shape[0] or x + w <= 0 or y + h <= 0
    else:
        assert checked == box
        assert all(isinstance(value, float) for value in checked)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((math.nan, 0, 1, 1), "finite"),
        ((0, 0, math.inf, 1), "finite"),
        ((0, 0, 0, 5), "no area"),
        ((0, 0, 5, -5), "no area"),
        ((320, 0, 5, 5), "outside the 320x240"),
        ((0, 240, 5, 5), "outside the 320x240"),
        ((-5, 0, 5, 5), "outside the 320x240"),
        ((0, 0, 1e9, 5), "beyond"),
        ((1, 2, 3), "four numbers"),
        ("abcd", "four numbers"),
        (None, "four numbers"),
    ],
)
def test_check_box_refuses(box, words) -> None:
    with pytest.raises(InputError, match=words):
        check_box(box, (240, 320, 3))


def test_check_box_takes_arrays_and_integers() -> None:
    assert check_box(np.array([1, 2, 3, 4], np.int32), (240, 320)) == (1.0, 2.0, 3.0, 4.0)


def test_crop_window_rounds_halves_to_even() -> None:
    # x + w/2 - side/2 = 0.5 and 1.5: Python rounds both to the even neighbour.
    assert crop_window((0.5, 1.5, 10.0, 10.0), 1.0) == (0, 2, 10)


@given(boxes, st.floats(0.5, 8.0))
def test_crop_window_is_centred(box, factor) -> None:
    window = crop_window(box, factor)
    assert window.side == math.ceil(math.sqrt(box[2] * box[3]) * factor)
    assert abs(window.x1 + window.side / 2 - (box[0] + box[2] / 2)) <= 0.5 + 1e-6
    assert abs(window.y1 + window.side / 2 - (box[1] + box[3] / 2)) <= 0.5 + 1e-6


@pytest.mark.parametrize(
    "box",
    [
        (math.nan, 0.0, 1.0, 1.0),
        (0.0, math.inf, 1.0, 1.0),
        (0.0, 0.0, 0.0, 1.0),
        (0.0, 0.0, -2.0, -2.0),
        (0.0, 0.0, -2.0, 2.0),
        (0.0, 0.0, 1e200, 1e200),
        (0.0, 0.0, 1e-200, 1e-200),
        (1e12, 0.0, 1.0, 1.0),
    ],
)
def test_crop_window_refuses(box) -> None:
    with pytest.raises(InputError):
        crop_window(box, 4.0)
