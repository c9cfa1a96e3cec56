# SPDX-License-Identifier: Apache-2.0
"""Look inside a tracker's network: where it sees the target, and what its attention goes by.

`responses` reads the maps that a box comes from; `explain` adds, with torch, the family's attention
(`vt_models.nets.recording`). A panel is one map over the search region, with a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import BackendError, InputError, import_torch
from vt_models.geometry.boxes import Box, CropWindow
from vt_models.registry import ModelSpec
from vt_models.text import Tokenizer
from vt_models.tracker.tracker import Estimate, Tracker
from vt_models.video.drawing import (
    GREEN,
    contact_sheet,
    draw_box,
    draw_range,
    draw_text,
    scaled,
    with_heat,
)
from vt_models.video.sources import Frame

Map = NDArray[np.float32]
Records = dict[str, list[Map]]
PANEL_SIDE = 320
"""Pixels of a panel of a sheet."""
_WHITE = (255, 255, 255)
_NEARLY_THE_SAME = 0.05
"""A range below this share of the highest value."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One map of a search region.

    Attributes:
        title: a few words, for the image.
        caption: a sentence, for the page.
        values: (H, W); their cells cover the search crop.
        low, high: drawn clear, and red.
        dropped: (H, W), True for cells that the network no longer looks at; None for none.
    """

    title: str
    caption: str
    values: Map
    low: float
    high: float
    dropped: NDArray[np.bool_] | None = None

    @property
    def heat(self) -> Map:
        """The values in [0, 1], 0 for `low` and 1 for `high`."""
        shares = (self.values - self.low) / max(self.high - self.low, 1e-12)
        return np.asarray(np.clip(shares, 0.0, 1.0), np.float32)


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a network saw in one frame.

    Attributes:
        estimate: where it found the target.
        crop: (S, S, 3) uint8 RGB, the search region.
        box: the estimate's, x, y, w, h in pixels of the crop.
        panels: its maps, those that the box comes from first.
    """

    estimate: Estimate
    crop: Frame
    box: Box
    panels: list[Panel]

    def images(self) -> list[Frame]:
        """Draw each panel over the search region, (PANEL_SIDE, PANEL_SIDE, 3) uint8 RGB.

        The box is outlined, and a bar says which values are clear and which red.
        """
        scale = PANEL_SIDE / self.crop.shape[0]
        crop = scaled(self.crop, scale)
        return [_drawn(crop, panel, self.box, scale) for panel in self.panels]

    def sheet(self) -> Frame:
        """Draw the search region and all panels on one sheet, four in a row."""
        crop = scaled(self.crop, PANEL_SIDE / self.crop.shape[0])
        draw_box(crop, self.box, GREEN, PANEL_SIDE / self.crop.shape[0])
        draw_text(crop, "search region and the box found", _WHITE)
        return contact_sheet([crop, *self.images()], columns=4)


def responses(tracker: Tracker, records: Mapping[str, Sequence[Any]]) -> list[Panel]:
    """Return the maps that the box of the last search comes from.

    Args:
        tracker: after an `update`.
        records: of `recording` around it; needed for corner heads alone.

    Raises:
        InputError: nothing was searched yet.
        BackendError: a corner head's maps are no outputs of its graph, so only torch has them.
    """
    search = tracker.last_search
    if search is None:
        raise InputError("nothing was searched yet; call update(frame) first")
    if tracker.spec.decoder == "dense":
        score = search.outputs[0][0]
        peak = float(score.max())
        caption = (
            "Score map: how sure the network is that the target's centre is there, at most "
            f"{peak:.2f}. The box comes from the best cell, after a penalty on jumps."
        )
        return [Panel(f"score, at most {peak:.2f}", caption, score, 0.0, peak)]
    if "corners" not in records:
        raise BackendError(
            f"the corner maps of {tracker.spec.name} are not among the outputs of its graph; use "
            "backend 'torch' (--backend torch) with weights in training form"
        )
    names = ("top left", "bottom right")
    maps = records["corners"][-1][0].numpy()
    return [
        Panel(
            f"{name} corner",
            f"Probability that the {name} corner of the box is there; the corner is its mean.",
            heat,
            0.0,
            float(heat.max()),
        )
        for name, heat in zip(names, maps, strict=True)
    ]


