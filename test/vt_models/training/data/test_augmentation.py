# SPDX-License-Identifier: Apache-2.0
"""A crop and its label must tell the same story."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from vt_models.training.data.augmentation import (
    View,
    box_in_view,
    crop_view,
    erase,
    jittered_view,
    lower_resolution,
    motion_blur,
    occlude,
)

SIZE = 128
BOX = (60.0, 40.0, 36.0, 22.0)


def _ellipse_image() -> np.ndarray:
    """A white ellipse inscribed in BOX, drawn at sub-pixel accuracy."""
    ys, xs = np.mgrid[0:160, 0:200] + 0.5
    x, y, w, h = BOX
    inside = ((xs - x - w / 2) / (w / 2)) ** 2 + ((ys - y - h / 2) / (h / 2)) ** 2 <= 1
    return np.repeat((inside * 255).astype(np.uint8)[:, :, None], 3, 2)


@given(
    dx=st.floats(-25, 25),
    dy=st.floats(-25, 25),
    side=st.floats(90, 220),
    aspect=st.floats(0.8, 1.25),
    angle=st.floats(-0.7, 0.7),
    mirrored=st.booleans(),
)
def test_crop_view_pixels_land_where_the_label_is(
    dx: float, dy: float, side: float, aspect: float, angle: float, mirrored: bool
) -> None:
    view = View((78.0 + dx, 51.0 + dy), side, aspect, angle, mirrored)
    crop = crop_view(_ellipse_image(), view, SIZE)
    rows, columns = np.nonzero(crop[:, :, 0] > 127)
    cx, cy, w, h = box_in_view(BOX, view) * SIZE
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    expected = np.clip([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 0, SIZE)
    assert np.abs(seen - expected).max() < 2.0


def test_crop_view_without_jitter_is_the_inference_crop() -> None:
    rng = np.random.default_rng(0)
    view = jittered_view(BOX, 4.0, 0.0, 0.0, rng)
    assert view.centre == (78.0, 51.0)
    assert view.side == pytest.approx(4.0 * np.sqrt(36.0 * 22.0))
    assert box_in_view(BOX, view)[:2] == pytest.approx([0.5, 0.5])


def test_box_in_view_equals_the_published_label(shared_dir: Path) -> None:
    """Sizes are theirs; centres lie half a crop pixel further, because they map pixel centres.

    Their tracker maps boxes back without that half pixel, as ours does: here labels and tracker
    agree, and `test_crop_view_pixels_land_where_the_label_is` shows that the pixels agree with
    both.
    """
    golden = np.load(shared_dir / "reference" / "train_helpers.golden.npz")
    label, extract = golden["crop_label_in_extract"].astype(float)
    view = jittered_view(tuple(extract), 5.0, 0.0, 0.0, np.random.default_rng(0))
    view = View(view.centre, float(np.ceil(view.side)))
    x, y, w, h = golden["crop_label_norm_xywh_f5_s320"]
    theirs = np.array([x + w / 2, y + h / 2, w, h])
    half_pixel = 0.5 / 320
    ours = box_in_view(tuple(label), view) - [half_pixel, half_pixel, 0, 0]
    assert ours == pytest.approx(theirs, abs=1e-6)


@given(seed=st.integers(0, 2**32 - 1))
def test_jittered_view_shift_is_bounded_as_published(seed: int) -> None:
    view = jittered_view(BOX, 4.0, 3.5, 0.0, np.random.default_rng(seed))
    bound = 0.5 * 3.5 * np.sqrt(36.0 * 22.0) + 1e-6
    assert abs(view.centre[0] - 78.0) <= bound
    assert abs(view.centre[1] - 51.0) <= bound


def test_jittered_view_laplace_shifts_have_the_same_mean_and_longer_tails() -> None:
    rng = np.random.default_rng(3)
    side = np.sqrt(36.0 * 22.0)

    def shifts(law: str) -> np.ndarray:
        views = [jittered_view(BOX, 4.0, 2.0, 0.0, rng, law) for _ in range(4000)]
        return np.abs([view.centre[0] - 78.0 for view in views]) / side

    uniform, laplace = shifts("uniform"), shifts("laplace")
    assert uniform.mean() == pytest.approx(0.5, abs=0.03)
    assert laplace.mean() == pytest.approx(0.5, abs=0.03)
    assert np.median(laplace) < 0.4 < np.median(uniform)
    assert uniform.max() <= 1.0
    assert np.mean(laplace > 1.0) == pytest.approx(np.exp(-2.0), abs=0.03)


def test_crop_view_outside_is_black_or_foreign() -> None:
    image = np.full((50, 50, 3), 200, np.uint8)
    view = View((25.0, 25.0), 200.0)
    assert crop_view(image, view, SIZE)[0, 0].tolist() == [0, 0, 0]
    foreign = np.full((30, 40, 3), 77, np.uint8)
    filled = crop_view(image, view, SIZE, foreign)
    assert filled[0, 0].tolist() == [77, 77, 77]
    assert filled[SIZE // 2, SIZE // 2].tolist() == [200, 200, 200]


@given(seed=st.integers(0, 1000))
def test_occlude_stays_inside_the_target(seed: int) -> None:
    rng = np.random.default_rng(seed)
    box = np.array([0.4, 0.5, 0.3, 0.2], np.float32)
    crop = np.zeros((SIZE, SIZE, 3), np.uint8)
    foreign = np.full((200, 200, 3), 255, np.uint8)
    rows, columns = np.nonzero(occlude(crop, box, foreign, rng)[:, :, 0])
    assert 0 < len(rows) <= 0.46 * (0.3 * SIZE) * (0.2 * SIZE) * 1.2
    assert columns.min() >= (0.4 - 0.15) * SIZE - 1
    assert columns.max() <= (0.4 + 0.15) * SIZE
    assert rows.min() >= (0.5 - 0.1) * SIZE - 1
    assert rows.max() <= (0.5 + 0.1) * SIZE


def test_motion_blur_keeps_brightness() -> None:
    rng = np.random.default_rng(3)
    crop = cv2.GaussianBlur(rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8), (9, 9), 3)
    blurred = motion_blur(crop, rng)
    assert blurred.std() < crop.std()
    assert abs(float(blurred.mean()) - float(crop.mean())) < 2


@given(seed=st.integers(0, 1000))
def test_erase_leaves_nothing_of_the_target(seed: int) -> None:
    rng = np.random.default_rng(seed)
    crop = np.full((SIZE, SIZE, 3), 60, np.uint8)
    box = np.array([0.5, 0.4, 0.25, 0.2], np.float32)
    rows, columns = slice(38, 64), slice(48, 80)
    crop[rows, columns] = 255
    foreign = np.full((90, 120, 3), 90, np.uint8)
    erased = erase(crop, box, foreign, rng)
    assert erased[rows, columns].max() < 255 * 0.75
    assert (erased[:16] == 60).all()


def test_lower_resolution_is_that_of_a_small_target() -> None:
    rng = np.random.default_rng(2)
    crop = rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    coarse = lower_resolution(crop, 32.0, 8.0, 100)
    assert coarse.shape == crop.shape
    assert abs(float(coarse.mean()) - float(crop.mean())) < 2
    again = cv2.resize(cv2.resize(coarse, (32, 32), interpolation=cv2.INTER_AREA), (SIZE, SIZE))
    assert (
        np.abs(again.astype(int) - coarse).mean() < 0.2 * np.abs(crop.astype(int) - coarse).mean()
    )
    assert (lower_resolution(crop, 32.0, 8.0, 40) != coarse).any(), "compressed"
    assert lower_resolution(crop, 32.0, 40.0, 40) is crop, "already smaller than that"
