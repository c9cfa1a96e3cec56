# SPDX-License-Identifier: Apache-2.0
"""One run over each sequence by each tracker, and everything that is made of it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from vt_models.datasets.sequence import VideoSequence
from vt_models.evaluation.longterm.report import LongTermReport
from vt_models.evaluation.metrics.box_runs import BoxRun, Scores
from vt_models.evaluation.metrics.protocols import PROTOCOLS
from vt_models.evaluation.reports.attention import SeenFrame
from vt_models.evaluation.reports.comparison import Kinds, beside_first, compare
from vt_models.evaluation.reports.report import write_report
from vt_models.evaluation.reports.result_files import write_results
from vt_models.evaluation.reports.tables import COLUMNS, summary, table
from vt_models.evaluation.runs.resume import RunOptions, resumable
from vt_models.evaluation.runs.run_errors import RunError, errors_as_json, run_trackers
from vt_models.evaluation.runs.runner import (
    Report,
    SequenceResult,
    SequenceRunner,
    Starter,
    StartOnTruth,
    progress_note,
    run_sequence,
    start_on_truth,
)
from vt_models.evaluation.runs.streaming import Streaming
from vt_models.evaluation.runs.text_start import start_overlaps
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
        errors: of the runs that are missing in the reports.
        seen: what the models' networks saw where they tracked worst.
    """

    reports: Sequence[Report]
    sequences: Sequence[VideoSequence]
    streams: Mapping[str, Streaming]
    protocol: str | None
    scores: Mapping[str, Scores]
    starts: Mapping[str, Mapping[str, Any]]
    long_term: LongTermReport | None = None
    kinds: Kinds = field(default_factory=dict)
    errors: Sequence[RunError] = ()
    seen: Sequence[SeenFrame] = ()

    def to_dict(self) -> dict[str, Any]:
        """The first tracker's JSON object with those of the others, see `beside_first`."""
        trackers = self._trackers()
        for one in trackers:
            name = one["model"]
            if name in self.scores:
                one["benchmark"] = {"name": self.protocol, **self.scores[name]}
            for key, about in (("stream", self._streamed()), ("start", self.starts)):
                if name in about:
                    one[key] = about[name]
        result = beside_first(trackers)
        if self.long_term is not None:
            result["long_term"] = self.long_term.to_dict()
        return {**result, **errors_as_json(self.errors)}

    def to_text(self) -> str:
        """Tables for the terminal."""
        trackers = self._trackers()
        tables = [
            table(one["model"], COLUMNS, [*one["sequences"].items(), ("total", one["total"])])
            for one in trackers
        ]
        sections = summary({"trackers": trackers, "kinds": self.kinds, **self._more()})
        if len(trackers) == 1:
            del sections["Total"]  # it stands in the tracker's own table
        return "\n\n".join(map(str, itertools.chain(tables, *sections.values())))

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
            more = {"about": dict(about), **self._more()}
            page = write_report(
                directory, self.reports, self.sequences, more, self.kinds, self.seen
            )
            lines.append(f"report: {page}")
        else:
            lines.append("no report: only the first boxes of these sequences are public")
        return lines

    def _trackers(self) -> list[dict[str, Any]]:
        first = self.reports[0]
        return [{**one.to_dict(), **compare(one, first, self.kinds)} for one in self.reports]

    def _streamed(self) -> dict[str, Any]:
        """How the frames came to each tracker, and how many it processed."""
        if not self.streams:
            return {}
        return {one.model: self.streams[one.model].about(one) for one in self.reports}

    def _more(self) -> dict[str, Any]:
        """What `summary` shows beside the usual metrics, without what is empty."""
        more: dict[str, Any] = {"stream": self._streamed(), "start": dict(self.starts)}
        if self.scores:
            totals = {name: scores["total"] for name, scores in self.scores.items()}
            more["benchmark"] = {"name": self.protocol, "totals": totals}
        if self.long_term is not None:
            more["long_term"] = {"model": self.long_term.model, **self.long_term.to_dict()}
        more |= errors_as_json(self.errors)
        return {key: value for key, value in more.items() if value}


def run_one_pass(
    trackers: Sequence[EvaluatedTracker],
    sequences: Sequence[VideoSequence],
    options: RunOptions,
    protocol: str | None = None,
    streams: Mapping[str, Streaming] | None = None,
    start: Starter = start_on_truth,
) -> OnePass:
    """Run every tracker over every sequence and score it; see `run_trackers` for errors.

    Args:
        trackers: one or more.
        sequences: the videos.
        options: in how many processes, and where results are kept.
        protocol: one of `PROTOCOLS`; None for the usual metrics alone.
        streams: how the frames come, by every tracker's name; None hands every frame over.
        start: how a tracker is started, picklable; its `repr` says how, in every process the same.

    Raises:
        VtModelsError: what the dataset or a tracker raises, where nothing was finished.
    """
    streams = streams or {}
    is_given = isinstance(start, StartOnTruth)

    def run_of(tracker: EvaluatedTracker) -> SequenceRunner:
        run: SequenceRunner = partial(run_sequence, start=start)
        settings: dict[str, object] = {"fps": None, "latency_ms": None}
        if tracker.name in streams:
            stream = streams[tracker.name]
            run, settings = replace(stream, start=start), {**stream.settings}
        settings["start"] = repr(start)
        return resumable(run, SequenceResult, tracker, sequences, settings, options)

    found, errors = run_trackers(trackers, sequences, run_of, options.jobs, progress_note)
    reports = [Report(name, tuple(results)) for name, results in found.items()]
    scores = {} if protocol is None else score_reports(protocol, reports, sequences)
    starts = {} if is_given else {one.model: start_overlaps(one, sequences) for one in reports}
    return OnePass(reports, sequences, streams, protocol, scores, starts, errors=errors)


def score_reports(
    protocol: str, reports: Sequence[Report], sequences: Sequence[VideoSequence]
) -> dict[str, Scores]:
    """Scores by a benchmark's rules, by tracker; empty where no truth is public.

    Args:
        protocol: one of `PROTOCOLS`.
        reports: of runs over `sequences`; some may be missing.
        sequences: with the truth.
    """
    runs: dict[str, list[BoxRun]] = {report.model: [] for report in reports}
    by_name = [{one.name: one for one in report.results} for report in reports]
    for index in range(len(sequences)):
        sequence = sequences[index]
        if not sequence.is_annotated:
            continue
        size = frame_size(sequence) if protocol in NEEDS_SIZE else None
        for report, results in zip(reports, by_name, strict=True):
            if sequence.name in results:
                result = results[sequence.name]
                runs[report.model].append(
                    BoxRun(result.name, result.boxes, sequence.boxes, size, result.scores)
                )
    return {name: PROTOCOLS[protocol](found) for name, found in runs.items() if found}
