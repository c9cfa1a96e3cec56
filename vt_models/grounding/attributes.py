# SPDX-License-Identifier: Apache-2.0
"""What a detector that knows names only cannot read in a description, judged by rules.

It finds every car for "car". What tells the "white car on the left" from the others is in the frame
already: where a box is, how large, and which colours are in it. Words of these three kinds lower
the scores of the candidates that fit them less. What is said beside the name ("riding the wave")
would only hide the name from such a detector, so it is asked for the name alone (`description`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vt_models.geometry.boxes import Box
from vt_models.grounding.colours import colour_shares
from vt_models.grounding.description import attributes_of
from vt_models.grounding.results import Candidate, Frame

LEAST = 0.4
"""This share of a candidate's score is left if an attribute does not fit at all. An attribute alone
must not make anything of what hardly resembles the thing."""
PLAUSIBLE = 0.5
"""Candidates with this part of the best score set the measure: what is leftmost is leftmost among
these."""
SIDE_RANGE = 0.2
"""So far from the outermost candidate, in parts of the frame, nothing is on its side any more."""
SIZE_RANGE = 1.0
"""At this logarithm of the ratio of areas (2.7 times) nothing is as large or small any more."""
COLOUR_FILLS = 0.3
"""An object's colour fills this share of its middle; windows, wheels and shadows have another."""
COLOUR_MIDDLE = 0.7


def weigh(candidates: Sequence[Candidate], text: str, frame: Frame) -> list[Candidate]:
    """Candidates with the scores that the attributes of a description leave them.

    Args:
        candidates: boxes in pixels of the frame, scores in [0, 1].
        text: the description.
        frame: (H, W, 3) uint8 RGB.

    Returns:
        The same candidates in the same order; as they were if the text has no attribute.
    """
    said = attributes_of(text)
    if not candidates or not said:
        return list(candidates)
    best = max(candidate.score for candidate in candidates)
    plausible = np.array([item.score >= PLAUSIBLE * best for item in candidates])
    fits = np.ones(len(candidates))
    for side in said.sides:
        away = np.array([_from_side(item.box, side, frame.shape) for item in candidates])
        fits *= _fit(away - away[plausible].min(), SIDE_RANGE)
    for size in said.sizes:
        area = np.log([max(item.box[2] * item.box[3], 1e-6) for item in candidates])
        away = -area if size == "large" else area
        fits *= _fit(away - away[plausible].min(), SIZE_RANGE)
    if said.colours:
        found = [colour_shares(frame, item.box, COLOUR_MIDDLE) for item in candidates]
        share = np.array([sum(shares[name] for name in said.colours) for shares in found])
        fits *= _fit(1.0 - share / COLOUR_FILLS, 1.0)
    return [
        Candidate(item.box, item.score * float(fit), item.label)
        for item, fit in zip(candidates, fits, strict=True)
    ]


def _fit(away: np.ndarray, most: float) -> np.ndarray:
    """1 where nothing is amiss, down to `LEAST` where `most` or more is."""
    amiss: np.ndarray = np.clip(away / most, 0.0, 1.0)
    return 1.0 - (1.0 - LEAST) * amiss


def _from_side(box: Box, side: str, shape: tuple[int, ...]) -> float:
    """How far a box is from a side, or from the middle, of the frame; a part of its length."""
    x, y = (box[0] + 0.5 * box[2]) / shape[1], (box[1] + 0.5 * box[3]) / shape[0]
    distance: dict[str, Callable[[], float]] = {
        "left": lambda: x,
        "right": lambda: 1.0 - x,
        "top": lambda: y,
        "bottom": lambda: 1.0 - y,
        "middle": lambda: max(abs(x - 0.5), abs(y - 0.5)),
    }
    return distance[side]()
