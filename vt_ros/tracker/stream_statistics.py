# SPDX-License-Identifier: Apache-2.0
"""Numbers about the stream of frames, collected between two publications of `/diagnostics`."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field

from vt_interfaces.msg import TrackStatus
from vt_ros.tracker.current_target import Counters, FrameReport


@dataclass
class Gauge:
    """Values since the last reading: how many, their mean, the largest."""

    count: int = 0
    total: float = 0.0
    largest: float = float("-inf")

    @property
    def mean(self) -> float:
        """Mean of the values; NaN without any."""
        return self.total / self.count if self.count else math.nan

    def add(self, value: float) -> None:
        """Take one more value into account."""
        self.count += 1
        self.total += value
        self.largest = max(self.largest, value)


@dataclass(frozen=True)
class StreamFacts:
    """The newest facts about the stream; attributes as of `FrameReport` and TrackStatus.

    Attributes:
        image_size: width and height of the last image that could be read, pixels.
        last_refusal: why an image was refused last; empty if none was.
        failures: frames in a row, up to the newest one, in which something went wrong in the
            program; `failure` names what it was in the newest of them.
    """

    counters: Counters = field(default_factory=Counters)
    state: int = TrackStatus.STATE_IDLE
    target_id: int = 0
    message: str = ""
    frame_id: str = ""
    encoding: str = ""
    image_size: tuple[int, int] = (0, 0)
    age_ms: float = math.nan
    last_refusal: str = ""
    failures: int = 0
    failure: str = ""


class StreamStatistics:
    """Collects reports in the tracking thread, for the diagnostics in the executor's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gauges = {"age": Gauge(), "inference": Gauge(), "score": Gauge()}
        self._facts = StreamFacts()
        self._last_read: tuple[int, ...] = (0, 0, 0)

    @property
    def facts(self) -> StreamFacts:
        """The newest facts."""
        return self._facts

    def add(self, report: FrameReport, age_ms: float) -> None:
        """Take a report into account.

        Args:
            report: of a frame.
            age_ms: of its image when the report was published; NaN if that has no stamp.
        """
        with self._lock:
            previous, frame = self._facts, report.frame
            self._facts = StreamFacts(
                counters=report.counters,
                state=report.state,
                target_id=report.target_id,
                message=report.message,
                frame_id=report.header.frame_id,
                encoding=report.encoding or previous.encoding,
                image_size=(
                    previous.image_size if frame is None else (frame.shape[1], frame.shape[0])
                ),
                age_ms=age_ms,
                last_refusal=report.message if report.refused else previous.last_refusal,
                failures=previous.failures + 1 if report.failure else 0,
                failure=report.failure,
            )
            if not math.isnan(age_ms):
                self._gauges["age"].add(age_ms)
            if report.inference_ms:
                self._gauges["inference"].add(report.inference_ms)
                self._gauges["score"].add(report.score)

    def read(self, name: str) -> Gauge:
        """Return a gauge ("age", "inference" or "score") and begin it anew."""
        with self._lock:
            gauge, self._gauges[name] = self._gauges[name], Gauge()
        return gauge

    def read_growth(self, *counters: int) -> tuple[int, ...]:
        """Return how much the same counters have grown since this was called last."""
        before, self._last_read = self._last_read, counters
        return tuple(now - then for now, then in zip(counters, before, strict=True))