def explain(tracker: Tracker, frame: Frame, text: str | None = None) -> Explanation:
    """Track into a frame and return what the network saw and attended to.

    Args:
        tracker: of the backend "torch", after `init`.
        frame: the next one, (H, W, 3) uint8 RGB.
        text: that `init` was given; its words get a panel each.

    Raises:
        BackendError: of another backend.
        InputError: `init` was not called.
    """
    import_torch()
    from vt_models.nets.recording import recording  # noqa: PLC0415 - needs torch
    from vt_models.runtime.torch_engine import TorchEngine  # noqa: PLC0415 - needs torch

    if not isinstance(tracker.engine, TorchEngine):
        raise BackendError("attention is seen in torch alone: use backend 'torch'")

    with recording() as records:
        estimate = tracker.update(frame)
    search = tracker.last_search
    if search is None:
        raise InputError("nothing was searched; call init(frame, box) first")
    has_maps = tracker.spec.decoder == "dense" or "corners" in records
    panels = responses(tracker, records) if has_maps else []
    seen = {name: [one.numpy() for one in kept] for name, kept in records.items()}
    window, shape = search.window, frame.shape
    read = _FAMILIES.get(tracker.spec.family)
    layers = [] if read is None else read(tracker.spec, tracker.engine.net, seen)
    panels += [_over_range(layer, window, shape) for layer in layers]
    if text is not None and "word attention" in seen:
        panels += _words(tracker, text, seen["word attention"])
    (x1, y1, side), (x, y, w, h) = window, estimate.box
    scale = search.crop.shape[0] / side
    box = ((x - x1) * scale, (y - y1) * scale, w * scale, h * scale)
    return Explanation(estimate, np.array(search.crop), box, panels)


class _Layer(NamedTuple):
    """A map of a family's network, before its range is known.

    Attributes:
        title: a few words, for the image.
        sentence: for the page, without its full stop.
        values: (H, W).
        dropped: (H, W), True for cells that the network no longer looks at; None for none.
    """

    title: str
    sentence: str
    values: Map
    dropped: NDArray[np.bool_] | None = None


def _similarity(_spec: ModelSpec, _net: Any, records: Records) -> list[_Layer]:
    """AsymTrack-Lite: the cosine of each cell with the most similar cell of the target."""
    return [
        _Layer(
            f"looks like the target, {target.shape[0]}x{target.shape[0]}",
            "Similarity to the target: cosine of the features of each cell with those of the most "
            f"similar cell of the target in the template, on {target.shape[0]}x{target.shape[0]} "
            "cells",
            target,
        )
        for target, _ in (one[0] for one in records["similarity"])
    ]


def _asymtrack(_spec: ModelSpec, net: Any, records: Records) -> list[_Layer]:
    stages = sorted({*net.config.etm})
    layers = [
        _Layer(
            f"stage {stage}, prototype {index + 1}",
            f"Prototype {index + 1} of {len(weights[0])} of stage {stage}: how much each place "
            "adds to it; the template's kernels then change it, and it goes back to these places",
            np.abs(weight),
        )
        for stage, weights in zip(stages, records.get("prototypes", []), strict=True)
        for index, weight in enumerate(weights[0])
    ]
    return [*layers, _template_centre("attention block", records["template attention"][-1])]


def _stark(spec: ModelSpec, _net: Any, records: Records) -> list[_Layer]:
    side = spec.search_size // 16
    layers = []
    for index, weights in enumerate(records.get("query attention", [])):
        here = weights[0].mean(0)[-side * side :]
        layers.append(
            _Layer(
                f"decoder layer {index + 1}",
                f"Decoder layer {index + 1}: where the query that asks for the target looks; "
                f"{here.sum():.0%} of its attention is in the search region, the rest in the "
                "templates",
                here.reshape(side, side),
            )
        )
    return layers


def _procontext(_spec: ModelSpec, net: Any, records: Records) -> list[_Layer]:
    side = net.backbone.config.search_grid
    place = np.arange(side * side)
    layers = []
    blocks = net.backbone.config.pruning_blocks
    for block, scores, kept in zip(
        blocks, records.get("centre attention", []), records.get("kept", []), strict=True
    ):
        heat, dropped = np.zeros(side * side, np.float32), np.ones(side * side, np.bool_)
        heat[place] = scores[0]
        place = kept[0].astype(int)
        dropped[place] = False
        layers.append(
            _Layer(
                f"block {block + 1}: {len(place)} of {side * side} kept",
                f"Block {block + 1}: how much the centres of the templates attend to each cell; "
                f"of {side * side} cells the {len(place)} with the most attention are kept, those "
                "that are crossed out are dropped",
                heat.reshape(side, side),
                dropped.reshape(side, side),
            )
        )
    return layers


