# SPDX-License-Identifier: Apache-2.0
"""Training recipes: one YAML file a model, checked completely before the first batch."""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import yaml

from vt_models.errors import RecipeError, VtModelsError
from vt_models.registry import get_spec

if TYPE_CHECKING:
    from pathlib import Path

Section = TypeVar("Section")


@dataclass(frozen=True)
class SamplingConfig:
    """Where pairs come from.

    Attributes:
        clip_share: Weight of pairs from two frames of one track.
        still_share: Weight of pairs from two views of one annotated photograph.
        region_share: Weight of pairs from two views of an arbitrary image region.
        negative_share: Fraction of all pairs whose search view does not show the target.
        lookalike_share: Fraction of those that show another object of the same class name.
        min_side: Targets with a shorter side, in pixels, are not drawn.
        hold_out: Videos (`source` of their frames) that are not drawn from: they are left to judge
            by.
        max_gap: Largest distance between the two frames of a track, in frames of the video.
        order: "any"; "causal": the search frame is later than the template (AsymTrack, SBT,
            STARK-S); or "trident": template and search frame lie anywhere in the video, and a
            second template within `max_gap` of the search frame (STARK-ST, ProContEXT).
        text_dropout: Fraction of the pairs of a language model that come without their text.
    """

    clip_share: float = 0.5
    still_share: float = 0.5
    region_share: float = 0.0
    negative_share: float = 0.0
    lookalike_share: float = 0.0
    min_side: float = 6.0
    hold_out: tuple[str, ...] = ()
    max_gap: int = 200
    order: str = "any"
    text_dropout: float = 0.0


