# SPDX-License-Identifier: Apache-2.0
"""What an evaluation runs: models of this package and baselines, by name."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from vt_models.api import create_tracker
from vt_models.auto_model import AUTO, choose_model
from vt_models.errors import InputError
from vt_models.evaluation.baselines import BASELINES, create_baseline, missing_reason
from vt_models.evaluation.custom_tracker import CustomTracker, source_file
from vt_models.evaluation.runs.runner import TrackerFactory
from vt_models.registry import get_spec, parse_update_policy
from vt_models.runtime.installed_weights import find_weights

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluatedTracker:
    """A tracker that is evaluated, and what decides its answers.

    Attributes:
        name: unique in the run, see `require_unique_names`; results are kept by it.
        factory: builds it; picklable.
        weights: the files or folders that decide its answers.
        options: what else decides them, JSON-serialisable.
    """

    name: str
    factory: TrackerFactory
    weights: tuple[Path, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)


def evaluated_model(
    name: str,
    weights: str | None,
    backend: str,
    device: str,
    threads: int,
    update: str | None,
) -> EvaluatedTracker:
    """Describe a model of this package; the arguments are those of `create_tracker`.

    Args:
        name: of the model, or "auto".
        weights: None takes the bundled or installed ones.
        backend, device, threads: see `create_tracker`.
        update: a preset of the model or INTERVAL:THRESHOLD, see `parse_update_policy`.

    Raises:
        InputError: an unknown name, or an update policy that cannot be.
    """
    model = choose_model().name if name == AUTO else name
    policy = None if update is None else parse_update_policy(update)
    factory = partial(create_tracker, model, weights, backend, device, threads, policy)
    found = Path(weights) if weights else find_weights(get_spec(model))
    options = {"backend": backend, "device": device, "threads": threads, "update": update}
    return EvaluatedTracker(model, factory, () if found is None else (found,), options)


def evaluated_custom(reference: str) -> EvaluatedTracker:
    """Describe a tracker of the user's own; its name is that of the class.

    Args:
        reference: `module:Class`, see `CustomTracker`. Its file belongs to what decides its
            answers: a run is not resumed after that has changed.

    Raises:
        InputError: there is no such class, or it lacks a method.
    """
    file = source_file(reference)
    factory = partial(CustomTracker, reference)
    name = reference.partition(":")[2]
    return EvaluatedTracker(name, factory, () if file is None else (file,), {"class": reference})


def require_unique_names(trackers: Sequence[EvaluatedTracker]) -> None:
    """Check that no two trackers of a run share a name.

    Raises:
        InputError: two do; one would be given the results of the other.
    """
    counts = Counter(tracker.name for tracker in trackers)
    for name, count in counts.items():
        if count == 1:
            continue
        classes = [
            str(one.options["class"])
            for one in trackers
            if one.name == name and "class" in one.options
        ]
        if not classes:
            raise InputError(
                f"{name} is asked for {count} times, once by another name; name it once"
            )
        raise InputError(
            f"{count} trackers of this run are called {name} ({', '.join(classes)} among them); "
            "results are kept by name: give the class a name that no other tracker has"
        )


def evaluated_baselines(
    names: Iterable[str], weights: Path | None, threads: int = 1
) -> list[EvaluatedTracker]:
    """Describe those baselines that can run here; a warning is logged of each that cannot.

    Args:
        names: keys of `BASELINES`.
        weights: folder of their weight files.
        threads: see `create_baseline`.

    Raises:
        InputError: an unknown name.
    """
    found = []
    for name in dict.fromkeys(names):
        reason = missing_reason(name, weights)
        if reason is not None:
            _LOG.warning("left out: %s", reason)
            continue
        files = () if weights is None else tuple(weights / f for _, f in BASELINES[name].files)
        factory = partial(create_baseline, name, weights, threads)
        found.append(EvaluatedTracker(name, factory, files, {"threads": threads}))
    return found
