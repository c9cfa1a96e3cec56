# SPDX-License-Identifier: Apache-2.0
"""Measure what the operator's page costs: the age it adds to a frame, and what viewers cost.

    python -m benchmarks.console --output benchmarks/results/console.json

A stand-in for a tracker publishes 720p images at 30 Hz, and at once a status for each, so that all
that is measured is the console's: from the stamp of an image until a viewer on this machine has the
frame whole. Viewers are WebSockets that answer at once, all in one further process; processor time
is that of the console's process alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from benchmarks.result_file import measure_into
from vt_interfaces.msg import TrackStatus
from vt_models.errors import VtModelsError
from vt_models.evaluation.provenance import command_line, provenance
from vt_ros.common.convert import array_to_image, detection_from_box
from vt_ros.common.resources import fast_dds_environment

WIDTH, HEIGHT, RATE = 1280, 720, 30.0
VIEWERS = (0, 1, 4, 16)
_BURN_IN = 2.0  # seconds until the level has settled
_PATIENCE = 60.0


class Source:
    """A node that publishes images, and says about each what a tracker would."""

    def __init__(self) -> None:
        self.node: Node = rclpy.create_node("tracker")
        self._images = self.node.create_publisher(Image, "image_raw", qos_profile_sensor_data)
        self._status = self.node.create_publisher(TrackStatus, "tracker/status", 10)
        self._detections = self.node.create_publisher(Detection2DArray, "tracker/detections", 10)
        coarse = np.random.default_rng(0).integers(0, 255, (45, 80, 3), np.uint8)
        self._frame = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and the node."""
        self._ended.set()
        self._thread.join()
        self.node.destroy_node()

    def _run(self) -> None:
        number, due = 0, time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1.0 / RATE, time.monotonic())
            number += 1
            # Rolled, so that no JPEG is like another.
            pixels = np.roll(self._frame, 4 * number, axis=1)
            message = array_to_image(pixels, Header())
            message.header.stamp = self.node.get_clock().now().to_msg()
            status = TrackStatus(
                header=message.header,
                state=TrackStatus.STATE_TRACKING,
                score=0.9,
                target_id=1,
                frames_processed=number,
            )
            box = (400.0, 300.0, 100.0, 80.0)
            detection = detection_from_box(box, 0.9, message.header, 1)
            self._images.publish(message)
            self._status.publish(status)
            self._detections.publish(
                Detection2DArray(header=message.header, detections=[detection])
            )


def watch(url: str, viewers: int, seconds: float, queue: multiprocessing.Queue[Any]) -> None:
    """Show frames; put None on the queue when all viewers have them, then ages in ms and bytes."""
    queue.put(asyncio.run(_watch(url, viewers, seconds, queue)))


async def _watch(
    url: str, viewers: int, seconds: float, queue: multiprocessing.Queue[Any]
) -> tuple[list[float], int]:
    ages: list[float] = []
    sizes: list[int] = []
    seen: set[int] = set()  # viewers that have had a frame
    measuring, ended = asyncio.Event(), asyncio.Event()

    async def view(session: aiohttp.ClientSession, number: int) -> None:
        mark = 0.0
        async with session.ws_connect("/ws") as socket:
            await socket.send_json({"type": "view", "tracker": 0, "width": WIDTH})
            async for message in socket:
                now = time.monotonic()
                if message.type is aiohttp.WSMsgType.TEXT:
                    mark = now if json.loads(message.data)["type"] == "mark" else mark
                    continue
                (length,) = struct.unpack_from("<I", message.data)
                state = json.loads(message.data[4 : 4 + length])
                shown = {"type": "shown", "tracker": 0, "frame": state["frame"]}
                await socket.send_json({**shown, "transfer_ms": 1e3 * (now - mark)})
                seen.add(number)
                if not measuring.is_set() or state["state"] == "SILENT":
                    continue
                ages.append((time.time_ns() - int(state["stamp"])) / 1e6)
                sizes.append(len(message.data))
                if ended.is_set():
                    return

    async with aiohttp.ClientSession(url) as session:
        tasks = [asyncio.ensure_future(view(session, number)) for number in range(viewers)]
        while len(seen) < viewers:
            await asyncio.sleep(0.05)
        await asyncio.sleep(_BURN_IN)
        queue.put(None)
        measuring.set()
        await asyncio.sleep(seconds)
        ended.set()
        await asyncio.gather(*tasks)
    return ages, sum(sizes)


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has taken, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(url: str, pid: int, viewers: int, seconds: float) -> dict[str, float]:
    """Return the figures with so many viewers at a time."""
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[Any] = context.Queue()
    watcher = context.Process(target=watch, args=(url, viewers, seconds, queue))
    if viewers:
        watcher.start()
        queue.get(timeout=_PATIENCE)
    begin, before = time.monotonic(), processor_seconds(pid)
    time.sleep(seconds)
    share = (processor_seconds(pid) - before) / (time.monotonic() - begin)
    if not viewers:
        return {"cpu_cores": round(share, 3)}
    ages, size = queue.get(timeout=_PATIENCE)
    watcher.join()
    return {
        "cpu_cores": round(share, 3),
        "age_ms_p50": round(float(np.percentile(ages, 50)), 1),
        "age_ms_p99": round(float(np.percentile(ages, 99)), 1),
        "frames_per_second": round(len(ages) / viewers / seconds, 1),
        "megabytes_per_second": round(size / seconds / 1e6, 2),
    }


def _benchmark(seconds: float) -> dict[str, Any]:
    about = provenance(command_line(), 0)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "console.log"
        command = [sys.executable, "-m", "vt_ros.console", "--ros-args"]
        command += ["-p", "port:=0", "-p", f"max_viewers:={max(VIEWERS)}"]
        with log.open("w", encoding="utf-8") as file:
            console = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        rclpy.init()
        source = Source()
        try:
            url = _wait_for_page(log)
            figures = {}
            for viewers in VIEWERS:
                figures[str(viewers)] = measure(url, console.pid, viewers, seconds)
                print(viewers, figures[str(viewers)], flush=True)
        finally:
            source.close()
            rclpy.try_shutdown()
            console.send_signal(signal.SIGINT)
            console.wait(_PATIENCE)
    return {
        "benchmark": "console",
        **about,
        "image": [WIDTH, HEIGHT],
        "rate": RATE,
        "seconds": seconds,
        "viewers": figures,
    }


def _wait_for_page(log: Path) -> str:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        found = re.search(r"open (http://\S+?)/? in a browser", log.read_text(encoding="utf-8"))
        if found:
            return found[1]
        time.sleep(0.1)
    raise VtModelsError(f"the console did not start: {log.read_text(encoding='utf-8')}")


def main(arguments: list[str] | None = None) -> int:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(prog="benchmarks.console", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each number of viewers")
    parser.add_argument("--domain", type=int, default=96, help="ROS domain, of its own")
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results/local/console.json")
    )
    args = parser.parse_args(arguments)
    os.environ["ROS_DOMAIN_ID"] = str(args.domain)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.update(fast_dds_environment(os.environ))
    return measure_into(args.output, lambda: _benchmark(args.seconds))


if __name__ == "__main__":
    sys.exit(main())
