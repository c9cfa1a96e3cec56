# SPDX-License-Identifier: Apache-2.0
"""Registry of models: one frozen dataclass each, without numpy and torch.

>>> from vt_models.registry import get_spec
>>> get_spec("asymtrack_t").search_size
256
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Literal

from vt_models.errors import InputError

Family = Literal["asymtrack", "asymtrack_lite", "procontext", "stark", "sbt", "pjvlt"]
Decoder = Literal["box", "dense"]
Anchor = Literal["window", "centre"]
Triple = tuple[float, float, float]

SEARCH_SIZE_STEP, LEAST_SEARCH_SIZE, MOST_SEARCH_SIZE = 16, 96, 1024
"""Pixels, of search crops whose size is free. The step is the networks' stride; a nominal target is
64 pixels wide and needs surroundings; a mistyped size must not fill the memory."""

_IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
_IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class UpdatePolicy:
    """Rule by which a tracker replaces its dynamic template by a crop around the measured box.

    Attributes:
        name: of the setting, such as the dataset it is published for.
        interval: frames; every frame whose number since `init` is a multiple of it counts, 0 for
            never.
        threshold: the score must be above this.
    """

    name: str
    interval: int
    threshold: float

    def is_due(self, frame_number: int, score: float) -> bool:
        """Return whether to update after this frame (the first after `init` has number 1)."""
        return self.interval > 0 and frame_number % self.interval == 0 and score > self.threshold


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Specification of a model: what a tracker must know beside its weights.

    Attributes:
        name: the name users type.
        family: which paper's loop and losses it belongs to, and the file of its network:
            `vt_models.nets.FAMILY` registers what builds it (`vt_models.nets.builders`).
        template_size, search_size: side of the square crops, pixels.
        template_factor, search_factor: side of the crop window = ceil(sqrt(w * h) * factor).
        narrow_search_size: side of the narrow search crop, pixels, on which the target keeps its
            pixels; a target that is easy to follow is searched in it. 0 for search_size always.
        narrow_motion: a target is easy to follow while its centre moves by less than this share of
            its size, sqrt(w * h), a frame; the fastest frame counts, less by a tenth each frame.
        narrow_score: and while its score is at least this.
        context_factors: further views of the template, of the same size at these factors.
        mean, std: RGB, in units of 0..1; a network sees (x / 255 - mean) / std, in that order.
        decoder: "box" (one box and one score) or "dense" (a score map and a box map).
        anchor: where a crop is taken to lie when a box is mapped back: at its window, or as
            published, which ignores that the window was rounded to whole pixels, with its centre at
            the previous box's.
        window_influence: dense only, weight of an added Hann window in [0, 1].
        window_multiplied: dense only, the score map is multiplied by a Hann window instead.
        size_smoothing: how fast the size follows, in [0, 1]; the rate is size_smoothing * score;
            0 lets the size follow at once.
        size_calibration: box-size calibration at initialisation: the share, in [0, 1], of the
            network's size error on the first frame (the logarithm of width and of height) that is
            taken out of every later box; 0, as published, for nothing. Whether a shadow, a saddle
            or a raised arm belongs to a target depends on who drew the box, and the first box
            tells.
        least_score: box only, a box with a lower score is not believed: the previous one stays,
            with that score; 0, as published, believes every box.
        scale_penalty: dense only, strength of the penalty on a change of scale and aspect;
            0 disables it.
        clip_margin: pixels of a box that must stay inside the frame.
        template_inputs: inputs of the template graph beside "template": "template_box",
            "template_mask".
        search_inputs: inputs of the search graph beside "search" and the states: "search_mask".
        dynamic_template: the search graph takes a second template state, which is replaced while
            tracking.
        update_interval, update_threshold: of the default `UpdatePolicy`.
        update_presets: further settings by name.
        language: the network reads a text.
        text_length: word pieces a text is cut or padded to.
        paper, url: where the method is published.
        licence: of the published code and checkpoints that the name stands for.
        bundled_weights: directory of the bundled weights under vt_models/weights/shipped, or None.
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
    paper: str
    url: str
    licence: str
    context_factors: tuple[float, ...] = ()
    narrow_search_size: int = 0
    narrow_motion: float = 0.2
    narrow_score: float = 0.5
    anchor: Anchor = "window"
    window_influence: float = 0.0
    window_multiplied: bool = False
    size_smoothing: float = 0.0
    size_calibration: float = 0.0
    least_score: float = 0.0
    scale_penalty: float = 0.0
    clip_margin: int = 10
    template_inputs: tuple[str, ...] = ()
    search_inputs: tuple[str, ...] = ()
    dynamic_template: bool = False
    update_interval: int = 0
    update_threshold: float = 0.0
    update_presets: tuple[UpdatePolicy, ...] = ()
    language: bool = False
    text_length: int = 0
    bundled_weights: str | None = None

    def __post_init__(self) -> None:
        if self.narrow_search_size:
            self.check_search_size(self.narrow_search_size)
            if self.narrow_search_size >= self.search_size:
                raise InputError(
                    f"a narrow search crop of {self.narrow_search_size} pixels; expected less than "
                    f"the search crop's {self.search_size}, or 0 for none"
                )

    @property
    def takes_any_search_size(self) -> bool:
        """Whether the network takes search crops of other sizes than the one it was trained at."""
        return self.family == "asymtrack_lite"

    def check_search_size(self, size: int) -> None:
        """Refuse a side of the search crop, in pixels, that the network does not take.

        Raises:
            InputError: its crops have one size, or this one is out of range or between the steps of
                its stride.
        """
        if not self.takes_any_search_size:
            if size != self.search_size:
                raise InputError(
                    f"{self.name} takes search crops of {self.search_size} pixels alone, not {size}"
                )
        elif size % SEARCH_SIZE_STEP or not LEAST_SEARCH_SIZE <= size <= MOST_SEARCH_SIZE:
            raise InputError(
                f"a search crop of {size} pixels; expected a multiple of {SEARCH_SIZE_STEP} from "
                f"{LEAST_SEARCH_SIZE} to {MOST_SEARCH_SIZE}"
            )

    @property
    def view_factors(self) -> tuple[float, ...]:
        """Crop factors of the template's views, the first one first."""
        return (self.template_factor, *self.context_factors)

    @property
    def update_policy(self) -> UpdatePolicy:
        """Update policy unless the caller chooses another."""
        return UpdatePolicy("default", self.update_interval, self.update_threshold)

    def at_search_size(self, size: int) -> ModelSpec:
        """Return this model with search crops of another side, in pixels.

        A target keeps its pixels; a smaller crop shows less around it. The narrow crop is given up.

        Raises:
            InputError: see `check_search_size`.
        """
        self.check_search_size(size)
        factor = self.search_factor * size / self.search_size
        return replace(self, search_size=size, search_factor=factor, narrow_search_size=0)

    @property
    def narrow(self) -> ModelSpec | None:
        """This model as it searches in the narrow crop; None where it has none."""
        return self.at_search_size(self.narrow_search_size) if self.narrow_search_size else None

    @property
    def forward_inputs(self) -> tuple[str, ...]:
        """Names of the arguments of the network's training pass."""
        dynamic: tuple[str, ...] = ()
        if self.dynamic_template:
            masked = "template_mask" in self.template_inputs
            dynamic = ("dynamic", "dynamic_mask") if masked else ("dynamic",)
        text = ("text_ids", "text_mask") if self.language else ()
        return ("template", "search", *self.template_inputs, *self.search_inputs, *dynamic, *text)


