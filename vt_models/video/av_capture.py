# SPDX-License-Identifier: Apache-2.0
"""Videos and streams through PyAV, where OpenCV was built without what reads them.

The wheels of OpenCV bring FFmpeg. The OpenCV of a Jetson or of some distributions has GStreamer
alone, without a decoder of H.264; `av`, of the extra `streams`, brings FFmpeg then.
"""

from __future__ import annotations

import logging
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.errors import install_hint

try:
    import av
except ImportError:
    av = None

_LOG = logging.getLogger(__name__)


def opencv_has_ffmpeg() -> bool:
    """Return whether this OpenCV reads videos and streams with FFmpeg."""
    return cv2.CAP_FFMPEG in cv2.videoio_registry.getStreamBackends()


def is_needed() -> bool:
    """Return whether PyAV is to read videos: OpenCV has no FFmpeg, and PyAV is installed."""
    return av is not None and not opencv_has_ffmpeg()


def remedy() -> str:
    """Return a clause for the end of a message where nothing here has FFmpeg; else empty."""
    if opencv_has_ffmpeg() or av is not None:
        return ""
    return f"; this OpenCV was built without FFmpeg, PyAV brings one: {install_hint('streams')}"


class AvCapture:
    """What is used of `cv2.VideoCapture`, with PyAV; where nothing can be opened it is not open.

    Args:
        name: path of a file, or address of a stream.
        seconds: that opening and each frame may take; None: for ever.
    """

    def __init__(self, name: str, seconds: float | None = None) -> None:
        self._container: Any = None
        options = {"rtsp_transport": "tcp"} if name.startswith("rtsp") else {}
        try:
            self._container = av.open(name, options=options, timeout=seconds)
            self._stream = self._container.streams.video[0]
            self._stream.thread_type = "AUTO"
        except (av.FFmpegError, IndexError, OSError) as error:
            _LOG.debug("PyAV opens nothing: %s", type(error).__name__)  # no address in a message
            self.release()
            return
        self._frames = self._container.decode(self._stream)

    def isOpened(self) -> bool:  # noqa: N802 - as OpenCV calls it
        """Return whether there is a video."""
        return self._container is not None

    def grab(self) -> bool:
        """Go to the next frame; False at the end, or where it is damaged."""
        return self._next() is not None

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        """Return whether there is another frame, and it as (H, W, 3) uint8 BGR, upright."""
        frame = self._next()
        if frame is None:
            return False, None
        image = frame.to_ndarray(format="bgr24")
        turns = round(frame.rotation / 90) % 4  # counter-clockwise, in degrees
        return True, np.ascontiguousarray(np.rot90(image, turns)) if turns else image

    def get(self, number: int) -> float:
        """Return a property by OpenCV's number; 0 for one that is not known."""
        if self._container is None:
            return 0.0
        if number == cv2.CAP_PROP_FPS:
            return float(self._stream.average_rate or 0.0)
        if number == cv2.CAP_PROP_FRAME_COUNT:
            return float(self._stream.frames)
        if number == cv2.CAP_PROP_FOURCC:
            return float(cv2.VideoWriter.fourcc(*f"{self._stream.codec_context.name:<4.4}"))
        return 0.0

    def release(self) -> None:
        """Close the file or the connection."""
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def _next(self) -> Any:
        if self._container is None:
            return None
        try:
            return next(self._frames, None)
        except (av.FFmpegError, OSError):
            return None
