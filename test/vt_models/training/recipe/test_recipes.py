# SPDX-License-Identifier: Apache-2.0
"""The project's recipes say what the papers and their published codes say."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from vt_models.datasets.video_list import read_video_list
from vt_models.registry import get_spec, list_models
from vt_models.training.recipe.loader import load_recipe
from vt_models.training.recipe.settings import Recipe

FOLDER = Path(__file__).parents[4] / "recipes"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
OURS = [name for name in NAMES if name.endswith(("_pack", "_videos"))]
AUTHORS = [name for name in NAMES if name not in OURS]
FOUR = ["lasot", "got10k", "coco", "trackingnet"]


class Facts(NamedTuple):
    """What the published code or, where there is none, the paper says."""

    model: str
    epochs: int
    drop: int
    batch: int
    lr: float
    backbone: float
    order: str
    jitter: tuple[float, float]
    losses: dict[str, float]
    sources: list[str] = FOUR
    epoch: int = 60_000


CORNERS = {"giou": 2, "l1": 5}
CENTRE = {"giou": 2, "l1": 5, "score": 1}
SBT = {"giou": 50, "l1": 70, "score": 120, "background": 0.0625}
STARK = (4.5, 0.5)
FACTS = {
    "asymtrack_t": Facts("asymtrack_t", 500, 400, 2 * 64, 4e-4, 0.1, "causal", (3.5, 0.5), CORNERS),
    "asymtrack_s": Facts("asymtrack_s", 500, 400, 2 * 64, 4e-4, 1.0, "causal", (3.5, 0.5), CORNERS),
    "asymtrack_b": Facts("asymtrack_b", 500, 400, 2 * 64, 4e-4, 0.1, "causal", (3.5, 0.5), CORNERS),
    "procontext": Facts("procontext", 300, 240, 4 * 32, 4e-4, 0.1, "trident", STARK, CENTRE),
    "procontext_got10k": Facts(
        "procontext", 100, 80, 4 * 32, 4e-4, 0.1, "trident", STARK, CENTRE, ["got10k"]
    ),
    "stark_s50": Facts("stark_s50", 500, 400, 8 * 16, 1e-4, 0.1, "causal", STARK, CORNERS),
    "stark_st50": Facts("stark_st50", 500, 400, 8 * 16, 1e-4, 0.1, "trident", STARK, CORNERS),
    "stark_st101": Facts("stark_st101", 500, 400, 8 * 16, 1e-4, 0.1, "trident", STARK, CORNERS),
    "stark_st50_stage2": Facts(
        "stark_st50", 50, 40, 8 * 16, 1e-4, 0.1, "trident", STARK, {"presence": 1}
    ),
    "stark_st101_stage2": Facts(
        "stark_st101", 50, 40, 8 * 16, 1e-4, 0.1, "trident", STARK, {"presence": 1}
    ),
    "sbt_base": Facts("sbt_base", 500, 400, 8 * 20, 1e-3, 0.1, "causal", STARK, SBT),
    "sbt_large": Facts("sbt_large", 300, 240, 8 * 12, 1e-3, 0.1, "causal", STARK, SBT),
    "sbt_small": Facts("sbt_small", 600, 200, 160, 1e-4, 0.1, "causal", STARK, SBT, FOUR, 50_000),
    "sbt_light": Facts("sbt_light", 600, 200, 160, 1e-4, 0.1, "causal", STARK, SBT, FOUR, 50_000),
    "pjvlt": Facts("pjvlt", 300, 240, 128, 1e-4, 0.1, "causal", (3.0, 0.25), CENTRE),
    "pjvlt_got10k": Facts(
        "pjvlt", 100, 60, 128, 1e-4, 0.1, "causal", (3.0, 0.25), CENTRE, ["got10k"]
    ),
}


def _load(name: str) -> Recipe:
    return load_recipe(FOLDER / f"{name}.yaml")


def test_recipes_cover_every_published_model() -> None:
    assert sorted(FACTS) == AUTHORS
    trained = {_load(name).model for name in NAMES}
    assert trained == set(list_models())


@pytest.mark.parametrize("name", AUTHORS)
def test_recipes_schedule_data_and_losses_are_as_published(name: str) -> None:
    facts, recipe = FACTS[name], _load(name)
    optim, sampling, augment = recipe.optim, recipe.sampling, recipe.augment
    assert recipe.model == facts.model
    assert recipe.checkpoint_every == facts.epoch
    assert optim.samples == facts.epochs * facts.epoch
    assert optim.samples * optim.decay_start == pytest.approx(facts.drop * facts.epoch, rel=2e-4)
    assert (optim.decay, optim.precision in ("fp32", "bf16")) == ("step", True)
    assert (optim.batch_size, optim.lr) == (facts.batch, facts.lr)
    assert optim.backbone_lr_factor == facts.backbone
    assert (optim.weight_decay, optim.grad_clip) == (1e-4, 0.1)
    assert [source.kind for source in recipe.sources] == facts.sources
    assert {source.weight for source in recipe.sources} == {1.0}
    assert sampling.order == facts.order
    assert sampling.max_gap == (200 if facts.order == "trident" else 199)
    assert (augment.search_centre, augment.search_scale) == facts.jitter
    assert (augment.template_centre, augment.template_scale) == (0, 0)
    assert (augment.grey, augment.brightness) == (0.05, 0.2)
    assert (augment.joint_flip, augment.crop_flip) == (0.5, 0.5)
    invented = ("rotation_deg", "spin", "blur", "small", "distractor", "occlusion", "erase")
    assert not any(getattr(augment, key) for key in invented)
    assert {key: getattr(recipe.loss, key) for key in facts.losses} == facts.losses


def test_sbt_recipe_decays_twice() -> None:
    optim = _load("sbt_light").optim
    assert optim.samples * optim.decay_again == pytest.approx(400 * 50_000, rel=2e-4)


def test_procontext_prunes_by_its_schedule() -> None:
    pruning = _load("procontext").pruning
    assert (pruning.start, pruning.length) == (20 * 60_000, 80 * 60_000)
    pruning = _load("procontext_got10k").pruning
    assert (pruning.start, pruning.length) == (20 * 60_000, 50 * 60_000)


@pytest.mark.parametrize("size", ["st50", "st101"])
def test_stark_recipes_have_two_stages(size: str) -> None:
    first, second = _load(f"stark_{size}"), _load(f"stark_{size}_stage2")
    assert first.optim.frozen == ("backbone.0.body.conv1", "backbone.0.body.layer1")
    assert (first.optim.only, first.sampling.negative_share) == ((), 0)
    assert (second.optim.only, second.optim.frozen) == (("cls_head.",), ())
    assert (second.sampling.negative_share, second.sampling.hidden_share) == (0.5, 1)
    assert (second.loss.giou, second.loss.l1) == (0, 0)


def test_pjvlt_learns_its_encoders_slowly() -> None:
    optim = _load("pjvlt").optim
    assert optim.backbone == ("backbone.", "language.", "fusion.")
    assert optim.lr * optim.backbone_lr_factor == pytest.approx(1e-5)


@pytest.mark.parametrize("name", OURS)
def test_no_recipe_of_ours_trains_on_the_validation_videos(name: str) -> None:
    listed = read_video_list(Path(_load(name).validation))
    assert listed.path.resolve() == (FOLDER / "validation.tsv").resolve()
    assert len(listed.validation) == 30


def test_video_recipes_weigh_flying_things_by_source() -> None:
    recipe = _load("asymtrack_lite0_videos")
    weights = {source.called: source.weight for source in recipe.sources}
    assert 0.2 <= weights["flying"] / sum(weights.values()) <= 0.3
    teacher = _load("asymtrack_nano_teacher_videos")
    assert teacher.loss.teacher > 0
    assert teacher.sources == _load("asymtrack_nano_videos").sources == recipe.sources


@pytest.mark.parametrize("name", [name for name in OURS if name.endswith("_pack")])
def test_pack_recipes_need_one_pack_alone(name: str) -> None:
    recipe = _load(name)
    (source,) = recipe.sources
    assert (source.kind, source.root, source.in_memory) == ("pack", "", True)
    assert recipe.optim.samples <= 1_000_000
    assert get_spec(recipe.model).name == name.removesuffix("_pack").removesuffix("_stage2")
