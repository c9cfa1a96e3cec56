# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks score: boxes of a run beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError

Array: TypeAlias = NDArray[np.float64]
Numbers: TypeAlias = dict[str, float]
Scores: TypeAlias = dict[str, "Numbers | dict[str, Numbers]"]
"""{"total": {...}, "sequences": {name: {...}}}"""


@dataclass(frozen=True, eq=False)
class BoxRun:
    """Boxes of one run over one sequence of N frames.

    Attributes:
        name: of the sequence.
        predicted: (N, 4) x, y, w, h in pixels; the first is the box the run began with.
        truth: (N, 4), rows of nan where the target is absent.
        size: width and height of the frames in pixels; None if unknown.
        scores: (N,) confidences; None if unknown.
    """

    name: str
    predicted: Array
    truth: Array
    size: tuple[int, int] | None = None
    scores: Array | None = None

    def __post_init__(self) -> None:
        if self.predicted.shape != self.truth.shape or self.truth.shape[1:] != (4,):
            raise InputError(
                f"{self.name}: predicted {self.predicted.shape} and true {self.truth.shape} boxes; "
                "expected (N, 4) for both"
            )
        if np.isnan(self.truth[:1]).any() or not len(self.truth):
            raise InputError(f"{self.name}: the first frame has no true box")


def check_runs(runs: Sequence[BoxRun]) -> None:
    """Raise InputError for no run, or several of one name."""
    if not runs:
        raise InputError("no run to score")
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise InputError(f"sequences with the same name among {', '.join(names)}")
