# SPDX-License-Identifier: Apache-2.0
"""What grounding gives: candidates, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import VtModelsError
from vt_models.geometry.boxes import Box

Frame: TypeAlias = NDArray[np.uint8]
Status: TypeAlias = Literal["found", "nothing", "ambiguous"]


class GroundingCancelledError(VtModelsError):
    """The caller's `cancelled()` turned true before the frame was searched."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A box that may be what the text describes.

    Attributes:
        box: x, y, w, h in pixels of the frame, inside it.
        score: the backend's confidence in [0, 1]; comparable within one backend only.
        label: the words that the box belongs to, as the backend has them; may be empty.
    """

    box: Box
    score: float
    label: str = ""


@dataclass(frozen=True, slots=True)
class Grounding:
    """The answer to one text in one frame.

    Attributes:
        status: "found", "nothing" (no candidate passed the threshold) or "ambiguous" (several
            did, and the best ones cannot be told apart).
        candidates: best first; no two overlap much. Found: the chosen one and then the
            alternatives above the threshold. Ambiguous: those that cannot be told apart. Nothing:
            empty.
        chosen: the first candidate where the status is "found", else None.
        reason: one sentence for an operator, with the numbers that decided.
        backend: name of the backend.
        seconds: what the search took.
        best: the box with the highest score of all, whether it passed or not; None where the
            backend proposed none.
    """

    status: Status
    candidates: tuple[Candidate, ...]
    chosen: Candidate | None
    reason: str
    backend: str
    seconds: float
    best: Candidate | None

    @property
    def best_score(self) -> float:
        """Highest score of any box in the frame, passed or not; 0 where there was none."""
        return 0.0 if self.best is None else self.best.score
