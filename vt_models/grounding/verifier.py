# SPDX-License-Identifier: Apache-2.0
"""Text as a judge of what was found again."""

from __future__ import annotations

from collections.abc import Callable

from vt_models.geometry.boxes import Box, iou
from vt_models.grounding.grounder import Frame, Grounder
from vt_models.grounding.text import check_text


def text_verifier(
    grounder: Grounder, text: str, min_iou: float = 0.5
) -> Callable[[Frame, Box], bool]:
    """Make a verifier for `create_long_term_tracker`: does the text describe what is in the box?

    It is asked for a lost target's return only, and grounds the text in the whole frame each time:
    the frame that asks takes as long as `grounder` does.

    Args:
        grounder: finds the text.
        text: a description of the target.
        min_iou: overlap of the box with a candidate above the threshold; being one of several
            that cannot be told apart is enough, since the tracker knows the target's looks.

    Returns:
        f(frame (H, W, 3) uint8 RGB, box x, y, w, h in pixels) -> bool; it raises BackendError.

    Raises:
        InputError: the text cannot be used.
    """
    words = check_text(text, grounder.settings.max_text_length)

    def describes(frame: Frame, box: Box) -> bool:
        candidates = grounder.find(frame, words).candidates
        return any(float(iou(candidate.box, box)) >= min_iou for candidate in candidates)

    return describes
