# SPDX-License-Identifier: Apache-2.0
"""The short-term tracker: one paper's inference loop of crop, network and box.

A short-term tracker is a pure function of the frames since `init`. It never decides that a target
is lost; that is the task of the long-term tracker around it (`vt_models.longterm`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vt_models.errors import InputError
from vt_models.geometry.boxes import Box, CropWindow, check_box, clip_box, crop_window, iou
from vt_models.geometry.crop import Cropper, check_frame, inside_frame, window_padding
from vt_models.runtime.engine import Array, Engine, Template
from vt_models.tracker.decoders import NO_SIZE_CORRECTION, BoxDecoder, DenseDecoder, Proposal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from vt_models.registry import ModelSpec, UpdatePolicy

# Search windows on the first frame from which the box size is calibrated: shift of the centre in
# sides of the box, and scale. Shifted, so that no window puts the target exactly in its middle.
_INITIAL_SEARCH_WINDOWS = (
    (0.0, 0.0, 1.0),
    (0.3, 0.1, 1.1),
    (-0.3, -0.1, 0.9),
    (0.1, -0.3, 1.0),
    (-0.1, 0.3, 1.0),
)
# An initial search whose box has a smaller IoU with the given one has found another object.
_MIN_CALIBRATION_IOU = 0.5


class TextTokenizer(Protocol):
    """Turn a text into word pieces (see vt_models.text)."""

    def __call__(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Ids (L,) and which of them count (L,); InputError for a text that cannot be used."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Where the target is in a frame.

    Attributes:
        box: x, y, w, h in pixels of that frame.
        score: the network's confidence in [0, 1]; 0 where it gave no usable box.
        covariance: (4, 4) of centre x, centre y, width, height in pixels squared, from the score
            map (`vt_models.tracker.decoders.box_covariance`) and not calibrated; None where the
            network has no maps.
    """

    box: Box
    score: float
    covariance: NDArray[np.float64] | None = field(default=None, compare=False)


