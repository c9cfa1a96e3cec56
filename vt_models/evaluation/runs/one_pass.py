# SPDX-License-Identifier: Apache-2.0
"""One run over each sequence by each tracker, and everything that is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from vt_models.datasets.sequence import VideoSequence
from vt_models.evaluation.longterm.report import LongTermReport
from vt_models.evaluation.metrics.box_runs import BoxRun, Scores
from vt_models.evaluation.metrics.protocols import PROTOCOLS
from vt_models.evaluation.reports.comparison import Kinds, beside_first, compare
from vt_models.evaluation.reports.report import write_report
from vt_models.evaluation.reports.result_files import write_results
from vt_models.evaluation.reports.tables import kinds_text, table, to_text
from vt_models.evaluation.runs.resume import RunOptions, resumable
from vt_models.evaluation.runs.runner import (
    Report,
    SequenceResult,
    SequenceRunner,
    Starter,
    evaluate,
    run_sequence,
    start_on_truth,
)
from vt_models.evaluation.runs.streaming import Streaming, streams_text
from vt_models.evaluation.runs.text_start import start_overlaps, starts_text
from vt_models.evaluation.runs.trackers import EvaluatedTracker
from vt_models.evaluation.runs.vot_runs import frame_size

NEEDS_SIZE = ("got10k", "vot-lt")


@dataclass(frozen=True, eq=False)
class OnePass:
    """Reports of all trackers over the same sequences.

    Attributes:
        reports: one a tracker, the first is the model in question.
        sequences: what they ran over.
        streams: how the frames came, by tracker; empty where every frame was handed over.
        protocol: the benchmark whose rules score too, one of `PROTOCOLS`; None for none.
        scores: by that benchmark's rules, by tracker; empty where no truth is public.
        starts: `start_overlaps` by tracker; empty where the true first boxes were given.
        long_term: of the long-term tracker, if it ran.
        kinds: names of the sequences by their kind; empty where no list says it.
    """

    reports: Sequence[Report]
    sequences: Sequence[VideoSequence]
    streams: Mapping[str, Streaming]
    protocol: str | None
    scores: Mapping[str, Scores]
    starts: Mapping[str, Mapping[str, Any]]
    long_term: LongTermReport | None = None
    kinds: Kinds = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The first tracker's JSON object with those of the others, see `beside_first`."""
        result = beside_first([self._to_dict(report) for report in self.reports])
        if self.long_term is not None:
            result["long_term"] = self.long_term.to_dict()
        return result

    def to_text(self) -> str:
        """Tables for the terminal."""
        parts = [to_text(self.reports)]
        if self.kinds:
            parts.append(kinds_text(self.reports, self.kinds))
        if self.scores:
            totals = [(name, scores["total"]) for name, scores in self.scores.items()]
            columns = {key: key for key in totals[0][1]}
            parts.append(table(f"{self.protocol} rules", columns, totals))
        if self.streams:
            parts.append(streams_text(self.streams, self.reports))
        if self.starts:
            parts.append(starts_text(self.starts))
        if self.long_term is not None:
            parts.append(self.long_term.to_text())
        return "\n\n".join(parts)

    def save(self, directory: Path, about: Mapping[str, Any]) -> list[str]:
        """Write boxes, result files, and the page where there is something to score.

        Returns:
            What a user may want to open or hand in, a line each.
        """
        lines = []
        for report in self.reports:
            report.save(directory / report.model)
            if self.protocol is not None:
                path = write_results(self.protocol, report, directory / self.protocol)
                lines.append(f"result files: {path}")
        if self.long_term is not None:
            self.long_term.save(directory / self.long_term.model)
        if any(report.is_scored for report in self.reports):
            more = self._more(about)
            page = write_report(directory, self.reports, self.sequences, more, self.kinds)
            lines.append(f"report: {page}")
        else:
            lines.append("no report: only the first boxes of these sequences are public")
        return lines

    def _to_dict(self, report: Report) -> dict[str, Any]:
        result = {**report.to_dict(), **compare(report, self.reports[0], self.kinds)}
        if report.model in self.scores:
            result["benchmark"] = {"name": self.protocol, **self.scores[report.model]}
        if report.model in self.streams:
            result["stream"] = self.streams[report.model].about(report)
        if report.model in self.starts:
            result["start"] = self.starts[report.model]
        return result

    def _more(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """What the page shows beside the usual metrics."""
        more: dict[str, Any] = {"about": dict(about)}
        if self.scores:
            totals = {name: scores["total"] for name, scores in self.scores.items()}
            more["benchmark"] = {"name": self.protocol, "totals": totals}
        if self.streams:
            more["stream"] = {one.model: self.streams[one.model].about(one) for one in self.reports}
        if self.starts:
            more["start"] = dict(self.starts)
        if self.long_term is not None:
            found = self.long_term.to_dict()
            more["long_term"] = {"model": self.long_term.model, **found}
        return more


def run_one_pass(
    trackers: Sequence[EvaluatedTracker],
    sequences: Sequence[VideoSequence],
    options: RunOptions,
    protocol: str | None = None,
    streams: Mapping[str, Streaming] | None = None,
    start: Starter = start_on_truth,
) -> OnePass:
    """Run every tracker over every sequence and score it.

    Args:
        trackers: one or more.
        sequences: the videos.
        options: in how many processes, and where results are kept.
        protocol: one of `PROTOCOLS`; None for the usual metrics alone.
        streams: how the frames come, by every tracker's name; None hands every frame over.
        start: how a tracker is started, picklable; its `repr` says how, in every process the same.

    Raises:
        VtModelsError: what the dataset or a tracker raises.
    """
    streams = streams or {}
    is_given = start is start_on_truth
    reports = []
    for tracker in trackers:
        run: SequenceRunner = partial(run_sequence, start=start)
        settings: dict[str, object] = {"fps": None, "latency_ms": None}
        if tracker.name in streams:
            stream = streams[tracker.name]
            run, settings = replace(stream, start=start), {**stream.settings}
        settings["start"] = "box" if is_given else repr(start)
        run = resumable(run, SequenceResult, tracker, sequences, settings, options)
        report = evaluate(
            tracker.factory, sequences, model=tracker.name, jobs=options.jobs, run=run
        )
        reports.append(report)
    scores = {} if protocol is None else score_reports(protocol, reports, sequences)
    starts = {} if is_given else {one.model: start_overlaps(one, sequences) for one in reports}
    return OnePass(reports, sequences, streams, protocol, scores, starts)


def score_reports(
    protocol: str, reports: Sequence[Report], sequences: Sequence[VideoSequence]
) -> dict[str, Scores]:
    """Scores by a benchmark's rules, by tracker; empty where no truth is public.

    Args:
        protocol: one of `PROTOCOLS`.
        reports: of runs over `sequences`, in their order.
        sequences: with the truth.
    """
    runs: dict[str, list[BoxRun]] = {report.model: [] for report in reports}
    for index in range(len(sequences)):
        sequence = sequences[index]
        if not sequence.is_annotated:
            continue
        size = frame_size(sequence) if protocol in NEEDS_SIZE else None
        for report in reports:
            result = report.results[index]
            runs[report.model].append(
                BoxRun(result.name, result.boxes, sequence.boxes, size, result.scores)
            )
    return {name: PROTOCOLS[protocol](found) for name, found in runs.items() if found}
