# SPDX-License-Identifier: Apache-2.0
"""One paper's inference loop: crop, network, box.

A tracker is a pure function of the frames since `init`. It never decides that a target is lost;
that is the business of the target keeper around it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from vt_models.crop import Cropper, check_frame, inside_frame
from vt_models.errors import InputError
from vt_models.geometry import Box, CropWindow, check_box, clip_box, crop_window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vt_models.registry import ModelSpec

Array = NDArray[np.float32]

# A network's box beyond this many crops is treated like one that is not finite.
_FRACTION_LIMIT = 1e6


class Engine(Protocol):
    """What runs a network's two graphs (see vt_models.runtime)."""

    def set_template(self, crop: NDArray[np.uint8], box: Array) -> None:
        """Keep the state of a template.

        Args:
            crop: (T, T, 3) uint8 RGB.
            box: (4,) float32 x, y, w, h as fractions of the crop.
        """

    def search(self, crop: NDArray[np.uint8]) -> tuple[Array, ...]:
        """Run the search graph on a (S, S, 3) uint8 RGB crop.

        Returns:
            The network's outputs with their batch dimension of 1; buffers may be reused by the
            next call.
        """


@dataclass(frozen=True, slots=True)
class Estimate:
    """Where the target is in a frame.

    Attributes:
        box: x, y, w, h in pixels of that frame.
        score: the network's confidence in [0, 1]; 0 where it gave no usable box.
        covariance: (4, 4) of the box, None where the tracker has none.
    """

    box: Box
    score: float
    covariance: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """A decoded network output, before clipping: xywh in pixels of the frame, and the score."""

    box: Box
    score: float


class Tracker:
    """A single-object tracker: `init` on one frame, `update` on each following frame.

    Args:
        spec: what the model is.
        engine: runs its network; owned by this tracker (it holds the template's state).

    Not thread-safe: one thread at a time.
    """

    def __init__(self, spec: ModelSpec, engine: Engine) -> None:
        self._spec = spec
        self._engine = engine
        self._template_cropper = Cropper(spec.template_size)
        self._search_cropper = Cropper(spec.search_size)
        self._decode = DenseDecoder(spec) if spec.decoder == "dense" else BoxDecoder(spec)
        self._box: Box | None = None

    @property
    def spec(self) -> ModelSpec:
        """The specification of the model."""
        return self._spec

    def init(self, frame: NDArray[np.uint8], box: Sequence[float], text: str | None = None) -> None:
        """Start on a new target; everything known about a former one is forgotten.

        Args:
            frame: (H, W, 3) uint8 RGB, any strides.
            box: x, y, w, h in pixels of the frame; it may be fractional and may leave the frame.
            text: a description; only for models with a language input.

        Raises:
            InputError: bad frame or box, or text for a model without language. The former
                target is kept in this case.
            BackendError: the network failed; there is no target then.
        """
        frame = check_frame(frame)
        start = check_box(box, frame.shape)
        if text:
            raise InputError(f"{self._spec.name} takes no text, got {text!r}; give a box alone")
        window = _template_window(frame, start, self._spec.template_factor)
        self._box = None
        crop = self._template_cropper(frame, window)
        self._engine.set_template(crop, _fraction_of(window, start))
        self._box = start

    def update(self, frame: NDArray[np.uint8]) -> Estimate:
        """Find the target in the next frame.

        Args:
            frame: (H, W, 3) uint8 RGB, any strides. Its size may differ from the former
                frame's: boxes stay in pixels and are clipped to the new frame, so whoever
                rescales a stream must call `init` again.

        Returns:
            The estimate. Where the network's output is not finite the box is the former one
            and the score is 0.

        Raises:
            InputError: bad frame, or `init` was not called; the target is kept.
            BackendError: the network failed; the target is kept.
        """
        if self._box is None:
            raise InputError("update() before init(); call init(frame, box) first")
        frame = check_frame(frame)
        box, window = self._box_within(frame, self._box)
        crop = self._search_cropper(frame, window)
        proposal = self._decode(self._engine.search(crop), window, box)
        if proposal is None:
            return Estimate(box, 0.0)
        self._box = clip_box(proposal.box, frame.shape, self._spec.clip_margin)
        return Estimate(self._box, min(max(proposal.score, 0.0), 1.0))

    def _box_within(self, frame: NDArray[np.uint8], box: Box) -> tuple[Box, CropWindow]:
        """The former box and its search window; the box is clipped if the window misses it."""
        window = crop_window(box, self._spec.search_factor)
        if not inside_frame(window, frame.shape).is_empty():
            return box, window
        box = clip_box(box, frame.shape, self._spec.clip_margin)
        return box, crop_window(box, self._spec.search_factor)


def _template_window(frame: NDArray[np.uint8], box: Box, factor: float) -> CropWindow:
    """The template's window; InputError if it shows no pixel of the frame."""
    window = crop_window(box, factor)
    if inside_frame(window, frame.shape).is_empty():
        x, y, w, h = box
        raise InputError(
            f"box x={x:g} y={y:g} w={w:g} h={h:g} has its centre too far outside the "
            f"{frame.shape[1]}x{frame.shape[0]} frame: its template would be empty; "
            "give a box whose centre is visible"
        )
    return window


