# SPDX-License-Identifier: Apache-2.0
"""What annotations and first images show of a sequence's faults, before anything runs over it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from vt_models.datasets.images import image_orientation
from vt_models.datasets.sequence import VideoSequence
from vt_models.errors import DatasetError
from vt_models.video.images import UPRIGHT

SHOWN_FAULTS = 10


class Fault(NamedTuple):
    """Something that cannot be right about a sequence.

    Attributes:
        message: names the sequence or a file of it.
        is_fatal: no tracker can start there, or no number that it gets means anything.
    """

    message: str
    is_fatal: bool


def sequence_faults(sequence: VideoSequence) -> list[Fault]:
    """Say what cannot be right about a sequence, given its boxes and its first image.

    Fractions of the image, corners in place of sizes, and boxes that show nothing of it; an image
    that is turned as its EXIF says, because tools that annotate may show it as it is stored.
    """
    try:
        height, width = sequence.read_frame(0).shape[:2]
    except DatasetError as error:
        return [Fault(str(error), is_fatal=True)]
    faults = []
    orientation = image_orientation(sequence.frames[0])
    if orientation != UPRIGHT:
        message = (
            f"{sequence.name}: {sequence.frames[0].name} is turned as its EXIF says (orientation "
            f"{orientation}); do the boxes belong to the turned image?"
        )
        faults.append(Fault(message, is_fatal=False))
    known = np.flatnonzero(np.isfinite(sequence.boxes).all(axis=1))
    x, y, w, h = sequence.boxes[known].T
    right, bottom = x + w, y + h
    # A target half outside is common; a sequence whose every box is so is a mistake.
    far = (right > width + 0.5 * w) | (bottom > height + 0.5 * h)
    kinds = {
        "has less than a pixel; are these fractions of the image?": (w < 1) & (h < 1),
        "shows nothing of the image": (x >= width) | (y >= height) | (right <= 0) | (bottom <= 0),
        "leaves the image by more than half; are these corners instead of sizes?": far & far.all(),
    }
    for what, where in kinds.items():
        found = known[where]
        if found.size:
            box = ",".join(f"{value:g}" for value in sequence.boxes[found[0]])
            message = (
                f"{sequence.name}: {found.size} of {known.size} boxes, the first in frame "
                f"{found[0] + 1}: {box} in an image of {width}x{height} {what}"
            )
            faults.append(Fault(message, is_fatal=found[0] == 0))
    return faults


def require_usable(
    sequences: Sequence[VideoSequence], *requirements: Callable[[VideoSequence], object]
) -> None:
    """Look at all sequences, so that nothing that can be known before is found after hours.

    What is odd but no reason to stop is said on standard error.

    Args:
        sequences: to be run over.
        requirements: further checks of one sequence; they raise DatasetError.

    Raises:
        DatasetError: sequences that no tracker can be run over; it names all faults.
    """
    fatal: list[str] = []
    count = len(sequences)
    for index in tqdm(range(count), desc="check", unit="seq", leave=False):
        try:
            sequence = sequences[index]
            for require in requirements:
                require(sequence)
            faults = sequence_faults(sequence)
        except DatasetError as error:
            faults = [Fault(str(error), is_fatal=True)]
        fatal += [fault.message for fault in faults if fault.is_fatal][:1]
        for fault in faults:
            if not fault.is_fatal:
                tqdm.write(f"warning: {fault.message}", file=sys.stderr)
    if fatal:
        more = f"; and {len(fatal) - SHOWN_FAULTS} more" if len(fatal) > SHOWN_FAULTS else ""
        raise DatasetError(
            f"{len(fatal)} of {count} sequences cannot be run: {'; '.join(fatal[:SHOWN_FAULTS])}"
            f"{more}. Correct them (`vt-models data` names all faults) or leave them out"
        )
