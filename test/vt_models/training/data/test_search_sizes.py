# SPDX-License-Identifier: Apache-2.0
"""Batches with search crops of a size of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from vt_models import create_model
from vt_models.errors import RecipeError
from vt_models.registry import get_spec
from vt_models.training.data.batches import BatchNumbers, make_loader
from vt_models.training.data.pairs import PairDataset
from vt_models.training.data.targets import ImagePack, Target, load_image_pack
from vt_models.training.distributed import ProcessGroup
from vt_models.training.recipe.loader import load_recipe
from vt_models.training.recipe.settings import Recipe
from vt_models.training.trainer import Trainer, seed_everything

pytestmark = pytest.mark.train

RECIPE = """
model: asymtrack_nano
seed: 3
checkpoint_every: 8
augment: {{search_sizes: {sizes}, search_scale: 0.2, grey: 0, brightness: 0}}
optim: {{samples: 64, batch_size: 4, lr: 1e-3, backbone_lr_factor: 1, grad_clip: 5}}
"""
BOX = (90.0, 60.0, 40.0, 30.0)


def _recipe(folder: Path, sizes: str = "[128, 224]", *overrides: str) -> Recipe:
    path = folder / "sizes.yaml"
    path.write_text(RECIPE.format(sizes=sizes))
    return load_recipe(path, list(overrides))


def _dataset(pack: ImagePack, recipe: Recipe) -> PairDataset:
    return PairDataset(pack, get_spec(recipe.model), recipe)


def _sizes(dataset: PairDataset, numbers: BatchNumbers, workers: int = 0) -> list[int]:
    loader = make_loader(dataset, numbers, workers, pin=False)
    return [int(batch["search"].shape[1]) for batch in loader]


@pytest.fixture(scope="module")
def pack(mini_pack: Path) -> ImagePack:
    return load_image_pack(mini_pack)


@pytest.fixture(scope="module")
def marked() -> ImagePack:
    """A white rectangle on black."""
    image = np.zeros((180, 240, 3), np.uint8)
    x, y, w, h = (int(value) for value in BOX)
    image[y : y + h, x : x + w] = 255
    return ImagePack([image], [Target(0, BOX, "mark", "v")], [])


def test_search_sizes_differ_between_batches(tmp_path: Path, pack: ImagePack) -> None:
    found = _sizes(_dataset(pack, _recipe(tmp_path)), BatchNumbers(0, 400, 4))
    assert set(found) == set(range(128, 225, 16))
    assert set(_sizes(_dataset(pack, _recipe(tmp_path, "[]")), BatchNumbers(0, 8, 4))) == {192}


def test_search_sizes_depend_on_seed_and_batch_alone(tmp_path: Path, pack: ImagePack) -> None:
    dataset = _dataset(pack, _recipe(tmp_path))
    all_of_them = _sizes(dataset, BatchNumbers(0, 64, 4))
    assert _sizes(dataset, BatchNumbers(32, 64, 4), workers=2) == all_of_them[8:], "resumed"
    for rank in range(2):
        shares = BatchNumbers(0, 64, 4, ProcessGroup(rank=rank, size=2), 2)
        assert _sizes(dataset, shares) == [size for size in all_of_them for _ in range(2)]
    other = _dataset(pack, _recipe(tmp_path, "[128, 224]", "seed=4"))
    assert _sizes(other, BatchNumbers(0, 64, 4)) != all_of_them
    # A run whose batch size was changed goes on in the middle of a former batch.
    assert len(_sizes(dataset, BatchNumbers(2, 64, 4))) == 15


def test_search_sizes_leave_other_draws_unchanged(tmp_path: Path, pack: ImagePack) -> None:
    plain, fixed = (_dataset(pack, _recipe(tmp_path, s)) for s in ("[]", "[192, 192]"))
    for number in range(8):
        one, other = plain[number], fixed[number]
        assert all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("size", [96, 128, 224])
def test_search_sizes_label_is_where_the_target_is(
    tmp_path: Path, marked: ImagePack, size: int
) -> None:
    sampling = ["sampling.clip_share=0", "sampling.still_share=1"]
    augment = ["augment.search_centre=3.4", "augment.search_scale=0.05", "augment.aspect=0.2"]
    recipe = _recipe(tmp_path, f"[{size}, {size}]", *sampling, *augment)
    dataset = _dataset(marked, recipe)
    sides, centres = [], []
    for number in range(40):
        sample: Any = dataset[number]
        crop, (cx, cy, w, h) = sample["search"], sample["box"] * size
        assert crop.shape == (size, size, 3)
        sides.append(np.sqrt(w * h))
        centres.append((cx, cy))
        low = np.clip([cx - w / 2, cy - h / 2], 0, size)
        high = np.clip([cx + w / 2, cy + h / 2], 0, size)
        x, y, wide, high_ = cv2.boundingRect((crop[..., 0] > 127).astype(np.uint8))
        assert np.abs(np.array([x, y]) - low).max() < 1.6
        assert np.abs(np.array([x + wide, y + high_]) - high).max() < 1.6
    assert 58 < np.median(sides) < 70, "64 pixels at any size"
    assert 0.02 * size < np.min(centres) < 0.2 * size, "shifts reach the edge"
    assert 0.8 * size < np.max(centres) < 0.98 * size


def test_trainer_with_search_sizes_resumes_with_the_same_numbers(
    tmp_path: Path, pack: ImagePack
) -> None:
    def trainer(folder: str) -> Trainer:
        (tmp_path / folder).mkdir(exist_ok=True)
        recipe = _recipe(tmp_path, "[128, 224]", "optim.samples=16")
        seed_everything(recipe.seed)
        net = create_model(recipe.model)
        return Trainer(net, recipe, pack, tmp_path / folder, torch.device("cpu"))

    straight = trainer("straight")
    straight.run()
    stopped = trainer("stopped")
    seen = 0

    def step(parts: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == 2:
            stopped.stop()
        return Trainer._step(stopped, parts)

    stopped._step = step  # type: ignore[method-assign]
    stopped.run()
    assert stopped.samples == 8
    resumed = trainer("stopped")
    assert resumed.resume()
    resumed.run()
    states = (straight._net.state_dict(), resumed._net.state_dict())
    for (name, one), other in zip(states[0].items(), states[1].values(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize(
    ("model", "sizes", "message"),
    [
        ("asymtrack_t", "[128, 224]", r"means nothing for asymtrack_t: .*256 pixels wide, always"),
        ("asymtrack_nano", "[128]", r"smallest and the largest side.*but is \[128\]"),
        ("asymtrack_nano", "[224, 128]", r"smallest and the largest side"),
        ("asymtrack_nano", "[120, 224]", r"expected a multiple of 16 from 96"),
        ("asymtrack_nano", "[128, 200]", r"expected a multiple of 16 from 96"),
        ("asymtrack_nano", "[64, 128]", r"a search crop of 64 pixels; .*from 96 to 1024"),
        ("asymtrack_nano", "[128, 2048]", r"a search crop of 2048 pixels; .*from 96 to 1024"),
        ("asymtrack_nano", "[wide, 128]", r"must be a int"),
        ("asymtrack_nano", "128", r"must be a list of whole numbers, not 128"),
    ],
)
def test_search_sizes_impossible_ones_are_refused(
    tmp_path: Path, model: str, sizes: str, message: str
) -> None:
    overrides = [f"model={model}", f"augment.search_sizes={sizes}"]
    with pytest.raises(RecipeError, match=f"augment.search_sizes.*{message}"):
        _recipe(tmp_path, "[]", *overrides)
