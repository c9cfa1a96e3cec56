# SPDX-License-Identifier: Apache-2.0
"""`vt-models eval --long-term`: a model alone and in the long-term tracker, on the same videos."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vt_models.datasets.sequence import VideoSequence
from vt_models.evaluation.calibration import (
    RIGHT_IOU,
    expected_calibration_error,
    reliability,
)
from vt_models.evaluation.longterm.metrics import (
    Run,
    ShortTermAdapter,
    TimedSequence,
    events,
    run_clips,
    summary,
)
from vt_models.evaluation.reports.report import missing_extra_is_said
from vt_models.files import write_text
from vt_models.longterm import State, create_long_term_tracker
from vt_models.tracker.tracker import Tracker


@dataclass(frozen=True, eq=False)
class LongTermReport:
    """Both runs of a model.

    Attributes:
        model: its name.
        long_term: runs of the long-term tracker.
        short_term: runs of the tracker alone.
    """

    model: str
    long_term: list[Run]
    short_term: list[Run]

    def to_dict(self) -> dict[str, Any]:
        """Return long_term, short_term, departures and calibration, JSON-serialisable.

        The calibration counts the frames in which the long-term tracker measured (TRACKING or
        UNCERTAIN). "keeper" and "bare", earlier names of the first two, go with release 0.2.
        """
        confidence, right = self._measured()
        error = expected_calibration_error(confidence, right) if len(confidence) else None
        return {
            "long_term": summary(self.long_term),
            "short_term": summary(self.short_term),
            "keeper": summary(self.long_term),
            "bare": summary(self.short_term),
            "departures": events(self.long_term),
            "calibration": {
                "ece": error,
                "frames": len(confidence),
                "reliability": reliability(confidence, right),
            },
        }

    def save(self, directory: Path) -> None:
        """Write `longterm.json` and, with the extra `report`, the diagram `reliability.png`."""
        about = self.to_dict()
        write_text(directory / "longterm.json", json.dumps(about, indent=2) + "\n", parents=True)
        found = about["calibration"]
        with missing_extra_is_said("reliability.png"):
            from vt_models.evaluation.reports.plots import (  # noqa: PLC0415 - needs the extra
                save_reliability,
            )

            title, error = f"{self.model}: reliability", found["ece"] or 0.0
            save_reliability(directory / "reliability.png", title, error, found["reliability"])

    def _measured(self) -> tuple[np.ndarray, np.ndarray]:
        """Confidence of the measured frames, and whether the box was right."""
        scores = np.concatenate([run.scores[1:] for run in self.long_term])
        overlaps = np.concatenate([run.overlaps[1:] for run in self.long_term])
        states = np.concatenate([run.states[1:] for run in self.long_term])
        measured = np.isin(states, (State.TRACKING, State.UNCERTAIN))
        return scores[measured], (overlaps[measured] >= RIGHT_IOU).astype(np.float64)


def long_term_report(
    factory: Callable[[], Tracker], sequences: Sequence[VideoSequence], model: str
) -> LongTermReport:
    """Run the long-term tracker and the short-term tracker; frames are taken to be 1/30 s apart."""
    clips = [TimedSequence(sequence) for sequence in sequences]
    long_term = run_clips(
        lambda: create_long_term_tracker(factory()), clips, name=f"{model}, long term"
    )
    short_term = run_clips(lambda: ShortTermAdapter(factory()), clips, name=f"{model}, short term")
    return LongTermReport(model, long_term, short_term)
