# SPDX-License-Identifier: Apache-2.0
"""What the camera says about itself: identity, abilities, video, field of view."""

from __future__ import annotations

import math

from vt_ros.mavlink.messages import (
    CameraCaptureStatus,
    CameraFovStatus,
    CameraInformation,
    CameraSettings,
    Capability,
    Message,
    StorageInformation,
    VideoStreamInformation,
    VideoStreamStatus,
)
from vt_ros.mavlink_camera.parameters import MavlinkSettings

_VENDOR = b"vt_ros"


def describe(
    kind: type[Message],
    settings: MavlinkSettings,
    size: tuple[int, int],
    milliseconds: int,
    has_geo_status: bool,
) -> Message | None:
    """Return a message about the camera.

    Args:
        kind: of the message.
        settings: the parameters.
        size: width and height of the images, pixels; zeros if it is not known.
        milliseconds: since the start.
        has_geo_status: it is known at present where on earth a target is.

    Returns:
        The message; None if there is nothing to say: no video address, or a kind that does not
        describe a camera.
    """
    fov = settings.horizontal_fov
    message: Message | None = None
    if kind is CameraInformation:
        message = _camera_information(settings, size, milliseconds, has_geo_status)
    elif kind is CameraFovStatus:
        vertical = _vertical_fov(fov, size)
        message = CameraFovStatus(milliseconds, hfov=fov or math.nan, vfov=vertical)
    elif kind is CameraSettings:
        message = CameraSettings(milliseconds)
    elif kind is StorageInformation:
        message = StorageInformation(milliseconds)
    elif kind is CameraCaptureStatus:
        message = CameraCaptureStatus(milliseconds)
    elif kind is VideoStreamStatus and settings.video_uri:
        message = VideoStreamStatus(resolution_h=size[0], resolution_v=size[1], hfov=round(fov))
    elif kind is VideoStreamInformation and settings.video_uri:
        message = VideoStreamInformation(
            resolution_h=size[0],
            resolution_v=size[1],
            hfov=round(fov),
            type=settings.video_type,
            name=settings.camera_name.encode(),
            uri=settings.video_uri.encode(),
            encoding=settings.video_encoding,
        )
    return message


def _camera_information(
    settings: MavlinkSettings, size: tuple[int, int], milliseconds: int, has_geo_status: bool
) -> CameraInformation:
    flags = Capability.HAS_TRACKING_POINT | Capability.HAS_TRACKING_RECTANGLE
    if settings.video_uri:
        flags |= Capability.HAS_VIDEO_STREAM
    if settings.claim_capture:
        flags |= Capability.CAPTURE_VIDEO
    if has_geo_status:
        flags |= Capability.HAS_TRACKING_GEO_STATUS
    return CameraInformation(
        milliseconds,
        flags=flags,
        resolution_h=size[0],
        resolution_v=size[1],
        vendor_name=_VENDOR,
        model_name=settings.camera_name.encode(),
    )


def _vertical_fov(horizontal: float, size: tuple[int, int]) -> float:
    """Return the vertical field of view of a pinhole camera, degrees; NaN if it is not known."""
    width, height = size
    if not (0.0 < horizontal < 180.0 and width):
        return math.nan
    half = math.tan(math.radians(0.5 * horizontal)) * height / width
    return 2.0 * math.degrees(math.atan(half))
