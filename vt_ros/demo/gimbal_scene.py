# SPDX-License-Identifier: Apache-2.0
"""A camera on a simulated gimbal in a rendered world: a car, pillars that hide it, and a drive.

Directions are pan (to the right) and tilt (downwards) off home, radians. The world is all around
and far away, so that a turn of the camera is all that changes the image.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_ros.common.convert import Box, Pixels

Direction = tuple[float, float]
_Points = NDArray[np.float64]

_TILE = 1024  # pixels of the repeated background
_CELL = 8  # pixels between rays that are computed; between them is interpolated
_NOISE = 2.0  # grey levels, so that no two images are the same
_BEHIND = 1e-3  # least share of a direction that lies along the optical axis
_STEP = 0.002  # seconds of the drive's integration


class GimbalDrive:
    """Turns a camera: commands count after a dead time, and are reached with a lag.

    Args:
        dead_time: seconds until a command has an effect.
        lag: time constant of the rate, seconds.
        max_acceleration: radians a second squared.
    """

    def __init__(
        self, dead_time: float = 0.1, lag: float = 0.03, max_acceleration: float = 20.0
    ) -> None:
        self._dead_time, self._lag, self._max_step = dead_time, lag, max_acceleration * _STEP
        self._pending: deque[tuple[float, NDArray[np.float64]]] = deque()
        self._steps = 0
        self._wanted, self._rates, self._angles = np.zeros(2), np.zeros(2), np.zeros(2)

    def command(self, time: float, rates: Sequence[float]) -> None:
        """Take rates of pan and tilt that were commanded at a time, radians a second."""
        self._pending.append((time + self._dead_time, np.array(rates, np.float64)))

    def angles(self, time: float) -> Direction:
        """Return pan and tilt at a time, which must not be before that of the last call."""
        while self._steps * _STEP < time:
            now = self._steps * _STEP
            while self._pending and self._pending[0][0] <= now:
                self._wanted = self._pending.popleft()[1]
            step = (self._wanted - self._rates) * min(1.0, _STEP / max(self._lag, _STEP))
            self._rates = self._rates + np.clip(step, -self._max_step, self._max_step)
            self._angles = self._angles + self._rates * _STEP
            self._steps += 1
        return float(self._angles[0]), float(self._angles[1])


@dataclass(frozen=True)
class Pillar:
    """Something that hides what is behind it: from the pan `left` to `right`, of any height."""

    left: float
    right: float


class GimbalScene:
    """Renders what the camera sees.

    Args:
        zoom: 1 for a horizontal field of view of 60 degrees; the car is as large in the image at
            every zoom, and so is the background's structure.
        pillars: in front of the car.
        size: width and height, pixels.
        seed: of texture and noise.

    Attributes:
        size: width and height, pixels.
        focal_length: pixels.
    """

    def __init__(
        self,
        zoom: float = 1.0,
        pillars: Sequence[Pillar] = (),
        size: tuple[int, int] = (640, 360),
        seed: int = 0,
    ) -> None:
        self.size = size
        self.focal_length = zoom * 0.5 * size[0] / math.tan(math.radians(30.0))
        self._pillars, self._random = tuple(pillars), np.random.default_rng(seed)
        self._background = _background(self._random)
        self._noise = np.repeat(
            self._random.normal(0.0, _NOISE, (_TILE, _TILE, 1)).round().astype(np.int16), 3, axis=2
        )
        self._car, self._car_mask = _car()
        width, height = size
        self._cells = -(-width // _CELL) + 2, -(-height // _CELL) + 2
        u = (np.arange(self._cells[0]) - 0.5) * _CELL - 0.5
        v = (np.arange(self._cells[1]) - 0.5) * _CELL - 0.5
        u, v = np.meshgrid(u - self.centre[0], v - self.centre[1])
        rays = np.stack((u, v, np.full_like(u, self.focal_length)), axis=-1)
        self._rays = rays / np.linalg.norm(rays, axis=-1, keepdims=True)

    @property
    def centre(self) -> tuple[float, float]:
        """The principal point, where the centre of the first pixel is (0, 0)."""
        return 0.5 * self.size[0] - 0.5, 0.5 * self.size[1] - 0.5

    def render(self, camera: Direction, car: Direction | None) -> tuple[Pixels, Box | None]:
        """Render an image.

        Args:
            camera: where the camera looks.
            car: where the car is; None: nowhere.

        Returns:
            (height, width, 3) uint8 RGB, and the car's box, x, y, w, h in pixels, whether it is
            hidden or outside of the image or not; None without a car, and if it is behind the
            camera.
        """
        width, height = self.size
        rotation = _rotation(camera)
        world = self._rays @ rotation  # the inverse rotation
        pan = np.arctan2(world[..., 0], world[..., 2])
        tilt = np.arctan2(world[..., 1], np.hypot(world[..., 0], world[..., 2]))
        # Without a jump where the angle does.
        pan = camera[0] + np.angle(np.exp(1j * (pan - camera[0])))
        places = np.stack((pan, tilt), axis=-1).astype(np.float32) * np.float32(self.focal_length)
        full = self._cells[0] * _CELL, self._cells[1] * _CELL
        places = cv2.resize(places, full, interpolation=cv2.INTER_LINEAR)
        places = places[_CELL : _CELL + height, _CELL : _CELL + width]
        frame = cv2.remap(
            self._background, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
        )
        box = None
        if car is not None:
            box = self._draw_car(frame, rotation, car)
        for pillar in self._pillars:
            hidden = (places[..., 0] >= pillar.left * self.focal_length) & (
                places[..., 0] <= pillar.right * self.focal_length
            )
            shade = 90 + 20 * np.sin(0.05 * places[..., 1][hidden])
            frame[hidden] = shade[:, None].astype(np.uint8)
        row, column = self._random.integers(0, (_TILE - height, _TILE - width))
        noise = self._noise[row : row + height, column : column + width]
        return cv2.add(frame, noise, dtype=cv2.CV_8U), box

    def project(self, camera: Direction, direction: Direction) -> _Points | None:
        """Return the pixel (u, v) at which a direction is seen; None if it is behind the camera.

        It may be outside of the image. The centre of the first pixel is (0, 0).
        """
        x, y, z = _rotation(camera) @ _rotation(direction)[2]
        if z <= _BEHIND:
            return None
        return np.array((x, y)) / z * self.focal_length + np.array(self.centre)

    def _draw_car(self, frame: Pixels, rotation: _Points, car: Direction) -> Box | None:
        rows, columns = self._car_mask.shape
        size = np.array((columns, rows)) / self.focal_length
        corners = np.array(((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))) * size
        facing = np.column_stack((corners, np.ones(4)))  # in a camera that looks at the car
        seen = facing @ _rotation(car) @ rotation.T
        if seen[:, 2].min() <= _BEHIND:
            return None
        pixels = seen[:, :2] / seen[:, 2:] * self.focal_length + np.array(self.centre)
        inside = np.array(((0, 0), (columns, 0), (columns, rows), (0, rows))) - 0.5
        if np.abs(pixels).max() < 4 * max(self.size):
            matrix = cv2.getPerspectiveTransform(
                inside.astype(np.float32), pixels.astype(np.float32)
            )
            drawn = cv2.warpPerspective(self._car, matrix, self.size)
            mask = cv2.warpPerspective(self._car_mask, matrix, self.size)[..., None]
            frame[:] = (drawn * mask + frame * (1.0 - mask)).astype(np.uint8)
        (left, top), (right, bottom) = pixels.min(axis=0), pixels.max(axis=0)
        return left + 0.5, top + 0.5, right - left, bottom - top


def _rotation(direction: Direction) -> _Points:
    """Return the matrix from home to the optical frame of a camera that looks in a direction."""
    (cp, sp), (ct, st) = ((math.cos(angle), math.sin(angle)) for angle in direction)
    pan = np.array(((cp, 0.0, -sp), (0.0, 1.0, 0.0), (sp, 0.0, cp)))
    tilt = np.array(((1.0, 0.0, 0.0), (0.0, ct, -st), (0.0, st, ct)))
    return tilt @ pan


def _background(random: np.random.Generator) -> Pixels:
    """Return a tile with structure of all sizes, which repeats without an edge."""
    tile = np.full((_TILE, _TILE, 3), 110.0, np.float32)
    for cells, deviation in ((4, 14.0), (16, 14.0), (64, 10.0), (256, 7.0)):
        noise = random.normal(0.0, deviation, (cells, cells, 1))
        noise = noise + random.normal(0.0, 0.4 * deviation, (cells, cells, 3))
        noise = noise.astype(np.float32)
        noise = np.pad(noise, ((2, 2), (2, 2), (0, 0)), mode="wrap")
        factor = _TILE // cells
        fine = cv2.resize(noise, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        tile += fine[2 * factor : 2 * factor + _TILE, 2 * factor : 2 * factor + _TILE]
    for _ in range(120):
        x, y = random.integers(0, _TILE - 80, 2)
        w, h = random.integers(10, 80, 2)
        colour = (100.0 + random.normal(0.0, 20.0) + random.normal(0.0, 5.0, 3)).tolist()
        cv2.rectangle(tile, (int(x), int(y)), (int(x + w), int(y + h)), colour, -1)
    return np.clip(tile, 0.0, 255.0).astype(np.uint8)


def _car() -> tuple[Pixels, NDArray[np.float32]]:
    """Return a red car seen from its side, (36, 72, 3) uint8, and how opaque it is, 0 to 1."""
    scale = 4
    image = np.zeros((36 * scale, 72 * scale, 3), np.uint8)
    mask = np.zeros(image.shape[:2], np.uint8)

    def draw(points: Sequence[tuple[int, int]], colour: tuple[int, int, int]) -> None:
        polygon = np.array(points, np.int32) * scale
        cv2.fillPoly(image, [polygon], colour)
        cv2.fillPoly(mask, [polygon], 255)

    draw(
        ((2, 28), (3, 17), (16, 14), (25, 4), (48, 4), (58, 15), (69, 18), (70, 28)), (190, 30, 35)
    )
    draw(((20, 14), (27, 6), (36, 6), (36, 14)), (190, 220, 235))
    draw(((39, 14), (39, 6), (47, 6), (54, 14)), (190, 220, 235))
    draw(((64, 19), (69, 20), (69, 23), (64, 22)), (250, 240, 170))
    for x in (17, 56):
        for radius, colour in ((7, (25, 25, 28)), (3, (170, 170, 175))):
            cv2.circle(image, (x * scale, 28 * scale), radius * scale, colour, -1)
            cv2.circle(mask, (x * scale, 28 * scale), radius * scale, 255, -1)
    small = cv2.resize(image, (72, 36), interpolation=cv2.INTER_AREA)
    opaque = cv2.resize(mask, (72, 36), interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0
    # Colours are premultiplied by the drawing; undo that at the edge, where they would be dark.
    colours = small / np.maximum(opaque, 1e-3)[..., None]
    return np.clip(colours, 0, 255).astype(np.uint8), opaque
