# SPDX-License-Identifier: Apache-2.0
"""The node `camera`: a video file, an image folder or a webcam as `image_raw`."""

from __future__ import annotations

import threading
import time

from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.task import Future
from sensor_msgs.msg import Image, TimeReference
from std_msgs.msg import Empty, Header
from std_srvs.srv import SetBool

from vt_models.errors import InputError
from vt_models.video.sources import open_source
from vt_ros.camera.parameters import SETTINGS
from vt_ros.common.convert import NANOSECONDS, Pixels, array_to_image
from vt_ros.common.parameters import declare, freeze, value_of
from vt_ros.common.process import EXIT_FAILED, EXIT_OK, StartError

_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class CameraNode(Node):
    """Publishes images.

    `image_raw` (sensor_msgs/Image, bgr8), stamped with the time of publishing; for files also
    `~/position` (sensor_msgs/TimeReference): the same header, and the frame's own time in the
    file. While paused, the present frame is published again and again, with new stamps, so
    that a late subscriber gets it. At the end `~/end_of_stream` (std_msgs/Empty, latched).

    Args:
        finished: completed with the exit code at the end of the source, if wanted.

    Raises:
        StartError: the source cannot be opened, or has no frame.
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
            )
            self._first = self._source.read_bgr()
        except InputError as error:
            raise StartError(str(error)) from error
        if self._first is None:
            raise StartError(f"{value_of(self, 'source')} has no frame to publish")
        freeze(self, SETTINGS, "restart the node")
        rate = float(value_of(self, "rate"))
        # A camera is asked for everything it has unless a rate was given.
        own_interval = 0.0 if self._source.is_live else 1.0 / self._source.fps
        self._interval = 1.0 / rate if rate else own_interval
        self._frame_id = str(value_of(self, "frame_id"))
        self._images = self.create_publisher(Image, "image_raw", self._image_qos())
        self._positions = self.create_publisher(TimeReference, "~/position", 100)
        self._end = self.create_publisher(Empty, "~/end_of_stream", _LATCHED)
        self._playing = threading.Event()
        if not value_of(self, "paused"):
            self._playing.set()
        self._stopping = threading.Event()
        self.create_service(SetBool, "~/pause", self._on_pause)
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()
        self.get_logger().info(
            f"{value_of(self, 'source')} at {rate or self._source.fps:g} images per second"
        )

    def close(self) -> None:
        """End the thread and release the source."""
        self._stopping.set()
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
        except InputError as error:
            self._finish(f"stopped: {error}", EXIT_FAILED)
        except Exception as error:  # a camera that is silent without a word would be worse
            self._finish(f"stopped: {type(error).__name__}: {error}", EXIT_FAILED)

    def _play(self) -> None:
        """Publish frame after frame at the wanted rate until the end."""
        frame, number = self._first, int(value_of(self, "start_frame"))
        due = time.monotonic()
        while frame is not None and not self._stopping.wait(max(0.0, due - time.monotonic())):
            self._publish(frame, number)
            # After a delay the next frames are not hurried to make up for it.
            due = max(due + self._interval, time.monotonic())
            if self._source.is_live:
                frame = self._newest_until(due)
            elif self._playing.is_set():
                frame, number = self._following(number)
        if frame is None and self._source.is_live:
            self._finish("the camera is gone", EXIT_FAILED)
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
        return self._source.read_bgr(), int(value_of(self, "start_frame"))

    def _publish(self, frame: Pixels, number: int) -> None:
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame_id)
        if not self._source.is_live:
            position = round(number * NANOSECONDS / self._source.fps)
            time_in_file = Time(sec=position // NANOSECONDS, nanosec=position % NANOSECONDS)
            self._positions.publish(
                TimeReference(header=header, time_ref=time_in_file, source="file")
            )
        self._images.publish(array_to_image(frame, header, "bgr8"))

    def _finish(self, message: str, code: int) -> None:
        """Announce the end; end the process if that is wanted or something failed."""
        self._end.publish(Empty())
        self.get_logger().info(message)
        if code == EXIT_OK and not value_of(self, "exit_at_end"):
            return
        # What was not delivered yet would be gone with the publishers.
        for publisher in (self._images, self._positions, self._end):
            publisher.wait_for_all_acked(Duration(seconds=2))
        if not self._finished.done():
            self._finished.set_result(code)
