# SPDX-License-Identifier: Apache-2.0
"""The node `camera`: a video file, image folder, bag, webcam or stream as `image_raw`."""

from __future__ import annotations

import threading
import time

from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, Image, TimeReference
from std_msgs.msg import Empty, Header
from std_srvs.srv import SetBool

from vt_models.errors import InputError
from vt_models.video.sources import (
    BagVideo,
    CameraUnavailableError,
    open_source,
    without_password,
)
from vt_ros.camera.parameters import SETTINGS
from vt_ros.common.convert import NANOSECONDS, Pixels, array_to_image
from vt_ros.common.errors import describe_error
from vt_ros.common.parameters import declare, freeze, value_of
from vt_ros.common.process import EXIT_FAILED, EXIT_OK, StartError

_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class CameraNode(Node):
    """Publishes images.

    `image_raw` (sensor_msgs/Image, bgr8), stamped with the time of publishing; for files also
    `~/position` (sensor_msgs/TimeReference): the same header, and the frame's own time in the
    file. While paused, the present frame is published again and again, with new stamps, so
    that a late subscriber gets it. At the end `~/end_of_stream` (std_msgs/Empty, latched).

    Images of a bag keep the stamps and frames that they were recorded with, while paused, too, and
    come at the pace at which they were recorded; `camera_info` is the first one of the bag, with
    the header of each image.

    Args:
        finished: completed with the exit code at the end of the source, if wanted.

    Raises:
        StartError: the source cannot be opened, or has no frame; with `EXIT_FAILED` for a device
            that may be there later.
    """

    def __init__(self, finished: Future) -> None:
        super().__init__("camera")
        self._finished = finished
        declare(self, SETTINGS)
        try:
            self._source = open_source(
                str(value_of(self, "source")),
                int(value_of(self, "start_frame")),
                int(value_of(self, "stop_frame")) or None,
                str(value_of(self, "topic")) or None,
            )
            # The first frame of a file tells whether it has any; that of a stream may take long.
            waits = self._source.waits_for_frames
            self._first = None if waits else self._source.read_bgr()
        except CameraUnavailableError as error:
            raise StartError(str(error), EXIT_FAILED) from error
        except InputError as error:
            raise StartError(str(error)) from error
        if self._first is None and not waits:
            first, stop = (value_of(self, f"{which}_frame") for which in ("start", "stop"))
            raise StartError(
                f"{value_of(self, 'source')} has no frame to publish (start_frame is {first}, "
                f"stop_frame {stop})"
            )
        freeze(self, SETTINGS, "restart the node")
        rate = float(value_of(self, "rate"))
        # A camera is asked for everything it has unless a rate was given.
        own_interval = 0.0 if self._source.is_live else 1.0 / self._source.fps
        self._interval = 1.0 / rate if rate else own_interval
        self._follows_recording = not rate and isinstance(self._source, BagVideo)
        self._frame_id = str(value_of(self, "frame_id"))
        self._images = self.create_publisher(Image, "image_raw", self._image_qos())
        self._positions = self.create_publisher(TimeReference, "~/position", 100)
        self._camera_info: CameraInfo | None = None
        if isinstance(self._source, BagVideo) and self._source.camera_info is not None:
            try:
                self._camera_info = deserialize_message(self._source.camera_info, CameraInfo)
            except Exception as error:  # of whatever type: the bytes are a stranger's
                self.get_logger().warning(
                    f"no camera_info: the bag's cannot be read: {describe_error(error)}"
                )
            self._infos = self.create_publisher(CameraInfo, "camera_info", self._image_qos())
        self._end = self.create_publisher(Empty, "~/end_of_stream", _LATCHED)
        self._playing = threading.Event()
        if not value_of(self, "paused"):
            self._playing.set()
        self._stopping = threading.Event()
        self.create_service(SetBool, "~/pause", self._on_pause)
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()
        source = without_password(str(value_of(self, "source")))
        pace = "its own pace" if waits and not rate else f"{rate or self._source.fps:g} a second"
        self.get_logger().info(f"images of {source} at {pace}")

    def close(self) -> None:
        """End the thread and release the source."""
        self._stopping.set()
        self._source.interrupt()
        self._thread.join()
        self._source.close()

    def _image_qos(self) -> QoSProfile:
        reliable = value_of(self, "image_qos.reliability") == "reliable"
        return QoSProfile(
            depth=int(value_of(self, "image_qos.depth")),
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        )

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if self._source.is_live:
            response.message = "a live camera cannot be paused"
            return response
        if request.data:
            self._playing.clear()
        else:
            self._playing.set()
        response.success = True
        response.message = "paused" if request.data else "playing"
        return response

    def _run(self) -> None:
        try:
            self._play()
        except Exception as error:  # a camera that is silent without a word would be worse
            self._finish(f"stopped: {describe_error(error)}", EXIT_FAILED)

    def _play(self) -> None:
        """Publish frame after frame at the wanted rate until the end."""
        frame = self._source.read_bgr() if self._first is None else self._first
        number = int(value_of(self, "start_frame"))
        due = time.monotonic()
        while frame is not None and not self._stopping.wait(max(0.0, due - time.monotonic())):
            self._publish(frame, number)
            shown = self._recorded_at()
            if self._source.is_live:
                due = max(due + self._interval, time.monotonic())
                frame = self._newest_until(due)
                continue
            if self._playing.is_set():
                frame, number = self._following(number)
            step = self._interval
            if self._follows_recording:
                step = max(0.0, (self._recorded_at() - shown) / NANOSECONDS) or step
            # After a delay the next frames are not hurried to make up for it.
            due = max(due + step, time.monotonic())
        if self._stopping.is_set():
            return
        if frame is None and self._source.is_live:
            self._finish("the source has ended", EXIT_FAILED)
        elif frame is None:
            self._finish("end of stream", EXIT_OK)

    def _newest_until(self, due: float) -> Pixels | None:
        """Read a camera, which keeps its own pace, until it is time to publish again."""
        frame = self._source.read_bgr()
        while frame is not None and time.monotonic() < due and not self._stopping.is_set():
            frame = self._source.read_bgr()
        return frame

    def _following(self, number: int) -> tuple[Pixels | None, int]:
        """Return the frame after `number` and its number; at the end of a loop the first again."""
        frame = self._source.read_bgr()
        if frame is not None or not value_of(self, "loop"):
            return frame, number + 1
        self._source.rewind()
        frame = self._source.read_bgr()
        if frame is None:
            raise InputError(f"{value_of(self, 'source')} has no frame any more")
        return frame, int(value_of(self, "start_frame"))

    def _recorded_at(self) -> int:
        """Return when the present image of a bag was recorded, nanoseconds; else 0."""
        latest = self._source.latest if isinstance(self._source, BagVideo) else None
        return latest.time if latest is not None else 0

    def _publish(self, frame: Pixels, number: int) -> None:
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame_id)
        position, source = round(number * NANOSECONDS / self._source.fps), "file"
        if isinstance(self._source, BagVideo) and self._source.latest is not None:
            own = self._source.latest.header
            header = Header(stamp=Time(sec=own.sec, nanosec=own.nanosec), frame_id=own.frame_id)
            position, source = self._recorded_at(), "bag"
        if self._camera_info is not None:
            self._camera_info.header = header
            self._infos.publish(self._camera_info)
        if not self._source.is_live:
            time_ref = Time(sec=position // NANOSECONDS, nanosec=position % NANOSECONDS)
            self._positions.publish(TimeReference(header=header, time_ref=time_ref, source=source))
        self._images.publish(array_to_image(frame, header, "bgr8"))

    def _finish(self, message: str, code: int) -> None:
        """Announce the end; end the process if that is wanted or something failed."""
        self._end.publish(Empty())
        if code == EXIT_OK:
            self.get_logger().info(message)
        else:
            self.get_logger().error(message)
        if code == EXIT_OK and not value_of(self, "exit_at_end"):
            return
        # What was not delivered yet would be gone with the publishers.
        for publisher in (self._images, self._positions, self._end):
            publisher.wait_for_all_acked(Duration(seconds=2))
        if not self._finished.done():
            self._finished.set_result(code)
