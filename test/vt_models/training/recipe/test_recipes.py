# SPDX-License-Identifier: Apache-2.0
"""The project's recipes say what the papers and their published codes say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("torch", reason="needs the training packages")

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
SBT_PAPER = {"giou": 5, "l1": 7, "score": 12, "background": 1}
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
    "sbt_small": Facts(
        "sbt_small", 600, 200, 160, 1e-4, 0.1, "causal", STARK, SBT_PAPER, FOUR, 50_000
    ),
    "sbt_small_got10k": Facts(
        "sbt_small", 100, 30, 160, 1e-3, 0.1, "causal", STARK, SBT_PAPER, ["got10k"], 50_000
    ),
    "sbt_light": Facts(
        "sbt_light", 600, 200, 160, 1e-4, 0.1, "causal", STARK, SBT_PAPER, FOUR, 50_000
    ),
    "sbt_light_got10k": Facts(
        "sbt_light", 100, 30, 160, 1e-3, 0.1, "causal", STARK, SBT_PAPER, ["got10k"], 50_000
    ),
    "pjvlt": Facts("pjvlt", 300, 240, 128, 1e-4, 0.1, "causal", (3.0, 0.25), CENTRE),
    "pjvlt_got10k": Facts(
        "pjvlt", 100, 60, 128, 1e-4, 0.1, "causal", (3.0, 0.25), CENTRE, ["got10k"]
    ),
    "pjvlt_lasot": Facts(
        "pjvlt", 100, 60, 128, 1e-4, 0.1, "causal", (3.0, 0.25), CENTRE, ["lasot"]
    ),
}
FACTS |= {
    f"{name}_got10k": FACTS[name]._replace(sources=["got10k"])
    for name in FACTS
    if name.startswith("stark_")
}
FACTS |= {
    f"sbt_{size}_got10k": FACTS[f"sbt_{size}"]._replace(epochs=100, drop=80, sources=["got10k"])
    for size in ("base", "large")
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


ABLATIONS = sorted(path.stem for path in (FOLDER / "ablations").glob("*_table*.yaml"))


def _rows(name: str) -> list[list[str]]:
    """The settings that the head of a table's recipe gives for its rows."""
    lines = (FOLDER / "ablations" / f"{name}.yaml").read_text().splitlines()
    rows = [line.split("--set ")[1:] for line in lines if line.startswith("#   ")]
    return [[setting.strip() for setting in row] for row in rows]


@pytest.mark.parametrize("name", ABLATIONS)
def test_each_row_of_an_ablation_table_is_another_network(name: str) -> None:
    path = FOLDER / "ablations" / f"{name}.yaml"
    rows = _rows(name)
    recipes = [load_recipe(path), *(load_recipe(path, row) for row in rows)]
    assert rows
    assert all(rows)
    networks = [json.dumps(recipe.net, sort_keys=True) for recipe in recipes]
    assert len(set(networks)) == len(networks)
    assert len({recipe.optim.samples for recipe in recipes}) == 1


def test_ablations_of_procontext_crop_as_the_paper_s() -> None:
    specs = [
        load_recipe(FOLDER / "ablations" / "procontext_table2.yaml", row).spec
        for row in _rows("procontext_table2")
    ]
    assert [spec.view_factors for spec in specs] == [(2,), (2, 3, 4), (2, 2.7, 3.3, 4)]
    assert {(s.template_size, s.search_size, s.search_factor) for s in specs} == {(128, 256, 4)}
    assert not any(spec.dynamic_template for spec in specs)
