# SPDX-License-Identifier: Apache-2.0
"""Attributes of sequences that were made to have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vt_models.datasets.sequence import VideoSequence
from vt_models.evaluation.metrics.attributes import box_attributes, sequence_attributes

START = (100.0, 100.0, 40.0, 40.0)
ABSENT = (np.nan,) * 4


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ((110.0, 90.0, 40.0, 40.0), ()),
        # 40 px to the side is one mean side: not more than that
        ((140.0, 100.0, 40.0, 40.0), ()),
        ((141.0, 100.0, 40.0, 40.0), ("fast motion",)),
        # the same centre and area, 2 : 1 is the limit
        ((100.0, 100.0, 56.0, 28.0), ()),
        ((90.0, 106.0, 60.0, 28.0), ("aspect ratio change",)),
        ((106.0, 90.0, 28.0, 60.0), ("aspect ratio change",)),
        # twice the area is the limit
        ((92.0, 92.0, 56.0, 56.0), ()),
        ((91.0, 91.0, 58.0, 58.0), ("scale variation",)),
        # 32 x 32 is above 1000 pixels and above half of 40 x 40
        ((104.0, 104.0, 32.0, 32.0), ()),
        ((105.0, 105.0, 31.0, 31.0), ("low resolution",)),
        ((108.0, 108.0, 24.0, 24.0), ("low resolution", "scale variation")),
        (ABSENT, ("absent",)),
    ],
)
def test_attributes_begin_where_lasot_says(second, expected):
    assert box_attributes(np.array((START, second, START))) == expected


def test_a_jump_across_an_absence_is_no_fast_motion():
    boxes = np.array((START, ABSENT, (200.0, 100.0, 40.0, 40.0)))
    assert box_attributes(boxes) == ("absent",)


def test_sequence_attributes_of_the_dataset_replace_computed_ones():
    sequence = VideoSequence("s", (Path("1.jpg"),) * 2, np.array((START, START)))
    assert sequence_attributes(sequence) == ()
    boxes = np.array((START, (300.0, 100.0, 40.0, 40.0)))
    named = VideoSequence("s", (Path("1.jpg"),) * 2, boxes, attributes=("motion blur",))
    assert sequence_attributes(named) == ("motion blur",)
