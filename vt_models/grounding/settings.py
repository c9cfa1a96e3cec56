# SPDX-License-Identifier: Apache-2.0
"""What can be set about choosing a candidate."""

from __future__ import annotations

from dataclasses import dataclass

from vt_models.settings import check_settings, setting


@dataclass(frozen=True, kw_only=True)
class GroundingSettings:
    """Thresholds and limits of a `Grounder`.

    Raises:
        InputError: a value out of range; the message names it.
    """

    threshold: float | None = setting(
        None,
        "Score below which a candidate does not count; None: the backend's own, because their "
        "scores mean different things.",
        *(0.0, 1.0),
    )
    ambiguity_margin: float = setting(
        0.1,
        "Boxes whose score is within this fraction of the best one's cannot be told apart from it.",
        *(0.0, 1.0),
    )
    nms_iou: float = setting(
        0.5, "Of two boxes that overlap by more than this IoU the better one stays.", 0.0, 1.0
    )
    max_candidates: int = setting(10, "How many candidates are handed on at most.", 1, 100)
    max_text_length: int = setting(1000, "Characters; a longer text is refused.", 1, 10000)
    min_side: float = setting(
        2.0,
        "Pixels; a box that is narrower or lower inside the frame does not count.",
        *(1.0, 1000.0),
    )

    def __post_init__(self) -> None:
        """Check every value."""
        check_settings(self)
