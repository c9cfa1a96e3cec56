# SPDX-License-Identifier: Apache-2.0
"""COCO (Lin et al., ECCV 2014): images with boxes of objects, and captions.

ROOT/annotations/instances_train2017.json
                /captions_train2017.json     optional
ROOT/train2017/000000000009.jpg ...
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, overload

import numpy as np
from numpy.typing import NDArray

from vt_models.datasets.cache import IndexCache, user_cache
from vt_models.datasets.images import read_image
from vt_models.datasets.reader import CacheChoice
from vt_models.datasets.text import read_text
from vt_models.errors import DatasetError
from vt_models.files import parse_json

MOST_BYTES = 2**31
"""Of a file of annotations; COCO's largest has 470 MB."""


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """One image and the M objects in it.

    Attributes:
        path: the file.
        width, height: of the image in pixels, as annotated.
        boxes: (M, 4) float64, x, y, w, h in pixels.
        names: M names of classes.
        captions: sentences about the whole image.
    """

    path: Path
    width: int
    height: int
    boxes: NDArray[np.float64]
    names: tuple[str, ...]
    captions: tuple[str, ...] = ()

    def read(self) -> NDArray[np.uint8]:
        """Return the image as (H, W, 3) uint8 RGB.

        Raises:
            DatasetError: an unreadable file, or one of another size than annotated.
        """
        image = read_image(self.path)
        if image.shape[:2] != (self.height, self.width):
            raise DatasetError(
                f"{self.path}: {image.shape[1]} x {image.shape[0]} pixels; its annotation says "
                f"{self.width} x {self.height}: use images and annotations of the same release"
            )
        return image


