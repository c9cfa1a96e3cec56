# SPDX-License-Identifier: Apache-2.0
"""Start a tracker by the sequence's sentence instead of its first box (`eval --init text`).

The protocol of TNL2K's "tracking by natural language": the sentence is grounded in the first frame,
the best box starts the tracker, and the report scores every frame, the first one included. A
sequence whose target is not found is a miss in all its frames. Nobody is there to be asked, so two
boxes that cannot be told apart are no reason to stop: the better one starts.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vt_models.errors import DatasetError, InputError
from vt_models.evaluation.runs.runner import start_at, start_on_truth
from vt_models.grounding import Grounder, GroundingSettings, create_grounder, list_grounders

if TYPE_CHECKING:
    import argparse

    from vt_models.datasets.sequence import VideoSequence
    from vt_models.evaluation.runs.runner import SingleObjectTracker, Starter
    from vt_models.geometry.boxes import Box


@dataclass
class TextStart:
    """A `Starter` that finds the first box by the sequence's sentence.

    It is sent to processes as its settings; each makes its own grounder when it first needs it.

    Attributes:
        backend: one of `list_grounders()`.
        source: what it loads, see `create_grounder`.
        threshold: a box below it does not start the tracker; None is the backend's own.
        device, threads: see `create_grounder`.
    """

    backend: str
    source: str | None = None
    threshold: float | None = None
    device: str = "auto"
    threads: int = 1
    _grounder: Grounder | None = field(default=None, init=False, repr=False, compare=False)

    def __call__(self, tracker: SingleObjectTracker, sequence: VideoSequence) -> Box | None:
        """Ground the sentence in the first frame and start on the best box.

        Returns:
            That box, x, y, w, h in pixels; None where nothing passed the threshold or the backend
            cannot use the sentence (too long for it), which is said on standard error.

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
            sys.stderr.write(f"{sequence.name} is a miss: {error}\n")
            return None
        if grounding.chosen is None:
            return None
        start_at(tracker, sequence, 0, grounding.chosen.box)
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models eval` that concern the start."""
    add = parser.add_argument
    add(
        "--init",
        default="box",
        choices=("box", "text"),
        help="start on the true box, or on what the sequence's sentence finds; default: box",
    )
    add("--grounder", default="onnx", choices=list_grounders(), help="for --init text")
    add("--grounder-source", help="what it loads, see docs/grounding.md; default: the bundled one")
    add("--grounder-threshold", type=float, help="lowest score that starts; default: its own")


def starter(args: argparse.Namespace) -> Starter:
    """What the options ask for.

    Raises:
        VtModelsError: the grounder cannot be loaded, which is found out before anything runs.
    """
    if args.init == "box":
        return start_on_truth
    start = TextStart(
        args.grounder, args.grounder_source, args.grounder_threshold, args.device, args.threads
    )
    start.load()
    return start
