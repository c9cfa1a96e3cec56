# SPDX-License-Identifier: Apache-2.0
"""Evaluation: datasets of annotated videos, metrics, and the runner. Imports no torch."""

from __future__ import annotations

from vt_models.datasets.folder import FolderDataset
from vt_models.datasets.kinds import open_dataset
from vt_models.datasets.sequence import VideoSequence
from vt_models.evaluation.metrics.accuracy import Accuracy, bootstrap_interval, score_sequence
from vt_models.evaluation.runs.runner import Report, SequenceResult, evaluate, run_sequence

__all__ = [
    "Accuracy",
    "FolderDataset",
    "Report",
    "SequenceResult",
    "VideoSequence",
    "bootstrap_interval",
    "evaluate",
    "open_dataset",
    "run_sequence",
    "score_sequence",
]