class CocoImages(Sequence[AnnotatedImage]):
    """The images of a split that have at least one usable object, in the order of their ids.

    Crowds (`iscrowd`) and boxes without area are left out. All annotations are read at once, as
    they are in one file (and remembered, in a form that is a fifth as large); images are read by
    `AnnotatedImage.read`. Holds no open file.
    """

    kind: ClassVar[str] = "coco"
    splits: ClassVar[tuple[str, ...]] = ("train2017", "val2017", "train2014", "val2014")

    def __init__(
        self, root: Path | str, *, split: str | None = None, cache: CacheChoice = True
    ) -> None:
        """Read the annotations of a split (default: "train2017").

        Raises:
            DatasetError: an unknown split, a missing or malformed file; names the file and the
                annotation.
        """
        self.root = Path(root).absolute()
        self.split = split or "train2017"
        if self.split not in self.splits:
            raise DatasetError(
                f"coco has no split {split!r}; expected one of {', '.join(self.splits)}"
            )
        directory = user_cache() if cache is True else Path(cache) if cache else None
        folder = self.root / "annotations"
        self._instances = folder / f"instances_{self.split}.json"
        self._captions = folder / f"captions_{self.split}.json"
        if not self._instances.is_file():
            raise DatasetError(
                f"{self._instances}: no such file; unpack annotations_trainval"
                f"{self.split[-4:]}.zip in {self.root}"
            )
        IndexCache(directory).get(
            f"coco\n{self.root}\n{self.split}",
            [self._instances, self._captions],
            self._read_files,
            self._keep,
        )

    def __len__(self) -> int:
        """Number of images."""
        return len(self._files)

    @overload
    def __getitem__(self, index: int) -> AnnotatedImage: ...

    @overload
    def __getitem__(self, index: slice) -> list[AnnotatedImage]: ...

    def __getitem__(self, index: int | slice) -> AnnotatedImage | list[AnnotatedImage]:
        """The annotations of an image, or those of a slice."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        here = slice(self._starts[number], self._starts[number + 1])
        width, height = (int(value) for value in self._sizes[number])
        return AnnotatedImage(
            self.root / self.split / self._files[number],
            width,
            height,
            self._boxes[here],
            tuple(self._classes[label] for label in self._labels[here]),
            tuple(self._sentences.get(str(number), ())),
        )

    def _keep(self, index: dict[str, Any]) -> None:
        """Arrays instead of objects: a fork shares them without copying."""
        self._classes: tuple[str, ...] = tuple(index["classes"])
        self._files: list[str] = index["files"]
        self._sizes = np.array(index["sizes"], np.int32).reshape(-1, 2)
        self._starts = np.cumsum([0, *index["counts"]])
        self._boxes = np.array(index["boxes"], np.float64).reshape(-1, 4)
        self._boxes.setflags(write=False)
        self._labels = np.array(index["labels"], np.int32)
        self._sentences: dict[str, list[str]] = index["captions"]

    def _read_files(self) -> dict[str, Any]:
        content = _load(self._instances)
        images = _by_id(self._instances, content, "images", ("file_name", "width", "height"))
        classes = _by_id(self._instances, content, "categories", ("name",))
        labels = {identity: number for number, identity in enumerate(classes)}
        found = _objects(self._instances, content, images, labels)
        used = [identity for identity in sorted(images) if found[identity]]
        captions = self._read_captions(images)
        return {
            "classes": [str(entry["name"]) for entry in classes.values()],
            "files": [str(images[identity]["file_name"]) for identity in used],
            "sizes": [[images[i]["width"], images[i]["height"]] for i in used],
            "counts": [len(found[identity]) for identity in used],
            "boxes": [box for identity in used for box, _ in found[identity]],
            "labels": [label for identity in used for _, label in found[identity]],
            "captions": {
                str(number): captions[identity]
                for number, identity in enumerate(used)
                if identity in captions
            },
        }

    def _read_captions(self, images: dict[int, Any]) -> dict[int, list[str]]:
        if not self._captions.is_file():
            return {}
        captions: dict[int, list[str]] = defaultdict(list)
        for number, entry in enumerate(_list(self._captions, _load(self._captions), "annotations")):
            try:
                image, text = entry["image_id"], str(entry["caption"]).strip()
            except (KeyError, TypeError) as error:
                raise _broken(self._captions, "annotations", number, error) from error
            if image not in images:
                raise _broken(self._captions, "annotations", number, f"no image {image}")
            if text:
                captions[image].append(text)
        return dict(captions)


def _objects(
    path: Path, content: dict[str, Any], images: dict[int, Any], labels: dict[int, int]
) -> dict[int, list[tuple[list[float], int]]]:
    """Box and label of every usable object, by the id of its image."""
    found: dict[int, list[tuple[list[float], int]]] = defaultdict(list)
    for number, entry in enumerate(_list(path, content, "annotations")):
        try:
            box = [float(value) for value in entry["bbox"]]
            image, category, is_crowd = entry["image_id"], entry["category_id"], entry["iscrowd"]
        except (KeyError, TypeError, ValueError) as error:
            raise _broken(path, "annotations", number, error) from error
        if len(box) != 4 or not np.isfinite(box).all():
            raise _broken(path, "annotations", number, f"bbox {box}; expected four finite numbers")
        if image not in images or category not in labels:
            raise _broken(
                path, "annotations", number, f"no image {image} or no category {category}"
            )
        if not is_crowd and box[2] > 0 and box[3] > 0:
            found[image].append((box, labels[category]))
    return found


def _load(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(read_text(path, MOST_BYTES))
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: a {type(content).__name__}; expected an object")
    return content


def _list(path: Path, content: dict[str, Any], name: str) -> list[Any]:
    entries = content.get(name)
    if not isinstance(entries, list):
        raise DatasetError(f"{path}: no list {name!r} in it; expected an annotation file of COCO")
    return entries


def _by_id(
    path: Path, content: dict[str, Any], name: str, keys: tuple[str, ...]
) -> dict[int, dict[str, Any]]:
    found = {}
    for number, entry in enumerate(_list(path, content, name)):
        try:
            found[int(entry["id"])] = {key: entry[key] for key in keys}
        except (KeyError, TypeError, ValueError) as error:
            raise _broken(path, name, number, error) from error
    return found


def _broken(path: Path, name: str, number: int, reason: object) -> DatasetError:
    return DatasetError(f"{path}: {name}[{number}]: not a usable entry ({reason!r})")
