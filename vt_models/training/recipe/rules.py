# SPDX-License-Identifier: Apache-2.0
"""Which values of a recipe's settings are possible, alone and together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from vt_models.datasets import DATASETS, IMAGE_SETS
from vt_models.errors import RecipeError, VtModelsError
from vt_models.registry import get_spec
from vt_models.training.recipe.settings import Recipe, SourceConfig, to_dict

PACK, IMAGES = "pack", "images"
KINDS = (PACK, IMAGES, *IMAGE_SETS, *DATASETS)
"""Of sources."""
SIZE_FREE = ("asymtrack_lite",)
"""Families whose networks take search crops of any size."""

MOST_SEARCH_SIZE = 1024
"""Pixels; the widest model searches 384, and a mistyped size must not fill the memory."""

_FRACTIONS = (
    "sampling.negative_share",
    "sampling.lookalike_share",
    "sampling.hidden_share",
    "sampling.max_cover",
    "sampling.text_dropout",
    "sampling.template_dropout",
    "augment.joint_flip",
    "augment.crop_flip",
    "augment.grey",
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
    "optim.decay_again",
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
    "augment.search_shift": ("uniform", "laplace"),
    "pretrained": ("none", "imagenet", "nanotrack"),
    "optim.decay": ("step", "linear"),
    "loss.box_cell": ("peak", "target"),
    "optim.precision": ("fp32", "bf16"),
}


def check_rules(recipe: Recipe, at: Callable[[str], str]) -> None:
    """Refuse values that are not possible.

    Args:
        recipe: Complete and of the right types.
        at: Key ("optim.lr") to FILE:LINE.

    Raises:
        RecipeError: Names the place and what is allowed.
    """
    _check_numbers(recipe, at)
    _check_model(recipe, at)
    for key, problem in (*_source_problems(recipe), *_problems_together(recipe)):
        raise RecipeError(f"{at(key)}: {problem}")


def _check_numbers(recipe: Recipe, at: Callable[[str], str]) -> None:
    flat = _flatten(to_dict(recipe))
    numbers = {k: v for k, v in flat.items() if isinstance(v, (int, float))}
    for key, value in numbers.items():
        if not math.isfinite(value):
            raise RecipeError(f"{at(key)}: `{key}` must be a finite number, but is {value}.")
        if value < 0 or (key in _POSITIVE and value == 0):
            least = "greater than 0" if key in _POSITIVE else "0 or more"
            raise RecipeError(f"{at(key)}: `{key}` must be {least}, but is {value}.")
        if key in _FRACTIONS and value > 1:
            raise RecipeError(f"{at(key)}: `{key}` is a fraction in [0, 1], but is {value}.")
    for key, allowed in _CHOICES.items():
        if flat[key] not in allowed:
            raise RecipeError(
                f"{at(key)}: `{key}` is {flat[key]!r}; allowed: {', '.join(allowed)}."
            )


def _check_model(recipe: Recipe, at: Callable[[str], str]) -> None:
    """Refuse for a model what only others have."""
    try:
        spec = get_spec(recipe.model)
    except VtModelsError as error:
        raise RecipeError(f"{at('model')}: {error}") from error
    wrong = {
        "pruning.length": recipe.pruning.length > 0 and spec.family != "procontext",
        "loss.presence": recipe.loss.presence > 0
        and not (spec.family == "stark" and spec.dynamic_template),
        "loss.corner": recipe.loss.corner > 0 and spec.family not in ("asymtrack", "stark"),
        "loss.matching": recipe.loss.matching > 0 and spec.family != "asymtrack",
        "loss.box_cell": recipe.loss.box_cell != "peak"
        and spec.family not in ("procontext", "pjvlt"),
        "loss.alignment": recipe.loss.alignment > 0 and not spec.language,
        "loss.teacher": recipe.loss.teacher > 0 and spec.family != "asymtrack_lite",
        "sampling.text_dropout": recipe.sampling.text_dropout > 0 and not spec.language,
        "sampling.template_dropout": recipe.sampling.template_dropout > 0 and not spec.language,
        "optim.grad_checkpointing": recipe.optim.grad_checkpointing
        and spec.family not in ("procontext", "pjvlt"),
    }
    for key in (key for key, is_wrong in wrong.items() if is_wrong):
        raise RecipeError(f"{at(key)}: `{key}` means nothing for {spec.name}: remove it.")


def _source_problems(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield key and sentence."""
    if not recipe.sources:
        yield "sources", "`sources` is empty: name at least one, such as `- kind: pack`."
    seen: set[str] = set()
    for number, source in enumerate(recipe.sources):
        key = f"sources[{number}]"
        if source.called in seen:
            yield key, f"there is a source `{source.called}` already: give this one another `name`."
        seen.add(source.called)
        if "=" in source.called:
            yield f"{key}.name", f"the name `{source.called}` has a `=`, which --data splits at."
        for name, problem in _problems_of(source):
            yield f"{key}.{name}", problem
    if recipe.sources and sum(source.weight for source in recipe.sources) <= 0:
        yield "sources", "all weights under `sources` are 0: no pair could be drawn."


