# SPDX-License-Identifier: Apache-2.0
"""AO by kind of video, and its difference between two trackers, with intervals over videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from vt_models.evaluation.metrics.accuracy import interval_or_none
from vt_models.evaluation.runs.runner import Report

Kinds: TypeAlias = "Mapping[str, Sequence[str]]"
"""Names of sequences by their kind."""


def compare(report: Report, first: Report, kinds: Kinds) -> dict[str, Any]:
    """What the JSON object of a tracker has beside its totals and sequences.

    Args:
        report: of the tracker.
        first: of the tracker that it is compared with; its own for the first tracker.
        kinds: of the videos; empty where nothing is known of them.

    Returns:
        "ao_difference" (`ao_difference`, not for the first tracker or where nothing is scored) and
        "kinds" (`scores_by_kind`, not without kinds).
    """
    found: dict[str, Any] = {}
    if report is not first and report.is_scored:
        found["ao_difference"] = ao_difference(report, first)
    if kinds:
        found["kinds"] = scores_by_kind(report, kinds)
    return found


def beside_first(trackers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the first tracker's JSON object, with the others by name under "baselines".

    They stand under "peers", the key's earlier name, too; that goes with release 0.2.
    """
    first, *others = trackers
    by_name = {one["model"]: one for one in others}
    return {**first, **({"baselines": by_name, "peers": by_name} if others else {})}


def scores_by_kind(report: Report, kinds: Kinds) -> dict[str, dict[str, Any]]:
    """Return {kind: {"videos": N, "ao": mean, "ao_interval": [low, high]}}, a kind like a total.

    The AO is None where no truth is public, its 95 % interval is None for fewer than two videos.
    """
    found = {}
    finished = {result.name for result in report.results}
    for kind, members in kinds.items():
        overlaps = [report.overlaps[name] for name in members if name in report.overlaps]
        found[kind] = {
            "videos": len(finished.intersection(members)),
            "ao": float(np.mean(overlaps)) if overlaps else None,
            "ao_interval": interval_or_none(overlaps),
        }
    return found


def ao_difference(report: Report, first: Report) -> dict[str, Any]:
    """Return {"value": AO less that of the first tracker, "interval": [low, high]}, or None there.

    The 95 % interval is that of the differences video by video (paired): what makes a video hard
    for both trackers is not in it, so it says more than two intervals side by side. If it does not
    hold 0, other videos of the same kinds would hardly turn the order round.

    Args:
        report: of the tracker.
        first: of the other tracker; the sequences that both finished count.
    """
    values = [
        overlap - first.overlaps[name]
        for name, overlap in report.overlaps.items()
        if name in first.overlaps
    ]
    mean = float(np.mean(values)) if values else None
    return {"value": mean, "interval": interval_or_none(values)}
