# SPDX-License-Identifier: Apache-2.0
"""Says that a thread is stuck, since that cannot say so itself."""

from __future__ import annotations

from collections.abc import Callable

from vt_interfaces.srv import SetTarget
from vt_ros.tracker.current_target import FrameReport
from vt_ros.tracker.grounding_thread import GroundingThread
from vt_ros.tracker.parameters import LiveSettings
from vt_ros.tracker.target_request import TargetRefusedError
from vt_ros.tracker.tracking_thread import Log, TrackingThread


class Watchdog:
    """Checks the threads; called again and again in the executor's thread.

    Args:
        tracking: is watched.
        grounding: is watched, too.
        live: asked at every check.
        publish: called with a report in place of the tracking thread's.
        log: for the beginning and the end of such a time.
        exit_process: called when the tracking thread is stuck, if the parameters want that.

    Attributes:
        reason: why the tracking thread counts as stuck, a sentence; empty: it does not.
    """

    def __init__(
        self,
        tracking: TrackingThread,
        grounding: GroundingThread,
        live: Callable[[], LiveSettings],
        publish: Callable[[FrameReport], None],
        log: Log,
        exit_process: Callable[[], None],
    ) -> None:
        self._tracking, self._grounding = tracking, grounding
        self._live, self._publish = live, publish
        self._log, self._exit_process = log, exit_process
        self.reason = ""

    def check(self) -> None:
        """Speak for a thread that is stuck: to the requests that wait, and in a status."""
        live, seconds = self._live(), self._tracking.seconds_without_turn()
        self._grounding.check(live.grounding_timeout)
        was_stuck = bool(self.reason)
        if seconds <= live.watchdog_timeout:
            self.reason = ""
            if was_stuck:
                self._log.error("the tracking thread goes on")
            return
        self.reason = (
            f"the tracking thread has been stuck in a frame for {seconds:.1f} s "
            f"(watchdog.timeout {live.watchdog_timeout:g})"
        )
        if not was_stuck:
            self._log.error(self.reason)
        self._tracking.refuse_waiting(
            TargetRefusedError(SetTarget.Response.ERROR_INTERNAL, self.reason)
        )
        report = self._tracking.report_stuck(self.reason)
        if report is not None:
            self._publish(report)
        if live.watchdog_exit and not was_stuck:
            self._exit_process()
