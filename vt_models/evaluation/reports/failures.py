# SPDX-License-Identifier: Apache-2.0
"""Where a tracker lost its target: the frames in which the IoU drops to 0, found and drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.datasets.sequence import VideoSequence
from vt_models.errors import InputError
from vt_models.geometry.boxes import iou

PANEL_WIDTH = 300
AROUND = (-5, 0, 5)
"""Frames of a strip, counted from the failure."""
SMALL_SIDE = 16
"""Pixels of a panel; a smaller box gets a thin line, so that its content can be seen."""
TRUTH_COLOUR, TRACKER_COLOUR = (0, 170, 80), (220, 40, 30)
_JPEG_QUALITY = 80


@dataclass(frozen=True)
class Failure:
    """One loss.

    Attributes:
        sequence: its name.
        frame: index of the first frame with the target there and an IoU of 0.
        frames: how many frames with the target passed before the boxes touched again.
        returned: did they?
    """

    sequence: str
    frame: int
    frames: int
    returned: bool


Strips: TypeAlias = "list[tuple[Failure, str]]"
"""Failures of one tracker, each with its image as a data URI."""


def find_failures(
    name: str, predicted: NDArray[np.float64], truth: NDArray[np.float64]
) -> list[Failure]:
    """All losses of one run, in order; frames without a target neither begin nor end one.

    Args:
        name: of the sequence.
        predicted, truth: (N, 4) x, y, w, h in pixels, true rows of nan where it is absent.
    """
    present = np.flatnonzero(np.isfinite(truth).all(axis=1))
    touching = np.asarray(iou(predicted[present], truth[present])) > 0
    found = []
    start = None
    for position, touches in enumerate([*touching, None]):
        if touches is not None and not touches and start is None:
            start = position
        elif start is not None and (touches is None or touches):
            count = position - start
            found.append(Failure(name, int(present[start]), count, touches is not None))
            start = None
    return found


def draw_failure(
    failure: Failure, sequence: VideoSequence, predicted: NDArray[np.float64]
) -> bytes:
    """A strip of frames around a failure as a JPEG; truth green, tracker red.

    Raises:
        DatasetError: an unreadable image.
    """
    last = len(sequence) - 1
    indices = sorted({min(max(failure.frame + step, 0), last) for step in AROUND})
    panels = [_panel(sequence, index, predicted[index]) for index in indices]
    height = min(panel.shape[0] for panel in panels)
    strip = np.hstack([panel[:height] for panel in panels])
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(strip, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY)
    )
    if not done:
        raise InputError(f"{failure.sequence}: a strip of {strip.shape} cannot be a JPEG")
    return bytes(data)


def _panel(
    sequence: VideoSequence, index: int, predicted: NDArray[np.float64]
) -> NDArray[np.uint8]:
    frame = sequence.read_frame(index)
    scale = PANEL_WIDTH / frame.shape[1]
    height = max(round(frame.shape[0] * scale), 1)
    panel = cv2.resize(frame, (PANEL_WIDTH, height), interpolation=cv2.INTER_AREA)
    _draw_box(panel, sequence.boxes[index] * scale, TRUTH_COLOUR)
    _draw_box(panel, predicted * scale, TRACKER_COLOUR)
    label, font = str(index + 1), cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(panel, label, (6, height - 8), font, 0.5, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(panel, label, (6, height - 8), font, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    panel[:, -2:] = 255
    return np.asarray(panel, np.uint8)


def _draw_box(
    panel: NDArray[np.uint8], box: NDArray[np.float64], colour: tuple[int, int, int]
) -> None:
    if not np.isfinite(box).all():
        return
    x1, y1, x2, y2 = np.clip(
        np.round((*box[:2], *(box[:2] + box[2:]))), -10 * PANEL_WIDTH, 10 * PANEL_WIDTH
    ).astype(int)
    thickness = 2 if min(x2 - x1, y2 - y1) >= SMALL_SIDE else 1
    cv2.rectangle(panel, (int(x1), int(y1)), (int(x2), int(y2)), colour, thickness)