class Tracker:
    """Track one object: `init` on one frame, `update` on each following frame.

    Args:
        spec: what the model is.
        engine: runs its network; owned by this tracker (it holds the template's state).
        tokenizer: for models with language.
        update: when the dynamic template is replaced; None is the model's own setting.
        calibration: the entry of that name in the export's model.json, if it has one; the tracker
            itself makes no use of it, `vt_models.create_long_term_tracker` does.

    Attributes:
        calibration: as given.
        updates: False keeps the dynamic template as it is (models that have one); `init` leaves
            this setting alone.

    Not thread-safe: one thread at a time.
    """

    def __init__(
        self,
        spec: ModelSpec,
        engine: Engine,
        tokenizer: TextTokenizer | None = None,
        update: UpdatePolicy | None = None,
        calibration: Mapping[str, Any] | None = None,
    ) -> None:
        self.updates = True
        self.calibration = calibration
        self._spec = spec
        self._engine = engine
        self._tokenizer = tokenizer
        self._policy = update or spec.update_policy
        self._template_croppers = [Cropper(spec.template_size) for _ in spec.view_factors]
        self._search_cropper = Cropper(spec.search_size)
        self._decode = DenseDecoder(spec) if spec.decoder == "dense" else BoxDecoder(spec)
        self._size_correction = NO_SIZE_CORRECTION
        self._box: Box | None = None
        self._frame_number = 0

    @property
    def spec(self) -> ModelSpec:
        """Specification of the model."""
        return self._spec

    @property
    def box(self) -> Box | None:
        """Box of the last frame, x, y, w, h in pixels; None before `init`."""
        return self._box

    def init(self, frame: NDArray[np.uint8], box: Sequence[float], text: str | None = None) -> None:
        """Start on a new target; everything known about the previous one is forgotten.

        Args:
            frame: (H, W, 3) uint8 RGB, any strides.
            box: x, y, w, h in pixels of the frame; it may be fractional and may leave the frame.
            text: a description; only for models with a language input.

        Raises:
            InputError: bad frame or box, or text for a model without language. The previous
                target is kept in this case.
            BackendError: the network failed; there is no target then.
        """
        frame = check_frame(frame)
        start = check_box(box, frame.shape)
        tokens = self._tokenize(text)
        _check_visible(frame, start, self._spec.template_factor)
        self._box = None
        self._engine.set_template(self._template(frame, start))
        if tokens is not None:
            self._engine.set_text(*tokens)
        self._size_correction = NO_SIZE_CORRECTION
        if self._spec.size_calibration > 0:
            self._size_correction = self._calibrated_size(frame, start)
        self._box = start
        self._frame_number = 0

    def update(self, frame: NDArray[np.uint8]) -> Estimate:
        """Find the target in the next frame.

        Args:
            frame: (H, W, 3) uint8 RGB, any strides. Its size may differ from the previous
                frame's: boxes stay in pixels and are clipped to the new frame, so a caller that
                rescales a stream must call `init` again.

        Returns:
            The estimate. Where the network's output is not finite the box is the previous one
            and the score is 0.

        Raises:
            InputError: bad frame, or `init` was not called; the target is kept.
            BackendError: the network failed; the target is kept.
        """
        frame = check_frame(frame)
        box, proposal = self._search(frame, self._require_box(), prior=True)
        self._frame_number += 1
        if proposal is None:
            return Estimate(box, 0.0)
        estimate = self._estimate(frame, proposal)
        self._box = estimate.box
        is_allowed = self.updates and self._spec.dynamic_template
        if is_allowed and self._policy.is_due(self._frame_number, proposal.peak):
            self._engine.set_dynamic(self._template(frame, estimate.box))
        return estimate

    def locate(
        self, frame: NDArray[np.uint8], around: Sequence[float], prior: bool = True
    ) -> Estimate:
        """Search for the target around a given box; the tracker itself stays as it is.

        Args:
            frame: (H, W, 3) uint8 RGB.
            around: x, y, w, h in pixels; the search region is centred on it and scaled by it.
            prior: False leaves out what expects the target near that box and of its size
                (window, penalties, smoothing); re-detection over the whole frame needs this.

        Returns:
            The estimate, clipped to the frame; score 0 where the output is not finite.

        Raises:
            InputError: bad frame or box, or `init` was not called.
            BackendError: the network failed.
        """
        frame = check_frame(frame)
        self._require_box()
        box, proposal = self._search(frame, check_box(around, frame.shape), prior)
        return Estimate(box, 0.0) if proposal is None else self._estimate(frame, proposal)

    def move_to(self, box: Sequence[float]) -> None:
        """Continue from this box; templates and text stay.

        Raises:
            InputError: the box is not finite or has no area, or `init` was not called.
        """
        self._require_box()
        x, y, w, h = (float(value) for value in box)
        crop_window((x, y, w, h), self._spec.search_factor)
        self._box = (x, y, w, h)

    def _require_box(self) -> Box:
        if self._box is None:
            raise InputError("update() before init(); call init(frame, box) first")
        return self._box

    def _tokenize(self, text: str | None) -> tuple[NDArray[np.int64], NDArray[np.bool_]] | None:
        """Word pieces of the text, all masked without one; None for models without language."""
        spec = self._spec
        if not spec.language:
            if text:
                raise InputError(f"{spec.name} takes no text, got {text!r}; give a box alone")
            return None
        if text is None:
            return np.zeros(spec.text_length, np.int64), np.zeros(spec.text_length, np.bool_)
        if self._tokenizer is None:
            raise InputError(f"this {spec.name} was made without a tokenizer; give a box alone")
        return self._tokenizer(text)

    def _template(self, frame: NDArray[np.uint8], box: Box) -> Template:
        """Crop all views of a target."""
        windows = [crop_window(box, factor) for factor in self._spec.view_factors]
        crops = [
            cropper(frame, window)
            for cropper, window in zip(self._template_croppers, windows, strict=True)
        ]
        mask = None
        if "template_mask" in self._spec.template_inputs:
            mask = _padding(frame, windows[0], self._spec.template_size)
        batch = crops[0][None] if len(crops) == 1 else np.stack(crops)
        return Template(batch, _fraction_of(windows[0], box), mask)

    def _search(
        self, frame: NDArray[np.uint8], around: Box, prior: bool
    ) -> tuple[Box, Proposal | None]:
        """Run the network around a box.

        Returns:
            The box that was searched around, and the proposal; None where that is not finite. The
            box is `around`, clipped to the frame if its window would show nothing of the frame.
        """
        box, window = around, crop_window(around, self._spec.search_factor)
        if inside_frame(window, frame.shape).is_empty():
            box = clip_box(around, frame.shape, self._spec.clip_margin)
            window = crop_window(box, self._spec.search_factor)
        crop = self._search_cropper(frame, window)
        if "search_mask" in self._spec.search_inputs:
            outputs = self._engine.search(crop, _padding(frame, window, self._spec.search_size))
        else:
            outputs = self._engine.search(crop)
        return box, self._decode(outputs, window, box, prior, self._size_correction)

    def _calibrated_size(self, frame: NDArray[np.uint8], start: Box) -> tuple[float, float]:
        """Calibrate the box size on the first frame, see `ModelSpec.size_calibration`.

        Returns:
            Factors of every later width and height: exp(-size_calibration * mean log error) over
            the initial search windows in which the given box was found again.
        """
        x, y, w, h = start
        errors = []
        for dx, dy, scale in _INITIAL_SEARCH_WINDOWS:
            around = (x + dx * w, y + dy * h, w * scale, h * scale)
            _, found = self._search(frame, around, prior=False)
            if found is not None and float(iou([found.box], [start])[0]) >= _MIN_CALIBRATION_IOU:
                errors.append((math.log(found.box[2] / w), math.log(found.box[3] / h)))
        if not errors:
            return NO_SIZE_CORRECTION
        share = self._spec.size_calibration
        width_error, height_error = np.mean(errors, axis=0).tolist()
        return math.exp(-share * width_error), math.exp(-share * height_error)

    def _estimate(self, frame: NDArray[np.uint8], proposal: Proposal) -> Estimate:
        box = clip_box(proposal.box, frame.shape, self._spec.clip_margin)
        return Estimate(box, min(max(proposal.score, 0.0), 1.0), proposal.covariance)


def _check_visible(frame: NDArray[np.uint8], box: Box, factor: float) -> None:
    """Raise InputError if a template would show no pixel of the frame."""
    if inside_frame(crop_window(box, factor), frame.shape).is_empty():
        x, y, w, h = box
        raise InputError(
            f"box x={x:g} y={y:g} w={w:g} h={h:g} has its centre too far outside the "
            f"{frame.shape[1]}x{frame.shape[0]} frame: its template would be empty; "
            "give a box whose centre is visible"
        )


def _padding(frame: NDArray[np.uint8], window: CropWindow, size: int) -> NDArray[np.bool_] | None:
    """Where a crop shows padding; None, which costs nothing, where it shows none."""
    inside = inside_frame(window, frame.shape)
    if (inside.x2 - inside.x1, inside.y2 - inside.y1) == (window.side, window.side):
        return None
    return window_padding(frame.shape, window, size)


def _fraction_of(window: CropWindow, box: Box) -> Array:
    """(4,) float32: a box in pixels as xywh fractions of a window."""
    x, y, w, h = box
    side = window.side
    return np.array(
        ((x - window.x1) / side, (y - window.y1) / side, w / side, h / side), np.float32
    )
