# SPDX-License-Identifier: Apache-2.0
"""Measure the tracker node: what it adds to its network, ages, processor time, the highest rate.

    python -m benchmarks.run --only node

Two nodes run, one takes raw images and one JPEG (quality 80); sizes and kinds take turns, and a
fixed piece of work (`benchmarks.reference`) before each, so that `make bench-check` can compare
ratios. Images come at 30 Hz (`--rate`) from this process, serialised before; the highest rate is
that at which at most 5 % of the images are without detections.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.serialization import serialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from benchmarks.reference import FixedWork
from benchmarks.scene import Scene
from vt_interfaces.msg import TrackStatus
from vt_interfaces.srv import SetTarget
from vt_models.errors import BackendError
from vt_models.evaluation.provenance import command_line, provenance
from vt_models.evaluation.reports.tables import table
from vt_ros.common.convert import (
    array_to_image,
    array_to_jpeg,
    bounding_box_from_xywh,
    stamp_nanoseconds,
)
from vt_ros.common.resources import fast_dds_environment

SIZES = {"640x480": (640, 480), "1280x720": (1280, 720), "1920x1080": (1920, 1080)}
KINDS = ("raw", "jpeg")
RATE, START_UP_RATE, WARM_FRAMES, FRAMES, SCENE_FRAMES = 30.0, 100.0, 20, 60, 30
MOST_DROPS, PEAK_SECONDS, PEAK_STEP, LOWEST_PEAK, HIGHEST_PEAK = 0.05, 1.5, 1.15, 20.0, 500.0
WORK_UPDATES, SECONDS_TO_START, SECONDS_TO_SETTLE = 10, 60.0, 0.5


class Stream:
    """A camera of one kind and its tracker node, in a namespace of their own.

    Args:
        kind: of `KINDS`.
        folder: for what the node's process writes.
        context: of rclpy.
    """

    def __init__(self, kind: str, folder: Path, context: rclpy.Context) -> None:
        self.kind, self.file = kind, folder / f"{kind}.json"
        transport = "compressed" if kind == "jpeg" else "raw"
        self.begin = time.monotonic()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.node_process", str(self.file), "--ros-args"),
                *("-r", f"__ns:=/{kind}", "-p", f"image_transport:={transport}"),
                *("--log-level", "error"),
            ]
        )
        self.arrived: dict[int, int] = {}
        self.states: list[int] = []
        self.first: dict[int, float] = {}
        self.node = rclpy.create_node("benchmark", namespace=f"/{kind}", context=context)
        message_type, topic = (Image, "image_raw")
        if kind == "jpeg":
            message_type, topic = CompressedImage, "image_raw/compressed"
        self.publisher = self.node.create_publisher(message_type, topic, 5)
        self.target = self.node.create_client(SetTarget, "tracker/set_target")
        self.node.create_subscription(
            Detection2DArray, "tracker/detections", self._on_detections, 100
        )
        self.node.create_subscription(TrackStatus, "tracker/status", self._on_status, 100)

    def wait(self) -> None:
        """Wait until the node is active; BackendError if it is not in time."""
        end = time.monotonic() + SECONDS_TO_START
        while not (self.publisher.get_subscription_count() and self.target.service_is_ready()):
            if time.monotonic() > end or self.process.poll() is not None:
                raise BackendError(
                    f"the tracker of {self.kind} images was not active after {SECONDS_TO_START:g} s"
                )
            time.sleep(0.1)

    def rows(self) -> list[dict[str, float]]:
        """End the node and return what it noted, see `benchmarks.node_process.Row`."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30.0)
        found: list[dict[str, float]] = json.loads(self.file.read_text(encoding="utf-8"))
        return found

    def publish(self, images: Iterable[bytes], rate: float) -> list[int]:
        """Publish images at a rate, stamped with the time; returns the stamps, nanoseconds."""
        stamps = []
        due = time.monotonic()
        for image in images:
            time.sleep(max(0.0, due - time.monotonic()))
            message = bytearray(image)
            stamps.append(time.time_ns())
            struct.pack_into("<iI", message, 4, *divmod(stamps[-1], 10**9))  # behind CDR's header
            self.publisher.publish(bytes(message))
            due += 1.0 / rate
        return stamps

    def start(self, images: Iterator[bytes], box: Sequence[float]) -> None:
        """Give the node the target of the first image, and wait for its answer."""
        first = next(images)
        self.publish([first] * 3, RATE)
        answer = self.target.call_async(SetTarget.Request(box=bounding_box_from_xywh(box)))
        end = time.monotonic() + SECONDS_TO_START
        while not answer.done():
            self.publish([first], RATE)
            if time.monotonic() > end:
                raise BackendError(f"no answer to set_target within {SECONDS_TO_START:g} s")
        if not answer.result().success:
            raise BackendError(f"set_target was refused: {answer.result().message}")

    def start_up(self, image: bytes, box: Sequence[float]) -> dict[str, float]:
        """Return the seconds from the process's start to its first status, and to TRACKING.

        Images come all the time, and the target is asked for as soon as there is the service.
        """
        answer = None
        while TrackStatus.STATE_TRACKING not in self.first:
            self.publish([image] * 2, START_UP_RATE)
            has_failed = answer is not None and answer.done() and not answer.result().success
            if self.target.service_is_ready() and (answer is None or has_failed):
                request = SetTarget.Request(box=bounding_box_from_xywh(box))
                answer = self.target.call_async(request)
            if time.monotonic() - self.begin > SECONDS_TO_START:
                raise BackendError(f"no target {SECONDS_TO_START:g} s after the node's start")
        return {
            "first_status_s": min(self.first.values()) - self.begin,
            "first_target_s": self.first[TrackStatus.STATE_TRACKING] - self.begin,
        }

    def _on_status(self, status: TrackStatus) -> None:
        self.states.append(status.state)
        self.first.setdefault(status.state, time.monotonic())

    def _on_detections(self, message: Detection2DArray) -> None:
        self.arrived[stamp_nanoseconds(message.header.stamp)] = time.time_ns()