_ASYMTRACK_PAPER = (
    "Two-stream Beats One-stream: Asymmetric Siamese Network for Efficient Visual Tracking, "
    "AAAI 2025"
)
_ASYMTRACK_URL = "https://github.com/jiawen-zhu/AsymTrack"


def _asymtrack(name: str, template_size: int, search_size: int) -> ModelSpec:
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
        anchor="centre",
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
    # Held-out clips: AO 0.589 without, 0.621 with it, 0.626 with 0.75; the development sequences
    # 0.742, 0.748, 0.743. With first boxes that are 15 % off 0.586 and 0.563, and 0.690 and 0.695.
    size_calibration=0.5,
    scale_penalty=0.04,
    # Of targets in drone views 10 pixels are too many: 12 held-out clips with targets from 6 to
    # 135 pixels have AO 0.499 with 10 and 0.627 with 2, the 16 development sequences 0.722 both.
    clip_margin=2,
    template_inputs=("template_box",),
    paper=f"after {_ASYMTRACK_PAPER}; EfficientNet-Lite0 backbone",
    url=_ASYMTRACK_URL,
    licence="Apache-2.0",
    bundled_weights="asymtrack_lite0",
)

_ASYMTRACK_NANO = replace(
    _ASYMTRACK_LITE0,
    name="asymtrack_nano",
    search_size=192,
    search_factor=3.0,
    # Bytes as they are.
    mean=(0.0, 0.0, 0.0),
    std=(1.0 / 255.0, 1.0 / 255.0, 1.0 / 255.0),
    paper=f"after {_ASYMTRACK_PAPER}; NanoTrack v3's backbone",
    bundled_weights=None,
)

