# SPDX-License-Identifier: Apache-2.0
"""Losses in runs whose losses are known, and what is drawn of them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vt_models.datasets.folder import FolderDataset
from vt_models.evaluation.reports.failures import (
    PANEL_WIDTH,
    TRACKER_COLOUR,
    TRUTH_COLOUR,
    Failure,
    draw_failure,
    find_failures,
)

ON, OFF = (5.0, 5.0, 10.0, 10.0), (40.0, 30.0, 10.0, 10.0)
ABSENT = (np.nan,) * 4


def found(predicted, truth=None):
    boxes = np.array(predicted)
    true = np.array(truth if truth is not None else [ON] * len(predicted))
    return [(one.frame, one.frames, one.returned) for one in find_failures("s", boxes, true)]


def test_find_failures_returns_losses_in_order():
    assert found([ON, ON, ON]) == []
    assert found([ON, OFF, OFF, ON, OFF]) == [(1, 2, True), (4, 1, False)]


def test_find_failures_touching_boxes_are_no_loss():
    assert found([ON, (14.0, 14.0, 10.0, 10.0), (15.0, 15.0, 10.0, 10.0)]) == [(2, 1, False)]


def test_frames_without_a_target_neither_begin_nor_end_a_loss():
    truth = [ON, ABSENT, ON, ABSENT, ON, ON]
    assert found([ON, OFF, OFF, ON, OFF, ON], truth) == [(2, 2, True)]
    assert found([ON, OFF, ON, OFF, ON, ON], truth) == []


def test_find_failures_nan_box_is_a_loss():
    assert found([ON, ABSENT, ABSENT]) == [(1, 2, False)]


@pytest.fixture
def sequence(tmp_path, write_sequence):
    folder = write_sequence("s", ["5,5,10,10"] * 12)
    for number in range(1, 13):
        grey = np.full((48, 64, 3), 20 * number, np.uint8)
        assert cv2.imwrite(str(folder / "img" / f"{number:06d}.jpg"), grey)
    return FolderDataset(tmp_path)[0]


def panels(data):
    strip = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), 1), cv2.COLOR_BGR2RGB)
    assert strip.shape[0] == round(48 * PANEL_WIDTH / 64)
    return np.split(strip, strip.shape[1] // PANEL_WIDTH, axis=1)


def near(pixel, colour):
    return np.abs(pixel.astype(int) - colour).max() < 60


def test_a_strip_shows_the_frames_around_a_loss_with_both_boxes(sequence):
    predicted = np.array([ON] * 6 + [OFF] * 6)
    shown = panels(draw_failure(Failure("s", 6, 6, False), sequence, predicted))
    # frames 2, 7 and 12 of 12: their grey tells
    assert [round(float(panel[20:40, 200:280].mean()) / 20) for panel in shown] == [2, 7, 12]
    scale = PANEL_WIDTH / 64
    left, top = round(5 * scale), round(10 * scale)
    assert near(shown[1][top, left], TRUTH_COLOUR)
    assert near(shown[0][top, left], TRACKER_COLOUR), "both boxes agree, the tracker's is on top"
    assert near(shown[1][round(35 * scale), round(40 * scale)], TRACKER_COLOUR)


def test_a_loss_at_the_end_has_a_shorter_strip(sequence):
    predicted = np.array([ON] * 11 + [ABSENT])
    assert len(panels(draw_failure(Failure("s", 11, 1, False), sequence, predicted))) == 2
