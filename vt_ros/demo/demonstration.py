# SPDX-License-Identifier: Apache-2.0
"""The whole path on this machine: camera and tracker in processes of their own, over real DDS.

The target is set through the service, the results are recorded, and the program says whether
the target was kept: exit code 0 if it is tracked at the end, whatever hid it meanwhile, 1 if not or
if something failed, 2 for bad arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.task import Future
from sensor_msgs.msg import Image, TimeReference
from std_msgs.msg import Empty, Header
from std_srvs.srv import SetBool
from tqdm import tqdm
from vision_msgs.msg import Detection2DArray

from vt_interfaces.msg import TrackStatus
from vt_interfaces.srv import SetTarget
from vt_models.cli.arguments import parse_box
from vt_models.errors import InputError
from vt_models.grounding import list_grounders
from vt_models.video.image_messages import image_to_rgb
from vt_models.video.sources import VideoFile
from vt_ros.common.convert import (
    STATE_NAMES,
    Box,
    bounding_box_from_xywh,
    stamp_nanoseconds,
    xywh_from_bounding_box,
)
from vt_ros.common.resources import footage_file
from vt_ros.demo import composed_clip
from vt_ros.demo.processes import NAMESPACE, DemoError, Process, isolate
from vt_ros.demo.recording import SHEET, TABLE, VIDEO, Recorder, Row, Summary

EXIT_KEPT, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130

# Loading on a slow, busy machine takes long; a demo that works never waits for it.
_PATIENCE = 120.0
_DISCOVERY = 0.3
_QUIET = 1.5  # seconds without a result, after which none is expected any more
_SLOWEST = 2.0  # images per second; with fewer the tracker takes each gap for a camera that stopped

_LOSSLESS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass(frozen=True)
class Clip:
    """A part of a video without cuts: frames `start` up to and without `stop` (0: the end).

    `box` is the target in the first of them, x, y, w, h in pixels; None if a description
    names it.
    """

    video: Path
    start: int
    stop: int
    box: Box | None


CLIPS = ("cyclist", "face")


def bundled_clip(name: str, folder: Path) -> Clip:
    """Return one of `CLIPS`, made from the footage that `make demo` brings.

    cyclist: traffic hides a cyclist, then the view swings away from him and back; composed into
    `folder`, see `composed_clip`. face: a man who talks and turns his head in a moving car.

    Raises:
        InputError: the footage is not there.
    """
    if name == "face":
        return Clip(footage_file("carphone_pristine.mp4"), 0, 0, (60.0, 18.0, 58.0, 74.0))
    video = folder / "clip.mp4"
    composed_clip.compose(footage_file("bikes.mp4"), video)
    return Clip(video, 0, 0, composed_clip.BOX)


@dataclass
class _Results:
    """What has arrived, by stamp, until the parts of a frame are together."""

    images: dict[int, Image] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)
    status: dict[int, TrackStatus] = field(default_factory=dict)
    detections: dict[int, Detection2DArray] = field(default_factory=dict)
    newest_result: int = 0
    ended: bool = False

    def complete(self) -> list[int]:
        """Return the stamps of which all parts are here, in order."""
        parts = (self.images, self.numbers, self.status, self.detections)
        return sorted(set.intersection(*(set(part) for part in parts)))

    def forget(self, until: int) -> None:
        """Drop everything up to a stamp; what is incomplete there was not tracked."""
        for part in (self.images, self.numbers, self.status, self.detections):
            for stamp in [stamp for stamp in part if stamp <= until]:
                del part[stamp]


class Demo:
    """Client of a camera and a tracker.

    Args:
        node: of this process.
        processes: the two; when one ends the demo fails.
        rate: of the video, frames per second.
    """

    def __init__(self, node: Node, processes: dict[str, Process], rate: float) -> None:
        self._node, self._processes, self._rate = node, processes, rate
        self._results = _Results()
        self._last_row: tuple[Row, Image] | None = None
        subscribe = node.create_subscription
        subscribe(Image, "image_raw", self._on_image, _LOSSLESS)
        subscribe(TimeReference, "camera/position", self._on_position, _LOSSLESS)
        subscribe(TrackStatus, "tracker/status", self._on_status, _LOSSLESS)
        subscribe(Detection2DArray, "tracker/detections", self._on_detections, _LOSSLESS)
        subscribe(Empty, "camera/end_of_stream", self._on_end, _LATCHED)
        self._change_state = node.create_client(ChangeState, "tracker/change_state")
        self._set_target = node.create_client(SetTarget, "tracker/set_target")
        self._pause = node.create_client(SetBool, "camera/pause")

    def start_tracker(self) -> None:
        """Lead the lifecycle node to `active`, as a manager would."""
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request(transition=Transition(id=transition))
            answer = self._call(self._change_state, request, "tracker/change_state")
            if not answer.success:
                raise DemoError(
                    f"the tracker cannot start: {self._processes['tracker'].last_words()}"
                )

    def wait_for_frames(self) -> None:
        """Wait until the tracker reports on frames of the camera, which holds its first one."""
        self._spin_until(lambda: bool(self._results.complete()), "frames and results")

    def set_target(self, box: Box | None, text: str) -> SetTarget.Response:
        """Start tracking through the service, on a box or on what a text describes."""
        request = SetTarget.Request(mode=SetTarget.Request.MODE_TEXT, text=text)
        if box is not None:
            request.mode = request.MODE_BOX_AND_TEXT if text else request.MODE_BOX
            request.box = bounding_box_from_xywh(box)
        answer = self._call(self._set_target, request, "tracker/set_target")
        if not answer.success:
            raise DemoError(f"the tracker refused the target: {answer.message}{_remedy(answer)}")
        return answer

    def play(self, recorder: Recorder, total: int) -> None:
        """Let the camera go on and record until the stream has ended."""
        self._call(self._pause, SetBool.Request(data=False), "camera/pause")
        newest, changed = 0, time.monotonic()
        with tqdm(total=total, unit="frame", desc="tracking", file=sys.stderr) as bar:
            # The end is another topic than the images and may overtake the last of them.
            while not self._results.ended or time.monotonic() < changed + _QUIET:
                self._spin_once()
                bar.update(self._take(recorder))
                if self._results.newest_result != newest or not self._results.ended:
                    newest, changed = self._results.newest_result, time.monotonic()
            bar.update(self._flush(recorder))

    def _take(self, recorder: Recorder) -> int:
        """Record what is complete, and return how many frames were added.

        While the camera holds its first frame, that is published many times: of the same
        frame the last result counts, so each waits here until the next frame's.
        """
        added = 0
        for stamp in self._results.complete():
            row, image = self._row(stamp), self._results.images[stamp]
            self._results.forget(stamp)
            if row.state == "IDLE":
                continue
            if self._last_row is not None and row.frame != self._last_row[0].frame:
                added += self._flush(recorder)
            self._last_row = row, image
        return added

    def _flush(self, recorder: Recorder) -> int:
        if self._last_row is None:
            return 0
        row, image = self._last_row
        self._last_row = None
        recorder.add(row, image_to_rgb(image))
        return 1

    def _row(self, stamp: int) -> Row:
        results = self._results
        status, detections = results.status[stamp], results.detections[stamp].detections
        return Row(
            frame=results.numbers[stamp],
            stamp=stamp,
            state=STATE_NAMES[status.state],
            box=xywh_from_bounding_box(detections[0].bbox) if detections else None,
            score=status.score,
            inference_ms=status.inference_ms,
            latency_ms=status.image_age_ms,
        )

    def _call(self, client: Any, request: object, name: str) -> Any:
        self._spin_until(client.service_is_ready, f"the service {name}")
        # The server knows this client a little later; an answer before that is lost.
        known = time.monotonic() + _DISCOVERY
        self._spin_until(lambda: time.monotonic() > known, "discovery")
        future: Future = client.call_async(request)
        self._spin_until(future.done, f"the answer of {name}")
        return future.result()

    def _spin_until(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > end:
                raise DemoError(f"waited {_PATIENCE:g} s for {what}; see the logs")
            self._spin_once()

    def _spin_once(self) -> None:
        for process in self._processes.values():
            process.check()
        rclpy.spin_once(self._node, timeout_sec=0.1)

    def _on_image(self, message: Image) -> None:
        stamp = _stamp(message.header)
        self._results.images[stamp] = message

    def _on_position(self, message: TimeReference) -> None:
        seconds = stamp_nanoseconds(message.time_ref) / 1e9
        self._results.numbers[_stamp(message.header)] = round(seconds * self._rate)

    def _on_status(self, message: TrackStatus) -> None:
        stamp = _stamp(message.header)
        self._results.status[stamp] = message
        self._results.newest_result = stamp

    def _on_detections(self, message: Detection2DArray) -> None:
        self._results.detections[_stamp(message.header)] = message

    def _on_end(self, _message: Empty) -> None:
        self._results.ended = True


def _stamp(header: Header) -> int:
    return stamp_nanoseconds(header.stamp)


@contextlib.contextmanager
def _nodes(arguments: argparse.Namespace, clip: Clip, folder: Path) -> Iterator[dict[str, Process]]:
    """Start both nodes, and end them afterwards whatever happens."""
    camera = {
        "source": clip.video,
        "start_frame": clip.start,
        "stop_frame": clip.stop,
        "rate": float(arguments.rate),
        "paused": True,
    }
    tracker = {
        "model": arguments.model,
        "weights": f"'{arguments.weights}'",
        "device": arguments.device,
        "grounding.backend": arguments.grounding,
        "grounding.source": f"'{arguments.grounding_source}'",
        "autostart": False,
        # While the camera is paused it shows the same frame again and again, on purpose.
        "target.frozen_frames": 0,
    }
    processes: dict[str, Process] = {}
    try:
        for name, parameters in (("tracker", tracker), ("camera", camera)):
            processes[name] = Process(name, parameters, folder / f"{name}.log")
        yield processes
    finally:
        for process in processes.values():
            process.stop()


def run(arguments: argparse.Namespace) -> Summary:
    """Run the demo; raises `DemoError` when it cannot be carried through."""
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        clip = _clip(arguments, folder)
        video = VideoFile(clip.video, clip.start)
    except InputError as error:
        if arguments.video:
            raise DemoError(str(error)) from error
        raise DemoError(
            f"{error}; run `make demo` in the repository, which brings the footage, or give a "
            "video: --video FILE with --box X,Y,W,H or --text WORDS"
        ) from error
    isolate()
    rclpy.init()
    node = rclpy.create_node("demo", namespace=NAMESPACE)
    try:
        with _nodes(arguments, clip, folder) as processes:
            demo = Demo(node, processes, video.fps)
            demo.start_tracker()
            demo.wait_for_frames()
            answer = demo.set_target(clip.box, arguments.text)
            if answer.message:
                sys.stderr.write(f"{answer.message}\n")
            recorder = Recorder(folder, video.fps)
            try:
                demo.play(recorder, (clip.stop or video.count or clip.start) - clip.start)
            finally:
                summary = recorder.close()
        return summary
    finally:
        video.close()
        node.destroy_node()
        rclpy.try_shutdown()


def _clip(arguments: argparse.Namespace, folder: Path) -> Clip:
    """Return what to track: without --video a bundled clip; a description replaces its box."""
    if arguments.video is None:
        clip = bundled_clip(arguments.clip, folder)
        return replace(clip, box=None) if arguments.text else clip
    return Clip(Path(arguments.video), arguments.start_frame, arguments.stop_frame, arguments.box)


def _remedy(answer: SetTarget.Response) -> str:
    """Say what can be done about it with this program's arguments."""
    if answer.error_code == answer.ERROR_GROUNDING_UNAVAILABLE:
        return "; say which with --grounding and --grounding-source (in ARGS of `make demo`)"
    boxes = [xywh_from_bounding_box(item.bbox) for item in answer.alternatives.detections]
    shown = " or ".join(",".join(f"{value:.0f}" for value in box) for box in boxes)
    return f"; choose one with --video and --box {shown}" if shown else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.splitlines()[0])
    parser.add_argument("--clip", choices=CLIPS, default=CLIPS[0], help="what to track")
    parser.add_argument("--video", help="a video of your own instead, with --box")
    parser.add_argument(
        "--box", type=parse_box, metavar="X,Y,W,H", help="the target in the first frame, pixels"
    )
    parser.add_argument(
        "--text", default="", help="description of what to track, instead of a box or beside it"
    )
    parser.add_argument(
        "--grounding",
        default="onnx",
        choices=("none", *list_grounders()),
        help="backend that finds the description, see docs/grounding.md",
    )
    parser.add_argument("--grounding-source", default="", metavar="SOURCE", help="what that loads")
    parser.add_argument("--start-frame", type=int, default=0, metavar="N")
    parser.add_argument(
        "--stop-frame", type=int, default=0, metavar="N", help="frame to stop before; 0: the end"
    )
    parser.add_argument("--output", default="demo_output", metavar="DIR")
    parser.add_argument("--model", default="asymtrack_lite0", metavar="NAME")
    parser.add_argument("--weights", default="", help="export directory; default: the bundled one")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "tensorrt"))
    parser.add_argument(
        "--rate", type=float, default=0.0, help="images per second; 0: the video's own"
    )
    return parser