def benchmark(repeats: int, peak_repeats: int, domain: int, rate: float = RATE) -> dict[str, Any]:
    """Measure the node with its default parameters.

    Args:
        repeats: at the fixed rate.
        peak_repeats: of the search for the highest rate; 0 leaves it out.
        domain: of ROS, of its own.
        rate: the fixed one, Hz.

    Raises:
        BackendError: a node does not start, or refuses the target.
    """
    about = provenance(command_line(), 0)
    cv2.setNumThreads(1)
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.update(fast_dds_environment(os.environ))
    scenes = {name: Scene(size, size[1] // 8) for name, size in SIZES.items()}
    blocks: list[dict[str, Any]] = []
    peaks: dict[str, list[float]] = {}
    start_up = [_start_up(scenes["640x480"]) for _ in range(repeats)]
    with _nodes(KINDS) as streams:
        for stream in streams:
            stream.wait()
        images = {
            (name, kind): [_serialised(scene, number, kind) for number in range(SCENE_FRAMES)]
            for name, scene in scenes.items()
            for kind in KINDS
        }
        turns = [(name, stream) for name in SIZES for stream in streams]
        for number in range(max(repeats, peak_repeats)):
            for name, stream in turns:
                shown = _to_and_fro(images[name, stream.kind])
                case = f"{stream.kind}_{name}"
                work = _work_ms()
                stream.start(shown, scenes[name].box(0))
                if number < repeats:
                    blocks.append({"case": case, "reference_ms": work, **_at(rate, stream, shown)})
                if number < peak_repeats:
                    peaks.setdefault(case, []).append(highest_rate(_drops(stream, shown)))
        rows = {stream.kind: stream.rows() for stream in streams}
    return {
        "benchmark": "node",
        **about,
        "rate": rate,
        "frames": FRAMES,
        "cases": summary(blocks, rows, peaks),
        "start_up": {
            **{key: float(np.median([one[key] for one in start_up])) for key in start_up[0]},
            "repeats": start_up,
        },
    }


def summary(
    blocks: Sequence[Mapping[str, Any]],
    rows: Mapping[str, Sequence[Mapping[str, float]]],
    peaks: Mapping[str, Sequence[float]],
) -> dict[str, Any]:
    """Sum up what was measured, by case: kind and size of the images.

    Args:
        blocks: of one repeat of one case each: "case", "reference_ms", "stamps" of the images,
            "latency_ms" of those with detections, "tracking" (share of the statuses).
        rows: of the nodes, by kind.
        peaks: highest rates by case, Hz.

    Returns:
        By case numbers over all repeats, and "repeats". Processor times of a frame, without the
        network's: "cpu_median_ms" of the whole process, "thread_cpu_ms" of the tracking thread;
        "reference_cpu_ms" that of the fixed work.
    """
    cases: dict[str, list[dict[str, Any]]] = {}
    for block in blocks:
        kind = block["case"].partition("_")[0]
        stamps = set(block["stamps"])
        found = [row for row in rows[kind] if row["stamp"] in stamps]
        if len(found) < 2:
            raise BackendError(f"{block['case']}: the node published {len(found)} detections")
        seconds = 1e-9 * (found[-1]["stamp"] - found[0]["stamp"])
        cpu_s = found[-1]["cpu_s"] - found[0]["cpu_s"]
        network = sum(row["network_cpu_ms"] for row in found[1:])
        frames = len(found) - 1
        cases.setdefault(block["case"], []).append(
            {
                "cpu_median_ms": (1e3 * cpu_s - network) / frames,
                "thread_cpu_ms": float(np.median([row["thread_cpu_ms"] for row in found[1:]])),
                "reference_cpu_ms": block["reference_ms"],
                "overhead_ms": float(np.median([row["overhead_ms"] for row in found])),
                "network_ms": float(np.median([row["network_ms"] for row in found])),
                "cpu_share": cpu_s / seconds,
                "drops": 1.0 - len(found) / len(stamps),
                "tracking": block["tracking"],
                "ages": [row["age_ms"] for row in found],
                "latencies": list(block["latency_ms"]),
            }
        )
    return {case: _overall(repeats, peaks.get(case, ())) for case, repeats in cases.items()}


def _overall(repeats: Sequence[dict[str, Any]], peaks: Sequence[float]) -> dict[str, Any]:
    ages = [age for one in repeats for age in one.pop("ages")]
    latencies = [latency for one in repeats for latency in one.pop("latencies")]
    return {
        **{key: float(np.median([one[key] for one in repeats])) for key in repeats[0]},
        **_percentiles("age", ages),
        **_percentiles("latency", latencies),
        "peak_hz": float(np.median(peaks)) if peaks else None,
        "peaks_hz": list(peaks),
        "repeats": list(repeats),
    }


def highest_rate(drops: Callable[[float], float]) -> float:
    """Find the highest rate, in Hz, at which `drops(rate)` is at most 5 %; 0 for none.

    The rate goes up by steps until two in a row lose too many: one may be another program's doing.
    """
    best, rate, misses = 0.0, LOWEST_PEAK, 0
    while rate <= HIGHEST_PEAK and misses < 2:
        if drops(rate) <= MOST_DROPS:
            best, misses = rate, 0
        else:
            misses += 1
        rate *= PEAK_STEP
    return best


def to_text(result: Mapping[str, Any]) -> str:
    """Return a table with a line for each case."""
    columns = (
        *(
            "overhead_ms",
            "cpu_median_ms",
            "thread_cpu_ms",
            "network_ms",
            "age_p50_ms",
            "age_p99_ms",
        ),
        *("latency_p50_ms", "latency_p99_ms", "cpu_share", "peak_hz", "tracking"),
    )
    title = f"node at {result['rate']:g} Hz"
    return f"{table(title, columns, result['cases'].items())}\n"


def _start_up(scene: Scene) -> dict[str, float]:
    with _nodes(("raw",)) as streams:
        return streams[0].start_up(_serialised(scene, 0, "raw"), scene.box(0))


@contextmanager
def _nodes(kinds: Sequence[str]) -> Iterator[list[Stream]]:
    """Start nodes for images of some kinds, and spin this process's side; ends them all."""
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor(context=context)
    streams: list[Stream] = []

    def spin() -> None:
        with suppress(ExternalShutdownException):
            executor.spin()

    spinner = threading.Thread(target=spin, daemon=True)
    folder = tempfile.TemporaryDirectory(prefix="vt_ros-")
    try:
        for kind in kinds:
            streams.append(Stream(kind, Path(folder.name), context))
            executor.add_node(streams[-1].node)
        spinner.start()
        yield streams
    finally:
        for stream in streams:
            if stream.process.poll() is None:
                stream.process.kill()
            stream.process.wait()
        folder.cleanup()
        executor.shutdown()
        for stream in streams:
            stream.node.destroy_node()
        rclpy.shutdown(context=context)


def _at(rate: float, stream: Stream, shown: Iterator[bytes]) -> dict[str, Any]:
    stream.publish((next(shown) for _ in range(WARM_FRAMES)), rate)
    stream.states.clear()
    stamps = stream.publish((next(shown) for _ in range(FRAMES)), rate)
    time.sleep(SECONDS_TO_SETTLE)
    states = list(stream.states)
    tracking = states.count(TrackStatus.STATE_TRACKING) / len(states) if states else 0.0
    latencies = [1e-6 * (stream.arrived[s] - s) for s in stamps if s in stream.arrived]
    return {"stamps": stamps, "latency_ms": latencies, "tracking": tracking}


def _drops(stream: Stream, shown: Iterator[bytes]) -> Callable[[float], float]:
    """Return what tells the share of images without detections at a rate; 1 if it is not reached.

    It is not reached where this process cannot publish as fast.
    """

    def drops(rate: float) -> float:
        number = round(PEAK_SECONDS * rate)
        stamps = stream.publish((next(shown) for _ in range(number)), rate)
        time.sleep(SECONDS_TO_SETTLE)
        if (number - 1) / (1e-9 * (stamps[-1] - stamps[0])) < (1.0 - MOST_DROPS) * rate:
            return 1.0
        return 1.0 - sum(stamp in stream.arrived for stamp in stamps) / number

    return drops


def _percentiles(name: str, values: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(values, (50, 99))
    return {f"{name}_p50_ms": float(p50), f"{name}_p99_ms": float(p99)}


def _serialised(scene: Scene, number: int, kind: str) -> bytes:
    write = array_to_jpeg if kind == "jpeg" else array_to_image
    message = write(scene.frame(number), Header(frame_id="camera"))
    return bytes(serialize_message(message))


def _to_and_fro(images: Sequence[bytes]) -> Iterator[bytes]:
    """The images from the first to the last and back, for ever: nothing jumps."""
    while True:
        yield from images
        yield from images[-2:0:-1]


def _work_ms() -> float:
    """Processor time of the fixed work, milliseconds; the median of some."""
    work, times = FixedWork(), []
    for _ in range(WORK_UPDATES):
        begin = time.thread_time()
        work.update(None)
        times.append(1e3 * (time.thread_time() - begin))
    return float(np.median(times))
