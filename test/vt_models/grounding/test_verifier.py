# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vt_models.errors import InputError
from vt_models.grounding import Grounder, text_verifier

FRAME = np.zeros((100, 200, 3), np.uint8)
LEFT, RIGHT = (10.0, 10.0, 20.0, 30.0), (150.0, 10.0, 20.0, 30.0)


def test_a_box_must_overlap_what_the_text_finds(fake: Any) -> None:
    verify = text_verifier(Grounder(fake((LEFT, 0.9), (RIGHT, 0.1))), " the\ncar")
    assert verify(FRAME, (12.0, 12.0, 20.0, 30.0))
    assert not verify(FRAME, RIGHT)
    assert not verify(FRAME, (10.0, 10.0, 100.0, 80.0))


def test_text_verifier_one_of_several_candidates_suffices(fake: Any) -> None:
    verify = text_verifier(Grounder(fake((LEFT, 0.9), (RIGHT, 0.89))), "the car")
    assert verify(FRAME, LEFT)
    assert verify(FRAME, RIGHT)


def test_text_verifier_nothing_found_is_false(fake: Any) -> None:
    assert not text_verifier(Grounder(fake((LEFT, 0.1))), "the car")(FRAME, LEFT)


def test_a_bad_text_is_refused_at_once(fake: Any) -> None:
    with pytest.raises(InputError, match="no word"):
        text_verifier(Grounder(fake()), "  ")
