# SPDX-License-Identifier: Apache-2.0
"""Drawing: the box and the state onto a frame, and several frames onto one sheet."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.geometry.boxes import CropWindow
from vt_models.geometry.crop import as_stored
from vt_models.video.sources import Frame

Colour = tuple[int, int, int]

GREEN: Colour = (60, 220, 60)
YELLOW: Colour = (250, 210, 40)
BLUE: Colour = (80, 150, 255)
RED: Colour = (240, 60, 50)
GREY: Colour = (190, 190, 190)
BLACK: Colour = (0, 0, 0)

# By name, so that drawing needs no messages. A predicted box is drawn broken as well.
STATE_COLOURS: dict[str, Colour] = {
    "IDLE": GREY,
    "TRACKING": GREEN,
    "UNCERTAIN": YELLOW,
    "COASTING": BLUE,
    "LOST": RED,
}

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def scaled(frame: Frame, scale: float) -> Frame:
    """Return a contiguous copy of a (H, W, 3) frame, its sides times `scale`, at least 1 pixel."""
    plain, is_rgb = as_stored(frame)
    if scale == 1.0:
        copy = plain.copy(order="C")
    else:
        size = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
        interpolation = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC
        copy = np.asarray(cv2.resize(plain, size, interpolation=interpolation), np.uint8)
    return copy if is_rgb else np.asarray(cv2.cvtColor(copy, cv2.COLOR_BGR2RGB), np.uint8)


def draw_box(image: Frame, box: Sequence[float], colour: Colour, scale: float = 1.0) -> None:
    """Draw a box onto an image, in place.

    Args:
        image: (H, W, 3) uint8 RGB, contiguous.
        box: x, y, w, h in pixels of the source frame, finite.
        colour: RGB.
        scale: sides of the image over sides of the source frame.
    """
    x, y, w, h = (value * scale for value in box)
    thickness = max(1, round(min(image.shape[:2]) / 180))
    corners = (round(x), round(y)), (round(x + w), round(y + h))
    cv2.rectangle(image, *corners, BLACK, thickness + 2, cv2.LINE_AA)
    cv2.rectangle(image, *corners, colour, thickness, cv2.LINE_AA)


def draw_corners(image: Frame, box: Sequence[float], colour: Colour, scale: float = 1.0) -> None:
    """Draw the corners of a box alone: a box that was not measured. Arguments as `draw_box`."""
    x, y, w, h = (value * scale for value in box)
    thickness = max(1, round(min(image.shape[:2]) / 180))
    for left, right in ((x, x + 0.25 * w), (x + w, x + 0.75 * w)):
        for top, bottom in ((y, y + 0.25 * h), (y + h, y + 0.75 * h)):
            corner = round(left), round(top)
            for end in ((round(right), round(top)), (round(left), round(bottom))):
                cv2.line(image, corner, end, BLACK, thickness + 2, cv2.LINE_AA)
                cv2.line(image, corner, end, colour, thickness, cv2.LINE_AA)


def draw_target(image: Frame, box: Sequence[float], state: str, scale: float = 1.0) -> None:
    """Draw a box the way its state wants it: in the state's colour, COASTING as corners alone."""
    draw = draw_corners if state == "COASTING" else draw_box
    draw(image, box, STATE_COLOURS.get(state, GREY), scale)


def with_label(frame: Frame, box: Sequence[float], label: str) -> Frame:
    """Return a copy of a (H, W, 3) uint8 RGB frame with a box x, y, w, h and a label above it."""
    image = scaled(frame, 1.0)
    draw_box(image, box, GREEN)
    place = (max(round(box[0]), 2), max(round(box[1]) - 4, 12))
    cv2.putText(image, label, place, _FONT, 0.45, GREEN, 1, cv2.LINE_AA)
    return image


def with_heat(image: Frame, heat: NDArray[np.floating], window: CropWindow | None = None) -> Frame:
    """Return a copy of an image with a map drawn over it: clear at 0, through green to red at 1.

    Args:
        image: (H, W, 3) uint8 RGB.
        heat: (h, w) in [0, 1]; its cells are spread evenly over the window.
        window: the square of the image, which it may leave, that the map shows; None for all.
    """
    height, width = image.shape[:2]
    x1, y1, size = (0, 0, (width, height)) if window is None else (*window[:2], (window.side,) * 2)
    spread = cv2.resize(heat.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    left, top = max(x1, 0), max(y1, 0)
    right, bottom = min(x1 + size[0], width), min(y1 + size[1], height)
    result = np.array(image, order="C")
    if right <= left or bottom <= top:
        return result
    shown = np.clip(spread[top - y1 : bottom - y1, left - x1 : right - x1], 0.0, 1.0)
    colours = cv2.applyColorMap((shown * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    alpha = 0.75 * shown[..., None]
    below = result[top:bottom, left:right]
    result[top:bottom, left:right] = (below * (1 - alpha) + colours * alpha).round()
    if window is not None:
        cv2.rectangle(result, (x1, y1), (x1 + size[0], y1 + size[1]), GREY, 1)
    return result


def draw_text(image: Frame, text: str, colour: Colour) -> None:
    """Write one line at the top left, in place, on a dark bar so that it can be read anywhere."""
    # A long line fits 160 pixels of width at 0.35; it is read with ease from 0.5 on.
    width = image.shape[1]
    size = max(0.35, min(0.5, width / 640), min(image.shape[0], width * 0.6) / 600)
    (width, height), base = cv2.getTextSize(text, _FONT, size, 1)
    cv2.rectangle(image, (0, 0), (width + 8, height + base + 6), BLACK, cv2.FILLED)
    cv2.putText(image, text, (4, height + 3), _FONT, size, colour, 1, cv2.LINE_AA)


def draw_range(image: Frame, low: float, high: float) -> None:
    """Write at the bottom left, in place, which values `with_heat` draws clear and which red."""
    length, height = 72, 10
    texts = [f"{low:.3g}", f"{high:.3g}"]
    sizes = [cv2.getTextSize(text, _FONT, 0.4, 1)[0] for text in texts]
    top = image.shape[0] - height - 8
    end = 4 + sizes[0][0] + 4 + length
    cv2.rectangle(image, (0, top - 4), (end + 8 + sizes[1][0], image.shape[0]), BLACK, cv2.FILLED)
    ramp = np.linspace(0.0, 1.0, length, dtype=np.float32)[None].repeat(height, 0)
    bar = with_heat(np.full((height, length, 3), 255, np.uint8), ramp)
    image[top : top + height, end - length : end] = bar
    cv2.putText(image, texts[0], (4, top + height), _FONT, 0.4, GREY, 1, cv2.LINE_AA)
    cv2.putText(image, texts[1], (end + 4, top + height), _FONT, 0.4, GREY, 1, cv2.LINE_AA)


def contact_sheet(frames: Sequence[Frame], columns: int, gap: int = 4) -> Frame:
    """Put frames of one size onto a sheet, in rows, with a gap between them.

    Args:
        frames: (H, W, 3) uint8, at least one.
        columns: of the sheet.
        gap: pixels.

    Returns:
        (rows * (H + gap) + gap, columns * (W + gap) + gap, 3) uint8.
    """
    height, width = frames[0].shape[:2]
    columns = min(columns, len(frames))
    rows = -(-len(frames) // columns)
    shape = (rows * (height + gap) + gap, columns * (width + gap) + gap, 3)
    sheet = np.full(shape, 24, np.uint8)
    for index, frame in enumerate(frames):
        row, column = divmod(index, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        sheet[top : top + height, left : left + width] = frame
    return sheet