def _problems_of(source: SourceConfig) -> Iterator[tuple[str, str]]:
    if source.kind not in KINDS:
        yield "kind", f"there is no kind {source.kind!r} of source; allowed: {', '.join(KINDS)}."
        return
    reader: Any = DATASETS.get(source.kind) or IMAGE_SETS.get(source.kind)
    splits = () if reader is None else reader.splits
    if source.split and source.split not in splits:
        allowed = f"allowed: {', '.join(splits)}" if splits else "it has none"
        yield "split", f"{source.kind} has no split {source.split!r}; {allowed}."
    if source.only and source.kind not in DATASETS:
        yield "only", f"`only` lists videos, and {source.kind} is no dataset of videos: remove it."
    has_videos = source.kind == PACK or source.kind in DATASETS
    for key in ("match", "skip"):
        if getattr(source, key) and not has_videos:
            yield key, f"`{key}` chooses videos, and {source.kind} has none: remove it."
    if source.max_cover > 1:
        yield "max_cover", f"`max_cover` is a fraction in [0, 1], but is {source.max_cover}."
    if source.max_gap and (source.kind == IMAGES or source.kind in IMAGE_SETS):
        yield "max_gap", f"{source.kind} has no videos, so `max_gap` means nothing: remove it."
    if not source.in_memory and source.kind != PACK:
        yield "in_memory", f"images of {source.kind} are never held in memory: remove `in_memory`."


def _problems_together(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield settings that are possible alone and not together: key and sentence."""
    yield from _problems_of_batches(recipe)
    yield from _problems_of_schedules(recipe)
    yield from _problems_of_pairs(recipe)
    yield from _problems_of_sizes(recipe)


def _problems_of_batches(recipe: Recipe) -> Iterator[tuple[str, str]]:
    optim = recipe.optim
    samples, batch, parts = optim.samples, optim.batch_size, optim.accumulate
    if samples < batch:
        said = f"`optim.samples` is {samples}, less than one batch (`optim.batch_size` {batch})"
        yield "optim.samples", f"{said}: nothing would be trained."
    if batch % parts:
        said = f"`optim.batch_size` {batch} cannot be cut into `optim.accumulate` {parts}"
        yield "optim.accumulate", f"{said} equal parts: change one of them."
    if optim.compile and recipe.pruning.length > 0:
        said = "`optim.compile` does not go with `pruning.length`: the network would be compiled"
        yield "optim.compile", f"{said} anew at each step of the schedule. Set one to false or 0."


def _problems_of_schedules(recipe: Recipe) -> Iterator[tuple[str, str]]:
    optim, end = recipe.optim, recipe.pruning.start + recipe.pruning.length
    for key in ("warmup_samples", "backbone_freeze_samples"):
        if getattr(optim, key) >= optim.samples:
            said = f"`optim.{key}` {getattr(optim, key)} is all of `optim.samples` {optim.samples}"
            yield f"optim.{key}", f"{said}: lower it."
    if optim.decay_again < 1 and (optim.decay != "step" or optim.decay_again <= optim.decay_start):
        said = f"`optim.decay_again` {optim.decay_again} is a second step after `decay_start`"
        yield "optim.decay_again", f"{said} {optim.decay_start}; needs `decay: step`, 1 is none."
    if end > optim.samples:
        said = f"`pruning` ends after {end} pairs, the run after {optim.samples} (`optim.samples`)"
        yield "pruning", f"{said}: the final keep ratio would never be trained."


def _problems_of_pairs(recipe: Recipe) -> Iterator[tuple[str, str]]:
    sampling = recipe.sampling
    if sampling.clip_share + sampling.still_share + sampling.region_share <= 0:
        yield "sampling", "all shares under `sampling` are 0: no pair could be drawn."
    for number, source in enumerate(recipe.sources):
        share = "clip_share" if source.kind in DATASETS else "still_share"
        labelled = source.kind in DATASETS or source.kind in IMAGE_SETS
        if labelled and getattr(sampling, share) + sampling.region_share == 0:
            said = f"{source.kind} gives no pair where `sampling.{share}` and `region_share` are 0"
            yield f"sources[{number}]", f"{said}: set one, or remove the source."
    if sampling.negative_share > 0:
        return
    for key in ("lookalike_share", "hidden_share"):
        if getattr(sampling, key) > 0:
            said = f"`sampling.{key}` is a fraction of the negative pairs"
            yield f"sampling.{key}", f"{said}, and `sampling.negative_share` is 0: set both."
    if recipe.loss.presence > 0 and recipe.augment.erase == 0:
        said = "`loss.presence` learns from pairs with and without the target"
        yield "loss.presence", f"{said}, and `sampling.negative_share` is 0: set it (STARK: 0.5)."


def _problems_of_sizes(recipe: Recipe) -> Iterator[tuple[str, str]]:
    sizes, spec = recipe.augment.search_sizes, get_spec(recipe.model)
    if not sizes:
        return
    key, least = "augment.search_sizes", spec.search_size / spec.search_factor
    if spec.family not in SIZE_FREE:
        said = f"the search crops of {spec.name} are {spec.search_size} pixels wide, always"
        yield key, f"`{key}` means nothing for {spec.name}: {said}. Remove it."
    elif len(sizes) != 2 or sizes[0] > sizes[1] or any(size % 16 for size in sizes):
        said = "must be the smallest and the largest side, both multiples of 16"
        yield key, f"`{key}` {said}, such as [128, 224], but is {list(sizes)}."
    elif sizes[1] > MOST_SEARCH_SIZE:
        yield key, f"`{key}` goes up to {sizes[1]} pixels; at most {MOST_SEARCH_SIZE}. Lower it."
    elif sizes[0] <= least:
        said = f"in a crop of {sizes[0]} pixels a target of {least:g} leaves no surroundings"
        yield key, f"`{key}`: {said}: raise the smallest side."


def _flatten(data: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings and of lists of mappings, by key."""
    flat: dict[str, Any] = {}
    if isinstance(data, dict):
        for key, value in data.items():
            flat |= _flatten(value, f"{prefix}.{key}" if prefix else key)
    elif isinstance(data, tuple) and data and isinstance(data[0], dict):
        for number, entry in enumerate(data):
            flat |= _flatten(entry, f"{prefix}[{number}]")
    else:
        flat[prefix] = data
    return flat