def _sbt(spec: ModelSpec, net: Any, records: Records) -> list[_Layer]:
    """The search region's attention to the template in its cross-attention blocks."""
    sizes = (spec.search_size // 8) ** 2, (spec.template_size // 16) ** 2
    crossed = [one for one in records["attention"] if one.shape[2:] == sizes]
    names = [f"correlation block {position}" for position in sorted({*net.config.cross})]
    # Attention inside the search region's second stage has the same shape, and comes before.
    return [_template_centre(*one) for one in zip(names, crossed[-len(names) :], strict=True)]


_FAMILIES = {
    "asymtrack": _asymtrack,
    "asymtrack_lite": _similarity,
    "stark": _stark,
    "procontext": _procontext,
    "sbt": _sbt,
}


def _template_centre(name: str, weights: Map) -> _Layer:
    """Show how much of each cell's attention goes to the middle of the template.

    Args:
        name: of the block.
        weights: (1, heads, N, M), of the N cells of a square search region to the M of a square
            template, whose middle half in width and in height is the target (crop factor 2).
    """
    mean = weights[0].mean(0)
    side, grid = math.isqrt(mean.shape[0]), math.isqrt(mean.shape[1])
    middle = slice(grid // 4, grid - grid // 4)
    share = mean.reshape(-1, grid, grid)[:, middle, middle].sum((1, 2))
    return _Layer(
        f"{name}: looks at the target",
        f"{name.capitalize()}: which share of its attention to the template each cell pays to the "
        "middle of the template, where the target is",
        share.reshape(side, side),
    )


def _words(tracker: Tracker, text: str, weights: Sequence[Map]) -> list[Panel]:
    """Each word over the patches of the search region, the mean of all fusions and heads.

    All words have one range, so that an article does not look like the noun that counts.
    """
    side, tokenizer = tracker.spec.search_size // 16, tracker.tokenizer
    if not isinstance(tokenizer, Tokenizer):
        return []
    mean = np.mean([one[0].mean(0)[-side * side :] for one in weights], axis=0)
    maps = [
        (word, mean[:, columns].sum(1).reshape(side, side))
        for word, columns in tokenizer.words(text)
    ]
    high = max((float(values.max()) for _, values in maps), default=0.0)
    return [
        Panel(
            f'"{word}", at most {values.max():.2f}',
            f'Word "{word}": which share of its attention to the text each patch pays to it, mean '
            f"of {len(weights)} fusions, at most {values.max():.2f}. All words have the same range "
            f"of colours, red is {high:.2f}.",
            values,
            0.0,
            high,
        )
        for word, values in maps
    ]


def _over_range(layer: _Layer, window: CropWindow, shape: Sequence[int]) -> Panel:
    """Make a panel whose lowest value is clear and whose highest is red.

    Cells outside the frame, and those that were dropped, do not count: a network has values for
    padding as well, which would take the range from what can be seen.
    """
    rows, columns = (
        start + (np.arange(count) + 0.5) * window.side / count
        for start, count in zip((window.y1, window.x1), layer.values.shape, strict=True)
    )
    seen = ((rows >= 0) & (rows < shape[0]))[:, None] & ((columns >= 0) & (columns < shape[1]))
    if layer.dropped is not None and (seen & ~layer.dropped).any():
        seen &= ~layer.dropped
    counted = layer.values[seen] if seen.any() else layer.values
    low, high = float(counted.min()), float(counted.max())
    values = np.where(seen, layer.values, low).astype(np.float32)
    caption = f"{layer.sentence}. Clear is {low:.3g}, red {high:.3g}."
    if high - low < _NEARLY_THE_SAME * abs(high):
        caption += " It is nearly the same everywhere: the colours mean little."
    return Panel(layer.title, caption, values, low, high, layer.dropped)


def _drawn(crop: Frame, panel: Panel, box: Box, scale: float) -> Frame:
    image = with_heat(crop, panel.heat)
    if panel.dropped is not None:
        rows, columns = (
            np.arange(PANEL_SIDE) * count // PANEL_SIDE for count in panel.dropped.shape
        )
        hidden = panel.dropped[rows][:, columns]
        image[hidden] = image[hidden] // 3
        # Stripes tell a dropped cell from a black one, such as padding.
        place = np.arange(PANEL_SIDE)
        image[hidden & ((place[:, None] + place) % 10 == 0)] = 130
    draw_box(image, box, _WHITE, scale)
    draw_text(image, panel.title, _WHITE)
    draw_range(image, panel.low, panel.high)
    return image
