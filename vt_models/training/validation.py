# SPDX-License-Identifier: Apache-2.0
"""Validation of a network in training: the tracker that users run, on whole sequences."""

from __future__ import annotations

import copy

import torch
from torch import nn

from vt_models.datasets import SequenceDataset
from vt_models.evaluation.runs.runner import evaluate
from vt_models.registry import ModelSpec
from vt_models.runtime.torch_engine import TorchEngine
from vt_models.tracker.tracker import Tracker


def validate(
    net: nn.Module, spec: ModelSpec, sequences: SequenceDataset, device: torch.device
) -> dict[str, float]:
    """Track every sequence with a merged copy of the network.

    Returns:
        The totals of `vt_models.evaluation`: ao, sr50, sr75, auc, precision, norm_precision,
        ms_per_frame.
    """
    merged = copy.deepcopy(net).eval().to(memory_format=torch.contiguous_format)
    engine = TorchEngine(merged, spec, device.type, None)
    return evaluate(lambda: Tracker(spec, engine), sequences, model=spec.name).total
