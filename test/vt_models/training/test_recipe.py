# SPDX-License-Identifier: Apache-2.0
"""Recipes are refused before the first batch, with file, line and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from vt_models.errors import RecipeError
from vt_models.training.recipe import load_recipe, to_dict


def _write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_every_recipe_of_the_project_loads(repository: Path) -> None:
    recipes = sorted((repository / "recipes").glob("*.yaml"))
    assert recipes
    for path in recipes:
        assert load_recipe(path).model


def test_defaults_are_the_authors(tmp_path: Path) -> None:
    recipe = load_recipe(_write(tmp_path, "model: asymtrack_t\n"))
    assert (recipe.loss.giou, recipe.loss.l1) == (2.0, 5.0)
    assert (recipe.augment.search_centre, recipe.augment.search_scale) == (3.5, 0.5)
    assert recipe.optim.grad_clip == 0.1


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("model: asymtrack_t\noptim:\n  learning: 1\n", 3, ["optim.learning", "Allowed"]),
        ("model: asymtrack_t\noptim:\n  batchsize: 1\n", 3, ["Did you mean `batch_size`"]),
        ("model: asymtrack_t\noptim:\n  batch_size: many\n", 3, ["optim.batch_size", "'many'"]),
        ("model: asymtrack_t\noptim:\n  batch_size: 2.5\n", 3, ["int", "2.5"]),
        ("model: asymtrack_t\nseed: true\n", 2, ["seed", "True"]),
        ("model: asymtrack_t\noptim:\n  compile: 1\n", 3, ["optim.compile", "bool", "1"]),
        ("model: asymtrack_t\noptim: 3\n", 2, ["optim", "mapping"]),
        ("model: asymtrack_t\noptim:\n  frozen: backbone\n", 3, ["optim.frozen", "list"]),
    ],
)
def test_mistakes_are_named_by_line(tmp_path: Path, text: str, line: int, words: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(_write(tmp_path, text))
    assert f"recipe.yaml:{line}:" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optim:\n  lr: 1e-3\n", ["model"]),
        ("model: asymtrak_t\n", ["asymtrak_t", "asymtrack_t"]),
        ("model: asymtrack_t\noptim:\n  decay: cosine\n", ["cosine", "step, linear"]),
        ("model: asymtrack_t\noptim:\n  batch_size: 0\n", ["batch_size", "greater than 0"]),
        ("model: asymtrack_t\naugment:\n  gray: 1.5\n", ["augment.gray", "1.5"]),
        ("model: asymtrack_t\nloss:\n  giou: -1\n", ["loss.giou", "-1"]),
        (
            "model: asymtrack_t\nsampling: {clip_share: 0, still_share: 0, region_share: 0}\n",
            ["sampling"],
        ),
        ("model: asymtrack_t\noptim:\n  lr: .nan\n", ["optim.lr", "finite"]),
        ("model: asymtrack_t\noptim:\n  samples: 10\n", ["optim.samples", "less than one batch"]),
        (
            "model: asymtrack_t\noptim: {batch_size: 32, accumulate: 5}\n",
            ["`optim.batch_size` 32", "5 equal parts"],
        ),
        ("model: asymtrack_t\noptim:\n  accumulate: 0\n", ["accumulate", "greater than 0"]),
        ("model: procontext\noptim: {compile: true}\npruning: {length: 9}\n", ["compiled anew"]),
        ("model: stark_s50\noptim: {grad_checkpointing: true}\n", ["means nothing for stark_s50"]),
        ("model: asymtrack_t\nsampling:\n  order: random\n", ["random", "any, causal"]),
        ("- 1\n", ["mapping"]),
        ("model: [\n", ["YAML"]),
    ],
)
def test_impossible_values_are_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(_write(tmp_path, text))
    for word in words:
        assert word in str(caught.value)


def test_numbers_as_people_write_them_and_overrides(tmp_path: Path) -> None:
    path = _write(tmp_path, "model: asymtrack_t\noptim:\n  lr: 1e-3\n")
    recipe = load_recipe(path, ["optim.samples=64", "loss.score=0.5"])
    assert recipe.optim.lr == 1e-3
    assert recipe.optim.samples == 64
    assert to_dict(recipe)["loss"]["score"] == 0.5
    with pytest.raises(RecipeError, match=r"section\.key=value"):
        load_recipe(path, ["optim.samples"])
    with pytest.raises(RecipeError, match="not valid YAML"):
        load_recipe(path, ["optim.frozen=["])


def test_missing_file_or_no_text(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"binary\.yaml cannot be read"):
        load_recipe(tmp_path / "binary.yaml")
    with pytest.raises(RecipeError, match=r"nowhere\.yaml"):
        load_recipe(tmp_path / "nowhere.yaml")
