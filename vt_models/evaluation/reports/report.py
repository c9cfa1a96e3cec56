# SPDX-License-Identifier: Apache-2.0
"""What a report holds: curves, attributes, sequences, failures and reliability of some trackers."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from tqdm import tqdm

from vt_models.datasets.sequence import VideoSequence
from vt_models.errors import broken_package, install_hint
from vt_models.evaluation.calibration import RIGHT_IOU, expected_calibration_error, reliability
from vt_models.evaluation.metrics.accuracy import (
    NORM_PRECISION_THRESHOLDS,
    centre_errors,
    mean_accuracy,
    norm_centre_errors,
    success_curve,
)
from vt_models.evaluation.metrics.attributes import sequence_attributes
from vt_models.evaluation.reports.attention import SeenFrame
from vt_models.evaluation.reports.comparison import Kinds, compare
from vt_models.evaluation.reports.failures import Failure, Strips, draw_failure, find_failures
from vt_models.evaluation.runs.runner import Report, SequenceResult
from vt_models.files import write_text
from vt_models.geometry.boxes import iou

Pair: TypeAlias = "tuple[VideoSequence, SequenceResult]"
"""A sequence and a run over it."""

_LOG = logging.getLogger(__name__)
SHOWN_FAILURES = 12
"""Strips a tracker: the longest losses."""
PIXELS = np.arange(51.0)


def write_report(
    directory: Path | str,
    reports: Sequence[Report],
    sequences: Sequence[VideoSequence],
    more: Mapping[str, Any] | None = None,
    kinds: Kinds | None = None,
    seen: Sequence[SeenFrame] = (),
) -> Path:
    """Write `report.html`, which needs no other file, and `report.json` with its numbers.

    Args:
        directory: is made if need be.
        reports: of trackers, all over `sequences`.
        sequences: with the truth, one or more of them public; frames are read only where a failure
            is drawn.
        more: further parts, JSON-serialisable: "about" (what a reader needs to repeat it, see
            `provenance`), "benchmark" ({"name", "totals"}), "stream" and "start" (by tracker),
            "long_term" (`LongTermReport.to_dict()` with "model").
        kinds: names of sequences by their kind, for a table of the kinds; None for no table.
        seen: what networks saw; each is a PNG too.

    Returns:
        The page's path.

    Raises:
        DatasetError: an unreadable image.
    """
    known = [sequences[index] for index in range(len(sequences))]
    known = [sequence for sequence in known if sequence.is_annotated]
    data = {**collect(reports, known, kinds), **(more or {})}
    if "long_term" in data and data["long_term"]["calibration"]["ece"] is not None:
        found = data["long_term"]["calibration"]
        calibrated = {"ece": found["ece"], "rows": found["reliability"]}
        name = f"{data['long_term']['model']}, calibrated"
        data["reliability"] = {name: calibrated, **data["reliability"]}
    if seen:
        data["attention"] = [one.to_dict() for one in seen]
    for one in seen:
        one.save(Path(directory))
    return write_page(
        Path(directory), data, lambda: draw_failures(data["trackers"], reports, known), seen
    )


def write_page(
    directory: Path,
    data: Mapping[str, Any],
    draw: Callable[[], Sequence[Strips]] | None = None,
    seen: Sequence[SeenFrame] = (),
) -> Path:
    """Write `report.json` and, where the extra `report` is installed, `report.html`.

    Args:
        directory: is made if need be.
        data: the numbers, JSON-serialisable.
        draw: draws the failures for `page`.
        seen: what networks saw.

    Returns:
        The page's path, or that of the numbers where there is no page.
    """
    numbers, html = directory / "report.json", directory / "report.html"
    write_text(numbers, json.dumps(data, indent=2) + "\n", parents=True)
    with missing_extra_is_said(html.name):
        from vt_models.evaluation.reports.page import page  # noqa: PLC0415 - needs the extra

        write_text(html, page(data, draw and draw(), seen), parents=True)
        return html
    return numbers


@contextmanager
def missing_extra_is_said(file: str) -> Iterator[None]:
    """Go on without `file` where a package that it needs is missing or broken; log the remedy."""
    try:
        yield
    except Exception as error:  # a package that is there but broken raises anything
        package = what = broken_package(error)
        if isinstance(error, ModuleNotFoundError):
            package = what = (error.name or "").partition(".")[0]
        elif package is not None:
            what = f"{package}, which is broken ({type(error).__name__}: {error})"
        if package in (None, "vt_models"):
            raise
        _LOG.warning("no %s: it needs %s; %s", file, what, install_hint("report"))


def collect(
    reports: Sequence[Report], sequences: Sequence[VideoSequence], kinds: Kinds | None = None
) -> dict[str, Any]:
    """The numbers of a report, JSON-serialisable.

    Curves are means over the sequences; an attribute's numbers are means over those that have it.
    Reliability counts every frame after the first whose truth is known, also those in which the
    target is absent, where no box is right; a tracker whose score is always the same has none.

    Args:
        reports: of trackers over at least these sequences.
        sequences: with public truth.
        kinds: names of sequences by their kind; None for no kinds.
    """
    kinds = kinds or {}
    known = {sequence.name: sequence for sequence in sequences}
    attributes: dict[str, list[str]] = {}
    for sequence in sequences:
        for name in sequence_attributes(sequence):
            attributes.setdefault(name, []).append(sequence.name)
    runs = {
        report.model: [(known[one.name], one) for one in report.results if one.name in known]
        for report in reports
    }
    trackers = []
    for report in reports:
        accuracies = {one.name: one.accuracy for one in report.results if one.accuracy is not None}
        groups = {
            name: [accuracies[member] for member in members if member in accuracies]
            for name, members in sorted(attributes.items())
        }
        failures = [
            asdict(failure)
            for sequence, result in runs[report.model]
            for failure in find_failures(sequence.name, result.boxes, sequence.boxes)
        ]
        trackers.append(
            {
                **report.to_dict(),
                **compare(report, reports[0], kinds),
                "curves": _curves(runs[report.model]),
                "attributes": {
                    name: asdict(mean_accuracy(group)) for name, group in groups.items() if group
                },
                "failures": failures,
            }
        )
    calibrations = {name: _reliability(pairs) for name, pairs in runs.items()}
    return {
        "frames": {sequence.name: len(sequence) for sequence in sequences},
        "attributes": dict(sorted(attributes.items())),
        "kinds": {kind: list(members) for kind, members in kinds.items()},
        "trackers": trackers,
        "reliability": {name: found for name, found in calibrations.items() if found is not None},
    }


def draw_failures(
    trackers: Sequence[Mapping[str, Any]],
    reports: Sequence[Report],
    sequences: Sequence[VideoSequence],
) -> list[Strips]:
    """Draw the longest failures of each tracker."""
    by_name = {sequence.name: sequence for sequence in sequences}
    chosen = [
        sorted((Failure(**one) for one in tracker["failures"]), key=lambda one: -one.frames)
        for tracker in trackers
    ]
    chosen = [failures[:SHOWN_FAILURES] for failures in chosen]
    strips: list[Strips] = []
    with tqdm(total=sum(map(len, chosen)), desc="report", unit="strip", leave=False) as bar:
        for report, failures in zip(reports, chosen, strict=True):
            boxes = {result.name: result.boxes for result in report.results}
            strips.append([])
            for one in failures:
                data = draw_failure(one, by_name[one.sequence], boxes[one.sequence])
                uri = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
                strips[-1].append((one, uri))
                bar.update()
    return strips


def _curves(pairs: Sequence[Pair]) -> dict[str, list[float]]:
    """Mean curves: success over IoU 0 ... 1, precision over 0 ... 50 px and over 0 ... 0.5."""
    rows = []
    for sequence, result in pairs:
        present = np.isfinite(sequence.boxes).all(axis=1)
        boxes, truth = result.boxes[present], sequence.boxes[present]
        pixels, relative = centre_errors(boxes, truth), norm_centre_errors(boxes, truth)
        rows.append(
            (
                success_curve(np.asarray(iou(boxes, truth), np.float64)),
                np.mean(pixels[:, None] <= PIXELS, axis=0),
                np.mean(relative[:, None] <= NORM_PRECISION_THRESHOLDS, axis=0),
            )
        )
    names = ("success", "precision", "norm_precision")
    columns = zip(*rows, strict=True)
    return {
        name: np.mean(column, axis=0).tolist() for name, column in zip(names, columns, strict=True)
    }


def _reliability(pairs: Sequence[Pair]) -> dict[str, Any] | None:
    scores, right = [], []
    for sequence, result in pairs:
        present = np.isfinite(sequence.boxes).all(axis=1)
        counts = present | sequence.absent
        counts[0] = False
        is_right = np.asarray(iou(result.boxes, sequence.boxes)) >= RIGHT_IOU
        scores.append(np.clip(np.nan_to_num(result.scores[counts]), 0.0, 1.0))
        right.append(is_right[counts].astype(np.float64))
    confidence, hits = np.concatenate(scores), np.concatenate(right)
    if len(np.unique(confidence)) < 2:
        return None
    error = expected_calibration_error(confidence, hits)
    return {"ece": error, "rows": reliability(confidence, hits)}
