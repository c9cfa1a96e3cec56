# SPDX-License-Identifier: Apache-2.0
"""Which values of a recipe's settings are possible together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from vt_models.datasets import DATASETS, IMAGE_SETS
from vt_models.errors import InputError, RecipeError, VtModelsError
from vt_models.nets.builders import configure
from vt_models.registry import get_spec
from vt_models.training.recipe.settings import Recipe, SourceConfig

PACK, IMAGES = "pack", "images"
KINDS = (PACK, IMAGES, *IMAGE_SETS, *DATASETS)
"""Of sources."""


def check_rules(recipe: Recipe, at: Callable[[str], str]) -> None:
    """Refuse values that are possible alone, and not together or for this model.

    Args:
        recipe: Complete and of the right types.
        at: Key ("optim.lr") to FILE:LINE.

    Raises:
        RecipeError: Names the place and what is allowed.
    """
    try:
        model = get_spec(recipe.model)
    except VtModelsError as error:
        raise RecipeError(f"{at('model')}: {error}") from error
    configure(model, recipe.net, at, RecipeError)
    for problems in (
        *(_problems_of_model, _problems_of_sources, _problems_of_batches, _problems_of_schedules),
        *(_problems_of_pairs, _problems_of_sizes),
    ):
        for key, problem in problems(recipe):
            raise RecipeError(f"{at(key)}: {problem}")


def _problems_of_model(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield what only other models have: key and sentence, as all of these do."""
    loss, sampling, spec, family = recipe.loss, recipe.sampling, recipe.spec, recipe.spec.family
    wrong = {
        "pruning.length": recipe.pruning.length > 0 and family != "procontext",
        "loss.presence": loss.presence > 0 and not (family == "stark" and spec.update_threshold),
        "loss.corner": loss.corner > 0
        and (family not in ("asymtrack", "stark") or recipe.net.get("box_head") == "mlp"),
        "loss.matching": loss.matching > 0 and family != "asymtrack",
        "loss.box_cell": loss.box_cell != "peak" and family not in ("procontext", "pjvlt"),
        "loss.alignment": loss.alignment > 0 and not spec.language,
        "loss.teacher": loss.teacher > 0 and family != "asymtrack_lite",
        "sampling.text_dropout": sampling.text_dropout > 0 and not spec.language,
        "sampling.template_dropout": sampling.template_dropout > 0 and not spec.language,
        "optim.grad_checkpointing": recipe.optim.grad_checkpointing
        and family not in ("procontext", "pjvlt"),
    }
    for key in (key for key, is_wrong in wrong.items() if is_wrong):
        yield key, f"`{key}` means nothing for {spec.name}: remove it."


def _problems_of_sources(recipe: Recipe) -> Iterator[tuple[str, str]]:
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
    if source.max_gap and (source.kind == IMAGES or source.kind in IMAGE_SETS):
        yield "max_gap", f"{source.kind} has no videos, so `max_gap` means nothing: remove it."
    if not source.in_memory and source.kind != PACK:
        yield "in_memory", f"images of {source.kind} are never held in memory: remove `in_memory`."


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
    sizes, spec = recipe.augment.search_sizes, recipe.spec
    if not sizes:
        return
    key = "augment.search_sizes"
    if not spec.takes_any_search_size:
        said = f"the search crops of {spec.name} are {spec.search_size} pixels wide, always"
        yield key, f"`{key}` means nothing for {spec.name}: {said}. Remove it."
    elif len(sizes) != 2 or sizes[0] > sizes[1]:
        said = "must be the smallest and the largest side"
        yield key, f"`{key}` {said}, such as [128, 224], but is {list(sizes)}."
    for size in sizes:
        try:
            spec.check_search_size(size)
        except InputError as error:
            yield key, f"`{key}`: {error}."
