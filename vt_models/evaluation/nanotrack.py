# SPDX-License-Identifier: Apache-2.0
"""NanoTrack v3 in ONNX Runtime, as published, to measure against.

Weights, constants and the order of the steps are those of `NanoTracker` and `configv3.yaml` in
https://github.com/HonglinChu/SiamTrackers (NanoTrack, Apache-2.0). OpenCV's `TrackerNano` cannot
run these weights: its maps have 16 x 16 cells, those of v3 have 15 x 15.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.errors import BackendError, InputError
from vt_models.files import read_bytes
from vt_models.geometry.boxes import Box, check_box
from vt_models.geometry.crop import check_frame
from vt_models.runtime.engine import check_threads
from vt_models.runtime.onnx_engine import import_onnxruntime, open_session
from vt_models.tracker.tracker import Estimate

if TYPE_CHECKING:
    pass

# A float or an array of them; mypy does not follow ** 0.5 through a type variable of the two.
Real = Any

TEMPLATE_SIZE, SEARCH_SIZE = 127, 255
STRIDE, CELLS = 16, 15
CONTEXT = 0.5
SHAPE_PENALTY = 0.138
WINDOW_INFLUENCE = 0.455
SIZE_RATE = 0.348
LEAST_SIDE = 10.0

# The backbone's file declares the search region's size and no other, and the template is smaller.
# These are the two declared shapes as protobuf encodes them (a dimension: tag 0a, length, tag 08,
# varint) beside the template's in as many bytes: 127 is ff 00 where 255 is ff 01. A replacement
# of equal length leaves every length around it valid, so the `onnx` package is not needed, and
# both sessions know their sizes when they plan their memory.
_TEMPLATE_SHAPES = (
    ("0a020801 0a020803 0a0308ff01 0a0308ff01", "0a020801 0a020803 0a0308ff00 0a0308ff00"),
    ("0a020801 0a020860 0a020810 0a020810", "0a020801 0a020860 0a020808 0a020808"),
)


class NanoTrackV3:
    """NanoTrack v3 with this package's `init` and `update`, on the CPU.

    Args:
        backbone, head: the published `nanotrack_backbone.onnx` and `nanotrack_head.onnx` of v3.
        threads: of ONNX Runtime; None is one.

    Raises:
        InputError: a number of threads below 1.
        BackendError: a file that cannot be read or is not NanoTrack v3's, or no ONNX Runtime.
    """

    def __init__(self, backbone: Path, head: Path, threads: int | None = 1) -> None:
        threads = check_threads(threads)
        search_model = _read(backbone)
        template_model = _template_backbone(search_model, backbone)
        self._template = _Crop(TEMPLATE_SIZE)
        self._search = _Crop(SEARCH_SIZE)
        template_features = np.empty((1, 96, 8, 8), np.float32)
        search_features = np.empty((1, 96, 16, 16), np.float32)
        self._classes = np.empty((1, 2, CELLS, CELLS), np.float32)
        self._distances = np.empty((1, 4, CELLS, CELLS), np.float32)
        arrays = {"input": self._template.image, "output": template_features}
        self._template_graph = _Graph(template_model, backbone, threads, arrays)
        arrays = {"input": self._search.image, "output": search_features}
        self._search_graph = _Graph(search_model, backbone, threads, arrays)
        arrays = {"input1": template_features, "input2": search_features}
        arrays |= {"output1": self._classes, "output2": self._distances}
        self._head_graph = _Graph(_read(head), head, threads, arrays)
        try:
            # Some damage shows only when a graph runs; it shall show here and not in a video.
            for graph in (self._template_graph, self._search_graph, self._head_graph):
                graph.run()
        except Exception as error:  # onnxruntime's exceptions share no narrower base
            raise BackendError(
                f"{backbone} and {head} cannot be run, one of them is damaged: {error}; "
                "download them again"
            ) from error

        window = np.outer(np.hanning(CELLS), np.hanning(CELLS))
        self._window = (WINDOW_INFLUENCE * window).astype(np.float32)
        self._centre: tuple[float, float] | None = None
        self._size = (0.0, 0.0)
        self._mean_colour = (0, 0, 0)

    def init(self, frame: NDArray[np.uint8], box: Sequence[float]) -> None:
        """Start on a target.

        Args:
            frame: (H, W, 3) uint8 RGB.
            box: x, y, w, h in pixels of the frame. Sides longer than the frame's are cut to
                those, as `update` does, so that no box can ask for a crop without bound.

        Raises:
            InputError: a frame or a box that cannot be used.
        """
        frame = check_frame(frame)
        x, y, w, h = check_box(box, frame.shape)
        centre = (x + (w - 1) / 2, y + (h - 1) / 2)
        size = (min(w, float(frame.shape[1])), min(h, float(frame.shape[0])))
        red, green, blue = (int(value) for value in cv2.mean(frame)[:3])
        self._mean_colour = (red, green, blue)
        self._centre = None
        self._template.cut(frame, centre, round(_context_side(*size)), self._mean_colour)
        self._template_graph.run()
        self._centre, self._size = centre, size

    def update(self, frame: NDArray[np.uint8]) -> Estimate:
        """Find the target in the next (H, W, 3) uint8 RGB frame.

        Returns:
            The box; its centre lies in the frame and its sides are 10 pixels to the frame's. The
            score is the network's at the best cell, without penalty and window. Where the
            network's output is not finite the box is the previous one and the score is 0.

        Raises:
            InputError: a frame that cannot be used, or `init` was not called.
        """
        frame = check_frame(frame)
        if self._centre is None:
            raise InputError("update() before init(); call init(frame, box) first")
        (x, y), (w, h) = self._centre, self._size
        side = _context_side(w, h)
        scale = TEMPLATE_SIZE / side  # pixels of the crop for one of the frame
        crop_side = round(side * (SEARCH_SIZE / TEMPLATE_SIZE))
        self._search.cut(frame, self._centre, crop_side, self._mean_colour)
        self._search_graph.run()
        self._head_graph.run()

        background, target = self._classes[0]
        left, top, right, bottom = self._distances[0]
        scores = np.exp(-np.logaddexp(np.float32(0.0), background - target))  # softmax of two
        widths, heights = left + right, top + bottom
        # By how much a cell's box is larger or smaller, and flatter or taller, than the last one,
        # whose context side is TEMPLATE_SIZE in pixels of the crop.
        size_change = _at_least_one(_context_side(widths, heights) / TEMPLATE_SIZE)
        ratio_change = _at_least_one(heights / widths * (w / h))
        penalty = np.exp((1.0 - ratio_change * size_change) * SHAPE_PENALTY)
        ranking = penalty * scores
        rates = ranking * SIZE_RATE
        ranking = ranking * (1.0 - WINDOW_INFLUENCE) + self._window
        row, column = divmod(int(ranking.argmax()), CELLS)
        cell = row, column

        rate = float(rates[cell])
        x += (STRIDE * (column - CELLS // 2) + float(right[cell] - left[cell]) / 2) / scale
        y += (STRIDE * (row - CELLS // 2) + float(bottom[cell] - top[cell]) / 2) / scale
        w += (float(widths[cell]) / scale - w) * rate
        h += (float(heights[cell]) / scale - h) * rate
        if not all(map(math.isfinite, (x, y, w, h))):
            return Estimate(self._box(), 0.0)
        frame_height, frame_width = frame.shape[:2]
        self._centre = min(max(x, 0.0), frame_width), min(max(y, 0.0), frame_height)
        self._size = max(min(w, frame_width), LEAST_SIDE), max(min(h, frame_height), LEAST_SIDE)
        return Estimate(self._box(), float(scores[cell]))

    def _box(self) -> Box:
        (x, y), (w, h) = self._centre or (0.0, 0.0), self._size
        return x - w / 2, y - h / 2, w, h


class _Crop:
    """Cuts squares out of frames into an image for the network, in buffers that are kept.

    Attributes:
        image: (1, 3, size, size) float32, blue, green, red, 0 to 255.
    """

    def __init__(self, size: int) -> None:
        self.image = np.zeros((1, 3, size, size), np.float32)
        self._crop = np.empty((size, size, 3), np.uint8)
        self._planes = np.empty((3, size, size), np.uint8)
        self._padded = np.empty(0, np.uint8)

    def cut(
        self,
        frame: NDArray[np.uint8],
        centre: tuple[float, float],
        side: int,
        colour: tuple[int, int, int],
    ) -> None:
        """Put the square around `centre` into `image`; what lies outside the frame is `colour`.

        The centre is that of pixel indices: a box of one pixel at (3, 4) has it at (3, 4).
        """
        x1, y1 = math.floor(centre[0] - side / 2), math.floor(centre[1] - side / 2)
        view = frame[max(y1, 0) : max(y1 + side, 0), max(x1, 0) : max(x1 + side, 0)]
        if view.size == 0:
            self._crop[:] = colour
        else:
            if view.shape[:2] != (side, side):
                view = self._pad(view, max(-x1, 0), max(-y1, 0), side, colour)
            cv2.resize(view, self._crop.shape[:2], dst=self._crop)
        # Splitting before the conversion takes 0.04 ms, one strided conversion 0.12 ms.
        cv2.split(self._crop, list(self._planes[::-1]))
        np.copyto(self.image[0], self._planes)

    def _pad(
        self,
        view: NDArray[np.uint8],
        left: int,
        top: int,
        side: int,
        colour: tuple[int, int, int],
    ) -> NDArray[np.uint8]:
        if self._padded.size < side * side * 3:
            self._padded = np.empty(side * side * 3, np.uint8)
        buffer = self._padded[: side * side * 3].reshape(side, side, 3)
        bottom, right = side - top - view.shape[0], side - left - view.shape[1]
        return cv2.copyMakeBorder(
            view, top, bottom, left, right, cv2.BORDER_CONSTANT, dst=buffer, value=colour
        )


def _context_side(width: Real, height: Real) -> Real:
    """Side of the square that shows boxes with their context."""
    context = CONTEXT * (width + height)
    return ((width + context) * (height + context)) ** 0.5


def _at_least_one(ratio: NDArray[np.float32]) -> NDArray[np.float32]:
    """A ratio or its inverse, whichever is larger."""
    return np.maximum(ratio, 1.0 / ratio)


def _read(file: Path) -> bytes:
    try:
        return read_bytes(file)
    except OSError as error:
        raise BackendError(f"{file} cannot be read: {error.strerror}") from error


def _template_backbone(model: bytes, file: Path) -> bytes:
    """The backbone with the template's shapes in place of the search region's."""
    for declared, wanted in _TEMPLATE_SHAPES:
        found = model.count(bytes.fromhex(declared))
        if found != 1:
            raise BackendError(
                f"{file} is not the published backbone of NanoTrack v3, or damaged: it declares "
                f"an input of 1x3x255x255 and an output of 1x96x16x16 {found} times, expected once"
            )
        model = model.replace(bytes.fromhex(declared), bytes.fromhex(wanted))
    return model


class _Graph:
    """A graph that reads and writes arrays in place.

    Args:
        model, file: its ONNX, and where that is from.
        threads: of ONNX Runtime.
        arrays: float32, in the shape that the graph declares; by the name of the input or output.
    """

    def __init__(
        self, model: bytes, file: Path, threads: int | None, arrays: dict[str, NDArray[np.float32]]
    ) -> None:
        session = self._session = open_session(model, file, "cpu", threads)
        inputs, outputs = session.get_inputs(), session.get_outputs()
        found = {entry.name: tuple(entry.shape) for entry in (*inputs, *outputs)}
        expected = {name: array.shape for name, array in arrays.items()}
        if found != expected:
            raise BackendError(f"{file} is not NanoTrack v3's: it has {found}, expected {expected}")
        self._arrays = arrays  # a binding does not keep them alive
        self._binding = session.io_binding()
        value_on = import_onnxruntime().OrtValue.ortvalue_from_numpy
        for entry in inputs:
            self._binding.bind_ortvalue_input(entry.name, value_on(arrays[entry.name]))
        for entry in outputs:
            self._binding.bind_ortvalue_output(entry.name, value_on(arrays[entry.name]))

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)
