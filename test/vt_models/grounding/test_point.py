# SPDX-License-Identifier: Apache-2.0
"""The thing at a point: the box in whose middle it lies, of the part of the frame that shows it."""

from __future__ import annotations

import numpy as np
import pytest

from vt_models.errors import InputError
from vt_models.grounding import Candidate, GroundingCancelledError
from vt_models.grounding.description import ANYTHING
from vt_models.grounding.point import AT_THE_EDGE, LEAST_SCORE, ZOOMS, thing_at

HEIGHT, WIDTH = 240, 320


class Squares:
    """Finds every white rectangle of at least `least` of what it is shown, as the thing it is."""

    name, default_threshold, names_only = "squares", 0.3, True

    def __init__(self, boxes: list[tuple[int, int, int, int]], least: float = 0.0) -> None:
        self.frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for number, (x, y, w, h) in enumerate(boxes):
            self.frame[y : y + h, x : x + w] = number + 1
        self.boxes, self.least = boxes, least
        self.shown: list[tuple[int, ...]] = []

    def detect(self, frame, text, _cancelled):
        assert text == ANYTHING
        self.shown.append(frame.shape[:2])
        found = []
        for number in range(len(self.boxes)):
            rows, columns = np.nonzero(frame[..., 0] == number + 1)
            if len(rows) == 0 or len(rows) < self.least * frame.shape[0] * frame.shape[1]:
                continue
            x, y = float(columns.min()), float(rows.min())
            box = (x, y, float(columns.max() + 1 - x), float(rows.max() + 1 - y))
            found.append(Candidate(box, 0.6, text))
        return found


def at(detector: Squares, x: float, y: float):
    return thing_at(detector, detector.frame, (x, y), lambda: False)


def test_the_box_around_the_point_is_found() -> None:
    detector = Squares([(40, 50, 60, 40), (200, 100, 50, 80)])
    found = at(detector, 225.0, 140.0)
    assert found.box == (200.0, 100.0, 50.0, 80.0)
    assert found.score == 0.6
    assert at(detector, 150.0, 20.0) is None


def test_of_two_boxes_the_one_with_the_point_in_its_middle() -> None:
    detector = Squares([(100, 60, 60, 60), (160, 60, 60, 60)])
    detector.boxes = [(100, 60, 60, 60), (160, 60, 60, 60)]
    assert at(detector, 135.0, 90.0).box[0] == 100.0
    assert at(detector, 190.0, 90.0).box[0] == 160.0


def test_small_things_are_seen_from_nearer() -> None:
    small = Squares([(150, 110, 12, 12)], least=0.01)
    assert at(small, 156.0, 116.0).box == (150.0, 110.0, 12.0, 12.0)
    assert small.shown == [(round(HEIGHT / zoom), round(WIDTH / zoom)) for zoom in ZOOMS]


@pytest.mark.parametrize("point", [(2.0, 2.0), (318.0, 238.0), (0.0, 240.0)])
def test_parts_stay_inside_the_frame(point: tuple[float, float]) -> None:
    detector = Squares([(0, 0, 8, 8), (312, 232, 8, 8)])
    found = at(detector, *point)
    assert len(set(detector.shown)) == len(ZOOMS)
    if point != (0.0, 240.0):
        assert found.box[2:] == (8.0, 8.0)


def test_a_thing_that_goes_on_behind_a_part_is_taken_from_the_whole() -> None:
    """From nearer the box would end where the part does."""
    large = Squares([(60, 40, 200, 160)])
    assert at(large, 160.0, 120.0).box == (60.0, 40.0, 200.0, 160.0)


def test_the_edge_of_a_box_counts_less_than_its_middle() -> None:
    class Two(Squares):
        def detect(self, frame, text, _cancelled):
            if frame.shape[0] != HEIGHT:
                return []
            wide = Candidate((100.0, 100.0, 100.0, 20.0), 0.6, text)
            return [wide, Candidate((98.0, 105.0, 10.0, 10.0), 0.6 * AT_THE_EDGE + 0.1, text)]

    assert at(Two([]), 103.0, 110.0).box[2] == 10.0
    assert at(Two([]), 150.0, 110.0).box[2] == 100.0


@pytest.mark.parametrize("point", [(-1.0, 5.0), (5.0, 241.0), (float("nan"), 5.0)])
def test_a_point_outside_is_named(point: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="outside the 320x240 frame"):
        at(Squares([]), *point)


def test_box_at_point_ends_when_cancelled() -> None:
    detector = Squares([])
    with pytest.raises(GroundingCancelledError):
        thing_at(detector, detector.frame, (5.0, 5.0), lambda: True)
    assert detector.shown == []


def test_box_at_point_searches_a_tiny_frame_once() -> None:
    detector = Squares([])
    assert thing_at(detector, detector.frame[:40, :40], (20.0, 20.0), lambda: False) is None
    assert len(detector.shown) == 1


def test_thing_at_point_with_a_low_score_is_none() -> None:
    class Unsure(Squares):
        score = LEAST_SCORE

        def detect(self, frame, text, cancelled):
            found = super().detect(frame, text, cancelled)
            return [Candidate(item.box, self.score, item.label) for item in found]

    detector = Unsure([(40, 50, 60, 40)])
    assert at(detector, 70.0, 70.0).box == (40.0, 50.0, 60.0, 40.0)
    detector.score = LEAST_SCORE - 0.01
    assert at(detector, 70.0, 70.0) is None
