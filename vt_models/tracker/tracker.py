# SPDX-License-Identifier: Apache-2.0
"""The short-term tracker: one paper's inference loop of crop, network and box.

A short-term tracker is a pure function of the frames since `init`. It never decides that a target
is lost; that is the task of the long-term tracker around it (`vt_models.longterm`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.geometry.boxes import Box, CropWindow, check_box, clip_box, crop_window, iou
from vt_models.geometry.crop import Cropper, check_frame, inside_frame, window_padding
from vt_models.registry import ModelSpec, UpdatePolicy
from vt_models.runtime.engine import Array, Engine, Template
from vt_models.tracker.decoders import NO_SIZE_CORRECTION, Decoder, Proposal

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
# Motion, in sizes of the target a frame, that is assumed after a start or a jump, and how fast it
# is forgotten: the wide crop is searched for the first 9 frames.
_UNKNOWN_MOTION = 0.5
_MOTION_DECAY = 0.9
# What is nearer to the chosen box, in its widths or heights, is the same object.
_APART = 0.6


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


class Search(NamedTuple):
    """A search of a frame, as the network saw it.

    Attributes:
        window: what the crop shows of the frame.
        crop: (S, S, 3) uint8 RGB; its memory is used again for the next search.
        outputs: of the network; their memory may be, too.
    """

    window: CropWindow
    crop: NDArray[np.uint8]
    outputs: tuple[Array, ...]


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
        engine, tokenizer: as given.
        last_search: the last one; None before the first. For drawing and explaining.
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
        self.engine = engine
        self.last_search: Search | None = None
        self._spec = spec
        self.tokenizer = tokenizer
        self._policy = update or spec.update_policy
        self._template_croppers = [Cropper(spec.template_size) for _ in spec.view_factors]
        self._narrow = spec.narrow
        self._search_croppers = {
            each.search_size: Cropper(each.search_size) for each in (spec, self._narrow) if each
        }
        self._decode = Decoder(spec)
        self._size_correction = NO_SIZE_CORRECTION
        self._box: Box | None = None
        self._frame_number = 0
        self._motion = _UNKNOWN_MOTION
        self._score = 1.0

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
        template_window = crop_window(start, self._spec.template_factor)
        if inside_frame(template_window, frame.shape).is_empty():
            x, y, w, h = start
            raise InputError(
                f"box x={x:g} y={y:g} w={w:g} h={h:g} has its centre too far outside the "
                f"{frame.shape[1]}x{frame.shape[0]} frame: its template would be empty; "
                "give a box whose centre is visible"
            )
        self._box = None
        self.engine.set_template(self._template(frame, start))
        if tokens is not None:
            self.engine.set_text(*tokens)
        self._size_correction = NO_SIZE_CORRECTION
        if self._spec.size_calibration > 0:
            self._size_correction = self._calibrated_size(frame, start)
        self._box = start
        self._frame_number = 0
        self._motion, self._score = _UNKNOWN_MOTION, 1.0

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
        spec = self._spec
        if self._narrow and self._motion < spec.narrow_motion and self._score >= spec.narrow_score:
            spec = self._narrow
        box, proposal = self._search(frame, self._require_box(), spec, prior=True)
        self._frame_number += 1
        if proposal is None:
            self._score = 0.0
            return Estimate(box, 0.0)
        estimate = self._estimate(frame, proposal)
        self._motion = max(_relative_motion(box, estimate.box), _MOTION_DECAY * self._motion)
        self._box, self._score = estimate.box, estimate.score
        is_allowed = self.updates and self._spec.dynamic_template
        if is_allowed and self._policy.is_due(self._frame_number, proposal.peak):
            self.engine.set_dynamic(self._template(frame, estimate.box))
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
        box, proposal = self._search(frame, check_box(around, frame.shape), self._spec, prior)
        return Estimate(box, 0.0) if proposal is None else self._estimate(frame, proposal)

    def runner_up(self, chosen: Box) -> Estimate | None:
        """Return what scored best in the last search beside the chosen box.

        Args:
            chosen: x, y, w, h in pixels of that frame; only centres farther from its own than
                0.6 of its width or height count.

        Returns:
            A box of the size of the chosen one and the network's score there; None for networks
            without a score map, and where nothing scored.
        """
        if self.last_search is None or self._spec.decoder != "dense":
            return None
        window, _, outputs = self.last_search
        score_map, box_map = outputs[0][0], outputs[1][0]
        x, y, w, h = chosen
        centres_x = window.x1 + window.side * box_map[0]
        centres_y = window.y1 + window.side * box_map[1]
        is_apart = (abs(centres_x - (x + 0.5 * w)) > _APART * w) | (
            abs(centres_y - (y + 0.5 * h)) > _APART * h
        )
        place = np.unravel_index(np.argmax(np.where(is_apart, score_map, 0.0)), score_map.shape)
        score, cx, cy = float(score_map[place]), float(centres_x[place]), float(centres_y[place])
        if not (is_apart[place] and score > 0.0 and math.isfinite(cx + cy)):
            return None
        return Estimate((cx - 0.5 * w, cy - 0.5 * h, w, h), min(score, 1.0))

    def move_to(self, box: Sequence[float]) -> None:
        """Continue from this box; templates and text stay.

        Raises:
            InputError: the box is not finite or has no area, or `init` was not called.
        """
        self._require_box()
        x, y, w, h = (float(value) for value in box)
        crop_window((x, y, w, h), self._spec.search_factor)
        self._box = (x, y, w, h)
        self._motion = _UNKNOWN_MOTION

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
        if self.tokenizer is None:
            raise InputError(f"this {spec.name} was made without a tokenizer; give a box alone")
        return self.tokenizer(text)

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
        (left, top, side), (x, y, w, h) = windows[0], box
        fractions = ((x - left) / side, (y - top) / side, w / side, h / side)
        return Template(batch, np.array(fractions, np.float32), mask)

    def _search(
        self, frame: NDArray[np.uint8], around: Box, spec: ModelSpec, prior: bool
    ) -> tuple[Box, Proposal | None]:
        """Run the network around a box, in the search crop of `spec`.

        Returns:
            The box that was searched around, and the proposal; None where that is not finite. The
            box is `around`, clipped to the frame if its window would show nothing of the frame.
        """
        box, window = around, crop_window(around, spec.search_factor)
        if inside_frame(window, frame.shape).is_empty():
            box = clip_box(around, frame.shape, spec.clip_margin)
            window = crop_window(box, spec.search_factor)
        crop = self._search_croppers[spec.search_size](frame, window)
        if "search_mask" in spec.search_inputs:
            outputs = self.engine.search(crop, _padding(frame, window, spec.search_size))
        else:
            outputs = self.engine.search(crop)
        self.last_search = Search(window, crop, outputs)
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
            _, found = self._search(frame, around, self._spec, prior=False)
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


def _relative_motion(previous: Box, box: Box) -> float:
    """By how much of its previous size, sqrt(w * h), a box's centre moved along an axis."""
    x, y, w, h = previous
    dx, dy = box[0] - x + 0.5 * (box[2] - w), box[1] - y + 0.5 * (box[3] - h)
    return max(abs(dx), abs(dy)) / (math.sqrt(w) * math.sqrt(h))  # w * h might be 0


def _padding(frame: NDArray[np.uint8], window: CropWindow, size: int) -> NDArray[np.bool_] | None:
    """Where a crop shows padding; None, which costs nothing, where it shows none."""
    inside = inside_frame(window, frame.shape)
    if (inside.x2 - inside.x1, inside.y2 - inside.y1) == (window.side, window.side):
        return None
    return window_padding(frame.shape, window, size)
