# SPDX-License-Identifier: Apache-2.0
"""VOT short-term runs of several trackers, their scores, result files and page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from vt_models.errors import InputError
from vt_models.evaluation.metrics.vot import (
    EAO_RANGE,
    SUPERVISED_RANGE,
    anchored_curve,
    anchored_scores,
    supervised_curve,
    supervised_scores,
)
from vt_models.evaluation.reports.comparison import beside_first
from vt_models.evaluation.reports.page import vot_page
from vt_models.evaluation.reports.report import write_page
from vt_models.evaluation.reports.result_files import write_anchored, write_supervised
from vt_models.evaluation.reports.tables import table
from vt_models.evaluation.runs.parallel import run_all
from vt_models.evaluation.runs.resume import Form
from vt_models.evaluation.runs.vot_runs import ANCHORED, SUPERVISED, run_anchored, run_supervised

if TYPE_CHECKING:
    from pathlib import Path

    from vt_models.datasets.sequence import VideoSequence
    from vt_models.evaluation.runs.resume import Running
    from vt_models.evaluation.runs.trackers import EvaluatedTracker

Runs: TypeAlias = Any
"""AnchorRuns or SupervisedRun."""


@dataclass(frozen=True)
class VotKind:
    """One of VOT's two ways.

    Attributes:
        run: what is done with a sequence.
        form: how its results are kept.
        eao_range: lengths in frames, if the user names none.
        score, curve, write: of the results.
    """

    run: Callable[..., Runs]
    form: Form[Runs]
    eao_range: tuple[int, int]
    score: Callable[[Sequence[Runs], tuple[int, int]], Mapping[str, Any]]
    curve: Callable[[Sequence[Runs], int], np.ndarray]
    write: Callable[[Sequence[Runs], str, Path], Path]


def _supervised_curve(results: Sequence[Runs], length: int) -> np.ndarray:
    return supervised_curve(results)[:length]


VOT_KINDS = {
    "vot": VotKind(
        run_anchored, ANCHORED, EAO_RANGE, anchored_scores, anchored_curve, write_anchored
    ),
    "vot-restart": VotKind(
        run_supervised,
        SUPERVISED,
        SUPERVISED_RANGE,
        supervised_scores,
        _supervised_curve,
        write_supervised,
    ),
}
"""By the name of their protocol."""


@dataclass(frozen=True, eq=False)
class VotOutcome:
    """Results of all trackers over the same sequences.

    Attributes:
        protocol: one of `VOT_KINDS`.
        eao_range: lengths in frames, both included.
        results: one a sequence, by tracker; the first is the model in question.
    """

    protocol: str
    eao_range: tuple[int, int]
    results: Mapping[str, Sequence[Runs]]

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
        return "\n\n".join([*parts, table(f"{self.protocol}, {low}:{high}", columns, totals)])

    def save(self, directory: Path, about: Mapping[str, Any]) -> list[str]:
        """Write result files, `report.json` and the page; what to open, a line each."""
        kind = VOT_KINDS[self.protocol]
        lines = []
        for name, found in self.results.items():
            path = kind.write(found, name, directory / self.protocol)
            lines.append(f"result files: {path}")
        curves = {
            name: kind.curve(found, self.eao_range[1] + 1).tolist()
            for name, found in self.results.items()
        }
        data = {
            "about": dict(about),
            "protocol": self.protocol,
            "eao_range": list(self.eao_range),
            "frames": {one.name: len(one.truth) for one in next(iter(self.results.values()))},
            "trackers": [{**one, "curve": curves[one["model"]]} for one in self._trackers()],
        }
        path = write_page(directory, data, vot_page(data))
        return [*lines, f"report: {path}"]

    def _trackers(self) -> list[dict[str, Any]]:
        about = {"protocol": self.protocol, "eao_range": list(self.eao_range)}
        return [
            {"model": name, **about, **VOT_KINDS[self.protocol].score(found, self.eao_range)}
            for name, found in self.results.items()
        ]


def run_vot(
    protocol: str,
    trackers: Sequence[EvaluatedTracker],
    sequences: Sequence[VideoSequence],
    eao_range: tuple[int, int] | None,
    running: Running,
) -> VotOutcome:
    """Run every tracker over every sequence as VOT does.

    Args:
        protocol: one of `VOT_KINDS`.
        trackers: one or more trackers.
        sequences: the videos.
        eao_range: lengths in frames over which the curve is averaged; None: the kind's own.
        running: in how many processes, and where results are kept.

    Raises:
        InputError: all sequences are too short for the EAO.
        VtModelsError: what the dataset or a tracker raises.
    """
    kind = VOT_KINDS[protocol]
    low, high = eao_range or kind.eao_range
    longest = max(len(sequences[index]) for index in range(len(sequences)))
    if longest <= low:
        raise InputError(
            f"the longest sequence has {longest} frames; an EAO over {low} to {high} needs more: "
            "give a shorter --eao-range"
        )
    results = {}
    for tracker in trackers:
        settings = {"protocol": protocol}
        run = running.resuming(tracker, settings, kind.run, kind.form, sequences)
        results[tracker.name] = run_all(
            tracker.factory,
            sequences,
            run,
            title=tracker.name,
            jobs=running.jobs,
            note=lambda result: str(result.name),
        )
    return VotOutcome(protocol, (low, high), results)
