# SPDX-License-Identifier: Apache-2.0
"""COCO: objects, captions, what is left out, and how damage is named."""

from __future__ import annotations

import pickle

import pytest

from vt_models.datasets import open_images
from vt_models.datasets.cache import user_cache
from vt_models.errors import DatasetError


def box(identity, image, bbox, category=18, iscrowd=0):
    return {
        "id": identity,
        "image_id": image,
        "category_id": category,
        "bbox": bbox,
        "iscrowd": iscrowd,
        "area": 1,
    }


@pytest.fixture
def coco(tree):
    """Three images with objects; the ids of categories have gaps, as the real ones do."""
    images = [
        {"id": identity, "file_name": f"{identity:012d}.jpg", "width": 32, "height": 24}
        for identity in (42, 9, 25, 30)
    ]
    tree.frames("train2017/%012d.jpg", range(9, 10))
    tree.frames("train2017/%012d.jpg", range(42, 43))
    tree.frames("train2017/%012d.jpg", range(25, 26))
    content = {
        "images": images,
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
        "annotations": [
            box(1, 42, [1, 2, 3.5, 4]),
            box(2, 9, [5, 6, 7, 8], category=1),
            box(3, 42, [2, 3, 4, 5], category=1),
            box(4, 42, [0, 0, 30, 20], iscrowd=1),
            box(5, 25, [1, 1, 0, 4]),
            box(6, 30, [1, 1, 2, -1]),
        ],
    }
    captions = [
        {"id": 1, "image_id": 42, "caption": "A dog and a man. "},
        {"id": 2, "image_id": 42, "caption": "Two friends"},
        {"id": 3, "image_id": 25, "caption": "Nothing"},
    ]
    tree.json("annotations/instances_train2017.json", content)
    tree.json("annotations/captions_train2017.json", {"images": images, "annotations": captions})
    tree.content = content
    return tree


def test_reads_objects_and_captions(coco):
    images = open_images("coco", coco.root)
    assert len(images) == 2
    first, second = images
    assert (first.path.name, second.path.name) == ("000000000009.jpg", "000000000042.jpg")
    assert (first.boxes.tolist(), first.names, first.captions) == ([[5, 6, 7, 8]], ("person",), ())
    assert second.boxes.tolist() == [[1, 2, 3.5, 4], [2, 3, 4, 5]]
    assert second.names == ("dog", "person")
    assert second.captions == ("A dog and a man.", "Two friends")
    assert second.read().shape == (24, 32, 3)
    assert images[-1].path == images[1:][0].path == second.path
    with pytest.raises(IndexError):
        images[2]


def test_the_cache_holds_the_same_and_notices_changes(coco, monkeypatch):
    fresh = open_images("coco", coco.root, cache=False)
    assert not user_cache().exists()
    open_images("coco", coco.root)
    with monkeypatch.context() as patch:
        patch.setattr("vt_models.datasets.coco._load", lambda path: pytest.fail("read again"))
        again = open_images("coco", coco.root)
    for one, other in zip(fresh, pickle.loads(pickle.dumps(again)), strict=True):
        assert one.boxes.tolist() == other.boxes.tolist()
        assert (one.path, one.names, one.captions) == (other.path, other.names, other.captions)
    coco.content["annotations"].pop(0)
    coco.json("annotations/instances_train2017.json", coco.content)
    assert len(open_images("coco", coco.root)[1].boxes) == 1


def test_captions_may_be_missing(coco):
    (coco.root / "annotations/captions_train2017.json").unlink()
    assert [image.captions for image in open_images("coco", coco.root)] == [(), ()]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"image_id": 7}, r"annotations\[1\].*no image 7"),
        ({"category_id": 2}, r"annotations\[1\].*no category 2"),
        ({"bbox": [1, 2, 3]}, r"annotations\[1\].*four finite numbers"),
        ({"bbox": [1, 2, float("nan"), 4]}, r"annotations\[1\].*four finite numbers"),
        ({"bbox": "x"}, r"annotations\[1\].*not a usable entry"),
        ({"bbox": None}, r"annotations\[1\].*not a usable entry"),
    ],
)
def test_a_broken_annotation_is_named(coco, broken, message):
    coco.content["annotations"][1].update(broken)
    coco.json("annotations/instances_train2017.json", coco.content)
    with pytest.raises(DatasetError, match=r"instances_train2017\.json: " + message):
        open_images("coco", coco.root)


def test_broken_files_are_named(coco):
    path = coco.root / "annotations/instances_train2017.json"
    path.write_text('{"images": [],\n "annotations": [}')
    with pytest.raises(DatasetError, match=r"instances_train2017\.json: not JSON.*line 2"):
        open_images("coco", coco.root)
    path.write_text("[]")
    with pytest.raises(DatasetError, match="a list; expected an object"):
        open_images("coco", coco.root)
    path.write_text("{}")
    with pytest.raises(DatasetError, match="no list 'images' in it"):
        open_images("coco", coco.root)
    path.unlink()
    with pytest.raises(DatasetError, match=r"no such file; unpack annotations_trainval2017\.zip"):
        open_images("coco", coco.root)


def test_images_of_another_size_and_missing_ones_are_named(coco):
    coco.content["images"][1]["width"] = 33
    coco.json("annotations/instances_train2017.json", coco.content)
    image = open_images("coco", coco.root)[0]
    with pytest.raises(DatasetError, match=r"000000000009\.jpg: 32 x 24 pixels; .* 33 x 24"):
        image.read()
    image.path.unlink()
    with pytest.raises(DatasetError, match=r"000000000009\.jpg: cannot be read"):
        image.read()


def test_unknown_kinds_and_splits_are_named(coco):
    with pytest.raises(DatasetError, match="'train2099'; expected one of train2017"):
        open_images("coco", coco.root, split="train2099")
    with pytest.raises(DatasetError, match="'vhs'; expected one of coco"):
        open_images("vhs", coco.root)
