# SPDX-License-Identifier: Apache-2.0
"""Recipes are refused before the first batch, with file, line and remedy."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the training packages")

from vt_models.errors import RecipeError
from vt_models.settings import read_section
from vt_models.training.recipe.loader import load_recipe
from vt_models.training.recipe.settings import to_dict


def _write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_every_recipe_of_the_project_loads(repository: Path) -> None:
    recipes = sorted((repository / "recipes").glob("*.yaml"))
    assert recipes
    for path in recipes:
        assert load_recipe(path).model


def test_recipe_defaults_are_as_published(tmp_path: Path) -> None:
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
        (f"model: asymtrack_t\noptim:\n  lr: {'9' * 400}\n", 3, ["optim.lr", "float", "..."]),
        ("model: asymtrack_t\noptim:\n  compile: 1\n", 3, ["optim.compile", "bool", "1"]),
        ("model: asymtrack_t\noptim: 3\n", 2, ["optim", "mapping"]),
        ("model: asymtrack_t\noptim:\n  frozen: backbone\n", 3, ["optim.frozen", "list"]),
        ("model: asymtrack_t\noptim:\n  frozen: [3]\n", 3, ["optim.frozen[0]", "3"]),
        ("model: asymtrack_t\nseed: 1\nseed: 2\n", 3, ["`seed` is there twice (line 2)"]),
        (
            "model: asymtrack_t\noptim:\n  lr: 1\n  ema: 0\n  lr: 2\n",
            5,
            ["`optim.lr` is there twice (line 3)"],
        ),
        ("model: asymtrack_t\nsources:\n  kind: pack\n", 2, ["sources", "list of mappings"]),
        ("model: asymtrack_t\nsources:\n- kind: pack\n- lasot\n", 4, ["sources[1]", "mapping"]),
        (
            "model: asymtrack_t\nsources:\n- kind: pack\n  weigth: 2\n",
            4,
            ["sources[0].weigth", "Did you mean `weight`", "max_gap"],
        ),
        (
            "model: asymtrack_t\nsources:\n- kind: pack\n  in_memory: 1\n",
            4,
            ["sources[0].in_memory", "bool", "1"],
        ),
    ],
)
def test_mistakes_are_named_by_line(tmp_path: Path, text: str, line: int, words: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(_write(tmp_path, text))
    assert f"recipe.yaml:{line}:" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("model: asymtrak_t\n", 1, ["asymtrak_t", "asymtrack_t"]),
        ("model: asymtrack_t\noptim:\n  decay: cosine\n", 3, ["cosine", "step, linear"]),
        ("model: asymtrack_t\noptim:\n  batch_size: 0\n", 3, ["batch_size", "greater than 0"]),
        ("model: asymtrack_t\naugment:\n  grey: 1.5\n", 3, ["augment.grey", "1.5"]),
        ("model: asymtrack_t\nloss:\n  giou: -1\n", 3, ["loss.giou", "-1"]),
        (
            "model: asymtrack_t\nsampling: {clip_share: 0, still_share: 0, region_share: 0}\n",
            2,
            ["all shares"],
        ),
        ("model: asymtrack_t\noptim:\n  lr: .nan\n", 3, ["optim.lr", "finite"]),
        (
            "model: asymtrack_t\noptim:\n  samples: 10\n",
            3,
            ["optim.samples", "less than one batch"],
        ),
        ("model: asymtrack_t\nsampling:\n  order: random\n", 3, ["random", "any, causal"]),
        ("model: asymtrack_t\nsources: []\n", 2, ["sources", "empty"]),
        (
            "model: asymtrack_t\nsources:\n- kind: lasso\n",
            3,
            ["'lasso'", "allowed: pack, images, coco", "lasot"],
        ),
        (
            "model: asymtrack_t\nsources:\n- kind: lasot\n  split: dev\n",
            4,
            ["lasot has no split 'dev'", "test, train, all"],
        ),
        (
            "model: asymtrack_t\nsources:\n- kind: otb\n  split: dev\n",
            4,
            ["otb has no split 'dev'; it has none"],
        ),
        (
            "model: asymtrack_t\nsources:\n- kind: pack\n- kind: pack\n",
            4,
            ["a source `pack` already", "`name`"],
        ),
        (
            "model: asymtrack_t\nsources:\n- {kind: lasot, weight: 0}\n- {kind: coco, weight: 0}\n",
            2,
            ["all weights"],
        ),
        ("model: asymtrack_t\nsources:\n- kind: coco\n  weight: -1\n", 4, ["weight", "0 or more"]),
        ("model: asymtrack_t\nsources:\n- kind: coco\n  max_gap: 3\n", 4, ["coco", "max_gap"]),
        ("model: asymtrack_t\nsources:\n- kind: coco\n  only: a.txt\n", 4, ["coco", "only"]),
        (
            "model: asymtrack_t\nsources:\n- kind: lasot\n  in_memory: false\n",
            4,
            ["lasot", "in_memory"],
        ),
        (
            "model: asymtrack_t\nsampling: {clip_share: 0}\nsources:\n- kind: coco\n- kind: otb\n",
            5,
            ["otb gives no pair", "clip_share"],
        ),
        ("model: asymtrack_t\nsources:\n- kind: coco\n  name: a=b\n", 4, ["a=b", "--data"]),
        ("model: asymtrack_t\noptim:\n  warmup_samples: 60000\n", 3, ["warmup_samples", "all of"]),
        (
            "model: asymtrack_t\noptim:\n  backbone_freeze_samples: 90000\n",
            3,
            ["backbone_freeze_samples", "all of"],
        ),
        (
            "model: asymtrack_t\noptim:\n  decay: linear\n  decay_again: 0.9\n",
            4,
            ["decay_again", "decay: step"],
        ),
        (
            "model: asymtrack_t\noptim:\n  decay_start: 0.8\n  decay_again: 0.7\n",
            4,
            ["decay_again", "second step"],
        ),
        (
            "model: procontext\npruning:\n  start: 50000\n  length: 20000\n",
            2,
            ["pruning", "70000", "never be trained"],
        ),
        (
            "model: asymtrack_t\nsampling:\n  hidden_share: 1\n",
            3,
            ["hidden_share", "negative_share"],
        ),
        ("model: stark_st50\nloss:\n  presence: 1\n", 3, ["presence", "negative_share"]),
        ("model: stark_st50\nloss:\n  matching: 1\n", 3, ["loss.matching", "stark_st50"]),
    ],
)
def test_impossible_values_are_named_by_line(
    tmp_path: Path, text: str, line: int, words: list[str]
) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(_write(tmp_path, text))
    assert f"recipe.yaml:{line}:" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optim:\n  lr: 1e-3\n", ["recipe.yaml", "model"]),
        ("- 1\n", ["recipe.yaml", "mapping"]),
        ("model: [\n", ["recipe.yaml:2", "YAML"]),
        ("base: 3\nmodel: asymtrack_t\n", ["recipe.yaml:1", "name of a recipe"]),
        ("model: asymtrack_t\nbase: nowhere.yaml\n", ["recipe.yaml:2", "nowhere.yaml"]),
        ("model: asymtrack_t\nbase: recipe.yaml\n", ["recipe.yaml:2", "leads back"]),
        (
            f"model: asymtrack_t\nbase: {'9' * 5000}x\n",
            ["recipe.yaml", "names no file", "too long"],
        ),
        ('model: asymtrack_t\nvalidation: "a\\0b"\n', ["recipe.yaml", "names no file"]),
    ],
)
def test_impossible_values_are_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(_write(tmp_path, text))
    for word in words:
        assert word in str(caught.value)


def test_load_recipe_reads_1e_4_and_overrides(tmp_path: Path) -> None:
    path = _write(tmp_path, "model: asymtrack_t\noptim:\n  lr: 1e-3\n")
    recipe = load_recipe(path, ["optim.samples=64", "loss.score=0.5"])
    assert recipe.optim.lr == 1e-3
    assert recipe.optim.samples == 64
    assert to_dict(recipe)["loss"]["score"] == 0.5
    with pytest.raises(RecipeError, match=r"section\.key=value"):
        load_recipe(path, ["optim.samples"])
    with pytest.raises(RecipeError, match="not valid YAML"):
        load_recipe(path, ["optim.frozen=["])


BOMB = "a: &a [x,x]\n" + "".join(f"b{n}: &b{n} [*a,*a]\n" for n in range(40))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, r":2: a recipe does not repeat"),
        ("a: &a\n  b: *a\n", r":2: a recipe does not repeat"),
        ("<<: {base: other.yaml}\n", r":1: a recipe does not repeat"),
        ("[" * 50_000 + "]" * 50_000, r":1: more than 20 levels"),
        ("- x\n" * 30_000, r":19999: more than 20000 entries"),
        ("#" * 300_000, r"expected at most 262,144"),
        ("a: !!python/object/apply:os.system [x]", r":1: not valid YAML: could not determine"),
        ("lr: " + "9" * 5000, "not valid YAML: ValueError"),
        ("lr: 2026-99-99", "not valid YAML: ValueError"),
        ("a: 'secret\n", r":2: not valid YAML: found unexpected end of stream\.$"),
        ("secret: [\x01", r"not valid YAML: special characters are not allowed\.$"),
    ],
    ids=range(11),
)
def test_load_recipe_of_a_stranger_is_refused_in_a_sentence(tmp_path, text, said) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(RecipeError, match=said) as refused:
        load_recipe(path)
    assert "secret" not in str(refused.value)
    assert len(str(refused.value)) < 300 + len(str(path))


def test_load_recipe_does_not_wait_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(RecipeError, match="it is a pipe"):
        load_recipe(tmp_path / "pipe.yaml")


def test_load_recipe_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"binary\.yaml cannot be read"):
        load_recipe(tmp_path / "binary.yaml")
    with pytest.raises(RecipeError, match=r"nowhere\.yaml"):
        load_recipe(tmp_path / "nowhere.yaml")


def test_a_recipe_holds_what_differs_from_its_base(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "deep.yaml").write_text("seed: 5\noptim: {lr: 1e-3, ema: 0.5}\n")
    (tmp_path / "common" / "base.yaml").write_text(
        "base: deep.yaml\nmodel: asymtrack_s\nsources: [{kind: lasot}, {kind: coco}]\n"
        "optim:\n  frozen: [backbone.]\n  ema: 0.9\n"
    )
    text = "base: common/base.yaml\nmodel: asymtrack_t\nsources: [{kind: pack}]\n"
    recipe = load_recipe(_write(tmp_path, f"{text}optim: {{frozen: []}}\n"))
    assert (recipe.model, recipe.seed) == ("asymtrack_t", 5)
    assert (recipe.optim.lr, recipe.optim.ema, recipe.optim.frozen) == (1e-3, 0.9, ())
    assert [source.kind for source in recipe.sources] == ["pack"]


def test_validation_list_is_seen_from_the_recipe_and_with_set_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes" / "base").mkdir(parents=True)
    (tmp_path / "recipes" / "base" / "pack.yaml").write_text("validation: ../list.tsv\n")
    (tmp_path / "recipes" / "one.yaml").write_text("base: base/pack.yaml\nmodel: asymtrack_t\n")
    path = Path("recipes", "one.yaml")

    assert load_recipe(path).validation == "recipes/list.tsv"
    assert load_recipe(path, ["validation=../other.tsv"]).validation == "../other.tsv"


def test_validation_list_beside_a_folder_that_is_a_link_is_that_of_its_target(
    tmp_path: Path,
) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "real" / "list.tsv").touch()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    _write(tmp_path / "link", "model: asymtrack_t\nvalidation: ../list.tsv\n")

    listed = Path(load_recipe(tmp_path / "link" / "recipe.yaml").validation)

    assert listed.resolve() == (tmp_path / "real" / "list.tsv").resolve()


def test_a_mistake_in_a_base_is_named_there(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("seed: 5\noptim:\n  learning: 3\n")
    with pytest.raises(RecipeError, match=r"base\.yaml:3: unknown key `optim\.learning`"):
        load_recipe(_write(tmp_path, "base: base.yaml\nmodel: asymtrack_t\n"))
    (tmp_path / "base.yaml").write_text("seed: 5\noptim:\n  batch_size: 64\n")
    with pytest.raises(RecipeError, match=r"recipe\.yaml:4: `optim\.samples` is 8"):
        load_recipe(_write(tmp_path, "base: base.yaml\nmodel: asymtrack_t\noptim:\n  samples: 8\n"))
    (tmp_path / "base.yaml").write_text("base: recipe.yaml\n")
    with pytest.raises(RecipeError, match=r"base\.yaml:1: .* leads back"):
        load_recipe(_write(tmp_path, "base: base.yaml\nmodel: asymtrack_t\n"))


def test_a_mistake_on_the_command_line_is_named_there(tmp_path: Path) -> None:
    path = _write(tmp_path, "model: asymtrack_t\noptim:\n  lr: 1e-3\n")
    with pytest.raises(RecipeError, match=r"--set: `optim\.lr` must be greater than 0"):
        load_recipe(path, ["optim.lr=0"])
    recipe = load_recipe(path, ["sources=[{kind: lasot, root: /data}, {kind: pack}]"])
    assert [source.called for source in recipe.sources] == ["lasot", "pack"]
    assert to_dict(recipe)["sources"][0]["root"] == "/data"


def test_load_recipe_with_an_earlier_key_warns_and_reads_it(tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text("model: asymtrack_t\naugment:\n  gray: 0.25\n")
    with pytest.warns(FutureWarning, match=r"base\.yaml:3: `augment\.gray` is `augment\.grey` now"):
        assert load_recipe(base).augment.grey == 0.25
    above = tmp_path / "above.yaml"
    above.write_text("base: base.yaml\naugment:\n  grey: 0.5\n")
    with pytest.warns(FutureWarning):
        assert load_recipe(above).augment.grey == 0.5
    base.write_text("model: asymtrack_t\n")
    with pytest.warns(FutureWarning, match="--set augment.gray=0.1: `augment.gray`"):
        assert load_recipe(above, ["augment.gray=0.1"]).augment.grey == 0.1
    base.write_text("model: asymtrack_t\naugment:\n  gray: 0.25\n  grey: 0.25\n")
    with pytest.raises(RecipeError, match=r"base\.yaml:3: .*there too: remove one"):
        load_recipe(base)
    base.write_text("model: asymtrack_t\naugment:\n  gray: 2\n")
    with pytest.warns(FutureWarning), pytest.raises(RecipeError, match=r":3: `augment\.grey` is a"):
        load_recipe(base)


@pytest.mark.parametrize(
    ("net", "said"),
    [
        ("{etmm: []}", r"recipe\.yaml:2: unknown key `net\.etmm`.*Did you mean `etm`"),
        ("\n  ope: [4]", r"recipe\.yaml:2: no asymtrack_t can be built so: .*stages 1, 2, 3"),
        ("\n  ope: 1", r"recipe\.yaml:3: `net\.ope` must be a list of whole numbers, not 1"),
        ("[]", r"recipe\.yaml:2: `net` must be a mapping, not \[\]"),
    ],
)
def test_net_mistakes_are_named_with_their_line(tmp_path: Path, net: str, said: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: asymtrack_t\nnet: {net}\n")
    with pytest.raises(RecipeError, match=said):
        load_recipe(path)


def test_settings_of_a_text_mean_nothing_where_net_reads_none(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("model: pjvlt_tiny\nsampling: {text_dropout: 0.3}\n")
    assert load_recipe(path).spec.language
    with pytest.raises(
        RecipeError, match=r"recipe\.yaml:2: `sampling\.text_dropout` means nothing"
    ):
        load_recipe(path, ["net.fusion.saiel=false"])


def test_a_section_without_a_required_key_is_refused() -> None:
    @dataclasses.dataclass(frozen=True)
    class Rate:
        least: float
        most: float = 1.0

    assert read_section(Rate, {"least": 0.5}, str, RecipeError, "rate.") == Rate(0.5)
    with pytest.raises(RecipeError, match=r"^rate: `rate\.least:` is missing"):
        read_section(Rate, {"most": 2}, str, RecipeError, "rate.")
