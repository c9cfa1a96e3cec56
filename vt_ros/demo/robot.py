# SPDX-License-Identifier: Apache-2.0
"""A gimbal follows a car behind two pillars: `python -m vt_ros.demo.robot`, or `make demo-robot`.

Tracker, look_at and a simulated gimbal run in processes of their own, over real DDS. A chart of
bearing, rates and states is written, and the program says whether the car was followed: exit code 0
if it is in the middle of the image at the end, 1 if not or if something failed.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from std_srvs.srv import Trigger

from vt_models.errors import InputError
from vt_ros.client import TrackerClient, TrackerError
from vt_ros.demo.gimbal_node import START
from vt_ros.demo.gimbal_scene import GimbalScene
from vt_ros.demo.processes import NAMESPACE, DemoError, Process, isolate
from vt_ros.demo.robot_recording import Recording

EXIT_FOLLOWED, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
TABLE = "robot.csv"
COLUMNS = (
    *("time", "state", "azimuth", "elevation", "pan_rate", "tilt_rate"),
    *("camera_pan", "camera_tilt", "car_pan", "car_tilt"),
)

_PATIENCE = 300.0  # seconds; a demo that works never waits so long
_DRIVE = 13.0  # seconds that the car is watched
_MIDDLE = 0.05  # radians off the optical axis at the end


@contextlib.contextmanager
def _nodes(folder: Path, model: str) -> Iterator[list[Process]]:
    """Start the three nodes, and end them afterwards whatever happens."""
    rates = f"{NAMESPACE}/look_at/cmd_vel"
    tracker = {
        "model": model,
        "grounding.backend": "none",
        "recorder.on_lost": False,
        # The time waits for each answer, so no image may be lost, and a start may take longer.
        "image_qos.reliability": "reliable",
        "set_target_timeout": 30.0,
    }
    starts: tuple[tuple[str, dict[str, object], dict[str, str]], ...] = (
        ("tracker", {**tracker, "use_sim_time": True}, {}),
        ("look_at", {"use_sim_time": True}, {}),
        ("demo.gimbal_node", {}, {"cmd_vel": rates}),
    )
    processes: list[Process] = []
    try:
        for name, parameters, remappings in starts:
            log = folder / f"{name.rpartition('.')[2]}.log"
            processes.append(Process(name, parameters, log, remappings))
        yield processes
    finally:
        for process in processes:
            process.stop()


def run(folder: Path, model: str) -> Recording:
    """Let the car drive, and record.

    Args:
        folder: for logs.
        model: of the tracker.

    Raises:
        DemoError: it cannot be carried through.
    """
    folder.mkdir(parents=True, exist_ok=True)
    isolate()
    rclpy.init()
    node = rclpy.create_node("robot_demo", namespace=NAMESPACE)
    recording = Recording(node)
    drive = node.create_client(Trigger, "gimbal/drive")
    try:
        with _nodes(folder, model) as processes:

            def until(
                condition: Callable[[], bool], what: str, patience: float = _PATIENCE
            ) -> None:
                end = time.monotonic() + patience
                while not condition():
                    for process in processes:
                        process.check()
                    if recording.failure:
                        raise DemoError(f"look_at: {recording.failure}")
                    if time.monotonic() > end:
                        raise DemoError(f"waited {patience:g} s for {what}; see the logs")
                    rclpy.spin_once(node, timeout_sec=0.1)

            until(lambda: bool(recording.moments), "the tracker's first answer")
            _, box = GimbalScene().render((0.0, 0.0), START)
            if box is None:
                raise DemoError("the car is not in the first image")
            with TrackerClient(node=node, timeout=_PATIENCE) as tracker:
                tracker.start_box(box)
            until(lambda: not np.isnan(recording.dead_time), "the measurement of the dead time")
            until(drive.service_is_ready, "the service gimbal/drive")
            answer = drive.call_async(Trigger.Request())
            until(answer.done, "the answer of gimbal/drive")
            begin = recording.moments[-1].time
            until(lambda: recording.moments[-1].time > begin + _DRIVE, "the end of the drive")
    except TrackerError as error:
        raise DemoError(str(error)) from error
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return recording


def _write_table(path: Path, recording: Recording) -> None:
    """Write a row for each image, with the rates that were commanded last."""
    times = np.array([rates.time for rates in recording.rates])
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for moment in recording.moments:
            last = int(np.searchsorted(times, moment.time)) - 1
            rates = recording.rates[max(last, 0)]
            numbers = (*moment.bearing, rates.pan, rates.tilt, *moment.camera, *moment.car)
            row = [f"{moment.time:.3f}", moment.state, *(f"{value:.4f}" for value in numbers)]
            writer.writerow(row)


def main(argv: list[str] | None = None) -> int:
    """Run the demonstration from the command line."""
    parser = argparse.ArgumentParser(prog="demo-robot", description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="demo_output", metavar="DIR")
    parser.add_argument("--model", default="asymtrack_lite0", metavar="NAME")
    arguments = parser.parse_args(argv)
    folder = Path(arguments.output)
    try:
        from vt_ros.demo.robot_chart import CHART, draw_chart  # noqa: PLC0415 - it is an extra
    except ImportError as error:
        sys.stderr.write(
            f"error: the Python module {error.name} is not here; run `make demo-robot` in the "
            "repository, or `pip install 'vt_ros[report]'`\n"
        )
        return EXIT_USAGE
    try:
        recording = run(folder, arguments.model)
        _write_table(folder / TABLE, recording)
        draw_chart(folder / CHART, recording.moments, recording.rates, recording.frames)
    except (DemoError, InputError) as error:
        sys.stderr.write(f"error: {error} (logs in {folder})\n")
        return EXIT_FAILED
    except (KeyboardInterrupt, ExternalShutdownException):  # Ctrl-C, or SIGTERM by rclpy
        sys.stderr.write("interrupted\n")
        return EXIT_INTERRUPTED
    moments = recording.moments
    last = moments[-1]
    offset = abs(last.car[0] - last.camera[0])
    counts: dict[str, int] = {}
    for moment in moments:
        counts[moment.state] = counts.get(moment.state, 0) + 1
    print(f"dead time       {recording.dead_time:.3f} s, measured")
    print(f"images          {', '.join(f'{state} {count}' for state, count in counts.items())}")
    print(f"at the end      {last.state}, {np.degrees(offset):.1f} degrees off the middle")
    for name in (CHART, TABLE):
        print(f"written         {folder / name}")
    if last.state != "TRACKING" or offset > _MIDDLE:
        sys.stderr.write("error: the car was not followed to the end\n")
        return EXIT_FAILED
    return EXIT_FOLLOWED


if __name__ == "__main__":
    sys.exit(main())
