# SPDX-License-Identifier: Apache-2.0
"""Run a tracker node for long, with troubles and requests, and measure whether it stays the same.

    python -m benchmarks.soak --minutes 30 --output benchmarks/results/soak.json

Each minute: 40 s of ordinary images, then a covered lens, no image at all, one image again and
again, and images that cannot be read. Twice a second a request: targets that are good and bad,
parameters, states. Memory, threads, descriptors and shared memory are those of the node's process
(files of all processes in /dev/shm). Ends with 1 if the node ended, or left a request unanswered.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from itertools import count, cycle
from pathlib import Path
from statistics import median
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import SetParameters
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from benchmarks.result_file import write_result
from benchmarks.scene import Scene
from vt_interfaces.msg import TrackStatus
from vt_interfaces.srv import SetTarget
from vt_models.evaluation.provenance import command_line, provenance
from vt_ros.common.convert import STATE_NAMES, array_to_image, bounding_box_from_xywh
from vt_ros.common.resources import fast_dds_environment

WIDTH, HEIGHT, SIDE = 640, 480, 60
PHASES = (("ordinary", 40), ("dark", 3), ("silent", 5), ("repeated", 3), ("unreadable", 3))
REQUESTS = (*("target", "state", "no target", "parameter") * 12, "point", "clear")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108, read only
SAMPLE_PERIOD, REQUEST_PERIOD, LONGEST_ANSWER = 5.0, 0.5, 30.0


def image_message(scene: Scene, number: int, phase: str) -> Image:
    """The image message of a frame."""
    is_repeated = phase == "repeated"
    frame = scene.frame(0 if is_repeated else number, noise=not is_repeated)
    if phase == "dark":
        frame //= 64
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    header = Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id="camera")
    message = array_to_image(frame, header)
    if phase == "unreadable":
        message.step += 1
    return message


class Soak:
    """A node that drives the tracker for some minutes, and what it notes."""

    def __init__(self, pid: int, rate: float) -> None:
        self._pid, self._interval = pid, 1.0 / rate
        self._context = rclpy.Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("soak", context=self._context)
        self._images = self._node.create_publisher(Image, "image_raw", 5)
        self._node.create_subscription(TrackStatus, "tracker/status", self._on_status, 100)
        self._services = {
            kind: self._node.create_client(kind, f"tracker/{name}")
            for kind, name in (
                (SetTarget, "set_target"),
                (Trigger, "clear_target"),
                (SetParameters, "set_parameters"),
                (GetState, "get_state"),
            )
        }
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        threading.Thread(target=self._spin, daemon=True).start()
        self.samples: list[dict[str, float]] = []
        self.states = dict.fromkeys(STATE_NAMES.values(), 0)
        self.published = self.statuses = self.asked = 0
        self.answer_seconds: list[float] = []
        self.longest_silence = 0.0
        self._owed_since: float | None = None

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()

    def _on_status(self, message: TrackStatus) -> None:
        now = time.monotonic()
        self.statuses += 1
        self.states[STATE_NAMES[message.state]] += 1
        if self._owed_since is not None:
            self.longest_silence = max(self.longest_silence, now - self._owed_since)
        self._owed_since = None

    def ready(self, seconds: float) -> bool:
        """Wait until the tracker is active; False if it is not by then."""
        end = time.monotonic() + seconds
        while not self._images.get_subscription_count():
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        for client in self._services.values():
            client.wait_for_service(seconds)
        time.sleep(1.0)  # a server knows a client a little later than the client knows it
        return True

    def run(self, seconds: float, node: subprocess.Popen[bytes]) -> None:
        """Publish, ask and note for so many seconds, or until the node ends."""
        scene, requests = Scene((WIDTH, HEIGHT), SIDE), cycle(REQUESTS)
        schedule = cycle(name for name, duration in PHASES for _ in range(duration))
        begin = time.monotonic()
        next_sample = next_request = next_phase = begin
        phase = "ordinary"
        for number in count():
            now = time.monotonic()
            if now - begin > seconds or node.poll() is not None:
                return
            if now >= next_phase:
                phase, next_phase = next(schedule), next_phase + 1.0
            if now >= next_request:
                self._ask(next(requests), scene.box(number))
                next_request += REQUEST_PERIOD
            if now >= next_sample:
                self.samples.append({"second": round(now - begin, 1), **resources(self._pid)})
                next_sample += SAMPLE_PERIOD
            if phase != "silent":
                self._images.publish(image_message(scene, number, phase))
                self.published += 1
                self._owed_since = self._owed_since or time.monotonic()
            time.sleep(max(0.0, now + self._interval - time.monotonic()))

    def _ask(self, name: str, box: tuple[float, float, float, float]) -> None:
        parameter = Parameter("hardware_id", value=f"soak {self.asked}").to_parameter_msg()
        requests: dict[str, Any] = {
            "target": SetTarget.Request(box=bounding_box_from_xywh(box)),
            "state": GetState.Request(),
            "no target": SetTarget.Request(
                box=bounding_box_from_xywh((float("nan"), 0.0, -1.0, 5.0))
            ),
            "parameter": SetParameters.Request(parameters=[parameter]),
            "point": SetTarget.Request(mode=SetTarget.Request.MODE_POINT),
            "clear": Trigger.Request(),
        }
        request = requests[name]
        client = next(c for kind, c in self._services.items() if isinstance(request, kind.Request))
        begin = time.monotonic()
        self.asked += 1
        client.call_async(request).add_done_callback(
            lambda _: self.answer_seconds.append(time.monotonic() - begin)
        )

    def close(self) -> None:
        """Wait for the last answers and end the node."""
        end = time.monotonic() + LONGEST_ANSWER
        while len(self.answer_seconds) < self.asked and time.monotonic() < end:
            time.sleep(0.1)
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


def resources(pid: int) -> dict[str, float]:
    """Memory in MB, threads, descriptors and shared memory in MB; nothing if it has ended."""
    with suppress(OSError):
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        return {
            "memory_mb": round(int(status["VmRSS"].split()[0]) / 1024, 1),
            "threads": int(status["Threads"]),
            "descriptors": len([*Path(f"/proc/{pid}/fd").iterdir()]),
            "shared_memory_mb": round(
                sum(file.stat().st_blocks * 512 for file in _SHARED_MEMORY.iterdir()) / 1e6, 1
            ),
        }
    return {}


def summary(soak: Soak, code: int | None) -> dict[str, Any]:
    """The figures of the result file; the first minute warms up and is left out of the growth.

    Memory is also there by the minute: whether it grows or is level is the question.
    """
    settled = [sample for sample in soak.samples if sample["second"] >= 60.0 and len(sample) > 1]
    settled = settled or [sample for sample in soak.samples if len(sample) > 1]
    figures: dict[str, dict[str, Any]] = {
        name: {
            "first": settled[0][name],
            "last": settled[-1][name],
            "largest": max(sample[name] for sample in settled),
        }
        for name in ("memory_mb", "threads", "descriptors", "shared_memory_mb")
    }
    by_minute = {int(sample["second"] // 60.0): sample["memory_mb"] for sample in settled}
    figures["memory_mb"]["each_minute"] = list(by_minute.values())
    answers = soak.answer_seconds
    return {
        "minutes": round(soak.samples[-1]["second"] / 60.0, 1),
        "images": soak.published,
        "statuses": soak.statuses,
        "states": soak.states,
        "longest_silence_s": round(soak.longest_silence, 3),
        "requests": soak.asked,
        "answered": len(answers),
        "answer_s": {"median": round(median(answers), 3), "largest": round(max(answers), 3)},
        **figures,
        "exit_code": code,
    }


def main(arguments: list[str] | None = None) -> int:
    """Run, print and write the result."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=10.0, help="images per second")
    parser.add_argument("--domain", type=int, default=97, help="ROS domain, of its own")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/local/soak.json"))
    args = parser.parse_args(arguments)
    about = provenance(command_line(), 0)
    os.environ["ROS_DOMAIN_ID"] = str(args.domain)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.update(fast_dds_environment(os.environ))
    quiet = ["--ros-args", "--log-level", "error"]
    node = subprocess.Popen([sys.executable, "-m", "vt_ros.tracker", *quiet])
    soak = Soak(node.pid, args.rate)
    try:
        if not soak.ready(60.0):
            print("the tracker was not active after 60 s", file=sys.stderr)
            return 1
        soak.run(60.0 * args.minutes, node)
    finally:
        soak.close()
        node.send_signal(signal.SIGINT)
        try:
            code = node.wait(30.0)
        except subprocess.TimeoutExpired:
            node.kill()
            code = node.wait()
    result = {"benchmark": "soak", **about, "rate": args.rate, **summary(soak, code)}
    write_result(args.output, result)
    print("\n".join(f"{key}: {value}" for key, value in result.items()))
    return int(bool(code) or result["answered"] < result["requests"])


if __name__ == "__main__":
    sys.exit(main())
