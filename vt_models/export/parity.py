# SPDX-License-Identifier: Apache-2.0
"""Compare two engines: inputs, tolerances and the comparison itself."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import ExportError
from vt_models.geometry.boxes import Box, crop_window
from vt_models.geometry.crop import Cropper, window_padding
from vt_models.registry import ModelSpec, UpdatePolicy
from vt_models.runtime.engine import Engine, Template
from vt_models.tracker.tracker import Tracker

OUTPUT_TOLERANCE = 1e-4
SEQUENCE_TOLERANCE_PX = 0.05

Frame = NDArray[np.uint8]


class Sequence(NamedTuple):
    """Frames (H, W, 3) uint8 and the true box x, y, w, h in each."""

    frames: list[Frame]
    boxes: list[tuple[float, float, float, float]]


def synthetic_sequence(length: int = 12, height: int = 240, width: int = 320) -> Sequence:
    """Draw a textured object that moves and grows over a texture, the same every time."""
    rng = np.random.default_rng(20250301)
    background = _texture(rng, height, width)
    target = 255 - _texture(rng, height, width) // 2
    frames, boxes = [], []
    for index in range(length):
        x, y = width // 3 + 4 * index, height // 3 + 2 * index
        w, h = width // 6 + index, height // 6 + index // 2
        frame = np.roll(background, (index, -2 * index), axis=(0, 1))
        frame[y : y + h, x : x + w] = target[:h, :w]
        frames.append(frame)
        boxes.append((float(x), float(y), float(w), float(h)))
    return Sequence(frames, boxes)


def _texture(rng: np.random.Generator, height: int, width: int) -> Frame:
    """(height, width, 3) uint8 noise with detail at 32, 8 and 2 pixels."""
    total = np.zeros((height, width, 3), np.int64)
    for cell, weight in ((32, 4), (8, 2), (2, 1)):
        coarse = rng.integers(0, 256, (height // cell + 1, width // cell + 1, 3))
        total += weight * np.kron(coarse, np.ones((cell, cell, 1), np.int64))[:height, :width]
    return (total // 7).astype(np.uint8)


def check_engines(spec: ModelSpec, reference: Engine, engine: Engine) -> dict[str, float]:
    """Compare two engines on crops and over a sequence.

    Returns:
        "output_abs": the largest difference of any search output, on crops of noise and of a
        synthetic sequence; "sequence_px": the largest difference of a box over 12 frames.

    Raises:
        ExportError: a difference is beyond 1e-4 or 0.05 px, or an output is not finite.
    """
    measured = {
        "output_abs": _output_difference(spec, reference, engine),
        "sequence_px": _sequence_difference(spec, reference, engine),
    }
    limits = {"output_abs": OUTPUT_TOLERANCE, "sequence_px": SEQUENCE_TOLERANCE_PX}
    for name, limit in limits.items():
        if not measured[name] <= limit:
            raise ExportError(
                f"the exported {spec.name} does not reproduce the network: {name} differs by "
                f"{measured[name]:.3g}, allowed {limit:g}; nothing was written. Look for "
                "operations that depend on the input's values while tracing"
            )
    return measured


def _output_difference(spec: ModelSpec, reference: Engine, engine: Engine) -> float:
    """Compute the largest absolute difference of search outputs; infinity if one is not finite."""
    worst = 0.0
    for view in _views(spec):
        expected, found = (_outputs(spec, each, view) for each in (reference, engine))
        if len(expected) != len(found):
            raise ExportError(f"{len(found)} outputs instead of {len(expected)}")
        for one, other in zip(expected, found, strict=True):
            if one.shape != other.shape:
                raise ExportError(f"an output has shape {other.shape} instead of {one.shape}")
            difference = float(np.abs(one - other).max())
            worst = float("inf") if np.isnan(difference) else max(worst, difference)
    return worst


def _outputs(spec: ModelSpec, engine: Engine, view: _View) -> tuple[NDArray[np.float32], ...]:
    engine.set_template(view.template)
    if spec.dynamic_template:
        engine.set_dynamic(view.dynamic)
    if spec.language:
        engine.set_text(*_example_text(spec))
    return tuple(output.copy() for output in engine.search(view.search, view.mask))


def _example_text(spec: ModelSpec) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return any five word pieces."""
    places = np.arange(spec.text_length)
    return places + 100, places < 5


class _View(NamedTuple):
    """Inputs of a network."""

    template: Template
    dynamic: Template
    search: Frame
    mask: NDArray[np.bool_] | None


def _views(spec: ModelSpec) -> list[_View]:
    """Make views of noise, and of a synthetic sequence inside and where crops show padding."""
    rng = np.random.default_rng(7)
    views = len(spec.view_factors)
    shape = (views, spec.template_size, spec.template_size, 3)
    box = np.array((0.25, 0.25, 0.5, 0.5), np.float32)
    one, other = (Template(rng.integers(0, 256, shape, dtype=np.uint8), box) for _ in range(2))
    search = rng.integers(0, 256, (spec.search_size, spec.search_size, 3), dtype=np.uint8)
    frames, boxes = synthetic_sequence()
    corner = (-10.0, -5.0, 60.0, 40.0)
    found = [_View(one, other, search, None)]
    for start in (boxes[0], corner):
        window = crop_window(start, spec.search_factor)
        crop = Cropper(spec.search_size)(frames[-1], window)
        mask = window_padding(frames[-1].shape, window, spec.search_size)
        first, last = (_template_of(spec, frame, start) for frame in (frames[0], frames[-1]))
        found.append(_View(first, last, crop, mask))
    return found


def _template_of(spec: ModelSpec, frame: Frame, box: Box) -> Template:
    windows = [crop_window(box, factor) for factor in spec.view_factors]
    return Template(
        np.stack([Cropper(spec.template_size)(frame, window) for window in windows]),
        np.array((0.25, 0.25, 0.5, 0.5), np.float32),
        window_padding(frame.shape, windows[0], spec.template_size),
    )


def _sequence_difference(spec: ModelSpec, reference: Engine, engine: Engine) -> float:
    """Compute the largest difference of a box coordinate, pixels, over a synthetic sequence.

    Dynamic templates are replaced every fourth frame whatever the score, and a text is read.
    """
    frames, boxes = synthetic_sequence()
    tracks = []
    for runner in (reference, engine):
        tracker = Tracker(
            spec, runner, lambda _: _example_text(spec), UpdatePolicy("parity", 4, -1.0)
        )
        tracker.init(frames[0], boxes[0], "any text" if spec.language else None)
        tracks.append([tracker.update(frame).box for frame in frames[1:]])
    return float(np.abs(np.array(tracks[0]) - np.array(tracks[1])).max())
