# SPDX-License-Identifier: Apache-2.0
"""What the tracker says in `/diagnostics`; it reads the state of the node and changes nothing."""

from __future__ import annotations

from collections.abc import Callable

from vt_interfaces.msg import TrackStatus
from vt_ros.common.convert import STATE_NAMES
from vt_ros.common.diagnostic_updater import ERROR, OK, STALE, WARN, TaskReport, Updater
from vt_ros.tracker.image_subscription import DeliveryStats
from vt_ros.tracker.parameters import LiveSettings
from vt_ros.tracker.state import NodeState

_GOOD_STATES = (TrackStatus.STATE_IDLE, TrackStatus.STATE_TRACKING)
_FAILURES_IN_A_ROW = 3
# Clocks that agree give ages from zero to some seconds.
_OLDEST_MS, _YOUNGEST_MS = 10_000.0, -100.0


class Diagnostics:
    """The tasks of a diagnostics updater; all are called in the executor's thread.

    Args:
        state: of the node.
        live: asked at every publication.
    """

    def __init__(self, state: NodeState, live: Callable[[], LiveSettings]) -> None:
        self._state, self._live = state, live

    def add_to(self, updater: Updater) -> None:
        """Add all tasks to an updater."""
        updater.add("lifecycle", self.report_lifecycle)
        updater.add("images", self.report_images)
        updater.add("model", self.report_model)
        updater.add("target", self.report_target)
        updater.add("bearing", self.report_bearing)
        updater.add("grounding", self.report_grounding)

    def report_lifecycle(self, report: TaskReport) -> None:
        """Report the state of the node, and why the last transition failed."""
        state = self._state
        report.summary(OK, state.lifecycle)
        if state.loading:
            report.summary(OK, f"{state.lifecycle}, loading {state.loading}")
        if state.failure:
            report.summary(ERROR, f"{state.lifecycle}: {state.failure}")
        report.add("state", state.lifecycle)

    def report_images(self, report: TaskReport) -> None:
        """Report whether images arrive, are readable, and are young."""
        session = self._state.session
        if session is None:
            report.summary(STALE, f"not subscribed: the node is {self._state.lifecycle}")
            return
        delivery, topic = session.subscription.stats(), session.subscription.topic
        facts, age = session.statistics.facts, session.statistics.read("age")
        received, rejected, lost = session.statistics.read_growth(
            delivery.received, facts.counters.rejected, delivery.lost
        )
        if delivery.silence > self._live().image_timeout:
            report.summary(ERROR, _silence(delivery, topic))
        else:
            report.summary(OK, f"{received} images in the last second")
        if lost > 0:
            report.merge(
                WARN,
                f"{lost} images were lost on the way in the last second, as large ones are without "
                "the profile config/fastdds.xml at the publisher, or with a weak link",
            )
        if rejected:
            report.merge(WARN, f"{rejected} images refused: {facts.last_refusal}")
        if facts.age_ms > _OLDEST_MS or facts.age_ms < _YOUNGEST_MS:
            report.merge(
                WARN,
                f"the newest image is {facts.age_ms / 1000.0:.1f} s old by its stamp: the clocks "
                "of camera and tracker disagree (use_sim_time?)",
            )
        report.add("topic", topic)
        report.add("publishers", delivery.publishers)
        report.add("reliability", session.subscription.qos.reliability.name.lower())
        report.add("incompatible QoS", ", ".join(delivery.incompatible) or "none")
        report.add("received", delivery.received)
        report.add("processed", facts.counters.processed)
        report.add("dropped", facts.counters.dropped)
        report.add("refused", facts.counters.rejected)
        report.add("lost by the middleware", delivery.lost)
        report.add("seconds since the last", delivery.silence)
        report.add("size", "{}x{}".format(*facts.image_size))
        report.add("encoding", facts.encoding)
        report.add("frame_id", facts.frame_id)
        if age.count:
            report.add("image age ms mean", age.mean)
            report.add("image age ms max", age.largest)
        report.add("last refusal", facts.last_refusal)

    def report_model(self, report: TaskReport) -> None:
        """Report which model is at work, and how long it takes."""
        state = self._state
        if state.resources is None:
            report.summary(STALE, f"no model is loaded: the node is {state.lifecycle}")
            return
        model = state.resources.model
        report.summary(OK, model.name)
        if state.loading:
            report.summary(OK, f"{model.name}, loading {state.loading}")
        if state.session is not None and state.session.watchdog.reason:
            report.summary(ERROR, f"{model.name}: {state.session.watchdog.reason}")
        if state.switch_failure:
            report.summary(WARN, f"{model.name} goes on: {state.switch_failure}")
        report.add("model", model.name)
        report.add("reason", model.reason or "asked for by name")
        report.add("weights", model.request.weights or "bundled or installed")
        report.add("backend", model.request.backend)
        report.add("device", model.request.device)
        report.add("loaded in s", model.seconds)
        if state.session is not None:
            inference = state.session.statistics.read("inference")
            if inference.count:
                report.add("inference ms mean", inference.mean)
                report.add("inference ms max", inference.largest)

    def report_target(self, report: TaskReport) -> None:
        """Report the state of the target."""
        session = self._state.session
        if session is None:
            report.summary(STALE, f"no target: the node is {self._state.lifecycle}")
            return
        facts, score = session.statistics.facts, session.statistics.read("score")
        name = STATE_NAMES[facts.state]
        level = OK if facts.state in _GOOD_STATES else WARN
        report.summary(level, f"{name}: {facts.message}" if facts.message else name)
        if session.watchdog.reason:
            report.summary(ERROR, f"nothing is known of the target: {session.watchdog.reason}")
        if (
            self._state.resources is not None
            and self._state.resources.publishers.prediction.problem
        ):
            problem = self._state.resources.publishers.prediction.problem
            report.merge(WARN, f"no prediction: {problem}")
        if facts.failures >= _FAILURES_IN_A_ROW:
            report.merge(ERROR, f"{facts.failures} frames in a row have failed: {facts.failure}")
        report.add("state", name)
        report.add("target", facts.target_id)
        report.add("last recording", session.recorder.last or "none")
        if score.count:
            report.add("score mean", score.mean)

    def report_bearing(self, report: TaskReport) -> None:
        """Report whether there are directions, and why not."""
        session = self._state.session
        if session is None:
            report.summary(STALE, f"the node is {self._state.lifecycle}")
        elif session.bearings.problem:
            report.summary(WARN, f"no bearing: {session.bearings.problem}")
        elif not session.bearings.calibrated:
            report.summary(OK, f"no bearing: nothing on {session.camera_info_topic}")
        else:
            report.summary(OK, "calibrated")

    def report_grounding(self, report: TaskReport) -> None:
        """Report which backend finds a text, and what it is doing."""
        request, resources = self._live().grounder, self._state.resources
        if request is None:
            report.summary(OK, "off: grounding.backend is none")
            return
        if resources is None:
            report.summary(STALE, f"the node is {self._state.lifecycle}")
            return
        status = resources.grounding.status
        report.summary(OK, status.backend or f"{request.backend}, loaded when a text comes")
        if status.failure:
            report.summary(WARN, f"{request.backend}: {status.failure}")
        if resources.grounding.stuck:
            report.summary(ERROR, resources.grounding.stuck)
        elif status.busy:
            report.summary(OK, f"looking for {status.busy}")
        report.add("backend", request.backend)
        report.add("source", request.source or "bundled or installed")
        report.add("last search", status.last)
        report.add("last search s", status.seconds)


def _silence(delivery: DeliveryStats, topic: str) -> str:
    """Say why no image arrives, as far as it can be told."""
    since = f"no image for {delivery.silence:.1f} s"
    if delivery.hint:
        return f"{since}: {delivery.hint}"
    if delivery.incompatible:
        return (
            f"{since}: a publisher of {topic} offers an incompatible "
            f"{', '.join(delivery.incompatible)}; change image_qos.*"
        )
    if not delivery.publishers:
        return f"{since}: nobody publishes {topic}; check the camera, the namespace, remappings"
    return f"{since}: {delivery.publishers} publisher(s) of {topic} are silent"
