# SPDX-License-Identifier: Apache-2.0
"""A line of VOT ground truth: a rectangle, a polygon, a run-length mask, or one number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vt_models.datasets.text import ABSENT, BoxFormat, check_box, parse_numbers, shorten
from vt_models.errors import DatasetError

BOXES = BoxFormat(nan=True, empty=True)
MOST_PIXELS = 2**28
EXPECTED = "a rectangle x,y,w,h, a polygon x1,y1,x2,y2,x3,y3..., or a mask m x,y,w,h,runs..."


def region_box(where: str, line: str) -> tuple[float, ...]:
    """The upright box around a region, x, y, w, h in pixels; four nan for no target.

    Around a polygon it is the smallest one that holds its corners; around a mask the smallest one
    that holds its pixels (so a pixel at x = 3 reaches from 3 to 4). One number alone is the
    toolkit's word for a frame without annotation.

    Args:
        where: FILE:LINE, for the message.
        line: the text.

    Raises:
        DatasetError: none of these.
    """
    if line.startswith("m"):
        mask, (x, y) = decode_mask(where, line)
        return _around(mask, x, y)
    values = parse_numbers(line)
    if len(values) == 1 and np.isfinite(values[0]):
        return ABSENT
    if len(values) == 4:
        return check_box(where, line, values, BOXES)
    if len(values) < 6 or len(values) % 2 or not np.isfinite(values).all():
        raise DatasetError(f"{where}: {shorten(line)}; expected {EXPECTED}")
    corners = np.reshape(values, (-1, 2))
    low, high = corners.min(axis=0), corners.max(axis=0)
    return check_box(where, shorten(line), (*low.tolist(), *(high - low).tolist()), BOXES)


def decode_mask(where: str, line: str) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """A mask of the VOT toolkit: `m`, then x, y, w, h of a window and the lengths of runs.

    Runs go row by row through the window and take turns, outside first; what follows the last is
    outside.

    Returns:
        (h, w) bool and x, y of its upper left pixel in the image.

    Raises:
        DatasetError: no whole numbers, negative ones, or runs longer than the window.
    """
    numbers = parse_numbers(line[1:])
    values = [int(value) for value in numbers if abs(value) < MOST_PIXELS and value % 1 == 0]
    if len(values) < 4 or len(values) != len(numbers) or min(values[2:]) < 0:
        raise DatasetError(f"{where}: {shorten(line)}; expected {EXPECTED}")
    x, y, width, height = values[:4]
    runs = values[4:]
    size = width * height
    if size > MOST_PIXELS or sum(runs) > size > 0:
        raise DatasetError(
            f"{where}: {shorten(line)}; runs of {sum(runs)} pixels in a window of "
            f"{width} x {height}"
        )
    flat = np.zeros(size, np.bool_)
    begin = 0
    for index, run in enumerate(runs):
        flat[begin : begin + run] = index % 2 == 1
        begin += run
    return flat.reshape(height, width), (x, y)


def mask_box(mask: NDArray[np.bool_]) -> tuple[float, ...]:
    """x, y, w, h of the smallest box that holds the pixels of an (H, W) mask; four nan for none."""
    return _around(mask, 0, 0)


def _around(mask: NDArray[np.bool_], x: int, y: int) -> tuple[float, ...]:
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    if not columns.size:
        return ABSENT
    width, height = columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
    return float(x + columns[0]), float(y + rows[0]), float(width), float(height)