@dataclass(frozen=True)
class AugmentConfig:
    """How a crop differs from the plain one. Shifts and scales follow the authors' rule.

    Attributes:
        template_centre, template_scale: Jitter of the template box (authors: 0, 0).
        search_centre, search_scale: Jitter of the search crop (authors: 3.5, 0.5).
        joint_flip: Probability that both crops are mirrored.
        crop_flip: Probability, for each crop by itself, that it is mirrored.
        gray: Probability that both crops lose their colour.
        brightness, contrast, saturation: Each crop is scaled by 1 +- this.
        rotation_deg: Largest in-plane rotation of the search crop.
        spin: Probability that the search crop is rotated by up to 90 degrees instead.
        aspect: Largest natural-log change of the aspect ratio of the search crop.
        blur: Probability that the search crop is blurred as by motion.
        template_blur: The same for the template.
        small: Probability that both crops are coarsened as if the target were small in its video
            (a mean side of 5 to 24 pixels), half of them with the traces of compression.
        distractor: Probability that another object of the target's class (of any, where there is
            no other) is pasted beside the target.
        transplant: Probability that the target is pasted over such an object in another scene,
            which becomes the search crop.
        occlusion: Probability that a part of the target is covered by a foreign patch.
        erase: Probability that the target is painted over, which makes the pair a negative one.
        foreign_border: Probability that what lies outside the image is filled with another image
            instead of black.
    """

    template_centre: float = 0.0
    template_scale: float = 0.0
    search_centre: float = 3.5
    search_scale: float = 0.5
    joint_flip: float = 0.5
    crop_flip: float = 0.5
    gray: float = 0.05
    brightness: float = 0.2
    contrast: float = 0.0
    saturation: float = 0.0
    rotation_deg: float = 0.0
    spin: float = 0.0
    aspect: float = 0.0
    blur: float = 0.0
    template_blur: float = 0.0
    small: float = 0.0
    distractor: float = 0.0
    transplant: float = 0.0
    occlusion: float = 0.0
    erase: float = 0.0
    foreign_border: float = 0.0


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and its schedule, counted in samples so that the batch size may change.

    Attributes:
        samples: Pairs to train on in total.
        batch_size: Pairs a step, over all processes.
        accumulate: Parts that each process cuts its share of a batch into, one after the other on
            the device: the numbers of the whole batch (but for batch norms) in less memory.
        lr: Peak learning rate of everything but the backbone.
        backbone_lr_factor: The backbone's rate as a fraction of `lr`; 0 freezes it.
        backbone: Prefixes of the names of the parameters that count as the backbone.
        backbone_freeze_samples: The backbone stays frozen for this many first pairs.
        frozen: Prefixes of parameter names that never learn.
        only: Prefixes of the parameter names that learn; () for all but the frozen ones.
        weight_decay: Decoupled weight decay; not applied to norms and biases.
        grad_clip: Largest gradient norm.
        warmup_samples: Linear warm-up.
        decay_start: Fraction of `samples` after which the rate decays.
        decay: "step" (x 0.1 at once, the authors') or "linear" (to 1 % at the end).
        ema: Decay of the moving average of the weights, 0 for none.
        precision: "fp32" or "bf16" (autocast; fp32 master weights).
        grad_checkpointing: The blocks of a vision transformer (ProContEXT, PJVLT) are computed
            again in the backward pass instead of kept: less memory, about a third more time.
        compile: torch.compile; where that fails, training goes on without it and says so.
    """

    samples: int = 60000
    batch_size: int = 32
    accumulate: int = 1
    lr: float = 4e-4
    backbone_lr_factor: float = 0.1
    backbone: tuple[str, ...] = ("backbone.",)
    backbone_freeze_samples: int = 0
    frozen: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    weight_decay: float = 1e-4
    grad_clip: float = 0.1
    warmup_samples: int = 0
    decay_start: float = 0.8
    decay: str = "step"
    ema: float = 0.0
    precision: str = "fp32"
    grad_checkpointing: bool = False
    compile: bool = False


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms (see `vt_models.training.losses`).

    Attributes:
        giou, l1: Of the box.
        score: Of a head that scores each cell.
        background: Of a cell outside the target beside one inside, in SBT's cross entropy.
        presence: Of STARK-ST's score head: is the target in the search crop?
    """

    giou: float = 2.0
    l1: float = 5.0
    score: float = 1.0
    background: float = 0.0625
    presence: float = 0.0


@dataclass(frozen=True)
class PruningConfig:
    """Schedule of ProContEXT's keep ratio: 1, then half a cosine down to the network's own.

    Attributes:
        start: Pairs before the first candidate is dropped.
        length: Pairs until the final ratio is reached; 0 for the final ratio from the start on.
    """

    start: int = 0
    length: int = 0


@dataclass(frozen=True)
class Recipe:
    """A complete training run.

    Attributes:
        model: Name in the registry.
        pretrained: "imagenet" to start the backbone from published weights, "none" otherwise.
        seed: Seed of weights, pairs and augmentation.
        checkpoint_every: Pairs between checkpoints.
        validate_every: Pairs between validations on sequences (0: never).
    """

    model: str
    pretrained: str = "none"
    seed: int = 0
    checkpoint_every: int = 3200
    validate_every: int = 0
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    pruning: PruningConfig = field(default_factory=PruningConfig)


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Reads and checks a recipe.

    Args:
        path: YAML file.
        overrides: "section.key=value" strings that replace single settings.

    Raises:
        RecipeError: Unreadable file, unknown key, wrong type or impossible value; the message
            names the file, the line and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read ({error}): give a recipe file.") from error
    try:
        data = yaml.safe_load(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{path} must be a mapping with at least `model:`.")
    for override in overrides or []:
        _apply_override(data, override)
    recipe = _build(Recipe, data, _Location(str(path), _line_numbers(node)), "")
    _check_values(recipe, str(path))
    return recipe


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data, for checkpoints and model cards."""
    return dataclasses.asdict(recipe)


@dataclass(frozen=True)
class _Location:
    file: str
    lines: dict[str, int]

    def at(self, key: str) -> str:
        line = self.lines.get(key)
        return f"{self.file}:{line}" if line else self.file


def _line_numbers(node: yaml.Node | None, prefix: str = "") -> dict[str, int]:
    found: dict[str, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            found[name] = key.start_mark.line + 1
            found |= _line_numbers(value, f"{name}.")
    return found


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator:
        raise RecipeError(f"Override {override!r} must look like section.key=value.")
    *sections, last = key.split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise RecipeError(f"Override {override!r}: {section!r} is not a section.")
    try:
        data[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"Override {override!r}: {value!r} is not valid YAML.") from error


def _build(cls: type[Section], data: Any, where: _Location, prefix: str) -> Section:
    if not isinstance(data, dict):
        section = prefix.rstrip(".")
        raise RecipeError(f"{where.at(section)}: `{section}` must be a mapping.")
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in hints:
            close = difflib.get_close_matches(str(key), hints, n=1)
            hint = f" Did you mean `{close[0]}`?" if close else ""
            raise RecipeError(
                f"{where.at(f'{prefix}{key}')}: unknown key `{prefix}{key}`.{hint} "
                f"Allowed here: {', '.join(hints)}."
            )
        values[key] = _convert(hints[key], value, where, f"{prefix}{key}")
    if "model" in hints and "model" not in values:
        raise RecipeError(f"{where.file}: `model:` is missing; name a model of the registry.")
    return cls(**values)


def _convert(kind: Any, value: Any, where: _Location, key: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, where, f"{key}.")  # type: ignore[arg-type]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is float and isinstance(value, str):
        # YAML 1.1 reads 1e-4 as text (it wants 1.0e-4); people write 1e-4.
        try:
            return float(value)
        except ValueError:
            number = False
    if kind is float and number:
        return float(value)
    if kind is int and number and float(value).is_integer():
        return int(value)
    if kind in (str, bool) and isinstance(value, kind):
        return value
    texts = kind == tuple[str, ...]
    if texts and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    wanted = "list of texts" if texts else kind.__name__
    raise RecipeError(f"{where.at(key)}: `{key}` must be a {wanted}, not {value!r}.")


_FRACTIONS = (
    "sampling.negative_share",
    "sampling.lookalike_share",
    "sampling.text_dropout",
    "augment.joint_flip",
    "augment.crop_flip",
    "augment.gray",
    "augment.spin",
    "augment.blur",
    "augment.template_blur",
    "augment.small",
    "augment.distractor",
    "augment.transplant",
    "augment.occlusion",
    "augment.erase",
    "augment.foreign_border",
    "optim.decay_start",
    "optim.ema",
)
_POSITIVE = (
    "optim.samples",
    "optim.batch_size",
    "optim.accumulate",
    "optim.lr",
    "optim.grad_clip",
    "checkpoint_every",
)
_CHOICES = {
    "sampling.order": ("any", "causal", "trident"),
    "pretrained": ("none", "imagenet"),
    "optim.decay": ("step", "linear"),
    "optim.precision": ("fp32", "bf16"),
}


def _check_model(recipe: Recipe, file: str) -> None:
    """What only some models have is refused for the others."""
    try:
        spec = get_spec(recipe.model)
    except VtModelsError as error:
        raise RecipeError(f"{file}: {error}") from error
    wrong = {
        "pruning.length": recipe.pruning.length > 0 and spec.family != "procontext",
        "loss.presence": recipe.loss.presence > 0
        and not (spec.family == "stark" and spec.dynamic_template),
        "sampling.text_dropout": recipe.sampling.text_dropout > 0 and not spec.language,
        "optim.grad_checkpointing": recipe.optim.grad_checkpointing
        and spec.family not in ("procontext", "pjvlt"),
    }
    for key in (key for key, is_wrong in wrong.items() if is_wrong):
        raise RecipeError(f"{file}: `{key}` means nothing for {spec.name}: remove it.")


def _check_values(recipe: Recipe, file: str) -> None:
    _check_model(recipe, file)
    flat = _flatten(to_dict(recipe))
    numbers = {k: v for k, v in flat.items() if isinstance(v, (int, float))}
    for key, value in numbers.items():
        if not math.isfinite(value):
            raise RecipeError(f"{file}: `{key}` must be a finite number, but is {value}.")
        if value < 0 or (key in _POSITIVE and value == 0):
            least = "greater than 0" if key in _POSITIVE else "0 or more"
            raise RecipeError(f"{file}: `{key}` must be {least}, but is {value}.")
        if key in _FRACTIONS and value > 1:
            raise RecipeError(f"{file}: `{key}` is a fraction in [0, 1], but is {value}.")
    for key, allowed in _CHOICES.items():
        if flat[key] not in allowed:
            raise RecipeError(f"{file}: `{key}` is {flat[key]!r}; allowed: {', '.join(allowed)}.")
    _check_together(recipe, file)


def _check_together(recipe: Recipe, file: str) -> None:
    """Settings that are possible alone and not together."""
    if recipe.optim.samples < recipe.optim.batch_size:
        raise RecipeError(
            f"{file}: `optim.samples` is {recipe.optim.samples}, less than one batch "
            f"(`optim.batch_size` {recipe.optim.batch_size}): nothing would be trained."
        )
    if recipe.optim.batch_size % recipe.optim.accumulate:
        raise RecipeError(
            f"{file}: `optim.batch_size` {recipe.optim.batch_size} cannot be cut into "
            f"`optim.accumulate` {recipe.optim.accumulate} equal parts: change one of them."
        )
    if recipe.optim.compile and recipe.pruning.length > 0:
        raise RecipeError(
            f"{file}: `optim.compile` does not go with `pruning.length`: the network would be "
            "compiled anew at each step of the pruning schedule. Set one of them to false or 0."
        )
    s = recipe.sampling
    if s.clip_share + s.still_share + s.region_share <= 0:
        raise RecipeError(f"{file}: all shares under `sampling` are 0: no pair could be drawn.")


def _flatten(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
