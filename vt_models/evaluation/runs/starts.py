# SPDX-License-Identifier: Apache-2.0
"""How well the boxes that runs began with fit the true first boxes, where they were not given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vt_models.geometry.boxes import iou

if TYPE_CHECKING:
    from vt_models.datasets.sequence import VideoSequence
    from vt_models.evaluation.runs.runner import Report

FOUND_IOU = 0.5


def start_overlaps(report: Report, sequences: Sequence[VideoSequence]) -> dict[str, Any]:
    """IoU with the true first box, 0 where nothing was found.

    Args:
        report: of runs over `sequences`, in their order.
        sequences: the true first box of each is known.

    Returns:
        {"iou": the mean, "found": the share with an IoU of 0.5 or more, "sequences": {name: IoU}}.
    """
    overlaps = {
        result.name: float(iou(result.boxes[0], sequences[index].boxes[0]))
        for index, result in enumerate(report.results)
    }
    values = np.array(list(overlaps.values()))
    found = float(np.mean(values >= FOUND_IOU))
    return {"iou": float(values.mean()), "found": found, "sequences": overlaps}


def starts_text(starts: Mapping[str, Mapping[str, Any]]) -> str:
    """A sentence a tracker, by its name."""
    return "\n".join(
        f"{name}: first box found in {one['found']:.1%} of the sequences, mean IoU {one['iou']:.3f}"
        for name, one in starts.items()
    )
