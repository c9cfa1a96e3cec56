# SPDX-License-Identifier: Apache-2.0
"""A tracker with language finds its own target: the template masked, windows over the whole frame.

What "template masked" means here: the network is shown a template of the mean colour of its
training images, which is 0 in every channel once it is normalised (to half a grey level, as crops
are bytes). Its patch embedding then holds positions and a constant, the same for every target, and
whatever tells one place of the frame from another comes from the words. Leaving the template's
tokens out of the attention instead would be cleaner, but PJVLT's patch interaction (eq. 10) has a
weight for each token, so none may be missing.

The search region is four times as large as the target it was trained to find, so the frame is
searched in windows of several sizes, each giving its best box. These compete by their scores, but
not as equals: see `worth`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vt_models.api import create_tracker
from vt_models.errors import InputError, WeightsError
from vt_models.geometry.boxes import Box
from vt_models.grounding.grounder import Cancelled, check_cancelled
from vt_models.grounding.results import Candidate, Frame
from vt_models.registry import ModelSpec, get_spec, list_models
from vt_models.runtime.export_directory import read_export
from vt_models.runtime.installed_weights import find_weights
from vt_models.tracker.tracker import Tracker

SHRINK = 1.6
"""Sizes of windows differ by this factor; a network finds from half to 1.4 times the usual size."""
OVERLAP = 0.35
"""Neighbouring windows overlap by this share; a target in the middle 65 % of one is whole in it."""
WINDOW_PRIOR_EXPONENT = 0.5
"""Power of a window's side that its score is weighed with: there are ever more of the smaller ones,
each with its chance of a false alarm."""
EDGE = 0.05
"""A box nearer than this share of a side to where a window ends in the frame is probably cut."""
CUT = 0.3
"""This share of the score of a box that is probably cut is left; a larger window sees it whole."""
MOST_WINDOWS = 64
"""A frame is searched in at most so many windows: 1.1 s with pjvlt_tiny on one core."""


def pyramid(frame_shape: Sequence[int], most: int = MOST_WINDOWS) -> list[Box]:
    """Square windows over a frame: larger than the frame, the whole frame, then ever smaller ones.

    The first is for what fills the frame, which a network that looks for something a quarter as
    large as its view does not find in the second.

    Args:
        frame_shape: (H, W, ...) of the frame.
        most: windows at most; sizes that would exceed it are left out, but for the first two.

    Returns:
        x, y, w, h in pixels, w = h; every pixel of the frame is in a window of each size.
    """
    height, width = frame_shape[:2]
    side = float(max(height, width))
    windows: list[Box] = [
        ((width - size) / 2, (height - size) / 2, size, size) for size in (SHRINK * side, side)
    ]
    while True:
        side /= SHRINK
        level = [(x, y, side, side) for y in _starts(height, side) for x in _starts(width, side)]
        if len(windows) + len(level) > most:
            return windows
        windows += level


def _starts(length: int, side: float) -> list[float]:
    """Where windows begin along an axis: flush with both ends, or centred where one is enough."""
    spare = length - side
    if spare <= 0:
        return [spare / 2]
    count = math.ceil(spare / ((1.0 - OVERLAP) * side)) + 1
    return [spare * index / (count - 1) for index in range(count)]


class PjvltDetector:
    """Searches for a description with a tracker's network; see `vt_models.grounding.Detector`.

    Args:
        tracker: of a model with language; owned by this detector.

    Raises:
        InputError: a model without language.
    """

    name = "pjvlt"
    default_threshold = 0.4
    names_only = True  # a window does not know where in the frame it is

    def __init__(self, tracker: Tracker) -> None:
        if not tracker.spec.language:
            raise InputError(
                f"{tracker.spec.name} takes no text; one of {', '.join(_language_models())}"
            )
        self._tracker = tracker
        self._blank = neutral_frame(tracker.spec)

    def detect(self, frame: Frame, text: str, cancelled: Cancelled) -> list[Candidate]:
        """The best box of every window; see `Detector.detect`."""
        check_cancelled(cancelled)
        side = float(self._blank.shape[0])
        self._tracker.init(self._blank, (0.25 * side, 0.25 * side, 0.5 * side, 0.5 * side), text)
        factor = self._tracker.spec.search_factor
        candidates = []
        for window in pyramid(frame.shape):
            check_cancelled(cancelled)
            x, y, side, _ = window
            target = side / factor  # whose search region is the window
            offset = (side - target) / 2
            around = (x + offset, y + offset, target, target)
            estimate = self._tracker.locate(frame, around, prior=False)
            score = estimate.score * worth(estimate.box, window, frame.shape)
            candidates.append(Candidate(estimate.box, score, text))
        return candidates


def worth(box: Box, window: Box, frame_shape: Sequence[int]) -> float:
    """What the score of a window's box counts beside those of other windows, in (0, 1].

    Args:
        box: x, y, w, h in pixels.
        window: that it was found in.
        frame_shape: (H, W, ...) of the frame.
    """
    part = window[2] / (SHRINK * max(frame_shape[:2]))
    margin = EDGE * window[2]
    cut = False
    for axis, length in enumerate((frame_shape[1], frame_shape[0])):
        begin, end = window[axis], window[axis] + window[2]
        cut |= begin > 0 and box[axis] < begin + margin
        cut |= end < length and box[axis] + box[axis + 2] > end - margin
    return float(part**WINDOW_PRIOR_EXPONENT * (CUT if cut else 1.0))


def neutral_frame(spec: ModelSpec) -> NDArray[np.uint8]:
    """A square frame of the mean colour; a template of it shows nothing, and no padding either."""
    side = 4 * spec.template_size
    colour = np.rint(255.0 * np.array(spec.mean)).astype(np.uint8)
    return np.full((side, side, 3), colour, np.uint8)


def open_detector(source: str | Path | None, device: str, threads: int | None) -> PjvltDetector:
    """A detector on weights of a model with language.

    Args:
        source: None for what is bundled or installed; "MODEL" for that of one model; an export
            directory; or "MODEL:WEIGHTS" with anything that `create_tracker` reads.
        device, threads: as for `create_tracker`.

    Raises:
        InputError: unknown device or number of threads, or a model without language.
        WeightsError: no weights, or they cannot be read.
        BackendError: the device is not available, or a package is missing.
    """
    model, weights = _model_and_weights(source)
    return PjvltDetector(create_tracker(model, weights, "onnxruntime", device, threads))


def _model_and_weights(source: str | Path | None) -> tuple[str, str | Path | None]:
    """Name of a model, and what `create_tracker` takes as its weights."""
    models = _language_models()
    if source is None:
        for model in models:
            if find_weights(get_spec(model)) is not None:
                return model, None
        raise WeightsError(
            f"no weights of a model with language ({', '.join(models)}) are bundled or installed; "
            "train pjvlt_tiny (`vt-models train recipes/pjvlt_tiny_pack.yaml`) and install the "
            "result (`vt-models export pjvlt_tiny --weights FILE --install`), or use backend "
            "zero_shot or onnx (docs/grounding.md)"
        )
    if Path(source).is_dir():
        return read_export(source).spec.name, source
    model, _, weights = str(source).partition(":")
    if model in list_models():
        return model, weights or None
    raise WeightsError(
        f"{source} is no export directory and names no model; give a directory made by `vt-models "
        f"export`, or MODEL:WEIGHTS with one of {', '.join(models)}"
    )


def _language_models() -> list[str]:
    return [name for name in list_models() if get_spec(name).language]
