# SPDX-License-Identifier: Apache-2.0
"""The trackers of one evaluation: models of this package and baselines, by name."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vt_models.api import create_tracker
from vt_models.auto_model import AUTO, choose_model
from vt_models.errors import InputError
from vt_models.evaluation.baselines import BASELINES, create_baseline, missing_reason
from vt_models.registry import get_spec, parse_update_policy
from vt_models.runtime.installed_weights import find_weights

if TYPE_CHECKING:
    import argparse

    from vt_models.evaluation.runs.runner import TrackerFactory


@dataclass(frozen=True)
class EvaluatedTracker:
    """A tracker that takes part.

    Attributes:
        name: unique in the run.
        factory: builds it; picklable.
        weights: the files or folders that decide its answers.
        options: what else decides them, JSON-serialisable.
    """

    name: str
    factory: TrackerFactory
    weights: tuple[Path, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say which trackers run, and how."""
    add = parser.add_argument_group("trackers").add_argument
    add("--model", required=True, type=split_names, help="comma-separated; see `vt-models models`")
    add("--weights", help="directory made by export, or .safetensors; default: bundled weights")
    add("--backend", default="onnxruntime", choices=("onnxruntime", "torch"))
    add("--device", default="auto", help="auto, cpu, cuda or tensorrt; default: %(default)s")
    add("--update", help="template update: a preset of the model, or INTERVAL:THRESHOLD")
    add("--threads", type=int, default=1, help="threads of networks and OpenCV; default: 1")
    add("--baselines", type=split_names, default=[], help=f"also run, of: {','.join(BASELINES)}")
    add("--baseline-weights", type=Path, help="folder of the baselines' weight files")


def chosen(args: argparse.Namespace) -> list[EvaluatedTracker]:
    """Everybody who takes part, models first; what cannot run fails here and not an hour later.

    Raises:
        InputError: no model, an unknown name, or options that fit one model only.
        VtModelsError: a model of several that cannot be built.
    """
    names = list(dict.fromkeys(args.model))
    if not names:
        raise InputError("--model names no model; see `vt-models models`")
    if len(names) > 1 and (args.weights or args.update):
        raise InputError(
            f"--weights and --update belong to one model, got {', '.join(names)}; "
            "run them one after the other"
        )
    models = [_model(name, args) for name in names]
    if len(models) > 1:
        for model in models:
            model.factory()
    return [
        *models,
        *(
            _baseline(name, args)
            for name in available_baselines(args.baselines, args.baseline_weights)
        ),
    ]


def split_names(text: str) -> list[str]:
    """`"a, b"` to `["a", "b"]`."""
    return [name.strip() for name in text.split(",") if name.strip()]


def available_baselines(names: Iterable[str], weights: Path | None) -> list[str]:
    """Those of `names` that can run here; why another cannot is said on standard error.

    Raises:
        InputError: a name that is not a baseline's.
    """
    available = []
    for name in dict.fromkeys(names):
        reason = missing_reason(name, weights)
        if reason is None:
            available.append(name)
        else:
            sys.stderr.write(f"left out: {reason}\n")
    return available


def _model(name: str, args: argparse.Namespace) -> EvaluatedTracker:
    chosen_name = choose_model().name if name == AUTO else name
    update = None if args.update is None else parse_update_policy(args.update)
    settings = (args.backend, args.device, args.threads, update)
    factory = partial(create_tracker, chosen_name, args.weights, *settings)
    weights = Path(args.weights) if args.weights else find_weights(get_spec(chosen_name))
    options = {key: getattr(args, key) for key in ("backend", "device", "threads", "update")}
    return EvaluatedTracker(chosen_name, factory, () if weights is None else (weights,), options)


def _baseline(name: str, args: argparse.Namespace) -> EvaluatedTracker:
    weights = tuple(args.baseline_weights / file for _, file in BASELINES[name].files)
    factory = partial(create_baseline, name, args.baseline_weights, args.threads)
    return EvaluatedTracker(name, factory, weights, {"threads": args.threads})
