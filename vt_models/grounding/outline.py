# SPDX-License-Identifier: Apache-2.0
"""The box of whatever is at a point of a frame, of any class, without a network.

What is around the point is cut into object and rest at a number of scales by GrabCut (Rother et
al., SIGGRAPH 2004). A cut counts as far as its border lies on edges, its colours differ from those
around it, and its neighbours in scale agree with it; of cuts that count the same the larger wins,
because parts of an object stand out as well as the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.geometry.boxes import Box, crop_window, iou
from vt_models.geometry.crop import Cropper, check_frame, window_padding

Point = tuple[float, float]
Plane = NDArray[np.uint8]

_SIDE = 64  # of the square that is cut, pixels
_WINDOW = 3.0  # side of that square over the side of the object that is expected
_SMALLEST, _LARGEST, _STEP = 8.0, 0.9, 2.0**0.5  # expected sides: pixels, part of the frame, ratio
_ROUNDS = 2
_CUT_OFF = 0.1  # share of a border that may lie where the object had to end
_FREE = 0.4  # share of a border that must lie inside the frame
_EDGE = 18.0  # grey levels from pixel to pixel that make an edge
_AROUND = 8  # pixels of the square around a cut whose colours it is compared with
_BINS = (6, 12, 12)  # of L, a, b
_NEIGHBOURS = 2  # scales on either side that may agree with a cut
_AREA_EXPONENT = 0.375  # power of the area
_LEAST_SCORE = 0.15
_PIXEL = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class Outline:
    """An object at a point.

    Attributes:
        box: x, y, w, h in pixels of the frame, inside it.
        score: in [0, 1], how clearly the object stands out.
    """

    box: Box
    score: float


def box_around(frame: NDArray[np.uint8], point: Sequence[float]) -> Outline | None:
    """The object at a point.

    Args:
        frame: (H, W, 3) uint8 RGB.
        point: x, y in pixels, inside the frame.

    Returns:
        Its box, or None where nothing stands out from what is around it.

    Raises:
        InputError: not a frame, or a point that is not finite or outside.
    """
    frame = check_frame(frame)
    height, width = frame.shape[:2]
    x, y = (float(value) for value in point)
    if not (0 <= x <= width and 0 <= y <= height):
        raise InputError(f"the point ({x:g}, {y:g}) is outside the {width}x{height} frame")
    cropper, cuts = Cropper(_SIDE), []
    side = _SMALLEST
    while side <= _LARGEST * min(height, width):
        cuts.append(_cut(cropper, frame, (x, y), side))
        side *= _STEP
    return _best(cuts)


def _expectations() -> Plane:
    """(S, S) GrabCut labels: object in the middle, perhaps more around it, then rest."""
    y, x = (np.mgrid[:_SIDE, :_SIDE] - 0.5 * (_SIDE - 1)) * _WINDOW / _SIDE
    labels = np.full((_SIDE, _SIDE), cv2.GC_PR_BGD, np.uint8)
    labels[np.maximum(np.abs(x), np.abs(y)) > 1.1] = cv2.GC_BGD
    labels[np.hypot(x, y) < 0.5] = cv2.GC_PR_FGD
    labels[np.hypot(x, y) < 0.12] = cv2.GC_FGD
    return labels


_EXPECTED = _expectations()


def _cut(cropper: Cropper, frame: NDArray[np.uint8], point: Point, side: float) -> Outline | None:
    """Object and rest at one scale; None where the image does not let itself be cut."""
    window = crop_window((point[0] - 0.5 * side, point[1] - 0.5 * side, side, side), _WINDOW)
    crop = cropper(frame, window)
    outside = window_padding(frame.shape, window, _SIDE)
    part = _object(crop, outside)
    if part is None:
        return None
    left, top, w, h = cv2.boundingRect(part)
    scale = window.side / _SIDE
    x, y = window.x1 + left * scale, window.y1 + top * scale
    right, bottom = min(x + w * scale, frame.shape[1]), min(y + h * scale, frame.shape[0])
    x, y = max(x, 0.0), max(y, 0.0)
    score = _support(crop, part, outside) * _difference(crop, part, outside)
    return Outline((x, y, right - x, bottom - y), score)


def _object(crop: Plane, outside: NDArray[np.bool_]) -> Plane | None:
    """(S, S) of 0 and 1: the connected part of the object that holds the middle."""
    labels = np.where(outside, np.uint8(cv2.GC_BGD), _EXPECTED)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # GrabCut begins with a random grouping of colours
    try:
        cv2.grabCut(crop, labels, None, *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # nothing in the middle
        return None
    is_object = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    _, parts = cv2.connectedComponents(is_object, connectivity=4)
    number = parts[_SIDE // 2, _SIDE // 2]
    return (parts == number).astype(np.uint8) if number else None


def _support(crop: Plane, part: Plane, outside: NDArray[np.bool_]) -> float:
    """In [0, 1]: how far its border lies on edges; 0 if it ends where it had to, not by itself.

    Where the frame ends a border may end with it, but most of it must not.
    """
    border = part > cv2.erode(part, _PIXEL)
    beyond = cv2.dilate(np.uint8(_EXPECTED == cv2.GC_BGD), _PIXEL)
    inside = border & (cv2.dilate(np.uint8(outside), _PIXEL) == 0)
    if beyond[border].mean() > _CUT_OFF or inside.sum() < _FREE * border.sum():
        return 0.0
    return float(_edges(crop)[inside].mean())


def _edges(crop: Plane) -> NDArray[np.float32]:
    """(S, S) in [0, 1]: how much of an edge there is at a pixel or beside it."""
    smooth = cv2.GaussianBlur(crop, (3, 3), 0)
    steps = [cv2.Sobel(smooth, cv2.CV_32F, *axis) for axis in ((1, 0), (0, 1))]
    sizes = np.hypot(*steps).max(axis=-1) / 8.0  # of Sobel's weights
    return np.minimum(cv2.dilate(sizes, _PIXEL) / _EDGE, 1.0)


def _difference(crop: Plane, part: Plane, outside: NDArray[np.bool_]) -> float:
    """In [0, 1]: the root of 1 - Bhattacharyya's coefficient of the colours in and around it."""
    around = cv2.dilate(part, _PIXEL, iterations=_AROUND)
    around[(part > 0) | outside] = 0
    colours = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB)
    ranges = [0, 256] * 3
    inner, outer = (
        cv2.calcHist([colours], [0, 1, 2], mask, _BINS, ranges) for mask in (part, around)
    )
    counts = float(inner.sum()) * float(outer.sum())
    alike = float(np.sqrt(inner * outer).sum()) / counts**0.5 if counts else 1.0
    return max(0.0, 1.0 - alike) ** 0.5


def _best(cuts: list[Outline | None]) -> Outline | None:
    """The cut that counts most, its score brought down by how little its neighbours agree."""
    best, most = None, 0.0
    for index, cut in enumerate(cuts):
        if cut is None or min(cut.box[2:]) <= 0:
            continue
        first = max(0, index - _NEIGHBOURS)
        others = cuts[first:index] + cuts[index + 1 : index + 1 + _NEIGHBOURS]
        alike = sorted(float(iou(cut.box, other.box)) for other in others if other is not None)
        score = cut.score * sum(alike[-2:]) / 2
        counts = score * (cut.box[2] * cut.box[3]) ** _AREA_EXPONENT
        if score >= _LEAST_SCORE and counts > most:
            best, most = Outline(cut.box, score), counts
    return best