def _rate_that_fits(summary: Summary) -> float | None:
    """Return images per second that this machine can process; None if the speed is not at fault.

    A machine that skips most frames of a video follows jumps, not the target.
    """
    if summary.good or summary.missed <= summary.frames:
        return None
    return max(_SLOWEST, 0.7 * summary.fps)


def _print(summary: Summary, folder: Path) -> None:
    missed = f" ({summary.missed} not processed)" if summary.missed else ""
    print(f"frames          {summary.frames}{missed} at {summary.fps:.1f} per second")
    print(
        f"latency         p50 {summary.latency_p50:.1f} ms, p99 {summary.latency_p99:.1f} ms "
        "from the image's stamp to its result"
    )
    print(f"inference       p50 {summary.inference_p50:.1f} ms")
    print(f"lowest score    {summary.lowest_score:.2f}")
    states = ", ".join(f"{state} {count}" for state, count in summary.states.items())
    print(f"states          {states} frames; {summary.last_state} at the end")
    for name in (VIDEO, TABLE, SHEET):
        print(f"written         {folder / name}")
    print("live            make demo-console, a page in the browser where you choose the target")


def main(argv: list[str] | None = None) -> int:
    """Run the demo from the command line."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.video is None and arguments.box is not None:
        parser.error("--box is about a video of your own; give --video, too")
    if arguments.video is not None and arguments.box is None and not arguments.text:
        parser.error("--video needs --box or --text: what to track in its first frame")
    try:
        summary = run(arguments)
        slower = _rate_that_fits(summary)
        if slower is not None and not arguments.rate:
            sys.stderr.write(
                f"this machine processed {summary.fps:.1f} frames a second and skipped "
                f"{summary.missed}, so the target was not kept; once more at {slower:.1f} a second "
                "(--rate sets it)\n"
            )
            arguments.rate = slower
            summary = run(arguments)
    except DemoError as error:
        sys.stderr.write(f"error: {error} (logs in {arguments.output})\n")
        return EXIT_FAILED
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return EXIT_INTERRUPTED
    _print(summary, Path(arguments.output))
    if not summary.good:
        sys.stderr.write(f"error: the target was not kept: {summary.last_state} at the end\n")
        return EXIT_FAILED
    return EXIT_KEPT
