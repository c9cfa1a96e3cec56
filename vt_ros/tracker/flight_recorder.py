# SPDX-License-Identifier: Apache-2.0
"""The flight recorder: the last seconds before a target was lost, as files that say why.

`record` keeps small crops and numbers of each frame in the tracking thread; files are written in a
thread of their own, at a low priority.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Float32
from vision_msgs.msg import Detection2DArray

from vt_interfaces.msg import TrackStatus
from vt_models.errors import VtModelsError
from vt_models.files import draft_of_directory
from vt_models.geometry.boxes import CropWindow, crop_window
from vt_models.geometry.crop import Cropper
from vt_models.tracker.tracker import Search
from vt_ros.common.convert import (
    MEASURED,
    NANOSECONDS,
    PREDICTED,
    STATE_NAMES,
    Box,
    array_to_jpeg,
    detection_from_box,
    stamp_nanoseconds,
)
from vt_ros.common.errors import describe_error
from vt_ros.tracker.contact_sheet import RecordedFrame, draw_sheet
from vt_ros.tracker.current_target import FrameReport
from vt_ros.tracker.parameters import LiveSettings

SHEET = "contact_sheet.png"
BAG = "recording"

# Crops are reduced by a whole factor to about this side, which OpenCV does ten times as fast as by
# any other: 0.02 ms for 256 to 128, where 256 to 96 takes 0.22 ms.
_CROP_SIDE = 112
# 25 MB at most, whatever the camera's rate; five seconds at 100 frames a second.
_MOST_FRAMES = 512
# Without a search of the network: side of the window in mean sides of the box, as most models have.
_WINDOW_FACTOR = 4.0
_NICE = 10

_TYPES = {
    "status": "vt_interfaces/msg/TrackStatus",
    "detections": "vision_msgs/msg/Detection2DArray",
    "crop/compressed": "sensor_msgs/msg/CompressedImage",
    "score_map": "sensor_msgs/msg/Image",
    "raw_score": "std_msgs/msg/Float32",
}


class RecordingError(VtModelsError):
    """A recording that cannot be made; the message says why, and what to do."""


class Log(Protocol):
    """The part of rclpy's logger that is used here."""

    def info(self, message: str) -> bool:
        """Say what was recorded."""

    def error(self, message: str) -> bool:
        """Say what failed."""


@dataclass(frozen=True)
class _Entry:
    """A frame, and what was said of it."""

    received: float
    frame: RecordedFrame
    status: TrackStatus
    covariance: NDArray[np.float64] | None


