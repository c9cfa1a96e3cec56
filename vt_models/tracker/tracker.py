# SPDX-License-Identifier: Apache-2.0
"""One paper's inference loop: crop, network, box.

A tracker is a pure function of the frames since `init`. It never decides that a target is lost;
that is the business of the target keeper around it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.geometry.boxes import Box, CropWindow, check_box, clip_box, crop_window, iou
from vt_models.geometry.crop import Cropper, check_frame, inside_frame, window_padding
from vt_models.tracker.box_covariance import box_spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vt_models.registry import Anchor, ModelSpec, UpdatePolicy

Array = NDArray[np.float32]

_AS_IT_IS = (1.0, 1.0)
# Windows in which a target is looked for on its first frame: shift of the centre in sides of the
# box, and scale.
_FIRST_LOOKS = (
    (0.0, 0.0, 1.0),
    (0.3, 0.1, 1.1),
    (-0.3, -0.1, 0.9),
    (0.1, -0.3, 1.0),
    (-0.1, 0.3, 1.0),
)
# A look whose box has a smaller IoU with the given one has found something else.
_FOUND = 0.5

# A network's box beyond this many crops is treated like one that is not finite.
_FRACTION_LIMIT = 1e6


@dataclass(frozen=True, slots=True)
class Template:
    """What a network is shown of a target.

    Attributes:
        crops: (V, T, T, 3) uint8 RGB, one for each of the model's views.
        box: (4,) float32 x, y, w, h of the target as fractions of the first crop.
        mask: (T, T) bool, True where the first crop shows padding; None where it shows none, or
            where the network does not ask.
    """

    crops: NDArray[np.uint8]
    box: Array
    mask: NDArray[np.bool_] | None = None


class Engine(Protocol):
    """What runs a network's graphs (see vt_models.runtime.engines)."""

    def set_template(self, template: Template) -> None:
        """Keep the state of a template, as the static and as the dynamic one."""

    def set_dynamic(self, template: Template) -> None:
        """Replace the state of the dynamic template; only models that have one."""

    def set_text(self, ids: NDArray[np.int64], mask: NDArray[np.bool_]) -> None:
        """Keep the state of a text; only models with language.

        Args:
            ids: (L,) word pieces.
            mask: (L,) True for those that count; all False for no text.
        """

    def search(
        self, crop: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None
    ) -> tuple[Array, ...]:
        """Run the search graph on a (S, S, 3) uint8 RGB crop.

        Args:
            crop: the search region.
            mask: (S, S) True where it shows padding; None where it shows none.

        Returns:
            The network's outputs with their batch dimension of 1; buffers may be reused by the
            next call.
        """


