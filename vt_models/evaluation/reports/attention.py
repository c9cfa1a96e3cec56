# SPDX-License-Identifier: Apache-2.0
"""What networks saw where they tracked worst: images, and what the report's page shows of them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import cv2
import numpy as np

from vt_models.datasets.sequence import VideoSequence
from vt_models.errors import InputError, VtModelsError
from vt_models.evaluation.reports.failures import find_failures
from vt_models.evaluation.runs.runner import (
    Report,
    TextChoice,
    located,
    start_at,
    text_of,
    to_box,
)
from vt_models.explain import Explanation, explain
from vt_models.files import file_name, write_bytes
from vt_models.geometry.boxes import iou
from vt_models.tracker.tracker import Tracker
from vt_models.video.sources import Frame

HOW_TO_READ = (
    "A tracker looks at a square around the last box, the search region; where it is black it "
    "leaves the frame. Each map lies over that square, clear where its value is lowest and red "
    "where it is highest; the bar below says how much that is. The box that was found is white."
)


class Figure(TypedDict):
    """An image of a page.

    Attributes:
        uri: the PNG as a data URI.
        caption: a sentence.
    """

    uri: str
    caption: str


@dataclass(frozen=True, eq=False)
class SeenFrame:
    """What a model saw in one frame of a sequence.

    Attributes:
        model, sequence: names.
        frame: index.
        overlap: IoU of the evaluated run there.
        text: that the model was told; None for none.
        explanation: its maps.
    """

    model: str
    sequence: str
    frame: int
    overlap: float
    text: str | None
    explanation: Explanation

    @property
    def path(self) -> Path:
        """Of the PNG that has all maps, inside the folder of an evaluation."""
        name = f"{file_name(self.sequence)}_frame_{self.frame + 1}.png"
        return Path(self.model) / "attention" / name

    def save(self, directory: Path) -> None:
        """Write the PNG; OSError where that is impossible."""
        write_bytes(directory / self.path, png_bytes(self.explanation.sheet()), parents=True)

    def to_dict(self) -> dict[str, Any]:
        """What is known of it, JSON-serialisable."""
        panels = [{"title": one.title, "caption": one.caption} for one in self.explanation.panels]
        return {
            "model": self.model,
            "sequence": self.sequence,
            "frame": self.frame,
            "overlap": self.overlap,
            "text": self.text,
            "file": str(self.path),
            "panels": panels,
        }


def worst_frames(
    report: Report, sequences: Sequence[VideoSequence], count: int
) -> list[tuple[VideoSequence, int, float]]:
    """Return the sequences of the lowest AO, each with a frame and the IoU there.

    The frame is the first of the first failure, else that of the lowest IoU after the first.
    """
    by_name = {result.name: result.boxes for result in report.results}
    names = sorted(report.overlaps, key=report.overlaps.__getitem__)[:count]
    found = {}
    for index in range(len(sequences)):
        sequence = sequences[index]
        if sequence.name in names:
            boxes = by_name[sequence.name]
            overlaps = np.asarray(iou(boxes, sequence.boxes), np.float64)
            failures = find_failures(sequence.name, boxes, sequence.boxes)
            counted = np.isfinite(sequence.boxes).all(axis=1) & (np.arange(len(overlaps)) > 0)
            lowest = int(np.where(counted, overlaps, np.inf).argmin())
            frame = failures[0].frame if failures else lowest
            found[sequence.name] = (sequence, frame, float(overlaps[frame]))
    return [found[name] for name in names if name in found]


def explain_worst(
    tracker: Tracker,
    report: Report,
    sequences: Sequence[VideoSequence],
    count: int,
    text: TextChoice = "auto",
) -> list[SeenFrame]:
    """Track the worst sequences again up to the frame that counts, and look inside there.

    Args:
        tracker: the evaluated model, of the backend "torch".
        report: its runs over `sequences`, from the true first box on.
        sequences: with the truth.
        count: of sequences, see `worst_frames`.
        text: as it was told in those runs.

    Raises:
        VtModelsError: from the dataset or the tracker, with the sequence and the frame number.
    """
    seen = []
    for sequence, frame, overlap in worst_frames(report, sequences, count):
        words = text_of(tracker, sequence, text)
        index = 0
        try:
            start_at(tracker, sequence, 0, to_box(sequence.boxes[0]), text)
            for index in range(1, frame):
                tracker.update(sequence.read_frame(index))
            index = frame
            found = explain(tracker, sequence.read_frame(frame), words)
        except VtModelsError as error:
            raise located(error, sequence, index) from error
        seen.append(SeenFrame(report.model, sequence.name, frame, overlap, words, found))
    return seen


def figures_of(found: Explanation) -> list[Figure]:
    """Return the maps of an explanation for a page, each with its caption."""
    return [
        figure(image, panel.caption)
        for image, panel in zip(found.images(), found.panels, strict=True)
    ]


def figure(image: Frame, caption: str) -> Figure:
    """Return an (H, W, 3) uint8 RGB image for a page."""
    data = base64.b64encode(png_bytes(image)).decode()
    return {"uri": f"data:image/png;base64,{data}", "caption": caption}


def png_bytes(image: Frame) -> bytes:
    """Encode an (H, W, 3) uint8 RGB image; InputError where it cannot be a PNG."""
    done, data = cv2.imencode(".png", image[..., ::-1])
    if not done:
        raise InputError(f"an image of {image.shape} cannot be a PNG")
    return bytes(data)