_PROCONTEXT = ModelSpec(
    name="procontext",
    family="procontext",
    template_size=192,
    search_size=384,
    template_factor=2.0,
    search_factor=5.0,
    context_factors=(4.0,),
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    decoder="dense",
    anchor="centre",
    window_multiplied=True,
    dynamic_template=True,
    # As in the authors' code; the paper (algorithm 1) looks at the score alone.
    update_interval=100,
    update_threshold=0.7,
    update_presets=(UpdatePolicy("paper", 1, 0.7),),
    paper="ProContEXT: Exploring Progressive Context Transformer for Tracking, ICASSP 2023",
    url="https://github.com/jp-lan/ProContEXT",
    licence="MIT",
)

_PROCONTEXT_TINY = replace(
    _PROCONTEXT,
    name="procontext_tiny",
    template_size=128,
    search_size=256,
    search_factor=4.0,
    mean=_ASYMTRACK_LITE0.mean,
    std=_ASYMTRACK_LITE0.std,
    anchor="window",
    size_calibration=0.5,
    clip_margin=2,
    bundled_weights="procontext_tiny",
    paper=f"after {_PROCONTEXT.paper}; EfficientNet-Lite0 tokens",
    licence="Apache-2.0",
)

_PJVLT = ModelSpec(
    name="pjvlt",
    family="pjvlt",
    template_size=128,
    search_size=256,
    template_factor=2.0,
    search_factor=4.0,
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    decoder="dense",
    anchor="centre",
    window_multiplied=True,
    language=True,
    text_length=40,
    paper=(
        "Progressive Semantic-Visual Alignment and Refinement for Vision-Language Tracking, "
        "IEEE TCSVT 2024"
    ),
    url="https://ieeexplore.ieee.org/xpl/RecentIssue.jsp?punumber=76",
    licence="Apache-2.0; the authors publish neither code nor checkpoints",
)

_PJVLT_TINY = replace(
    _PJVLT,
    name="pjvlt_tiny",
    mean=_ASYMTRACK_LITE0.mean,
    std=_ASYMTRACK_LITE0.std,
    anchor="window",
    size_smoothing=0.6,
    scale_penalty=0.04,
    size_calibration=0.5,
    clip_margin=2,
    bundled_weights="pjvlt_tiny",
    paper=f"after {_PJVLT.paper}; EfficientNet-Lite0 tokens, a small text encoder",
    licence="Apache-2.0",
)


def _sbt(variant: str) -> ModelSpec:
    """One column of the paper's table 2; the search factor is the published code's."""
    return ModelSpec(
        name=f"sbt_{variant}",
        family="sbt",
        template_size=128,
        search_size=256,
        template_factor=2.0,
        search_factor=5.0,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        decoder="dense",
        anchor="centre",
        window_influence=0.49,
        paper="Correlation-Aware Deep Tracking, CVPR 2022",
        url="https://github.com/phiphiphi31/SBT",
        licence="none stated by the authors",
    )


