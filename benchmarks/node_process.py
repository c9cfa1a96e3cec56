# SPDX-License-Identifier: Apache-2.0
"""The tracker node with a stopwatch: `python -m benchmarks.node_process FILE --ros-args ...`.

The node is the one that users run; three functions of its process are wrapped: an image arrives,
the network runs, detections are published. For each frame that was published the file gets, at the
end of the process, its stamp and the times of `Row`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rclpy.publisher import Publisher
from std_msgs.msg import Header

from vt_models.runtime.onnx_engine import OnnxEngine
from vt_ros.common.convert import serialised_stamp, stamp_nanoseconds
from vt_ros.entry_points import tracker_node
from vt_ros.tracker.image_buffer import BufferedImage
from vt_ros.tracker.tracking_thread import TrackingThread


class Row(NamedTuple):
    """Times of a frame.

    Attributes:
        stamp: of the image, nanoseconds.
        overhead_ms: from the callback with the image to the detections, without the network.
        network_ms, network_cpu_ms: of the network, by the clock and of the processor.
        age_ms: of the image when its detections were published.
        thread_cpu_ms: processor time of the tracking thread since the previous detections, without
            the network; other programs, and images that are dropped, change it little.
        cpu_s: processor time of the process so far.
    """

    stamp: int
    overhead_ms: float
    network_ms: float
    network_cpu_ms: float
    age_ms: float
    thread_cpu_ms: float
    cpu_s: float


@dataclass
class Stopwatch:
    """Notes the times of each frame; `install` wraps the functions.

    Attributes:
        rows: of the frames so far.
    """

    rows: list[Row]
    _received: dict[int, float]
    _network_s: float = 0.0
    _network_cpu_s: float = 0.0
    _thread_cpu_s: float = 0.0

    def install(self) -> None:
        """Wrap the functions of this process."""
        offer, search, publish = TrackingThread.offer, OnnxEngine.search, Publisher.publish

        def timed_offer(thread: TrackingThread, image: BufferedImage) -> None:
            self._received[image.stamp] = image.received
            offer(thread, image)

        def timed_search(engine: OnnxEngine, *arguments: Any) -> Any:
            begin, cpu = time.monotonic(), time.thread_time()
            try:
                return search(engine, *arguments)
            finally:
                self._network_s += time.monotonic() - begin
                self._network_cpu_s += time.thread_time() - cpu

        def timed_publish(publisher: Publisher, message: Any) -> None:
            publish(publisher, message)
            if publisher.topic_name.endswith("/detections"):
                self._note(message)

        for owner, name, timed in (
            (TrackingThread, "offer", timed_offer),
            (OnnxEngine, "search", timed_search),
            (Publisher, "publish", timed_publish),
        ):
            _replace(owner, name, timed)

    def _note(self, message: Any) -> None:
        stamp = serialised_stamp(message) if isinstance(message, bytes) else _stamp(message.header)
        received = self._received.pop(stamp, None)
        if received is not None:
            network, cpu = self._network_s, self._network_cpu_s
            overhead = time.monotonic() - received - network
            age = 1e-6 * (time.time_ns() - stamp)
            thread = time.thread_time() - self._thread_cpu_s - cpu
            times = (1e3 * overhead, 1e3 * network, 1e3 * cpu, age, 1e3 * thread)
            self.rows.append(Row(stamp, *times, time.process_time()))
        self._thread_cpu_s = time.thread_time()
        self._network_s = self._network_cpu_s = 0.0


def _stamp(header: Header) -> int:
    return stamp_nanoseconds(header.stamp)


def _replace(owner: type, name: str, function: Callable[..., Any]) -> None:
    setattr(owner, name, function)


def main() -> int:
    """Run the node until a signal, then write what was noted."""
    output = Path(sys.argv.pop(1))
    stopwatch = Stopwatch([], {})
    stopwatch.install()
    code = tracker_node()
    output.write_text(json.dumps([row._asdict() for row in stopwatch.rows]), encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
