# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vt_models.errors import InputError
from vt_models.geometry.boxes import CropWindow, crop_window
from vt_models.geometry.crop import Cropper, check_frame, window_padding

PAIRS = ((2, 128), (4, 256), (5, 320), (4, 192))


def reference_crop(frame, window, size):
    """Crop by the published rule, written plainly: pad everything, then resize."""
    x1, y1, side = window
    x2, y2 = x1 + side, y1 + side
    left, top = max(0, -x1), max(0, -y1)
    right = max(x2 - frame.shape[1] + 1, 0)
    bottom = max(y2 - frame.shape[0] + 1, 0)
    padded = np.zeros((side, side, 3), np.uint8)
    inside = frame[y1 + top : max(y2 - bottom, 0), x1 + left : max(x2 - right, 0)]
    if inside.size:
        padded[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return cv2.resize(padded, (size, size))


@pytest.fixture(scope="module")
def golden(shared_dir):
    with np.load(shared_dir / "reference" / "preproc.golden.npz") as archive:
        return dict(archive)


@pytest.mark.parametrize(("factor", "size"), PAIRS)
@pytest.mark.parametrize("index", range(7))
def test_crops_equal_the_authors_bit_for_bit(golden, golden_init, index, factor, size) -> None:
    frame, box = golden_init.frames(12)[0][5], golden_init.CROP_BOXES[index]
    key = f"box{index}_f{factor}_s{size}"
    resize_factor, crop_sum, mask_sum = golden[f"{key}_rf_sum_masksum"]

    window = crop_window(box, factor)
    found = Cropper(size)(frame, window)
    np.testing.assert_array_equal(found[::4, ::4], golden[f"{key}_crop_every4"])
    assert found.sum(dtype=np.int64) == crop_sum
    assert size / window.side == resize_factor

    mask = window_padding(frame.shape, window, size)
    np.testing.assert_array_equal(np.packbits(mask[::4, ::4]), golden[f"{key}_mask_every4"])
    assert mask.sum() == mask_sum


def frame_of(height, width):
    return np.random.default_rng(height * 7919 + width).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )


@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    box=st.tuples(*[st.floats(-150, 150)] * 2, *[st.floats(0.01, 300)] * 2),
    factor=st.sampled_from((2.0, 4.0, 5.0)),
    size=st.sampled_from((32, 48)),
)
def test_crop_any_box_equals_padding_then_resizing(shape, box, factor, size) -> None:
    frame, window = frame_of(*shape), crop_window(box, factor)
    expected = reference_crop(frame, window, size)
    np.testing.assert_array_equal(Cropper(size)(frame, window), expected)


SPARSE_LEVELS = 1 if int(cv2.__version__.split(".")[0]) >= 5 else 8
"""Grey levels between sampling and padding first: before version 5 remap rounds to 1/32 pixel."""


@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    corner=st.tuples(st.integers(-2100, 100), st.integers(-2100, 100)),
    side=st.sampled_from((2049, 2050, 2300)),
    size=st.sampled_from((32, 48, 64)),
)
@settings(max_examples=60)
def test_crop_large_window_equals_padding_then_resizing(shape, corner, side, size) -> None:
    frame, window = frame_of(*shape), CropWindow(*corner, side)
    found = Cropper(size)(frame, window)
    np.testing.assert_allclose(
        found.astype(int), reference_crop(frame, window, size), atol=SPARSE_LEVELS
    )


@pytest.mark.parametrize("side", [2049, 3000, 5000])
def test_crop_large_window_of_a_large_frame_equals_padding_then_resizing(side) -> None:
    frame, window = frame_of(480, 640), CropWindow(-side // 3, -side // 3, side)
    found = Cropper(256)(frame[..., ::-1], window)
    expected = reference_crop(frame[..., ::-1], window, 256)
    np.testing.assert_allclose(found.astype(int), expected, atol=SPARSE_LEVELS)


def test_crop_box_far_larger_than_the_frame_needs_bounded_memory() -> None:
    frame = frame_of(48, 64)
    cropper = Cropper(256)
    tracemalloc.start()
    found = cropper(frame, crop_window((-3e5, -2e5, 64e4, 48e4), 4.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.shape == (256, 256, 3)
    assert peak < 8e6


def test_crop_outside_the_frame_is_black() -> None:
    frame = np.full((20, 30, 3), 255, np.uint8)
    cropper = Cropper(16)
    assert cropper(frame, CropWindow(2, 2, 10)).any()
    for window in (CropWindow(30, 0, 10), CropWindow(-10, 0, 10), CropWindow(0, 500, 3)):
        assert not cropper(frame, window).any()
        assert window_padding(frame.shape, window, 16).all()


@given(st.integers(0, 5), st.sampled_from((10, 40, 300)))
@settings(max_examples=30)
def test_crop_any_strides_give_the_same_without_copying_the_frame(kind, side) -> None:
    base = frame_of(150, 170)
    views = (
        base[..., ::-1],
        base[::-1],
        base[:, ::-1],
        base.transpose(1, 0, 2),
        np.asfortranarray(base),
        base[::2, ::3],
    )
    view = views[kind]
    window = CropWindow(20, 30, side)
    expected = Cropper(64)(np.ascontiguousarray(view), window).copy()
    np.testing.assert_array_equal(Cropper(64)(view, window), expected)


def test_crop_never_writes_to_the_frame() -> None:
    frame = frame_of(50, 60)
    before = frame.copy()
    frame.flags.writeable = False
    Cropper(32)(frame, CropWindow(-5, -5, 40))
    Cropper(32)(frame[..., ::-1], CropWindow(5, 5, 20))
    np.testing.assert_array_equal(frame, before)


def test_cropper_again_is_independent_of_the_previous_window() -> None:
    frame, cropper = frame_of(80, 90), Cropper(48)
    windows = [CropWindow(-20, -30, 200), CropWindow(3, 4, 30), CropWindow(-60, 40, 70)]
    for window in windows * 2:
        np.testing.assert_array_equal(
            cropper(frame, window), reference_crop(frame, window, cropper.size)
        )


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (None, "NoneType"),
        ([[0, 0, 0]], "list"),
        (np.zeros((4, 4), np.uint8), r"\(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"\(1, 4, 4, 3\)"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4, 3), np.uint16), "uint16"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros((4, 0, 3), np.uint8), "empty"),
        (np.zeros((1, 32767, 3), np.uint8), "32767x1, expected at most 32766"),
    ],
)
def test_check_frame_refuses(frame, words) -> None:
    with pytest.raises(InputError, match=words):
        check_frame(frame)


def test_check_frame_returns_the_frame_itself() -> None:
    frame = np.zeros((4, 5, 3), np.uint8)[:, ::2]
    assert check_frame(frame) is frame