class FlightRecorder:
    """Keeps the last seconds, and writes them when the target is lost, or on demand.

    Args:
        live: asked at every frame.
        node_name: of the tracker, fully qualified; the topics of a recording are below it.
        log: for what was written, and for what could not be.

    Attributes:
        last: path of the last recording, or why it failed; empty before the first.
    """

    def __init__(self, live: Callable[[], LiveSettings], node_name: str, log: Log) -> None:
        self._live, self._node_name, self._log = live, node_name, log
        # Trackers that share a folder keep and remove recordings of their own.
        self._prefix = node_name.strip("/").replace("/", "_")
        self._own = re.compile(
            rf"\d{{8}}_\d{{6}}(_\d{{3}})?_{re.escape(self._prefix)}_target\d+_(lost|on_demand)(_\d+)?"
        )
        self._lock = threading.Lock()
        self._entries: deque[_Entry] = deque(maxlen=_MOST_FRAMES)
        self._cropper = Cropper(_CROP_SIDE)
        self._last_search: Search | None = None
        self._window = CropWindow(0, 0, 1)
        self._was_tracked = False
        self._writing: Future[Path] | None = None
        # One thread, made with the first recording; what is begun is finished at the end.
        self._writer = ThreadPoolExecutor(1, "flight_recorder", _lower_priority)
        self.last = ""

    def close(self) -> None:
        """Keep no more; a recording that is being written will be finished."""
        self._writer.shutdown(wait=False)

    def record(self, report: FrameReport, status: TrackStatus, search: Search | None) -> None:
        """Keep a frame; called in the tracking thread, and begins a recording at a loss.

        Args:
            report: of the frame.
            status: that was published of it.
            search: the last one of the network, as of `Tracker.last_search`.
        """
        live, now = self._live(), time.monotonic()
        with self._lock:
            while self._entries and now - self._entries[0].received > live.recorder.seconds:
                self._entries.popleft()
        if live.recorder.seconds == 0.0 or not report.target_id:
            self._was_tracked = False
            return
        entry = _Entry(now, self._small(report, search), status, report.covariance)
        with self._lock:
            self._entries.append(entry)
        is_lost = report.state == TrackStatus.STATE_LOST
        # What was found again and never confirmed makes no recording of its own when it is lost.
        was_tracked, self._was_tracked = self._was_tracked, self._was_tracked and not is_lost
        if report.state == TrackStatus.STATE_TRACKING:
            self._was_tracked = True
        if is_lost and was_tracked and live.recorder.on_lost:
            if self._is_writing():
                self._log.info("this loss is not recorded: another recording is being written")
            else:
                self._begin("lost")

    def save(self) -> Future[Path]:
        """Write what is kept now; any thread may.

        Returns:
            A future of the recording's folder, or of a `RecordingError`.

        Raises:
            RecordingError: nothing is kept, or a recording is being written: several that wait
                would hold their frames, and push older recordings out.
        """
        if self._live().recorder.seconds == 0.0:
            raise RecordingError("nothing is recorded: recorder.seconds is 0; set it above that")
        if self._is_writing():
            raise RecordingError("a recording is being written; ask again when it is done")
        return self._begin("on_demand")

    def _is_writing(self) -> bool:
        return self._writing is not None and not self._writing.done()

    def _begin(self, cause: str) -> Future[Path]:
        with self._lock:
            entries = tuple(self._entries)
        if not entries:
            raise RecordingError(
                f"nothing was recorded: there was no target in the last "
                f"{self._live().recorder.seconds:g} s"
            )
        self._writing = self._writer.submit(self._write, entries, cause, self._live())
        return self._writing

    def _small(self, report: FrameReport, search: Search | None) -> RecordedFrame:
        """Return what is kept of a frame: what the network saw, or the same place without it."""
        scores = None
        if search is not None and search is not self._last_search:
            self._last_search, self._window = search, search.window
            side = search.crop.shape[0] // max(1, search.crop.shape[0] // _CROP_SIDE)
            reduced = cv2.resize(search.crop, (side, side), interpolation=cv2.INTER_AREA)
            crop = np.asarray(reduced, np.uint8)
            if search.outputs and search.outputs[0].ndim == 3:  # a map of scores, batch of one
                scores = search.outputs[0][0].astype(np.float16)
        elif report.frame is not None:
            if report.box is not None:
                self._window = crop_window(report.box, _WINDOW_FACTOR)
            crop = self._cropper(report.frame, self._window).copy()
        else:
            crop = np.zeros((_CROP_SIDE, _CROP_SIDE, 3), np.uint8)
        stamp = stamp_nanoseconds(report.header.stamp)
        return RecordedFrame(
            seconds=stamp / NANOSECONDS if stamp else time.time(),
            target_id=report.target_id,
            state=STATE_NAMES[report.state],
            score=report.score,
            raw_score=report.raw_score,
            reason=report.message,
            box=report.box,
            window=self._window,
            crop=crop,
            scores=scores,
        )

    def _write(self, entries: Sequence[_Entry], cause: str, live: LiveSettings) -> Path:
        """Write a recording into a folder of its own; nothing is there before it is complete."""
        try:
            parent = live.recorder.folder
            parent.mkdir(parents=True, exist_ok=True)
            target = f"target{entries[-1].frame.target_id}"
            # To the millisecond: the name of one that was removed is not given to another.
            now = f"{datetime.now().astimezone():%Y%m%d_%H%M%S_%f}"[:-3]
            path = _free(parent / f"{now}_{self._prefix}_{target}_{cause}")
            with draft_of_directory(path) as draft:
                self._write_sheet(draft / SHEET, entries, cause, live)
                missing = _write_bag(draft, entries, self._node_name)
            _remove_old(parent, self._own, live.recorder.keep, path)
        except Exception as error:  # nobody waits for what is written after a loss
            self.last = f"failed: {describe_error(error)}"
            reason = f"no recording in {live.recorder.folder}: {describe_error(error)}"
            self._log.error(reason)
            raise RecordingError(reason) from error
        self.last = str(path)
        self._log.info(f"recorded {len(entries)} frames in {path}{missing}")
        return path

    def _write_sheet(
        self, path: Path, entries: Sequence[_Entry], cause: str, live: LiveSettings
    ) -> None:
        status = entries[-1].status
        what = "LOST" if cause == "lost" else f"{STATE_NAMES[status.state]}, saved on demand"
        reason = f": {status.message}" if status.message else ""
        title = f"target {status.target_id} {what}{reason}  ({status.model})"
        thresholds = live.target.doubt_threshold, live.target.track_threshold
        sheet = draw_sheet([entry.frame for entry in entries], title, thresholds)
        _, data = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
        path.write_bytes(data.tobytes())


