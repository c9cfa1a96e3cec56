# SPDX-License-Identifier: Apache-2.0
"""A miniature image pack and miniature datasets, written to disk as real files."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

WIDTH, HEIGHT = 160, 120


def _textured(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    coarse = rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def _scene(rng: np.random.Generator, target: np.ndarray, x: int, y: int) -> np.ndarray:
    image = _textured(rng, HEIGHT, WIDTH) // 3
    image[y : y + target.shape[0], x : x + target.shape[1]] = target
    return image


@pytest.fixture(scope="session")
def mini_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight still images with one object each, and two clips of six frames."""
    root = tmp_path_factory.mktemp("pack")
    rng = np.random.default_rng(0)
    lines = []

    def add(name: str, target: np.ndarray, x: int, y: int, **extra: object) -> None:
        cv2.imwrite(str(root / name), _scene(rng, target, x, y))
        box = [float(x), float(y), float(target.shape[1]), float(target.shape[0])]
        boxes = [{"bbox": box, "name": "thing", "track": 0}]
        lines.append(
            {"image": name, "width": WIDTH, "height": HEIGHT, "boxes": boxes}
            | {"source": "still images"}
            | extra
        )

    for i in range(8):
        add(f"still{i}.png", _textured(rng, 24 + 2 * i, 40 - 2 * i), 20 + 5 * i, 30 + 3 * i)
    for clip in range(2):
        target = _textured(rng, 30, 24)
        for frame in range(6):
            extra = {"video": f"clip{clip}", "frame": frame, "orig_frame": 10 * frame}
            extra["source"] = f"clip{clip}"
            add(f"clip{clip}_{frame}.png", target, 30 + 8 * frame, 40 + 2 * frame, **extra)
    (root / "annotations.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return root


W, H = 24, 30
FRAMES = 8
HIDDEN = (3, 6)
"""Frames in which the target of a LaSOT or GOT-10k video cannot be seen."""


def _jpeg(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def _lines(path: Path, *lines: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(str, lines)) + "\n")


def _video(folder: Path, pattern: str, first: int, seed: int) -> list[str]:
    """Frames of a moving target; returns its boxes."""
    rng = np.random.default_rng(seed)
    target, scene = _textured(rng, H, W), _textured(rng, HEIGHT, WIDTH) // 3
    boxes = []
    for frame in range(FRAMES):
        x, y = 20 + 10 * frame, 40 + 2 * frame
        image = scene.copy()
        image[y : y + H, x : x + W] = target
        _jpeg(folder / (pattern % (first + frame)), image)
        boxes.append(f"{x},{y},{W},{H}")
    return boxes


def _lasot(root: Path) -> Path:
    """Three videos, of which two are for training."""
    hidden = ",".join(str(int(frame in HIDDEN)) for frame in range(FRAMES))
    for seed, name in enumerate(("cat-1", "cat-2", "dog-1")):
        place = root / name.split("-")[0] / name
        _lines(place / "groundtruth.txt", *_video(place / "img", "%08d.jpg", 1, seed))
        _lines(place / "full_occlusion.txt", hidden)
        _lines(place / "out_of_view.txt", ",".join("0" * FRAMES))
        _lines(place / "nlp.txt", f"the {name}")
    _lines(root / "training_set.txt", "cat-1", "dog-1")
    _lines(root / "testing_set.txt", "cat-2")
    return root


def _got10k(root: Path) -> Path:
    """Two videos for training; the second begins with a target that is out of view."""
    names = ["GOT-10k_Train_000001", "GOT-10k_Train_000002"]
    for seed, name in enumerate(names):
        place = root / "train" / name
        gone = HIDDEN if seed == 0 else (0, 1)
        flags = [int(frame in gone) for frame in range(FRAMES)]
        _lines(place / "groundtruth.txt", *_video(place, "%08d.jpg", 1, 10 + seed))
        _lines(place / "absence.label", *flags)
        _lines(place / "cover.label", *(0 if flag else 8 for flag in flags))
        _lines(place / "cut_by_image.label", *([0] * FRAMES))
        words = ("object_class: goat", "motion_class: walking", "major_class: even-toed ungulate")
        _lines(place / "meta_info.ini", "[METAINFO]", *words, "root_class: animal")
    _lines(root / "train" / "list.txt", *names)
    return root


def _trackingnet(root: Path) -> Path:
    """A video in a folder and one in an archive, with their classes."""
    boxes = _video(root / "TRAIN_0" / "frames" / "abc_0", "%d.jpg", 0, 20)
    _lines(root / "TRAIN_0" / "anno" / "abc_0.txt", *boxes)
    boxes = _video(root / "loose", "%d.jpg", 0, 21)
    _lines(root / "TRAIN_1" / "anno" / "def_0.txt", *boxes)
    (root / "TRAIN_1" / "zips").mkdir()
    with zipfile.ZipFile(root / "TRAIN_1" / "zips" / "def_0.zip", "w") as archive:
        for frame in range(FRAMES):
            archive.write(root / "loose" / f"{frame}.jpg", f"{frame}.jpg")
    _lines(root / "classes.txt", "abc_0\tbus", "def_0\tboat")
    return root


def _coco(root: Path) -> Path:
    """Six still images, with a car in each and a dog in the first."""
    rng = np.random.default_rng(30)
    images, objects = [], []
    for number in range(1, 7):
        name = f"{number:012d}.jpg"
        image = _textured(rng, HEIGHT, WIDTH) // 3
        image[30 : 30 + H, 50 : 50 + W] = _textured(rng, H, W)
        _jpeg(root / "train2017" / name, image)
        images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        objects.append({"image_id": number, "category_id": 3, "bbox": [50, 30, W, H]})
    objects.append({"image_id": 1, "category_id": 18, "bbox": [100, 60, 40, 40]})
    objects.append({"image_id": 1, "category_id": 18, "bbox": [0, 0, WIDTH, HEIGHT]})
    objects.append({"image_id": 2, "category_id": 18, "bbox": [9, 9, 3, 30]})
    annotations = [entry | {"id": n, "iscrowd": 0} for n, entry in enumerate(objects)]
    categories = [{"id": 3, "name": "car"}, {"id": 18, "name": "dog"}]
    content = {"images": images, "categories": categories, "annotations": annotations}
    _lines(root / "annotations" / "instances_train2017.json", json.dumps(content))
    return root


@pytest.fixture(scope="session")
def mini_sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Miniature datasets in their published layouts by kind; targets have 24 x 30 pixels."""
    root = tmp_path_factory.mktemp("sets")
    builders = {"lasot": _lasot, "got10k": _got10k, "trackingnet": _trackingnet, "coco": _coco}
    return {kind: build(root / kind) for kind, build in builders.items()}
