# SPDX-License-Identifier: Apache-2.0
"""Videos in and out: sources of frames, files written, drawing. No ROS in it."""

from __future__ import annotations

from vt_models.video.images import IMAGE_SUFFIXES, is_image
from vt_models.video.sources import (
    VIDEO_SUFFIXES,
    FrameSource,
    RecordedSource,
    is_video,
    open_recorded,
    open_source,
)
from vt_models.video.writing import VideoWriter, write_image

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "FrameSource",
    "RecordedSource",
    "VideoWriter",
    "is_image",
    "is_video",
    "open_recorded",
    "open_source",
    "write_image",
]
