# SPDX-License-Identifier: Apache-2.0
"""Frames as JPEG: each decoded once, and encoded once for all browsers that want the same."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cv2
import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image

from vt_models.geometry.crop import as_stored
from vt_models.video.drawing import STATE_COLOURS, draw_target, draw_text, scaled
from vt_models.video.image_messages import (
    CompressedReader,
    ConversionError,
    ImageReader,
    serialised_compressed_image,
    serialised_image,
)
from vt_ros.common.convert import Pixels
from vt_ros.console.frame_pairing import Frame
from vt_ros.console.link import Level

_T = TypeVar("_T")

_WORKERS = 2
_NICE = 5  # on one machine the tracking comes first


def create_workers() -> ThreadPoolExecutor:
    """Return the threads that decode and encode, at a lower priority than the node's."""
    return ThreadPoolExecutor(_WORKERS, "console_encoder", initializer=_step_back)


def _step_back() -> None:
    if hasattr(os, "setpriority"):  # of a thread alone: Linux
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


class FrameEncoder:
    """Encodes the newest frame of one tracker; for one event loop.

    Args:
        workers: do it.
        compressed: whether the images are sensor_msgs/CompressedImage.
        max_megapixels: asked for at every frame.
    """

    def __init__(
        self, workers: ThreadPoolExecutor, compressed: bool, max_megapixels: Callable[[], float]
    ) -> None:
        self._workers, self._compressed = workers, compressed
        self._max_megapixels = max_megapixels
        self._number = 0
        self._pixels: asyncio.Future[Pixels] | None = None
        self._jpegs: dict[Level, asyncio.Future[bytes]] = {}

    async def jpeg(self, frame: Frame, level: Level) -> tuple[bytes, tuple[int, int]]:
        """Return a frame as JPEG, at most `level.width` pixels wide, and the source's size.

        Raises:
            ConversionError: the image cannot be read.
        """
        pixels = await self._decoded(frame)
        size = pixels.shape[1], pixels.shape[0]
        if frame.number != self._number:  # a newer one has come meanwhile: not kept
            return await self._run(_encode, pixels, level), size
        if level not in self._jpegs:
            self._jpegs[level] = asyncio.ensure_future(self._run(_encode, pixels, level))
        # One browser that goes away must not cancel what others wait for.
        return await asyncio.shield(self._jpegs[level]), size

    async def snapshot(self, frame: Frame) -> bytes:
        """Return a frame in full size as PNG, the box and the state drawn onto it.

        Raises:
            ConversionError: the image cannot be read.
        """
        return await self._run(_draw, await self._decoded(frame), frame)

    async def _decoded(self, frame: Frame) -> Pixels:
        if frame.number < self._number:
            return await self._run(self._decode, frame)
        if frame.number > self._number or self._pixels is None:
            self._number, self._jpegs = frame.number, {}
            self._pixels = asyncio.ensure_future(self._run(self._decode, frame))
        return await asyncio.shield(self._pixels)

    async def _run(self, work: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._workers, work, *arguments)

    def _decode(self, frame: Frame) -> Pixels:
        limit = self._max_megapixels()
        try:
            # What is no plain CDR, or damaged, is left to ROS.
            if self._compressed:
                file = serialised_compressed_image(frame.image)
                return CompressedReader().read(
                    file or deserialize_message(frame.image, CompressedImage), limit
                )
            image = serialised_image(frame.image)
            # A reader for each: its buffer would be overwritten by the next frame.
            return ImageReader().read(image or deserialize_message(frame.image, Image), limit)
        except ConversionError:
            raise
        except Exception as error:  # bytes that are no message at all
            raise ConversionError(f"image message cannot be read: {error}") from error


def _encode(pixels: Pixels, level: Level) -> bytes:
    """Return (H, W, 3) uint8 RGB as JPEG; smaller first, so that less is converted."""
    height, width = pixels.shape[:2]
    stored, is_rgb = as_stored(pixels)
    if width > level.width:
        size = level.width, max(1, round(height * level.width / width))
        stored = np.asarray(cv2.resize(stored, size, interpolation=cv2.INTER_AREA), np.uint8)
    bgr = cv2.cvtColor(stored, cv2.COLOR_RGB2BGR) if is_rgb else stored
    done, data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, level.quality))
    if not done:
        raise ConversionError(f"image of {width}x{height} cannot be written as JPEG")
    return bytes(data)


def _draw(pixels: Pixels, frame: Frame) -> bytes:
    image, estimate = scaled(pixels, 1.0), frame.estimate
    if estimate is not None:
        name = estimate.state.name
        if estimate.box is not None:
            draw_target(image, estimate.box, name)
        draw_text(image, f"{name}  {estimate.score:.2f}", STATE_COLOURS[name])
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise ConversionError("image cannot be written as PNG")
    return bytes(data)
