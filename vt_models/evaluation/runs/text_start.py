# SPDX-License-Identifier: Apache-2.0
"""Start a tracker by the sequence's sentence instead of its first box (`eval --init text`).

The protocol of TNL2K's "tracking by natural language": the sentence is grounded in the first frame,
the best box starts the tracker, and the report scores every frame, the first one included. A
sequence whose target is not found is a miss in all its frames. Nobody is there to be asked, so two
boxes that cannot be told apart are no reason to stop: the better one starts.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vt_models.datasets.sequence import VideoSequence
from vt_models.errors import DatasetError, InputError
from vt_models.evaluation.runs.runner import Report, SingleObjectTracker, TextChoice, start_at
from vt_models.geometry.boxes import Box, iou
from vt_models.grounding import Grounder, GroundingSettings, create_grounder

FOUND_IOU = 0.5
_LOG = logging.getLogger(__name__)


@dataclass
class TextStart:
    """A `Starter` that finds the first box by the sequence's sentence.

    It is sent to processes as its settings; each makes its own grounder when it first needs it.

    Attributes:
        backend: one of `list_grounders()`.
        source: what it loads, see `create_grounder`.
        threshold: a box below it does not start the tracker; None is the backend's own.
        device, threads: see `create_grounder`.
        text: what a language model is told when it starts on the box.
    """

    backend: str
    source: str | None = None
    threshold: float | None = None
    device: str = "auto"
    threads: int = 1
    text: TextChoice = "auto"
    _grounder: Grounder | None = field(default=None, init=False, repr=False, compare=False)

    def __call__(self, tracker: SingleObjectTracker, sequence: VideoSequence) -> Box | None:
        """Ground the sentence in the first frame and start on the best box.

        Returns:
            That box, x, y, w, h in pixels; None where nothing passed the threshold or the backend
            cannot use the sentence (too long for it), which is logged.

        Raises:
            DatasetError: the sequence has no sentence, or its first image cannot be read.
            VtModelsError: the backend cannot be loaded, or failed.
        """
        if not sequence.language:
            raise DatasetError(
                f"{sequence.name} has no sentence (language.txt), which --init text starts from"
            )
        try:
            grounding = self.load().find(sequence.read_frame(0), sequence.language)
        except InputError as error:
            _LOG.warning("%s is a miss: %s", sequence.name, error)
            return None
        if grounding.chosen is None:
            return None
        start_at(tracker, sequence, 0, grounding.chosen.box, self.text)
        return grounding.chosen.box

    def load(self) -> Grounder:
        """The grounder, made at the first call; errors as `create_grounder`'s."""
        if self._grounder is None:
            self._grounder = create_grounder(
                self.backend,
                self.source,
                settings=GroundingSettings(threshold=self.threshold, ambiguity_margin=0.0),
                device=self.device,
                threads=self.threads,
            )
        return self._grounder

    def __getstate__(self) -> dict[str, Any]:
        """Without the network."""
        return {**self.__dict__, "_grounder": None}


def start_overlaps(report: Report, sequences: Sequence[VideoSequence]) -> dict[str, Any]:
    """Compare the boxes that runs began with to the true first boxes; IoU 0 where none was found.

    Args:
        report: of runs over `sequences`; some may be missing.
        sequences: the true first box of each is known.

    Returns:
        {"iou": the mean, "found": the share with an IoU of 0.5 or more, "sequences": {name: IoU}}.
    """
    began = {result.name: result.boxes[0] for result in report.results}
    truths = (sequences[index] for index in range(len(sequences)))
    overlaps = {
        one.name: float(iou(began[one.name], one.boxes[0])) for one in truths if one.name in began
    }
    values = np.array(list(overlaps.values()))
    found = float(np.mean(values >= FOUND_IOU))
    return {"iou": float(values.mean()), "found": found, "sequences": overlaps}