def _fraction_of(window: CropWindow, box: Box) -> Array:
    """(4,) float32: a box in pixels as xywh fractions of a window."""
    x, y, w, h = box
    side = window.side
    return np.array(
        ((x - window.x1) / side, (y - window.y1) / side, w / side, h / side), np.float32
    )


class BoxDecoder:
    """The authors' loop of AsymTrack: one box per frame, no window, no smoothing.

    The box is scaled to source pixels and offset by the former centre minus half the window's
    side. (The window itself was rounded to whole pixels; the authors ignore that remainder.)
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._size = spec.search_size

    def __call__(
        self, outputs: tuple[Array, ...], window: CropWindow, former: Box
    ) -> Proposal | None:
        """Decode box (1, 4) cxcywh as fractions of the crop, and score (1,).

        Args:
            outputs: the network's ("box", "score").
            window: what the crop shows.
            former: the box that the window was computed from, xywh.

        Returns:
            The proposal, None if the outputs are not finite (or absurd: beyond a million crops).
        """
        fractions, score = outputs[0].reshape(-1).tolist(), float(outputs[1].reshape(-1)[0])
        if not (math.isfinite(score) and all(abs(v) <= _FRACTION_LIMIT for v in fractions)):
            return None
        resize_factor = self._size / window.side
        cx, cy, w, h = (value * self._size / resize_factor for value in fractions)
        half_side = 0.5 * self._size / resize_factor
        cx += former[0] + 0.5 * former[2] - half_side
        cy += former[1] + 0.5 * former[3] - half_side
        return Proposal((cx - 0.5 * w, cy - 0.5 * h, w, h), score)


class DenseDecoder:
    """A score for each cell, and a box: windowed argmax, smoothed size.

    With k = window_influence the chosen cell is the maximum of
    penalty * score_map * (1 - k) + hann * k. Its centre is taken as it is; its size moves from
    the former size by the rate size_smoothing * score (fully if size_smoothing is 0). The
    penalty on a change of scale and aspect is that of SiamRPN (Li et al., CVPR 2018, section
    4.3): exp(-(r_c * s_c - 1) * scale_penalty), s_c = max(s / s', s' / s) with
    s = sqrt((w + p) * (h + p)), p = (w + h) / 2, and r_c the same of w / h.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._influence = spec.window_influence
        self._smoothing = spec.size_smoothing
        self._penalty = spec.scale_penalty
        self._window = np.zeros((0, 0), np.float32)

    def __call__(
        self, outputs: tuple[Array, ...], window: CropWindow, former: Box
    ) -> Proposal | None:
        """Decode score_map (1, H, W) in [0, 1] and box_map (1, 4, H, W) cxcywh fractions.

        Args:
            outputs: the network's ("score_map", "box_map").
            window: what the crop shows.
            former: the box in the former frame, xywh.

        Returns:
            The proposal, None if the chosen cell is not finite (or absurd, as above).
        """
        score_map, box_map = outputs[0][0], outputs[1][0]
        ranking = score_map
        if self._penalty:
            ranking = ranking * self._scale_penalty(box_map, window, former)
        if self._influence:
            ranking = ranking * (1.0 - self._influence) + self._hann(score_map.shape)
        row, column = divmod(int(np.argmax(ranking)), score_map.shape[1])
        score = float(score_map[row, column])
        cx, cy, w, h = (window.side * value for value in box_map[:, row, column].tolist())
        limit = _FRACTION_LIMIT * window.side
        if not (math.isfinite(score) and all(abs(value) <= limit for value in (cx, cy, w, h))):
            return None
        if self._smoothing:
            rate = min(max(self._smoothing * score, 0.0), 1.0)
            w, h = former[2] + rate * (w - former[2]), former[3] + rate * (h - former[3])
        return Proposal((window.x1 + cx - 0.5 * w, window.y1 + cy - 0.5 * h, w, h), score)

    def _hann(self, shape: tuple[int, ...]) -> Array:
        """(H, W) Hann window times its influence; computed once for a shape."""
        if self._window.shape != shape:
            window = np.outer(np.hanning(shape[0]), np.hanning(shape[1]))
            self._window = (self._influence * window).astype(np.float32)
        return self._window

    def _scale_penalty(self, box_map: Array, window: CropWindow, former: Box) -> Array:
        """(H, W) factors in (0, 1]."""
        with np.errstate(all="ignore"):
            w, h = np.maximum(box_map[2:], 1e-6)
            was_w, was_h = former[2] / window.side, former[3] / window.side
            scale = _padded_size(w, h) / _padded_size(np.float32(was_w), np.float32(was_h))
            aspect = (w / h) / np.float32(was_w / was_h)
            change = np.maximum(scale, 1.0 / scale) * np.maximum(aspect, 1.0 / aspect)
            factors: Array = np.exp((1.0 - change) * self._penalty)
        return factors


def _padded_size(w: Array | np.float32, h: Array | np.float32) -> Array:
    """SiamRPN's size of a box: sqrt((w + p) * (h + p)), p = (w + h) / 2."""
    pad = (w + h) * 0.5
    size: Array = np.sqrt((w + pad) * (h + pad))
    return size
