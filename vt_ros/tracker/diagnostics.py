# SPDX-License-Identifier: Apache-2.0
"""What the tracker says in `/diagnostics`: lifecycle, images, model, target, and so on."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vt_interfaces.msg import TrackStatus
from vt_ros.common.convert import STATE_NAMES
from vt_ros.common.diagnostic_updater import ERROR, OK, STALE, WARN
from vt_ros.tracker.tracking_thread import Counters

if TYPE_CHECKING:
    from collections.abc import Callable

    from vt_ros.common.diagnostic_updater import Report as TaskReport
    from vt_ros.tracker.bearing import BearingFinder
    from vt_ros.tracker.grounding_thread import Finder
    from vt_ros.tracker.image_subscription import Arrivals, ImageInput
    from vt_ros.tracker.model_loading import LoadedModel
    from vt_ros.tracker.parameters import LiveSettings
    from vt_ros.tracker.tracking_thread import Report

_GOOD_STATES = (TrackStatus.STATE_IDLE, TrackStatus.STATE_TRACKING)
# Clocks that agree give ages from zero to some seconds.
_OLDEST_MS, _YOUNGEST_MS = 10_000.0, -100.0


@dataclass
class _Gauge:
    """Values since the last look: how many, their mean, the largest."""

    count: int = 0
    total: float = 0.0
    largest: float = float("-inf")

    def add(self, value: float) -> None:
        """Take one more value into account."""
        self.count += 1
        self.total += value
        self.largest = max(self.largest, value)

    def show(self, report: TaskReport, name: str) -> None:
        """Add mean and largest value to a report, if there was any."""
        if self.count:
            report.add(f"{name} mean", self.total / self.count)
            report.add(f"{name} max", self.largest)


@dataclass
class _Span:
    """What has happened since the last publication."""

    age: _Gauge = field(default_factory=_Gauge)
    inference: _Gauge = field(default_factory=_Gauge)
    score: _Gauge = field(default_factory=_Gauge)


@dataclass(frozen=True)
class _Seen:
    """The newest facts of the stream."""

    counters: Counters
    state: int = TrackStatus.STATE_IDLE
    target_id: int = 0
    message: str = ""
    frame_id: str = ""
    encoding: str = ""
    size: str = ""
    age_ms: float = float("nan")


class Health:
    """Collects what happens, and fills the tasks of a diagnostics updater.

    `take` is called in the worker's thread, everything else in the executor's.

    Args:
        live: asked at every publication.
    """

    def __init__(self, live: Callable[[], LiveSettings]) -> None:
        self._live = live
        self._lock = threading.Lock()
        self._span = _Span()
        self._seen = _Seen(Counters())
        self._told = Counters()
        self._last_refusal = ""
        self._received_before = 0
        self.lifecycle = "unconfigured"
        self.failure = ""
        self.loading = ""
        self.switch_failure = ""
        self.model: LoadedModel | None = None
        self.input: ImageInput | None = None
        self.calibration: tuple[str, BearingFinder] | None = None
        self.finder: Finder | None = None

    def restart(self) -> None:
        """Forget the stream: the node was activated or deactivated."""
        with self._lock:
            self._span, self._seen = _Span(), _Seen(Counters())
            self._told, self._last_refusal, self._received_before = Counters(), "", 0

    def take(self, report: Report, age_ms: float) -> None:
        """Take a report of the pipeline into account."""
        with self._lock:
            former = self._seen
            frame = report.frame
            self._seen = _Seen(
                counters=report.counters,
                state=report.state,
                target_id=report.target_id,
                message=report.message,
                frame_id=report.header.frame_id,
                encoding=report.encoding or former.encoding,
                size=f"{frame.shape[1]}x{frame.shape[0]}" if frame is not None else former.size,
                age_ms=age_ms,
            )
            if report.refused:
                self._last_refusal = report.message
            if age_ms == age_ms:  # noqa: PLR0124 - not NaN
                self._span.age.add(age_ms)
            if report.inference_ms:
                self._span.inference.add(report.inference_ms)
                self._span.score.add(report.score)

    def report_lifecycle(self, report: TaskReport) -> None:
        """Task "lifecycle": the state of the node, and why the last transition failed."""
        report.summary(OK, self.lifecycle)
        if self.loading:
            report.summary(OK, f"{self.lifecycle}, loading {self.loading}")
        if self.failure:
            report.summary(ERROR, f"{self.lifecycle}: {self.failure}")
        report.add("state", self.lifecycle)

    def report_images(self, report: TaskReport) -> None:
        """Task "images": whether images arrive, are readable, and are young."""
        if self.input is None:
            report.summary(STALE, f"not subscribed: the node is {self.lifecycle}")
            return
        arrivals = self.input.arrivals()
        with self._lock:
            seen, age, told = self._seen, self._span.age, self._told
            self._span.age, self._told = _Gauge(), seen.counters
            refusal = self._last_refusal
        received, self._received_before = (
            arrivals.received - self._received_before,
            arrivals.received,
        )
        if arrivals.silence > self._live().image_timeout:
            report.summary(ERROR, _silence(arrivals, self.input.topic))
        else:
            report.summary(OK, f"{received} images in the last second")
        rejected = seen.counters.rejected - told.rejected
        if rejected:
            report.merge(WARN, f"{rejected} images refused: {refusal}")
        if seen.age_ms > _OLDEST_MS or seen.age_ms < _YOUNGEST_MS:
            report.merge(
                WARN,
                f"the newest image is {seen.age_ms / 1000.0:.1f} s old by its stamp: the clocks of "
                "camera and tracker disagree (use_sim_time?)",
            )
        self._show_images(report, arrivals, seen)
        age.show(report, "image age ms")
        report.add("last refusal", refusal)

    def _show_images(self, report: TaskReport, arrivals: Arrivals, seen: _Seen) -> None:
        report.add("topic", self.input.topic)
        report.add("publishers", arrivals.publishers)
        report.add("reliability", self.input.qos.reliability.name.lower())
        report.add("incompatible QoS", ", ".join(arrivals.incompatible) or "none")
        report.add("received", arrivals.received)
        report.add("processed", seen.counters.processed)
        report.add("dropped", seen.counters.dropped)
        report.add("refused", seen.counters.rejected)
        report.add("lost by the middleware", arrivals.lost)
        report.add("seconds since the last", arrivals.silence)
        report.add("size", seen.size)
        report.add("encoding", seen.encoding)
        report.add("frame_id", seen.frame_id)

    def report_model(self, report: TaskReport) -> None:
        """Task "model": what runs, and how long it takes."""
        if self.model is None:
            report.summary(STALE, f"no model is loaded: the node is {self.lifecycle}")
            return
        with self._lock:
            inference, self._span.inference = self._span.inference, _Gauge()
        report.summary(OK, self.model.name)
        if self.loading:
            report.summary(OK, f"{self.model.name}, loading {self.loading}")
        if self.switch_failure:
            report.summary(WARN, f"{self.model.name} goes on: {self.switch_failure}")
        request = self.model.request
        report.add("model", self.model.name)
        report.add("reason", self.model.reason or "asked for by name")
        report.add("weights", request.weights or "those that ship or are installed")
        report.add("backend", request.backend)
        report.add("device", request.device)
        report.add("loaded in s", self.model.seconds)
        inference.show(report, "inference ms")

    def report_target(self, report: TaskReport) -> None:
        """Task "target": the state of the target."""
        if self.input is None:
            report.summary(STALE, f"no target: the node is {self.lifecycle}")
            return
        with self._lock:
            seen, score = self._seen, self._span.score
            self._span.score = _Gauge()
        level = OK if seen.state in _GOOD_STATES else WARN
        name = STATE_NAMES[seen.state]
        report.summary(level, f"{name}: {seen.message}" if seen.message else name)
        report.add("state", name)
        report.add("target", seen.target_id)
        if score.count:
            report.add("score mean", score.total / score.count)

    def report_bearing(self, report: TaskReport) -> None:
        """Task "bearing": whether there are directions, and why not."""
        if self.calibration is None:
            report.summary(STALE, f"the node is {self.lifecycle}")
            return
        topic, bearings = self.calibration
        if bearings.problem:
            report.summary(WARN, f"no bearing: {bearings.problem}")
        elif not bearings.calibrated:
            report.summary(OK, f"no bearing: nothing on {topic}")
        else:
            report.summary(OK, "calibrated")

    def report_grounding(self, report: TaskReport) -> None:
        """Task "grounding": what finds a text, and what it is doing."""
        request, finder = self._live().grounder, self.finder
        if request is None:
            report.summary(OK, "off: grounding.backend is none")
            return
        if finder is None:
            report.summary(STALE, f"the node is {self.lifecycle}")
            return
        facts = finder.facts
        report.summary(OK, facts.backend or f"{request.backend}, loaded when a text comes")
        if facts.failure:
            report.summary(WARN, f"{request.backend}: {facts.failure}")
        if facts.busy:
            report.summary(OK, f"looking for {facts.busy}")
        report.add("backend", request.backend)
        report.add("source", request.source or "what ships or is installed")
        report.add("last search", facts.last)
        report.add("last search s", facts.seconds)


def _silence(arrivals: Arrivals, topic: str) -> str:
    """Why no image arrives, as far as it can be told."""
    since = f"no image for {arrivals.silence:.1f} s"
    if arrivals.incompatible:
        return (
            f"{since}: a publisher of {topic} offers an incompatible "
            f"{', '.join(arrivals.incompatible)}; change image_qos.*"
        )
    if not arrivals.publishers:
        return f"{since}: nobody publishes {topic}; check the camera, the namespace, remappings"
    return f"{since}: {arrivals.publishers} publisher(s) of {topic} are silent"
