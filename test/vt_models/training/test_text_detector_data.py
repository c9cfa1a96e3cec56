# SPDX-License-Identifier: Apache-2.0
"""What every place of a image should say."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from vt_models.nets.text_detector import STRIDES, centres
from vt_models.training.data.targets import Annotated, ImagePack
from vt_models.training.text_detector_data import (
    BACKGROUND,
    CENTRE_RADIUS,
    SIZES_PX,
    DetectionDataset,
    Objects,
    assign,
)

pytestmark = pytest.mark.train

SIZE = 128


def objects(*rows: tuple[float, float, float, float, int, bool]) -> Objects:
    return Objects(
        np.array([row[:4] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[4] for row in rows], np.int64),
        np.array([row[5] for row in rows], np.bool_),
    )


def places() -> tuple[np.ndarray, np.ndarray]:
    """(P, 2) positions and (P,) levels."""
    rows = [np.stack([axis.numpy() for axis in centres(n, (SIZE, SIZE))], -1) for n in range(3)]
    return np.concatenate(rows), np.repeat(range(3), [len(row) for row in rows])


def test_places_near_the_middle_belong_to_an_object_at_its_level() -> None:
    said = assign(objects((40.0, 40.0, 72.0, 72.0, 5, False)), SIZE)
    where, level = places()
    own = said["name"] == 5
    assert own.any()
    assert set(level[own]) == {0}
    assert (np.abs(where[own] - 56.0).max(1) < CENTRE_RADIUS * STRIDES[0]).all()
    np.testing.assert_allclose(said["box"][own], [[56 / 128, 56 / 128, 0.25, 0.25]] * own.sum())
    assert (said["name"][~own] == BACKGROUND).all()
    assert (said["doubtful"] == BACKGROUND).all()


@pytest.mark.parametrize("side", [7.0, 8.0, 24.0, 48.0, 64.0, 90.0, 110.0, 128.0])
def test_assign_every_size_has_a_level(side: float) -> None:
    low = (SIZE - side) / 2
    said = assign(objects((low, low, low + side, low + side, 0, False)), SIZE)
    _, level = places()
    wanted = {n for n, (least, most) in enumerate(SIZES_PX) if least <= side < most}
    assert set(level[said["name"] == 0]) == wanted
    assert wanted


def test_the_smaller_of_two_objects_gets_the_place() -> None:
    said = assign(
        objects((20.0, 20.0, 70.0, 70.0, 1, False), (35.0, 35.0, 55.0, 55.0, 2, False)), SIZE
    )
    where, level = places()
    middle = (np.abs(where - 45.0).max(1) < 5) & (level == 0)
    assert middle.any()
    assert (said["name"][middle] == 2).all()


def test_doubtful_objects_are_no_targets_and_no_background() -> None:
    said = assign(objects((40.0, 40.0, 72.0, 72.0, 3, True)), SIZE)
    where, _ = places()
    inside = ((where > 40) & (where < 72)).all(1)
    assert (said["name"] == BACKGROUND).all()
    assert (said["doubtful"][inside] == 3).all()
    assert (said["doubtful"][~inside] == BACKGROUND).all()


def test_assign_without_objects_is_background() -> None:
    said = assign(objects(), SIZE)
    assert (said["name"] == BACKGROUND).all()
    assert said["box"].shape == (len(places()[0]), 4)


@pytest.fixture
def pack() -> ImagePack:
    """A red square and a green one, in images of two groups; and a frame of a video."""
    image = np.full((90, 160, 3), 60, np.uint8)
    image[30:60, 20:50], image[20:70, 90:140] = (255, 0, 0), (0, 255, 0)
    square, green = (20.0, 30.0, 30.0, 30.0), (90.0, 20.0, 50.0, 50.0)
    return ImagePack(
        [image, image, image],
        [],
        [],
        [
            Annotated(0, "both", (("car", square), ("tvmonitor", green), ("", green))),
            Annotated(1, "one", (("car", square),)),
            Annotated(2, "clip", (("dog", green),), is_video=True),
            Annotated(2, "clip", (("car", square),), is_video=True),
        ],
    )


def test_boxes_lie_on_what_they_name(pack: ImagePack) -> None:
    data = DetectionDataset(pack, SIZE, seed=3)
    assert data.names == ("car", "tv")
    assert len(data) == 3, "no still image shows a dog"
    seen = set()
    for number in range(40):
        sample = data[number]
        for name, channel in (("car", 0), ("tv", 1)):
            for place in np.flatnonzero(sample["name"] == data.names.index(name)):
                cx, cy, _, _ = sample["box"][place] * SIZE
                colour = sample["image"][min(int(cy), SIZE - 1), min(int(cx), SIZE - 1)]
                assert colour.argmax() == channel
                assert colour[channel] > 150
                seen.add(name)
    assert seen == {"car", "tv"}


def test_known_names_are_those_of_the_group(pack: ImagePack) -> None:
    data = DetectionDataset(pack, SIZE, seed=3)
    known = {tuple(data[number]["known"].tolist()) for number in range(40)}
    assert known == {(True, True), (True, False)}


def test_video_frame_knows_no_absent_names(pack: ImagePack) -> None:
    data = DetectionDataset(pack, SIZE, seed=3)
    frames = 0
    for number in range(60):
        said = data[number]
        if tuple(said["known"]) == (True, False) and (said["doubtful"] == 0).sum() > 200:
            frames += 1
            assert ((said["doubtful"] == 0) | (said["name"] == 0)).all()
    assert 3 <= frames <= 20


def test_sample_of_a_number_is_repeatable(pack: ImagePack) -> None:
    first, second = (
        DetectionDataset(pack, SIZE, seed=3)[11],
        DetectionDataset(pack, SIZE, seed=3)[11],
    )
    assert all(np.array_equal(first[key], second[key]) for key in first)
    other = DetectionDataset(pack, SIZE, seed=4)[11]
    assert not np.array_equal(first["image"], other["image"])


def test_held_out_images_are_not_drawn(pack: ImagePack) -> None:
    data = DetectionDataset(pack, SIZE, seed=3, hold_out=2)
    assert data.names == ("car", "tv"), "the second still image is the one that is left out"
    assert len(data) == 2
    assert len(DetectionDataset(pack, SIZE, seed=3, hold_out=3)) == 3
