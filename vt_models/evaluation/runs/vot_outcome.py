# SPDX-License-Identifier: Apache-2.0
"""VOT short-term runs of several trackers, their scores, result files and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vt_models.datasets.sequence import VideoSequence
from vt_models.errors import InputError
from vt_models.evaluation.metrics.vot import EAO_RANGE, anchored_curve, anchored_scores
from vt_models.evaluation.reports.comparison import beside_first
from vt_models.evaluation.reports.page import vot_page
from vt_models.evaluation.reports.report import write_page
from vt_models.evaluation.reports.result_files import write_anchored
from vt_models.evaluation.reports.tables import table
from vt_models.evaluation.runs.parallel import run_all
from vt_models.evaluation.runs.resume import RunOptions, resumable
from vt_models.evaluation.runs.trackers import EvaluatedTracker
from vt_models.evaluation.runs.vot_runs import AnchorRuns, run_anchored

PROTOCOL = "vot"


@dataclass(frozen=True, eq=False)
class VotOutcome:
    """Results of all trackers over the same sequences.

    Attributes:
        eao_range: lengths in frames, both included.
        results: one a sequence, by tracker; the first is the model in question.
    """

    eao_range: tuple[int, int]
    results: Mapping[str, Sequence[AnchorRuns]]

    def to_dict(self) -> dict[str, Any]:
        """{"model", "protocol", "eao_range", "total", "sequences"}, with others `beside_first`."""
        return beside_first(self._trackers())

    def to_text(self) -> str:
        """Tables for the terminal."""
        trackers = self._trackers()
        columns = {key: key for key in trackers[0]["total"]}
        own = {key: key for key in next(iter(trackers[0]["sequences"].values()))}
        parts = [
            table(tracker["model"], own, list(tracker["sequences"].items())) for tracker in trackers
        ]
        low, high = self.eao_range
        totals = [(tracker["model"], tracker["total"]) for tracker in trackers]
        return "\n\n".join([*parts, table(f"{PROTOCOL}, {low}:{high}", columns, totals)])

    def save(self, directory: Path, about: Mapping[str, Any]) -> list[str]:
        """Write result files, `report.json` and the page; what to open, a line each."""
        lines = []
        for name, found in self.results.items():
            path = write_anchored(found, name, directory / PROTOCOL)
            lines.append(f"result files: {path}")
        curves = {
            name: anchored_curve(found, self.eao_range[1] + 1).tolist()
            for name, found in self.results.items()
        }
        data = {
            "about": dict(about),
            "protocol": PROTOCOL,
            "eao_range": list(self.eao_range),
            "frames": {one.name: len(one.truth) for one in next(iter(self.results.values()))},
            "trackers": [{**one, "curve": curves[one["model"]]} for one in self._trackers()],
        }
        path = write_page(directory, data, lambda: vot_page(data))
        return [*lines, f"report: {path}"]

    def _trackers(self) -> list[dict[str, Any]]:
        about = {"protocol": PROTOCOL, "eao_range": list(self.eao_range)}
        return [
            {"model": name, **about, **anchored_scores(found, self.eao_range)}
            for name, found in self.results.items()
        ]


def run_vot(
    trackers: Sequence[EvaluatedTracker],
    sequences: Sequence[VideoSequence],
    options: RunOptions,
    eao_range: tuple[int, int] | None = None,
) -> VotOutcome:
    """Run every tracker over every sequence as VOT does.

    Args:
        trackers: one or more.
        sequences: the videos.
        options: in how many processes, and where results are kept.
        eao_range: lengths in frames over which the curve is averaged; default: `EAO_RANGE`.

    Raises:
        InputError: all sequences are too short for the EAO.
        VtModelsError: what the dataset or a tracker raises.
    """
    low, high = eao_range or EAO_RANGE
    longest = max(len(sequences[index]) for index in range(len(sequences)))
    if longest <= low:
        raise InputError(
            f"the longest sequence has {longest} frames; an EAO over {low} to {high} needs more: "
            "give a shorter --eao-range"
        )
    results = {}
    for tracker in trackers:
        settings = {"protocol": PROTOCOL}
        run = resumable(run_anchored, AnchorRuns, tracker, sequences, settings, options)
        results[tracker.name] = run_all(
            tracker.factory,
            sequences,
            run,
            title=tracker.name,
            jobs=options.jobs,
            note=lambda result: result.name,
        )
    return VotOutcome((low, high), results)
