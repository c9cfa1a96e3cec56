# SPDX-License-Identifier: Apache-2.0
"""Views in which a text alone says what to find: the text fits one thing there, or nothing."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="needs the training packages")
pytest.importorskip("tokenizers", reason="needs the library tokenizers")

from pathlib import Path

from vt_models.registry import get_spec
from vt_models.text import Tokenizer
from vt_models.training.data.augmentation import View, box_in_view
from vt_models.training.data.pairs import PairDataset
from vt_models.training.data.targets import Annotated, ImagePack, Target, load_image_pack
from vt_models.training.data.text_queries import (
    NamedObjects,
    TextQuery,
    share_inside,
    window_around,
)
from vt_models.training.recipe.settings import AugmentConfig, Recipe, SamplingConfig

SPEC = get_spec("pjvlt_tiny")
SIZE = 200
DOG, RIVAL, CAT = (20.0, 20.0, 30.0, 30.0), (150.0, 20.0, 30.0, 30.0), (20.0, 140.0, 40.0, 30.0)


@pytest.fixture
def pack() -> ImagePack:
    """Two still images with a dog each: one with a second dog and a cat, one with a car."""
    image = np.full((SIZE, SIZE, 3), 90, np.uint8)
    scenes = [
        (("dog", DOG), ("dog", RIVAL), ("cat", CAT)),
        (("dog", DOG), ("car", CAT)),
    ]
    return ImagePack(
        [image, image],
        [
            Target(number, box, name, f"{number}")
            for number, objects in enumerate(scenes)
            for name, box in objects
        ],
        [],
        [Annotated(number, "all", objects) for number, objects in enumerate(scenes)],
    )


def test_named_objects_text_fits_one_object_of_the_view_or_none(pack: ImagePack) -> None:
    dataset = PairDataset(pack, SPEC, recipe(template_dropout=1.0))
    names = {word: text for text in ("dog", "cat", "car") for word in ids_of(text)}
    drawn: Counter[tuple[str, bool]] = Counter()
    for number in range(200):
        sample = dataset[number]
        (text,) = {names[i] for i in sample["text_ids"].tolist() if i in names}
        drawn[text, bool(sample["present"])] += 1
    assert all(drawn[text, present] > 5 for text in ("dog", "cat") for present in (True, False))


def test_is_clear_two_of_the_name_in_view_is_false(pack: ImagePack) -> None:
    named = NamedObjects(pack.sources)
    dog = pack.stills[0]
    both = View((100.0, 60.0), 190.0)
    one = View((40.0, 60.0), 90.0)
    assert not named.is_clear(TextQuery(dog, "dog", present=True), both)
    assert named.is_clear(TextQuery(dog, "dog", present=True), one)
    assert not named.is_clear(TextQuery(dog, "dog", present=False), one)
    assert named.is_clear(TextQuery(dog, "cat", present=False), one)
    assert not named.is_clear(TextQuery(dog, "cat", present=False), View((60.0, 100.0), 190.0))


def test_absent_query_is_annotated_in_the_group(pack: ImagePack) -> None:
    """In the images of a group only what is named somewhere in the group can be absent."""
    groups = ("dogs and cats", "dogs and cars")
    apart = [Annotated(a.image, g, a.objects) for a, g in zip(pack.annotated, groups, strict=True)]
    named = NamedObjects(ImagePack(pack.images, pack.stills, [], apart).sources)
    rng = np.random.default_rng(0)
    wanted = [named.draw(rng) for _ in range(400)]
    absent = {(w.target.image, w.text) for w in wanted if not w.present}
    assert {(0, "dog"), (0, "cat"), (1, "dog"), (1, "car")} >= absent
    assert len(absent) == 4
    assert all(w.text == w.target.name for w in wanted if w.present)


def test_sample_without_template_shows_the_mean_colour(mini_pack: Path) -> None:
    data = load_image_pack(mini_pack)
    mean = np.round(255 * np.array(SPEC.mean)).astype(np.uint8)
    dataset = PairDataset(data, SPEC, recipe(template_dropout=0.5))
    blank = []
    for number in range(60):
        sample = dataset[number]
        blank.append(bool((sample["template"] == mean).all()))
        assert sample["text_mask"].any() or not blank[-1], "something must say what to find"
    assert 15 < sum(blank) < 45
    again = dataset[7]
    assert all(np.array_equal(again[name], value) for name, value in dataset[7].items())


def test_dataset_pack_without_names_gives_pairs_with_templates(pack: ImagePack) -> None:
    stills = [Target(t.image, t.box, "", t.scene) for t in pack.stills]
    nameless = ImagePack(pack.images, stills, [])
    sample = PairDataset(nameless, SPEC, recipe(template_dropout=1.0))[0]
    assert not sample["text_mask"].any()


@given(
    box=st.tuples(*[st.floats(0, 150)] * 2, *[st.floats(14, 150)] * 2),
    shape=st.tuples(st.integers(60, 400), st.integers(60, 400)),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=200)
def test_window_around_is_in_the_image_or_around_it(
    box: tuple[float, float, float, float], shape: tuple[int, int], seed: int
) -> None:
    height, width = shape
    x, y, w, h = box
    box = (min(x, width - 1.0), min(y, height - 1.0), w, h)
    view = window_around(box, (height, width, 3), False, 0.0, np.random.default_rng(seed))
    for middle, length in zip(view.centre, (width, height), strict=True):
        low, high = middle - view.side / 2, middle + view.side / 2
        assert (low >= -1e-6 and high <= length + 1e-6) or (low <= 1e-6 and high >= length - 1e-6)
    _, _, part_w, part_h = box_in_view(box, view)
    assert 0.13 < np.sqrt(part_w * part_h) < 0.61


def test_share_inside_equals_the_clipped_area() -> None:
    view = View((50.0, 50.0), 100.0)
    assert share_inside((10.0, 10.0, 20.0, 20.0), view) == pytest.approx(1.0)
    assert share_inside((90.0, 40.0, 20.0, 20.0), view) == pytest.approx(0.5)
    assert share_inside((90.0, 90.0, 20.0, 20.0), view) == pytest.approx(0.25)
    assert share_inside((120.0, 40.0, 20.0, 20.0), view) == 0.0


def recipe(template_dropout: float) -> Recipe:
    sampling = SamplingConfig(0.5, 0.3, 0.2, text_dropout=0.3, template_dropout=template_dropout)
    return Recipe("pjvlt_tiny", sampling=sampling, augment=AugmentConfig())


def ids_of(text: str) -> set[int]:
    """Word pieces of a class name and of its other names; of no other class."""
    others = {"car": "automobile vehicle", "dog": "", "cat": ""}
    ids, mask = Tokenizer.uncased(40)(f"{text} {others[text]}".strip())
    return set(ids[mask][1:-1].tolist())
