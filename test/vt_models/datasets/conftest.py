# SPDX-License-Identifier: Apache-2.0
"""Miniature datasets in their published layouts, 32 x 24 pixels an image."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, HEIGHT = 32, 24


@pytest.fixture(autouse=True)
def _cache_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def encoded(number: int, suffix: str = ".jpg") -> bytes:
    """An image whose red channel tells its number."""
    frame = np.full((HEIGHT, WIDTH, 3), (128, 128, 10 * (number % 25)), np.uint8)
    done, data = cv2.imencode(suffix, frame)
    assert done
    return data.tobytes()


def palette_png(mask: np.ndarray) -> bytes:
    """An 8-bit palette PNG, as DAVIS has them: its colours are not the indices."""
    height, width = mask.shape
    colours = [(index * 37 % 256, index * 91 % 256, 255 - index) for index in range(256)]
    rows = b"".join(b"\0" + row.tobytes() for row in mask.astype(np.uint8))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"PLTE", bytes(value for colour in colours for value in colour)),
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        )
    )


class Tree:
    """Writes files below a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def text(self, path: str, *lines: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n")
        return file

    def data(self, path: str, content: bytes) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    def frames(self, pattern: str, numbers: range) -> None:
        """Images whose content tells their position, from 0."""
        suffix = pattern[pattern.rindex(".") :]
        for position, number in enumerate(numbers):
            self.data(pattern % number, encoded(position, suffix))

    def archive(self, path: str, pattern: str, numbers: range) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(file, "w") as archive:
            for position, number in enumerate(numbers):
                archive.writestr(pattern % number, encoded(position))

    def json(self, path: str, content: Any) -> Path:
        return self.text(path, json.dumps(content))


def _folder(tree: Tree) -> None:
    tree.frames("car/img/%06d.jpg", range(1, 5))
    tree.text("car/groundtruth.txt", "1,2,3,4", "nan,nan,nan,nan", "3,2,3,4", "4,2,3,4")
    tree.text("car/language.txt", "the red car")


def _lasot(tree: Tree) -> None:
    for name in ("cat-10", "cat-2"):
        tree.frames(f"cat/{name}/img/%08d.jpg", range(1, 5))
        tree.text(f"cat/{name}/groundtruth.txt", "1,2,3,4", "2,2,3,4", "0,0,0,0", "4,2,3,4")
        tree.text(f"cat/{name}/full_occlusion.txt", "0,1,0,0")
        tree.text(f"cat/{name}/out_of_view.txt", "0,0,1,0")
        tree.text(f"cat/{name}/nlp.txt", "a cat on a wall")
    tree.text("annos/att/cat-2.txt", "0,1,0,0,0,1,0,0,1,0,0,0,1,0")
    tree.text("testing_set.txt", "cat-2")
    tree.text("training_set.txt", "cat-10")


def _got10k(tree: Tree) -> None:
    for split, name in (("val", "GOT-10k_Val_000001"), ("test", "GOT-10k_Test_000001")):
        tree.frames(f"{split}/{name}/%08d.jpg", range(1, 5))
        boxes = ["1.5,2,3,4", "2,2,3,4", "3,2,3,4", "4,2,3,4"]
        tree.text(f"{split}/{name}/groundtruth.txt", *boxes[: 1 if split == "test" else 4])
        tree.text(f"{split}/list.txt", name)
    place = "val/GOT-10k_Val_000001"
    tree.text(f"{place}/absence.label", "0", "1", "0", "0")
    tree.text(f"{place}/cover.label", "8", "8", "0", "4")
    tree.text(f"{place}/cut_by_image.label", "0", "0", "0", "1")
    tree.text(f"{place}/meta_info.ini", "[METAINFO]", "object_class: goat", "motion_class: walking")


def _trackingnet(tree: Tree) -> None:
    boxes = ["1,2,3,4", "2,2,3,4", "3,2,3,4", "4,2,3,4"]
    tree.frames("TEST/frames/abc_0/%d.jpg", range(4))
    tree.text("TEST/anno/abc_0.txt", boxes[0])
    tree.frames("TRAIN_0/frames/def_0/%d.jpg", range(4))
    tree.text("TRAIN_0/anno/def_0.txt", *boxes)
    tree.archive("TRAIN_10/zips/ghi_1.zip", "%d.jpg", range(12))
    tree.text("TRAIN_10/anno/ghi_1.txt", *boxes, *boxes, *boxes)


def _tnl2k(tree: Tree) -> None:
    for folder, name in (
        ("TNL2K_test_subset", "Ant_video_01"),
        ("TNL2K_train_subset/TNL2K_train_subset_p1", "Bee_video_01"),
    ):
        tree.frames(f"{folder}/{name}/imgs/shot_%d.png", range(8, 12))
        tree.text(f"{folder}/{name}/groundtruth.txt", "1,2,3,4", "2,2,3,4", "0,0,0,0", "4,2,3,4")
        tree.text(f"{folder}/{name}/language.txt", "the ant that carries a leaf")


def _otb(tree: Tree) -> None:
    tree.frames("Couple/img/%04d.jpg", range(1, 5))
    tree.text("Couple/groundtruth_rect.txt", "1,2,3,4", "2\t2\t3\t4", "3 2 3 4", "4,2,3,4")
    tree.frames("Jogging/img/%04d.jpg", range(1, 5))
    tree.text("Jogging/groundtruth_rect.1.txt", *["1 2 3 4"] * 4)
    tree.text("Jogging/groundtruth_rect.2.txt", *["9 2 3 4"] * 4)
    tree.frames("Human4/img/%04d.jpg", range(1, 5))
    tree.text("Human4/groundtruth_rect.1.txt", "")
    tree.text("Human4/groundtruth_rect.2.txt", *["1 2 3 4"] * 4)
    tree.frames("Football1/img/%04d.jpg", range(1, 77))
    tree.text("Football1/groundtruth_rect.txt", *["1,2,3,4"] * 74)
    tree.frames("David/img/%04d.jpg", range(297, 772))
    tree.text("David/groundtruth_rect.txt", *["1,2,3,4"] * 471)
    tree.text("anno/att/david.txt", "1,0,1,0,0,0,0,0,0,0,0")
    tree.text("anno/att/jogging-1.txt", "0\t0\t0\t1\t0\t0\t0\t0\t0\t0\t1")


def _tc128(tree: Tree) -> None:
    tree.frames("Ball_ce/img/%04d.jpg", range(1, 9))
    tree.text("Ball_ce/Ball_ce_gt.txt", "1,2,3,4", "2,2,3,4", "3,2,3,4", "4,2,3,4")
    tree.text("Ball_ce/Ball_ce_frames.txt", "3,6")
    tree.frames("Bolt/img/%04d.jpg", range(1, 5))
    tree.text("Bolt/Bolt_gt.txt", *["1,2,3,4"] * 4)
    tree.text("Bolt/Bolt_frames.txt", "1,4")


def _uav123(tree: Tree) -> None:
    tree.frames("data_seq/UAV123/bird1/%06d.jpg", range(1, 11))
    tree.frames("data_seq/UAV123/car1_s/%06d.jpg", range(1, 5))
    boxes = ("1,2,3,4", "2,2,3,4", "NaN,NaN,NaN,NaN", "4,2,3,4")
    for name in ("bird1_2", "car1_s"):
        tree.text(f"anno/UAV123/{name}.txt", *boxes)
    tree.text("anno/UAV123/att/bird1_2.txt", "1,0,0,1,0,0,0,0,0,0,0,1")
    tree.text("anno/UAV20L/bird1.txt", *["1,2,3,4"] * 10)
    start = "struct('name','{0}','path','F:\\UAV123\\data_seq\\UAV123\\{1}\\',"
    line = start + "'startFrame',{2},'endFrame',{3},'nz',6,'ext','jpg','init_rect',[0,0,0,0])"
    tree.text(
        "configSeqs.m",
        "function seqs=configSeqs",
        "seqUAV123={" + line.format("bird1_2", "bird1", 5, 8) + ",...",
        line.format("car1_s", "car1_s", 1, 4) + "};",
        "seqUAV20L={" + line.format("bird1", "bird1", 1, 10) + "};",
    )


def _nfs(tree: Tree) -> None:
    lost = {8: "1 0", 16: "0 1"}
    lines = [
        f'0 {frame} 2 {frame + 3} 6 {frame + 1} {lost.get(frame, "0 0")} 0 "ball"'
        for frame in range(32)
    ]
    for rate, count in ((30, 4), (240, 32)):
        tree.frames(f"airboard_1/{rate}/airboard_1/%05d.jpg", range(1, count + 1))
        tree.text(f"airboard_1/{rate}/airboard_1.txt", *lines)


def _vot(tree: Tree) -> None:
    tree.text("list.txt", "ants1", "old")
    tree.frames("ants1/color/%08d.jpg", range(1, 5))
    tree.text("ants1/sequence", "name=ants1", "fps=30", "channels.color=color/%08d.jpg")
    tree.text(
        "ants1/groundtruth.txt",
        "1,2,3,4",
        "2,2,5,3,4,6,1,5",
        "m3,2,4,3,1,2,2,3,1",
        "0",
    )
    tree.text("ants1/occlusion.tag", "0", "1")
    tree.text("ants1/camera_motion.label", "0", "0", "0", "0")
    tree.frames("old/%08d.jpg", range(1, 5))
    tree.text("old/groundtruth.txt", *["1,2,3,4"] * 3, "nan,nan,nan,nan")


def davis_mask(position: int, void: bool = False) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[2:6, 1 + position : 4 + position] = 1
    if position != 2:
        mask[10:20, 20:30] = 2
    if void:
        mask[0, 0] = 255
    return mask


def _davis(tree: Tree) -> None:
    for name in ("bear", "dogs", "hike"):
        tree.frames(f"JPEGImages/480p/{name}/%05d.jpg", range(4))
        for position in range(4):
            mask = davis_mask(position, void=position == 1)
            if name == "bear":
                mask[mask != 1] = 0
            tree.data(f"Annotations/480p/{name}/{position:05d}.png", palette_png(mask))
    tree.text("ImageSets/2017/val.txt", "bear", "dogs")
    tree.text("ImageSets/2017/train.txt", "hike")


def _videos(tree: Tree) -> None:
    """One annotated video of six frames."""
    (tree.root / "videos").mkdir()
    path = str(tree.root / "videos" / "a.mp4")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), 25, (WIDTH, HEIGHT))
    for number in range(6):
        writer.write(np.full((HEIGHT, WIDTH, 3), 10 * number, np.uint8))
    writer.release()
    boxes = [[index + 1.0, 2.0, 12.0, 10.0] for index in range(6)]
    video = {"video": "videos/a.mp4", "width": WIDTH, "height": HEIGHT, "frames": 6, "fps": 25}
    tracks = [{"id": 1, "name": "car", "boxes": boxes}]
    tree.text("annotations.jsonl", json.dumps({**video, "source": "test", "tracks": tracks}))


BUILDERS = {
    "folder": _folder,
    "lasot": _lasot,
    "lasot_ext": _lasot,
    "got10k": _got10k,
    "trackingnet": _trackingnet,
    "tnl2k": _tnl2k,
    "otb": _otb,
    "tc128": _tc128,
    "uav123": _uav123,
    "nfs": _nfs,
    "vot": _vot,
    "davis": _davis,
    "videos": _videos,
}


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """An empty directory to write into."""
    (tmp_path / "data").mkdir()
    return Tree(tmp_path / "data")


@pytest.fixture
def build(tree: Tree) -> Any:
    """Write the miniature of a kind and return its tree."""

    def write(kind: str) -> Tree:
        BUILDERS[kind](tree)
        return tree

    return write
