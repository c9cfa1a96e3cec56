# SPDX-License-Identifier: Apache-2.0
"""What finds things without anything to install: the bundled detector, on real images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from vt_models.datasets.folder import FolderDataset
from vt_models.datasets.images import read_image
from vt_models.errors import InputError
from vt_models.geometry.boxes import iou
from vt_models.grounding import Grounder, GroundingSettings, create_grounder
from vt_models.grounding.confusion import cases, judge
from vt_models.grounding.export_directory import BUNDLED, read_detector
from vt_models.grounding.onnx_detector import open_detector
from vt_models.grounding.point import thing_at

pytest.importorskip("tokenizers", reason="needs the library tokenizers")

if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES = 12_000_000


@pytest.fixture(scope="module")
def grounder() -> Grounder:
    return create_grounder("onnx")


def test_bundled_detector_is_small_and_lists_its_names() -> None:
    exported = read_detector(BUNDLED)
    assert exported.names_only
    assert len(exported.names) == 82
    assert sum(len(data) for data in exported.files.values()) < MOST_BYTES
    assert (BUNDLED / "MODEL_CARD.md").is_file()


@pytest.mark.parametrize(
    ("sequence", "text"),
    [
        ("otb_Crossing", "the person in dark clothes"),
        ("tlp_Bike", "the person"),
        ("tld_car", "the white car on the road"),
    ],
)
def test_bundled_detector_finds_objects_by_name(
    grounder: Grounder, shared_dir: Path, sequence: str, text: str
) -> None:
    chosen = next(item for item in FolderDataset(shared_dir / "sequences") if item.name == sequence)
    found = grounder.find(chosen.read_frame(0), text)
    assert found.status == "found", found.reason
    assert found.chosen is not None
    assert float(iou(found.chosen.box, chosen.boxes[0])) > 0.5


@pytest.mark.parametrize(
    "text",
    [
        *("asdf", "hello", "test", "[SEP] [CLS]", "lorem ipsum dolor sit amet", "happiness"),
        *("1234", "😀😀", "the the the", "of and but", "{}1", "null", "x", "the wug on the left"),
        *("excavator", "the head of the surfer"),
    ],
)
def test_bundled_detector_refuses_what_it_has_not_learnt(grounder: Grounder, text: str) -> None:
    """The network itself finds something for most of these, with scores like those of a car."""
    frame = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    with pytest.raises(InputError, match=r"describes nothing|does not know what"):
        grounder.find(frame, text)


@pytest.mark.parametrize(
    "text",
    [
        *("the left", "a red one", "the police car", "two dogs", "puppy", "the women", "buses"),
        *("a taxi", "the surfer riding the wave", "Sports Ball", "something on the road"),
        *("the parking meter", "the diningtable", "tvmonitor"),
    ],
)
def test_bundled_detector_takes_other_words_for_what_it_has_learnt(
    grounder: Grounder, text: str
) -> None:
    assert grounder.find(np.zeros((120, 160, 3), np.uint8), text).backend == "onnx"


@pytest.mark.parametrize("sequence", ["davis_car-roundabout", "otb_Jogging1", "uav123_person11"])
def test_bundled_detector_finds_objects_at_a_point(shared_dir: Path, sequence: str) -> None:
    chosen = next(item for item in FolderDataset(shared_dir / "sequences") if item.name == sequence)
    frame, box = chosen.read_frame(0), chosen.boxes[0]
    x, y, w, h = (float(value) for value in box)
    found = thing_at(open_detector(None, "cpu", 1), frame, (x + w / 2, y + h / 2), lambda: False)
    assert found is not None
    assert float(iou(found.box, box)) > 0.5


@pytest.mark.parametrize("frame", ["black", "noise"])
def test_bundled_detector_finds_nothing_in_an_empty_image(grounder: Grounder, frame: str) -> None:
    image: Any = np.zeros((240, 320, 3), np.uint8)
    if frame == "noise":
        image = np.random.default_rng(0).integers(0, 256, image.shape, dtype=np.uint8)
    for text in ("the dog", "the red car on the left"):
        assert grounder.find(image, text).status == "nothing"


def test_bundled_detector_is_deterministic(grounder: Grounder) -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    first, second = (grounder.find(image, "the dog") for _ in range(2))
    assert first.best == second.best


@pytest.mark.integration
def test_it_tells_animals_and_cars_apart_in_images_that_it_never_saw(
    grounder: Grounder, shared_dir: Path
) -> None:
    """63 of 77 when it was exported; chance finds the other thing of an image as often."""
    wanted = {"the dog", "the cat", "the horse", "the car"}
    chosen = [
        case
        for case in cases(shared_dir / "train_pack", every=12)
        if case.kind == "alone" and case.text in wanted
    ]
    assert len(chosen) > 50
    right = [judge(grounder, case).precise for case in chosen]
    assert np.mean(right) > 0.7


@pytest.mark.integration
def test_pjvlt_tiny_grounds_texts_with_bundled_weights(shared_dir: Path) -> None:
    """Backend `pjvlt`: worse than the detector above, and far better than chance.

    Of 16 images, which it never saw, 13 boxes were right when it was exported, and 14 times the
    thing's own name gave a higher score than another one; half of them are enough here.
    """
    names = ("the dog", "the cat", "the horse", "the car")
    chosen = [
        case
        for case in cases(shared_dir / "train_pack", every=12)
        if case.kind == "alone" and case.text in names
    ][::10]
    reader = create_grounder("pjvlt", settings=GroundingSettings(threshold=0.0))
    right = higher = 0
    for case in chosen:
        frame, other = read_image(case.image), names[(names.index(case.text) + 2) % 4]
        own, wrong = reader.find(frame, case.text).best, reader.find(frame, other).best
        assert own is not None
        assert wrong is not None
        right += float(iou(own.box, case.box)) > 0.5
        higher += own.score > wrong.score
    assert len(chosen) == 8
    assert right >= 5
    assert higher >= 6


def test_bundled_detector_can_be_asked_for_each_of_its_names(grounder: Grounder) -> None:
    grey = np.zeros((32, 32, 3), np.uint8)
    found = {name: grounder.find(grey, f"the {name}") for name in read_detector(BUNDLED).names}
    assert len(found) > 80
    with pytest.raises(InputError, match="does not know what 'xyzzy' is"):
        grounder.find(grey, "the xyzzy")
