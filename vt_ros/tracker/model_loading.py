# SPDX-License-Identifier: Apache-2.0
"""Models are loaded in a thread of their own, so that services and a running tracker go on."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass

from vt_models import VtModelsError, choose_model, create_tracker, get_spec
from vt_models.longterm.calibration import Calibration, read_calibration
from vt_models.registry import find_update_policy
from vt_models.tracker.tracker import Tracker
from vt_ros.common.errors import describe_error
from vt_ros.tracker.parameters import ModelRequest

AUTO = "auto"


class LoadError(VtModelsError):
    """A model that cannot be loaded; the message says why and what to do."""


@dataclass(frozen=True)
class LoadedModel:
    """A tracker that is ready.

    Attributes:
        request: what was asked for.
        name: of the model that it became.
        reason: why this one was chosen, if "auto" was asked for; empty otherwise.
        tracker: its short-term tracker.
        calibration: of the tracker's score, as it came with the weights.
        seconds: how long it took.
    """

    request: ModelRequest
    name: str
    reason: str
    tracker: Tracker
    calibration: Calibration
    seconds: float


def load_model(request: ModelRequest) -> LoadedModel:
    """Load a model.

    Raises:
        LoadError: whatever went wrong.
    """
    begin = time.monotonic()
    try:
        name, reason = request.model, ""
        if name == AUTO:
            choice = choose_model()
            name, reason = choice.name, choice.reason
        tracker = create_tracker(
            name,
            weights=request.weights or None,
            backend=request.backend,
            device=request.device,
            threads=request.threads or None,
            update=request.update or None,
        )
        # Read here, where a fault has an answer, and not when the model is put to work.
        calibration = read_calibration(tracker.calibration)
    except BaseException as error:  # of whatever type, the caller is told
        raise LoadError(describe_error(error)) from error
    return LoadedModel(request, name, reason, tracker, calibration, time.monotonic() - begin)


def load_in_background(request: ModelRequest) -> Future[LoadedModel]:
    """Start loading, and return a future of the model or of a `LoadError`."""
    answer: Future[LoadedModel] = Future()

    def work() -> None:
        try:
            answer.set_result(load_model(request))
        except LoadError as error:
            answer.set_exception(error)

    threading.Thread(target=work, name="loading", daemon=True).start()
    return answer


def objection_to(request: ModelRequest) -> str:
    """Return what is wrong with a request as far as can be told at once; empty: nothing is."""
    if request.model == AUTO:
        return ""
    try:
        find_update_policy(get_spec(request.model), request.update or None)
    except VtModelsError as error:
        return str(error)
    return ""