def _lower_priority() -> None:
    if hasattr(os, "setpriority"):  # of the thread, with Linux
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _free(path: Path) -> Path:
    """Return the path, or one with a number behind where it is taken."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}_{number}")
    return free


def _remove_old(parent: Path, own: re.Pattern[str], keep: int, newest: Path) -> None:
    """Remove the oldest recordings but `keep`; folders of other names are left alone."""
    recordings = sorted(
        (each for each in parent.iterdir() if own.fullmatch(each.name) and each != newest),
        key=lambda each: each.stat().st_mtime,
    )
    for each in recordings[: max(0, len(recordings) + 1 - keep)]:
        shutil.rmtree(each, ignore_errors=True)


def _write_bag(folder: Path, entries: Sequence[_Entry], node_name: str) -> str:
    """Write the messages as MCAP, with the metadata that makes the folder a bag.

    Returns:
        What to say in the log where that is not possible; empty where it was done.
    """
    try:  # not everybody who tracks reads bags
        from rosbags.rosbag2 import StoragePlugin, Writer  # noqa: PLC0415

        from vt_models.video.bags.messages import Messages  # noqa: PLC0415
    except ImportError:
        return "; without the MCAP, which needs rosbags: pip install rosbags"
    types, draft = Messages().types, folder / BAG
    with Writer(draft, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        topics = {
            name: writer.add_connection(f"{node_name}/{name}", kind, typestore=types)
            for name, kind in _TYPES.items()
        }
        for entry in entries:
            at = round(entry.frame.seconds * NANOSECONDS)
            for name, message in _messages(entry):
                writer.write(topics[name], at, serialize_message(message))
    for file in draft.iterdir():
        file.rename(folder / file.name)
    draft.rmdir()
    return ""


def _messages(entry: _Entry) -> list[tuple[str, object]]:
    """Return the messages of a frame by their topics."""
    frame, status = entry.frame, entry.status
    detections = Detection2DArray(header=status.header)
    if frame.box is not None:
        box: Box = frame.box
        coasts = status.state == TrackStatus.STATE_COASTING
        kind = PREDICTED if coasts else MEASURED
        detections.detections.append(
            detection_from_box(
                box, frame.score, status.header, frame.target_id, kind, entry.covariance
            )
        )
    messages: list[tuple[str, object]] = [
        ("status", status),
        ("detections", detections),
        ("crop/compressed", array_to_jpeg(frame.crop, status.header)),
        ("raw_score", Float32(data=frame.raw_score)),
    ]
    if frame.scores is not None:
        scores = np.ascontiguousarray(frame.scores, np.float32)
        image = Image(
            header=status.header,
            height=scores.shape[0],
            width=scores.shape[1],
            encoding="32FC1",
            step=4 * scores.shape[1],
        )
        image.data = scores.tobytes()
        messages.append(("score_map", image))
    return messages
