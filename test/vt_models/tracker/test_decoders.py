# SPDX-License-Identifier: Apache-2.0
"""Decoders against calculations by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vt_models import get_spec
from vt_models.geometry.boxes import crop_window
from vt_models.tracker.decoders import Decoder, box_covariance

BOX = (120.0, 90.0, 40.0, 30.0)
DENSE_SPEC = get_spec("asymtrack_lite0")


def dense_answer(row, column, box, score=0.9, cells=16):
    score_map = np.zeros((1, cells, cells), np.float32)
    score_map[0, row, column] = score
    box_map = np.full((1, 4, cells, cells), 0.01, np.float32)
    box_map[0, :, row, column] = box
    return score_map, box_map


def plain(**changes):
    """The dense specification without window, smoothing and penalty, but for `changes`."""
    values = {"window_influence": 0.0, "size_smoothing": 0.0, "scale_penalty": 0.0, **changes}
    return dataclasses.replace(DENSE_SPEC, **values)


WINDOW = crop_window(BOX, 4.0)


def decode(spec, answer, previous=BOX):
    return Decoder(spec)(answer, WINDOW, previous)


def test_dense_decoder_without_prior_terms_equals_a_calculation_by_hand() -> None:
    found = decode(plain(), dense_answer(3, 12, (0.75, 0.25, 0.4, 0.1)))
    cx, cy = WINDOW.x1 + 0.75 * WINDOW.side, WINDOW.y1 + 0.25 * WINDOW.side
    w, h = 0.4 * WINDOW.side, 0.1 * WINDOW.side
    np.testing.assert_allclose(found.box, (cx - w / 2, cy - h / 2, w, h), rtol=1e-6)
    assert found.score == pytest.approx(0.9)


def test_dense_decoder_window_prefers_the_centre_and_keeps_the_raw_score() -> None:
    score_map, box_map = dense_answer(1, 1, (0.1, 0.1, 0.2, 0.2), 0.9)
    score_map[0, 8, 8], box_map[0, :, 8, 8] = 0.7, (0.5, 0.5, 0.3, 0.3)
    assert decode(plain(), (score_map, box_map)).score == pytest.approx(0.9)
    assert decode(plain(window_influence=0.5), (score_map, box_map)).score == pytest.approx(0.7)


def test_dense_decoder_size_follows_at_the_rate_of_the_score() -> None:
    answer = dense_answer(8, 8, (0.5, 0.5, 0.4, 0.2), 0.5)
    found = decode(plain(size_smoothing=0.6), answer)
    rate = 0.6 * 0.5
    assert found.box[2] == pytest.approx(40.0 + rate * (0.4 * WINDOW.side - 40.0), rel=1e-6)
    assert found.box[3] == pytest.approx(30.0 + rate * (0.2 * WINDOW.side - 30.0), rel=1e-6)
    centre = found.box[0] + found.box[2] / 2
    assert centre == pytest.approx(WINDOW.x1 + 0.5 * WINDOW.side)


def test_dense_decoder_penalty_prefers_an_unchanged_shape() -> None:
    same = (BOX[2] / WINDOW.side, BOX[3] / WINDOW.side)
    score_map, box_map = dense_answer(8, 4, (0.3, 0.5, 3 * same[0], same[1]), 0.8)
    score_map[0, 8, 8], box_map[0, :, 8, 8] = 0.75, (0.5, 0.5, *same)
    assert decode(plain(), (score_map, box_map)).score == pytest.approx(0.8)
    assert decode(plain(scale_penalty=0.1), (score_map, box_map)).score == pytest.approx(0.75)


def test_dense_decoder_size_correction_applies_to_box_penalty_and_covariance() -> None:
    score_map, box_map = dense_answer(8, 8, (0.5, 0.5, 0.4, 0.2), 0.8)
    score_map[0, 8, 9], box_map[0, :, 8, 9] = 0.7, (0.5, 0.5, 0.6, 0.2)
    spec = plain(scale_penalty=0.1)
    previous = (*BOX[:2], 0.8 * 0.4 * WINDOW.side, 1.1 * 0.2 * WINDOW.side)
    uncorrected = decode(spec, (score_map, box_map))
    corrected = Decoder(spec)((score_map, box_map), WINDOW, previous, size_correction=(0.8, 1.1))
    assert corrected.box[2] == pytest.approx(0.8 * uncorrected.box[2])
    assert corrected.box[3] == pytest.approx(1.1 * uncorrected.box[3])
    assert corrected.covariance[2, 2] == pytest.approx(0.64 * uncorrected.covariance[2, 2])
    # A cell of exactly the previous size, once corrected, pays nothing; the other one does.
    ranking = Decoder(spec)._ranking(
        score_map[0], box_map[0], WINDOW, (previous[2] / 0.8, previous[3] / 1.1)
    )
    assert ranking[8, 8] == pytest.approx(0.8, rel=1e-5)
    assert ranking[8, 9] < 0.68


def test_scale_penalty_of_the_previous_shape_is_one() -> None:
    box_map = np.zeros((4, 1, 1), np.float32)
    box_map[2:, 0, 0] = BOX[2] / WINDOW.side, BOX[3] / WINDOW.side
    factors = Decoder(plain(scale_penalty=0.1))._scale_penalty(box_map, WINDOW, BOX[2:])
    np.testing.assert_allclose(factors, 1.0, atol=1e-6)


def maps() -> tuple[np.ndarray, np.ndarray]:
    score_map = np.zeros((16, 16), np.float32)
    score_map[8, 8], score_map[8, 9], score_map[0, 0] = 1.0, 0.75, 1.0
    box_map = np.full((4, 16, 16), 0.25, np.float32)
    box_map[0, 8, 9] = 0.35
    box_map[2, 0, 0] = 0.9
    return score_map, box_map


def test_box_covariance_weighs_the_good_cells_nearby() -> None:
    covariance = box_covariance(*maps(), 8, 8, 100.0)
    expected = np.zeros((4, 4))
    expected[0, 0] = 100.0 * 0.25 / 0.75
    np.testing.assert_allclose(covariance, expected, atol=1e-3)


def test_box_covariance_of_maps_that_are_not_finite_is_zero() -> None:
    score_map, box_map = maps()
    box_map[1, 8, 9] = np.nan
    assert not box_covariance(score_map, box_map, 8, 8, 100.0).any()
    assert not box_covariance(np.zeros_like(score_map), box_map, 8, 8, 100.0).any()