_STARK_UPDATES = tuple(
    UpdatePolicy(data_set, interval, 0.5)
    for data_set, interval in (
        ("lasot", 200),
        ("got10k", 200),
        ("trackingnet", 25),
        ("vot20", 10),
        ("vot20lt", 200),
    )
)
_STARK_R101_UPDATES = tuple(
    replace(policy, interval=100) if policy.name == "vot20lt" else policy
    for policy in _STARK_UPDATES
)


def _stark(variant: str, updates: tuple[UpdatePolicy, ...] = ()) -> ModelSpec:
    """S without, ST with a dynamic template; the settings are the published ones, by dataset."""
    return ModelSpec(
        name=f"stark_{variant}",
        family="stark",
        template_size=128,
        search_size=320,
        template_factor=2.0,
        search_factor=5.0,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        decoder="box",
        anchor="centre",
        template_inputs=("template_mask",),
        search_inputs=("search_mask",),
        dynamic_template=bool(updates),
        update_interval=200 if updates else 0,
        update_threshold=0.5 if updates else 0.0,
        update_presets=updates,
        paper="Learning Spatio-Temporal Transformer for Visual Tracking, ICCV 2021",
        url="https://github.com/researchmm/Stark",
        licence="MIT",
    )


_SPECS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        _ASYMTRACK_LITE0,
        _ASYMTRACK_NANO,
        replace(_asymtrack("asymtrack_t", 128, 256), bundled_weights="asymtrack_t"),
        _asymtrack("asymtrack_s", 128, 256),
        _asymtrack("asymtrack_b", 192, 384),
        _PROCONTEXT,
        _PROCONTEXT_TINY,
        _PJVLT,
        _PJVLT_TINY,
        *(_sbt(variant) for variant in ("light", "small", "base", "large")),
        _stark("s50"),
        _stark("st50", _STARK_UPDATES),
        _stark("st101", _STARK_R101_UPDATES),
    )
}


def list_models() -> list[str]:
    """Return the names of all models, the default first."""
    return list(_SPECS)


def get_spec(name: str) -> ModelSpec:
    """Return the specification of the model called `name`.

    Raises:
        InputError: no such model; the message lists the names, close matches first.
    """
    if isinstance(name, str) and name in _SPECS:
        return _SPECS[name]
    near = difflib.get_close_matches(str(name), _SPECS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(f"no model called {name!r}; {hint}models: {', '.join(_SPECS)}")


def parse_update_policy(text: str) -> str | UpdatePolicy:
    """Parse a command line's setting: a preset's name, or "INTERVAL:THRESHOLD" as a policy.

    Raises:
        InputError: it has a colon and is not two numbers.
    """
    interval, colon, threshold = text.partition(":")
    if not colon:
        return text
    try:
        return UpdatePolicy(text, int(interval), float(threshold))
    except ValueError as error:
        raise InputError(
            f"{text!r} is not an update setting; expected a name, or INTERVAL:THRESHOLD such as "
            "25:0.5"
        ) from error


def find_update_policy(spec: ModelSpec, update: str | UpdatePolicy | None) -> UpdatePolicy:
    """Resolve an update setting: None for the model's own, a preset's name, or a policy itself.

    Raises:
        InputError: no such preset, values out of range, or the model has no dynamic template.
    """
    if update is None:
        return spec.update_policy
    if not spec.dynamic_template:
        raise InputError(f"{spec.name} has no dynamic template, so update={update!r} means nothing")
    if isinstance(update, str):
        presets = {policy.name: policy for policy in (spec.update_policy, *spec.update_presets)}
        if update not in presets:
            raise InputError(
                f"{spec.name} has no update setting {update!r}; settings: {', '.join(presets)}"
            )
        return presets[update]
    if update.interval < 0 or not 0.0 <= update.threshold <= 1.0:
        raise InputError(
            f"update interval must be >= 0 and its threshold in [0, 1], got {update.interval} "
            f"and {update.threshold:g}"
        )
    return update
