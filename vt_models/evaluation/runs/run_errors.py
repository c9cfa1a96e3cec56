# SPDX-License-Identifier: Apache-2.0
"""Run several trackers over the same sequences; a run that ends with an error costs only itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from vt_models.datasets.sequence import VideoSequence
from vt_models.errors import VtModelsError
from vt_models.evaluation.runs.parallel import run_all
from vt_models.evaluation.runs.runner import SingleObjectTracker
from vt_models.evaluation.runs.trackers import EvaluatedTracker

_LOG = logging.getLogger(__name__)


class Named(Protocol):
    """What a run over a sequence gives."""

    @property
    def name(self) -> str:
        """Of the sequence."""


Result = TypeVar("Result", bound=Named)
Run = Callable[[SingleObjectTracker, VideoSequence], Result]


@dataclass(frozen=True)
class RunError:
    """A run that ended with an error.

    Attributes:
        tracker: its name.
        sequence: its name; None where the tracker could not be run at all.
        reason: the error's message.
    """

    tracker: str
    sequence: str | None
    reason: str


@dataclass(frozen=True)
class _NoResult:
    """Takes the place of a result."""

    name: str
    error: VtModelsError


def run_trackers(
    trackers: Sequence[EvaluatedTracker],
    sequences: Sequence[VideoSequence],
    run_of: Callable[[EvaluatedTracker], Run[Result]],
    jobs: int,
    note: Callable[[Result], str] = lambda result: result.name,
) -> tuple[dict[str, list[Result]], list[RunError]]:
    """Run every tracker over every sequence; each error is logged when it happens.

    Args:
        trackers: one or more.
        sequences: the videos.
        run_of: what a tracker does with a sequence; picklable, see `run_all`.
        jobs: processes.
        note: what the progress bar says about a result.

    Returns:
        The results by tracker, in the order of the sequences, without those that ended with an
        error, and without trackers that finished none; and the errors.

    Raises:
        VtModelsError: the first error, where nothing was finished.
    """
    found: dict[str, list[Result]] = {}
    errors: list[RunError] = []
    raised: list[VtModelsError] = []

    def log(tracker: EvaluatedTracker, sequence: str | None, error: VtModelsError) -> None:
        errors.append(RunError(tracker.name, sequence, str(error)))
        raised.append(error)
        _LOG.warning("%s failed, the rest goes on: %s", tracker.name, error)

    def logged(tracker: EvaluatedTracker, one: Result | _NoResult) -> str:
        if not isinstance(one, _NoResult):
            return note(one)
        log(tracker, one.name, one.error)
        return "failed"

    for tracker in trackers:
        results: list[Result | _NoResult] = []
        try:
            results = run_all(
                tracker.factory,
                sequences,
                partial(_attempt, run_of(tracker)),
                title=tracker.name,
                jobs=jobs,
                note=partial(logged, tracker),
            )
        except VtModelsError as error:
            log(tracker, None, error)
        finished = [result for result in results if not isinstance(result, _NoResult)]
        if finished:
            found[tracker.name] = finished
    if not found:
        raise raised[0]
    return found, errors


def _attempt(
    run: Run[Result], tracker: SingleObjectTracker, sequence: VideoSequence
) -> Result | _NoResult:
    try:
        return run(tracker, sequence)
    except VtModelsError as error:
        return _NoResult(sequence.name, error)


def errors_as_json(errors: Sequence[RunError]) -> dict[str, Any]:
    """{"errors": [{"tracker", "sequence", "reason"}]}; nothing where every run came to its end."""
    return {"errors": [asdict(one) for one in errors]} if errors else {}
