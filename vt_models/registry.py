# SPDX-License-Identifier: Apache-2.0
"""Every model by name: one frozen dataclass each, no numpy, no torch.

>>> from vt_models.registry import get_spec
>>> get_spec("asymtrack_t").search_size
256
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from vt_models.errors import InputError

Family = Literal["asymtrack", "asymtrack_lite"]
Decoder = Literal["box", "dense"]
Triple = tuple[float, float, float]

_IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
_IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What a tracker must know about a model beside its weights.

    Attributes:
        name: the name users type.
        family: which paper's loop and which losses it belongs to.
        template_size, search_size: side of the square crops, pixels.
        template_factor, search_factor: side of the crop window = ceil(sqrt(w * h) * factor).
        mean, std: RGB, in units of 0..1; a network sees (x / 255 - mean) / std, in that order.
        decoder: "box" (one box and one score) or "dense" (a score map and a box map).
        window_influence: dense only, weight of the Hann window in [0, 1].
        size_smoothing: dense only, how fast the size follows, in [0, 1]; the rate is
            size_smoothing * score; 0 lets the size follow at once.
        scale_penalty: dense only, strength of the penalty on a change of scale and aspect;
            0 disables it.
        clip_margin: pixels of a box that must stay inside the frame.
        template_inputs: inputs of the template graph beside "template".
        paper, url: where the method is published.
        licence: of the published code and checkpoints that the name stands for.
        net: "module:function" that builds the torch network.
        shipped_weights: directory under vt_models/weights/shipped, None where nothing ships.
    """

    name: str
    family: Family
    template_size: int
    search_size: int
    template_factor: float
    search_factor: float
    mean: Triple
    std: Triple
    decoder: Decoder
    net: str
    paper: str
    url: str
    licence: str
    window_influence: float = 0.0
    size_smoothing: float = 0.0
    scale_penalty: float = 0.0
    clip_margin: int = 10
    template_inputs: tuple[str, ...] = ()
    shipped_weights: str | None = None


_ASYMTRACK_PAPER = (
    "Two-stream Beats One-stream: Asymmetric Siamese Network for Efficient Visual Tracking, "
    "AAAI 2025"
)
_ASYMTRACK_URL = "https://github.com/jiawen-zhu/AsymTrack"


def _asymtrack(name: str, variant: str, template_size: int, search_size: int) -> ModelSpec:
    """One of the three variants of the paper."""
    return ModelSpec(
        name=name,
        family="asymtrack",
        template_size=template_size,
        search_size=search_size,
        template_factor=2.0,
        search_factor=4.0,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        decoder="box",
        net=f"vt_models.nets.asymtrack:asymtrack_{variant}",
        paper=_ASYMTRACK_PAPER,
        url=_ASYMTRACK_URL,
        licence="none stated by the authors",
    )


_ASYMTRACK_LITE0 = ModelSpec(
    name="asymtrack_lite0",
    family="asymtrack_lite",
    template_size=128,
    search_size=256,
    template_factor=2.0,
    search_factor=4.0,
    mean=(127.0 / 255.0, 127.0 / 255.0, 127.0 / 255.0),
    std=(128.0 / 255.0, 128.0 / 255.0, 128.0 / 255.0),
    decoder="dense",
    window_influence=0.35,
    size_smoothing=0.6,
    scale_penalty=0.04,
    template_inputs=("template_box",),
    net="vt_models.nets.asymtrack_lite:asymtrack_lite0",
    paper=f"after {_ASYMTRACK_PAPER}; EfficientNet-Lite0 backbone",
    url=_ASYMTRACK_URL,
    licence="Apache-2.0",
    shipped_weights="asymtrack_lite0",
)

_SPECS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        _ASYMTRACK_LITE0,
        _asymtrack("asymtrack_t", "tiny", 128, 256),
        _asymtrack("asymtrack_s", "small", 128, 256),
        _asymtrack("asymtrack_b", "base", 192, 384),
    )
}


def list_models() -> list[str]:
    """Names of all models, the default first."""
    return list(_SPECS)


def get_spec(name: str) -> ModelSpec:
    """The specification of the model called `name`.

    Raises:
        InputError: no such model; the message lists the names, close matches first.
    """
    if isinstance(name, str) and name in _SPECS:
        return _SPECS[name]
    near = difflib.get_close_matches(str(name), _SPECS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(f"no model called {name!r}; {hint}models: {', '.join(_SPECS)}")
