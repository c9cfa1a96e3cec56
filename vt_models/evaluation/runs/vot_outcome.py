# SPDX-License-Identifier: Apache-2.0
"""VOT short-term runs of several trackers, their scores, result files and page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vt_models.datasets.sequence import VideoSequence
from vt_models.errors import InputError
from vt_models.evaluation.metrics.vot import EAO_RANGE, anchored_curve, anchored_scores
from vt_models.evaluation.reports.comparison import beside_first
from vt_models.evaluation.reports.report import write_page
from vt_models.evaluation.reports.result_files import write_anchored
from vt_models.evaluation.reports.tables import (
    errors_section,
    real_time_section,
    table,
    vot_totals,
)
from vt_models.evaluation.runs.resume import RunOptions, resumable
from vt_models.evaluation.runs.run_errors import RunError, errors_as_json, run_trackers
from vt_models.evaluation.runs.runner import TextChoice
from vt_models.evaluation.runs.streaming import Streaming
from vt_models.evaluation.runs.trackers import EvaluatedTracker
from vt_models.evaluation.runs.vot_runs import REALTIME_GRACE, AnchorRuns, run_anchored

PROTOCOL = "vot"


@dataclass(frozen=True, eq=False)
class VotOutcome:
    """Results of all trackers over the same sequences.

    Attributes:
        eao_range: lengths in frames, both included.
        results: one a sequence, by tracker; the first is the model in question.
        errors: of the runs that are missing there.
        streams: how the frames came, by tracker; empty where every frame was handed over.
    """

    eao_range: tuple[int, int]
    results: Mapping[str, Sequence[AnchorRuns]]
    errors: Sequence[RunError] = ()
    streams: Mapping[str, Streaming] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """{"model", "protocol", "eao_range", "total", "sequences"}, with others `beside_first`."""
        return {**beside_first(self._trackers()), **errors_as_json(self.errors)}

    def to_text(self) -> str:
        """Tables for the terminal."""
        trackers = self._trackers()
        keys = list(next(iter(trackers[0]["sequences"].values())))
        tables = [table(one["model"], keys, one["sequences"].items()) for one in trackers]
        notes = {**real_time_section(trackers), **errors_section(errors_as_json(self.errors))}
        said = [part for parts in notes.values() for part in parts]
        return "\n\n".join(map(str, (*tables, vot_totals(trackers), *said)))

    def save(self, directory: Path, about: Mapping[str, Any]) -> list[str]:
        """Write result files, `report.json` and the page; what to open, a line each."""
        lines, length = [], self.eao_range[1] + 1
        for name, found in self.results.items():
            path = write_anchored(found, name, directory / PROTOCOL)
            lines.append(f"result files: {path}")
        data = {
            "about": dict(about),
            "protocol": PROTOCOL,
            "eao_range": list(self.eao_range),
            "frames": {
                one.name: len(one.truth) for found in self.results.values() for one in found
            },
            **errors_as_json(self.errors),
            "trackers": [
                {**one, "curve": anchored_curve(self.results[one["model"]], length).tolist()}
                for one in self._trackers()
            ],
        }
        path = write_page(directory, data)
        return [*lines, f"report: {path}"]

    def _trackers(self) -> list[dict[str, Any]]:
        about = {"protocol": PROTOCOL, "eao_range": list(self.eao_range)}
        return [
            {
                "model": name,
                **about,
                **({"stream": self._stream(name)} if name in self.streams else {}),
                **anchored_scores(found, self.eao_range),
            }
            for name, found in self.results.items()
        ]

    def _stream(self, name: str) -> dict[str, Any]:
        """How the frames came to a tracker, and how many of them it looked at, how fast."""
        steps = np.concatenate([run.seconds[1:] for one in self.results[name] for run in one.runs])
        seen = steps[steps > 0]
        return {
            **real_time_settings(self.streams[name]),
            "processed": len(seen) / len(steps),
            "ms_per_frame": 1e3 * float(seen.mean()) if len(seen) else 0.0,
        }


def real_time_settings(stream: Streaming) -> dict[str, Any]:
    """What decides the boxes of VOT's real-time experiment, JSON-serialisable."""
    return {**stream.settings, "grace": REALTIME_GRACE}


def run_vot(
    trackers: Sequence[EvaluatedTracker],
    sequences: Sequence[VideoSequence],
    options: RunOptions,
    eao_range: tuple[int, int] | None = None,
    text: TextChoice = "auto",
    streams: Mapping[str, Streaming] | None = None,
) -> VotOutcome:
    """Run every tracker over every sequence as VOT does; see `run_trackers` for errors.

    Args:
        trackers: one or more.
        sequences: the videos.
        options: in how many processes, and where results are kept.
        eao_range: lengths in frames over which the curve is averaged; default: `EAO_RANGE`.
        text: what language models are told.
        streams: how the frames come, by every tracker's name; None hands every frame over.

    Raises:
        InputError: all sequences are too short for the EAO.
        VtModelsError: what the dataset or a tracker raises, where nothing was finished.
    """
    low, high = eao_range or EAO_RANGE
    longest = max(len(sequences[index]) for index in range(len(sequences)))
    if longest <= low:
        raise InputError(
            f"the longest sequence has {longest} frames; an EAO over {low} to {high} needs more: "
            "give a shorter --eao-range"
        )

    streams = streams or {}

    def run_of(tracker: EvaluatedTracker) -> Callable[..., AnchorRuns]:
        stream = streams.get(tracker.name)
        settings: dict[str, Any] = {"protocol": PROTOCOL, "text": text}
        if stream is not None:
            settings["stream"] = real_time_settings(stream)
        anchored = partial(run_anchored, text=text, stream=stream)
        return resumable(anchored, AnchorRuns, tracker, sequences, settings, options)

    results, errors = run_trackers(trackers, sequences, run_of, options.jobs)
    return VotOutcome((low, high), results, errors, streams)
