# SPDX-License-Identifier: Apache-2.0
"""Data sets of annotated videos for evaluation; frames are decoded only when they are asked for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, overload

import cv2
import numpy as np

from vt_models.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})
JPEG_SUFFIXES = frozenset({".jpg", ".jpeg"})
JPEG_END = b"\xff\xd9"


@dataclass(frozen=True, eq=False)
class VideoSequence:
    """One annotated video.

    Attributes:
        name: unique in its data set.
        frames: N image files in temporal order.
        boxes: (N, 4) float64, x, y, w, h in pixels of the image; a row of nan where the target is
            absent.
        language: one sentence describing the target in the first frame, or None.
    """

    name: str
    frames: tuple[Path, ...]
    boxes: NDArray[np.float64]
    language: str | None = None

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frames)

    def read_frame(self, index: int) -> NDArray[np.uint8]:
        """Return frame `index` as (H, W, 3) uint8 RGB; DatasetError names an unreadable file."""
        return read_image(self.frames[index])


class FolderDataset(Sequence[VideoSequence]):
    """Directory of `<name>/img/%06d.jpg`, `<name>/groundtruth.txt`, optional `<name>/language.txt`.

    A line of `groundtruth.txt` is `x,y,w,h` in pixels, or `nan,nan,nan,nan` while the target is
    absent. Sequences come in alphabetical order. The text files and the list of images of one are
    read when it is indexed, an image when `VideoSequence.read_frame` is called.
    """

    def __init__(self, root: Path | str, names: Iterable[str] | None = None) -> None:
        """Find the sequences in `root`; `names` limits them, and sets their order.

        Raises:
            DatasetError: no directory at `root`, no sequence in it, or not one of `names`.
        """
        self.root = Path(root)
        if not self.root.is_dir():
            raise DatasetError(f"{self.root}: no such directory; expected a folder of sequences")
        found = sorted(path.parent.name for path in self.root.glob("*/groundtruth.txt"))
        if not found:
            raise DatasetError(f"{self.root}: no sequence in it; expected <name>/groundtruth.txt")
        self.names = found if names is None else _select(self.root, found, names)

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> VideoSequence: ...

    @overload
    def __getitem__(self, index: slice) -> list[VideoSequence]: ...

    def __getitem__(self, index: int | slice) -> VideoSequence | list[VideoSequence]:
        """Load a sequence, or those of a slice; see `load_folder_sequence` for the errors."""
        if isinstance(index, slice):
            return [load_folder_sequence(self.root / name) for name in self.names[index]]
        return load_folder_sequence(self.root / self.names[index])


def _select(root: Path, found: list[str], names: Iterable[str]) -> list[str]:
    wanted = list(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in found]
    if unknown:
        raise DatasetError(f"{root}: no sequence {', '.join(unknown)}; it has {', '.join(found)}")
    return wanted


def load_folder_sequence(directory: Path) -> VideoSequence:
    """Load one sequence of the `folder` layout without decoding an image.

    Raises:
        DatasetError: a missing or malformed file, frames that are not numbered consecutively, a
            number of ground-truth lines other than the number of images, or a target that is absent
            in the first frame. The message names the file, and the line of a text file.
    """
    frames = _numbered_images(directory / "img")
    truth_file = directory / "groundtruth.txt"
    boxes = read_boxes(truth_file)
    if len(boxes) != len(frames):
        raise DatasetError(
            f"{truth_file}: {len(boxes)} lines for {len(frames)} images in {directory / 'img'}; "
            "expected one line for each image"
        )
    if np.isnan(boxes[0]).any():
        raise DatasetError(
            f"{truth_file}:1: target absent; a tracker needs a box in the first frame"
        )
    return VideoSequence(directory.name, frames, boxes, _read_language(directory / "language.txt"))


def _numbered_images(directory: Path) -> tuple[Path, ...]:
    if not directory.is_dir():
        raise DatasetError(f"{directory}: no such directory; expected the frames as %06d.jpg")
    images = [path for path in directory.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise DatasetError(f"{directory}: no image in it; expected the frames as %06d.jpg")
    for path in images:
        if not (path.stem.isascii() and path.stem.isdigit()):
            raise DatasetError(f"{path}: expected a frame number as the name, such as 000001.jpg")
    images.sort(key=lambda path: int(path.stem))
    for before, after in itertools.pairwise(images):
        if int(after.stem) != int(before.stem) + 1:
            raise DatasetError(
                f"{directory}: {before.name} is followed by {after.name}, not by the next number"
            )
    return tuple(images)


def read_boxes(path: Path) -> NDArray[np.float64]:
    """Read an annotation file: `x,y,w,h` a line (commas, tabs or blanks), four nan where absent.

    Returns:
        (N, 4) float64 array, N >= 1.

    Raises:
        DatasetError: an unreadable or empty file, or a line that is not such a box; names them.
    """
    lines = _read_text(path).rstrip().splitlines()
    if not lines:
        raise DatasetError(f"{path}: empty; expected a line x,y,w,h for each image")
    return np.array([_parse_box(path, number, line) for number, line in enumerate(lines, start=1)])


def _parse_box(path: Path, number: int, line: str) -> tuple[float, ...]:
    fields = line.replace(",", " ").split()
    try:
        box = tuple(float(field) for field in fields)
    except ValueError:
        box = ()
    if len(box) != 4:
        raise DatasetError(f"{path}:{number}: {line!r}; expected four numbers x,y,w,h")
    if np.isnan(box).all():
        return box
    if not np.isfinite(box).all():
        raise DatasetError(
            f"{path}:{number}: {line!r}; expected finite numbers, or nan four times (target absent)"
        )
    if box[2] <= 0 or box[3] <= 0:
        raise DatasetError(
            f"{path}:{number}: {line!r}; expected width and height above 0, or nan four times"
        )
    return box


def _read_language(path: Path) -> str | None:
    return _read_text(path).strip() or None if path.exists() else None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read as text: {error}") from error


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode an image file to (H, W, 3) uint8 RGB.

    Raises:
        DatasetError: missing, empty, truncated (JPEG) or otherwise undecodable file; names it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from error
    if path.suffix.lower() in JPEG_SUFFIXES and JPEG_END not in data:
        raise DatasetError(f"{path}: truncated JPEG ({len(data)} bytes, no end marker)")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise DatasetError(f"{path}: not a decodable image ({len(data)} bytes)")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


DatasetOpener: TypeAlias = Callable[[Path, "Iterable[str] | None"], Sequence[VideoSequence]]

DATASETS: dict[str, DatasetOpener] = {"folder": FolderDataset}


def open_dataset(
    kind: str, root: Path | str, names: Iterable[str] | None = None
) -> Sequence[VideoSequence]:
    """Open the data set at `root`, of a kind in `DATASETS`.

    Args:
        kind: "folder".
        root: directory of the data set.
        names: the sequences to keep, in this order; None for all.

    Raises:
        DatasetError: unknown kind (the message lists the known ones), or from the data set.
    """
    if kind not in DATASETS:
        raise DatasetError(f"unknown data set kind {kind!r}; expected one of {', '.join(DATASETS)}")
    return DATASETS[kind](Path(root), names)
