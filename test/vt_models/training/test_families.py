# SPDX-License-Identifier: Apache-2.0
"""Every registered model trains, and every recipe fits its model.

A model is tested by being registered: its miniature, where it has one, takes two steps.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")

from torch import nn

from vt_models import create_miniature, create_model, list_models
from vt_models.cli.main import main
from vt_models.errors import RecipeError
from vt_models.nets.builders import changed_settings
from vt_models.registry import get_spec
from vt_models.training.data.batches import BatchNumbers, BatchPreprocessor, make_loader
from vt_models.training.data.descriptions import describe, text_of
from vt_models.training.data.pairs import PairDataset
from vt_models.training.data.sampling import PairSampler
from vt_models.training.data.targets import ImagePack, Target, Track, load_image_pack
from vt_models.training.optimizer import make_optimizer
from vt_models.training.progress import Hooks
from vt_models.training.recipe.loader import load_recipe
from vt_models.training.recipe.settings import (
    AugmentConfig,
    LossConfig,
    OptimConfig,
    Recipe,
    SamplingConfig,
)
from vt_models.training.trainer import Trainer

pytestmark = pytest.mark.train

RECIPES = sorted((Path(__file__).parents[3] / "recipes").glob("*.yaml"))
TWO_STEPS = OptimConfig(samples=4, batch_size=2, lr=1e-3, backbone_lr_factor=1.0, grad_clip=5.0)


def _trainer(net: nn.Module, recipe: Recipe, pack: ImagePack, folder: Path) -> Trainer:
    return Trainer(net, recipe, pack, folder, torch.device("cpu"))


def _changed(net: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    """Top-level modules of which some parameter has moved."""
    return {
        name.split(".")[0]
        for name, value in net.named_parameters()
        if not torch.equal(value, before[name])
    }


@pytest.mark.parametrize("model", list_models())
def test_every_model_takes_two_steps(model: str, tmp_path: Path, mini_pack: Path) -> None:
    sampling = SamplingConfig(negative_share=0.3)
    recipe = Recipe(model, seed=1, sampling=sampling, optim=TWO_STEPS)
    net = create_miniature(model)
    before = {name: value.clone() for name, value in net.named_parameters()}
    trainer = _trainer(net, recipe, load_image_pack(mini_pack), tmp_path)
    trainer.run()
    assert trainer.samples == 4
    untouched = {name.split(".")[0] for name in before} - _changed(net, before)
    assert untouched <= {"cls_head"}, "only STARK's second stage learns the score head"
    assert all(bool(torch.isfinite(value).all()) for value in net.parameters())
    learning = {name: value for name, value in net.named_parameters() if value.requires_grad}
    idle = {name for name, value in learning.items() if value.grad is None}
    assert bool(idle) == trainer._some_unused, "DistributedDataParallel has to know"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_fits_its_model(path: Path) -> None:
    recipe = load_recipe(path)
    # Miniatures lack the pretrained stem of the tiny models, which their recipes freeze.
    build = create_model if recipe.model.endswith("_tiny") else create_miniature
    net = build(recipe.model)
    optimizer = make_optimizer(net, recipe.optim)
    rates = {group["peak_lr"] for group in optimizer.param_groups}
    assert max(rates) == recipe.optim.lr
    assert recipe.optim.only or min(rates) == recipe.optim.lr * recipe.optim.backbone_lr_factor


def test_attention_has_labels_where_the_recipe_wants_them(tmp_path: Path, mini_pack: Path) -> None:
    pack = load_image_pack(mini_pack)
    seen: list[dict[str, float]] = []
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        recipe = Recipe("asymtrack_t", seed=1, optim=TWO_STEPS, loss=LossConfig(matching=weight))
        folder = tmp_path / str(weight)
        folder.mkdir()
        trainer = _trainer(create_model("asymtrack_t"), recipe, pack, folder)
        trainer.run(Hooks(on_progress=lambda progress: seen.append(progress.terms)))
    without, labelled = seen
    assert "match" not in without
    assert labelled["match"] > 0.1
    assert labelled["total"] > without["total"] + 0.1


def test_starks_second_stage_learns_the_score_head_alone(
    tmp_path: Path, mini_pack: Path, repository: Path
) -> None:
    overrides = ["optim.samples=4", "optim.batch_size=2", "optim.lr=1e-2"]
    recipe = load_recipe(repository / "recipes" / "stark_st50_stage2.yaml", overrides)
    net = create_miniature(recipe.model)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    trainer = _trainer(net, recipe, load_image_pack(mini_pack), tmp_path)
    trainer.run()
    moved = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert moved
    assert all(name.startswith("cls_head.") for name in moved)


def test_pruning_follows_its_schedule_and_not_in_the_average(
    tmp_path: Path, mini_pack: Path
) -> None:
    text = "model: procontext\npruning: {start: 2, length: 4}\n"
    text += "optim: {samples: 8, batch_size: 2, ema: 0.9, backbone_lr_factor: 1}\n"
    (tmp_path / "r.yaml").write_text(text)
    recipe = load_recipe(tmp_path / "r.yaml")
    net = create_miniature("procontext")
    final = net.keep_ratio
    trainer = _trainer(net, recipe, load_image_pack(mini_pack), tmp_path)
    ratios = []
    step = trainer._step

    def watched(batch: object) -> object:
        result = step(batch)
        ratios.append(net.keep_ratio)
        return result

    trainer._step = watched
    trainer.run()
    half = final + (1 - final) * 0.5 * (1 + math.cos(math.pi / 2))
    assert ratios == pytest.approx([1.0, 1.0, half, final])
    assert trainer.averaged_net.keep_ratio == final


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("model: stark_st50\npruning: {length: 5}\n", "pruning.length"),
        ("model: stark_s50\nloss: {presence: 1}\n", "loss.presence"),
        ("model: sbt_base\nsampling: {text_dropout: 0.1}\n", "sampling.text_dropout"),
    ],
)
def test_settings_of_another_family_are_refused(tmp_path: Path, text: str, key: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=f"`{key}` means nothing for"):
        load_recipe(tmp_path / "r.yaml")


def _batch(model: str, pack: ImagePack, **changes: object) -> dict[str, torch.Tensor]:
    recipe = dataclasses.replace(Recipe(model, seed=5), **changes)
    spec = get_spec(model)
    loader = make_loader(PairDataset(pack, spec, recipe), BatchNumbers(0, 6, 6), 0, pin=False)
    return BatchPreprocessor(spec, torch.device("cpu"))(next(iter(loader))).inputs


def test_views_of_a_template_show_the_same_place_at_their_factors(mini_pack: Path) -> None:
    spec = get_spec("procontext")
    augment = AugmentConfig(search_centre=0.5, grey=0, brightness=0, joint_flip=0, crop_flip=0)
    inputs = _batch("procontext", load_image_pack(mini_pack), augment=augment)
    size = spec.template_size
    assert inputs["template"].shape == inputs["dynamic"].shape == (6, 2, 3, size, size)
    near, wide = inputs["template"].unbind(1)
    zoom = spec.context_factors[0] / spec.template_factor
    shown = round(size / zoom)
    low = (size - shown) // 2
    centre = wide[:, :, low : low + shown, low : low + shown]
    again = nn.functional.interpolate(near, (shown, shown), mode="area")
    assert (centre - again).abs().mean() < 0.35 * (centre - again.flip(0)).abs().mean()


def test_padding_masks_are_true_where_the_crop_leaves_its_image(mini_pack: Path) -> None:
    augment = AugmentConfig(grey=0, brightness=0)
    inputs = _batch("stark_st50", load_image_pack(mini_pack), augment=augment)
    black = (inputs["search"] - inputs["search"].amin((2, 3), keepdim=True)).amax(1) < 1e-4
    mask = inputs["search_mask"]
    assert mask.any()
    assert not mask.all()
    assert (black & mask).sum() > 0.97 * mask.sum()
    for name in ("template_mask", "dynamic_mask"):
        assert inputs[name].dtype == torch.bool
        assert inputs[name].shape == (6, *inputs["template"].shape[2:])


def test_the_text_is_the_targets_class(mini_pack: Path) -> None:
    from vt_models.text import Tokenizer  # noqa: PLC0415 - needs tokenizers

    spec = get_spec("pjvlt")
    ids, mask = Tokenizer.uncased(spec.text_length)("thing")
    sampling = SamplingConfig(clip_share=0, still_share=1)
    inputs = _batch("pjvlt", load_image_pack(mini_pack), sampling=sampling)
    assert (inputs["text_ids"].numpy() == ids).all()
    assert (inputs["text_mask"].numpy() == mask).all()
    dropped = dataclasses.replace(sampling, text_dropout=1.0)
    assert not _batch("pjvlt", load_image_pack(mini_pack), sampling=dropped)["text_mask"].any()
    regions = SamplingConfig(clip_share=0, still_share=0, region_share=1)
    nameless = _batch("pjvlt", load_image_pack(mini_pack), sampling=regions)
    assert not nameless["text_mask"].any()


def test_a_sentence_of_the_data_goes_before_the_class() -> None:
    target = Target(0, (1.0, 1.0, 4.0, 4.0), "car", "v", sentence="the red one")
    assert text_of(target) == "the red one"
    assert text_of(dataclasses.replace(target, sentence="")) == "car vehicle"


def test_category_and_supercategory_are_the_text() -> None:
    assert describe("car") == "car vehicle"
    assert describe("diningtable") == "dining table furniture"
    assert describe("person") == "person"
    assert describe("kangaroo") == "kangaroo"
    assert describe("") == ""


def test_the_second_template_is_near_the_search_frame() -> None:
    images = [np.zeros((8, 8, 3), np.uint8) for _ in range(100)]
    targets = tuple(Target(i, (1.0, 1.0, 4.0, 4.0), "", "v") for i in range(100))
    pack = ImagePack(images, [], [Track("v/0", targets, tuple(range(100)))])
    config = SamplingConfig(1.0, 0.0, max_gap=10, order="trident")
    sampler = PairSampler(pack, config, 0, dynamic=True)
    pairs = [sampler.draw(sampler.rng(number)) for number in range(300)]
    far = [p for p in pairs if abs(p.template.image - p.search.image) > 10]
    assert len(far) > 150, "the first template lies anywhere"
    for pair in far:
        ahead = pair.dynamic.image - pair.search.image
        side = np.sign(pair.template.image - pair.search.image)
        assert 0 < ahead * side <= 10


NETWORKS = {
    "asymtrack_t": "{depths: [[1], [1], [1]], etm: [3], ope: []}",
    "procontext": "{vision: {dim: 32, depth: 2, heads: 2, pruning_blocks: [1]}, head_width: 16, "
    "scales: [2], dynamic: false}",
    "stark_st50": "{blocks: [1, 1, 1], planes: [8, 8, 8], width: 32, heads: 4, hidden: 32, "
    "encoder_layers: 0, decoder_layers: 0, head_width: 16, score_head: false}",
    "sbt_base": "{channels: [8, 16, 40], depths: [1, 1, 2], cross: [2]}",
    "pjvlt": "{vision: {dim: 32, depth: 2, heads: 2}, head_width: 16, fusion: {saiel: false, "
    "blocks: [1], latent: 8, heads: 2, patch_hidden: 16}}",
}


@pytest.mark.parametrize("model", NETWORKS)
def test_net_of_a_recipe_is_trained_and_stored(
    model: str, tmp_path: Path, mini_pack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And neither its checkpoint nor its weights serve a recipe of another network."""
    (tmp_path / "r.yaml").write_text(
        f"model: {model}\nnet: {NETWORKS[model]}\n"
        "optim: {samples: 4, batch_size: 2, backbone_lr_factor: 1}\n"
    )
    words = ["train", str(tmp_path / "r.yaml"), "--data", str(mini_pack), "--workers", "0"]
    assert main([*words, "--output", str(tmp_path / "first")]) == 0
    weights = tmp_path / "first" / "weights.safetensors"
    net: Any = create_model(model, weights)
    assert changed_settings(get_spec(model), net).keys() == yaml.safe_load(NETWORKS[model]).keys()
    capsys.readouterr()
    other = ["--set", "net={}"]
    assert main([*words, *other, "--start-from", str(weights)]) == 2
    assert "`net: {" in capsys.readouterr().err
    if model == "asymtrack_t":  # a small network
        assert main([*words, *other, "--output", str(tmp_path / "first")]) == 2
        assert "choose another --output" in capsys.readouterr().err


def test_starting_from_weights(tmp_path: Path, mini_pack: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "model: asymtrack_lite0\noptim: {samples: 4, batch_size: 2, lr: 0.001}\n"
    )
    words = ["train", str(tmp_path / "r.yaml"), "--data", str(mini_pack), "--workers", "0"]
    assert main([*words, "--output", str(tmp_path / "first")]) == 0
    first = tmp_path / "first" / "weights.safetensors"
    again = [*words, "--start-from", str(first), "--output", str(tmp_path / "again")]
    assert main([*again, "--set", "optim.lr=1e-20", "--set", "optim.weight_decay=0"]) == 0
    learned = create_model("asymtrack_lite0", first)
    kept = create_model("asymtrack_lite0", tmp_path / "again" / "weights.safetensors")
    for (name, a), (_, b) in zip(learned.named_parameters(), kept.named_parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), name
    assert main([*words, "--text-weights", "x", "--output", str(tmp_path / "no")]) != 0