class Tokenizer(Protocol):
    """Text to word pieces (see vt_models.text)."""

    def __call__(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Ids (L,) and which of them count (L,); InputError for a text that cannot be used."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Where the target is in a frame.

    Attributes:
        box: x, y, w, h in pixels of that frame.
        score: the network's confidence in [0, 1]; 0 where it gave no usable box.
        covariance: (4, 4) of centre x, centre y, width, height in pixels squared, as the network's
            own maps have it (`vt_models.tracker.box_covariance`) and not calibrated; None where it
            has no maps.
    """

    box: Box
    score: float
    covariance: NDArray[np.float64] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A decoded network output, before clipping.

    Attributes:
        box: x, y, w, h in pixels of the frame.
        score: where the box was read.
        peak: the largest score of the crop; the authors' template updates go by it.
        spread: (4, 4) covariance, see `Estimate.covariance`.
    """

    box: Box
    score: float
    peak: float
    spread: NDArray[np.float64] | None = None


class Tracker:
    """A single-object tracker: `init` on one frame, `update` on each following frame.

    Args:
        spec: what the model is.
        engine: runs its network; owned by this tracker (it holds the template's state).
        tokenizer: for models with language.
        update: when the dynamic template is replaced; None is the model's own setting.
        calibration: the entry of that name in the export's model.json, if it has one; the tracker
            itself makes no use of it, `vt_models.create_target` does.

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
        tokenizer: Tokenizer | None = None,
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
        self._fit = _AS_IT_IS
        self._box: Box | None = None
        self._frame_number = 0

    @property
    def spec(self) -> ModelSpec:
        """The specification of the model."""
        return self._spec

    @property
    def box(self) -> Box | None:
        """The present box, x, y, w, h in pixels; None before `init`."""
        return self._box

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
        words = self._words(text)
        _check_visible(frame, start, self._spec.template_factor)
        self._box = None
        self._engine.set_template(self._template(frame, start))
        if words is not None:
            self._engine.set_text(*words)
        self._fit = _AS_IT_IS
        if self._spec.size_fit > 0:
            self._fit = self._fitted(frame, start)
        self._box = start
        self._frame_number = 0

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
        frame = check_frame(frame)
        box, proposal = self._search(frame, self._started(), prior=True)
        self._frame_number += 1
        if proposal is None:
            return Estimate(box, 0.0)
        estimate = self._estimate(frame, proposal)
        self._box = estimate.box
        if self._updates_after(proposal):
            self._engine.set_dynamic(self._template(frame, estimate.box))
        return estimate

    def locate(
        self, frame: NDArray[np.uint8], around: Sequence[float], prior: bool = True
    ) -> Estimate:
        """Look for the target around a given box; the tracker itself stays as it is.

        Args:
            frame: (H, W, 3) uint8 RGB.
            around: x, y, w, h in pixels; the search region is centred on it and scaled by it.
            prior: False leaves out what expects the target near that box and of its size
                (window, penalties, smoothing), as a search over the whole frame needs it.

        Returns:
            The estimate, clipped to the frame; score 0 where the output is not finite.

        Raises:
            InputError: bad frame or box, or `init` was not called.
            BackendError: the network failed.
        """
        frame = check_frame(frame)
        self._started()
        box, proposal = self._search(frame, check_box(around, frame.shape), prior)
        return Estimate(box, 0.0) if proposal is None else self._estimate(frame, proposal)

    def move_to(self, box: Sequence[float]) -> None:
        """Go on from this box; templates and text stay.

        Raises:
            InputError: the box is not finite or has no area, or `init` was not called.
        """
        self._started()
        x, y, w, h = (float(value) for value in box)
        crop_window((x, y, w, h), self._spec.search_factor)
        self._box = (x, y, w, h)

    def _updates_after(self, proposal: Proposal) -> bool:
        """Whether the box that was just found becomes the dynamic template."""
        allowed = self.updates and self._spec.dynamic_template
        return allowed and self._policy.is_due(self._frame_number, proposal.peak)

    def _started(self) -> Box:
        if self._box is None:
            raise InputError("update() before init(); call init(frame, box) first")
        return self._box

    def _words(self, text: str | None) -> tuple[NDArray[np.int64], NDArray[np.bool_]] | None:
        """The text as the network takes it; None for models without language."""
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
        """All views of a target."""
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
        """The box that was searched around, and what was found."""
        box, window = self._box_within(frame, around)
        crop = self._search_cropper(frame, window)
        if "search_mask" in self._spec.search_inputs:
            outputs = self._engine.search(crop, _padding(frame, window, self._spec.search_size))
        else:
            outputs = self._engine.search(crop)
        return box, self._decode(outputs, window, box, prior, self._fit)

    def _fitted(self, frame: NDArray[np.uint8], start: Box) -> tuple[float, float]:
        """What widths and heights are multiplied by, from looks at the target's first frame."""
        x, y, w, h = start
        errors = []
        for dx, dy, scale in _FIRST_LOOKS:
            around = (x + dx * w, y + dy * h, w * scale, h * scale)
            _, found = self._search(frame, around, prior=False)
            if found is not None and float(iou([found.box], [start])[0]) >= _FOUND:
                errors.append((math.log(found.box[2] / w), math.log(found.box[3] / h)))
        if not errors:
            return _AS_IT_IS
        wide, high = np.mean(errors, axis=0).tolist()
        return math.exp(-self._spec.size_fit * wide), math.exp(-self._spec.size_fit * high)

    def _estimate(self, frame: NDArray[np.uint8], proposal: Proposal) -> Estimate:
        box = clip_box(proposal.box, frame.shape, self._spec.clip_margin)
        return Estimate(box, min(max(proposal.score, 0.0), 1.0), proposal.spread)

    def _box_within(self, frame: NDArray[np.uint8], box: Box) -> tuple[Box, CropWindow]:
        """The former box and its search window; the box is clipped if the window misses it."""
        window = crop_window(box, self._spec.search_factor)
        if not inside_frame(window, frame.shape).is_empty():
            return box, window
        box = clip_box(box, frame.shape, self._spec.clip_margin)
        return box, crop_window(box, self._spec.search_factor)


def _check_visible(frame: NDArray[np.uint8], box: Box, factor: float) -> None:
    """InputError if a template would show no pixel of the frame."""
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


def _crop_corner(window: CropWindow, former: Box, anchor: Anchor) -> tuple[float, float]:
    """Where the top left corner of a crop lies in the frame, pixels; see `ModelSpec.anchor`."""
    if anchor == "window":
        return window.x1, window.y1
    half = 0.5 * window.side
    return former[0] + 0.5 * former[2] - half, former[1] + 0.5 * former[3] - half


def _followed(size: tuple[float, float], former: Box, rate: float) -> tuple[float, float]:
    """A size on its way from the former one; `size` itself from a rate of 1 on."""
    if rate >= 1.0:
        return size
    rate = max(rate, 0.0)
    return former[2] + rate * (size[0] - former[2]), former[3] + rate * (size[1] - former[3])


class BoxDecoder:
    """The authors' loop of AsymTrack and STARK: one box per frame, no window.

    The size follows at the rate size_smoothing * score (at once, as the authors have it, if
    size_smoothing is 0). Where the score is below least_score (0 for the authors) the box stays.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._anchor = spec.anchor
        self._smoothing = spec.size_smoothing
        self._least_score = spec.least_score

    def __call__(
        self,
        outputs: tuple[Array, ...],
        window: CropWindow,
        former: Box,
        prior: bool = True,
        fit: tuple[float, float] = _AS_IT_IS,
    ) -> Proposal | None:
        """Decode box (1, 4) cxcywh as fractions of the crop, and score (1,).

        Args:
            outputs: the network's ("box", "score").
            window: what the crop shows.
            former: the box that the window was computed from, xywh.
            prior: False for the box as the network gives it, whatever its score.
            fit: what width and height are multiplied by.

        Returns:
            The proposal, None if the outputs are not finite (or absurd: beyond a million crops).
        """
        fractions, score = outputs[0].reshape(-1).tolist(), float(outputs[1].reshape(-1)[0])
        if not (math.isfinite(score) and all(abs(v) <= _FRACTION_LIMIT for v in fractions)):
            return None
        if prior and score < self._least_score:
            return Proposal(former, score, score)
        cx, cy, w, h = (value * window.side for value in fractions)
        rate = self._smoothing * score if prior and self._smoothing else 1.0
        w, h = _followed((w * fit[0], h * fit[1]), former, rate)
        left, top = _crop_corner(window, former, self._anchor)
        return Proposal((left + cx - 0.5 * w, top + cy - 0.5 * h, w, h), score, score)


class DenseDecoder:
    """A score for each cell, and a box: windowed argmax, smoothed size.

    With k = window_influence the chosen cell is the maximum of
    penalty * score_map * (1 - k) + hann * k, or with `window_multiplied` of score_map * hann',
    where hann' (k = 1..n: 0.5 - 0.5 cos(2 pi k / (n + 1))) has no zeros at the border. The
    chosen centre is taken as it is; the size moves from the former size by the rate
    size_smoothing * score (fully if size_smoothing is 0). The penalty on a change of scale and
    aspect is that of SiamRPN (Li et al., CVPR 2018, section 4.3):
    exp(-(r_c * s_c - 1) * scale_penalty), s_c = max(s / s', s' / s) with
    s = sqrt((w + p) * (h + p)), p = (w + h) / 2, and r_c the same of w / h.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._anchor = spec.anchor
        self._influence = spec.window_influence
        self._multiplied = spec.window_multiplied
        self._smoothing = spec.size_smoothing
        self._penalty = spec.scale_penalty
        self._window = np.zeros((0, 0), np.float32)

    def __call__(
        self,
        outputs: tuple[Array, ...],
        window: CropWindow,
        former: Box,
        prior: bool = True,
        fit: tuple[float, float] = _AS_IT_IS,
    ) -> Proposal | None:
        """Decode score_map (1, H, W) in [0, 1] and box_map (1, 4, H, W) cxcywh fractions.

        Args:
            outputs: the network's ("score_map", "box_map").
            window: what the crop shows.
            former: the box in the former frame, xywh.
            prior: False for the plain argmax and the box as it stands there.
            fit: what width and height are multiplied by.

        Returns:
            The proposal, None if the chosen cell is not finite (or absurd, as above).
        """
        score_map, box_map = outputs[0][0], outputs[1][0]
        was = (former[2] / fit[0], former[3] / fit[1])
        ranking = self._ranking(score_map, box_map, window, was) if prior else score_map
        row, column = divmod(int(np.argmax(ranking)), score_map.shape[1])
        score = float(score_map[row, column])
        cx, cy, w, h = (window.side * value for value in box_map[:, row, column].tolist())
        limit = _FRACTION_LIMIT * window.side
        if not (math.isfinite(score) and all(abs(value) <= limit for value in (cx, cy, w, h))):
            return None
        rate = self._smoothing * score if prior and self._smoothing else 1.0
        w, h = _followed((w * fit[0], h * fit[1]), former, rate)
        left, top = _crop_corner(window, former, self._anchor)
        box = (left + cx - 0.5 * w, top + cy - 0.5 * h, w, h)
        scales = (1.0, 1.0, *fit)
        spread = box_spread(score_map, box_map, row, column, window.side)
        return Proposal(box, score, float(score_map.max()), spread * np.outer(scales, scales))

    def _ranking(
        self, score_map: Array, box_map: Array, window: CropWindow, was: tuple[float, float]
    ) -> Array:
        """(H, W): what the best cell has most of; `was` is the former width and height."""
        ranking = score_map
        if self._penalty:
            ranking = ranking * self._scale_penalty(box_map, window, was)
        if self._multiplied:
            return ranking * self._hann(score_map.shape)
        if self._influence:
            return ranking * (1.0 - self._influence) + self._hann(score_map.shape)
        return ranking

    def _hann(self, shape: tuple[int, ...]) -> Array:
        """(H, W) Hann window, times its influence if it is added; computed once for a shape."""
        if self._window.shape != shape:
            if self._multiplied:
                rows, columns = (np.hanning(size + 2)[1:-1] for size in shape)
                self._window = np.outer(rows, columns).astype(np.float32)
            else:
                window = np.outer(np.hanning(shape[0]), np.hanning(shape[1]))
                self._window = (self._influence * window).astype(np.float32)
        return self._window

    def _scale_penalty(self, box_map: Array, window: CropWindow, was: tuple[float, float]) -> Array:
        """(H, W) factors in (0, 1]."""
        with np.errstate(all="ignore"):
            w, h = np.maximum(box_map[2:], 1e-6)
            was_w, was_h = was[0] / window.side, was[1] / window.side
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
